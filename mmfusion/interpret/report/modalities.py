"""What the modalities add, and some subjects with what speaks for their risk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.evaluation.outcomes import for_fit, take
from mmfusion.interpret.attribution import Attribution, attribute
from mmfusion.interpret.modalities import modality_value
from mmfusion.interpret.plots import (
    plot_attribution_bars,
    plot_attribution_image,
    plot_shapley,
    plot_survival_curves,
)
from mmfusion.interpret.report.blocks import Block, Missing, Section, Table, Text, draw, either
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.performance import MAIN, main_metric
from mmfusion.interpret.tables import PaperTable, p_text
from mmfusion.metrics import score_interval
from mmfusion.modalities._decoding import decode
from mmfusion.modalities.image import images_in

__all__ = ["examples", "value_of_modalities"]

#: Samples of rows that the intervals of Shapley values are made of.
N_BOOTSTRAP = 100


def value_of_modalities(found: Evidence) -> Section:
    """Return the section of what the score is with some of the modalities."""
    section = Section("modalities", "What the modalities add")
    section.blocks += either(lambda: _value(found), "The value of modalities")
    if found.parts and found.folds is None and 2 <= len(found.model.modalities_) <= 6:
        section.blocks += either(lambda: _shares(found), "Shapley values of modalities")
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
    whole, _ = _of_modalities(found, names)
    metric, title = main_metric(found), MAIN[found.task][1]
    if metric == "accuracy":
        title = "accuracy"
    in_folds = found.task == "survival" and found.folds is not None
    strata: dict[str, Any] = {"strata": found.folds} if in_folds else {}
    rows, drawn = [], []
    for label, subset in subsets:
        predicted, known = _of_modalities(found, subset)
        if not known.all():
            label = f"{label} ({known.sum():,} rows that have it)"
        y, own = take(found.y, known), {n: v[known] for n, v in strata.items()}
        score = score_interval(metric, y, predicted[known], **own).iloc[0]
        cells = [label, f"{score['score']:.3f} [{score['lower']:.3f}, {score['upper']:.3f}]"]
        if set(subset) == set(names):
            cells += ["reference", ""]
        else:
            others = {"reference": predicted[known], **own}
            d = score_interval(metric, y, whole[known], **others).iloc[0]
            cells += [
                f"{d['score']:+.3f} [{d['lower']:+.3f}, {d['upper']:+.3f}]",
                p_text(float(d["p"])),
            ]
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
    metric = main_metric(found)
    value = modality_value(found.model, found.X, for_fit(found.y), metric, n_bootstrap=N_BOOTSTRAP)
    title = "accuracy" if metric == "accuracy" else MAIN[found.task][1]
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
        method = model.predict_proba if classes else model.predict
        there = known(model, rows)
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


def examples(found: Evidence, n: int) -> Section:
    """Return the section of some subjects, from the lowest to the highest risk."""
    section = Section("examples", "Example subjects")
    order = np.argsort(found.risk, kind="stable")
    chosen = order[(np.linspace(0.05, 0.95, n) * (len(order) - 1)).round().astype(int)]
    section.blocks += either(lambda: _subjects(found, chosen), "Example subjects")
    section.blocks += either(lambda: _attributions(found, chosen), "Attributions")
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


def _attributions(found: Evidence, chosen: np.ndarray) -> Sequence[Block]:
    """Return what speaks for the risk of each subject: columns, modalities, pixels."""
    if not found.parts:
        return [
            Missing(
                "What is missing: which columns and pixels speak for each subject's risk, since "
                "given predictions hold no model of the row. Say cross_validated=5."
            )
        ]
    blocks: list[Block] = [
        Text.of(
            "What speaks for and against each subject's risk: integrated gradients from an average "
            "subject (images: from the blurred image) to this one. Attributions say what the model "
            "uses, not what causes the outcome."
        )
    ]
    for label, row in zip("ABCDEFGH", chosen, strict=False):
        model = next(m for m, rows in found.parts if row in rows)
        with warnings.catch_warnings():  # a gap is said below, in words
            warnings.simplefilter("ignore")
            one = attribute(model, found.X.iloc[[row]])
        blocks += _of_subject(model, found.X.iloc[[row]], one, label)
    return blocks


def _of_subject(model: Any, row: pd.DataFrame, one: Attribution, label: str) -> list[Block]:
    columns = pd.concat(
        [table.iloc[0] for table in one.tables.values()] or [pd.Series(dtype=float)]
    )
    columns = columns.groupby(level=0, sort=False).sum()  # in the formula and in a modality
    totals = one.by_modality().iloc[0]
    most = columns[columns.abs().sort_values(ascending=False).index[:10]]
    gap = float(one.gap.iloc[0])
    unsure = f" They miss the whole by {gap:.0%}: read them roughly." if gap > 0.05 else ""
    blocks: list[Block] = []
    if len(most):
        words = "; ".join(f"{name} {value:+.2f}" for name, value in most.head(5).items())
        sums = "; ".join(f"{name} {value:+.2f}" for name, value in totals.items())
        blocks.append(
            draw(
                lambda ax: plot_attribution_bars(most, ax),
                f"Bars of what columns add to the prediction of subject {label}: {words}.",
                f"Subject {label}: columns that add most. By modality: {sums}.{unsure}",
                (5.2, 1.0 + 0.27 * len(most)),
            )
        )
    for name, maps in one.images.items():
        if len(maps) and model.modalities_[name].present(row).all():
            shown = maps[0].reshape(-1, *maps[0].shape[-2:])[0]
            picture = _picture(model.modalities_[name], row, shown.shape)
            blocks.append(
                draw(
                    lambda ax, picture=picture, shown=shown: plot_attribution_image(  # type: ignore[misc]
                        picture, shown, ax
                    ),
                    f"The {name} of subject {label}, what each pixel adds, and the two over each "
                    "other.",
                    f"Subject {label}: {name}. Red raises the prediction, blue lowers it.",
                    (6.0, 2.3),
                    pixels=True,
                )
            )
    return blocks


def _picture(modality: Any, row: pd.DataFrame, size: tuple[int, ...]) -> np.ndarray:
    """Return the row's first image at the size of its map, (h, w) or (h, w, 3)."""
    source = next(image for column in modality.columns_ for image in images_in(row[column].iloc[0]))
    if isinstance(source, str | os.PathLike):
        source = Path(source) if modality.root is None else Path(modality.root) / source
    pixels = np.asarray(decode(source, (size[0], size[1]), modality.channels))
    return pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, 2)
