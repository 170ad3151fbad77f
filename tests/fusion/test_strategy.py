from __future__ import annotations

from typing import Any

import pytest
from sklearn.base import clone

from mmfusion.fusion import (
    Concat,
    EarlyFusion,
    Gated,
    JointFusion,
    LateFusion,
    build_operator,
    check_fusion,
)


@pytest.mark.parametrize("name", ["concat", "sum", "gated"])
def test_a_name_is_a_joint_operator(name: str) -> None:
    strategy = check_fusion(name)
    assert isinstance(strategy, JointFusion)
    assert strategy.operator == name


@pytest.mark.parametrize(
    "strategy", [JointFusion("sum", 8), EarlyFusion(hidden=(4,)), LateFusion("stack", dim=5)]
)
def test_strategies_pass_unchanged_and_clone(strategy: Any) -> None:
    assert check_fusion(strategy) is strategy
    assert clone(strategy).get_params() == strategy.get_params()


def test_late_members_are_of_one_modality() -> None:
    member = LateFusion(dim=7, hidden=(3, 2), dropout=0.3).member()
    assert member.get_params() == {
        "operator": "concat",
        "dim": 7,
        "hidden": (3, 2),
        "dropout": 0.3,
    }


def test_build_operator() -> None:
    assert isinstance(build_operator(JointFusion("gated", 8), [3, 4]), Gated)
    early = build_operator(EarlyFusion(), [3, 4])
    assert isinstance(early, Concat)
    assert early.width == 9


@pytest.mark.parametrize(
    ("fusion", "message"),
    [
        ("gatd", r"Got 'gatd'. Did you mean 'gated'\?"),
        (JointFusion("summ"), r"Got 'summ'. Did you mean 'sum'\?"),
        ("early", r"EarlyFusion\(\) and LateFusion\(\) are objects"),
        (JointFusion(dim=0), "dim parameter of JointFusion must be a positive integer. Got 0"),
        (JointFusion(dim=True), "Got True"),
        (LateFusion(dim=2.5), "dim parameter of LateFusion .* Got 2.5"),
        (JointFusion(hidden=32), "hidden parameter of JointFusion must be a tuple .* Got 32"),
        (EarlyFusion(hidden=(8, 0)), r"hidden parameter of EarlyFusion .* Got \(8, 0\)"),
        (EarlyFusion(hidden="ab"), "Got 'ab'"),
        (LateFusion(dropout=1.0), r"dropout parameter of LateFusion must be .* \[0, 1\). Got 1.0"),
        (JointFusion(dropout="0.1"), "Got '0.1'"),
        (EarlyFusion("ica"), "reduce parameter of EarlyFusion must be 'pca', .* Got 'ica'"),
        (EarlyFusion("pca", 0), "n_components parameter of EarlyFusion .* Got 0"),
        (EarlyFusion("pca", 1.0), r"a share in \(0, 1\). Got 1.0"),
        (EarlyFusion("pca", True), "Got True"),
        (EarlyFusion(hidden=None), "only with reduce='pca' or reduce='features'"),
        (LateFusion("median"), "how parameter of LateFusion must be one of .* Got 'median'"),
        (LateFusion(combine="curve"), "combine parameter of LateFusion .* Got 'curve'"),
        (LateFusion("stack", "survival"), "how='stack' with combine='survival'"),
        (LateFusion(folds=1), "folds parameter of LateFusion .* 2 or more. Got 1"),
    ],
)
def test_what_is_refused(fusion: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check_fusion(fusion)


@pytest.mark.parametrize("fusion", [None, 3, JointFusion, ["concat"]])
def test_wrong_type(fusion: Any) -> None:
    with pytest.raises(TypeError, match="fusion parameter must be one of"):
        check_fusion(fusion)
