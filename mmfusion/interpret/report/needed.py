"""Whether the rows were enough for the model: Riley et al.'s criteria."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from scipy import optimize

from mmfusion.heads import CoxHead
from mmfusion.interpret.report.blocks import Block, Section, Table, Text
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.performance import an_event_each
from mmfusion.interpret.report.sample_size import (
    MOST,
    Needed,
    sample_size_classes,
    sample_size_numbers,
    sample_size_survival,
)
from mmfusion.interpret.tables import PaperTable
from mmfusion.survival import Survival

__all__ = ["explained", "n_parameters", "required", "sample_size_section"]

#: What each criterion asks for.
WORDS = {
    "shrinkage": "effects shrink by at most 10 % in new rows",
    "optimism": "R² is at most 0.05 too large",
    "overall risk": "the overall risk is known to within 0.05",
    "residual spread": "the residual standard deviation is known to within 10 %",
    "mean": "the mean is known to within 10 %",
}


def explained(found: Evidence) -> float:
    """Return the Cox-Snell R2 of predictions of rows that were not seen; of numbers, R2.

    Of survival, by the partial likelihood of a Cox model whose one covariate is the risk; of
    classes, by the log loss beside that of their shares.
    """
    n = len(found)
    if found.task == "regression":
        return 1 - float(
            ((found.y - found.risk) ** 2).sum() / ((found.y - found.y.mean()) ** 2).sum()
        )
    if found.task == "classification":
        known = np.searchsorted(found.model.classes_, found.y)
        own = np.log(np.maximum(found.probabilities[np.arange(n), known], 1e-12)).mean()
        shares = np.bincount(known) / n
        nothing = (shares[shares > 0] * np.log(shares[shares > 0])).sum()
        return 1 - math.exp(-2 * (own - nothing)) if own > nothing else 0.0
    head = CoxHead()
    target = head.fit_outcome(Survival(found.y.time, found.event, found.y.entry))
    scale = found.risk
    if found.cause is not None:  # the incidence, where a Cox model is linear
        scale = np.log(-np.log1p(-np.clip(scale, 1e-12, 1 - 1e-12)))
    risk = torch.from_numpy((scale - scale.mean()) / max(scale.std(), 1e-12))

    def loss(slope: float) -> float:
        return float(head.loss(slope * risk[:, None], target)) * head.total(target)

    best = optimize.minimize_scalar(loss, bounds=(0, 10), method="bounded").fun
    return 1 - math.exp(-2 * max(loss(0.0) - best, 0.0) / n)


def n_parameters(model: Any) -> tuple[int, int]:
    """Return the coefficients of the formula, and with them the columns that networks read.

    Of several causes each has its share of the coefficients.
    """
    layout = getattr(model.inference_, "layout", None)
    own = 0
    if layout is not None:
        own = sum(not name.startswith("Intercept") for name in layout.names) - len(layout.constants)
    own = math.ceil(own / len(getattr(model, "causes_", [1])))
    tables = [m for m in model.modalities_.values() if len(m.columns_) > 1]
    others = len(model.modalities_) - len(tables)
    return own, own + sum(len(m.columns_) for m in tables) + others


def required(found: Evidence, n_coefficients: int, r2: float) -> Needed:
    """Return the rows that a regression of so many coefficients needs."""
    if found.task == "survival":
        y = found.y
        time = y.time - np.where(np.isfinite(y.entry), y.entry, 0.0)
        rate = float(found.event.sum() / time.sum())
        assert found.time is not None
        return sample_size_survival(n_coefficients, r2, rate, float(time.mean()), found.time)
    if found.task == "classification":
        share = float(max(np.mean(found.y == level) for level in found.model.classes_))
        return sample_size_classes(n_coefficients, r2, min(share, 1 - share))
    return sample_size_numbers(
        n_coefficients, r2, float(found.y.mean()), float(found.y.std(ddof=1))
    )


def sample_size_section(found: Evidence) -> Section:
    """Return the section that says whether the rows were enough."""
    section = Section("sample-size", "Was the sample large enough?")
    section.blocks += an_event_each(found.of_causes(), _verdict, "The verdict on the sample size")
    return section


def verdict(found: Evidence) -> tuple[str, bool | None]:
    """Return the verdict in words, and whether the rows are enough; None where nobody knows."""
    seen, (own, every) = found.model.seen_, n_parameters(found.model)
    p = own or every
    if seen is None:
        return "The number of training rows is not known.", None
    needed = required(found, p, explained(found))
    what = "the formula" if own else "the columns that are read"
    n_events = seen.n_events
    if found.cause is not None and f"cause_{found.cause}" in seen.causes:
        n_events = seen.causes[f"cause_{found.cause}"][""][0]
    size = f"{seen.n_rows:,}" + ("" if n_events is None else f" ({n_events:,} events)")
    if needed.n >= MOST:
        return (
            f"The model explains next to nothing in new rows: no number of rows is enough for the "
            f"{p} parameters of {what}. It was fitted on {size}."
        ), False
    events = "" if needed.events is None else f" ({needed.events:,} events)"
    enough = seen.n_rows >= needed.n
    return (
        f"A regression with the {p} parameters of {what} needs {needed.n:,} rows{events}; the "
        f"model was fitted on {size}: {'enough' if enough else 'too few'}."
    ), enough


def _verdict(found: Evidence) -> Sequence[Block]:
    own, every = n_parameters(found.model)
    r2 = explained(found)
    words, _ = verdict(found)
    blocks: list[Block] = [
        Text.of(
            f"{words} The criteria are those of Riley et al. (2019), for regressions without "
            f"penalty; what is expected to be explained is what was: R² (Cox-Snell) = {r2:.3f} in "
            "rows that were not seen."
            if found.task != "regression"
            else f"{words} The criteria are those of Riley et al. (2019), with R² = {r2:.3f}."
        )
    ]
    counts = {"the formula": own} if own else {}
    if every > own:
        counts["formula and columns read" if own else "columns read"] = every
    needs = {name: required(found, p, r2) for name, p in counts.items()}
    rows = []
    for criterion in next(iter(needs.values())).rows:
        cells = [
            "more than 100 million" if one.rows[criterion] >= MOST else f"{one.rows[criterion]:,}"
            for one in needs.values()
        ]
        rows.append((0, [WORDS[criterion], *cells]))
    heads = ["criterion", *[f"rows for {name} ({p} parameters)" for name, p in counts.items()]]
    notes = [
        "Networks are no regressions: early stopping and the share that is kept penalise them, and "
        "how many parameters they spend nobody knows. Each column that they read counts "
        "once here, an image once: a lower bound."
    ]
    notes = notes if found.model.modalities_ else []
    blocks.append(Table(PaperTable(heads, rows, "Rows that each criterion asks for", notes)))
    return blocks
