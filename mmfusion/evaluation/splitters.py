"""Splitters for survival, as scikit-learn has them: ``cv=SurvivalKFold(5)``."""

from __future__ import annotations

import warnings
from collections.abc import Hashable, Iterator
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import check_random_state

from mmfusion.inputs.columns import take_column
from mmfusion.inputs.labels import check_labels
from mmfusion.inputs.messages import shorten
from mmfusion.inputs.parameters import check_number
from mmfusion.survival import Survival, check_survival

__all__ = ["CalendarSplit", "LeaveOneSiteOut", "SurvivalKFold"]


class _Splitter(BaseCrossValidator):
    """What the splitters share: test rows by a method, training rows by default all others."""

    #: Whether `split` is to be given the whole outcome, not a label to stratify by.
    reads_outcome = True

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the training and test rows of each fold.

        Parameters
        ----------
        X : DataFrame or array, n rows
        y : outcome, n rows
        groups : array-like, shape (n,), optional

        Yields
        ------
        train, test : ndarray of int64
        """
        n = len(X)
        for test in self._iter_test_indices(X, y, groups):
            yield self._train(np.setdiff1d(np.arange(n), test), test), test

    def _train(self, others: np.ndarray, test: np.ndarray) -> np.ndarray:
        """Return the training rows; `others` are all that are not tested."""
        return others

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        """Return the number of folds."""
        return sum(1 for _ in self._iter_test_indices(X, y, groups))

    def _labels(self, X: Any, groups: Any, column: Any, name: str) -> np.ndarray | None:
        """Return the labels of a column of `X`, or else the groups."""
        if column is not None:
            groups = take_column(X, column, name)
        return None if groups is None else check_labels(groups, len(X), name)


class SurvivalKFold(_Splitter):
    """Folds alike in their events and in their times, of rows or of subjects; shuffled, repeated.

    Rows of each status (censored, event or each cause) are put in order of time and dealt in
    rounds, one to each fold. So folds have the same number of rows, of events, and of events before
    any time, but for one.

    Parameters
    ----------
    n_splits : int, default=5
    n_repeats : int, default=1
        How often folds are dealt, each time anew.
    group : column name, optional
        Rows that share a value of this column of `X` stay together (visits of a patient): groups
        are dealt, each with its last time and its largest status. By default the `groups` of
        ``split``, if there are any.
    random_state : int, RandomState or None, default=None

    Examples
    --------
    >>> from mmfusion import surv
    >>> from mmfusion.evaluation import SurvivalKFold
    >>> y = surv([1, 2, 3, 4, 5, 6], [1, 1, 0, 1, 1, 0])
    >>> [y[test]["time"].tolist() for _, test in SurvivalKFold(2, random_state=0).split(y, y)]
    [[2.0, 3.0, 5.0], [1.0, 4.0, 6.0]]
    """

    __metadata_request__split: ClassVar = {"groups": True}

    def __init__(
        self,
        n_splits: int = 5,
        n_repeats: int = 1,
        *,
        group: Hashable = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.n_splits = n_splits
        self.n_repeats = n_repeats
        self.group = group
        self.random_state = random_state

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return self.n_splits * self.n_repeats

    def _iter_test_indices(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> Iterator[np.ndarray]:
        check_number("n_splits", self.n_splits, 2, integer=True)
        check_number("n_repeats", self.n_repeats, 1, integer=True)
        outcome = check_survival(y, allow_competing=True, n_rows=len(X))
        labels = self._labels(X, groups, self.group, "groups")
        if labels is None:
            unit, time, status = np.arange(len(X)), outcome.time, outcome.event.astype(np.int64)
        else:
            unit = pd.factorize(labels)[0]
            rows = pd.DataFrame({"time": outcome.time, "status": outcome.event.astype(np.int64)})
            largest = rows.groupby(unit).max()
            time, status = largest["time"].to_numpy(), largest["status"].to_numpy()
        what = "rows" if labels is None else "groups"
        if (status > 0).sum() < self.n_splits:
            raise ValueError(
                "The n_splits parameter must be at most the number of events: a fold without an "
                f"event cannot be scored. Got {self.n_splits} folds of {(status > 0).sum()} {what} "
                f"with an event ({len(time)} {what})."
            )
        rng = check_random_state(self.random_state)
        for _ in range(self.n_repeats):
            fold = _deal(time, status, self.n_splits, rng)
            for number in range(self.n_splits):
                yield np.flatnonzero(fold[unit] == number)


def _deal(
    time: np.ndarray, status: np.ndarray, n_splits: int, rng: np.random.RandomState
) -> np.ndarray:
    """Return the fold of each unit; see `SurvivalKFold`."""
    fold = np.empty(len(time), dtype=np.int64)
    size = np.zeros(n_splits, dtype=np.int64)
    for level in np.unique(status):
        units = rng.permutation(np.flatnonzero(status == level))  # ties in any order
        units = units[np.argsort(time[units], kind="stable")]
        for start in range(0, len(units), n_splits):
            taken = units[start : start + n_splits]
            # The last round is not for all: the smallest folds first, so that sizes stay alike.
            order = rng.permutation(n_splits)
            order = order[np.argsort(size[order], kind="stable")][: len(taken)]
            fold[taken] = rng.permutation(order)
            size[order] += 1
    return fold


class LeaveOneSiteOut(_Splitter):
    """Each site (hospital, region, batch) in turn is predicted from all others.

    Parameters
    ----------
    site : column name, optional
        Of `X`; by default the `groups` of ``split``. (Modalities that are inferred read the column,
        too: name the modalities.)
    min_events : int, default=1
        A survival outcome's site with fewer events cannot be scored: it is trained on in every
        fold, with a warning.

    Examples
    --------
    >>> from mmfusion.evaluation import LeaveOneSiteOut
    >>> sites = ["a", "b", "b", "c"]
    >>> [test.tolist() for _, test in LeaveOneSiteOut().split(sites, groups=sites)]
    [[0], [1, 2], [3]]
    """

    __metadata_request__split: ClassVar = {"groups": True}

    def __init__(self, site: Hashable = None, *, min_events: int = 1) -> None:
        self.site = site
        self.min_events = min_events

    def _iter_test_indices(
        self, X: Any = None, y: Any = None, groups: Any = None
    ) -> Iterator[np.ndarray]:
        labels = self._labels(X, groups, self.site, "site")
        if labels is None:
            raise ValueError(
                "LeaveOneSiteOut needs the site of each row: name its column, "
                "LeaveOneSiteOut('hospital'), or give groups=."
            )
        code, sites = pd.factorize(labels, sort=True)
        if len(sites) < 2:
            raise ValueError(f"LeaveOneSiteOut needs two sites. Got {sites.tolist()}.")
        few = []
        if _is_survival(y):
            outcome = check_survival(y, allow_competing=True, n_rows=len(X))
            events = np.bincount(code, outcome.event > 0, minlength=len(sites))
            few = [number for number, count in enumerate(events) if count < self.min_events]
        if few:
            if len(few) == len(sites):
                raise ValueError(f"No site has {self.min_events} event(s).")
            warnings.warn(
                f"Sites with fewer than {self.min_events} event(s) are trained on only: "
                f"{shorten(sites[few])}.",
                UserWarning,
                stacklevel=3,
            )
        for number in range(len(sites)):
            if number not in few:
                yield np.flatnonzero(code == number)


class CalendarSplit(_Splitter):
    """Later rows are predicted from earlier ones, as a model in use would have to.

    Rows are put in order of a date, and cut into ``n_splits + 1`` periods of about as many rows;
    each but the first is predicted from all before it. Rows of one date stay together.

    Parameters
    ----------
    date : column name
        Of `X`: dates, text such as 2020-01-31, or numbers such as years. (Modalities that
        are inferred read the column, too: name the modalities.)
    n_splits : int, default=5

    Notes
    -----
    The outcomes of the training rows are used as they are. Whoever would have fitted the model at
    the end of a period would not have known what came after it: censor there what he would not
    have seen.

    Examples
    --------
    >>> import pandas as pd
    >>> from mmfusion.evaluation import CalendarSplit
    >>> X = pd.DataFrame({"year": [2003, 2001, 2002, 2001, 2004]})
    >>> [(a.tolist(), b.tolist()) for a, b in CalendarSplit("year", n_splits=2).split(X)]
    [([1, 3], [2]), ([1, 2, 3], [0, 4])]
    """

    def __init__(self, date: Hashable, n_splits: int = 5) -> None:
        self.date = date
        self.n_splits = n_splits

    def get_n_splits(self, X: Any = None, y: Any = None, groups: Any = None) -> int:
        return self.n_splits

    def split(
        self, X: Any, y: Any = None, groups: Any = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        period = self._periods(X)
        for number in range(1, self.n_splits + 1):
            yield np.flatnonzero(period < number), np.flatnonzero(period == number)

    def _periods(self, X: Any) -> np.ndarray:
        check_number("n_splits", self.n_splits, 1, integer=True)
        column = take_column(X, self.date, "date")
        if not pd.api.types.is_numeric_dtype(column):
            try:
                column = pd.to_datetime(column, format="ISO8601")
            except (ValueError, TypeError) as error:
                raise ValueError(f"The date column {self.date!r} holds no dates: {error}") from None
        if column.isna().any():
            rows = shorten(column.index[column.isna()])
            raise ValueError(f"The date column {self.date!r} is missing in rows {rows}.")
        code, dates = pd.factorize(column, sort=True)
        if len(dates) <= self.n_splits:
            raise ValueError(
                "The n_splits parameter must be below the number of dates. "
                f"Got {self.n_splits} of {len(dates)} dates."
            )
        return _cut(np.bincount(code), self.n_splits + 1)[code]


def _cut(counts: np.ndarray, n: int) -> np.ndarray:
    """Return the period of each date: of about as many rows, and at least one date, each."""
    middle = np.cumsum(counts) - counts / 2
    first = 0
    starts = []
    for number in range(1, n):
        wanted = np.searchsorted(middle, number * counts.sum() / n)
        first = int(np.clip(wanted, first + 1, len(counts) - (n - number)))
        starts.append(first)
    return np.searchsorted(starts, np.arange(len(counts)), side="right")


def _is_survival(y: Any) -> bool:
    structured = getattr(getattr(y, "dtype", None), "names", None) is not None
    return structured or isinstance(y, Survival | pd.DataFrame | tuple)
