"use strict";
// Charts of the trials that the table shows: parallel coordinates, and each trial's curve. They are
// drawn in light colours, which the style sheet turns round in the dark. The table holds the same.
(() => {
  const MOST = 1500;  // lines, of which more could not be told apart
  const KNOWN = { dynamical: "#D55E00", static: "#0072B2" };  // as in the figures
  const COLOURS = ["#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#882255", "#999933"];
  const INK = "#1e1f21";
  const SOFT = "#5d5f63";
  const charts = [];
  let shown = [];  // rows, in the order of the table
  let table = null;
  let current = null;  // the row that is pointed at

  const arm = () => table.columns.find((column) => column.name === "arm");
  const others = () => arm().levels.filter((name) => !(name in KNOWN));
  const colourOf = (name) => KNOWN[name] ?? COLOURS[others().indexOf(name) % COLOURS.length];
  let palette = [];
  const colour = (row) => palette[arm()?.codes[row] ?? 0] ?? INK;
  const words = (row) => table.columns.map((column) => `${column.label} ${column.cell(row)}`);

  function point(row) {  // in all charts, and in the table
    current = row;
    for (const chart of charts) chart.mark();
    for (const line of document.querySelectorAll("#trial-table tbody tr")) {
      line.classList.toggle("current", Number(line.dataset.row) === row);
    }
  }

  // A chart has two canvases: all lines, and above it the one that is pointed at. `lines` gives for
  // a row its points [x, y] in pixels; null starts a new piece.
  function chart(figure, lines, decorate) {
    const [back, front] = figure.querySelectorAll("canvas");
    const hint = figure.querySelector(".told");
    let size = [0, 0];
    let drawn = [];

    const trace = (context, row) => {
      let down = false;
      context.beginPath();
      for (const at of lines(row, size)) {
        if (at && down) context.lineTo(...at);
        else if (at) context.moveTo(...at);
        down = at !== null;
      }
      context.stroke();
    };
    const clear = (canvas) => {
      const ratio = devicePixelRatio || 1;
      [canvas.width, canvas.height] = size.map((length) => length * ratio);
      const context = canvas.getContext("2d");
      context.scale(ratio, ratio);
      context.font = `12px ${getComputedStyle(document.body).fontFamily}`;
      return context;
    };
    const draw = () => {
      size = [figure.clientWidth, back.clientHeight];
      if (!size[0]) return;
      const candidates = shown.filter((row) => lines(row, size).length);
      const step = Math.max(1, candidates.length / MOST);
      drawn = Array.from({ length: Math.min(candidates.length, MOST) },
        (_, i) => candidates[Math.floor(i * step)]);
      const context = clear(back);
      context.globalAlpha = Math.min(0.8, Math.max(0.12, 60 / drawn.length));
      for (const row of drawn.toReversed()) {  // the first rows on top
        context.strokeStyle = colour(row);
        trace(context, row);
      }
      context.globalAlpha = 1;
      decorate(context, size);
      figure.querySelector(".drawn").textContent = drawn.length < candidates.length
        ? ` ${drawn.length} of ${candidates.length} lines are drawn.` : "";
      mark();
    };
    const mark = () => {
      const context = clear(front);
      const told = current !== null && drawn.length > 0;
      if (told) {
        context.lineWidth = 3;
        context.strokeStyle = INK;
        trace(context, current);
      }
      hint.textContent = told ? words(current).join(", ") : "";
    };
    const nearest = (event) => {
      const box = front.getBoundingClientRect();
      const [x, y] = [event.clientX - box.x, event.clientY - box.y];
      let best = [12, null];  // pixels
      for (const row of drawn) {
        const points = lines(row, size);
        for (let i = 1; i < points.length; i += 1) {
          const [a, b] = [points[i - 1], points[i]];
          if (!a || !b || x < a[0] || x > b[0]) continue;
          const far = Math.abs(a[1] + (b[1] - a[1]) * (x - a[0]) / (b[0] - a[0] || 1) - y);
          if (far < best[0]) best = [far, row];
        }
      }
      return best[1];
    };
    front.addEventListener("pointermove", (event) => point(nearest(event)));
    front.addEventListener("pointerdown", (event) => point(nearest(event)));
    front.addEventListener("pointerleave", () => point(null));
    front.addEventListener("keydown", (event) => {
      const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
      if (!step || !drawn.length) return;
      event.preventDefault();
      const at = current === null ? -1 : drawn.indexOf(current);
      point(drawn[Math.min(Math.max(at + step, 0), drawn.length - 1)]);
    });
    charts.push({ draw, mark });
  }

  function scale(values) {  // logarithmic, if the values span more than a decade and a half
    const known = values.filter(Number.isFinite);
    let low = known.reduce((a, b) => Math.min(a, b), Infinity);
    let high = known.reduce((a, b) => Math.max(a, b), -Infinity);
    const log = low > 0 && high > 30 * low;
    const turn = log ? Math.log : (value) => value;
    [low, high] = [turn(low), turn(high)];
    return (value) => (high > low ? (turn(value) - low) / (high - low) : 0.5);
  }

  function parallel(figure, names) {
    const axes = names.map((name) => table.columns.find((c) => c.name === name)).filter(Boolean);
    if (axes.length < 2) return false;
    const places = axes.map((axis) => scale(axis.values));
    const [top, bottom, side] = [44, 34, 36];
    const across = (i, width) => side + i * (width - 2 * side) / (axes.length - 1);
    const ends = axes.map((axis) => {
      const known = Array.from(axis.values.keys()).filter((row) => Number.isFinite(axis.values[row]));
      const least = known.reduce((a, b) => (axis.values[b] < axis.values[a] ? b : a), known[0]);
      const most = known.reduce((a, b) => (axis.values[b] > axis.values[a] ? b : a), known[0]);
      return [axis.cell(least), axis.cell(most)];
    });
    const lines = (row, [width, height]) => axes.map((axis, i) => {
      const value = axis.values[row];
      const y = height - bottom - places[i](value) * (height - top - bottom);
      return [across(i, width), Number.isFinite(value) ? y : height - 8];
    });
    chart(figure, lines, (context, [width, height]) => {
      axes.forEach((axis, i) => {
        const x = across(i, width);
        context.textAlign = "center";
        context.strokeStyle = context.fillStyle = SOFT;
        context.beginPath();
        context.moveTo(x, top);
        context.lineTo(x, height - bottom);
        context.stroke();
        context.fillText(ends[i][1], x, top - 4);
        context.fillText(ends[i][0], x, height - bottom + 13);
        context.textAlign = i === 0 ? "left" : i === axes.length - 1 ? "right" : "center";
        const label = x + (i === 0 ? -side : i === axes.length - 1 ? side : 0);
        context.fillStyle = INK;  // in turns above one another, where there is no room
        context.fillText(axis.label, label, width < 130 * axes.length && i % 2 ? 12 : 26,
          2 * (width - 2 * side) / (axes.length - 1));
      });
      context.fillStyle = SOFT;
      context.textAlign = "left";
      context.fillText("none", 0, height - 4);
    });
    return true;
  }

  function curves(figure, { steps, values }) {
    const known = values.flat().filter((value) => value !== null);
    if (!known.length || steps.length < 2) return false;
    const place = scale(known);
    const low = known.reduce((a, b) => Math.min(a, b));
    const high = known.reduce((a, b) => Math.max(a, b));
    const [top, bottom, side] = [16, 24, 56];
    const lines = (row, [width, height]) => (values[row] ?? []).map((value, i) => {
      if (value === null) return null;
      const x = side + (width - side - 8) * (steps[i] - steps[0]) / (steps.at(-1) - steps[0]);
      return [x, height - bottom - place(value) * (height - top - bottom)];
    });
    chart(figure, lines, (context, [width, height]) => {
      context.fillStyle = SOFT;
      context.textAlign = "right";
      context.fillText(String(high), side - 6, top + 4);
      context.fillText(String(low), side - 6, height - bottom);
      context.fillText(`step ${steps.at(-1)}`, width - 8, height - 8);
      context.textAlign = "left";
      context.fillText(String(steps[0]), side, height - 8);
    });
    return true;
  }

  document.addEventListener("trials", (event) => {  // whenever the table was filtered or sorted
    const first = table === null;
    ({ table, shown } = event.detail);
    if (first) {
      palette = (arm()?.levels ?? []).map(colourOf);
      const made = [
        ["parallel", (figure) => parallel(figure, table.axes)],
        ["curves", (figure) => table.curves && curves(figure, table.curves)],
      ];
      for (const [name, make] of made) {
        const figure = document.getElementById(name);
        if (!figure || !make(figure)) continue;
        figure.hidden = false;
        palette.forEach((paint, i) => {
          const key = document.createElement("span");
          key.className = "key";
          key.textContent = arm().levels[i];
          key.style.setProperty("--paint", paint);
          figure.querySelector("figcaption").append(" ", key);
        });
      }
      const rows = document.querySelector("#trial-table tbody");
      rows.addEventListener("pointerover", (over) => {
        const row = over.target.closest("tr")?.dataset.row;
        point(row === undefined ? null : Number(row));
      });
      rows.addEventListener("pointerleave", () => point(null));
      addEventListener("resize", () => charts.forEach(({ draw }) => draw()));
    }
    current = null;
    for (const { draw } of charts) draw();
  });
})();
