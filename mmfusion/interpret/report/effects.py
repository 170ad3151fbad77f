"""What the columns of the formula do: table, forest plot, curves, proportional hazards."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.evaluation.outcomes import for_fit
from mmfusion.interpret.plots import plot_effects, plot_schoenfeld
from mmfusion.interpret.report.blocks import Block, Missing, Section, Table, Text, draw, either
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.tables import p_text, paper_table

__all__ = ["effects", "proportional_hazards"]

#: Below it the figure of a term's residuals is shown.
LEVEL = 0.05


def effects(found: Evidence) -> Section:
    """Return the section of the formula's effects."""
    model, section = found.model, Section("effects", "Effects of the columns")
    if model.inference_ is None:
        section.blocks.append(
            Missing(
                "The model has no formula (structured=), so no column has an effect of its own to "
                "report."
            )
        )
        return section
    table = model.effects_
    section.blocks.append(Text.of(f"Effects are {table.attrs['estimand']}."))
    words = _in_words(table)
    numbers = table["coef"].notna() & table["se"].notna()
    if (numbers & ~_intercepts(table)).any():
        size = (5.6, 1.1 + 0.3 * int(numbers.sum()))
        alt = f"Forest plot of {table.attrs['ratio'] or 'coefficient'}s. {words}"
        section.blocks += either(
            lambda: [
                draw(
                    lambda ax: plot_effects(model, ax=ax),
                    alt,
                    "Estimates with their 95 % intervals; on the dashed line there is no effect.",
                    size,
                )
            ],
            "The forest plot",
        )
    printed = paper_table(model)
    section.blocks.append(Table(replace(printed, notes=printed.notes[1:])))  # said above
    section.blocks += _curves(model)
    if hasattr(model, "check_proportional_hazards"):
        section.blocks += either(lambda: proportional_hazards(found), "Proportional hazards")
    return section


def _intercepts(table: pd.DataFrame) -> np.ndarray:
    """Return which rows are intercepts, of each parameter or cause."""
    return np.asarray(table.index.get_level_values(0) == "Intercept")


def _in_words(table: pd.DataFrame) -> str:
    names = ["coef", "lower", "upper"]
    if "exp(coef)" in table:
        names = [f"exp({name})" for name in names]
    shown = table[np.isfinite(table[names[0]]) & ~_intercepts(table)].head(8)
    return " ".join(
        f"{term if isinstance(term, str) else ', '.join(map(str, term))}: {row[names[0]]:.2f} "
        f"({row[names[1]]:.2f} to {row[names[2]]:.2f})."
        for term, row in shown.iterrows()
    )


def _curves(model: Any) -> list[Block]:
    layout = model.inference_.layout
    blocks: list[Block] = []
    for label, parameter in layout.smooths:
        title = label if len(layout.parameters) == 1 else f"{label} ({parameter})"
        blocks += either(
            lambda label=label, parameter=parameter, title=title: [  # type: ignore[misc]
                draw(
                    lambda ax: plot_effects(model, label, ax, parameter=parameter),
                    f"The estimated effect {title} on the predictor with its 95 % band.",
                    f"{title}: effect on the predictor, with its pointwise 95 % band; 0 is the "
                    "average.",
                )
            ],
            title,
        )
    return blocks


def proportional_hazards(found: Evidence) -> Sequence[Block]:
    """Return the test of proportional hazards, and the residuals of terms that fail it."""
    model, y = found.model, for_fit(found.y)
    tests = model.check_proportional_hazards(found.X, y)
    lowest = float(tests.drop(index="GLOBAL")["p"].min())
    verdict = (
        f"No term speaks against it in these rows (smallest p = {p_text(lowest)})."
        if lowest >= LEVEL
        else "Some effects change over time; a hazard ratio is then an average: "
        + ", ".join(
            f"{term} (p {'' if p < 0.001 else '= '}{p_text(float(p))})"
            for term, p in tests.drop(index="GLOBAL")["p"].items()
            if p < LEVEL
        )
        + "."
    )
    blocks: list[Block] = [
        Text.of(
            "A hazard ratio says that the ratio is the same at all times. The score test on scaled "
            f"Schoenfeld residuals (Grambsch & Therneau 1994) asks whether it is. {verdict}"
        )
    ]
    residuals = model.residuals(found.X, y, "scaled_schoenfeld")
    time = pd.Series(found.y.time, found.X.index)
    coefficients = model.effects_
    shown = [
        name
        for name in residuals
        if name in coefficients.index and np.isfinite(coefficients.loc[name, "coef"])
    ]
    where = {name: _term_of(str(name), tests.index) for name in shown}
    shown.sort(key=lambda name: tests["p"].get(where[name], 1.0))
    if shown and found.X.index.is_unique:
        name = shown[0]
        p = tests["p"].get(where[name])
        blocks.append(
            draw(
                lambda ax: plot_schoenfeld(
                    residuals[name],
                    time[residuals.index],
                    ax,
                    coef=float(coefficients.loc[name, "coef"]),
                    p=None if p is None else float(p),
                    time_label=found.unit,
                ),
                f"Scaled Schoenfeld residuals of {name} against time, with a smooth line and its "
                "band, and the model's log hazard ratio as a dashed line.",
                f"The log hazard ratio of {name} over time (of all coefficients, the one with the "
                "smallest p of its term). A level line is a ratio that does not change.",
            )
        )
    return blocks


def _term_of(name: str, terms: pd.Index) -> str:
    """Return the term that a coefficient belongs to, by its name."""
    fits = [str(term) for term in terms if name == term or name.startswith(f"{term}[")]
    return max(fits, key=len, default="")
