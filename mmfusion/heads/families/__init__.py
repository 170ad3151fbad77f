"""Families of distributions, by name."""

from typing import Any

from mmfusion.heads.families.base import Family
from mmfusion.heads.families.counts import (
    Bernoulli,
    NegativeBinomial,
    Poisson,
    ZeroInflatedNegativeBinomial,
    ZeroInflatedPoisson,
)
from mmfusion.heads.families.frozen import Distribution
from mmfusion.heads.families.ordinal import Ordinal
from mmfusion.heads.families.positive import (
    Exponential,
    Gamma,
    InverseGaussian,
    LogLogistic,
    LogNormal,
    Weibull,
)
from mmfusion.heads.families.real import Gumbel, Logistic, Normal, StudentT
from mmfusion.heads.families.unit import Beta

__all__ = ["FAMILIES", "Distribution", "Family", "check_family"]

FAMILIES: dict[str, type[Family]] = {
    "normal": Normal,
    "student_t": StudentT,
    "logistic": Logistic,
    "gumbel": Gumbel,
    "log_normal": LogNormal,
    "log_logistic": LogLogistic,
    "weibull": Weibull,
    "exponential": Exponential,
    "gamma": Gamma,
    "inverse_gaussian": InverseGaussian,
    "beta": Beta,
    "poisson": Poisson,
    "negative_binomial": NegativeBinomial,
    "zero_inflated_poisson": ZeroInflatedPoisson,
    "zero_inflated_negative_binomial": ZeroInflatedNegativeBinomial,
    "bernoulli": Bernoulli,
    "ordinal": Ordinal,
}


def check_family(family: Any) -> Family:
    """Return a family by its name, or one that was given.

    Raises
    ------
    ValueError, TypeError
        For an unknown name, and for anything that is no `Family`.
    """
    if isinstance(family, Family):
        return family
    if isinstance(family, type) and issubclass(family, Family):
        return family()
    if not isinstance(family, str):
        raise TypeError(
            "The family parameter must be a name or a Family of your own. "
            f"Got {type(family).__name__}."
        )
    if family not in FAMILIES:
        raise ValueError(f"The family parameter must be one of {list(FAMILIES)}. Got {family!r}.")
    return FAMILIES[family]()
