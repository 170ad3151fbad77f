from __future__ import annotations

from typing import Any

import pytest
import torch
from sklearn.base import clone

from mmfusion.fusion import (
    OPERATORS,
    Concat,
    EarlyFusion,
    Gated,
    JointFusion,
    LateFusion,
    build_operator,
    check_fusion,
    operator_options,
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
        "at": "embedding",
        "options": None,
    }


def test_build_operator() -> None:
    assert isinstance(build_operator(JointFusion("gated", 8), [3, 4]), Gated)
    early = build_operator(EarlyFusion(), [3, 4])
    assert isinstance(early, Concat)
    assert early.width == 9
    low_rank = build_operator(JointFusion("low_rank_tensor", 8, options={"rank": 3}), [3, 4])
    assert low_rank.rank == 3
    bare = JointFusion("mean", 8, options={"project": False})
    assert build_operator(bare, [4, 4]).width == 4
    with pytest.raises(ValueError, match=r"project option .* one width. Got widths \(3, 4\)"):
        build_operator(bare, [3, 4])
    hidden = build_operator(JointFusion("tensor", 8, hidden=(5, 2), at="hidden"), [7, 7])
    assert hidden.width == 9  # of two hidden layers of width 2


def test_options_are_those_of_the_constructor() -> None:
    assert operator_options("low_rank_bilinear") == {"rank": 32}
    assert operator_options("concat") == {}
    for name in OPERATORS:
        options = operator_options(name)
        state = torch.get_rng_state()
        assert check_fusion(JointFusion(name, 8, options=options)).options == options
        assert torch.equal(torch.get_rng_state(), state)  # checking draws nothing
        at_its_defaults = build_operator(JointFusion(name, 8, options=options), [3, 4])
        assert at_its_defaults.width == build_operator(JointFusion(name, 8), [3, 4]).width


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
        (JointFusion(at="token"), r"at parameter of JointFusion must be one of .* Got 'token'"),
        (
            JointFusion("product", at="tokens"),
            r"take tokens, \['attention', .*'transformer'\]. Got .* operator 'product'",
        ),
        (JointFusion("concat", options=4), "options parameter of JointFusion must be a dict"),
        (
            JointFusion("low_rank_bilinear", options={"ranks": 4}),
            r"may hold \['rank'\] with operator 'low_rank_b.* Got 'ranks'. Did you mean 'rank'",
        ),
        (JointFusion("gated", options={"rank": 4}), "must be None or empty with operator 'gated'"),
        (JointFusion("sum", options={"project": 1}), "project option of JointFusion .* Got 1"),
        (
            JointFusion("low_rank_tensor", options={"rank": 0}),
            "rank option of JointFusion must be a positive integer. Got 0",
        ),
        (JointFusion("compact_bilinear", options={"size": 2.5}), "size option .* Got 2.5"),
        (JointFusion("perceiver", options={"n_latents": True}), "n_latents option .* Got True"),
        (
            JointFusion("transformer", dim=32, options={"n_heads": 5}),
            "n_heads option of JointFusion must divide its dim, 32. Got 5",
        ),
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
