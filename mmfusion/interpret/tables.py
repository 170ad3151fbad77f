"""Tables as papers print them: of effects, for text, LaTeX, HTML and CSV."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.parameters import check_choice

__all__ = ["FORMATS", "PaperTable", "effects_table", "p_text", "paper_table"]

#: What stands in a cell of which nothing is known.
NOTHING = ""
#: Characters that LaTeX reads as commands.
_LATEX = {
    **{c: f"\\{c}" for c in "&%$#_{}"},
    **{"~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "\\": r"\textbackslash{}"},
    **{"–": "--", "≥": r"$\geq$", "×": r"$\times$"},
}


@dataclass(frozen=True)
class PaperTable:
    """A table of text: a heading a column, rows that stand under others, notes below.

    Attributes
    ----------
    columns : sequence of str
        The first is of the rows' labels.
    rows : sequence of tuple
        How deep the row stands (0 or 1), and its cells.
    caption : str
    notes : sequence of str
    """

    columns: Sequence[str]
    rows: Sequence[tuple[int, Sequence[str]]]
    caption: str = ""
    notes: Sequence[str] = field(default_factory=tuple)

    def to_frame(self) -> pd.DataFrame:
        """Return it as a DataFrame of text; rows that stand under others are indented."""
        cells = [[("  " * depth) + row[0], *row[1:]] for depth, row in self.rows]
        return pd.DataFrame(cells, columns=list(self.columns))

    def to_csv(self) -> str:
        """Return it as CSV."""
        return str(self.to_frame().to_csv(index=False))

    def to_html(self) -> str:
        """Return it as an HTML table whose headings have their scope; nothing is styled inline."""
        head = "".join(
            f'<th scope="col" role="columnheader">{escape(name)}</th>' for name in self.columns
        )
        body = "".join(
            f'<tr role="row"><th scope="row" role="rowheader"{" class=under" if depth else ""}>'
            f"{escape(row[0])}</th>"
            + "".join(
                f'<td role="cell" data-label="{escape(name)}">{escape(cell)}</td>'
                for name, cell in zip(self.columns[1:], row[1:], strict=True)
            )
            + "</tr>"
            for depth, row in self.rows
        )
        caption = f"<caption>{escape(self.caption)}</caption>" if self.caption else ""
        table = (
            f'<table role="table">{caption}<thead role="rowgroup"><tr role="row">{head}</tr>'
            f'</thead><tbody role="rowgroup">{body}</tbody></table>'
        )
        notes = "".join(f'<p class="note">{escape(note)}</p>' for note in self.notes)
        return table + notes

    def to_latex(self) -> str:
        """Return it as a LaTeX table (package booktabs)."""
        lines = [
            r"\begin{table}",
            *([rf"\caption{{{_tex(self.caption)}}}"] if self.caption else []),
            rf"\begin{{tabular}}{{l{'r' * (len(self.columns) - 1)}}}",
            r"\toprule",
            " & ".join(map(_tex, self.columns)) + r" \\",
            r"\midrule",
        ]
        for depth, row in self.rows:
            cells = [_tex(cell) for cell in row]
            lines.append(" & ".join([r"\quad " * depth + cells[0], *cells[1:]]) + r" \\")
        lines += [r"\bottomrule", r"\end{tabular}"]
        lines += [rf"\par {{\footnotesize {_tex(note)}}}" for note in self.notes]
        return "\n".join([*lines, r"\end{table}", ""])


FORMATS: dict[str | None, Callable[[PaperTable], Any]] = {
    None: PaperTable.to_frame,
    "csv": PaperTable.to_csv,
    "html": PaperTable.to_html,
    "latex": PaperTable.to_latex,
}


def effects_table(model: Any, format: str | None = None, caption: str | None = None) -> Any:
    """Return the effects of a fitted model as the table of a paper.

    Factors have their reference level, and each level its rows and events of the training rows.

    Parameters
    ----------
    model : estimator
        Fitted with `structured`.
    format : {None, "csv", "html", "latex"}
        None is a DataFrame of text.
    caption : str, optional
        By default says which effects they are.

    Returns
    -------
    DataFrame or str

    Raises
    ------
    ValueError
        An unknown format.
    AttributeError
        A model without `structured`.

    Examples
    --------
    >>> from mmfusion.datasets import load_digits_cohort
    >>> from mmfusion.estimators import FusionCox
    >>> from mmfusion.interpret import effects_table
    >>> cohort = load_digits_cohort(300, random_state=0)
    >>> model = FusionCox(modalities={}, structured="age + stage").fit(cohort.frame, cohort.target)
    >>> print(effects_table(model).to_string(index=False))
     characteristic   n events hazard ratio 95 % interval     p
                age 300    206         1.02  1.01 to 1.04 0.003
              stage
      I (reference)  80     56         1.00
                 II 108     72         1.00  0.70 to 1.42 0.997
                III  69     45         0.91  0.61 to 1.35 0.624
                 IV  43     33         1.91  1.23 to 2.95 0.004
    """
    check_choice("format", format, tuple(FORMATS))
    return FORMATS[format](paper_table(model, caption))


def paper_table(model: Any, caption: str | None = None) -> PaperTable:
    """Return the table that `effects_table` writes."""
    effects, seen = model.effects_, model.seen_
    ratio = effects.attrs["ratio"]
    several = isinstance(effects.index, pd.MultiIndex)
    levels = {} if seen is None else seen.levels
    counted = seen is not None
    events = counted and seen.n_events is not None
    of_level = {
        name: (label, level, n, n_events, place)
        for label, known in levels.items()
        for place, (level, name, n, n_events) in enumerate(known)
        if name is not None
    }
    columns = [
        "characteristic",
        *(["parameter"] if several else []),
        *(["n"] if counted else []),
        *(["events"] if events else []),
        ratio or "coefficient",
        "95 % interval",
        "p",
    ]

    def counts(n: int | None, n_events: int | None, parameter: Any = None, *at: Any) -> list[str]:
        of_cause = {} if seen is None else seen.causes.get(str(parameter), {})
        if of_cause:  # of several causes the events of the row's own
            label, place = at or ("", 0)
            n_events = of_cause[label][place]
        shown = [n, n_events][: counted + events]
        return [NOTHING if value is None else f"{value:,}" for value in shown]

    rows: list[tuple[int, Sequence[str]]] = []
    opened: set[Any] = set()
    for key, effect in effects.iterrows():
        term, parameter = key if isinstance(key, tuple) else (key, None)
        second = [str(parameter)] if several else []
        whole = counts(seen.n_rows, seen.n_events, parameter) if counted else []
        if term not in of_level:
            rows.append((0, [str(term), *second, *whole, *_cells(effect, ratio)]))
            continue
        label, level, n, n_events, place = of_level[term]
        if (label, parameter) not in opened:  # the factor, then its reference level
            opened.add((label, parameter))
            blank = [NOTHING] * (len(columns) - 1 - len(second))
            rows.append((0, [label, *second, *blank]))
            for at, (reference, name, own, own_events) in enumerate(levels[label]):
                if name is None:
                    one = "1.00" if ratio else "0"
                    numbers = counts(own, own_events, parameter, label, at)
                    cells = [*numbers, one, NOTHING, NOTHING]
                    rows.append((1, [f"{reference} (reference)", *second, *cells]))
        numbers = counts(n, n_events, parameter, label, place)
        rows.append((1, [level, *second, *numbers, *_cells(effect, ratio)]))
    notes = [f"Effects are {effects.attrs['estimand']}."]
    if "edf" in effects:
        notes.append("edf: effective degrees of freedom of a smooth effect, with its test.")
    if "sd" in effects:
        notes.append("sd: standard deviation of a random effect.")
    if effects.attrs.get("scale"):
        notes.append(str(effects.attrs["scale"]))
    title = f"{(ratio or 'coefficient').capitalize()}s with 95 % intervals"
    return PaperTable(columns, rows, title if caption is None else caption, notes)


def _cells(effect: pd.Series, ratio: str | None) -> list[str]:
    """Return estimate, interval and p-value of a row as text."""
    names = ["exp(coef)", "exp(lower)", "exp(upper)"] if ratio else ["coef", "lower", "upper"]
    own = [float(effect[name]) for name in names]
    if np.isnan(own[0]) and ratio and not np.isnan(effect["coef"]):  # of networks: no ratio
        own = [float(effect[name]) for name in ("coef", "lower", "upper")]
    if not np.isnan(own[0]):
        texts = [f"{value:.2f}" if ratio else f"{value:.3g}" for value in own]
        interval = NOTHING if np.isnan(own[1]) else f"{texts[1]} to {texts[2]}"
        return [texts[0], interval, p_text(float(effect["p"]))]
    if not np.isnan(effect.get("sd", np.nan)):
        return [f"sd {effect['sd']:.2f}", NOTHING, NOTHING]
    if not np.isnan(effect.get("edf", np.nan)):
        return [f"edf {effect['edf']:.1f}", NOTHING, p_text(float(effect["p"]))]
    return [NOTHING] * 3


def p_text(p: float) -> str:
    """Return a p-value as papers write it."""
    if np.isnan(p):
        return NOTHING
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def _tex(text: str) -> str:
    return "".join(_LATEX.get(c, c) for c in text).replace("<", "$<$")
