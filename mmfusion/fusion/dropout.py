"""Modality dropout: training rows lose modalities at random, so that absence is no surprise."""

from __future__ import annotations

import torch
from torch import Tensor

__all__ = ["drop_modalities"]


def drop_modalities(
    present: Tensor, rate: float | Tensor, generator: torch.Generator | None = None
) -> Tensor:
    """Return a presence mask from which modalities are missing at random.

    Each present modality is dropped with probability `rate`, independently; a row that would lose
    all it has keeps one of them, each with equal probability. So of a row with m modalities each
    is dropped with probability ``rate - rate ** m / m``: never for m = 1, `rate` for large m. With
    a rate a modality it is ``rate_k - prod(rates) / m``, the product over the row's m modalities.
    What is kept is not scaled up (Cheerla & Gevaert 2019 drop whole modalities in the same way).

    Parameters
    ----------
    present : Tensor of bool, shape (batch, n_modalities)
    rate : float in [0, 1], or Tensor of such, shape (n_modalities,)
    generator : torch.Generator, optional
        By default the global one of the mask's device.

    Returns
    -------
    Tensor of bool, shape (batch, n_modalities)
        Never True where `present` is False; a row that has a modality keeps one at least.

    Raises
    ------
    ValueError
        If a rate is outside [0, 1].

    Examples
    --------
    >>> import torch
    >>> present = torch.tensor([[True, True], [False, True]])
    >>> drop_modalities(present, 1.0).sum(1)
    tensor([1, 1])
    """
    rates = torch.as_tensor(rate)
    if not bool(((rates >= 0.0) & (rates <= 1.0)).all()):
        raise ValueError(f"The modality_dropout parameter must be in [0, 1]. Got {rate!r}.")
    device = present.device if generator is None else generator.device
    luck = torch.rand(present.shape, generator=generator, device=device).to(present.device)
    stays = luck >= rate
    if isinstance(rate, Tensor):
        luck = luck / rate  # of those that fell below their rate, uniform again
    luck = luck.masked_fill(~present, -1.0)
    # The luckiest stays in any case: where all fell below the rate, which that is is uniform.
    stays.scatter_(1, luck.argmax(dim=1, keepdim=True), True)
    return stays & present
