"""What the software itself says to the items of the TRIPOD+AI table, and what comes first."""

from __future__ import annotations

import re
from html import unescape
from typing import Any

import numpy as np

from mmfusion.interpret.report.blocks import Section, interval
from mmfusion.interpret.report.calibration import calibration
from mmfusion.interpret.report.described import equation, in_words
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.report.needed import verdict
from mmfusion.interpret.report.participants import columns_shown, events_in_words, presence_of
from mmfusion.interpret.report.performance import scores

__all__ = ["answers", "first_numbers", "warnings_of"]

#: A column, or a modality, that more rows lack is pointed at.
MUCH_MISSING = 0.2


def answers(found: Evidence, subgroups: Section) -> dict[str, str]:
    """Return what the software knows, by the names that `tripod.ITEMS` has for it."""
    model, n = found.model, len(found)
    seen = model.seen_
    trained = "" if seen is None else f"{seen.n_rows:,} rows"
    events = ""
    if seen is not None and seen.n_events is not None:
        trained += f" ({seen.n_events:,} events)"
    if found.task == "survival":
        events = f" ({events_in_words(found)})"
    judged = f"{n:,} rows{events}"
    columns = ", ".join(map(str, columns_shown(found))) or "none"
    time = f" by {found.time:g} {found.unit}" if found.task == "survival" else ""
    outputs = {
        "survival": f"a risk score, and the probability of surviving any time (shown{time})",
        "classification": "the probability of each class",
        "regression": "the expected value",
    }
    known = {
        "title": f"{type(model).__name__}: {_outcome(found)} predicted from {_inputs(model)}.",
        "summary": " ".join(
            f"{name}: {value} ({says})." for name, value, says in first_numbers(found)
        ),
        "aim": f"The model was fitted on {trained or 'rows of which nothing is kept'} and judged "
        f"on {judged}.",
        "sources": f"Fitted on {trained or 'unknown'}; judged on {judged}.",
        "preparation": _preparation(model),
        "outcome": _outcome(found) + ".",
        "predictors": f"Offered to the model: {_inputs(model)}.",
        "sample_size": " ".join(
            f"{verdict(one)[0]}{one.named}" if one.named else verdict(one)[0]
            for one in found.of_causes()
        ),
        "missing": _missing(found),
        "split": found.source,
        "forms": _forms(model),
        "building": " ".join(in_words(model)),
        "clusters": _clusters(model),
        "measures": _measures(found),
        "updating": "The model was not updated after it was judged.",
        "formula": "The fitted estimator computes predictions; saved with save(), it holds no "
        "executable code and loads elsewhere. In symbols: " + _plain(equation(model)) + ".",
        "imbalance": "Nothing was resampled or reweighted, so that predicted risks stay those of "
        "the data.",
        "fairness": "Performance is shown in subgroups.",
        "output": f"The model gives {outputs[found.task]}. No threshold is built in.",
        "differences": _differences(found),
        "software": ", ".join(f"{name} {version}" for name, version in _versions(model).items())
        + ".",
        "flow": "See Participants.",
        "characteristics": f"See Table 1 (columns: {columns}).",
        "numbers": f"Fitted on {trained or 'unknown'}; judged on {judged}.",
        "specification": "See The model and Effects of the columns; networks are given by the "
        "saved estimator.",
        "performance": " ".join(
            f"{name}{one.named} {interval(row)}."
            for one in found.of_causes()
            for name, row, _ in scores(one)
        )
        + " Subgroups: see the section of this name.",
        "limitations": " ".join(warnings_of(found)),
        "use": "Rows without a modality are predicted from the others; missing numbers of a table "
        "are imputed as in training; what the formula reads must be there.",
    }
    if found.task == "survival":
        from mmfusion.survival import median_follow_up

        middle = median_follow_up(found.y.time, found.y.event)
        shown = "not reached" if np.isnan(middle) else f"{middle:.3g} {found.unit}"
        known["follow_up"] = f"Median follow-up of the rows judged on: {shown}."
    return known


def first_numbers(found: Evidence) -> list[tuple[str, str, str]]:
    """Return the numbers that are to be seen first: name, value, what it says."""
    events = events_in_words(found) if found.task == "survival" else "rows"
    items = [("judged on", f"{len(found):,}", events)]
    for one in found.of_causes():
        name, row, says = scores(one)[0]
        if one.cause is not None:
            name, says = f"concordance{one.named}", "1 ranks all pairs right, 0.5 by chance"
        bounds = f"{row['lower']:.2f} to {row['upper']:.2f}"
        items.append((name, f"{row['score']:.2f}", f"{bounds}; {says}"))
        slope = _slope(one)
        if slope is not None:
            bounds = f"{slope['lower']:.2f} to {slope['upper']:.2f}"
            items.append(
                (f"calibration slope{one.named}", f"{slope['score']:.2f}", f"{bounds}; 1 is right")
            )
    verdicts = [verdict(one)[1] for one in found.of_causes()]
    size = "not known" if None in verdicts else "enough" if all(verdicts) else "too few"
    items.append(("training rows", size, "by Riley et al.'s criteria"))
    return items


def _slope(found: Evidence) -> Any:
    """Return the calibration slope with its interval; None where there is none."""
    try:
        slope = calibration(found).loc["slope"]
    except ValueError:  # its section says why
        return None
    return slope if np.isfinite(slope["score"]) else None


def warnings_of(found: Evidence) -> list[str]:
    """Return what a reader should look at before believing the model."""
    said = []
    for one in found.of_causes():
        said += _of_event(one)
    for name, there in presence_of(found).items():
        if there.mean() < 1 - MUCH_MISSING:
            said.append(f"{1 - there.mean():.0%} of the rows judged on lack {name}.")
    for column in columns_shown(found):
        share = float(found.X[column].isna().mean())
        if share > MUCH_MISSING:
            said.append(f"{share:.0%} of the rows judged on lack a value of {column}.")
    return said


def _of_event(found: Evidence) -> list[str]:
    """Return what to look at of one event: of a cause, under its name."""
    said, of = [], found.named
    _, row, _ = scores(found)[0]
    chance = {"survival": 0.5, "classification": 0.5, "regression": 0.0}[found.task]
    two = found.task != "classification" or found.probabilities.shape[1] == 2
    if two and row["lower"] <= chance:
        said.append(f"The rows do not show that the model ranks better than chance{of}.")
    slope = _slope(found)
    if slope is not None and slope["upper"] < 1:
        said.append(f"Predictions are too extreme (calibration slope below 1){of}.")
    elif slope is not None and slope["lower"] > 1:
        said.append(f"Predictions are too cautious (calibration slope above 1){of}.")
    words, enough = verdict(found)
    if enough is False:
        said.append(f"{found.name.capitalize()}: {words}" if of else words)
    if found.task == "survival" and found.event.sum() < 100:
        said.append(
            f"There are {int(found.event.sum())} events{of} among the rows judged on; with fewer "
            "than 100, scores and calibration are known roughly."
        )
    return said


def _outcome(found: Evidence) -> str:
    if found.task == "survival":
        what = "an event"
        if found.incidence:
            causes = ", ".join(f"cause {cause}" for cause in found.incidence)
            what = f"the first of several events ({causes})"
        return f"time to {what}, in {found.unit}; risks are shown by {found.time:g}"
    if found.task == "classification":
        return "the class: " + ", ".join(map(str, found.model.classes_))
    return "a number"


def _inputs(model: Any) -> str:
    parts = [
        f"{name} ({type(modality).__name__.lower()}, {len(modality.columns_)} column"
        f"{'s' * (len(modality.columns_) > 1)})"
        for name, modality in model.modalities_.items()
    ]
    columns = model.model_.structured.columns
    if columns and model.inference_ is not None:
        parts.append(f"the formula's columns ({', '.join(map(str, columns))})")
    return "; ".join(parts)


def _measures(found: Evidence) -> str:
    if found.task == "regression":
        return (
            f"{', '.join(name for name, _, _ in scores(found))}, and calibration, with 95 % "
            "intervals, and variance explained in subgroups: see the sections of these names."
        )
    return (
        "Discrimination, overall error and calibration with 95 % intervals, net benefit, and "
        "discrimination in subgroups: see the sections of these names."
    )


def _preparation(model: Any) -> str:
    said = "Preparation is part of the model, and was learned from training rows alone"
    kinds = ", ".join(f"{n}: {type(m).__name__}" for n, m in model.modalities_.items())
    return f"{said} ({kinds})." if kinds else f"{said}."


def _missing(found: Evidence) -> str:
    parts = [
        f"{name} missing in {(~there).sum():,} rows ({(~there).mean():.0%})"
        for name, there in presence_of(found).items()
        if not there.all()
    ]
    holes = [
        f"{column} {found.X[column].isna().mean():.0%}"
        for column in columns_shown(found)
        if found.X[column].isna().any()
    ]
    said = "Absent modalities count as absent, with a mask. "
    if parts:
        said += f"Of the rows judged on, {'; '.join(parts)}. "
    return said + (f"Missing values: {', '.join(holes)}." if holes else "No other missing values.")


def _forms(model: Any) -> str:
    formulas = model._formulas()
    said = "" if formulas is None else f"Formula: {formulas}. "
    return said + "Numbers that networks read are scaled by their training rows."


def _clusters(model: Any) -> str:
    if model.cluster is None and model.id is None:
        return "Rows are taken as independent (no cluster= or id= was named)."
    named = model.cluster if model.cluster is not None else model.id
    return f"Rows of the same {named} stay together, and standard errors allow for it."


def _differences(found: Evidence) -> str:
    seen = found.model.seen_
    if seen is None or found.folds is not None or not found.parts:
        return "The rows judged on are those of the same study."
    shares = []
    if seen.n_events is not None:
        own = found.event.mean()
        shares.append(f"events {seen.n_events / seen.n_rows:.0%} in training, {own:.0%} here")
    for name, there in presence_of(found).items():
        before = seen.presence.get(name, 0) / seen.n_rows
        shares.append(f"{name} {before:.0%} in training, {there.mean():.0%} here")
    return "; ".join(shares) + "." if shares else "Not compared: training rows are not kept."


def _versions(model: Any) -> dict[str, str]:
    import mmfusion

    known = {} if model.seen_ is None else model.seen_.versions
    return {"mmfusion": mmfusion.__version__, **known}


def _plain(html: str) -> str:
    return unescape(re.sub(r"<[^>]+>", "", html))
