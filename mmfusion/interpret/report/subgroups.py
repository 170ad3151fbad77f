"""Whether the model does as well in one group as in another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.interpret.report.blocks import Block, Section, Table, Text, draw, interval
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.participants import columns_shown, presence_of
from mmfusion.interpret.report.performance import MAIN, an_event_each, main_score
from mmfusion.interpret.tables import PaperTable

__all__ = ["subgroups_section"]

#: Fewer rows, or events, are no subgroup.
LEAST_ROWS, LEAST_EVENTS = 20, 5


def subgroups_section(found: Evidence, names: Sequence[str] | None) -> Section:
    """Return the section of the main score in subgroups."""
    section = Section("subgroups", "Subgroups and fairness")
    unknown = [name for name in names or () if name not in found.X]
    if unknown:
        raise ValueError(f"The subgroups parameter must name columns of X. Got {unknown}.")
    section.blocks += an_event_each(found.of_causes(), lambda one: _scores(one, names), "Subgroups")
    return section


def _scores(found: Evidence, names: Sequence[str] | None) -> Sequence[Block]:
    """Return the main score of each subgroup."""
    rows, drawn = [], []
    for name, labels in _subgroups(found, names).items():
        for level in sorted(labels.dropna().unique(), key=str):
            mine = np.flatnonzero((labels == level).to_numpy())
            events = found.event[mine].sum() if found.task == "survival" else len(mine)
            label = f"{name}: {level}"
            if len(mine) < LEAST_ROWS or events < LEAST_EVENTS:
                rows.append((0, [label, f"{len(mine):,}", "too few to score"]))
                continue
            try:
                score = main_score(found, mine)
            except ValueError:
                rows.append((0, [label, f"{len(mine):,}", "not defined"]))
                continue
            rows.append((0, [label, f"{len(mine):,}", interval(score)]))
            drawn.append((label, score))
    if not rows:
        raise ValueError("No column has a few levels: say subgroups=.")
    title = f"{MAIN[found.task][1]}{found.named}"
    whole = main_score(found)
    blocks: list[Block] = [
        Text.of(
            "Does the model do as well in one group as in another? Groups are looked at one by "
            "one: of many, some look worse by chance."
        )
    ]
    if drawn:
        blocks.append(
            draw(
                lambda ax: _draw_subgroups(ax, drawn, whole, title),
                f"{title} with 95 % interval of {len(drawn)} subgroups, beside that of all "
                f"rows, {whole['score']:.2f}.",
                f"{title} by subgroup; the dashed line is that of all rows.",
                (5.6, 1.2 + 0.28 * len(drawn)),
            )
        )
    table = PaperTable(["subgroup", "rows", "score [95 %]"], rows, f"{title} in subgroups")
    return [*blocks, Table(table)]


def _subgroups(found: Evidence, names: Sequence[str] | None) -> dict[str, pd.Series]:
    if names is not None:
        return {str(name): _banded(found.X[name]) for name in names}
    chosen = {
        str(name): _banded(found.X[name])
        for name in columns_shown(found)
        if found.X[name].nunique() <= 6 or str(name).lower() == "age"
    }
    index = found.X.index
    for name, there in presence_of(found).items():
        if 0 < there.mean() < 1:
            chosen[str(name)] = pd.Series(np.where(there, "present", "missing"), index)
    return chosen


def _banded(column: pd.Series) -> pd.Series:
    """Return a column of few levels as it is, numbers in thirds."""
    if column.nunique() <= 6:
        return column
    bands = pd.qcut(pd.to_numeric(column), 3, duplicates="drop")
    names = [f"{band.left:.3g} to {band.right:.3g}" for band in bands.cat.categories]
    return bands.cat.rename_categories(names).astype(object)


def _draw_subgroups(ax: Any, drawn: list[tuple[str, Any]], whole: Any, title: str) -> None:
    at = np.arange(len(drawn))[::-1]
    rows = pd.DataFrame([score for _, score in drawn])
    ax.hlines(at, rows["lower"], rows["upper"], color="#2166ac", linewidth=1.6)
    ax.plot(rows["score"], at, "s", color="#2166ac", markersize=5)
    ax.axvline(whole["score"], color="0.4", linestyle="--", linewidth=0.9)
    ax.set_yticks(at, [label for label, _ in drawn])
    ax.set(ylim=(-0.6, len(drawn) - 0.4), xlabel=title)
