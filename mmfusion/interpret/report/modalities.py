"""What the modalities add to the score."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.evaluation.outcomes import for_fit
from mmfusion.interpret.modalities import modality_value
from mmfusion.interpret.plots import plot_shapley
from mmfusion.interpret.report.blocks import (
    Block,
    Missing,
    Section,
    Table,
    Text,
    draw,
    either,
    interval,
)
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.performance import MAIN, an_event_each, main_metric, scored
from mmfusion.interpret.tables import PaperTable, p_text
from mmfusion.metrics.causes import cause_concordance

__all__ = ["value_of_modalities"]

#: Samples of rows that the intervals of Shapley values are made of.
N_BOOTSTRAP = 100


def value_of_modalities(found: Evidence) -> Section:
    """Return the section of what the score is with some of the modalities."""
    section = Section("modalities", "What the modalities add")
    section.blocks += an_event_each(found.of_causes(), _of_event, "The value of modalities")
    return section


def _of_event(found: Evidence) -> Sequence[Block]:
    blocks = list(_value(found))
    if found.parts and found.folds is None and 2 <= len(found.model.modalities_) <= 6:
        blocks += either(lambda: _shares(found), f"Shapley values of modalities{found.named}")
    return blocks


def _value(found: Evidence) -> Sequence[Block]:
    model = found.model
    names, complete = list(model.modalities_), model.model_.structured.complete
    if not names:
        return [Missing("The model reads no modality beside its formula.")]
    if not found.parts:
        return [
            Missing(
                "What is missing: predictions from some modalities alone, which given predictions "
                "do not hold. Say cross_validated=5 to have them made."
            )
        ]
    subsets = _subsets(names, complete)
    if len(subsets) < 2:
        return [Missing("There is one modality and no formula: nothing to leave out.")]
    whole, _ = _of_modalities(found, names)
    title, rows, drawn = _title(found), [], []
    for label, subset in subsets:
        predicted, known = _of_modalities(found, subset)
        if not known.all():
            label = f"{label} ({known.sum():,} rows that have it)"
        some = np.flatnonzero(known)
        score = scored(found, predicted, some)
        cells = [label, interval(score)]
        if set(subset) == set(names):
            cells += ["reference", ""]
        else:
            d = scored(found, whole, some, predicted)
            same = np.isnan(d["lower"])  # the same predictions, or ranks, in all rows
            bounds = "" if same else f" [{d['lower']:+.3f}, {d['upper']:+.3f}]"
            cells += [f"{d['score']:+.3f}{bounds}", "" if same else p_text(float(d["p"]))]
        rows.append((0, cells))
        drawn.append((label, score))
    heads = ["predicted from", "score [95 %]", "all, less this", "p"]
    notes = [
        "The same fitted model predicts, and is shown a part of what it knows; a model that is "
        "fitted to that part alone may do better. Differences are paired by row."
    ]
    return [
        Text.of("How well the model predicts from some of what it reads."),
        draw(
            lambda ax: _draw(ax, drawn, title),
            f"{title} with 95 % interval, predicted from each set of modalities: "
            + "; ".join(f"{label} {score['score']:.2f}" for label, score in drawn)
            + ".",
            f"{title} with 95 % intervals, by what is predicted from.",
            (5.8, 1.1 + 0.32 * len(drawn)),
        ),
        Table(PaperTable(heads, rows, f"Value of the modalities: {title}", notes)),
    ]


def _shares(found: Evidence) -> Sequence[Block]:
    """Return how the score's gain is shared out among the modalities."""
    metric: Any = main_metric(found)
    target: Any = None
    if found.cause is not None:
        cause, target = found.cause, ("cumulative_incidence", found.cause, found.time)

        def metric(y: Any, risk: np.ndarray) -> float:
            return cause_concordance(y, risk, cause).value

    value = modality_value(
        found.model, found.X, for_fit(found.y), metric, target=target, n_bootstrap=N_BOOTSTRAP
    )
    title = _title(found)
    words = "; ".join(
        f"{name} {row['value']:+.3f} ({row['lower']:+.3f} to {row['upper']:+.3f})"
        for name, row in value.table.iterrows()
    )
    return [
        draw(
            lambda ax: plot_shapley(value.table, ax, label=f"share of {title}"),
            f"Bars of the Shapley values of the modalities for {title}: {words}.",
            f"What each modality adds to {title}, shared out fairly (Shapley values, with "
            f"bootstrap intervals; they sum to what all add over none): {words}.",
            (5.2, 1.2 + 0.35 * len(value.table)),
        )
    ]


def _title(found: Evidence) -> str:
    """Return how the main score is called."""
    accuracy = main_metric(found) == "accuracy"
    return f"{'accuracy' if accuracy else MAIN[found.task][1]}{found.named}"


def _subsets(names: list[str], complete: bool) -> list[tuple[str, list[str]]]:
    formula = "formula" if complete else ""
    everything = " + ".join([*([formula] if complete else []), *names])
    found = [(everything, names)]
    if len(names) > 2:
        found += [(f"without {name}", [n for n in names if n != name]) for name in names]
    if len(names) > 1:
        alone = "formula + {}" if complete else "{} alone"
        found += [(alone.format(name), [name]) for name in names]
    if complete:
        found.append(("formula alone", []))
    return found


def _of_modalities(found: Evidence, names: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Return what the main score looks at, predicted from these alone, and of which rows it is.

    Without a formula nothing predicts a row that has none of them.
    """

    def known(model: Any, rows: pd.DataFrame) -> np.ndarray:
        if model.model_.structured.complete:
            return np.ones(len(rows), dtype=bool)
        return np.any([model.modalities_[name].present(rows) for name in names], axis=0)

    def predicted(model: Any, rows: pd.DataFrame) -> np.ndarray:
        classes = found.task == "classification"
        method = model.predict_proba if classes else getattr(model, "predict_risk", model.predict)
        there = known(model, rows)
        if found.cause is not None:

            def method(some: pd.DataFrame, modalities: list[str]) -> np.ndarray:
                table = model.predict_cumulative_incidence_function(
                    some, [found.time], found.cause, modalities=modalities
                )
                return table.to_numpy()[:, 0]

        values = np.asarray(method(rows[there], modalities=names))
        if classes:
            two = values.shape[1] == 2
            values = values[:, 1] if two else np.asarray(model.classes_)[values.argmax(axis=1)]
        whole = np.full(len(rows), values[0])  # those of no use are never looked at
        whole[there] = values
        return whole

    return found.predict(predicted), found.predict(known).astype(bool)


def _draw(ax: Any, drawn: list[tuple[str, Any]], title: str) -> None:
    at = np.arange(len(drawn))[::-1]
    table = pd.DataFrame([score for _, score in drawn])
    ax.hlines(at, table["lower"], table["upper"], color="#2166ac", linewidth=1.6)
    ax.plot(table["score"], at, "o", color="#2166ac")
    ax.axvline(table["score"].iloc[0], color="0.4", linestyle="--", linewidth=0.9)
    ax.set_yticks(at, [label for label, _ in drawn])
    ax.set(ylim=(-0.6, len(drawn) - 0.4), xlabel=title)
