"""The effects of a fitted estimator as a report: text where it is printed, HTML in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.messages import shorten
from mmfusion.model.inference import Inference
from mmfusion.model.structured import Structured
from mmfusion.structured.sandwich import ENOUGH_ROWS, FewClusters

__all__ = ["Summary", "summarize"]

#: What the intervals are, by how the inference was made.
_INTERVALS = {
    "model": "from the information of the likelihood",
    "robust": "from the sandwich covariance",
    "sandwich": "from the sandwich covariance, without a correction for few rows or clusters",
    "cross_fit": "beside a deep predictor from networks that did not see the row",
    "double_ml": "of the treatment from double machine learning, of others from the likelihood",
}
#: Two decimals for statistics; estimates have four significant digits, whatever their scale.
_TWO_DECIMALS = ("z", "t", "edf", "chi2", "df")
_LEAST_P = 1e-4
#: The two functions of double machine learning.
LEARNED = ("treatment", "outcome")


class Summary:
    """What ``summary()`` returns: it prints as text and renders as HTML in a notebook.

    Parameters
    ----------
    title : str
    facts : sequence of mapping of str to str
        Lines of names and values above the tables.
    tables : sequence of DataFrame of str
        Empty text where a term has no such number.
    notes : sequence of str
        What the numbers mean, below the tables.
    paper : object, optional
        The same effects as the table of a paper, which writes itself (`to_latex`, ...).
    """

    def __init__(
        self,
        title: str,
        facts: Sequence[Mapping[str, str]],
        tables: Sequence[pd.DataFrame],
        notes: Sequence[str],
        paper: Any = None,
    ) -> None:
        self.title = title
        self.facts = facts
        self.tables = tables
        self.notes = notes
        self.paper = paper

    def to_latex(self) -> str:
        """Return the table of a paper (package booktabs): levels, rows and events, with notes."""
        return str(self.paper.to_latex())

    def to_html(self) -> str:
        """Return the table of a paper as HTML."""
        return str(self.paper.to_html())

    def to_csv(self) -> str:
        """Return the table of a paper as CSV, without its notes."""
        return str(self.paper.to_csv())

    def __str__(self) -> str:
        lines = [
            "   ".join(f"{name} {value}" for name, value in line.items()) for line in self.facts
        ]
        tables = [table.rename_axis(index=None).to_string() for table in self.tables]
        return "\n\n".join(["\n".join([self.title, *lines]), *tables, "\n".join(self.notes)])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        facts = "".join(
            f"<tr><th {_LEFT}>{escape(name)}</th><td {_LEFT}>{escape(value)}</td></tr>"
            for line in self.facts
            for name, value in line.items()
        )
        notes = "<br>".join(escape(note) for note in self.notes)
        parts = [
            f"<p><strong>{escape(self.title)}</strong></p>",
            f"<table>{facts}</table>",
            *(_html_table(table) for table in self.tables),
            f"<p><small>{notes}</small></p>",
        ]
        return f"<div>{''.join(parts)}</div>"


_LEFT, _RIGHT = 'style="text-align: left"', 'style="text-align: right"'


def _html_table(table: pd.DataFrame) -> str:
    head = "".join(f"<th {_RIGHT}>{escape(name)}</th>" for name in table.columns)
    rows = "".join(
        f"<tr><th {_LEFT}>{escape(label)}</th>"
        + "".join(f"<td {_RIGHT}>{escape(cell)}</td>" for cell in cells)
        + "</tr>"
        for label, cells in zip(table.index, table.to_numpy(), strict=True)
    )
    return f"<table><thead><tr><th></th>{head}</tr></thead><tbody>{rows}</tbody></table>"


def summarize(
    reported: Inference,
    part: Structured,
    name: str,
    modalities: Mapping[str, Sequence[Any]] | None = None,
    seen: Mapping[str, int] | None = None,
) -> Summary:
    """Return the report of a fitted model's formulas.

    Parameters
    ----------
    reported : Inference
    part : Structured
        What predicts.
    name : str
        Of the estimator.
    modalities : mapping of str to sequence of column labels, optional
        The columns that the networks read.
    seen : mapping of str to int, optional
        How many components of a wide modality the networks see.
    """
    fit, effects, deep_share = reported.fit, reported.effects, reported.variances[1]
    counts = {"rows": str(fit.n_rows)}
    if reported.n_events is not None:
        counts["events"] = str(reported.n_events)
    if reported.follow_up is not None:
        shown = "not reached" if np.isnan(reported.follow_up) else f"{reported.follow_up:g}"
        counts["median follow-up"] = shown
    counts |= {
        "log-likelihood": f"{fit.log_likelihood:.2f}",
        "edf": f"{fit.edf.sum():.2f}",
    }
    if deep_share == 0:  # of networks no one knows how many parameters they spend
        counts["AIC"] = f"{fit.aic:.2f}"
    how, cluster = reported.how, reported.cluster
    facts = {
        "inference": how if cluster is None else f"{how}, clusters of {cluster}",
        "orthogonalization": str(reported.orthogonalization),
        "deep share of the predictor's variance": f"{deep_share:.2f}",
    }
    few = isinstance(reported.covariance, FewClusters)
    smooth = effects["edf"].notna() if "edf" in effects else np.zeros(len(effects), dtype=bool)
    tables = [
        _formatted(_coefficients(effects[~smooth], t=few or np.isfinite(fit.df_residual))),
        _formatted(effects[smooth].filter(["edf", "chi2", "p", "sd"])),
    ]
    notes = [_interval_note(reported)]
    if reported.scale_note is not None:
        notes.append(reported.scale_note)
    if fit.ratio is not None:
        notes.append(f"exp(coef) is the {fit.ratio} per unit of the column.")
    references = reported.layout.references
    if references:
        levels = "; ".join(f"{label}: {level}" for label, level in references.items())
        notes.append(f"Reference levels: {levels}.")
    if reported.layout.offsets:
        notes.append(f"With the coefficient 1: {', '.join(reported.layout.offsets)}.")
    deep = [name for name in effects.index.get_level_values(0) if name.startswith("(deep")]
    if deep:
        notes.append(
            f"{', '.join(deep)}: what networks say of rows that they did not see, a coefficient of "
            "1 where they are right as they are, of 0 where they add nothing."
        )
    if deep_share > 0:
        notes.append(f"Effects are {reported.estimand}.")
    if part.projection.any():
        tables.append(_formatted(_side_by_side(part, effects.index[~smooth])))
        notes.append(
            "Last table: the coefficients of the classical model, those that predictions move by "
            "where a column changes and the modalities do not, and what of the column's effect the "
            "networks carry."
        )
    if reported.confounding is not None:
        notes += _confounding_notes(reported.confounding.table, reported.confounding.warning)
    if few:
        notes.append("t has df degrees of freedom (Satterthwaite).")
    elif np.isfinite(fit.df_residual):
        notes.append(f"t has {fit.df_residual:.1f} degrees of freedom.")
    if fit.runaway:
        notes.append("A coef of inf or -inf runs to infinity: it has no finite estimate.")
    if np.any(smooth):
        notes.append("Smooth terms: effective degrees of freedom, and a test that they are zero.")
    if "sd" in effects:
        notes.append("sd is the standard deviation of a random effect.")
    lines = [counts, facts]
    if modalities:
        parts = [f"{own} ({shorten(columns, show=str)})" for own, columns in modalities.items()]
        lines.append({"networks read": "; ".join(parts)})
    if seen:
        notes.append(
            "Networks see the leading components of what is too wide for these rows ("
            f"{', '.join(f'{count} of {own}' for own, count in seen.items())}), the linear part "
            "all columns."
        )
    return Summary(
        f"{name}: {_shown(reported.layout.formulas)}",
        lines,
        [table for table in tables if len(table)],
        notes,
    )


def _coefficients(effects: pd.DataFrame, *, t: bool) -> pd.DataFrame:
    """Return the parametric rows with their columns as a report calls and orders them."""
    table = effects.drop(columns=["edf", "chi2", "sd"], errors="ignore")
    if "exp(coef)" in table:  # beside its interval
        ratio = table.pop("exp(coef)")
        table.insert(list(table.columns).index("exp(lower)"), "exp(coef)", ratio)
    names = {"lower": "lower 95%", "upper": "upper 95%"}
    return table.rename(columns=names | ({"z": "t"} if t else {}))


def _side_by_side(part: Structured, shown: pd.Index) -> pd.DataFrame:
    """Return each parametric coefficient in the classical model and in the predictor."""
    columns = {
        "classical": part.reported.coef,
        "predictor": part.moves,
        "networks": part.projection,
    }
    table = pd.DataFrame(columns, index=part.layout.index(list(part.layout.names)))
    return table[table.index.isin(shown)]


def _confounding_notes(table: pd.Series, warning: str) -> list[str]:
    """Say how well both functions were learned, and what would take the effect away."""
    learned = [f"{table[f'{name}: explained']:.0%} of the {name}" for name in LEARNED]
    notes = [f"In rows that they did not see, the models explain {' and '.join(learned)}."]
    if "robustness value" in table:
        notes.append(
            f"A further confounder that explains {table['robustness value']:.1%} of what is left "
            "of treatment and outcome takes the effect away; one that explains "
            f"{table['robustness value of the interval']:.1%} makes its interval reach 0."
        )
    if warning:
        notes.append(f"Warning: {warning}.")
    return notes


def _shown(formulas: Any) -> str:
    """Return one formula as it is, several with the parameters that they are of."""
    if isinstance(formulas, Mapping):
        return "; ".join(f"{parameter}: {text}" for parameter, text in formulas.items())
    return str(formulas)


def _interval_note(reported: Inference) -> str:
    deep = reported.variances[1] > 0
    key = "model" if reported.how == "cross_fit" and not deep else reported.how
    if not reported.is_likelihoods and key == "model":
        key = "robust"
    note = f"Standard errors and 95% intervals: {_INTERVALS[key]}"
    if reported.weighted:
        note += " (the weights are no counts of rows)"
    unlikely = reported.cluster is not None or reported.weighted
    if unlikely and key not in ("robust", "sandwich"):
        note += ", by the sandwich covariance"
    if isinstance(reported.covariance, FewClusters):
        note += " (CR2, for few clusters)"
    elif reported.cluster is None and key == "robust" and reported.fit.n_rows < ENOUGH_ROWS:
        note += " (HC3, for few rows)"
    beside = deep and reported.orthogonalization is None
    if beside and reported.how in ("model", "robust", "sandwich"):
        return f"{note}, the deep part taken as known: it was learned, so they are too narrow."
    return f"{note}."


def _formatted(table: pd.DataFrame) -> pd.DataFrame:
    """Return a table of numbers as text."""
    labels = [", ".join(map(str, at)) if isinstance(at, tuple) else str(at) for at in table.index]
    cells = {name: [_cell(str(name), value) for value in table[name]] for name in table.columns}
    return pd.DataFrame(cells, index=labels)


def _cell(column: str, value: Any) -> str:
    if not isinstance(value, float):
        return str(value)
    if np.isnan(value):
        return ""
    if column == "p":
        return f"<{_LEAST_P:.4f}" if value < _LEAST_P else f"{value:.4f}"
    if column in _TWO_DECIMALS:
        return f"{value:.2f}"
    return f"{value:#.4g}".removesuffix(".")
