"""Where an estimator's encoders start: a fitted pretrainer, which its clones share."""

from __future__ import annotations

from typing import Any, Self

from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.inputs.parameters import check_number

from ._model import Start
from ._parameters import NestedModalities
from .pretrainer import FusionPretrainer

__all__ = ["Pretrained"]

#: What nested parameters of the pretrainer would begin with.
_OF_PRETRAINER = "pretrained__"


class Pretrained(NestedModalities):
    """The ``pretrained`` parameter of an estimator."""

    pretrained: Any
    pretrained_lr_scale: Any

    def _make_start(self, strategy: JointFusion | EarlyFusion | LateFusion) -> Start | None:
        check_number("pretrained_lr_scale", self.pretrained_lr_scale, 0)
        pretrainer = self._pretrainer()
        if pretrainer is None:
            return None
        if isinstance(strategy, EarlyFusion):
            raise ValueError(
                "The pretrained parameter needs encoders of the modalities, which EarlyFusion has "
                "not: use JointFusion or LateFusion."
            )
        if strategy.dim != pretrainer.dim:
            raise ValueError(
                f"The dim parameter of {type(strategy).__name__} must be that of the pretrained "
                f"encoders, {pretrainer.dim}. Got {strategy.dim}."
            )
        return Start(pretrainer.model_, float(self.pretrained_lr_scale))

    def _pretrainer(self) -> FusionPretrainer | None:
        """Return the pretrainer that was given, frozen or not, checked to be a fitted one."""
        given = self.pretrained
        if given is None:
            return None
        if isinstance(given, FrozenEstimator):
            given = given.estimator
        if not isinstance(given, FusionPretrainer):
            raise TypeError(
                "The pretrained parameter must be a fitted FusionPretrainer or None. "
                f"Got {self.pretrained!r}."
            )
        check_is_fitted(
            given,
            msg="The pretrained parameter must be fitted: this %(name)s instance is not fitted "
            "yet. A search over pretrained= clones its candidates, and a clone is not fitted: "
            "wrap them in sklearn.frozen.FrozenEstimator.",
        )
        return given

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """Return the parameters; with `deep`, also those of each modality and of the fusion.

        Parameters
        ----------
        deep : bool, default=True

        Returns
        -------
        dict
            Without those of `pretrained`, which is fitted and shared.
        """
        params = super().get_params(deep=deep)
        return {key: value for key, value in params.items() if not key.startswith(_OF_PRETRAINER)}

    def set_params(self, **params: Any) -> Self:
        """Set parameters, nested ones too: ``modalities__ct__size=128``, ``fusion__dim=64``.

        Parameters
        ----------
        **params : dict

        Returns
        -------
        self

        Raises
        ------
        ValueError
            If a parameter or a modality is unknown, or is one of `pretrained`.
        """
        for key in params:
            if key.startswith(_OF_PRETRAINER):
                raise ValueError(
                    f"Invalid parameter {key!r}: the pretrainer is fitted, and clones share it. "
                    "Fit another FusionPretrainer and give it as pretrained=, in a grid within "
                    "sklearn.frozen.FrozenEstimator."
                )
        return super().set_params(**params)

    def __sklearn_clone__(self) -> Self:
        copy = super().__sklearn_clone__()
        copy.pretrained = self.pretrained  # fitted, which a clone of it would not be
        return copy
