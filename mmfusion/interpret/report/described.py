"""The model in words and as a formula."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import numpy as np

from mmfusion.inputs.messages import shorten
from mmfusion.interpret.plots import plot_learning_curves
from mmfusion.interpret.report.blocks import Block, Section, Table, Text, draw, either
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.tables import PaperTable

__all__ = ["equation", "in_words", "the_model"]

#: What kind of model each estimator is.
KINDS = {
    "FusionCox": "a Cox proportional hazards model",
    "FusionPAMM": "a piecewise exponential additive model of hazards over time",
    "FusionDiscreteTime": "a model of hazards in intervals of time",
    "FusionClassifier": "a (multinomial) logistic regression",
    "FusionRegressor": "a Gaussian regression",
    "FusionDistribution": "a regression of all parameters of a distribution",
}
#: What is on the left of the equation.
LEFT = {
    "FusionCox": "<var>h</var>(<var>t</var> | <var>x</var>) = <var>h</var><sub>0</sub>"
    "(<var>t</var>) · exp(",
    "FusionPAMM": "log <var>h</var>(<var>t</var> | <var>x</var>) = <var>f</var><sub>0</sub>"
    "(<var>t</var>) + ",
    "FusionDiscreteTime": "<var>h</var>(<var>t</var><sub>k</sub> | <var>x</var>) = "
    "<var>g</var>(<var>a</var><sub>k</sub> + ",
}
LEFT_ELSE = "<var>g</var>(E <var>y</var>) = <var>β</var><sub>0</sub> + "


def the_model(found: Evidence) -> Section:
    """Return the section that says what was fitted."""
    model = found.model
    section = Section("model", "The model")
    section.blocks += [Text.of(sentence) for sentence in in_words(model)]
    section.blocks.append(Text(f'<span class="equation">{equation(model)}</span>'))
    section.blocks += [*_modalities(model), *_learning(model)]
    return section


def in_words(model: Any) -> list[str]:
    """Return what was fitted, a sentence or some a part."""
    name = type(model).__name__
    said = [f"The model is {KINDS.get(name, 'a regression')} ({name})."]
    modalities = model.modalities_
    formulas = _formulas(model)
    if formulas:
        said.append(
            f"Its structured part is the formula {formulas}, fitted by penalised maximum "
            "likelihood: these are the effects that can be reported one by one."
        )
    if modalities:
        fusion = model.fusion if isinstance(model.fusion, str) else repr(model.fusion)
        together = f", fused by {fusion}" if len(modalities) > 1 else ""
        said.append(
            f"Neural networks read {_listed(list(modalities))}{together}. A row without one of "
            "them is predicted from the others."
        )
        said.append(_kept(model))
        linear = _linear(model)
        if linear:
            said.append(
                f"Beside the networks stands a ridge regression on the features of "
                f"{_listed(linear)}, a penalty a modality, by restricted maximum likelihood."
            )
    if formulas and modalities:
        kept = model.inference_.orthogonalization
        if kept is not None:
            said.append(
                "What the networks say that the formula can say too was given to the formula "
                f"(orthogonalisation: {kept}), so that its coefficients keep their meaning."
            )
        said.append(f"Reported effects are {model.effects_.attrs['estimand']}.")
    return said


def equation(model: Any) -> str:
    """Return the model as an equation, in HTML."""
    name = type(model).__name__
    parts = []
    formulas = _formulas(model)
    if formulas:
        parts.append(f"<var>x</var>′<var>β</var> [{escape(formulas)}]")
    if model.modalities_:
        for what, names in (("linear", _linear(model)), ("network", [*model.modalities_])):
            if names:
                parts.append(f"{what}({', '.join(escape(str(one)) for one in names)})")
    left = LEFT.get(name, LEFT_ELSE)
    opened = left.count("(") - left.count(")")
    return left + " + ".join(parts) + ")" * max(opened, 0)


def _formulas(model: Any) -> str:
    formulas = model._formulas()
    if formulas is None:
        return ""
    if isinstance(formulas, Mapping):
        return "; ".join(f"{name}: {text}" for name, text in formulas.items())
    return str(formulas)


def _linear(model: Any) -> list[str]:
    """Return the modalities whose features have a linear part."""
    linear = model.model_.deep.linear
    return [] if linear is None else [name for name in model.modalities_ if name in linear.coef]


def _kept(model: Any) -> str:
    share = np.asarray(model.model_.deep.share, np.float64)
    if not share.any():
        return "On rows they did not train on the networks helped nothing, and were left out."
    low, high = share.min(), share.max()
    amount = f"{low:.0%}" if np.isclose(low, high) else f"{low:.0%} to {high:.0%}"
    return (
        f"Of the networks' predictor {amount} is kept: as much as rows that did not train them "
        "believe."
    )


def _modalities(model: Any) -> list[Block]:
    if not model.modalities_:
        return []
    rows = []
    for name, modality in model.modalities_.items():
        encoder = getattr(modality, "encoder", None)
        shown = shorten([str(column) for column in modality.columns_], show=str)
        described = "–" if encoder is None else str(encoder)
        rows.append((0, [str(name), type(modality).__name__, described, shown]))
    heads = ["modality", "kind", "encoder", "columns"]
    return [Table(PaperTable(heads, rows, "What the networks read"))]


def _learning(model: Any) -> list[Block]:
    if model.history_.empty:
        return []
    return either(
        lambda: [
            draw(
                lambda ax: plot_learning_curves(model.history_, ax),
                "Lines of the training loss, and of the loss of judging rows, by epoch. "
                f"The best epoch is {model.best_epoch_}.",
                "How the networks learned. Loss by epoch: dashed on training rows, solid on rows "
                "that judge when to stop (none where each network has a fold of its own).",
            )
        ],
        "Learning curves",
    )


def _listed(names: list[Any]) -> str:
    texts = [str(name) for name in names]
    return texts[0] if len(texts) == 1 else f"{', '.join(texts[:-1])} and {texts[-1]}"
