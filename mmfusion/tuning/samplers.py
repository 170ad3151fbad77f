"""Optuna's samplers and pruners by name, every option said."""

from __future__ import annotations

import importlib.util
import warnings
from functools import partial
from typing import Any

from mmfusion.inputs.parameters import check_choice

__all__ = ["check_sampler", "make_pruner", "make_sampler"]

SAMPLERS = ("tpe", "gp", "cmaes", "random")
PRUNINGS = (None, "fold", "epoch")


def check_sampler(sampler: Any, pruning: Any, n_objectives: int) -> None:
    """Raise unless sampler and pruning are known, and fit each other and the objectives.

    Raises
    ------
    ValueError, TypeError
        Naming the parameter, what was found and what is allowed.
    """
    import optuna

    if not isinstance(sampler, str | optuna.samplers.BaseSampler):
        raise TypeError(
            f"The sampler parameter must be one of {SAMPLERS}, or a sampler of Optuna's. "
            f"Got {sampler!r}."
        )
    if isinstance(sampler, str):
        check_choice("sampler", sampler, SAMPLERS)
    check_choice("pruning", pruning, PRUNINGS)
    if sampler == "cmaes":
        if importlib.util.find_spec("cmaes") is None:
            raise ValueError(
                "The sampler parameter can be 'cmaes' where the package cmaes is installed "
                f"(pip install 'mmfusion[cmaes]'); without it {SAMPLERS[0]!r}, {SAMPLERS[1]!r} and "
                f"{SAMPLERS[3]!r}. Got 'cmaes'."
            )
        if n_objectives > 1:
            raise ValueError(
                "The sampler parameter must be 'tpe', 'gp' or 'random' with several objectives. "
                "Got 'cmaes'."
            )
    if pruning is not None and n_objectives > 1:
        raise ValueError(
            "The pruning parameter must be None with several objectives: no single number says "
            f"that a trial is worse. Got {pruning!r}. Name one in objectives."
        )


def make_sampler(sampler: Any, seed: int, number: int) -> Any:
    """Return the sampler of a trial.

    Each trial has one of its own, so that a search that was interrupted draws what an unbroken one
    would have drawn. A sampler of Optuna's is taken as it is.

    Parameters
    ----------
    sampler : str or Optuna's sampler
    seed, number : int
        Of the study, and of the trial.
    """
    if not isinstance(sampler, str):
        return sampler
    from mmfusion.tuning.seeded_sampler import SeededSampler

    return SeededSampler(partial(_by_name, sampler), seed, number)


def _by_name(name: str, seed: int) -> Any:
    import optuna

    if name == "tpe":
        return optuna.samplers.TPESampler(
            n_startup_trials=10,
            n_ei_candidates=24,
            seed=seed,
            multivariate=False,
            group=False,
            constant_liar=True,
        )
    alone = optuna.samplers.RandomSampler(seed=seed)
    if name == "gp":
        return optuna.samplers.GPSampler(
            seed=seed,
            independent_sampler=alone,
            n_startup_trials=10,
            deterministic_objective=False,
            warn_independent_sampling=False,
        )
    if name == "cmaes":
        return optuna.samplers.CmaEsSampler(
            seed=seed,
            n_startup_trials=1,
            independent_sampler=alone,
            warn_independent_sampling=False,
            consider_pruned_trials=False,
            use_separable_cma=False,
            with_margin=False,
            lr_adapt=False,
        )
    return alone


def make_pruner(pruning: str | None) -> Any:
    """Return the pruner of a mode of pruning.

    Parameters
    ----------
    pruning : {"fold", "epoch"} or None
        "fold": the signed-rank test of Wilcoxon against the best trial, on the folds that both
        have. "epoch": worse than half of the earlier trials at the same epoch, after ten epochs.
    """
    import optuna

    if pruning == "fold":
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            return optuna.pruners.WilcoxonPruner(p_threshold=0.1, n_startup_steps=2)
    if pruning == "epoch":
        return optuna.pruners.MedianPruner(
            n_startup_trials=5, n_warmup_steps=10, interval_steps=1, n_min_trials=1
        )
    return optuna.pruners.NopPruner()
