"""What an estimator was asked to do is checked as one value, before any data is seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from sklearn.base import clone

from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionPAMM,
    FusionRegressor,
)
from mmfusion.fusion import EarlyFusion, JointFusion, LateFusion
from mmfusion.modalities import Tabular
from mmfusion.model import Plan
from mmfusion.objectives import Similarity
from mmfusion.training import Training
from tests.model.common import TABLES, make_cox, study

ESTIMATORS = [FusionCox, FusionDiscreteTime, FusionPAMM, FusionClassifier, FusionRegressor]


@pytest.mark.parametrize("kind", ESTIMATORS)
def test_defaults_are_a_plan(kind: type) -> None:
    """Without a table, modalities that would be inferred from it are left out."""
    plan = Plan.of(kind())
    assert plan.name == kind.__name__
    assert plan.modalities == {}
    assert plan.formulas == ("1" if kind is FusionPAMM else None)
    assert plan.inference == "model"
    assert plan.subject is None
    assert plan.stops_early
    assert plan.strategy.pool == "single"
    assert not plan.design_use.read
    assert plan.settings.epochs == 100
    kind()._validate_params()


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"head": "linear"}, ValueError, r"head parameter must be one of 'additive', 'nonlinear'"),
    ({"inference": "robus"}, ValueError, r"inference parameter .* Did you mean 'robust'"),
    ({"orthogonalization": "posthoc"}, ValueError, r"orthogonalization parameter must be one of"),
    ({"structured": 3}, TypeError, r"structured parameter must be a formula .* Got 3"),
    ({"structured": {}}, TypeError, r"structured parameter must be a formula .* Got \{\}"),
    ({"structured": {"loc": 1}}, TypeError, r"structured parameter must be a formula"),
    (
        {"structured": "x", "head": "nonlinear", "fusion": LateFusion(hidden=())},
        ValueError,
        r"head parameter may be 'nonlinear' only where hidden layers follow .* Got LateFusion",
    ),
    (
        {"structured": "x", "head": "nonlinear", "fusion": EarlyFusion("pca", hidden=None)},
        ValueError,
        r"head parameter may be 'nonlinear' only",
    ),
    ({"inference": "double_ml"}, ValueError, r"'double_ml' needs a formula .* structured=None"),
    ({"modalities": [Tabular()]}, TypeError, r"modalities parameter must be a dict of name"),
    ({"modalities": {"a__b": Tabular()}}, ValueError, r"name must be a string without '__'"),
    ({"modalities": {"a": "age"}}, TypeError, r"Modality 'a' must be a Tabular, .* Got 'age'"),
    (
        {"modalities": TABLES, "modality_dropout": {"c": 0.1}},
        ValueError,
        r"modality_dropout parameter must name modalities of the model, which are \['a', 'b'\]",
    ),
    ({"fusion": "gatd"}, ValueError, r"Did you mean 'gated'"),
    ({"fusion": JointFusion(dim=0)}, ValueError, r"dim"),
    ({"epochs": 0}, ValueError, r"epochs parameter must be an integer in \[1, inf\]\. Got 0"),
    ({"patience": 0}, ValueError, r"patience parameter"),
    ({"validation_fraction": 1}, ValueError, r"validation_fraction parameter"),
    ({"training": {"ema": 0.9}}, TypeError, r"training parameter must be a .*Training object"),
    ({"training": Training(ema=1.0)}, ValueError, r"ema parameter"),
    ({"pretrained": "weights"}, TypeError, r"pretrained parameter must be a fitted"),
    ({"auxiliary": Similarity()}, TypeError, r"auxiliary"),
]


@pytest.mark.parametrize(("given", "error", "message"), REFUSED)
def test_what_is_refused_before_data(
    given: dict[str, Any], error: type[Exception], message: str
) -> None:
    model = FusionRegressor(**given)
    with pytest.raises(error, match=message):
        model._validate_params()
    with pytest.raises(error, match=message):
        Plan.of(clone(model))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (FusionCox(ties="efrn"), r"ties parameter .* Did you mean 'efron'"),
        (FusionDiscreteTime(loss="logistic"), r"loss parameter must be one of"),
        (
            FusionDiscreteTime(loss="pmf", structured="x"),
            r"loss parameter must be one of .* with a formula",
        ),
        (
            FusionRegressor(treatment="arm", structured="arm"),
            r"treatment parameter is read with inference='double_ml' alone",
        ),
        (
            FusionRegressor(structured="arm", inference="double_ml"),
            r"treatment parameter must name a term",
        ),
        (
            FusionClassifier(fusion=LateFusion(combine="survival")),
            r"combines the curves of FusionCox\. FusionClassifier knows combine='risk' alone",
        ),
        (
            FusionCox(fusion=LateFusion(combine="survival"), structured="x"),
            r"has no log-hazard to add a formula to",
        ),
    ],
)
def test_what_single_estimators_refuse_before_data(model: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        model._validate_params()


@pytest.mark.parametrize("kind", ESTIMATORS)
@pytest.mark.parametrize(
    ("name", "value"), [("ema", None), ("weight_decay", 0.1), ("precision", "bf16-mixed")]
)
def test_the_old_spelling_of_settings_names_the_new_one(kind: Any, name: str, value: Any) -> None:
    said = rf"{name} parameter of {kind.__name__} .* training=Training\({name}="
    with pytest.raises(TypeError, match=said):
        kind(**{name: value})
    with pytest.raises(ValueError, match=said):
        kind().set_params(**{name: value})


def test_the_plan_of_a_table() -> None:
    """Columns with a role in the outcome are nobody's modality."""
    frame, _ = study()
    model = FusionCox(id="patient", strata="site", cluster="z", random_state=7)
    plan = Plan.of(model, frame)
    assert plan.context == {"strata": "site"}
    assert (plan.subject, plan.cluster, plan.random_state) == ("patient", "z", 7)
    read = set()
    for modality in plan.modalities.values():
        read |= set(modality.fit(frame).columns_)
    assert not read & {"patient", "site", "z"}
    assert {"x", "a0", "image"} <= read
    array = Plan.of(FusionCox(), pd.DataFrame(np.zeros((3, 2))), is_array=True)
    assert list(array.modalities) == ["table"]


def test_the_design_is_read_where_a_network_reads_it() -> None:
    assert not Plan.of(make_cox(modalities=TABLES)).design_use.read
    nonlinear = Plan.of(make_cox(modalities=TABLES, head="nonlinear")).design_use
    assert (nonlinear.joins, nonlinear.orthogonal) == (True, False)
    online = Plan.of(make_cox(modalities=TABLES, orthogonalization="online")).design_use
    assert (online.joins, online.orthogonal) == (False, True)
    alone = make_cox(modalities=TABLES, structured=None, head="nonlinear")
    assert not Plan.of(alone).design_use.read


def test_a_ridge_does_not_stop_early() -> None:
    ridge = EarlyFusion("pca", hidden=None)
    assert not Plan.of(FusionCox(TABLES, ridge)).stops_early
    assert Plan.of(FusionCox(TABLES)).stops_early
    assert not Plan.of(FusionCox(TABLES, patience=None)).stops_early


def test_the_plan_for_a_part_of_the_rows() -> None:
    """Its modalities are unfitted copies, and what the part cannot have is left out."""
    model = FusionRegressor(
        TABLES,
        structured="x",
        inference="double_ml",
        treatment="x",
        cluster="site",
        id="patient",
        modality_dropout={"a": 0.1, "b": 0.2},
        auxiliary=[Similarity()],
        verbose=2,
        random_state=3,
    )
    plan = Plan.of(model)
    frame, _ = study()
    fitted = {"b": clone(TABLES["b"]).fit(frame)}
    teaches = np.ones((10, 1), dtype=bool)
    part = plan.for_part(fitted, None, teaches)
    assert list(part.modalities) == ["b"]
    assert part.modalities["b"] is not fitted["b"]
    assert not hasattr(part.modalities["b"], "columns_")
    assert (part.inference, part.treatment) == ("model", None)
    assert part.modality_dropout == part.settings.modality_dropout == {"b": 0.2}
    assert part.objectives == ()  # a pair of modalities is needed
    assert part.settings.verbose == 0
    assert part.teaches is teaches
    kept = ("formulas", "cluster", "subject", "random_state", "strategy", "head", "judged")
    assert all(getattr(part, name) is getattr(plan, name) for name in kept)
    # The plan itself is as it was.
    assert list(plan.modalities) == ["a", "b"]
    assert plan.inference == "double_ml"
    assert plan.settings.verbose == 2
    assert len(plan.for_part(plan.modalities, None, teaches).objectives) == 1
