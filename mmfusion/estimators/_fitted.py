"""Whether an estimator is fitted."""

from __future__ import annotations

__all__ = ["Fitted"]


class Fitted:
    """An estimator is fitted once `fit` or `load` is done: one that failed leaves no model."""

    is_fitted_: bool

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "is_fitted_")

    def _unfit(self) -> None:
        """Forget the last fit, of which a fit that fails must leave nothing to predict with."""
        public = [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]
        for name in public:
            delattr(self, name)
