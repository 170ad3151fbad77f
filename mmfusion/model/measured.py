"""What two arms are compared by: curves up to a horizon, risks, means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from mmfusion.inputs.messages import name_rows
from mmfusion.inputs.parameters import check_number
from mmfusion.inputs.times import as_times, check_clock
from mmfusion.model.censoring import LEAST, censoring_curves, last_time
from mmfusion.model.fit import Model
from mmfusion.model.roles import role_column
from mmfusion.model.study import Sample, Study
from mmfusion.survival import Survival, check_survival
from mmfusion.survival.augmented import area, augmented_curves, own_curves
from mmfusion.survival.outcome import snap

__all__ = ["Curves", "Measured", "Numbers", "Quantity", "measure"]

#: Events (of classes: rows of each) that an arm must have.
FEWEST = 10
#: Times at which adjusted curves are kept at most.
SHOWN = 200


class Quantity(NamedTuple):
    """A line of the table: its name, time, column among the values, and scale."""

    effect: str
    time: float
    column: int
    scale: str


class Measured(ABC):
    """An outcome of two arms: values of rows whose means are what an arm would have had.

    Attributes
    ----------
    labels : ndarray of int, shape (n,)
        What folds are balanced by, within an arm.
    quantities : list of Quantity
    """

    labels: np.ndarray
    quantities: list[Quantity]
    #: Whether arms that chance dealt have a marginal hazard ratio.
    compares_hazards = False
    #: Times at which curves are shown, with a column each among the values.
    shown: np.ndarray | None = None

    @abstractmethod
    def plain(self, arm: int, inverse_chance: np.ndarray) -> np.ndarray:
        """Return the values of all rows without a model, (n, m): the arm's own curve or mean."""

    @abstractmethod
    def values(
        self, model: Model, sample: Sample, rows: np.ndarray, arm: int, inverse_chance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return the values of rows that a model did not see, and what it expects of the last.

        The former have the shape (n_rows, m), the latter (n_rows,).

        Parameters
        ----------
        sample : Sample
            These rows, each in the arm.
        rows : ndarray of int
        inverse_chance : ndarray, shape (n,)
            Of all rows: one over the chance of the arm, 0 for those that are not in it.
        """

    def prognosis(self, model: Model, sample: Sample) -> np.ndarray:
        """Return what a model says of untreated rows that a hazard ratio is adjusted for."""
        return np.zeros((len(sample), 0))


class Numbers(Measured):
    """A number, or the second of two classes: its mean in each arm."""

    def __init__(self, study: Study, treated: np.ndarray, unit: str) -> None:
        self.response = np.asarray(study.head.response(study.all.target), dtype=np.float64)
        self.classes = unit == "risk"
        self.labels = self.response.astype(int) if self.classes else np.zeros(len(treated), int)
        self.treated = treated
        scales = ("difference", "ratio", "odds ratio") if self.classes else ("difference",)
        self.quantities = [
            Quantity(scale if scale == "odds ratio" else f"{unit} {scale}", np.nan, 0, scale)
            for scale in scales
        ]
        kinds = {f"class {k!r}": self.labels == k for k in (0, 1)} if self.classes else {}
        refuse_few(treated, kinds or {"rows": np.ones(len(treated), dtype=bool)})

    def plain(self, arm: int, inverse_chance: np.ndarray) -> np.ndarray:
        mean = self.response[self.treated == arm].mean()
        return (mean + inverse_chance * (self.response - mean))[:, None]

    def values(
        self, model: Model, sample: Sample, rows: np.ndarray, arm: int, inverse_chance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        eta = model.predictor(sample.table, subjects=sample.subjects)
        mean = model.head.expectation(eta)
        return (mean + inverse_chance[rows] * (self.response[rows] - mean))[:, None], mean


class Curves(Measured):
    """A time to an event: survival, incidence and restricted mean in each arm."""

    def __init__(
        self,
        study: Study,
        treated: np.ndarray,
        outcome: Survival,
        horizon: float,
        times: np.ndarray,
        censoring: str,
        context: dict[str, Any],
    ) -> None:
        self.outcome, self.treated, self.horizon, self.context = outcome, treated, horizon, context
        table = study.all.table
        seen = (outcome.event > 0) & (outcome.time <= horizon)
        refuse_few(treated, {"events": seen})
        self.grid = np.unique(outcome.time[seen])
        self.n_causes = int(np.max(outcome.event))
        self.compares_hazards = self.n_causes == 1
        self.labels = np.asarray(outcome.event, dtype=int)
        times = snap(times, self.grid)
        early = times < self.grid[0]
        if early.any():
            raise ValueError(
                f"The times parameter must not lie before the first event, at {self.grid[0]:g}. "
                f"Got {times[early][0]:g}."
            )
        places = np.searchsorted(self.grid, times, side="right") - 1
        step = max(1, -(-len(self.grid) // SHOWN))
        self.keep = np.union1d(places, np.arange(0, len(self.grid), step))
        self.shown = self.grid[self.keep]
        self.censoring = censoring_curves(censoring, table, outcome, treated, self.grid)
        self.quantities = self._quantities(times, np.searchsorted(self.keep, places))

    def _quantities(self, times: np.ndarray, columns: np.ndarray) -> list[Quantity]:
        shown, found = len(self.keep), []
        for time, column in zip(times.tolist(), columns.tolist(), strict=True):
            for scale in ("difference", "ratio"):
                found.append(Quantity(f"survival {scale}", time, column, scale))
            for cause in range(self.n_causes):
                of = f" of cause {cause + 1}" if self.n_causes > 1 else ""
                at = (1 + cause) * shown + column
                for scale in ("difference", "ratio"):
                    found.append(Quantity(f"incidence {scale}{of}", time, at, scale))
        last = (1 + self.n_causes) * shown
        for scale in ("difference", "ratio"):
            found.append(Quantity(f"restricted mean {scale}", self.horizon, last, scale))
        return found

    def plain(self, arm: int, inverse_chance: np.ndarray) -> np.ndarray:
        own = own_curves(self.outcome.take(self.treated == arm), self.grid, self.n_causes)
        return self._augmented(*own, slice(None), arm, inverse_chance)

    def values(
        self, model: Model, sample: Sample, rows: np.ndarray, arm: int, inverse_chance: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        eta = model.predictor(sample.table, subjects=sample.subjects)
        survival, incidence = self._predicted(model, sample, eta)
        values = self._augmented(survival, incidence, rows, arm, inverse_chance)
        return values, area(survival, self.grid, self.horizon)

    def _predicted(
        self, model: Model, sample: Sample, eta: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        own = {name: role_column(sample.table, name, c) for name, c in self.context.items()}
        survival = model.head.survival(eta, self.grid, **own)
        if self.n_causes == 1:
            return survival, 1 - survival[None]
        causes = range(1, self.n_causes + 1)
        incidence = [model.head.cumulative_incidence(eta, self.grid, cause=c) for c in causes]
        return survival, np.stack(incidence)

    def _augmented(
        self,
        survival: np.ndarray,
        incidence: np.ndarray,
        rows: np.ndarray | slice,
        arm: int,
        inverse_chance: np.ndarray,
    ) -> np.ndarray:
        censoring = self.censoring[arm]
        return augmented_curves(
            survival,
            incidence,
            self.outcome.take(rows),
            self.grid,
            self.horizon,
            inverse_chance[rows],
            censoring if censoring.ndim == 1 else censoring[rows],
            self.keep,
        ).columns()

    def prognosis(self, model: Model, sample: Sample) -> np.ndarray:
        """Return what a model says of untreated rows before treatment, (n_rows, q).

        Its risk, its survival at the horizon and, beside networks, the risk by the formula alone.
        """
        eta = model.predictor(sample.table, subjects=sample.subjects)
        own = {name: role_column(sample.table, name, c) for name, c in self.context.items()}
        at_horizon = model.head.survival(eta, [self.horizon], **own)[:, 0]
        found = [model.head.risk(eta), at_horizon]
        if model.deep.networks and model.structured.complete:
            alone = model.predictor(sample.table, only=[], subjects=sample.subjects)
            found.append(model.head.risk(alone))
        return np.column_stack(found)


def refuse_few(treated: np.ndarray, kinds: dict[str, np.ndarray]) -> None:
    """Raise ValueError where an arm has fewer than `FEWEST` of something."""
    for name, rows in kinds.items():
        for arm, mine in (("control", ~treated), ("treated", treated)):
            count = int((rows & mine).sum())
            if count < FEWEST:
                raise ValueError(
                    f"A marginal effect needs {FEWEST} or more of each arm's {name}, up to the "
                    f"horizon if it has one: fewer make no interval. Got {count} in the {arm} arm."
                )


def measure(
    study: Study,
    treated: np.ndarray,
    y: Any,
    *,
    horizon: float | None,
    times: Sequence[float] | None,
    censoring: str,
    context: dict[str, Any],
    name: str,
) -> Measured:
    """Return what the arms are compared by, as the head of the outcome says.

    Raises
    ------
    ValueError, TypeError
        For an outcome that has neither curves nor a mean, delayed entry, a horizon beyond what is
        known of an arm, too few events.
    """
    unit = study.head.marginal
    if unit is None:
        raise ValueError(
            "A marginal effect is one on survival curves, on the risk of the second of two classes "
            f"or on a mean. Got {name} with predictors {study.head.grid.names}."
        )
    if unit != "survival":
        for parameter, given in (("horizon", horizon), ("times", times)):
            if given is not None:
                raise ValueError(
                    f"The {parameter} parameter is read with survival outcomes alone. "
                    f"Got {given!r}."
                )
        return Numbers(study, treated, unit)
    outcome = check_survival(y, allow_competing=True, index=study.all.table.index)
    late = outcome.entry > 0
    if late.any():
        raise ValueError(
            "A marginal effect is of rows that are all at risk from time 0. Delayed entry in "
            f"{name_rows(study.all.table, late)}."
        )
    if horizon is None:
        raise ValueError(
            "The horizon parameter must be given with survival outcomes: the time up to which "
            "restricted means are taken, chosen before the data are seen."
        )
    check_clock("horizon", horizon)
    check_number("horizon", horizon, 0, open_ends="low and high")
    asked = np.atleast_1d(as_times("times", [horizon] if times is None else times))
    if not len(asked) or not (np.isfinite(asked) & (asked > 0) & (asked <= horizon)).all():
        raise ValueError(
            f"The times parameter must hold times above 0 and up to the horizon, {horizon:g}. "
            f"Got {asked.tolist()}."
        )
    last = min(last_time(outcome.take(treated == arm)) for arm in (False, True))
    if horizon > last:
        raise ValueError(
            f"The horizon parameter must be at most {last:g}: later, fewer than {LEAST:.0%} of an "
            f"arm are not censored yet. Got {horizon:g}."
        )
    return Curves(study, treated, outcome, float(horizon), np.unique(asked), censoring, context)
