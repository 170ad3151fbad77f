"""What is searched: distributions of parameters, from which a trial takes a value of each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from mmfusion.inputs.messages import did_you_mean
from mmfusion.tuning.default_space import default_space

__all__ = ["Space", "check_space"]

#: What Optuna's storages can hold as a choice.
STORABLE = (bool, int, float, str, type(None))


class Space:
    """A space as a function of a trial that returns an estimator's parameters.

    Parameters
    ----------
    suggest : callable (trial) -> dict
    starts : sequence of mapping of str to value, default=()
        Parameters of the trials that come first, as Optuna names them.
    careful : bool, default=False
        Whether the first trial is the estimator as it is, which another trial replaces only where
        its gain exceeds its standard error.
    """

    def __init__(
        self,
        suggest: Callable[[Any], Mapping[str, Any]],
        starts: Sequence[Mapping[str, Any]] = (),
        *,
        careful: bool = False,
    ) -> None:
        self.suggest = suggest
        self.starts = list(starts)
        self.careful = careful

    def __call__(self, trial: Any) -> dict[str, Any]:
        """Return the parameters of a trial, for ``set_params``."""
        chosen = self.suggest(trial)
        if not isinstance(chosen, Mapping):
            raise TypeError(
                "The space parameter, where it is a function of the trial, must return a dict of "
                f"the estimator's parameters. Got {chosen!r}."
            )
        return dict(chosen)

    def of(self, params: Mapping[str, Any]) -> dict[str, Any]:
        """Return the parameters that a finished trial stood for."""
        from optuna.trial import FixedTrial

        return self(FixedTrial(dict(params)))


class Distributions:
    """A dict of distributions, and of lists of whatever a parameter takes.

    Parameters
    ----------
    distributions : mapping of str to Optuna's distribution
    choices : mapping of str to mapping of str to value
        What the labels of a list stand for that Optuna could not store.
    """

    def __init__(
        self, distributions: Mapping[str, Any], choices: Mapping[str, Mapping[str, Any]]
    ) -> None:
        self.distributions = distributions
        self.choices = choices

    def __call__(self, trial: Any) -> dict[str, Any]:
        """Return a value of each parameter."""
        chosen = {name: draw(trial, name, each) for name, each in self.distributions.items()}
        for name, values in self.choices.items():
            chosen[name] = values[chosen[name]]
        return chosen


def draw(trial: Any, name: str, distribution: Any) -> Any:
    """Return what a trial takes from a distribution."""
    if hasattr(distribution, "choices"):
        return trial.suggest_categorical(name, distribution.choices)
    suggest = trial.suggest_int if type(distribution.low) is int else trial.suggest_float
    step, log = distribution.step, distribution.log
    return suggest(name, distribution.low, distribution.high, step=step, log=log)


def check_space(space: Any, estimator: Any, X: Any) -> Space:
    """Return what a ``space=`` parameter means.

    Raises
    ------
    ValueError
        A parameter that the estimator has not, an empty list, another word than "default", or
        "default" of an estimator that has none.
    TypeError
        Something else than "default", a dict or a function.
    """
    if isinstance(space, str):
        if space != "default":
            raise ValueError(
                "The space parameter must be 'default', a dict of distributions, or a function of "
                f"the trial. Got {space!r}."
            )
        space = default_space(estimator, X)
        return Space(space, space.starts, careful=True)
    if callable(space):
        return Space(space)
    if not isinstance(space, Mapping):
        raise TypeError(
            "The space parameter must be 'default', a dict of distributions, or a function of the "
            f"trial. Got {space!r}."
        )
    if not space:
        raise ValueError("The space parameter must hold at least one parameter. Got {}.")
    known = estimator.get_params()
    unknown = [name for name in space if not _settable(name, known)]
    if unknown:
        raise ValueError(
            f"The space parameter must name parameters of {type(estimator).__name__}. "
            f"Got {unknown[0]!r}.{did_you_mean(unknown[0], known)}"
        )
    return Space(_of_dict(space))


def _settable(name: str, known: Mapping[str, Any]) -> bool:
    """Return whether a name is a parameter, or one of ``training``, which may yet be None."""
    head, _, tail = name.partition("__")
    return name in known or (head == "training" and bool(tail) and known.get(head, 0) is None)


def _of_dict(space: Mapping[str, Any]) -> Distributions:
    from optuna.distributions import BaseDistribution, CategoricalDistribution

    distributions: dict[str, Any] = {}
    choices: dict[str, dict[str, Any]] = {}
    for name, given in space.items():
        if isinstance(given, BaseDistribution):
            distributions[name] = given
            continue
        if not isinstance(given, list | tuple) or not given:
            raise TypeError(
                f"The space parameter must hold distributions of optuna.distributions or lists. "
                f"Got {given!r} for {name!r}."
            )
        if not all(isinstance(value, STORABLE) for value in given):
            choices[name] = {repr(value): value for value in given}
            if len(choices[name]) < len(given):
                raise ValueError(
                    "The space parameter must hold values that differ in their text. Got "
                    f"{given!r} for {name!r}."
                )
            given = list(choices[name])
        distributions[name] = CategoricalDistribution(given)
    return Distributions(distributions, choices)
