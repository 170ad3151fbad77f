"""The stages of a backbone, from its input on, and what it takes to freeze some."""

from __future__ import annotations

from numbers import Integral
from typing import Any

from torch import nn

__all__ = ["freeze_stages", "frozen_parts"]


def freeze_stages(backbone: nn.Module, freeze: Any) -> None:
    """Stop the training of a backbone's first stages.

    A timm model's stages are its own: the stem, then each stage of a CNN or block of a transformer
    (the last takes the final normalisation). Any other module's are its children that have
    parameters.

    Parameters
    ----------
    backbone : torch.nn.Module
    freeze : None, "all" or int
        No stage, all of them, or the first so many.

    Raises
    ------
    ValueError
        If `freeze` is something else, or more than there are stages.
    """
    if freeze is None:
        return
    if isinstance(freeze, str) and freeze == "all":
        backbone.requires_grad_(False)
        return
    if not isinstance(freeze, Integral) or isinstance(freeze, bool) or int(freeze) < 1:
        raise ValueError(
            "The freeze parameter of Image must be None, 'all' or a positive number of stages. "
            f"Got {freeze!r}."
        )
    stages = _stages(backbone)
    if int(freeze) > len(stages):
        raise ValueError(
            f"The freeze parameter of Image must be at most {len(stages)}, the stages of "
            f"{type(backbone).__name__}. Got {freeze}."
        )
    for stage in stages[: int(freeze)]:
        for parameter in stage:
            parameter.requires_grad_(False)


def _stages(backbone: Any) -> list[list[nn.Parameter]]:
    if hasattr(backbone, "group_matcher"):
        from timm.models import group_parameters

        parameters = dict(backbone.named_parameters())
        groups = group_parameters(backbone, backbone.group_matcher(coarse=True))
        return [[parameters[name] for name in groups[ordinal]] for ordinal in sorted(groups)]
    children = [list(child.parameters()) for child in backbone.children()]
    return [parameters for parameters in children if parameters]


def frozen_parts(backbone: nn.Module) -> list[nn.Module]:
    """Return the largest modules without a trained parameter, the backbone itself if it has none.

    They stay in evaluation mode: batch normalisation would go on learning its statistics, and
    dropout would make features random that nothing is trained on.
    """
    if not any(parameter.requires_grad for parameter in backbone.parameters()):
        return [backbone]
    found: list[nn.Module] = []
    for child in backbone.children():
        if any(True for _ in child.parameters()):  # a lone dropout belongs to what is trained
            found += frozen_parts(child)
    return found
