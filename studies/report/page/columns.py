"""The columns of a table, as shown and as read by the page's script."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

__all__ = ["MISSING", "Column", "columns_of", "shared_of"]

MISSING = "–"

_NUMBERS = {"integer", "floating", "mixed-integer-float", "decimal"}
_IDENTIFIERS = {"trial", "block", "seed"}  # not counts, so their digits are not grouped


@dataclass(frozen=True, eq=False)
class Column:
    """A column as shown and embedded; `report.js` formats numbers in the same way.

    Args:
        name: its name in the frame.
        label: its label in the header.
        kind: `number`, `text` or `run`.
        values: (n,) floats, NaN if missing; or objects, str or None.
        whole: whether all numbers are integers.
        decimals: the decimals of all numbers; None: four significant digits each.
    """

    name: str
    label: str
    kind: str
    values: npt.NDArray[Any]
    whole: bool = False
    decimals: int | None = None

    @property
    def grouped(self) -> bool:
        """Whether `12345` is shown as `12 345`."""
        return self.whole and self.name not in _IDENTIFIERS

    def cell(self, row: int) -> str:
        """The text of one cell."""
        value = self.values[row]
        if value is None or value != value:
            return MISSING
        if self.kind != "number":
            return str(value)
        if math.isinf(value):
            return "∞" if value > 0 else "−∞"
        if self.grouped:
            return f"{value:,.0f}".replace(",", "\u202f").replace("-", "−")
        return self._digits(value).replace("-", "−")

    def _digits(self, value: float) -> str:
        return _significant(value) if self.decimals is None else f"{value:.{self.decimals}f}"

    def example(self) -> str:
        """An example of a filter: a comparison with a value near the middle of the column."""
        middle = float(np.median(self.values[np.isfinite(self.values)]))
        return f"{self.label} > {_significant(float(f'{middle:.2g}'))}"

    def encoded(self) -> str:
        """The column as JSON: `values`, or `levels` and `codes` if values repeat."""
        codes, levels = pd.factorize(self.values)
        few = len(levels) <= len(self.values) // 4
        about = {key: getattr(self, key) for key in ("name", "label", "kind", "decimals")}
        head = json.dumps({**about, "grouped": self.grouped})[:-1]
        values = ",".join(self._tokens(levels if few else self.values))
        if few:
            return f'{head},"levels":[{values}],"codes":[{",".join(map(str, codes.tolist()))}]}}'
        return f'{head},"values":[{values}]}}'

    def _tokens(self, values: npt.NDArray[Any]) -> list[str]:
        """JSON of each value; numbers to seven significant digits, infinity as a huge number."""
        if self.kind != "number":
            return [json.dumps(value) for value in values.tolist()]
        special = {"nan": "null", "inf": "1e999", "-inf": "-1e999"}
        form = ".0f" if self.whole else ".7g"
        written = [format(value, form) for value in values.tolist()]
        return [special.get(token, token) for token in written]


def _significant(value: float) -> str:
    """Four significant digits."""
    if value == 0:
        return "0"
    if not 1e-4 <= abs(value) < 1e6:
        mantissa, _, exponent = f"{value:.3e}".partition("e")
        return f"{mantissa.rstrip('0').rstrip('.')}e{int(exponent)}"
    text = f"{value:.{max(0, 3 - math.floor(math.log10(abs(value))))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def columns_of(
    frame: pd.DataFrame, labels: Mapping[str, str] | None = None, run_column: str | None = None
) -> list[Column]:
    """The columns of a table."""
    names = [str(name) for name in frame.columns]
    return [
        _column(frame.iloc[:, i], name, (labels or {}).get(name, ""), run=name == run_column)
        for i, name in enumerate(names)
    ]


def _column(series: pd.Series[Any], name: str, label: str, *, run: bool) -> Column:
    label = label or name.replace("_", " ")
    if isinstance(series.dtype, pd.CategoricalDtype):
        series = series.astype(object)
    kind = pd.api.types.infer_dtype(series, skipna=True)
    if kind in _NUMBERS and not run:
        values = series.to_numpy(dtype=np.float64, na_value=np.nan)
        finite = values[np.isfinite(values)]
        if kind != "integer" or np.abs(finite).max(initial=0) < 2**53:
            whole = bool((finite == np.round(finite)).all())
            return Column(name, label, "number", values, whole, _decimals(finite))
    if kind == "boolean":
        series = series.map({True: "yes", False: "no"})
    texts = [None if gone else str(v) for v, gone in zip(series, series.isna(), strict=True)]
    return Column(name, label, "run" if run else "text", np.array(texts, dtype=object))


def _decimals(finite: npt.NDArray[Any]) -> int | None:
    """The fewest decimals that show four significant digits of the largest number and three of the
    smallest, or all digits of every number; None if numbers then have more than six digits.
    """
    sizes = np.abs(finite[finite != 0])
    if not len(sizes):
        return 0
    top, bottom = (math.floor(math.log10(size)) for size in (sizes.max(), sizes.min()))
    enough = max(0, 3 - top, 2 - bottom)
    exact = (np.allclose(np.round(finite, d), finite, rtol=1e-9, atol=0) for d in range(enough))
    decimals = next((d for d, all_digits in enumerate(exact) if all_digits), enough)
    if decimals == 0:
        return 0 if top < 15 else None
    return decimals if max(top, 0) + 1 + decimals <= 6 else None


def shared_of(columns: list[Column]) -> list[Column]:
    """The columns that are the same in all rows, if there are several rows, and so need not be
    repeated in each."""
    same = [c for c in columns if c.kind != "run" and len(pd.unique(c.values)) == 1]
    return same if len(same) < len(columns) and len(columns[0].values) > 1 else []
