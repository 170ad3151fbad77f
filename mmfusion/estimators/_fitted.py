"""Whether an estimator is fitted."""

from __future__ import annotations

import sys
from types import FrameType

__all__ = ["Fitted"]

#: Where scikit-learn's searches and cross-validations live.
SEARCHES = "sklearn.model_selection"


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

    def _end_search(self, interrupted: bool) -> None:
        """Raise after Ctrl-C in a search or a cross-validation of scikit-learn.

        Alone, `fit` keeps what was learned by then; there, a half-trained candidate would be
        ranked among the others, and the search would go on.
        """
        if interrupted and _in_a_search():
            raise KeyboardInterrupt


def _in_a_search() -> bool:
    frame: FrameType | None = sys._getframe()
    while frame is not None:
        if str(frame.f_globals.get("__name__")).startswith(SEARCHES):
            return True
        frame = frame.f_back
    return False
