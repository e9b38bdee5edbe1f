"use strict";
// The report is complete without this script. It adds copy buttons, marks the section in view in
// the contents, and lets the table of trials be sorted, filtered and paged.
(() => {
  const MISSING = "–";
  const make = (tag, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(tag), properties);
    element.append(...children);
    return element;
  };

  // ---- Copying ----------------------------------------------------------------------------------

  async function copy(text, button) {
    try {
      await navigator.clipboard.writeText(text);
    } catch {  // no permission, or a browser that gives files none
      const area = make("textarea", { value: text });
      document.body.append(area);
      area.select();
      document.execCommand("copy");
      area.remove();
      button.focus();
    }
    const before = button.textContent;
    button.textContent = "Copied";
    setTimeout(() => { button.textContent = before; }, 1200);
  }

  for (const box of document.querySelectorAll("[data-copy]")) {
    const button = make("button", { type: "button", className: "copy" }, "Copy");
    button.setAttribute("aria-label", `Copy ${box.dataset.copy}`);
    button.addEventListener("click", () => copy(box.querySelector("pre").textContent, button));
    box.append(button);
  }

  // ---- Contents ---------------------------------------------------------------------------------

  const links = new Map();
  for (const link of document.querySelectorAll(".contents a")) {
    links.set(document.getElementById(link.hash.slice(1)), link);
  }
  const watch = new IntersectionObserver((entries) => {
    for (const entry of entries) {
      if (!entry.isIntersecting) continue;
      for (const link of links.values()) link.removeAttribute("aria-current");
      links.get(entry.target).setAttribute("aria-current", "true");
    }
  }, { rootMargin: "-15% 0px -80% 0px" });
  for (const section of links.keys()) watch.observe(section);

  // ---- Figures: what lies under the pointer, or is reached by the arrow keys ----------------------

  const narrow = matchMedia("(max-width: 40rem)");
  for (const card of document.querySelectorAll("[data-spots]")) {
    const [wide, small] = [card.dataset.spots, card.dataset.narrowSpots].map(JSON.parse);
    const image = card.querySelector("img");
    const hint = make("p", { className: "hint", hidden: true });
    const frame = make("div", { className: "spot", hidden: true });
    hint.setAttribute("role", "status");
    card.append(frame);
    card.after(hint);
    let at = -1;

    const show = (index) => {
      const spots = narrow.matches ? small : wide;
      at = index;
      hint.hidden = frame.hidden = index < 0;
      if (index < 0) return;
      const [left, top, width, height, text] = spots[index];
      const [w, h] = [image.clientWidth, image.clientHeight];
      Object.assign(frame.style, { left: `${left * w}px`, top: `${top * h}px`,
        width: `${width * w}px`, height: `${height * h}px` });
      hint.textContent = text;
      const x = Math.min(left * w, Math.max(0, card.clientWidth - hint.offsetWidth));
      const above = card.offsetTop + top * h - hint.offsetHeight - 6;
      Object.assign(hint.style, { left: `${x}px`, top: `${above}px` });
    };
    const under = (event) => {
      const box = image.getBoundingClientRect();
      const [x, y] = [(event.clientX - box.x) / box.width, (event.clientY - box.y) / box.height];
      return (narrow.matches ? small : wide).findIndex(([left, top, width, height]) =>
        x >= left && x <= left + width && y >= top && y <= top + height);
    };
    card.addEventListener("pointermove", (event) => show(under(event)));
    card.addEventListener("pointerdown", (event) => show(under(event)));
    for (const left of ["pointerleave", "blur"]) card.addEventListener(left, () => show(-1));
    card.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (event.key === "Escape") show(-1);
      if (!step) return;
      event.preventDefault();
      show(Math.min(Math.max(at + step, 0), wide.length - 1));
    });
  }

  // ---- Numbers, formatted as in document.py -----------------------------------------------------

  function digits(value, decimals) {
    if (decimals !== null) return value.toFixed(decimals);
    if (value === 0) return "0";
    const size = Math.abs(value);
    if (size < 1e-4 || size >= 1e6) {
      const [mantissa, exponent] = value.toExponential(3).split("e");
      return `${Number(mantissa)}e${Number(exponent)}`;
    }
    return String(Number(value.toFixed(Math.max(0, 3 - Math.floor(Math.log10(size))))));
  }

  const grouped = (text) => text.replace(/\B(?=(\d{3})+$)/g, "\u202f");

  // ---- Columns ----------------------------------------------------------------------------------
  // A number column has `values`, a Float64Array; a text column has `levels`, its distinct strings,
  // and `codes`, an Int32Array of indices into them. Missing values are NaN, or code -1.

  function column(raw) {
    const numeric = raw.kind === "number";
    const at = (i) => (raw.levels ? raw.levels[raw.codes[i]] : raw.values[i]) ?? null;
    const count = (raw.codes ?? raw.values).length;
    const made = { ...raw, numeric };
    if (numeric) {
      made.values = Float64Array.from({ length: count }, (_, i) => at(i) ?? NaN);
      made.missing = (row) => Number.isNaN(made.values[row]);
      made.plain = (row) => {
        const value = made.values[row];
        return Number.isFinite(value) ? digits(value, raw.decimals) : value < 0 ? "-∞" : "∞";
      };
      made.order = made.values;
    } else {
      made.levels = raw.levels ?? raw.values.map((value) => value ?? "");
      made.codes = Int32Array.from(raw.codes ?? raw.values.map((v, i) => (v === null ? -1 : i)));
      made.missing = (row) => made.codes[row] < 0;
      made.plain = (row) => made.levels[made.codes[row]];
    }
    made.cell = (row) => {
      if (made.missing(row)) return MISSING;
      const text = made.plain(row);
      return numeric ? (raw.grouped ? grouped(text) : text).replaceAll("-", "−") : text;
    };
    return made;
  }

  function ranks(texts) {  // the place of each row among sorted texts
    if (texts.order) return texts.order;
    const compare = new Intl.Collator("en", { numeric: true }).compare;
    const sorted = texts.levels.map((_, i) => i).sort(
      (a, b) => compare(texts.levels[a], texts.levels[b]));
    const place = new Int32Array(sorted.length);
    let rank = 0;
    sorted.forEach((level, i) => {
      if (i && texts.levels[level] !== texts.levels[sorted[i - 1]]) rank += 1;
      place[level] = rank;
    });
    texts.order = Float64Array.from(texts.codes, (code) => (code < 0 ? NaN : place[code]));
    return texts.order;
  }

  // ---- Filtering --------------------------------------------------------------------------------

  const OPERATORS = {
    "=": (a, b) => a === b, "==": (a, b) => a === b, "!=": (a, b) => a !== b, "<": (a, b) => a < b,
    ">": (a, b) => a > b, "<=": (a, b) => a <= b, ">=": (a, b) => a >= b,
  };
  const escaped = (text) => text.replace(/[.*+?^${}()|[\]\\]/g, "\\$&");
  const ungrouped = (text) => text.replace(/(\d)[\s\u202f,'](?=\d{3})/g, "$1");
  const plainMinus = (text) => text.replaceAll("−", "-");

  const blank = "[\\s\u202f,']";
  const NUMBER = `[-−]?\\d{1,3}(?:${blank}\\d{3})+(?![\\d.])|\\S*`;  // `5 000` is one number

  // Alternatives between `or`; in each, tests of a row that must all hold. What no row can pass, since
  // it is no comparison of this table, is told to `tell`.
  function tests(query, columns, tell) {
    const parts = query.split(/\s(?:or|\|\|)\s(?=(?:[^"]*"[^"]*")*[^"]*$)/i);
    const ways = parts.map((part) => together(part, columns, tell));
    if (ways.length < 2) return ways[0];
    return [(row) => ways.some((way) => way.every((test) => test(row)))];
  }

  // Comparisons (`learning rate > 1 and period < 5 000`), then words.
  function together(query, columns, tell) {
    const named = new Map();
    for (const c of columns) for (const n of [c.label, c.name]) named.set(n.toLowerCase(), c);
    const names = [...named.keys()].filter(Boolean).sort((a, b) => b.length - a.length);
    const pattern = new RegExp(
      `(^|\\s)(${names.map(escaped).join("|")})\\s*(<=|>=|!=|==?|[<>])\\s*("[^"]*"?|${NUMBER})`, "gi");
    const found = [];
    const words = query.replace(pattern, (_, before, name, operator, value) => {
      if (value) found.push(comparison(named.get(name.toLowerCase()), operator, value, tell));
      return " ";
    });
    const [, stray] = words.replace(/"[^"]*"?/g, "").match(/(\S*)\s*[<>=]/) ?? [];
    if (stray !== undefined) {
      tell(stray ? `there is no column “${stray}” to compare` : "a comparison begins with a column");
    }
    const each = new RegExp(`"[^"]*"?|${NUMBER.replace("\\S*", "\\S+")}`, "g");
    for (const [quoted] of words.matchAll(each)) {
      if (/^(and|&&)$/i.test(quoted)) continue;
      const word = plainMinus(quoted.replaceAll('"', "").toLowerCase());
      if (word) found.push(anywhere(word, columns));
    }
    return found;
  }

  function comparison(target, operator, value, tell) {
    const holds = OPERATORS[operator];
    const text = value.replaceAll('"', "").toLowerCase();
    if (target.numeric) {
      const number = Number(ungrouped(plainMinus(text)).replace("∞", "Infinity"));
      if (Number.isNaN(number)) tell(`“${text}” is not a number`);
      const equal = ["=", "==", "!="].includes(operator);
      return (row) => !target.missing(row) && (holds(target.values[row], number)
        || (equal && holds(target.plain(row), ungrouped(plainMinus(text)))));
    }
    const passes = target.levels.map((level) => holds(level.toLowerCase(), text));
    return (row) => !target.missing(row) && passes[target.codes[row]];
  }

  function anywhere(word, columns) {  // in a text, or at the beginning of a number
    const looksNumeric = /^-?[\d.∞]/.test(word);
    const digitsOnly = ungrouped(word);
    const checks = columns.filter((c) => !c.numeric || looksNumeric).map((c) => {
      if (c.numeric) return (row) => !c.missing(row) && c.plain(row).startsWith(digitsOnly);
      const passes = c.levels.map((level) => level.toLowerCase().includes(word));
      return (row) => !c.missing(row) && passes[c.codes[row]];
    });
    return (row) => checks.some((check) => check(row));
  }

  // The rows that pass, found in slices so that the page stays responsive; null if out of date.
  async function passing(checks, count, current) {
    const rows = new Uint32Array(count);
    let found = 0;
    let pause = performance.now() + 12;
    for (let row = 0; row < count; row += 1) {
      if (checks.every((check) => check(row))) rows[found++] = row;
      if (row % 512 === 0 && performance.now() > pause) {
        await new Promise((resume) => { setTimeout(resume); });
        if (!current()) return null;
        pause = performance.now() + 12;
      }
    }
    return rows.subarray(0, found);
  }

  function kept(port) {  // the port of `dynloss ui`, for all reports of a reader
    try {
      if (port) localStorage.setItem("dynloss-ui-port", port);
      return localStorage.getItem("dynloss-ui-port");
    } catch {  // a browser that keeps nothing for files
      return null;
    }
  }

  // ---- The table --------------------------------------------------------------------------------

  function trials(data) {
    const columns = data.columns.map(column);
    const table = document.getElementById("trial-table");
    const filter = document.getElementById("filter");
    const size = document.getElementById("rows");
    const found = document.getElementById("found");
    const range = document.getElementById("range");
    const buttons = document.querySelectorAll("[data-page]");
    const headers = [...table.tHead.rows[0].cells];
    const body = table.tBodies[0];
    let matching = Uint32Array.from({ length: data.rows }, (_, i) => i);
    let shown = matching;
    let sorting = { by: null, direction: 1 };
    let page = 0;
    let search = 0;
    let why = "";  // no row matches

    function cell(row, c) {
      const text = c.cell(row);
      const td = make("td", { className: c.kind });
      if (c.kind !== "run" || c.missing(row)) td.textContent = text;
      else if (data.run_url) {
        td.append(make("a", { href: data.run_url + encodeURIComponent(text), rel: "noreferrer" },
          text));
      } else {
        const button = make("button", { type: "button", title: `Copy ${text}` }, text);
        button.addEventListener("click", () => copy(text, button));
        td.append(button);
      }
      if (c.kind === "text") td.title = text;
      return td;
    }

    // `5 of 16 trials, 3 reruns`: the first rows are of points that were trained again
    function counted() {
      const again = shown.reduce((n, row) => n + (row < data.reruns), 0);
      const kinds = [["trial", shown.length - again, data.rows - data.reruns],
        ["rerun", again, data.reruns]];
      return kinds.filter(([, , all]) => all).map(([kind, some, all]) => {
        const of = some === all ? "" : `${grouped(String(some))} of `;
        return `${of}${grouped(String(all))} ${kind}${all === 1 ? "" : "s"}`;
      }).join(", ");
    }

    function draw() {
      const rows = Number(size.value);
      const pages = Math.max(1, Math.ceil(shown.length / rows));
      page = Math.min(Math.max(page, 0), pages - 1);
      const here = shown.subarray(page * rows, (page + 1) * rows);
      body.replaceChildren(...Array.from(here, (row) => {
        const line = make("tr", {}, ...columns.map((c) => cell(row, c)));
        line.dataset.row = row;
        return line;
      }));
      const count = grouped(String(shown.length));
      const [first, last] = [page * rows + 1, page * rows + here.length].map(
        (n) => grouped(String(n)));
      found.textContent = counted();
      range.textContent = here.length ? `${first}–${last} of ${count}` : `No row matches${why}`;
      for (const button of buttons) {
        const back = button.dataset.page === "first" || button.dataset.page === "previous";
        button.disabled = back ? page === 0 : page === pages - 1;
      }
    }

    function arrange() {
      shown = matching;
      if (sorting.by !== null) {
        const order = ranks(columns[sorting.by]);
        const last = (row) => Number.isNaN(order[row]);
        shown = matching.slice().sort((a, b) =>
          last(a) - last(b) || sorting.direction * (order[a] - order[b]) || a - b);
      }
      headers.forEach((header, i) => {
        const direction = sorting.direction > 0 ? "ascending" : "descending";
        header.setAttribute("aria-sort", i === sorting.by ? direction : "none");
      });
      page = 0;
      draw();
      const detail = { table: { ...data, columns }, shown: Array.from(shown) };
      document.dispatchEvent(new CustomEvent("trials", { detail }));
    }

    async function refilter() {
      const mine = ++search;
      const told = [];
      const checks = tests(filter.value, columns, (text) => told.push(text));
      const rows = await passing(checks, data.rows, () => mine === search);
      if (rows === null || mine !== search) return;
      matching = rows;
      why = told.length ? `: ${told[0]}` : "";
      arrange();
    }

    headers.forEach((header, i) => {
      const button = make("button", { type: "button" }, header.textContent);
      button.addEventListener("click", () => {  // ascending, descending, as it came
        if (sorting.by !== i) sorting = { by: i, direction: 1 };
        else if (sorting.direction > 0) sorting.direction = -1;
        else sorting = { by: null, direction: 1 };
        arrange();
      });
      header.replaceChildren(button);
    });
    let typing;
    filter.addEventListener("input", () => {
      clearTimeout(typing);
      typing = setTimeout(refilter, 120);
    });
    size.addEventListener("change", () => { page = 0; draw(); });
    for (const button of buttons) {
      button.addEventListener("click", () => {
        const to = { first: 0, previous: page - 1, next: page + 1, last: Infinity };
        page = to[button.dataset.page];
        draw();
      });
    }
    const port = document.getElementById("port");
    if (port) {
      const use = () => {
        if (!port.value || !port.validity.valid) return;
        data.run_url = data.run_url.replace(/:\d+\//, `:${port.value}/`);
        kept(port.value);
        draw();
      };
      port.value = kept() ?? port.value;
      port.addEventListener("input", use);
      if (port.value !== port.defaultValue) use();
    }
    for (const controls of document.querySelectorAll(".controls")) controls.hidden = false;
    arrange();
  }

  // ---- What is folded: a link opens what it leads into, and all is open in print -----------------

  function unfold() {
    const target = location.hash && document.getElementById(location.hash.slice(1));
    for (let at = target; at; at = at.parentElement) {
      if (at.matches(".fold:not([open])")) {
        at.open = true;
        requestAnimationFrame(() => target.scrollIntoView());
      }
    }
  }
  addEventListener("hashchange", unfold);
  for (const link of document.querySelectorAll('a[href^="#"]')) {  // to where it is already
    link.addEventListener("click", () => setTimeout(unfold));
  }
  unfold();
  let unfolded = [];
  addEventListener("beforeprint", () => {
    unfolded = [...document.querySelectorAll(".fold:not([open])")];
    for (const fold of unfolded) fold.open = true;
  });
  addEventListener("afterprint", () => { for (const fold of unfolded) fold.open = false; });

  const data = document.getElementById("trial-data");
  if (data) setTimeout(() => trials(JSON.parse(data.textContent)));  // let the page appear first
})();
