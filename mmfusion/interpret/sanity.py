"""Checks of attributions: do they depend on what was learned, and does what they mark matter."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.base import clone

from mmfusion.inputs.parameters import check_number
from mmfusion.interpret._explained import Explained
from mmfusion.interpret._gradients import METHODS, pieces
from mmfusion.interpret.attribution import (
    Attribution,
    attribute,
    check_names,
    check_options,
    starts_of,
)
from mmfusion.training.precision import single_precision

__all__ = ["deletion_insertion", "permuted_labels", "randomized", "randomized_weights"]


def randomized(model: Any, random_state: int = 0) -> Any:
    """Return a copy of a fitted estimator whose networks and linear part are drawn at random.

    Weights are normal around 0, of the size that they had; gains and biases, which are vectors,
    around their own mean: gains around 0 would switch a normalisation off. The coefficients of the
    linear part are dealt out anew, with random signs. The formula stays as it is, and so do frozen
    encoders, which learned nothing of these rows.
    """
    other = copy.deepcopy(model)
    drawn = torch.Generator().manual_seed(random_state)
    for network in other.model_.deep.networks.values():
        for member in network.members:
            for weight in member.parameters():
                values = weight.data.float()
                center = values.mean() if values.ndim < 2 else values.new_zeros(())
                spread = (values - center).square().mean().sqrt()
                noise = torch.randn(weight.shape, generator=drawn).to(values.device)
                weight.data = (center + spread * noise).to(weight.dtype)
    rng, linear = np.random.default_rng(random_state), other.model_.deep.linear
    if linear is not None:
        for name, coef in linear.coef.items():
            signs = rng.choice([-1.0, 1.0], len(coef))[:, None]
            linear.coef[name] = coef[rng.permutation(len(coef))] * signs
    return other


def randomized_weights(
    model: Any, X: Any, *args: Any, n_draws: int = 10, random_state: int = 0, **options: Any
) -> pd.DataFrame:
    """Correlate attributions with those of the same model with random weights.

    A method whose maps survive that shows the images, not the model (Adebayo et al. 2018).

    Parameters
    ----------
    model : estimator
        Fitted.
    X : DataFrame
    *args, **options
        As of `attribute`.
    n_draws : int, default=10
        Of random weights; 2 at least.
    random_state : int, default=0

    Returns
    -------
    DataFrame
        A row a modality, of correlations over its columns or pixels. ``correlation``: the mean over
        rows and draws, and ``sd``, the standard deviation of a draw's mean. ``size``: the mean
        without regard to the sign. ``among``: the same of two draws of random weights. NaN of
        modalities of one column.

    Notes
    -----
    Random weights are as likely to raise a prediction as to lower it, so that ``correlation`` is
    near 0 for every method with a sign, good or bad, and one draw alone says little. Read ``size``:
    near 1, maps mark the same places whatever was learned; ``among`` is what the images make alike
    on their own. Where all that an image holds is what matters, a bright lesion on an even ground,
    any weights react there and maps of few places, as those of Grad-CAM, have a large ``size`` for
    that reason: take images that hold other things too.
    """
    check_number("n_draws", n_draws, 2, integer=True)
    own = attribute(model, X, *args, **options)
    with_own, among, last = [], [], None
    for draw in range(n_draws):
        other = randomized(model, random_state + draw)
        drawn = attribute(other, X, *args, **options)
        with_own.append(correlations(own, drawn))
        if last is not None:
            among.append(correlations(last, drawn))
        last = drawn
    means = pd.DataFrame([each.mean() for each in with_own])
    return pd.DataFrame(
        {
            "correlation": means.mean(),
            "sd": means.std(),
            "size": pd.concat(with_own).abs().mean(),
            "among": pd.concat(among).abs().mean(),
        }
    ).rename_axis("modality")


def permuted_labels(
    model: Any, X: Any, y: Any, *args: Any, random_state: int = 0, **options: Any
) -> pd.DataFrame:
    """Correlate attributions with those of a model fitted to permuted outcomes.

    Parameters
    ----------
    model : estimator
        Fitted.
    X, y
        What a clone is fitted to, with the outcomes of the rows dealt out anew.
    *args, **options
        As of `attribute`.
    random_state : int, default=0

    Returns
    -------
    DataFrame
        A row a row of `X`, a column a modality: the correlation over its columns or pixels; NaN of
        modalities that the row lacks, or of a single column. To be near 0.
    """
    order = np.random.default_rng(random_state).permutation(len(X))
    mixed = y.iloc[order].set_axis(y.index) if hasattr(y, "iloc") else np.asarray(y)[order]
    other = clone(model).fit(X, mixed)
    return correlations(
        attribute(model, X, *args, **options), attribute(other, X, *args, **options)
    )


def correlations(one: Attribution, other: Attribution) -> pd.DataFrame:
    """Return the correlation of two attributions of the same rows, a column a modality."""
    index = one.value.index
    found = {
        name: _each(t.to_numpy(), other.tables[name].to_numpy()) for name, t in one.tables.items()
    }
    for name, points in one.points.items():
        found[name] = _each(points, other.points[name])
    for name, maps in one.images.items():
        each = pd.Series(_each(maps, other.images[name])).groupby(one.owners[name]).mean()
        found[name] = each.reindex(range(len(index))).to_numpy()
    return pd.DataFrame(found, index=index)


def _each(one: np.ndarray, other: np.ndarray) -> np.ndarray:
    a, b = (values.reshape(len(values), -1).astype(np.float64) for values in (one, other))
    a, b = a - a.mean(1, keepdims=True), b - b.mean(1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        return (a * b).sum(1) / np.sqrt((a**2).sum(1) * (b**2).sum(1))


def deletion_insertion(
    model: Any,
    X: Any,
    modality: str,
    method: str = "integrated_gradients",
    target: Any = None,
    baseline: Any = None,
    *,
    n_steps: int = 20,
    random_state: int = 0,
    **options: Any,
) -> pd.DataFrame:
    """Take features away, the most positive first, and put them back; follow the prediction.

    Where attributions mark what matters, deletion falls and insertion rises faster than in random
    order (Petsiuk, Das & Saenko 2018).

    Parameters
    ----------
    model : estimator
        Fitted.
    X : DataFrame
    modality : str
        Whose columns, pixels or points are taken to the baseline.
    method, target, baseline
        As of `attribute`; of several baselines the first.
    n_steps : int, default=20
        Steps of equal numbers of features.
    random_state : int, default=0
        Of the random order.
    **options
        Of the method.

    Returns
    -------
    DataFrame
        Indexed by the ``share`` of the features, from 0 to 1: the predictions, averaged over rows,
        as these are deleted (``deletion``), as these alone are there (``insertion``), and both in
        random order (``random_deletion``, ``random_insertion``).
    """
    check_number("n_steps", n_steps, 1, integer=True)
    run = METHODS.get(method)
    if run is None:
        raise ValueError(f"The method parameter must be one of {tuple(METHODS)}. Got {method!r}.")
    check_options(method, run, options)
    names = check_names(model, modality, method)
    rng = np.random.default_rng(random_state)
    shares = np.linspace(0, 1, n_steps + 1)
    curves = np.zeros((4, n_steps + 1))
    with single_precision():
        explained = Explained(model, X, target, names)
        start_of = starts_of(explained, baseline)[0]
        n = len(explained.table)
        with explained.running(), torch.no_grad():
            found = explained.summed(run(explained, start_of, **options), names[0])
            ranks = [_ranks(-found), _ranks(rng.random(found.shape))]
            for rows in pieces(explained, np.arange(n), options.get("batch_size")):
                values, start = explained.ends(rows, start_of)
                for number, share in enumerate(shares):
                    for order, rank in enumerate(ranks):
                        first = rank[rows.numpy()] < share * rank[0].size
                        masks = explained.spread(names[0], first, values)
                        for kind, keeps in enumerate((False, True)):
                            mixed = [
                                torch.where(mask == keeps, value, begin)
                                for mask, value, begin in zip(masks, values, start, strict=True)
                            ]
                            at = float(explained(*mixed, rows).sum()) / n
                            curves[2 * order + kind, number] += at
    columns = ["deletion", "insertion", "random_deletion", "random_insertion"]
    return pd.DataFrame(curves.T, pd.Index(shares, name="share"), columns)


def _ranks(values: np.ndarray) -> np.ndarray:
    """Return the place of each value of a row in ascending order, in the shape of `values`."""
    flat = values.reshape(len(values), -1)
    return flat.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable").reshape(values.shape)
