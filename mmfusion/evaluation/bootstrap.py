"""One model's own score on small data, freed of its optimism by the bootstrap."""

from __future__ import annotations

import warnings
from inspect import signature
from typing import Any, NamedTuple

import numpy as np
from sklearn.base import clone
from sklearn.utils import check_random_state

from mmfusion.evaluation.outcomes import any_event, check_outcome, for_fit, take, task_of
from mmfusion.evaluation.roles import check_groups, check_model
from mmfusion.evaluation.scoring import Metric, TestFold, resolve_scoring
from mmfusion.inputs.parameters import check_number

__all__ = ["BootstrapScore", "bootstrap_score"]

#: What a prediction scores that knows nothing of the outcome, where that needs no permutation.
KNOWN_NOTHING = dict.fromkeys(("c", "uno", "antolini", "auc"), 0.5)


class BootstrapScore(NamedTuple):
    """What `bootstrap_score` returns."""

    apparent: float
    optimism: float
    corrected: float
    out_of_bag: float
    no_information: float
    score_632: float
    score_632_plus: float


def bootstrap_score(
    estimator: Any,
    X: Any,
    y: Any,
    *,
    scoring: Any = None,
    n_bootstraps: int = 100,
    n_permutations: int = 50,
    groups: Any = None,
    random_state: int | np.random.RandomState | None = 0,
) -> BootstrapScore:
    """Return one model's score on the rows it is fitted to, corrected for optimism.

    With A the score on the training rows, O the mean score of models fitted to bootstrap samples on
    the rows that these left out, and N that of predictions without information, the outcomes being
    permuted::

        .632:    .368 A + .632 O
        .632+:   (1 - w) A + w O,   w = .632 / (1 - .368 R),   R = (O - A) / (N - A) in [0, 1]

    where O is N if it is worse than N (Efron & Tibshirani 1997, J. Am. Stat. Assoc. 92:548-560, eq.
    24 to 32). Harrell's corrected score is A less the optimism, the mean over bootstrap models of
    their score on their own sample less that on all rows (Efron 1983; Harrell, Lee & Mark 1996).
    Harrell's is too good for models that can learn their rows by heart; .632+ is made for these.

    Parameters
    ----------
    estimator : estimator
        All that is fitted is fitted in each sample: give a Pipeline, or a search. Copies of a row
        stay on one side of the inner folds of a search whose ``fit`` takes groups.
    X : DataFrame or ndarray, n rows
    y : outcome, n rows
    scoring : None, str or scorer, optional
        By default "c" (survival), "accuracy" (classes), "r2" (numbers), whatever `compare_fusion`
        knows; one that is better where it is lower is as good.
    n_bootstraps : int, default=100
    n_permutations : int, default=50
        Of the outcomes, for scores whose value without information is not known (a C is .5).
    groups : column name or array-like, shape (n,), optional
        Groups are drawn instead of rows; by default those of the estimator's `id`, else of its
        `cluster`.
    random_state : int, RandomState or None, default=0

    Returns
    -------
    BootstrapScore
        Named tuple: apparent, optimism, corrected (Harrell), out_of_bag, no_information,
        score_632, score_632_plus. There is no interval: see `nested_cross_validate`.

    Raises
    ------
    ValueError, TypeError
        A parameter at fault; several scores; no sample could be scored.

    Warns
    -----
    UserWarning
        Where samples could not be fitted or scored, with the first error.
    """
    check_model("estimator", estimator, "estimator")
    check_number("n_bootstraps", n_bootstraps, 1, integer=True)
    check_number("n_permutations", n_permutations, 1, integer=True)
    task = task_of(getattr(estimator, "estimator", estimator), y)
    outcome = check_outcome(y, task, X)
    metrics = resolve_scoring(scoring, task)
    if scoring is not None and len(metrics) > 1:
        raise ValueError(f"The scoring parameter must be one score. Got {list(metrics)}.")
    name, metric = next(iter(metrics.items()))
    labels = check_groups(groups, {"estimator": estimator}, X)
    rng = check_random_state(random_state)
    rows = np.arange(len(outcome))
    data = _Rows(X, outcome, metric, estimator)
    whole = data.fit(rows)
    apparent = data.score(whole, rows, rows)
    nothing = KNOWN_NOTHING.get(name)
    if nothing is None:
        shuffled = [data.score(whole, rows, rows, rng.permutation) for _ in range(n_permutations)]
        nothing = float(np.mean(shuffled))
    outside, optimism, errors = [], [], []
    for _ in range(n_bootstraps):
        drawn = _draw(rows, labels, rng)
        try:
            model = data.fit(drawn)
            left = np.setdiff1d(rows, drawn)
            found = [data.score(model, drawn, part) for part in (left, drawn, rows)]
        except Exception as error:
            errors.append(f"{type(error).__name__}: {error}")
            continue
        outside.append(found[0])
        optimism.append(found[1] - found[2])
    if errors:
        text = f"{len(errors)} of {n_bootstraps} bootstrap samples failed; the first: {errors[0]}"
        if not outside:
            raise ValueError(text)
        warnings.warn(text, UserWarning, stacklevel=2)
    out, gained = float(np.mean(outside)), float(np.mean(optimism))
    plus = plus_632(apparent, out, nothing)
    simple = 0.368 * apparent + 0.632 * out
    return BootstrapScore(apparent, gained, apparent - gained, out, nothing, simple, plus)


def plus_632(apparent: float, out_of_bag: float, no_information: float) -> float:
    """Return the .632+ estimate of a score, whichever direction is better."""
    span = no_information - apparent
    rate = (out_of_bag - apparent) / span if span else 0.0
    if rate > 1:
        out_of_bag = no_information
    rate = float(np.clip(rate, 0.0, 1.0))
    weight = 0.632 / (1 - 0.368 * rate)
    return (1 - weight) * apparent + weight * out_of_bag


class _Rows:
    """The rows, and how a model is fitted to some of them and scored on others."""

    def __init__(self, X: Any, y: Any, metric: Metric, estimator: Any) -> None:
        self.X = X
        self.y = y
        self.metric = metric
        self.estimator = estimator
        self.grouped = "groups" in signature(estimator.fit).parameters

    def fit(self, rows: np.ndarray) -> Any:
        copies = {"groups": rows} if self.grouped else {}
        return clone(self.estimator).fit(self._table(rows), for_fit(take(self.y, rows)), **copies)

    def score(self, model: Any, train: np.ndarray, test: np.ndarray, shuffle: Any = None) -> float:
        y_test = take(self.y, test if shuffle is None else shuffle(test))
        y_train = any_event(take(self.y, train))
        return float(self.metric(TestFold(model, self._table(test), any_event(y_test), y_train)))

    def _table(self, rows: np.ndarray) -> Any:
        """Return rows of the table under names of their own, since some are there twice."""
        if hasattr(self.X, "iloc"):
            return self.X.iloc[rows].reset_index(drop=True)
        return self.X[rows]


def _draw(rows: np.ndarray, labels: np.ndarray | None, rng: np.random.RandomState) -> np.ndarray:
    if labels is None:
        return rng.choice(rows, len(rows))
    of_label = {label: rows[labels == label] for label in np.unique(labels)}
    chosen = rng.choice(np.unique(labels), len(of_label))
    return np.concatenate([of_label[label] for label in chosen])
