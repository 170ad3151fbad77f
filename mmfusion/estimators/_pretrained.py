"""What a fitted pretrainer, which clones share, gives an estimator: encoders, modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self

import pandas as pd
from sklearn.frozen import FrozenEstimator
from sklearn.utils.validation import check_is_fitted

from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.inputs.parameters import check_number
from mmfusion.modalities import Modality, Tabular, infer_modalities
from mmfusion.model import Start
from mmfusion.model.auxiliary import check_same_modalities
from mmfusion.model.checks import check_modalities
from mmfusion.model.roles import role_columns

from ._parameters import NestedModalities

__all__ = ["Pretrained"]

#: What nested parameters of the pretrainer would begin with.
_OF_PRETRAINER = "pretrained__"


class Pretrained(NestedModalities):
    """The ``pretrained`` and the ``modalities`` parameter of an estimator."""

    pretrained: Any
    pretrained_lr_scale: Any
    structured: Any
    cluster: Any
    id: Any
    inference: Any
    treatment: Any

    def _start(self, strategy: JointFusion | EarlyFusion | LateFusion) -> Start | None:
        """Return where the encoders start; None where they start anew."""
        check_number("pretrained_lr_scale", self.pretrained_lr_scale, 0)
        pretrainer = self._pretrainer()
        if pretrainer is None:
            return None
        if not strategy.embeds:
            raise ValueError(
                "The pretrained parameter needs encoders of the modalities, which EarlyFusion has "
                "not: use JointFusion or LateFusion."
            )
        if strategy.width != pretrainer.dim:
            raise ValueError(
                f"The dim parameter of {type(strategy).__name__} must be that of the pretrained "
                f"encoders, {pretrainer.dim}. Got {strategy.width}."
            )
        return Start(pretrainer.model_, float(self.pretrained_lr_scale))

    def _pretrainer(self) -> Any:
        """Return the pretrainer that was given, frozen or not, checked to be a fitted one."""
        given = self.pretrained
        if given is None:
            return None
        if isinstance(given, FrozenEstimator):
            given = given.estimator
        if not isinstance(getattr(type(given), "gives_encoders", None), bool):
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

    def _given_modalities(
        self, table: pd.DataFrame | None, is_array: bool
    ) -> Mapping[str, Modality]:
        """Return the modalities that were given, or those of the pretrainer, or of the table."""
        pretrainer = self._pretrainer()
        given = self.modalities
        if pretrainer is not None:
            if given is None:
                return pretrainer.modalities_
            if given:
                check_modalities(given)
                check_same_modalities(given, pretrainer.modalities_)
        if table is None:
            return given or {}
        if given is None:
            named = {"cluster": self.cluster, "id": self.id, **self._context_columns()}
            treatment = self.treatment if self.inference == "double_ml" else None
            roles = role_columns(named, treatment, table)
            others = table.drop(columns=roles)
            if is_array:  # without names to go by
                return {"table": Tabular(list(others) if roles else None)}
            return infer_modalities(others)
        if self._formulas() is None or given:  # {} with a formula: the classical model
            check_modalities(given)
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
