"""Cross-fitting: what networks say of rows that they did not see, with a coefficient of its own."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from mmfusion.heads.base import Head
from mmfusion.model.dealing import deal_taught
from mmfusion.model.fit import Ready
from mmfusion.model.folds import Part, deal_study, parts
from mmfusion.model.structured import fit_formulas
from mmfusion.structured import Design, Given, Layout, StructuredFit, Symmetric

__all__ = ["SPLITS", "averaged", "beside_unseen", "cross_fitted", "deal_parts"]

#: Parts of the rows.
FOLDS = 5
#: Splits of the rows into folds, whose answers are averaged: networks of one split are one draw.
SPLITS = 3

#: What the table of effects calls the predictor of networks that see all modalities together.
DEEP = "(deep)"


def deal_parts(ready: Ready, seeds: Sequence[int]) -> list[list[Part]]:
    """Deal the folds of cross-fitting, a split of the rows a seed, before anything is trained.

    Raises
    ------
    ValueError
        Where there are too few rows, or clusters, of anything.
    """
    _warn_of_shared_columns(ready)
    return [_deal_split(ready, seed) for seed in seeds]


def _deal_split(ready: Ready, seed: int) -> list[Part]:
    study = ready.study
    folds = deal_study(study, FOLDS, "inference='model'", seed)
    within = ready.plan.strategy.pool_folds
    head, target, groups = study.head, study.all.target, study.groups
    labels, required = head.stratify(target), head.required(target)
    for train, _ in folds if within else ():  # late fusion deals folds of these rows again
        deal_taught(
            labels[train],
            {name: rows[train] for name, rows in required.items()},
            None if groups is None else groups[train],
            within,
            seed,
            "LateFusion('mean') within inference='cross_fit'",
            study.unit,
        )
    return parts(study, list(ready.modalities), ready.present, folds, needs_any=False)


def _warn_of_shared_columns(ready: Ready) -> None:
    """Warn where networks that are not projected read what the effects are of."""
    of_formula = set(ready.structured.columns)
    for name, modality in ready.modalities.items():
        shared = sorted(of_formula.intersection(modality.columns_))
        if shared:
            warnings.warn(
                f"Modality {name!r} reads {shared}, which stand in the formula too: with "
                "inference='cross_fit' their effects are what the networks leave of them. "
                "Leave a treatment out of the modalities.",
                UserWarning,
                stacklevel=4,
            )


def cross_fitted(ready: Ready, dealt: list[Part], seed: int) -> dict[str, np.ndarray]:
    """Return the deep predictor of each row from networks that did not see it, (n, K), by name.

    "(deep)" is that of networks which see all modalities together. Of late fusion there is one for
    each modality, "(deep: rna)", zero in rows without it.

    Raises
    ------
    KeyboardInterrupt
        Where Ctrl-C ended the training of one of them.
    """
    study, head, once = ready.study, ready.study.head, ready.study.all.subjects.once
    # The coefficient of its own, fitted to all rows, judges it: without a linear part it is kept
    # whole (judged=False); beside one the share says what of the networks is added to that.
    plan = replace(ready.plan, judged=ready.plan.linear, random_state=seed)
    names = {n: DEEP if len(ready.networks) == 1 else f"(deep: {n})" for n in ready.networks}
    deep = {name: np.zeros((len(study.all), len(head.grid))) for name in names.values()}
    for part in dealt:
        model = ready.fit_part(plan, part)
        etas, present = model.by_member(study.all.table, study.all.subjects)
        for place, member in enumerate(model.deep.networks):
            there = present[:, place]
            every = etas[:, place]
            if there.any() and not len(head.constants):
                # Where the likelihood sees no constant, that of each network is arbitrary.
                every = every - once(every)[once(there)].mean(0)
            every = np.where(there[:, None], every, 0.0)
            deep[names.get(member, DEEP)][part.held] = every[part.held]
    return deep


def beside_unseen(
    ready: Ready, layout: Layout, design: Design, deep: Mapping[str, np.ndarray]
) -> tuple[StructuredFit, Design]:
    """Fit the coefficients beside deep predictors (n, K) whose rows their networks did not see.

    They are not projected: what they say of a chance imbalance between the arms of a trial is what
    narrows the interval. Taken off the design, a Gaussian coefficient would be the unadjusted
    one again (Frisch-Waugh), beside a standard error that claims the adjustment.

    Each has a coefficient of its own, the last, a parameter that it moves: networks that claim too
    much of rows they did not see are believed only so far as they are right, which keeps the
    model-based standard errors honest. It is 1 where they are right as they are, and 0 where they
    add nothing.

    Returns
    -------
    fit : StructuredFit
        With the coefficients of those deep predictors that add to the design.
    design : Design
        What it was fitted to.
    """
    study = ready.study
    more: list[str] = []
    for name, values in _by_parameter(study.head, deep).items():
        if _adds(design, values):
            design = with_given(design, values)
            more.append(name)
    of_part = ready.plan.prepared is not None
    fit = fit_formulas(
        layout, study.head, study.all.target, design, more=tuple(more), may_hold=of_part
    )
    return fit, design


def _by_parameter(head: Head, deep: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Return what moves each group of predictors that are kept by a share of their own."""
    groups = np.asarray(head.deep_groups)
    moved = [group for group in np.unique(groups) if head.deep_basis.matrix[groups == group].any()]
    if len(moved) == 1:
        return dict(deep)
    names = {group: head.grid.names[int(np.argmax(groups == group))] for group in moved}
    return {
        f"{name[:-1]}, {names[group]})": np.where(groups == group, values, 0.0)
        for name, values in deep.items()
        for group in moved
    }


def averaged(
    fits: Sequence[StructuredFit], covariances: Sequence[Symmetric]
) -> tuple[StructuredFit, Symmetric]:
    """Return the mean of the coefficients over splits of the rows, and its covariance.

    That is the mean of theirs and the covariance between them (Chernozhukov et al. 2018, section
    3.4, definition 3.3). Likelihood, scale and information are the means of theirs or the first's.
    """
    first = fits[0]
    coefs = np.stack([fit.coef for fit in fits])
    apart = coefs - coefs.mean(axis=0)
    within = np.mean([covariance.dense() for covariance in covariances], axis=0)
    fit = replace(
        first,
        coef=coefs.mean(axis=0),
        scale=float(np.mean([fit.scale for fit in fits])),
        log_likelihood=float(np.mean([fit.log_likelihood for fit in fits])),
        converged=all(fit.converged for fit in fits),
        runaway=tuple(dict.fromkeys(name for fit in fits for name in fit.runaway)),
    )
    return fit, Symmetric.of(within + apart.T @ apart / len(fits))


def with_given(design: Design, values: np.ndarray) -> Design:
    """Return a design with a further column: a given predictor (n, K), of one coefficient."""
    given = Given(values[:, :, None], np.array([[design.n_columns]]))
    return replace(design, n_columns=design.n_columns + 1, blocks=(*design.blocks, given))


def _adds(design: Design, deep: np.ndarray) -> bool:
    """Return whether a deep predictor says more than a constant and the design together."""
    known = with_given(design.linear, np.ones_like(deep))
    gram = known.cross(np.ones_like(deep))
    coef = np.linalg.lstsq(np.asarray(gram), known.pull(deep), rcond=None)[0]
    rest = deep - known.predict(np.asarray(coef, dtype=np.float64))
    return bool(np.linalg.norm(rest) > 1e-6 * np.linalg.norm(deep))
