"""Words of R, lifelines and patsy in a formula, and what says the same here."""

from __future__ import annotations

__all__ = ["CONTRASTS_ELSEWHERE", "FUNCTIONS", "OPERATORS"]

_RANDOM = "Random intercepts of the levels of g are re(g); random slopes are not supported."
_FRAILTY = "A frailty is a random intercept of the groups' levels: write re(g)."
_STRATA = 'Strata are no term: give their column to the model, as in FusionCox(strata="column").'
_CLUSTER = (
    'Clusters are no term: give their column to the model, as in FusionCox(cluster="column").'
)
_SPLINE = 'Write s(x) or s(x, bs="cr") for a penalised spline, bs(x, df=5) for one without penalty.'
_FACTOR = (
    "Write C(g), or C(g, ref='b') for another reference than the first level; its levels are those "
    "of the column, in the order of its categories."
)
_SURFACE = "Write te(x, z) for a smooth surface, ti(x, z) for its interaction alone."

FUNCTIONS = {
    **dict.fromkeys(("strata", "strat", "stratify"), _STRATA),
    **dict.fromkeys(("cluster",), _CLUSTER),
    "id": 'Rows of one patient are no term: give their column to the model, as id="column".',
    **dict.fromkeys(("frailty", "gamma_frailty", "ranef"), _FRAILTY),
    **dict.fromkeys(("ns", "pspline", "ps", "rcs", "cr", "cc", "lo", "rms", "smooth"), _SPLINE),
    **dict.fromkeys(("t2", "tensor"), _SURFACE),
    **dict.fromkeys(("factor", "ordered", "relevel"), _FACTOR),
    "Q": "A name that is no Python name stands in `backticks`.",
    **dict.fromkeys(("as.factor", "as.ordered", "as.character"), _FACTOR),
    "tt": "Write tv(x) for an effect that varies over time.",
    "Surv": "The outcome is no part of a formula: give surv(time, event) to fit.",
    "surv": "The outcome is no part of a formula: give surv(time, event) to fit.",
    "interaction": "Write the interaction a:b.",
    "ridge": "Write s(x) for a penalised effect, re(g) for penalised levels.",
    **dict.fromkeys(("cut", "ifelse"), "Make the column before: pandas.cut, numpy.where."),
    "weights": "Weights are no term: give them to fit, as sample_weight=.",
    "standardize": "Write scale(x).",
    **dict.fromkeys(("ln", "log_e"), "Write log(x)."),
    **dict.fromkeys(("abs", "pow", "min", "max"), "Write np.abs(x), I(x ** 2)."),
}

OPERATORS = {
    "~": "it must be the right-hand side alone, without '~': the outcome is given to fit.",
    "|": f"it must be the right-hand side alone, without '|'. {_RANDOM}",
    "%in%": "'%in%' is not known. Write the interaction a:b.",
    "^": "Write ** for a power: I(x ** 2), (a + b) ** 2.",
    ".": "'.' does not stand for all columns: name those that the formula shall read.",
}

CONTRASTS_ELSEWHERE = (
    "The reference is the first level: for another write C(column, ref='b'), which is "
    "Treatment('b') elsewhere, or order the column's categories. Write contr.sum for Sum, "
    "contr.poly for Poly, contr.helmert for Helmert, contr.diff for Diff."
)
