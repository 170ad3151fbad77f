"""DeepPAMM: a piecewise-exponential additive model of a table, and networks of the modalities."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mmfusion.estimators import FusionPAMM
from mmfusion.fusion import JointFusion
from mmfusion.modalities import Modality

__all__ = ["deep_pamm"]


def deep_pamm(
    structured: str | Mapping[str, str], modalities: Mapping[str, Modality], **params: Any
) -> FusionPAMM:
    """Return DeepPAMM: hazards from additive terms in covariates and time, and from networks.

    Kopper, Wiegrebe, Bischl, Bender & Ruegamer (2022): a smooth baseline, structured effects that
    may vary over time, and a subnetwork a modality whose output adds to the log-hazard; what a
    subnetwork could take from the structured effects is taken off it.

    Deviations: the structured part is fitted exactly, smoothing parameters by restricted
    likelihood, where the paper trains it with the networks and sets them from degrees of freedom;
    orthogonalised after training, for the whole predictor (the authors' package does not); a row a
    subject, its images encoded once, where theirs repeats what a network says over intervals;
    cuts are quantiles of the event times unless `cuts` are given.

    Parameters
    ----------
    structured : str or dict of str to str
        The formula, or one a cause: ``"s(age) + tv(treatment)"``.
    modalities : dict of str to Modality
        Each adds to the log-hazard by itself.
    **params
        Of `FusionPAMM`: cuts, deep_time_varying.

    Returns
    -------
    FusionPAMM

    Examples
    --------
    >>> from mmfusion import Image
    >>> deep_pamm("s(age)", {"scan": Image("image", size=8, channels="L")}).fusion
    JointFusion(hidden=())
    """
    settings: dict[str, Any] = {"fusion": JointFusion("concat", hidden=())}
    return FusionPAMM(modalities, structured=structured, **settings | params)
