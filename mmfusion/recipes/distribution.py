"""Whole distributions: semi-structured, of survival times, and additive alone."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from mmfusion.estimators import FusionDistribution
from mmfusion.fusion import JointFusion
from mmfusion.inputs.parameters import check_choice
from mmfusion.modalities import Modality

__all__ = ["aft", "sadr", "ssddr"]

AFT = ("weibull", "log_normal", "log_logistic", "exponential")


def ssddr(
    structured: str | Mapping[str, str],
    modalities: Mapping[str, Modality],
    family: str = "normal",
    deep: str | Sequence[str] | None = None,
    **params: Any,
) -> FusionDistribution:
    """Return semi-structured distributional regression (Ruegamer, Kolb & Klein 2023).

    A formula for each parameter of a distribution, and a network a modality whose output adds to
    the predictors of the parameters in `deep`; orthogonalisation takes from the networks what the
    formulas can say.

    Deviations: the formulas are fitted exactly first and beside the networks, smoothing parameters
    by restricted likelihood, where the paper trains all together and sets them from degrees of
    freedom; orthogonalised after training, for the whole predictor (theirs, within it, is
    ``orthogonalization="online"``); the parameters in `deep` share their networks' encoders.

    Parameters
    ----------
    structured : str or dict of str to str
        The location's formula, or one a parameter: ``{"loc": "s(x)", "scale": "x"}``.
    modalities : dict of str to Modality
    family : str, default="normal"
    deep : str or sequence of str, optional
        By default the location.
    **params
        Of `FusionDistribution`.

    Returns
    -------
    FusionDistribution

    Examples
    --------
    >>> from mmfusion import Image
    >>> images = {"photo": Image("photo")}
    >>> ssddr({"loc": "s(area)", "scale": "area"}, images, deep=("loc", "scale")).family
    'normal'
    """
    settings: dict[str, Any] = {"fusion": JointFusion("concat", hidden=())}
    return FusionDistribution(
        modalities, structured=structured, family=family, deep=deep, **settings | params
    )


def aft(
    structured: str | Mapping[str, str],
    modalities: Mapping[str, Modality] | None = None,
    family: str = "weibull",
    **params: Any,
) -> FusionDistribution:
    """Return an accelerated failure time model (Kalbfleisch & Prentice 2002, section 2.2.3).

    ``log T = loc + scale z``: a unit of a column multiplies times by exp(coefficient). Right, left
    and interval censoring and delayed entry come with the outcome (`mmfusion.surv`).

    Parameters
    ----------
    structured : str or dict of str to str
        The formula of `loc`, or ``{"loc": ..., "scale": ...}``.
    modalities : dict of str to Modality, optional
        What networks add to `loc`; by default nothing.
    family : {"weibull", "log_normal", "log_logistic", "exponential"}
        Of the exponential the formula is of the log-rate.
    **params
        Of `FusionDistribution`.

    Returns
    -------
    FusionDistribution

    Examples
    --------
    >>> aft("age + treatment").family
    'weibull'
    """
    check_choice("family", family, AFT)
    return FusionDistribution(modalities or {}, structured=structured, family=family, **params)


def sadr(
    structured: str | Mapping[str, str],
    modalities: Mapping[str, Modality] | None = None,
    family: str = "normal",
    **params: Any,
) -> FusionDistribution:
    """Return structured additive distributional regression (Klein, Kneib, Lang & Sohn 2015).

    Every parameter from smooth, random and varying effects; with modalities, networks move the
    location too.

    Deviations: restricted likelihood in the place of Markov chains, so that intervals are those of
    empirical Bayes (Wood 2006); spatial effects are smooths of coordinates, ``s(x, y)``, or random
    effects of regions, ``re(region)``, without neighbourhoods.

    Parameters
    ----------
    structured : str or dict of str to str
        The location's formula, or one a parameter.
    modalities : dict of str to Modality, optional
    family : str, default="normal"
    **params
        Of `FusionDistribution`.

    Returns
    -------
    FusionDistribution

    Examples
    --------
    >>> sadr({"rate": "s(age) + re(region)"}, family="negative_binomial").family
    'negative_binomial'
    """
    return FusionDistribution(modalities or {}, structured=structured, family=family, **params)
