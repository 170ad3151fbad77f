"""Whether an estimator is fitted."""

from __future__ import annotations

__all__ = ["Fitted"]

#: What `fit` leaves beside the attributes whose names end with an underscore.
PRIVATE = ("_head", "_models", "_structured", "_late")


class Fitted:
    """An estimator is fitted once `fit` or `load` is done: one that failed leaves no model."""

    is_fitted_: bool

    def __sklearn_is_fitted__(self) -> bool:
        return hasattr(self, "is_fitted_")

    def _unfit(self) -> None:
        """Forget the last fit, of which a fit that fails must leave nothing to predict with."""
        public = [name for name in vars(self) if name.endswith("_") and not name.startswith("_")]
        for name in {*public, *PRIVATE}.intersection(vars(self)):
            delattr(self, name)
