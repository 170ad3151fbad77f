"""Other libraries' survival models, and a user's own, as estimators that can be compared.

scikit-survival's estimators need none of this: `compare` and the scorers read them as they are.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, clone
from sklearn.utils import check_random_state
from sklearn.utils.metaestimators import available_if
from sklearn.utils.validation import check_is_fitted

from mmfusion.evaluation.outcomes import for_fit
from mmfusion.inputs.labels import check_order
from mmfusion.inputs.parameters import check_number
from mmfusion.inputs.times import as_times
from mmfusion.inputs.weights import check_weights
from mmfusion.metrics.scorers import steps_at
from mmfusion.survival import Survival, check_survival

__all__ = ["FunctionModel", "LifelinesModel", "PycoxModel"]


class _Adapter(BaseEstimator):
    """What the adapters share: the outcome checked, curves as a table, a risk made of curves."""

    def _read(self, X: Any, y: Any) -> Survival:
        """Return the outcome, and keep the times of events."""
        check_order(X=X, y=y)
        outcome = check_survival(y, index=getattr(X, "index", None), n_rows=len(X))
        self.event_times_ = np.unique(outcome.time[outcome.event])
        return outcome

    def _curves(self, X: Any, times: np.ndarray) -> np.ndarray:
        """Return survival probabilities, shape (n, k)."""
        raise NotImplementedError

    def _table(self, X: Any, times: Any) -> pd.DataFrame:
        check_is_fitted(self)
        grid = self.event_times_ if times is None else as_times("times", times)
        index = getattr(X, "index", None)
        return pd.DataFrame(self._curves(X, grid), index, pd.Index(grid, name="time"))

    def _lost(self, X: Any) -> np.ndarray:
        """Return how much of the time up to the last event is expected to be lost."""
        times = self.event_times_
        steps = np.diff(times, prepend=0.0)
        curves = self._curves(X, times)
        lived = np.column_stack([np.ones(len(curves)), curves[:, :-1]]) @ steps
        return times[-1] - lived


class LifelinesModel(_Adapter):
    """A regression model of lifelines as an estimator: ``LifelinesModel(WeibullAFTFitter())``.

    Parameters
    ----------
    fitter : fitter of lifelines
        With covariates: `CoxPHFitter`, an AFT fitter, `AalenAdditiveFitter`, ... It is copied, not
        fitted itself.
    options : dict, optional
        What its ``fit`` takes beside table and outcome, such as ``{"formula": "age + stage"}``;
        without a formula every column of `X` is read and has to hold numbers. Put
        `TableFeatures` before it in a Pipeline where they do not.

    Attributes
    ----------
    fitter_ : fitter of lifelines
        Fitted.
    event_times_ : ndarray

    Examples
    --------
    >>> from lifelines import CoxPHFitter
    >>> from mmfusion.datasets import load_metabric
    >>> from mmfusion.evaluation import LifelinesModel
    >>> metabric = load_metabric()
    >>> X = metabric.frame[["age", "chemotherapy"]]
    >>> model = LifelinesModel(CoxPHFitter(penalizer=0.1)).fit(X, metabric.target)
    >>> model.predict_survival_function(X[:2], times=[60, 120]).shape
    (2, 2)
    """

    def __init__(self, fitter: Any, options: Mapping[str, Any] | None = None) -> None:
        self.fitter = fitter
        self.options = options

    def fit(self, X: Any, y: Any, sample_weight: Any = None) -> Self:
        """Fit a copy of the fitter.

        Parameters
        ----------
        X : DataFrame or array, shape (n, p)
        y : outcome, n rows
            Delayed entry is passed on as ``entry_col``.
        sample_weight : array-like, shape (n,), optional

        Returns
        -------
        self
        """
        outcome = self._read(X, y)
        frame = _named(X).assign(**{_TIME: outcome.time, _EVENT: outcome.event})
        options: dict[str, Any] = {"duration_col": _TIME, "event_col": _EVENT}
        if outcome.delayed:
            frame[_ENTRY] = np.maximum(outcome.entry, 0.0)
            options["entry_col"] = _ENTRY
        if sample_weight is not None:
            frame[_WEIGHT] = check_weights(sample_weight, len(frame))
            options["weights_col"] = _WEIGHT
        fitter = clone(self.fitter, safe=False)
        self.fitter_ = fitter.fit(frame, **options, **(self.options or {}))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the risk of each row, higher is worse.

        Parameters
        ----------
        X : DataFrame or array, shape (n, p)

        Returns
        -------
        ndarray of float64, shape (n,)
            Of a Cox model the log hazard ratio; of others the time up to the last event of the
            training rows that is expected to be lost.
        """
        check_is_fitted(self)
        if hasattr(self.fitter_, "predict_log_partial_hazard"):
            return self.fitter_.predict_log_partial_hazard(_named(X)).to_numpy(np.float64)
        return self._lost(X)

    def predict_survival_function(
        self, X: Any, times: Sequence[float] | np.ndarray | None = None
    ) -> pd.DataFrame:
        """Return the survival probability of each row at each time.

        Parameters
        ----------
        X : DataFrame or array, shape (n, p)
        times : array-like, shape (m,), optional
            By default the times of events of the training rows.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        return self._table(X, times)

    def _curves(self, X: Any, times: np.ndarray) -> np.ndarray:
        frame = _named(X).reset_index(drop=True)
        method = getattr(self.fitter_, "baseline_estimation_method", "")
        if method == "breslow" or hasattr(self.fitter_, "cumulative_hazards_"):
            # Steps: lifelines draws lines between them where it is asked for times.
            table = self.fitter_.predict_survival_function(frame)
            return np.clip(steps_at(table, times, len(frame)), 0.0, 1.0)  # Aalen's may leave it
        # A parametric curve is exact at any time; lifelines wants times that increase, above 0.
        later = np.unique(times[times > 0])
        table = self.fitter_.predict_survival_function(frame, times=later).to_numpy(np.float64)
        table = np.vstack([np.ones(table.shape[1]), table])
        return table[np.searchsorted(later, times, side="right")].T


class PycoxModel(_Adapter):
    """A model of pycox as an estimator.

    Parameters
    ----------
    factory : callable
        ``factory(n_features, label_transform)`` returns a model of `pycox.models`, not trained.
        `label_transform` is that of the next parameter, fitted: its ``out_features`` is the width
        of a network's output, its ``cuts`` the model's ``duration_index``.
    label_transform : label transform of pycox, optional
        ``LogisticHazard.label_transform(20)`` and the like; none for `pycox.models.CoxPH`.
    epochs : int, default=100
    batch_size : int, default=256
    patience : int or None, default=10
        Epochs without a lower loss of the validation part, after which training stops; the best
        weights are kept. None trains all rows for all epochs.
    validation_fraction : float, default=0.2
    random_state : int, RandomState or None, default=None
        Of PyTorch's and NumPy's global states, from which pycox draws; of the validation part.

    Attributes
    ----------
    model_ : model of pycox
        Trained.
    label_transform_ : fitted label transform, or None
    event_times_ : ndarray

    Notes
    -----
    `X` must hold numbers; scale them in a Pipeline. Curves are read as steps.
    """

    def __init__(
        self,
        factory: Callable[[int, Any], Any],
        label_transform: Any = None,
        *,
        epochs: int = 100,
        batch_size: int = 256,
        patience: int | None = 10,
        validation_fraction: float = 0.2,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.factory = factory
        self.label_transform = label_transform
        self.epochs = epochs
        self.batch_size = batch_size
        self.patience = patience
        self.validation_fraction = validation_fraction
        self.random_state = random_state

    def fit(self, X: Any, y: Any) -> Self:
        """Train a new model of the factory.

        Parameters
        ----------
        X : DataFrame or array of numbers, shape (n, p)
        y : outcome, n rows
            Without delayed entry, which pycox does not know.

        Returns
        -------
        self
        """
        import torch
        import torchtuples

        check_number("epochs", self.epochs, 1, integer=True)
        check_number(
            "validation_fraction", self.validation_fraction, 0, 1, open_ends="low and high"
        )
        outcome = self._read(X, y)
        if outcome.delayed:
            raise ValueError("PycoxModel takes no delayed entry: pycox does not know it.")
        rng = check_random_state(self.random_state)
        values = _numbers(X)
        judging = np.zeros(len(values), dtype=bool)
        if self.patience is not None:
            held = max(1, round(self.validation_fraction * len(values)))
            judging[rng.permutation(len(values))[:held]] = True
        train, judge = ~judging, judging
        self.label_transform_ = clone(self.label_transform, safe=False)
        pair = outcome.time.astype(np.float32), outcome.event.astype(np.float32)
        target = tuple(part[train] for part in pair)
        held_out = tuple(part[judge] for part in pair)
        if self.label_transform_ is not None:
            target = self.label_transform_.fit_transform(*target)
            held_out = self.label_transform_.transform(*held_out)
        with torch.random.fork_rng(), tempfile.TemporaryDirectory() as folder:
            torch.manual_seed(int(rng.randint(2**31 - 1)))
            state = np.random.get_state()  # noqa: NPY002 - what pycox draws from
            np.random.seed(rng.randint(2**31 - 1))  # noqa: NPY002
            try:
                self.model_ = self.factory(values.shape[1], self.label_transform_)
                early = {
                    "callbacks": [
                        torchtuples.callbacks.EarlyStopping(
                            patience=self.patience, file_path=str(Path(folder) / "weights.pt")
                        )
                    ],
                    "val_data": (values[judge], held_out),
                }
                self.model_.fit(
                    values[train],
                    target,
                    batch_size=min(self.batch_size, int(train.sum())),
                    epochs=self.epochs,
                    verbose=False,
                    **(early if self.patience is not None else {}),
                )
                if hasattr(self.model_, "compute_baseline_hazards"):
                    self.model_.compute_baseline_hazards()
            finally:
                np.random.set_state(state)  # noqa: NPY002
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the risk of each row, higher is worse.

        Parameters
        ----------
        X : DataFrame or array of numbers, shape (n, p)

        Returns
        -------
        ndarray of float64, shape (n,)
            The time up to the last event of the training rows that is expected to be lost.
        """
        check_is_fitted(self)
        return self._lost(X)

    def predict_survival_function(
        self, X: Any, times: Sequence[float] | np.ndarray | None = None
    ) -> pd.DataFrame:
        """Return the survival probability of each row at each time.

        Parameters
        ----------
        X : DataFrame or array of numbers, shape (n, p)
        times : array-like, shape (m,), optional
            By default the times of events of the training rows.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        return self._table(X, times)

    def _curves(self, X: Any, times: np.ndarray) -> np.ndarray:
        return steps_at(self.model_.predict_surv_df(_numbers(X)), times, len(X))


class FunctionModel(_Adapter):
    """A model of the user's own, from the functions that fit it and predict with it.

    Parameters
    ----------
    fit_function : callable
        ``fit_function(X, y)`` returns whatever the next ones need; ``y`` is `surv`'s array.
    predict_function : callable
        ``predict_function(fitted, X)`` returns risks, shape (n,), higher is worse.
    survival_function : callable, optional
        ``survival_function(fitted, X, times)`` returns survival probabilities, shape (n, m).

    Attributes
    ----------
    fitted_ : object
        What `fit_function` returned.
    event_times_ : ndarray

    Examples
    --------
    >>> import numpy as np
    >>> from mmfusion.evaluation import FunctionModel
    >>> model = FunctionModel(lambda X, y: None, lambda fitted, X: X[:, 0])
    >>> X = np.array([[2.0], [1.0], [3.0]])
    >>> model.fit(X, ([4, 5, 2], [1, 0, 1])).predict(X)
    array([2., 1., 3.])
    """

    def __init__(
        self,
        fit_function: Callable[[Any, np.ndarray], Any],
        predict_function: Callable[[Any, Any], Any],
        survival_function: Callable[[Any, Any, np.ndarray], Any] | None = None,
    ) -> None:
        self.fit_function = fit_function
        self.predict_function = predict_function
        self.survival_function = survival_function

    def fit(self, X: Any, y: Any) -> Self:
        """Call the function that fits.

        Parameters
        ----------
        X : DataFrame or array, n rows
        y : outcome, n rows

        Returns
        -------
        self
        """
        outcome = self._read(X, y)
        self.fitted_ = self.fit_function(X, for_fit(outcome))
        return self

    def predict(self, X: Any) -> np.ndarray:
        """Return the risk of each row, higher is worse.

        Parameters
        ----------
        X : DataFrame or array, n rows

        Returns
        -------
        ndarray of float64, shape (n,)
        """
        check_is_fitted(self)
        risk = np.asarray(self.predict_function(self.fitted_, X), dtype=np.float64)
        return _shaped(risk, (len(X),), "predict_function")

    @available_if(lambda model: model.survival_function is not None)
    def predict_survival_function(
        self, X: Any, times: Sequence[float] | np.ndarray | None = None
    ) -> pd.DataFrame:
        """Return the survival probability of each row at each time.

        Parameters
        ----------
        X : DataFrame or array, n rows
        times : array-like, shape (m,), optional
            By default the times of events of the training rows.

        Returns
        -------
        DataFrame, shape (n, m)
        """
        return self._table(X, times)

    def _curves(self, X: Any, times: np.ndarray) -> np.ndarray:
        assert self.survival_function is not None
        curves = np.asarray(self.survival_function(self.fitted_, X, times), dtype=np.float64)
        return _shaped(curves, (len(X), len(times)), "survival_function")


_TIME, _EVENT, _ENTRY, _WEIGHT = "_time", "_event", "_entry", "_weight"


def _named(X: Any) -> pd.DataFrame:
    """Return a table whose columns lifelines can name; an array's are x0, x1, ..."""
    if isinstance(X, pd.DataFrame):
        return X
    values = np.asarray(X)
    return pd.DataFrame(values, columns=[f"x{number}" for number in range(values.shape[1])])


def _numbers(X: Any) -> np.ndarray:
    values = np.asarray(X, dtype=np.float32)
    if not np.isfinite(values).all():
        raise ValueError("PycoxModel needs numbers that are there: put TableFeatures before it.")
    return values


def _shaped(values: np.ndarray, shape: tuple[int, ...], parameter: str) -> np.ndarray:
    if values.shape != shape:
        raise ValueError(
            f"The {parameter} parameter must return an array of shape {shape}. Got {values.shape}."
        )
    return values
