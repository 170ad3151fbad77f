"""Whether predicted risks agree with observed ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.evaluation import plot_quantile_reliability
from mmfusion.interpret.plots import plot_calibration
from mmfusion.interpret.report.blocks import Block, Section, Table, Text, draw, interval
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.performance import an_event_each
from mmfusion.interpret.tables import PaperTable
from mmfusion.metrics import (
    CauseCalibration,
    cause_calibration,
    quantile_reliability,
    survival_calibration,
)

__all__ = ["calibration", "calibration_section"]


def calibration(found: Evidence) -> pd.DataFrame:
    """Return slope and other numbers of calibration with their intervals."""
    if found.cause is not None:
        return _of_cause(found).table
    if found.task == "survival":
        assert found.curves is not None
        return survival_calibration(found.y, found.curves[[found.time]]).table
    if found.task == "regression":
        x, y = found.risk, found.y
        return _line(x, y)
    if found.event_risk is None:
        raise ValueError("Of several classes each has a calibration of its own: see Calibration.")
    return _logistic_calibration(found.event_risk, found.positive)


def calibration_section(found: Evidence) -> Section:
    """Return the section of how predicted risks agree with observed ones."""
    section = Section("calibration", "Calibration")
    section.blocks += an_event_each(found.of_events(), _shown, "Calibration")
    return section


def _of_cause(found: Evidence) -> CauseCalibration:
    assert found.time is not None
    assert found.cause is not None
    return cause_calibration(found.y, found.risk, found.time, found.cause)


def _shown(found: Evidence) -> Sequence[Block]:
    """Return the table and the curve."""
    table = calibration(found)
    by = f" by {found.time:g} {found.unit}" if found.task == "survival" else ""
    numbers = found.task == "regression"
    asked = "Do predicted numbers" if numbers else f"Do predicted risks{by}"
    rows = [
        (
            0,
            [
                CALIBRATION.get(str(name), (str(name), ""))[0],
                interval(row),
                CALIBRATION.get(str(name), ("", ""))[1],
            ],
        )
        for name, row in table.iterrows()
    ]
    heads = ["number", "value [95 %]", "what it says"]
    blocks: list[Block] = [
        Text.of(f"{asked} agree with what was observed?"),
        Table(PaperTable(heads, rows, f"Calibration{found.named}")),
    ]
    slope = table.loc["slope"]
    if found.cause is not None:
        groups = _of_cause(found).groups
        blocks.append(
            draw(
                lambda ax: draw_groups(ax, groups),
                f"Observed incidence of cause {found.cause} against its mean predicted risk{by} in "
                f"{len(groups)} groups of like predictions, with 95 % intervals and the diagonal.",
                f"Observed incidence (Aalen-Johansen) of cause {found.cause} against the mean "
                f"predicted one{by}, in {len(groups)} groups of like predictions, with 95 % "
                "intervals; on the dashed line they agree.",
                (4.6, 4.6),
            )
        )
    elif found.task == "survival":
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
                lambda ax: draw_groups(ax, _tenths(risk, positive)),
                "Observed share against mean predicted risk in tenths of the rows.",
                "Observed share against mean predicted risk, in tenths of the rows, with 95 % "
                "intervals; on the dashed line they agree.",
                (4.6, 4.6),
            )
        )
    elif hasattr(found.model, "predict_distribution") and len(found.parts) == 1:
        blocks.append(_quantiles(found))
    return blocks


def _quantiles(found: Evidence) -> Block:
    """Return the figure of how often outcomes lie below the quantiles of their distributions."""
    table = quantile_reliability(found.y, found.model.predict_distribution(found.X))
    lowest, highest = table.index[0], table.index[-1]
    return draw(
        lambda ax: plot_quantile_reliability(table, ax),
        "Share of outcomes below each predicted quantile against its level, with 95 % intervals "
        f"and the diagonal: {table['observed'].iloc[0]:.0%} below the {lowest:.0%} quantile, "
        f"{table['observed'].iloc[-1]:.0%} below the {highest:.0%} quantile.",
        "How often outcomes lie below predicted quantiles, with pointwise 95 % intervals; on the "
        "dashed line as often as predicted.",
        (4.6, 4.6),
    )


CALIBRATION = {
    "slope": ("slope", "1 is right; below 1 predictions are too extreme"),
    "intercept": ("intercept", "0 is right; above 0 predictions are too low"),
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


def _tenths(risk: np.ndarray, positive: np.ndarray) -> pd.DataFrame:
    """Return predicted and observed shares in tenths of the rows."""
    order = np.array_split(np.argsort(risk, kind="stable"), min(10, max(2, len(risk) // 10)))
    predicted = np.array([risk[rows].mean() for rows in order])
    observed = np.array([positive[rows].mean() for rows in order])
    n = np.array([len(rows) for rows in order])
    half = 1.96 * np.sqrt(np.maximum(observed * (1 - observed), 0.25 / n) / n)
    bounds = {"lower": np.maximum(observed - half, 0), "upper": np.minimum(observed + half, 1)}
    return pd.DataFrame({"predicted": predicted, "observed": observed, **bounds})


def draw_groups(ax: Any, groups: pd.DataFrame) -> None:
    """Draw observed against predicted risks of groups, with their intervals."""
    highest = float(min(1.0, 1.08 * groups[["predicted", "upper"]].max().max()))
    ax.plot([0, 1], [0, 1], color="0.6", linestyle="--", linewidth=0.8)
    ax.vlines(groups["predicted"], groups["lower"], groups["upper"])
    ax.plot(groups["predicted"], groups["observed"], "o")
    ends = (0, highest)
    ax.set(xlabel="predicted risk", ylabel="observed share", xlim=ends, ylim=ends)
    ax.set_aspect("equal")
