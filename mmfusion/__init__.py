"""Survival analysis and tabular fusion with several modalities, behind a scikit-learn API."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from mmfusion.modalities import Embedding, Genes, Image, Points, Tabular
    from mmfusion.survival import surv

__version__ = "0.1.0"
__all__ = ["Embedding", "Genes", "Image", "Points", "Tabular", "__version__", "surv"]


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: modalities load torch, which metrics do not need."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    room = "mmfusion.survival" if name == "surv" else "mmfusion.modalities"
    return getattr(import_module(room), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
