"""Maps of images from inside their encoder: Grad-CAM, guided backpropagation, attention rollout."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np
import pandas as pd
import torch
from PIL import Image as PILImage
from torch import Tensor, nn
from torch.nn import functional

from mmfusion.encoders.own import run_on_zeros
from mmfusion.interpret._baseline import Baseline
from mmfusion.interpret._explained import Explained
from mmfusion.interpret._gradients import Found, keep, pieces
from mmfusion.modalities.image import images_in

__all__ = ["MAPS", "original_size", "resized"]

#: The last stage is taken whose map has so many places a side; where none has, the last whose map
#: has more than one. Later stages know less of where: each convolution blurs, and a normalisation
#: over the whole map (group, instance) carries what a lesion does into its background.
PLACES = 14


def original_size(modality: Any, table: pd.DataFrame) -> tuple[int, int] | None:
    """Return the height and width of the images before they were resized; None if they differ."""
    sizes = set()
    for column in modality.columns_:
        for cell in table[column]:
            for image in images_in(cell):
                sizes.add(_size(image, modality))
                if len(sizes) > 1:
                    return None
    return sizes.pop() if sizes else None


def _size(image: Any, modality: Any) -> tuple[int, int]:
    if isinstance(image, torch.Tensor):
        return int(image.shape[-2]), int(image.shape[-1])
    if isinstance(image, np.ndarray):
        return int(image.shape[0]), int(image.shape[1])
    if not isinstance(image, PILImage.Image):
        path = image if modality.root is None else modality.root / image
        with PILImage.open(path) as opened:
            width, height = opened.size
            turned = opened.getexif().get(0x0112, 1) in (5, 6, 7, 8)
        return (width, height) if turned else (height, width)
    return image.height, image.width


def resized(maps: np.ndarray, size: tuple[int, ...]) -> np.ndarray:
    """Return maps (k, h, w) at another size, float32: what each place holds is spread, not lost."""
    if maps.shape[1:] == tuple(size):
        return maps.astype(np.float32)
    down, across = (_spread(old, new) for old, new in zip(maps.shape[1:], size, strict=True))
    return (down @ maps.astype(np.float32)) @ across.T


def _spread(old: int, new: int) -> np.ndarray:
    """Return what each of `new` places takes of each of `old` ones, columns of sum 1."""
    unit = torch.eye(old, dtype=torch.float64)[:, None]
    mode: dict[str, Any] = (
        {"mode": "linear", "align_corners": False} if new > old else {"mode": "area"}
    )
    weights = functional.interpolate(unit, new, **mode)[:, 0].numpy().T
    return (weights / weights.sum(0)).astype(np.float32)


class _Grid(nn.Module):
    """A layer whose output is a map, (k, channels, height, width), on its way out.

    With a `grid` it is what the layer reads: tokens, laid out as the patches they stand for, those
    before them (of the class) left out.
    """

    def __init__(self, layer: nn.Module, n_prefix: int = 0, grid: Any = None, last: bool = False):
        super().__init__()
        self.layer, self.n_prefix, self.grid, self.last = layer, n_prefix, grid, last
        self.map = nn.Identity()

    def forward(self, *args: Any, **options: Any) -> Tensor:
        if self.grid is not None:
            before, tokens = args[0][:, : self.n_prefix], args[0][:, self.n_prefix :]
            shown = self.map(tokens.transpose(1, 2).unflatten(2, self.grid))
            read = torch.cat([before, shown.flatten(2).transpose(1, 2)], dim=1)
            return self.layer(read, *args[1:], **options)
        found = self.layer(*args, **options)
        if self.last:  # channels come last
            return self.map(found.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        return self.map(found)


def _transforms(backbone: Any) -> bool:
    return hasattr(backbone, "blocks") and hasattr(backbone, "num_prefix_tokens")


def _layer(backbone: Any, shape: tuple[int, ...]) -> tuple[str, dict[str, Any]]:
    """Return the name of the layer whose map Grad-CAM weighs, and how its output is laid out.

    Of a transformer what its first block reads: from there on each token also holds what others
    told it, and that of a background may hold what is known of the whole image (Darcet et al. 2024,
    arXiv 2309.16588). Of a convolutional network the last of its stages whose map
    has 14 places a side, if any has: stages are those that a network of timm names, of others the
    outermost modules, and where none of them puts out a map all modules.
    """
    if _transforms(backbone):
        grid = tuple(backbone.patch_embed.grid_size)
        return "blocks.0", {"n_prefix": backbone.num_prefix_tokens, "grid": grid}
    named = {entry["module"] for entry in getattr(backbone, "feature_info", ())}
    found: list[tuple[str, int]] = []

    def look(name: str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, output: Any) -> None:
            if isinstance(output, Tensor) and output.ndim == 4:
                sides = output.shape[1:3] if last else output.shape[2:]
                if min(sides) > 1:
                    found.append((name, min(sides)))

        return hook

    last = str(getattr(backbone, "output_fmt", "NCHW")).endswith("NHWC")
    with ExitStack() as stack:
        for name, module in backbone.named_modules():
            if name and (name in named or not named):
                stack.callback(module.register_forward_hook(look(name)).remove)
        run_on_zeros(backbone, shape, backbone)
    outer = [(name, side) for name, side in found if "." not in name or name in named]
    if not any(side >= PLACES for _, side in outer):
        outer = found
    wide = [name for name, side in outer if side >= PLACES] or [name for name, _ in outer]
    if not wide:
        raise ValueError(
            f"The method 'grad_cam' needs a network that makes maps of an image of {shape[-2:]}. "
            f"{type(backbone).__name__} makes none. Use 'integrated_gradients'."
        )
    return wide[-1], {"last": last}


def _networks(explained: Explained, name: str) -> list[Any]:
    """Return the vision encoders of a modality, one a member; one alone where it is frozen."""
    network = next(n for n in explained.model.deep.networks.values() if name in n.modalities)
    encoders = [member.encoders[name] for member in network.members]
    if network.encoders[name].frozen:
        encoders = [network.encoders[name]]
    return [getattr(encoder, "source", encoder) for encoder in encoders]


@contextmanager
def _grids(explained: Explained, name: str) -> Iterator[list[nn.Module]]:
    """Yield the module of each member through which the map of a modality passes."""
    with ExitStack() as stack:
        maps: list[nn.Module] = []
        modality = explained.estimator.modalities_[name]
        shape = (modality.n_channels_, *modality.size_)
        for encoder in _networks(explained, name):
            device = next(explained.members.parameters()).device
            encoder.to("cpu")
            path, layout = _layer(encoder.backbone, shape)
            encoder.to(device)
            parent, _, own = path.rpartition(".")
            holder = encoder.backbone.get_submodule(parent)
            layer = holder.get_submodule(own)
            grid = _Grid(layer, **layout).to(device)
            holder.register_module(own, grid)
            stack.callback(holder.register_module, own, layer)
            maps.append(grid.map)
        yield maps


def grad_cam(
    explained: Explained,
    baseline: Baseline,
    *,
    relu: bool = False,
    batch_size: int | None = None,
) -> Found:
    """Weigh the maps of a stage by their gradients; `relu` keeps what speaks for it.

    Each place by its own gradient (HiResCAM, Draelos & Carin 2020, arXiv 2011.08891), not by the
    channel's mean (Selvaraju et al. 2017): the two are the same where the map is averaged and read,
    and the mean says nothing where more follows. A normalisation of the whole map takes a constant
    off, so that the mean of its gradients is next to 0. The maps are taken less those of the
    baseline: a risk has no zero, and without one a constant of the maps would say which places
    speak for it and which against.
    """
    from captum.attr import LayerActivation, LayerGradientXActivation

    def find(name: str, values: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        total: Any = 0.0
        start = explained.ends(rows, baseline)[1]
        for value in values:
            value.requires_grad_()
        with _grids(explained, name) as maps:
            for module in maps:
                gradient = LayerGradientXActivation(explained, module, multiply_by_inputs=False)
                slope = gradient.attribute(values, additional_forward_args=rows)
                activation = LayerActivation(explained, module)
                ends = [
                    activation.attribute(end, additional_forward_args=rows)
                    for end in (values, start)
                ]
                total = total + (slope * (ends[0] - ends[1])).sum(1).detach()
        return total.clamp_min(0.0) if relu else total

    return _of_images(explained, batch_size, find)


def guided_backprop(
    explained: Explained, baseline: Baseline, *, batch_size: int | None = None
) -> Found:
    """Return gradients that pass no ReLU downwards (Springenberg et al. 2015)."""
    from captum.attr import GuidedBackprop

    for name in explained.names:
        for encoder in _networks(explained, name):
            _refuse_other_than_relu(encoder.backbone, name)
    method = GuidedBackprop(explained)

    def find(name: str, values: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of hooks that it sets and takes back
            found = method.attribute(values, additional_forward_args=rows)
        own = explained.split(found)[name][0].sum(2)
        there = explained.inputs[name].counts[explained.owner[rows.cpu()]]  # type: ignore[attr-defined]
        return own[(torch.arange(own.shape[1]) < there[:, None]).to(own.device)]

    return _of_images(explained, batch_size, find)


def _refuse_other_than_relu(backbone: nn.Module, name: str) -> None:
    known = vars(nn.modules.activation).values()
    kinds = tuple(kind for kind in known if isinstance(kind, type) and issubclass(kind, nn.Module))
    found = {type(m).__name__ for m in backbone.modules() if type(m) in kinds}
    if found != {"ReLU"}:
        raise ValueError(
            f"The method 'guided_backprop' is defined for networks of ReLU. That of {name!r} has "
            f"{sorted(found) or 'no activation'}. Use 'grad_cam' or 'integrated_gradients'."
        )


def attention_rollout(
    explained: Explained, baseline: Baseline, *, batch_size: int | None = None
) -> Found:
    """Multiply the blocks' mean attention, half of each residual (Abnar & Zuidema 2020)."""
    for name in explained.names:
        for encoder in _networks(explained, name):
            if not _transforms(encoder.backbone):
                raise ValueError(
                    "The method 'attention_rollout' is of transformers. The encoder of "
                    f"{name!r} is a {type(encoder.backbone).__name__}: use 'grad_cam'."
                )

    def find(name: str, values: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        encoders, total = _networks(explained, name), torch.zeros(1, device=explained.device)
        for encoder in encoders:
            with _attentions(encoder.backbone) as seen, torch.no_grad():
                explained(*values, rows)
            rolled = None
            for attention in seen:
                mean = 0.5 * attention.mean(1)
                mean += 0.5 * torch.eye(mean.shape[-1], device=mean.device)
                rolled = mean if rolled is None else mean @ rolled
            assert rolled is not None
            n_prefix = encoder.backbone.num_prefix_tokens
            of_class = encoder.backbone.global_pool == "token" and n_prefix > 0
            row = rolled[:, 0] if of_class else rolled.mean(1)
            grid = encoder.backbone.patch_embed.grid_size
            total = total + row[:, n_prefix:].unflatten(1, tuple(grid)) / len(encoders)
        return total

    return _of_images(explained, batch_size, find)


def bag_attention(
    explained: Explained, baseline: Baseline, *, batch_size: int | None = None
) -> Found:
    """Return each image's weight among those of its row, spread over its pixels."""
    for name in explained.names:
        if any(
            getattr(encoder, "attention", None) is None for encoder in _networks(explained, name)
        ):
            raise ValueError(
                f"The method 'attention' is of images whose bags are weighted: fit {name!r} as "
                "Image(..., pool='attention')."
            )

    def find(name: str, values: tuple[Tensor, ...], rows: Tensor) -> Tensor:
        seen: list[Tensor] = []
        with ExitStack() as stack, torch.no_grad():
            for encoder in _networks(explained, name):
                hook = encoder.attention.register_forward_hook(
                    lambda module, args, output: seen.append(output.detach())
                )
                stack.callback(hook.remove)
            explained(*values, rows)
        counts = explained.inputs[name].counts[explained.owner[rows]]  # type: ignore[attr-defined]
        weights = torch.stack(seen).mean(0) if seen else torch.ones(int(counts.sum()))
        return weights[:, None, None]

    return _of_images(explained, batch_size, find)


@contextmanager
def _attentions(backbone: Any) -> Iterator[list[Tensor]]:
    """Yield a list that the attention of each block is put into, (k, heads, length, length)."""
    seen: list[Tensor] = []
    with ExitStack() as stack:
        for block in backbone.blocks:
            attention = block.attn
            if hasattr(attention, "fused_attn"):
                stack.callback(setattr, attention, "fused_attn", attention.fused_attn)
                attention.fused_attn = False  # which keeps no attention
            hook = attention.attn_drop.register_forward_hook(
                lambda module, args, output: seen.append(output.detach().float())
            )
            stack.callback(hook.remove)
        yield seen


def _of_images(
    explained: Explained,
    batch_size: int | None,
    find: Callable[[str, tuple[Tensor, ...], Tensor], Tensor],
) -> Found:
    """Return the maps of each image modality at the size the network sees, (n, bag, h, w)."""
    result: Found = []
    every = np.arange(len(explained.table))
    batches = []
    for rows in pieces(explained, every, batch_size or 64):
        values, _ = explained.ends(rows, Baseline())
        mine = []
        for name, own in explained.split(values).items():
            part = explained.inputs[name]
            counts = part.counts[explained.owner[rows]]  # type: ignore[attr-defined]
            there = torch.arange(own[0].shape[1]) < counts[:, None]
            shape = own[0].shape
            whole = torch.zeros(shape[0], shape[1], *shape[-2:])
            if there.any():
                small = find(name, tuple(v.detach().clone() for v in values), rows).cpu()
                maps = resized(small.numpy(), tuple(shape[-2:]))
                whole[there] = torch.from_numpy(maps)
            mine.append(whole.numpy())
        batches.append(mine)
    keep(result, batches, every, len(every))
    return result


MAPS: dict[str, Callable[..., Found]] = {
    "grad_cam": grad_cam,
    "guided_backprop": guided_backprop,
    "attention_rollout": attention_rollout,
    "attention": bag_attention,
}
