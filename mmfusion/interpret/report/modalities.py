"""What the modalities add, and some subjects with what speaks for their risk."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.interpret.plots import plot_survival_curves
from mmfusion.interpret.report.blocks import Block, Missing, Section, Table, Text, draw, either
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.performance import MAIN, main_metric
from mmfusion.interpret.tables import PaperTable, p_text
from mmfusion.metrics import score_interval

__all__ = ["examples", "value_of_modalities"]


def value_of_modalities(found: Evidence) -> Section:
    """Return the section of what the score is with some of the modalities."""
    section = Section("modalities", "What the modalities add")
    section.blocks += either(lambda: _value(found), "The value of modalities")
    return section


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
    whole = _of_modalities(found, names)
    metric, title = main_metric(found), MAIN[found.task][1]
    if metric == "accuracy":
        title = "accuracy"
    own: dict[str, Any] = {"strata": found.folds} if found.task == "survival" else {}
    rows, drawn = [], []
    for label, subset in subsets:
        predicted = _of_modalities(found, subset)
        score = score_interval(metric, found.y, predicted, **own).iloc[0]
        cells = [label, f"{score['score']:.3f} [{score['lower']:.3f}, {score['upper']:.3f}]"]
        if set(subset) == set(names):
            cells += ["reference", ""]
        else:
            d = score_interval(metric, found.y, whole, reference=predicted, **own).iloc[0]
            cells += [
                f"{d['score']:+.3f} [{d['lower']:+.3f}, {d['upper']:+.3f}]",
                p_text(float(d["p"])),
            ]
        rows.append((0, cells))
        drawn.append((label, score))
    heads = ["predicted from", f"{title} [95 %]", "all, less this [95 %]", "p"]
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
        Table(PaperTable(heads, rows, "Value of the modalities", notes)),
    ]


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


def _of_modalities(found: Evidence, names: list[str]) -> np.ndarray:
    """Return what the main score looks at, predicted from these modalities alone."""
    if found.task != "classification":
        predicted = found.predict(lambda m, rows: m.predict(rows, modalities=names))
        return np.asarray(predicted, np.float64)
    table = np.asarray(found.predict(lambda m, rows: m.predict_proba(rows, modalities=names)))
    if table.shape[1] == 2:
        return table[:, 1]
    return np.asarray(found.model.classes_)[table.argmax(axis=1)]


def _draw(ax: Any, drawn: list[tuple[str, Any]], title: str) -> None:
    at = np.arange(len(drawn))[::-1]
    table = pd.DataFrame([score for _, score in drawn])
    ax.hlines(at, table["lower"], table["upper"], color="#2166ac", linewidth=1.6)
    ax.plot(table["score"], at, "o", color="#2166ac")
    ax.axvline(table["score"].iloc[0], color="0.4", linestyle="--", linewidth=0.9)
    ax.set_yticks(at, [label for label, _ in drawn])
    ax.set(ylim=(-0.6, len(drawn) - 0.4), xlabel=title)


def examples(found: Evidence, n: int) -> Section:
    """Return the section of some subjects, from the lowest to the highest risk."""
    section = Section("examples", "Example subjects")
    order = np.argsort(found.risk, kind="stable")
    chosen = order[(np.linspace(0.05, 0.95, n) * (len(order) - 1)).round().astype(int)]
    section.blocks += either(lambda: _subjects(found, chosen), "Example subjects")
    section.blocks += _attributions(found, chosen)
    return section


def _subjects(found: Evidence, chosen: np.ndarray) -> Sequence[Block]:
    labels = [*"ABCDEFGH"[: len(chosen)]]
    blocks: list[Block] = []
    predicted = "predicted"
    values = found.risk[chosen]
    texts = [f"{value:.3g}" for value in values]
    if found.event_risk is not None:
        by = f" by {found.time:g} {found.unit}" if found.task == "survival" else ""
        predicted, texts = f"risk{by}", [f"{v:.0%}" for v in found.event_risk[chosen]]
    if found.task == "survival":
        time, event = found.y.time[chosen], found.y.event[chosen]
        seen = [
            f"{'event' if e else 'censored'} at {t:.3g}" for t, e in zip(time, event, strict=True)
        ]
    else:
        seen = [str(value) for value in found.y[chosen]]
    rows = [
        (0, [f"subject {label}", text, was])
        for label, text, was in zip(labels, texts, seen, strict=True)
    ]
    if found.curves is not None:
        curves = _smoother(found, chosen)
        blocks.append(
            draw(
                lambda ax: plot_survival_curves(
                    curves, ax, labels=[f"subject {k}" for k in labels], time_label=found.unit
                ),
                f"Predicted survival curves of {len(chosen)} subjects, from low to high risk. "
                f"Risk{by}: {', '.join(texts)}.",
                "Predicted survival of subjects at the 5th to the 95th percentile of risk. "
                "Subjects have letters, not the names of their rows, so that the page can be "
                "handed on.",
            )
        )
    table = PaperTable(["", predicted, "what was observed"], rows, "The subjects")
    return [*blocks, Table(table)]


def _smoother(found: Evidence, chosen: np.ndarray) -> pd.DataFrame:
    """Return the curves of some rows at more times than are scored."""
    assert found.curves is not None
    if not found.parts:
        return found.curves.iloc[chosen]
    times = np.linspace(0, float(found.curves.columns[-1]), 200)[1:]
    one = replace(found, parts=[(m, np.intersect1d(rows, chosen)) for m, rows in found.parts])
    one.parts = [(m, rows) for m, rows in one.parts if len(rows)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        curves = one.predict(lambda m, rows: m.predict_survival_function(rows, times=times))
    order = np.argsort(np.argsort(chosen))
    return curves.loc[:, curves.notna().all()].iloc[order]


def _attributions(found: Evidence, chosen: np.ndarray) -> list[Block]:
    return [
        Missing(
            "Attributions (which columns and pixels speak for each subject's risk) are not in this "
            "version of the report."
        )
    ]
