"""What a report knows of predictions: all of rows that whoever predicts did not see."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from sklearn.base import clone

from mmfusion.evaluation.folds import survival_stratified_folds
from mmfusion.evaluation.outcomes import check_outcome, for_fit, take
from mmfusion.inputs.labels import check_order
from mmfusion.inputs.messages import shorten
from mmfusion.inputs.parameters import check_number
from mmfusion.metrics import evaluation_times
from mmfusion.metrics.scorers import risk_of
from mmfusion.model import Plan
from mmfusion.model.seen import Alike, refuse_seen
from mmfusion.model.study import encode
from mmfusion.survival import Survival

__all__ = ["Evidence", "gather", "trained_rows"]

#: Where curves are scored.
N_TIMES = 30


@dataclass(eq=False)
class Evidence:
    """Predictions of some rows, with their outcome.

    Attributes
    ----------
    model : estimator
        Whose report it is.
    X : DataFrame, shape (n, p)
    y : Survival, or ndarray, shape (n,)
    task : {"survival", "classification", "regression"}
    source : str
        How it comes that the rows were not seen, in words.
    parts : list of tuple of estimator and ndarray of int
        The models that predict, each with the rows that it did not see; none where predictions
        were given.
    time : float or None
        At which risks of survival are looked at.
    unit : str
        Of time.
    curves : DataFrame or None
        Survival probabilities, a column a time, `time` among them.
    given : DataFrame or ndarray or None
        Predictions that the user brought.
    folds : ndarray or None
        The fold of each row.
    incidence : dict of int to DataFrame
        Cumulative incidences of each of several causes, at the times of `curves`.
    cause : int or None
        The one of several causes that this is of; `curves` are then 1 less its incidence.
    label : object or None
        The one of several classes that is looked at as an event.
    """

    model: Any
    X: pd.DataFrame
    y: Any
    task: str
    source: str
    parts: list[tuple[Any, np.ndarray]]
    time: float | None = None
    unit: str = "time"
    curves: pd.DataFrame | None = None
    given: Any = None
    folds: np.ndarray | None = field(default=None, repr=False)
    incidence: dict[int, pd.DataFrame] = field(default_factory=dict, repr=False)
    cause: int | None = None
    label: Any = None

    def __len__(self) -> int:
        return len(self.X)

    def of_causes(self) -> list[Evidence]:
        """Return the evidence of each of several causes; of one event itself."""
        if not self.incidence or self.cause is not None:
            return [self]
        return [
            replace(self, cause=cause, curves=1 - table) for cause, table in self.incidence.items()
        ]

    def of_events(self) -> list[Evidence]:
        """Return the evidence of each cause, of several classes of each against the others."""
        if self.task != "classification" or self.probabilities.shape[1] == 2:
            return self.of_causes()
        return [replace(self, label=label) for label in self.model.classes_]

    @property
    def name(self) -> str:
        """What the one cause or class is called; empty of one event."""
        if self.label is not None:
            return f"class {self.label}"
        return "" if self.cause is None else f"cause {self.cause}"

    @property
    def named(self) -> str:
        """What a title says of the cause or class, " (cause 2)"; empty of one event."""
        return f" ({self.name})" if self.name else ""

    @property
    def event(self) -> np.ndarray:
        """Which rows have the event (of the cause; any where there are several), bool."""
        kind = np.asarray(self.y.event)
        return kind > 0 if self.cause is None else kind == self.cause

    @property
    def any_event(self) -> Survival:
        """The outcome in which any cause is the event."""
        return Survival(self.y.time, self.y.event > 0, self.y.entry)

    def predict(self, method: Callable[[Any, pd.DataFrame], Any]) -> Any:
        """Return a prediction of each row by the model that did not see it, in the order of X."""
        found = [method(model, self.X.iloc[rows]) for model, rows in self.parts]
        order = np.argsort(np.concatenate([rows for _, rows in self.parts]), kind="stable")
        if isinstance(found[0], pd.DataFrame):
            return pd.concat(found).iloc[order]
        return np.concatenate([np.asarray(part) for part in found])[order]

    @cached_property
    def risk(self) -> np.ndarray:
        """Survival: higher is worse. Two classes: probability of the second. Numbers: the mean.

        Where a distribution of some row has no mean, the medians of all rows, with a warning.
        """
        if self.task == "survival":
            if self.given is not None or self.cause is not None:
                assert self.curves is not None
                return 1 - self.at_time
            return np.asarray(self.predict(risk_of), np.float64)
        if self.task == "classification":
            table = self.probabilities
            return table[:, 1] if table.shape[1] == 2 else table.max(axis=1)
        if self.given is not None:
            return np.asarray(self.given, np.float64).ravel()
        mean = np.asarray(self.predict(lambda m, rows: m.predict(rows)), np.float64)
        if np.isfinite(mean).all():
            return mean
        # Student's t of one degree of freedom and its like: the family has a median all the same.
        warnings.warn(
            "The predicted distributions of some rows have no mean: the report's predictions are "
            "medians.",
            UserWarning,
            stacklevel=2,
        )
        half = self.predict(lambda m, rows: m.predict_quantile(rows, 0.5))
        return np.asarray(half, np.float64).ravel()

    @cached_property
    def probabilities(self) -> np.ndarray:
        """Of each class, shape (n, K)."""
        if self.given is None:
            return np.asarray(self.predict(lambda m, rows: m.predict_proba(rows)))
        values = np.asarray(self.given, np.float64)
        return np.column_stack([1 - values, values]) if values.ndim == 1 else values

    @property
    def at_time(self) -> np.ndarray:
        """Survival probabilities at `time`, shape (n,)."""
        assert self.curves is not None
        return self.curves[self.time].to_numpy(np.float64)

    @property
    def event_risk(self) -> np.ndarray | None:
        """The probability of the event (by `time`), of the second class; None of other outcomes."""
        if self.task == "survival":
            return None if self.curves is None else 1 - self.at_time
        if self.task != "classification":
            return None
        if self.label is not None:
            return np.asarray(self.probabilities[:, list(self.model.classes_).index(self.label)])
        return self.risk if self.probabilities.shape[1] == 2 else None

    @property
    def positive(self) -> np.ndarray:
        """Whether each row has the event, or the second class; None has neither."""
        if self.task == "survival":
            return self.event
        return np.asarray(self.y == (self.model.classes_[1] if self.label is None else self.label))


def gather(
    model: Any,
    X: pd.DataFrame,
    y: Any,
    time: float | None,
    cross_validated: Any,
    unit: str,
    random_state: int,
) -> Evidence:
    """Predict rows that were not seen.

    Raises
    ------
    ValueError
        If some of the rows were trained on; causes that the model does not know; a time beyond the
        follow-up.
    """
    task = _task(model)
    frame = X if isinstance(X, pd.DataFrame) else model._frame(X)
    outcome: Any = check_outcome(y, task, frame)
    if task == "classification" and len(np.unique(outcome)) < 2:
        raise ValueError(
            "The y parameter must hold at least two classes, to be told apart. Got "
            f"{outcome.tolist()[0]!r} in every row."
        )
    causes = [int(cause) for cause in getattr(model, "causes_", [1])]
    if task == "survival" and not set(np.unique(outcome.event)) <= {0, *causes}:
        raise ValueError(
            f"The y parameter must hold the causes {causes} that the model knows. Got "
            f"{np.unique(outcome.event)[1:].tolist()}."
        )
    if len(causes) > 1 and cross_validated is not None and not isinstance(cross_validated, int):
        raise ValueError(
            "The cross_validated parameter must be a number of folds where causes compete: given "
            "curves are of one event."
        )
    found = Evidence(model, frame, outcome, task, "", [], unit=unit)
    if cross_validated is None:
        alike = int(_refuse_trained(model, frame, outcome).rows.sum())
        found.source = "The rows below are new to the model: none of them was trained on."
        if alike:
            found.source = (
                f"The rows below are new to the model as far as is known: {alike} of them look "
                "like a training row in all that it reads and in the outcome, as chance can do."
            )
        found.parts = [(model, np.arange(len(frame)))]
    elif isinstance(cross_validated, int):
        check_number("cross_validated", cross_validated, 2, integer=True)
        found.parts = _cross_fitted(model, frame, outcome, task, cross_validated, random_state)
        found.folds = np.empty(len(frame), dtype=int)
        for number, (_, rows) in enumerate(found.parts):
            found.folds[rows] = number
        found.source = (
            f"{cross_validated}-fold cross-validation: each row is predicted by a model of the "
            "same settings that was fitted without the row's fold. Scores are of these models; the "
            "one that is reported was fitted on all rows and should do about as well."
        )
    else:
        found.given = cross_validated
        if len(cross_validated) != len(frame):
            raise ValueError(
                "The cross_validated parameter must be a number of folds, or hold a prediction for "
                f"each of the {len(frame)} rows. Got {len(cross_validated)}."
            )
        check_order(X=frame, cross_validated=cross_validated)
        found.source = "Predictions were given, of models that did not see the row they predict."
    if task == "survival":
        _curves(found, time)
        if len(causes) > 1:
            _incidences(found, causes)
    return found


def _task(model: Any) -> str:
    if hasattr(model, "predict_survival_function"):
        return "survival"
    return "classification" if hasattr(model, "predict_proba") else "regression"


def trained_rows(model: Any, frame: pd.DataFrame, outcome: Any) -> Alike | None:
    """Return which rows look like training rows of a model; None where it cannot know."""
    if model.seen_ is None:
        return None
    table = model._frame(frame)
    target = encode(model.model_.head.encode, Plan.of(model), table, for_fit(outcome), None)
    found: Alike = model.seen_.alike(table, target, model.model_.columns)
    return found


def _refuse_trained(model: Any, frame: pd.DataFrame, outcome: Any) -> Alike:
    known = trained_rows(model, frame, outcome)
    if known is None:
        raise ValueError(
            "The model does not know which rows it was trained on: it was saved by an earlier "
            "version. Fit it again, or say cross_validated=."
        )
    otherwise = (
        ", or give predictions of models that did not see the rows, as the cross_validated "
        "parameter"
    )
    refuse_seen(known, frame, "A report", otherwise)
    return known


def _cross_fitted(
    model: Any, frame: pd.DataFrame, outcome: Any, task: str, n_folds: int, random_state: int
) -> list[tuple[Any, np.ndarray]]:
    from sklearn.model_selection import GroupKFold, KFold, StratifiedKFold

    group = model.id if model.id is not None else model.cluster
    rows = np.arange(len(frame))
    if group is not None:
        folds = list(GroupKFold(n_folds).split(rows, groups=frame[group]))
    elif task == "survival":
        folds = survival_stratified_folds(outcome, n_folds, random_state=random_state)
    elif task == "classification":
        dealer = StratifiedKFold(n_folds, shuffle=True, random_state=random_state)
        folds = list(dealer.split(rows, outcome))
    else:
        folds = list(KFold(n_folds, shuffle=True, random_state=random_state).split(rows))
    fitted = []
    for train, test in folds:
        own = clone(model).fit(frame.iloc[train], for_fit(take(outcome, train)))
        fitted.append((own, test))
    return fitted


def _incidences(found: Evidence, causes: list[int]) -> None:
    """Predict the incidence of each cause that the rows have, at the times of the curves."""
    assert found.curves is not None
    times = found.curves.columns.to_numpy(np.float64)
    for cause in causes:
        if not (found.y.event == cause).any():
            continue

        def of_cause(model: Any, rows: pd.DataFrame, cause: int = cause) -> pd.DataFrame:
            return model.predict_cumulative_incidence_function(rows, times, cause)

        found.incidence[cause] = found.predict(of_cause)


def _curves(found: Evidence, time: float | None) -> None:
    """Predict survival where it can be scored, and at the time of the report."""
    y = found.any_event
    if isinstance(found.given, pd.DataFrame):
        times = found.given.columns.to_numpy(np.float64)
        if time is not None and time not in times:
            raise ValueError(
                "The time parameter must be one of the times of the given predictions, "
                f"{shorten(times.tolist())}. Got {time:g}."
            )
        found.time = _nearest(times, _usual_time(y) if time is None else time)
        found.curves = found.given.set_axis(times, axis=1)
        return
    if found.given is not None:
        raise ValueError(
            "The cross_validated parameter must be a number of folds, or a DataFrame of survival "
            f"probabilities with a column a time. Got {type(found.given).__name__}."
        )
    found.time = _usual_time(y) if time is None else float(time)
    if not y.time[y.event].min() <= found.time < y.time.max():
        raise ValueError(
            "The time parameter must lie between the first event and the end of follow-up, "
            f"{y.time[y.event].min():g} and {y.time.max():g}. Got {found.time:g}."
        )
    grid = np.unique(np.r_[evaluation_times(y, N_TIMES), found.time])
    with warnings.catch_warnings():  # beyond the training rows' follow-up: not scored
        warnings.simplefilter("ignore")
        curves = found.predict(lambda m, rows: m.predict_survival_function(rows, times=grid))
    found.curves = curves.loc[:, curves.notna().all()]
    if time is None and found.curves.shape[1]:  # the usual time, as near as all models reach
        found.time = _nearest(found.curves.columns.to_numpy(np.float64), found.time)
    if found.time not in found.curves:
        raise ValueError(
            "The time parameter must lie within the follow-up of the training rows. Got "
            f"{found.time:g}; predictions reach {max(found.curves.columns, default=0):g}."
        )


def _usual_time(y: Any) -> float:
    """Return the median time of the events, rounded to two digits."""
    median = float(np.median(y.time[y.event]))
    rounded = float(f"{median:.2g}")
    inside = y.time[y.event].min() <= rounded < y.time.max()
    return rounded if inside else median


def _nearest(times: Sequence[float] | np.ndarray, time: float) -> float:
    return float(np.asarray(times)[np.abs(np.asarray(times) - time).argmin()])
