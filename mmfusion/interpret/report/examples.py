"""Some subjects, with what speaks for and against their risk."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.interpret.attribution import Attribution, attribute
from mmfusion.interpret.plots import (
    plot_attribution_bars,
    plot_attribution_image,
    plot_survival_curves,
)
from mmfusion.interpret.plots._axes import colours
from mmfusion.interpret.report.blocks import Block, Missing, Section, Table, Text, draw, either
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.performance import main_metric
from mmfusion.interpret.tables import PaperTable
from mmfusion.modalities._decoding import decode
from mmfusion.modalities.image import images_in

__all__ = ["examples"]

#: Of integrated gradients: a page is not to wait for the last percent of a large network.
MAX_STEPS = 128


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
        time, event = found.y.time[chosen], np.asarray(found.y.event[chosen], dtype=int)
        kinds = {0: "censored", 1: "event"} | {cause: f"cause {cause}" for cause in found.incidence}
        seen = [f"{kinds[e]} at {t:.3g}" for t, e in zip(time, event, strict=True)]
    else:
        seen = [str(value) for value in found.y[chosen]]
    columns = {predicted: texts}
    if found.incidence:
        columns = {
            f"risk of cause {one.cause}{by}": [f"{value:.0%}" for value in one.risk[chosen]]
            for one in found.of_causes()
        }
    rows = [
        (0, [f"subject {label}", *(each[k] for each in columns.values()), seen[k]])
        for k, label in enumerate(labels)
    ]
    for one in found.of_causes() if found.incidence else ():
        own = found.incidence[one.cause or 1].iloc[chosen]
        said = ", ".join(f"{value:.0%}" for value in one.risk[chosen])
        blocks.append(
            draw(
                lambda ax, own=own: _draw_incidence(ax, own, labels, found.unit),  # type: ignore[misc]
                f"Predicted cumulative incidence of cause {one.cause} of {len(chosen)} subjects. "
                f"Risk{by}: {said}.",
                f"Predicted incidence of cause {one.cause} of subjects at the 5th to the 95th "
                "percentile of the risk of any event.",
            )
        )
    if found.curves is not None and not found.incidence:
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
    table = PaperTable(["", *columns, "what was observed"], rows, "The subjects")
    return [*blocks, Table(table)]


def _draw_incidence(ax: Any, table: pd.DataFrame, labels: list[str], unit: str) -> None:
    times = np.r_[0.0, table.columns.to_numpy(np.float64)]
    for label, colour, row in zip(labels, colours(len(table)), table.to_numpy(), strict=True):
        ax.plot(times, np.r_[0.0, row], color=colour, label=f"subject {label}")
    ax.set(xlabel=unit, ylabel="predicted incidence", xlim=(0, times[-1]))
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)


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
    lifetime = hasattr(found.model, "predict_risk")
    what = "mean time, so that what raises it lowers the risk" if lifetime else "risk"
    blocks: list[Block] = [
        Text.of(
            f"What raises and lowers each subject's {what}: integrated gradients from an average "
            "subject (images: from the blurred image) to this one. Attributions say what the model "
            "uses, not what causes the outcome."
        )
    ]
    for label, row in zip("ABCDEFGH", chosen, strict=False):
        model = next(m for m, rows in found.parts if row in rows)
        for own in found.of_causes():
            with warnings.catch_warnings():  # a gap is said below, in words
                warnings.simplefilter("ignore")
                one = attribute(
                    model, found.X.iloc[[row]], target=_target(own, row), max_steps=MAX_STEPS
                )
            blocks += _of_subject(model, found.X.iloc[[row]], one, f"{label}{own.named}")
    return blocks


def _target(found: Evidence, row: int) -> Any:
    """Return what is attributed: the risk, of several classes the likeliest one's probability."""
    if found.cause is not None:
        return ("cumulative_incidence", found.cause, found.time)
    if main_metric(found) == "accuracy":
        return ("class", found.model.classes_[found.probabilities[row].argmax()])
    return None


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
            if not shown.any():
                blocks.append(Missing(f"Subject {label}: no pixel of {name} moves the prediction."))
                continue
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
