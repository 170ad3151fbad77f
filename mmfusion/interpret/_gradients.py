"""Attributions of inputs: along a path, by gradients, by leaving features out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from mmfusion.interpret._baseline import Baseline
from mmfusion.interpret._explained import Explained

__all__ = ["METHODS", "ends_of", "pieces"]

#: Numbers of the inputs that are held at once, over rows and steps.
BUDGET = 1 << 24
#: Rows and steps that are held at once at most.
AT_ONCE = 4096

Found = list[np.ndarray]


def pieces(explained: Explained, rows: np.ndarray, batch_size: int | None) -> list[Tensor]:
    """Return the rows in batches that memory carries, each with steps beside it."""
    return [*torch.from_numpy(rows).split(at_once(explained, batch_size))]


def at_once(explained: Explained, batch_size: int | None) -> int:
    """Return how many rows, or steps of rows, are looked at together."""
    if batch_size is not None:
        return batch_size
    numbers = sum(part.size for part in explained.inputs.values()) + 1
    return int(np.clip(BUDGET // numbers, 1, AT_ONCE))


def ends_of(explained: Explained, rows: Tensor, baseline: Baseline) -> tuple[Tensor, Tensor]:
    """Return the target of some rows and of their baseline."""
    values, start = explained.ends(rows, baseline)
    with torch.no_grad():
        return explained(*values, rows), explained(*start, rows)


def integrated_gradients(
    explained: Explained,
    baseline: Baseline,
    *,
    n_steps: int = 32,
    max_steps: int = 1024,
    tolerance: float = 0.01,
    batch_size: int | None = None,
) -> Found:
    """Return integrated gradients (Sundararajan, Taly & Yan 2017), by Gauss-Legendre.

    The steps are doubled for the rows whose attributions do not add up to the change of the target
    yet, but for a share `tolerance`.
    """
    from captum.attr import IntegratedGradients

    method, size = IntegratedGradients(explained), at_once(explained, batch_size)
    result: Found = []
    waiting = np.arange(len(explained.table))
    scale: float | None = None
    while len(waiting):
        missing, found_of, changes = [], [], []
        for rows in pieces(explained, waiting, max(1, size // 8)):
            values, start = explained.ends(rows, baseline)
            with torch.no_grad():
                change = explained(*values, rows) - explained(*start, rows)
            found = method.attribute(
                values,
                start,
                additional_forward_args=rows,
                n_steps=n_steps,
                internal_batch_size=max(size, len(rows)),
            )
            total = sum(each.double().flatten(1).sum(1) for each in found)
            missing.append((total - change).abs().cpu().numpy())
            changes.append(change.abs().cpu().numpy())
            found_of.append([each.detach().cpu().numpy() for each in found])
        change_of, gap = np.concatenate(changes), np.concatenate(missing)
        if scale is None:
            scale = float(change_of.mean())
        keep(result, found_of, waiting, len(explained.table))
        waiting = waiting[gap > tolerance * np.maximum(change_of, scale)]
        n_steps *= 2
        if n_steps > max_steps:
            break
    return result


def keep(result: Found, batches: Sequence[Found], rows: np.ndarray, n: int) -> None:
    """Put what batches found of some rows into the arrays of all rows, made at the first time."""
    widest = [
        tuple(np.max([batch[k].shape[1:] for batch in batches], axis=0))
        for k in range(len(batches[0]))
    ]
    if not result:
        result += [np.zeros((n, *shape), dtype=np.float64) for shape in widest]
    first = 0
    for batch in batches:
        mine = rows[first : first + len(batch[0])]
        first += len(mine)
        for whole, part in zip(result, batch, strict=True):
            # Bags are as wide as the largest of their batch.
            if part.shape[1:] != whole.shape[1:] and part.ndim > 1:
                whole[mine, : part.shape[1]] = part
            else:
                whole[mine] = part


def _each(
    explained: Explained,
    baseline: Baseline,
    batch_size: int | None,
    attribute: Callable[[Any, Any, Tensor], Sequence[Tensor]],
) -> Found:
    """Return what a method finds, batch by batch."""
    result: Found = []
    all_rows = np.arange(len(explained.table))
    batches = []
    for rows in pieces(explained, all_rows, batch_size):
        values, start = explained.ends(rows, baseline)
        found = attribute(tuple(v.clone().requires_grad_() for v in values), start, rows)
        batches.append([each.detach().cpu().numpy() for each in found])
    keep(result, batches, all_rows, len(all_rows))
    return result


def input_x_gradient(
    explained: Explained, baseline: Baseline, *, batch_size: int | None = None
) -> Found:
    """Return the gradient at the row, times what is between it and the baseline."""
    from captum.attr import Saliency

    method = Saliency(explained)

    def attribute(values: Any, start: Any, rows: Tensor) -> list[Tensor]:
        gradients = method.attribute(values, abs=False, additional_forward_args=rows)
        return [g * (v - s) for g, v, s in zip(gradients, values, start, strict=True)]

    return _each(explained, baseline, batch_size, attribute)


def gradient_shap(
    explained: Explained,
    baseline: Baseline,
    *,
    n_samples: int = 50,
    random_state: int = 0,
    batch_size: int | None = None,
) -> Found:
    """Return gradients at random points between row and baseline (Lundberg & Lee 2017).

    A sample at a time, so that memory does not grow with them.
    """
    from captum.attr import Saliency

    method, rng = Saliency(explained), np.random.default_rng(random_state)
    draws = rng.random((n_samples, len(explained.table)))

    def attribute(values: Any, start: Any, rows: Tensor) -> list[Tensor]:
        values = tuple(value.detach() for value in values)
        total = [torch.zeros_like(value) for value in values]
        for draw in draws:
            at = torch.from_numpy(draw[rows.numpy()]).to(values[0].device)
            points = tuple(
                (s + at.to(v.dtype).view(-1, *[1] * (v.ndim - 1)) * (v - s))
                .detach()
                .requires_grad_()
                for v, s in zip(values, start, strict=True)
            )
            gradients = method.attribute(points, abs=False, additional_forward_args=rows)
            for sum_of, g, v, s in zip(total, gradients, values, start, strict=True):
                sum_of += g * (v - s) / n_samples
        return total

    return _each(explained, baseline, batch_size, attribute)


def occlusion(
    explained: Explained,
    baseline: Baseline,
    *,
    window: int = 8,
    batch_size: int | None = None,
) -> Found:
    """Return what the target loses as one column, or one window of an image, is at the baseline."""
    return _by_features(explained, baseline, "FeatureAblation", window, batch_size)


def shapley_sampling(
    explained: Explained,
    baseline: Baseline,
    *,
    n_samples: int = 25,
    window: int = 8,
    random_state: int = 0,
    batch_size: int | None = None,
) -> Found:
    """Return Shapley values of columns or windows, by random orders (Castro et al. 2009)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(random_state)
        return _by_features(
            explained, baseline, "ShapleyValueSampling", window, batch_size, n_samples=n_samples
        )


def _by_features(
    explained: Explained,
    baseline: Baseline,
    method: str,
    window: int,
    batch_size: int | None,
    **options: Any,
) -> Found:
    import captum.attr

    whole = getattr(captum.attr, method)(explained)

    def attribute(values: Any, start: Any, rows: Tensor) -> list[Tensor]:
        masks = feature_masks(explained, values, window)
        with torch.no_grad():
            found = whole.attribute(
                values,
                start,
                additional_forward_args=rows,
                feature_mask=tuple(
                    mask.to(v.device) for mask, v in zip(masks, values, strict=True)
                ),
                **options,
            )
        # The method gives each input its feature's value: one of them is enough.
        return [each / count for each, count in zip(found, _sharers(masks), strict=True)]

    return _each(explained, baseline, batch_size, attribute)


def feature_masks(explained: Explained, values: Sequence[Tensor], window: int) -> list[Tensor]:
    """Return the feature that each input belongs to, counted over all of them."""
    masks, first = [], 0
    for name, own in explained.split(values).items():
        if name in explained.inputs:
            mine, first = explained.inputs[name].masks(own, first, window)
        else:
            count = own[0].shape[1]
            mine = [torch.arange(count)[None] + first]
            first += count
            for extra in own[1:]:
                mine.append(torch.arange(extra.shape[1])[None] + first)
                first += extra.shape[1]
        masks += mine
    return masks


def _sharers(masks: Sequence[Tensor]) -> list[Tensor]:
    """Return how many inputs have the same feature as each."""
    counts = torch.bincount(torch.cat([mask.flatten() for mask in masks]))
    return [counts[mask].double() for mask in masks]


def deep_lift(
    explained: Explained,
    baseline: Baseline,
    *,
    tolerance: float = 0.01,
    batch_size: int | None = None,
) -> Found:
    """Return DeepLIFT's rescale rule (Shrikumar et al. 2017); refuse it where it does not add up.

    It knows few activations; others it takes for linear.
    """
    from captum.attr import DeepLift

    method = DeepLift(explained)

    def attribute(values: Any, start: Any, rows: Tensor) -> Sequence[Tensor]:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hooks that it sets and takes back
            return method.attribute(values, start, additional_forward_args=rows)

    try:
        found = _each(explained, baseline, batch_size, attribute)
    except (AssertionError, RuntimeError) as error:
        raise ValueError(
            f"The method 'deep_lift' cannot read these networks: {error}. Use "
            "'integrated_gradients'."
        ) from error
    total = sum(each.reshape(len(each), -1).sum(1) for each in found)
    rows = torch.arange(len(explained.table))
    end, start = ends_of(explained, rows, baseline)
    change = (end - start).cpu().numpy()
    gap = np.abs(total - change) / np.maximum(np.abs(change), np.abs(change).mean())
    if not gap.max(initial=0.0) <= tolerance:
        raise ValueError(
            "The method 'deep_lift' does not hold for these networks: its attributions miss the "
            f"change of the prediction by up to {gap.max():.0%}. It knows ReLU, tanh and sigmoid, "
            "and takes other layers (SiLU, SELU, normalisation) for linear. Use "
            "'integrated_gradients'."
        )
    return found


METHODS: dict[str, Callable[..., Found]] = {
    "integrated_gradients": integrated_gradients,
    "input_x_gradient": input_x_gradient,
    "gradient_shap": gradient_shap,
    "occlusion": occlusion,
    "shapley_sampling": shapley_sampling,
    "deep_lift": deep_lift,
}
