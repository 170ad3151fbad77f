"""How well the model predicts rows it has not seen: scores, and curves of risk groups."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.interpret.plots import plot_auc, plot_brier, plot_incidence, plot_risk_groups
from mmfusion.interpret.report.blocks import (
    Block,
    Heading,
    Missing,
    Section,
    Table,
    Text,
    draw,
    either,
    interval,
)
from mmfusion.interpret.report.distributions import distribution_scores
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.tables import PaperTable
from mmfusion.metrics import cause_scores, score_interval
from mmfusion.metrics.causes import cause_concordance
from mmfusion.survival import cumulative_incidence, kaplan_meier

__all__ = ["MAIN", "an_event_each", "main_metric", "main_score", "performance", "scored", "scores"]

#: How each main score is called, and what it says.
MAIN = {
    "survival": ("harrell", "Concordance (Harrell's C)", "1 ranks all pairs right, 0.5 by chance"),
    "classification": ("roc_auc", "Area under the ROC curve", "1 is perfect, 0.5 chance"),
    "regression": ("r2", "Variance explained (R²)", "1 is perfect, 0 no better than the mean"),
}


def an_event_each(
    found: list[Evidence], make: Callable[[Evidence], Sequence[Block]], what: str
) -> list[Block]:
    """Return the blocks of each of several causes or classes under its name."""
    blocks: list[Block] = []
    for one in found:
        if one.name:
            blocks.append(Heading(one.name.capitalize()))
        blocks += either(lambda one=one: make(one), f"{what}{one.named}")  # type: ignore[misc]
    return blocks


def main_score(found: Evidence, rows: np.ndarray | None = None) -> pd.Series:
    """Return the main score of the rows with its interval (of several classes the accuracy)."""
    return scored(found, ranking(found), np.arange(len(found)) if rows is None else rows)


def scored(
    found: Evidence, predicted: np.ndarray, rows: np.ndarray, reference: np.ndarray | None = None
) -> pd.Series:
    """Return the main score of predictions of some rows, or the difference to others of them.

    Of one of several causes whoever has another event is compared as if this one never came.
    """
    strata = None if found.folds is None else found.folds[rows]
    if found.cause is not None:
        y = found.y.take(rows)
        score = cause_concordance(y, predicted[rows], found.cause, strata)
        if reference is not None:
            score = score - cause_concordance(y, reference[rows], found.cause, strata)
        row = dict(zip(["score", "se", "lower", "upper"], score.interval(), strict=True))
        return pd.Series(row | {"p": score.p_value()})
    own: dict[str, Any] = {} if reference is None else {"reference": reference[rows]}
    if found.task == "survival":
        own["strata"] = strata
        return score_interval("harrell", found.y.take(rows), predicted[rows], **own).iloc[0]
    return score_interval(main_metric(found), found.y[rows], predicted[rows], **own).iloc[0]


def main_metric(found: Evidence) -> str:
    """Return the name of the main score."""
    several = found.task == "classification" and found.probabilities.shape[1] > 2
    return "accuracy" if several else MAIN[found.task][0]


def ranking(found: Evidence) -> np.ndarray:
    """Return what the main score looks at."""
    if main_metric(found) == "accuracy":
        return np.asarray(found.model.classes_)[found.probabilities.argmax(axis=1)]
    return found.risk


def scores(found: Evidence) -> list[tuple[str, pd.Series, str]]:
    """Return each score: its name, score with interval, and what it says."""
    if found.cause is not None:
        return _of_cause(found)
    metric = main_metric(found)
    if metric == "accuracy":
        name, says = "Accuracy", "share of rows whose class is right"
    else:
        _, name, says = MAIN[found.task]
    made = [(name, main_score(found), says)]
    if found.task == "survival":
        assert found.curves is not None
        if not found.y.delayed:
            times, unit = found.curves.columns.to_numpy(np.float64), found.unit
            uno = score_interval("uno", found.y, found.risk, tau=times[-1])
            made.append(
                ("Uno's C", uno.iloc[0], f"the same, weighted for censoring, to {times[-1]:.3g}")
            )
            auc = score_interval("auc", found.y, found.risk, times=[found.time])
            says = f"who has the event by {found.time:g} {unit} against who has not"
            made.append((f"AUC at {found.time:g}", auc.iloc[0], says))
            at = found.curves[[found.time]]
            brier = score_interval("brier", found.y, at)
            made.append(
                (f"Brier score at {found.time:g}", brier.iloc[0], "squared error; 0 is best")
            )
            scaled = score_interval("scaled_brier", found.y, at, y_train=found.y)
            says = "share of the Kaplan-Meier curve's error that is taken away"
            made.append((f"scaled Brier at {found.time:g}", scaled.iloc[0], says))
            if len(times) > 1:
                ibs = score_interval("ibs", found.y, found.curves)
                made.append(("integrated Brier score", ibs.iloc[0], "over all times; 0 is best"))
    elif found.task == "classification":
        chances = pd.DataFrame(found.probabilities, columns=found.model.classes_)
        loss = score_interval("log_loss", found.y, chances)
        made.append(("log loss", loss.iloc[0], "lower is better"))
        if metric != "accuracy":
            classes = np.asarray(found.model.classes_)[found.probabilities.argmax(axis=1)]
            made.append(
                ("accuracy", score_interval("accuracy", found.y, classes).iloc[0], "at risk 0.5")
            )
    else:
        rmse = score_interval("rmse", found.y, found.risk)
        made.append(("root mean squared error", rmse.iloc[0], "in the unit of the outcome"))
        made += distribution_scores(found)
    return made


def _of_cause(found: Evidence) -> list[tuple[str, pd.Series, str]]:
    """Return the scores of the incidence of one of several causes."""
    by, unit = f"{found.time:g}", found.unit
    made = [
        (
            "Concordance (of this cause)",
            main_score(found),
            "1 ranks all pairs right, 0.5 by chance; who had another event never has this one",
        )
    ]
    assert found.time is not None
    assert found.cause is not None
    table = cause_scores(found.y, found.risk, found.time, found.cause)
    for name, title, says in (
        ("auc", f"AUC at {by}", f"who has this event by {by} {unit} against who has not"),
        ("brier", f"Brier score at {by}", "squared error; 0 is best"),
        (
            "scaled_brier",
            f"scaled Brier at {by}",
            "share of the Aalen-Johansen estimate's error that is taken away",
        ),
    ):
        if name in table.index:
            made.append((title, pd.Series(table.loc[name]), says))
    return made


def performance(found: Evidence) -> Section:
    """Return the section of scores."""
    section = Section("performance", "Performance on rows the model has not seen")
    section.blocks.append(Text.of(found.source))

    def table(one: Evidence) -> Sequence[Block]:
        rows = [(0, [name, interval(row), says]) for name, row, says in scores(one)]
        heads = ["score", "value [95 %]", "what it says"]
        notes = [
            "Intervals are of these rows' chance: what the same model would score in other rows of "
            "the same kind (infinitesimal jackknife)."
        ]
        blocks: list[Block] = [Table(PaperTable(heads, rows, f"Scores{one.named}", notes))]
        if one.cause is not None:
            blocks += either(lambda: [_incidence(one)], f"Incidence by predicted risk{one.named}")
        return blocks

    section.blocks += an_event_each(found.of_causes(), table, "Scores")
    if found.task == "survival" and not found.incidence:
        section.blocks += _over_time(found)
    elif found.task == "regression":
        section.blocks += [_predicted(found)]
    return section


def _incidence(found: Evidence) -> Block:
    """Return the figure of the observed and the predicted incidence of a cause, by risk."""
    cause, by = found.cause, f"{found.time:g} {found.unit}"
    assert cause is not None
    order = np.array_split(np.argsort(_ranks(found), kind="stable"), 3)
    texts = []
    for name, rows in zip(("low", "medium", "high"), order, strict=True):
        mine = found.y.take(rows)
        curve = cumulative_incidence(mine.time, mine.event, cause, mine.entry)
        texts.append(f"{name} {float(curve(found.time)):.0%}")
    return draw(
        lambda ax: plot_incidence(
            found.y,
            _ranks(found),
            cause,
            ax,
            predicted=found.incidence[cause],
            time_label=found.unit,
        ),
        f"Cumulative incidence of cause {cause} in three groups of its predicted risk, and numbers "
        f"at risk. Observed by {by}: {', '.join(texts)}.",
        f"Incidence of cause {cause} by its predicted risk, a third of the rows each: observed "
        "(Aalen-Johansen, with 95 % bands) and, dashed, what was predicted on average.",
        (5.2, 4.2),
    )


def _over_time(found: Evidence) -> list[Block]:
    unit = found.unit
    blocks = either(
        lambda: [
            draw(
                lambda ax: plot_risk_groups(found.y, _ranks(found), ax, time_label=unit),
                "Kaplan-Meier curves of three groups of predicted risk with numbers at risk. "
                + _groups_in_words(found),
                "Survival by predicted risk: a third of the rows each, with 95 % bands and numbers "
                "at risk. No p-value: the groups were made of predictions.",
                (5.2, 4.2),
            )
        ],
        "Survival by predicted risk",
    )
    if found.y.delayed:
        blocks.append(Missing("AUC and Brier score over time are not defined with delayed entry."))
        return blocks
    curves = found.curves
    assert curves is not None
    blocks += either(
        lambda: [
            draw(
                lambda ax: plot_auc(found.y, found.risk, ax=ax, time_label=unit),
                "Line of the area under the ROC curve against time, with its 95 % band, and a "
                "dashed line at 0.5.",
                "Discrimination over time: AUC(t) with pointwise 95 % intervals.",
            )
        ],
        "The AUC over time",
    )
    blocks += either(
        lambda: [
            draw(
                lambda ax: plot_brier(found.y, curves, ax, time_label=unit),
                "Brier score of the model and of the Kaplan-Meier curve against time.",
                "Error over time: the model's Brier score beside that of the Kaplan-Meier curve, "
                "which tells all rows the same. Lower is better.",
            )
        ],
        "The Brier score over time",
    )
    return blocks


def _predicted(found: Evidence) -> Block:
    def on(ax: Any) -> None:
        ax.plot(found.risk, found.y, "o", markersize=3, alpha=0.5, markeredgewidth=0)
        ends = [min(found.risk.min(), found.y.min()), max(found.risk.max(), found.y.max())]
        ax.plot(ends, ends, color="0.5", linestyle="--", linewidth=0.9)
        ax.set(xlabel="predicted", ylabel="observed")

    return draw(
        on,
        "Scatter of observed against predicted values around the diagonal.",
        "Observed against predicted values; on the dashed line they agree.",
        pixels=len(found) > 2000,
    )


def _ranks(found: Evidence) -> np.ndarray:
    """Return risks that can be put together: of folds, the ranks within each."""
    if found.folds is None:
        return found.risk
    by_fold = pd.Series(found.risk).groupby(found.folds)
    return ((by_fold.rank() - 0.5) / by_fold.transform("size")).to_numpy()


def _groups_in_words(found: Evidence) -> str:
    order = np.array_split(np.argsort(_ranks(found), kind="stable"), 3)
    texts = []
    for name, rows in zip(("low", "medium", "high"), order, strict=True):
        mine = found.y.take(rows)
        curve = kaplan_meier(mine.time, mine.event, mine.entry if mine.delayed else None)
        texts.append(f"{name} {float(curve(found.time)):.0%}")
    return f"Surviving at {found.time:g} {found.unit}: {', '.join(texts)}."
