"""The effects of a fitted estimator as a report: text where it is printed, HTML in a notebook."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.messages import shorten
from mmfusion.model.inference import Inference

__all__ = ["Summary", "summarize"]

#: What the intervals are, by how the inference was made.
_INTERVALS = {
    "model": "from the information of the likelihood",
    "robust": "from the sandwich covariance",
    "cross_fit": "beside a deep predictor from networks that did not see the row",
    "double_ml": "of the treatment from double machine learning, of others from the likelihood",
}
#: Two decimals for statistics; estimates have four significant digits, whatever their scale.
_TWO_DECIMALS = ("z", "t", "edf", "chi2")
_LEAST_P = 1e-4


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
    """

    def __init__(
        self,
        title: str,
        facts: Sequence[Mapping[str, str]],
        tables: Sequence[pd.DataFrame],
        notes: Sequence[str],
    ) -> None:
        self.title = title
        self.facts = facts
        self.tables = tables
        self.notes = notes

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
    reported: Inference, name: str, modalities: Mapping[str, Sequence[Any]] | None = None
) -> Summary:
    """Return the report of a fitted model's formulas.

    Parameters
    ----------
    reported : Inference
    name : str
        Of the estimator.
    modalities : mapping of str to sequence of column labels, optional
        The columns that the networks read.
    """
    fit, effects, deep_share = reported.fit, reported.effects, reported.variances[1]
    counts = {"rows": str(fit.n_rows)}
    if reported.n_events is not None:
        counts["events"] = str(reported.n_events)
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
    smooth = effects["edf"].notna() if "edf" in effects else np.zeros(len(effects), dtype=bool)
    tables = [
        _formatted(_coefficients(effects[~smooth], df_residual=fit.df_residual)),
        _formatted(effects[smooth].filter(["edf", "chi2", "p", "sd"])),
    ]
    notes = [_interval_note(reported)]
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
    if np.isfinite(fit.df_residual):
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
    return Summary(
        f"{name}: {_shown(reported.layout.formulas)}",
        lines,
        [table for table in tables if len(table)],
        notes,
    )


def _coefficients(effects: pd.DataFrame, df_residual: float) -> pd.DataFrame:
    """Return the parametric rows with their columns as a report calls and orders them."""
    table = effects.drop(columns=["edf", "chi2", "sd"], errors="ignore")
    if "exp(coef)" in table:  # beside its interval
        ratio = table.pop("exp(coef)")
        table.insert(list(table.columns).index("exp(lower)"), "exp(coef)", ratio)
    names = {"lower": "lower 95%", "upper": "upper 95%"}
    return table.rename(columns=names | ({"z": "t"} if np.isfinite(df_residual) else {}))


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
    if (reported.cluster is not None or reported.weighted) and key != "robust":
        note += ", by the sandwich covariance"
    beside = deep and reported.orthogonalization is None
    if beside and reported.how in ("model", "robust"):
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
