"""From a fitted model and rows that it did not see to one page."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pandas as pd

import mmfusion
from mmfusion.inputs.parameters import check_number
from mmfusion.interpret._baseline import check_model
from mmfusion.interpret.report.blocks import Facts, Section, Table, Text
from mmfusion.interpret.report.calibration import calibration_section
from mmfusion.interpret.report.decisions import decisions
from mmfusion.interpret.report.described import the_model
from mmfusion.interpret.report.effects import effects
from mmfusion.interpret.report.evidence import Evidence, gather
from mmfusion.interpret.report.examples import examples
from mmfusion.interpret.report.facts import answers, first_numbers, warnings_of
from mmfusion.interpret.report.modalities import value_of_modalities
from mmfusion.interpret.report.needed import sample_size_section
from mmfusion.interpret.report.page import Look, Tripod, page_of
from mmfusion.interpret.report.participants import participants
from mmfusion.interpret.report.performance import performance
from mmfusion.interpret.report.subgroups import subgroups_section
from mmfusion.interpret.report.tripod import check_meta, tripod_table
from mmfusion.interpret.tables import PaperTable

__all__ = ["Report", "write_report"]


@dataclass(frozen=True, eq=False)
class Report:
    """A report that was written.

    Attributes
    ----------
    path : Path
    tripod : DataFrame
        The TRIPOD+AI table: item, part, asks, status, content; ``tripod.to_csv(...)`` exports it.
    html : str
    """

    path: Path
    tripod: pd.DataFrame
    html: str

    def __repr__(self) -> str:
        counts = self.tripod["status"].value_counts().to_dict()
        return f"Report({os.fspath(self.path)!r}, {counts})"


def write_report(
    model: Any,
    X: Any,
    y: Any,
    path: str | os.PathLike[str] = "report.html",
    meta: Mapping[str, Any] | None = None,
    *,
    cross_validated: Any = None,
    time: float | None = None,
    group: str | None = None,
    subgroups: Sequence[str] | None = None,
    n_examples: int = 3,
    random_state: int = 0,
) -> Report:
    """Write a report of a fitted model as one page that needs nothing else.

    Who was in the study, the model in words, its performance on rows it has not seen, calibration,
    decisions, subgroups, effects, what each modality adds, some subjects, whether the sample was
    large enough, and the TRIPOD+AI table: filled where the software knows, marked blank where only
    people do.

    Parameters
    ----------
    model : estimator
        Fitted, or loaded.
    X : DataFrame, shape (n, p)
    y : outcome of n rows
        Rows that `model` did not see: training rows are told by hashes, and refused.
    path : path, default="report.html"
    meta : mapping of str to str, optional
        What only people know, by the names of `mmfusion.interpret.META`: dates, centres, funding.
    cross_validated : int, DataFrame or array, optional
        With a number of folds `X` may hold training rows: models of the same settings are fitted
        without each fold and predict it. Or predictions of models that did not see the row:
        survival probabilities (a column a time), probabilities of classes, numbers.
    time : float, optional
        At which risks are looked at; by default about the median time of the events.
    group : column name, optional
        Of the groups of Table 1; by default the outcome.
    subgroups : list of column names, optional
        By default columns of the model of at most 6 levels, age in thirds, presence of modalities.
    n_examples : int, default=3
        Subjects that are shown, at most 8.
    random_state : int, default=0
        Deals the folds.

    Returns
    -------
    Report

    Raises
    ------
    ValueError
        If some of the rows were trained on; for an unknown key of `meta`; a time beyond the
        follow-up; as the checks of `X` and `y`.
    """
    check_model(model)
    check_number("n_examples", n_examples, 1, 8, integer=True)
    said = check_meta(meta)
    unit = said.pop("time_unit", "time")
    found = gather(model, X, y, time, cross_validated, unit, random_state)
    in_groups = subgroups_section(found, subgroups)
    sections = [
        participants(found, group),
        the_model(found),
        performance(found),
        calibration_section(found),
        decisions(found),
        in_groups,
        effects(found),
        value_of_modalities(found),
        examples(found, n_examples),
        sample_size_section(found),
    ]
    table = tripod_table(answers(found, in_groups), said)
    counts = table["status"].value_counts()
    caption = (
        f"TRIPOD+AI: {counts.get('filled', 0)} lines filled, {counts.get('in part', 0)} in part, "
        f"{counts.get('blank', 0)} blank"
    )
    about = Text.of(
        "What a report of a prediction model should say (Collins et al. 2024, BMJ 385:e078378), in "
        "27 items in our own words. What the software knows is filled in; what only people know is "
        "marked, and filled by meta=."
    )
    sections = [
        _in_short(found),
        *sections,
        Section("tripod", "TRIPOD+AI", [about, Tripod(table, caption)]),
        _reproducing(found, random_state),
    ]
    title = said.get("title", f"Report of a prediction model ({type(model).__name__})")
    html = page_of(title, _byline(found, said), sections)
    target = Path(path)
    target.write_text(html, encoding="utf-8")
    return Report(target, table, html)


def _in_short(found: Evidence) -> Section:
    section = Section("short", "In short", [Facts(first_numbers(found))])
    looks = warnings_of(found)
    if looks:
        section.blocks.append(Look("Look at this first", looks))
    return section


def _byline(found: Evidence, meta: Mapping[str, str]) -> str:
    made = datetime.now(UTC).strftime("%d %B %Y")
    authors = f"{meta['authors']}. " if "authors" in meta else ""
    return f"{authors}{type(found.model).__name__}, judged on {len(found):,} rows. {made}."


def _reproducing(found: Evidence, random_state: int) -> Section:
    model = found.model
    versions = {"mmfusion": mmfusion.__version__}
    if model.seen_ is not None:
        versions |= model.seen_.versions
    rows = [(0, [name, version]) for name, version in versions.items()]
    seeds = f"The model's random_state is {model.random_state!r}"
    if found.folds is not None:
        seeds += f", that of the report's folds {random_state}"
    params = {name: repr(value) for name, value in model.get_params(deep=False).items()}
    settings = [(0, [name, " ".join(value.split())[:300]]) for name, value in params.items()]
    return Section(
        "reproducing",
        "Versions, seeds, settings",
        [
            Text.of(f"{seeds}. Versions are those that the model was fitted with."),
            Table(PaperTable(["software", "version"], rows, "Versions")),
            Table(PaperTable(["parameter", "value"], settings, "Settings of the estimator")),
        ],
    )
