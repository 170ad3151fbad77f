"""How well the model predicts rows it has not seen: scores, calibration, decisions, subgroups."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.interpret.plots import (
    plot_auc,
    plot_brier,
    plot_calibration,
    plot_decision,
    plot_risk_groups,
)
from mmfusion.interpret.report.blocks import Block, Missing, Section, Table, Text, draw, either
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.participants import columns_shown, presence_of
from mmfusion.interpret.tables import PaperTable
from mmfusion.metrics import net_benefit, score_interval, survival_calibration
from mmfusion.survival import kaplan_meier

__all__ = [
    "calibration",
    "calibration_section",
    "decisions",
    "main_score",
    "performance",
    "scores",
    "subgroups_section",
]

#: Fewer rows, or events, are no subgroup.
LEAST_ROWS, LEAST_EVENTS = 20, 5
#: How each main score is called, and what it says.
MAIN = {
    "survival": ("harrell", "Concordance (Harrell's C)", "1 ranks all pairs right, 0.5 by chance"),
    "classification": ("roc_auc", "Area under the ROC curve", "1 is perfect, 0.5 chance"),
    "regression": ("r2", "Variance explained (R²)", "1 is perfect, 0 no better than the mean"),
}


def main_score(found: Evidence, rows: np.ndarray | None = None, **options: Any) -> pd.DataFrame:
    """Return the main score of the rows with its interval (of several classes the accuracy)."""
    chosen = np.arange(len(found)) if rows is None else rows
    metric = main_metric(found)
    own = dict(options)
    if found.task == "survival":
        y: Any = found.y.take(chosen)
        if found.folds is not None:
            own["strata"] = found.folds[chosen]
    else:
        y = found.y[chosen]
    return score_interval(metric, y, ranking(found)[chosen], **own)


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
    metric = main_metric(found)
    if metric == "accuracy":
        name, says = "Accuracy", "share of rows whose class is right"
    else:
        _, name, says = MAIN[found.task]
    made = [(name, main_score(found).iloc[0], says)]
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
        loss = score_interval("log_loss", found.y, found.probabilities)
        made.append(("log loss", loss.iloc[0], "lower is better"))
        if metric != "accuracy":
            classes = np.asarray(found.model.classes_)[found.probabilities.argmax(axis=1)]
            made.append(
                ("accuracy", score_interval("accuracy", found.y, classes).iloc[0], "at risk 0.5")
            )
    else:
        rmse = score_interval("rmse", found.y, found.risk)
        made.append(("root mean squared error", rmse.iloc[0], "in the unit of the outcome"))
    return made


def performance(found: Evidence) -> Section:
    """Return the section of scores."""
    section = Section("performance", "Performance on rows the model has not seen")
    section.blocks.append(Text.of(found.source))

    def table() -> Sequence[Block]:
        rows = [(0, [name, _interval(row), says]) for name, row, says in scores(found)]
        heads = ["score", "value [95 % interval]", "what it says"]
        notes = [
            "Intervals are of these rows' chance: what the same model would score in other rows of "
            "the same kind (infinitesimal jackknife)."
        ]
        return [Table(PaperTable(heads, rows, "Scores", notes))]

    section.blocks += either(table, "Scores")
    if found.task == "survival":
        section.blocks += _over_time(found)
    elif found.task == "regression":
        section.blocks += [_predicted(found)]
    return section


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


def calibration(found: Evidence) -> pd.DataFrame:
    """Return slope and other numbers of calibration with their intervals."""
    if found.task == "survival":
        assert found.curves is not None
        return survival_calibration(found.y, found.curves[[found.time]]).table
    if found.task == "regression":
        x, y = found.risk, found.y
        return _line(x, y)
    if found.event_risk is None:
        raise ValueError("Calibration of more than two classes is not reported yet.")
    return _logistic_calibration(found.event_risk, found.positive)


def calibration_section(found: Evidence) -> Section:
    """Return the section of how predicted risks agree with observed ones."""
    section = Section("calibration", "Calibration")

    def made() -> Sequence[Block]:
        table = calibration(found)
        by = f" by {found.time:g} {found.unit}" if found.task == "survival" else ""
        rows = [
            (
                0,
                [
                    CALIBRATION.get(str(name), (str(name), ""))[0],
                    _interval(row),
                    CALIBRATION.get(str(name), ("", ""))[1],
                ],
            )
            for name, row in table.iterrows()
        ]
        heads = ["number", "value [95 % interval]", "what it says"]
        blocks: list[Block] = [
            Text.of(f"Do predicted risks{by} agree with what was observed?"),
            Table(PaperTable(heads, rows, "Calibration")),
        ]
        slope = table.loc["slope"]
        if found.task == "survival":
            assert found.curves is not None
            one = survival_calibration(found.y, found.curves[[found.time]])
            blocks.append(
                draw(
                    lambda ax: plot_calibration(one, ax),
                    f"Calibration curve: observed against predicted risk{by}, slope "
                    f"{slope['score']:.2f}, with a 95 % band around the curve and the diagonal.",
                    f"Observed against predicted risk{by}; on the dashed line they agree. Bars "
                    "below: how often each risk is predicted.",
                    (4.6, 4.6),
                )
            )
        elif found.event_risk is not None:
            risk, positive = found.event_risk, found.positive
            blocks.append(
                draw(
                    lambda ax: _draw_deciles(ax, risk, positive),
                    "Observed share against mean predicted risk in tenths of the rows.",
                    "Observed share against mean predicted risk, in tenths of the rows, with 95 % "
                    "intervals; on the dashed line they agree.",
                    (4.6, 4.6),
                )
            )
        return blocks

    section.blocks += either(made, "Calibration")
    return section


CALIBRATION = {
    "slope": ("slope", "1 is right; below 1 predictions are too extreme"),
    "intercept": ("intercept", "0 is right; above 0 risks are predicted too low"),
    "O/E": ("observed / expected", "1 is right"),
    "ICI": ("ICI", "mean distance of the curve from the diagonal"),
    "E50": ("E50", "median distance"),
    "E90": ("E90", "nine in ten rows are closer"),
}


def _logistic_calibration(risk: np.ndarray, positive: np.ndarray) -> pd.DataFrame:
    """Return slope and intercept of the logits of risk (Cox 1958), and observed by expected."""
    clipped = np.clip(risk, 1e-9, 1 - 1e-9)
    logit = np.log(clipped / (1 - clipped))
    y = positive.astype(np.float64)
    beta, covariance = _newton(np.column_stack([np.ones(len(y)), logit]), y)
    rows = {"slope": _wald(beta[1], covariance[1, 1])}
    alpha, variance = _newton(np.ones((len(y), 1)), y, logit)
    rows["intercept"] = _wald(alpha[0], variance[0, 0])
    ratio = y.mean() / clipped.mean()
    se = np.sqrt((1 - y.mean()) / (len(y) * max(y.mean(), 1e-9)))
    bounds = ratio * np.exp(np.array([-1.96, 1.96]) * se)
    rows["O/E"] = (ratio, ratio * se, *bounds)
    return pd.DataFrame.from_dict(rows, orient="index", columns=["score", "se", "lower", "upper"])


def _newton(
    x: np.ndarray, y: np.ndarray, offset: np.ndarray | float = 0.0
) -> tuple[np.ndarray, np.ndarray]:
    beta = np.zeros(x.shape[1])
    for _ in range(50):
        p = 1 / (1 + np.exp(-(x @ beta + offset)))
        information = (x * (p * (1 - p))[:, None]).T @ x + 1e-10 * np.eye(x.shape[1])
        step = np.linalg.solve(information, x.T @ (y - p))
        beta += np.clip(step, -2, 2)
        if np.abs(step).max() < 1e-10:
            break
    return beta, np.linalg.inv(information)


def _wald(value: float, variance: float) -> tuple[float, float, float, float]:
    se = float(np.sqrt(variance))
    return float(value), se, float(value - 1.959964 * se), float(value + 1.959964 * se)


def _line(x: np.ndarray, y: np.ndarray) -> pd.DataFrame:
    design = np.column_stack([np.ones(len(x)), x])
    coef, *_ = np.linalg.lstsq(design, y, rcond=None)
    left = y - design @ coef
    variance = left @ left / (len(y) - 2) * np.linalg.pinv(design.T @ design)
    difference = y - x
    rows = {
        "slope": _wald(coef[1], variance[1, 1]),
        "intercept": _wald(difference.mean(), difference.var(ddof=1) / len(y)),
    }
    return pd.DataFrame.from_dict(rows, orient="index", columns=["score", "se", "lower", "upper"])


def _draw_deciles(ax: Any, risk: np.ndarray, positive: np.ndarray) -> None:
    order = np.array_split(np.argsort(risk, kind="stable"), min(10, max(2, len(risk) // 10)))
    predicted = np.array([risk[rows].mean() for rows in order])
    observed = np.array([positive[rows].mean() for rows in order])
    n = np.array([len(rows) for rows in order])
    half = 1.96 * np.sqrt(np.maximum(observed * (1 - observed), 0.25 / n) / n)
    ax.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=0.8)
    ax.vlines(predicted, np.maximum(observed - half, 0), np.minimum(observed + half, 1))
    ax.plot(predicted, observed, "o")
    ax.set(xlabel="predicted risk", ylabel="observed share", xlim=(0, 1), ylim=(0, 1))
    ax.set_aspect("equal")


def decisions(found: Evidence) -> Section:
    """Return the section of net benefit."""
    section = Section("decisions", "Decision curve")

    def made() -> Sequence[Block]:
        risk = found.event_risk
        if risk is None:
            raise ValueError("A decision curve is of one event: a survival time or two classes.")
        survival = found.task == "survival"
        y: Any = found.y if survival else found.positive
        table = net_benefit(y, risk, time=found.time if survival else None)
        by = f" by {found.time:g} {found.unit}" if survival else ""
        better = table["model"] > np.maximum(table["all"], 0) + 1e-12
        said = "At no threshold is it above both acting on everyone and acting on nobody."
        if better.any():
            run = (better != better.shift()).cumsum()[better]  # the longest without a gap
            where = run.index[run == run.value_counts().idxmax()]
            said = (
                "It is above both acting on everyone and acting on nobody between thresholds of "
                f"{where.min():.0%} and {where.max():.0%}."
            )
        return [
            Text.of(
                "If one acts (treats, refers, follows more closely) on every patient whose risk"
                f"{by} exceeds a threshold, net benefit counts true positives, less false "
                f"positives at the odds of that threshold. {said}"
            ),
            draw(
                lambda ax: plot_decision(table, ax),
                f"Net benefit of acting on the model's risk{by} against the threshold, beside "
                f"acting on everyone and on nobody. {said}",
                "Decision curve. The highest line at a threshold is the best policy for who would "
                "act at it.",
            ),
        ]

    section.blocks += either(made, "The decision curve")
    return section


def subgroups_section(found: Evidence, names: Sequence[str] | None) -> Section:
    """Return the section of the main score in subgroups."""
    section = Section("subgroups", "Subgroups and fairness")
    unknown = [name for name in names or () if name not in found.X]
    if unknown:
        raise ValueError(f"The subgroups parameter must name columns of X. Got {unknown}.")

    def made() -> Sequence[Block]:
        rows, drawn = [], []
        for name, labels in _subgroups(found, names).items():
            for level in sorted(labels.dropna().unique(), key=str):
                mine = np.flatnonzero((labels == level).to_numpy())
                events = found.y.event[mine].sum() if found.task == "survival" else len(mine)
                label = f"{name}: {level}"
                if len(mine) < LEAST_ROWS or events < LEAST_EVENTS:
                    rows.append((0, [label, f"{len(mine):,}", "too few to score"]))
                    continue
                try:
                    score = main_score(found, mine).iloc[0]
                except ValueError:
                    rows.append((0, [label, f"{len(mine):,}", "not defined"]))
                    continue
                rows.append((0, [label, f"{len(mine):,}", _interval(score)]))
                drawn.append((label, score))
        if not rows:
            raise ValueError("No column has a few levels: say subgroups=.")
        _, title, _ = MAIN[found.task]
        whole = main_score(found).iloc[0]
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

    section.blocks += either(made, "Subgroups")
    return section


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


def _interval(row: Any) -> str:
    value, lower, upper = (float(row[name]) for name in ("score", "lower", "upper"))
    if np.isnan(lower):
        return f"{value:.3f}"
    return f"{value:.3f} [{lower:.3f}, {upper:.3f}]"
