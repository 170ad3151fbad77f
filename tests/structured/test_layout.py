"""Layouts: terms over rows and grid against the design of every row and predictor written out."""

from __future__ import annotations

import pickle
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import skops.io
import statsmodels.api as sm

from mmfusion.heads import CategoricalHead, CoxHead, GaussianHead
from mmfusion.heads.discrete import DiscreteTimeHead
from mmfusion.heads.grid import Basis, Grid
from mmfusion.structured import (
    Design,
    Formula,
    Layout,
    Likelihood,
    fit_structured,
)

RNG = np.random.default_rng(4)
N = 60
FRAME = pd.DataFrame(
    {
        "x": RNG.normal(1.0, 2.0, N),
        "z": RNG.uniform(0.0, 3.0, N),
        "g": RNG.choice(["a", "b", "c"], N),
        "site": RNG.choice(list("ABCDE"), N),
    },
    index=[f"patient_{i}" for i in range(N)],
)
TIMES = np.array([0.5, 1.0, 2.0, 3.5, 5.0, 7.0, 8.0, 11.0, 12.0, 13.0, 16.0, 20.0])
GRID = Grid(tuple(f"interval {k}" for k in range(len(TIMES))), {"t": TIMES})


def head_of(
    grid: Grid = GRID, parameters: Basis | None = None, constants: Basis | None = None
) -> Any:
    """Return what a layout reads of a head: by default that of hazards with one constant."""
    one = Basis(("hazard",), np.ones((len(grid), 1)))
    moved = one if parameters is None else parameters
    return SimpleNamespace(
        baseline=None,
        grid=grid,
        parameters=moved,
        constants=moved if constants is None else constants,
    )


MEAN = head_of(Grid(("mean",)), Basis(("mean",), np.ones((1, 1))))


def written_out(layout: Layout, frame: pd.DataFrame) -> np.ndarray:
    """Return the design with a row a row and predictor, shape (n K, p)."""
    return layout.transform(frame).dense()


def long_table(frame: pd.DataFrame = FRAME, times: np.ndarray = TIMES) -> pd.DataFrame:
    """Return the table with a row a row and time, `t` an ordinary column."""
    rows = frame.loc[frame.index.repeat(len(times))]
    return rows.assign(t=np.tile(times, len(frame))).reset_index(drop=True)


def smoother(X: np.ndarray, terms: Any, sp: float) -> np.ndarray:
    """Return the map of a penalised least-squares fit, with another weight for each penalty."""
    total = 1e-9 * np.eye(X.shape[1])
    for term in terms:
        for j, penalty in enumerate(term.penalties):
            whole = penalty if penalty.ndim == 2 else np.diag(penalty)
            total[term.columns, term.columns] += sp * 5.0**j * whole
    return X @ np.linalg.solve(X.T @ X + total, X.T)


@pytest.mark.parametrize(
    "text",
    [
        "x + t",
        "x:t",
        "x + x:log(t)",
        "x * log(t) - 1",
        "C(g):t",
        "C(g) * t",
        "C(t):x + z",
        "C(g):C(t) - 1",
        "poly(t, 2) + g:poly(t, 2) + x",
        "z:bs(t, df=5):g + center(x):t",
        "2:t + I(t > 3):x",
        "s(t)",
        "s(t, bs='cr', k=6) + z",
        "s(t, by=x)",
        "tv(x) + tv(z, k=6, bs='cr') + g",
        "g + s(t, by=g, k=6)",
        "s(x, by=t) + t",
        "ti(x, t, k=4) + s(x) + s(t)",
        "re(site) + s(t) + x",
    ],
)
def test_terms_of_the_grid_are_those_of_the_table_written_out(text: str) -> None:
    layout = Layout(text).fit(FRAME, head_of())
    formula = Formula(text).fit(long_table())
    assert layout.names == formula.names_
    made, wanted = written_out(layout, FRAME), formula.transform(long_table())
    if "poly" in text:  # of length 1 over the points, over all rows there
        made, wanted = made / np.abs(made).max(0), wanted / np.abs(wanted).max(0)
    np.testing.assert_allclose(made, wanted, atol=1e-9)
    for ours, theirs in zip(layout.terms, formula.terms, strict=True):
        assert (ours.label, set(ours.variables)) == (theirs.label, set(theirs.variables))
        for mine, penalty in zip(ours.penalties, theirs.penalties, strict=True):
            np.testing.assert_allclose(mine, penalty, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    "text",
    [
        "te(x, t, k=4)",
        "te(t, x, k=(5, 4), bs='ps')",
        "s(x, t, k=4)",
        "te(x, t, z, k=3)",
        "g + te(t, x, by=g, k=4)",
        "te(x, t, by=z, k=4)",
    ],
)
@pytest.mark.parametrize("sp", [1e-2, 3.0])
def test_surfaces_over_table_and_grid_smooth_as_those_of_the_table_written_out(
    text: str, sp: float
) -> None:
    frame, times = FRAME.iloc[:40], TIMES[::2]
    grid = Grid(tuple(map(str, times)), {"t": times})
    layout = Layout(text).fit(frame, head_of(grid))
    long = long_table(frame, times)
    formula = Formula(text.replace("s(x, t", "te(x, t")).fit(long)
    here, there = written_out(layout, frame), formula.transform(long)
    assert here.shape == there.shape
    np.testing.assert_allclose(
        smoother(here, layout.terms, sp), smoother(there, formula.terms_, sp), atol=1e-6
    )
    (smooth, *_) = (term for term in layout.terms if term.penalties)
    if "by" not in text:
        np.testing.assert_allclose(here[:, smooth.columns].sum(0), 0.0, atol=1e-8)


def test_predictors_at_one_place_count_once_for_knots_and_each_for_the_constraint() -> None:
    twice = Grid(tuple(range(2 * len(TIMES))), {"t": np.tile(TIMES, 2)})  # type: ignore[arg-type]
    causes = Basis(("one", "two"), np.repeat(np.eye(2), len(TIMES), axis=0))
    layout = Layout("s(t, bs='cr', k=5)").fit(FRAME, head_of(twice, causes))
    single = Layout("s(t, bs='cr', k=5)").fit(FRAME, head_of())
    mine = written_out(layout, FRAME[:1])
    zeros = np.zeros((len(TIMES), 5))
    own = written_out(single, FRAME[:1])
    np.testing.assert_allclose(mine, np.block([[own, zeros], [zeros, own]]), atol=1e-12)


def test_new_rows_have_the_knots_and_levels_of_the_training_rows() -> None:
    text = "C(g):log(t) + te(x, t, k=4) + s(z) + tv(x) + re(site)"
    layout = Layout(text).fit(FRAME, head_of())
    whole = written_out(layout, FRAME).reshape(N, len(TIMES), -1)
    some = written_out(layout, FRAME.iloc[[7, 3]]).reshape(2, len(TIMES), -1)
    np.testing.assert_allclose(some, whole[[7, 3]], atol=1e-12)


def test_a_term_at_given_points_needs_its_variables_alone() -> None:
    text = "x:t + ti(x, t, k=4) + tv(z) + g + s(t, by=g, k=6) + re(site)"
    layout = Layout(text).fit(FRAME, head_of())
    formula, long = layout.formula("hazard"), long_table()
    design = written_out(layout, FRAME)
    for term in layout.terms:
        if term.penalties:
            part = formula.transform_term(term.label, long[list(term.variables)])
            np.testing.assert_allclose(part, design[:, term.columns], atol=1e-12)
    unit = formula.transform_term("tv(z)", pd.DataFrame({"t": TIMES}))
    np.testing.assert_array_equal(unit, formula.transform_term("tv(z)", long[:12].assign(z=1.0)))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("I(x * t)", r"'I\(x \* t\)' .* column 'x' and the coordinate 't' .* x:t or x:log\(t\)"),
        ("z + log(x + t)", r"'log\(x \+ t\)' .* Multiply a function of each"),
        ("re(t)", r"re\(t\) must name a column of the table.* s\(t\)"),
        ("s(x, z)", r"s\(x, z\) must name one column .* te\(x, z\)"),
        ("tv(t)", "another column than the time 't'"),
        ("tv(x, z)", r"'tv\(x, z\)' must name one column"),
        ("tv(x, by=z)", r"unknown option 'by'. tv\(\) takes k, bs, m, sp, df"),
        ("tv(x) + s(t, by=x)", r"tv\(x\) and s\(t\):x both hold the smooth effect of t"),
        ("s(t, bs='cr', k=20)", "Coordinate 't' has 12 distinct values over the predictors; .*20"),
        ("x + s(t) + te(x, t)", r"s\(t\) and te\(x, t\) .* s\(t\) \+ s\(x\) \+ ti\(t, x\)"),
        ("x:tt", r"'tt', which is neither .*\['t'\].* Nearest to 'tt': 't'"),
        ("log(I(t - 0.5)):x", r"'log\(I\(t - 0.5\)\)' .*Got -inf in predictor 'interval 0'"),
    ],
)
def test_what_the_grid_does_not_allow_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Layout(text).fit(FRAME, head_of())


def test_the_name_of_a_coordinate_is_no_column() -> None:
    both = FRAME.assign(t=1.0)
    with pytest.raises(ValueError, match=r"reads 't': a column of the table, but also a coord"):
        Layout("x:t").fit(both, head_of())
    assert Layout("x").fit(both, head_of()).names == ("Intercept", "x")
    # Where the predictors have no such coordinate it is a column as any other.
    plain = Layout("x:t + s(t)").fit(long_table(), MEAN)
    np.testing.assert_array_equal(
        written_out(plain, long_table()),
        Formula("x:t + s(t)").fit(long_table()).transform(long_table()),
    )
    with pytest.raises(ValueError, match=r"tv\(x\) is an effect that varies over the time 't'"):
        Layout("tv(x)").fit(FRAME, MEAN)
    assert Layout("tv(x)").fit(long_table(), MEAN).terms[0].label == "Intercept"


# Several parameters, and constants.


def test_one_formula_for_several_parameters_is_one_block_of_rows() -> None:
    head = CategoricalHead()
    head.fit_outcome(["u", "v", "w"])
    layout = Layout("x + C(g) + s(z, k=6)").fit(FRAME, head)
    formula = Formula("x + C(g) + s(z, k=6)").fit(FRAME)
    columns, width = formula.transform(FRAME), len(formula.names_)
    # Of each row three logits: nothing of the reference, then each class its own coefficients.
    wanted = np.zeros((N, 3, 2 * width))
    wanted[:, 1, :width] = wanted[:, 2, width:] = columns
    np.testing.assert_array_equal(written_out(layout, FRAME), wanted.reshape(3 * N, -1))
    named = [f"{name} [{label}]" for label in "vw" for name in formula.names_]
    assert list(layout.names) == named
    places = [(t.label, t.columns.start, t.columns.stop) for t in formula.terms_]
    assert [(t.label, t.columns.start, t.columns.stop) for t in layout.terms] == [
        (f"{label} [{parameter}]", start + shift, stop + shift)
        for parameter, shift in (("v", 0), ("w", width))
        for label, start, stop in places
    ]
    (block,) = layout.transform(FRAME).blocks
    assert block.basis.shape == (3, 2)
    assert block.rows.dense().shape == (N, width)
    shown = layout.index(["x [w]", "s(z) [v]", "C(g)[T.b] [v]"])
    assert shown.names == ["term", "parameter"]
    assert shown.tolist() == [("x", "w"), ("s(z)", "v"), ("C(g)[T.b]", "v")]


def test_constants_that_are_no_parameters_come_first() -> None:
    head = DiscreteTimeHead(cuts=[1.0, 2.0, 4.0])
    time = RNG.uniform(0.1, 4.0, N)
    time[0] = 4.0  # where the data end, the last interval does
    head.fit_outcome((time, np.ones(N, bool)))
    layout = Layout("x + g").fit(FRAME, head)
    columns = Formula("x + g").fit(FRAME, intercept=False).transform(FRAME)
    assert layout.constants == ("baseline (0, 1]", "baseline (1, 2]", "baseline (2, 4]")
    assert layout.names == (*layout.constants, "x", "g[T.b]", "g[T.c]")
    shared = np.repeat(columns, 3, axis=0)
    wanted = np.column_stack([np.tile(np.eye(3), (N, 1)), shared])
    np.testing.assert_array_equal(written_out(layout, FRAME), wanted)
    assert [t.columns for t in layout.terms] == [slice(3, 4), slice(4, 6)]
    assert layout.index(["x"]).tolist() == ["x"]
    one = DiscreteTimeHead(cuts=[4.0])
    one.fit_outcome((np.full(3, 4.0), [True, True, False]))
    assert Layout("x").fit(FRAME, one).names == ("baseline (0, 4]", "x")


@pytest.mark.parametrize(
    ("text", "alone"),
    [
        ("C(g) + C(g):t", "t"),
        ("g + g:t + x:log(t)", "t + log(t)"),
        ("g:x + g:x:C(t)", "C(t)"),
    ],
)
def test_beside_a_baseline_effects_over_the_grid_are_differences(text: str, alone: str) -> None:
    saturated = head_of(constants=Basis(GRID.names, np.eye(len(GRID))))
    layout = Layout(text).fit(FRAME, saturated)
    long = long_table()
    constants = pd.get_dummies(long["t"]).to_numpy(float)
    # R's rule, where the formula has the functions of `t` that the baseline holds.
    effects = Formula(f"{text} + {alone}").fit_transform(long)
    whole = np.column_stack([effects, constants])
    made = written_out(layout, FRAME)
    np.testing.assert_array_equal(made[:, : len(GRID)], constants)
    assert np.linalg.matrix_rank(made) == np.linalg.matrix_rank(whole) == made.shape[1]
    inside = whole @ np.linalg.lstsq(whole, made, rcond=None)[0]
    np.testing.assert_allclose(inside, made, atol=1e-8)


def test_beside_a_baseline_smooths_of_a_factor_are_differences() -> None:
    saturated = head_of(constants=Basis(GRID.names, np.eye(len(GRID))))
    layout = Layout("g + tv(g, k=6)").fit(FRAME, saturated)
    assert [term.label for term in layout.terms] == ["g", "tv(g)[b]", "tv(g)[c]"]
    full = Layout("g + tv(g, k=6)").fit(FRAME, head_of())
    (*_, last), (*_, same) = layout.terms, full.terms
    np.testing.assert_array_equal(
        written_out(layout, FRAME)[:, last.columns], written_out(full, FRAME)[:, same.columns]
    )
    made = written_out(layout, FRAME)
    assert np.linalg.matrix_rank(made) == made.shape[1]
    for text in ("t", "x + log(t)", "s(t)", "te(x, t)", "s(t, by=t2)"):
        grid = Grid(GRID.names, {"t": TIMES, "t2": TIMES**2})
        head = head_of(grid, constants=Basis(GRID.names, np.eye(len(GRID))))
        with pytest.raises(ValueError, match=r"coordinates alone, which the baseline has.* x:t"):
            Layout(text).fit(FRAME, head)


def test_a_cox_model_has_no_constant() -> None:
    head = CoxHead()
    head.fit_outcome((np.arange(1.0, N + 1), np.ones(N, bool)))
    for text in ("x + C(g)", "x + C(g) - 1"):
        layout = Layout(text).fit(FRAME, head)
        assert layout.names == ("x", "C(g)[T.b]", "C(g)[T.c]")
    (block,) = layout.transform(FRAME).blocks
    np.testing.assert_array_equal(block.columns, [[0, 1, 2]])


def test_a_formula_may_leave_out_its_own_constant() -> None:
    head = GaussianHead()
    head.fit_outcome(np.arange(5.0))
    assert Layout("x").fit(FRAME, head).names == ("Intercept", "x")
    assert Layout("x - 1").fit(FRAME, head).names == ("x",)


def test_each_parameter_may_have_its_own_formula() -> None:
    parameters = Basis(("loc", "scale", "shape"), np.eye(3))
    head = head_of(Grid(parameters.names), parameters)
    layout = Layout({"scale": "z + re(site)", "loc": "x + s(z, k=5)"}).fit(FRAME, head)
    assert layout.names[:2] == ("Intercept [loc]", "x [loc]")
    assert layout.names[-1] == "Intercept [shape]"
    loc = Formula("x + s(z, k=5)").fit(FRAME).transform(FRAME)
    scale = Formula("z + re(site)").fit(FRAME).transform(FRAME)
    wanted = np.zeros((N, 3, loc.shape[1] + scale.shape[1] + 1))
    wanted[:, 0, : loc.shape[1]] = loc
    wanted[:, 1, loc.shape[1] : -1] = scale
    wanted[:, 2, -1] = 1.0
    np.testing.assert_array_equal(written_out(layout, FRAME), wanted.reshape(-1, wanted.shape[2]))
    (smooth,) = (t for t in layout.terms if t.label == "s(z) [loc]")
    assert smooth.columns == slice(2, 6)
    assert set(layout.columns) == {"x", "z", "site"}
    assert layout.index(["z [scale]", "s(z) [loc]"]).tolist() == [("z", "scale"), ("s(z)", "loc")]
    with pytest.raises(ValueError, match=r"\['loc', 'scale', 'shape'\]. Got 'scael'.*'scale'"):
        Layout({"scael": "x"}).fit(FRAME, head)


def test_profiles_have_the_parameters_for_predictors() -> None:
    head = CategoricalHead()
    head.fit_outcome(["u", "v", "w"])
    layout = Layout("x + re(site)").fit(FRAME, head)
    profiles = layout.profiles(FRAME[:2])
    assert (profiles.n_rows, profiles.n_predictors) == (2, 2)
    assert all(block.basis.shape == (2, 2) for block in profiles.blocks)
    with pytest.raises(ValueError, match="'x:t' has another effect at each predictor"):
        Layout("x:t").fit(FRAME, head_of()).profiles(FRAME)


def test_no_formula_is_an_empty_design() -> None:
    baseline = Basis(tuple(GRID.names), np.eye(len(GRID)))
    for head in (head_of(), head_of(constants=baseline)):
        layout = Layout(None).fit(FRAME, head)
        assert (layout.names, layout.terms, layout.constants) == ((), (), ())
        design = layout.transform(FRAME)
        assert (design.n_rows, design.n_predictors, design.n_columns) == (N, len(GRID), 0)
        assert len(design.blocks) == 0


def test_ten_thousand_levels_are_never_a_matrix() -> None:
    levels = 10_000
    frame = pd.DataFrame({"site": np.arange(levels).repeat(2), "x": RNG.normal(size=2 * levels)})
    parameters = Basis(("u", "v"), np.eye(3)[:, 1:])
    layout = Layout("x + re(site)").fit(frame, head_of(Grid(("t", "u", "v")), parameters))
    dense, sites = layout.transform(frame).blocks
    assert dense.rows.dense().shape == (2 * levels, 2)
    assert not hasattr(sites.rows, "values")
    assert sites.columns.shape == (2, levels)
    np.testing.assert_array_equal(sites.columns[:, 0], [2, levels + 4])
    (penalty,) = layout.terms[-1].penalties
    assert penalty.shape == (levels,)
    assert len(pickle.dumps(layout.state())) < 100 * levels


def test_the_state_is_plain_and_rebuilds_the_layout() -> None:
    text = "C(g):log(t) + ti(x, t, k=4) + s(x) + tv(x) + re(site) + bs(z, df=4):poly(t, 2)"
    baseline = Basis(tuple(GRID.names), np.eye(len(GRID)))
    for formulas, head in (
        (f"{text} + te(t, z, k=4)", head_of()),
        ({"hazard": text}, head_of(constants=baseline)),
        (None, head_of()),
    ):
        layout = Layout(formulas).fit(FRAME, head)
        dumped = skops.io.dumps(layout.state())
        assert skops.io.get_untrusted_types(data=dumped) == []
        again = Layout.from_state(skops.io.loads(dumped))
        np.testing.assert_array_equal(written_out(again, FRAME), written_out(layout, FRAME))
        assert again.names == layout.names
        assert again.formulas == layout.formulas
        for ours, theirs in zip(again.terms, layout.terms, strict=True):
            assert (ours.label, ours.columns) == (theirs.label, theirs.columns)
            for mine, penalty in zip(ours.penalties, theirs.penalties, strict=True):
                np.testing.assert_array_equal(mine, penalty)


@pytest.mark.parametrize(
    "text", ["te(x, t, k=4, sp=(1, 3)) + re(site, sp=2)", "x + s(t, k=5, sp=2) + tv(z, k=5, sp=1)"]
)
def test_smooths_over_the_grid_are_fitted_as_their_design_written_out(text: str) -> None:
    rng = np.random.default_rng(2)
    n, cuts = 300, np.arange(1.0, 7.0)
    frame = pd.DataFrame(
        {"x": rng.normal(size=n), "z": rng.normal(size=n), "site": rng.integers(0, 12, n)}
    )
    score = np.sin(2 * frame["x"].to_numpy()) + 0.5 * frame["z"].to_numpy()
    hazard = 1 / (1 + np.exp(1.5 - score[:, None] * np.log(cuts)))
    fell = rng.uniform(size=hazard.shape) < hazard
    head = DiscreteTimeHead(cuts=cuts)
    target = head.fit_outcome((np.where(fell.any(1), cuts[fell.argmax(1)], 6.0), fell.any(1)))
    layout = Layout(text).fit(frame, head_of(Grid(head.grid.names, {"t": cuts})))
    design, likelihood = layout.transform(frame), Likelihood(head, target)
    fit = fit_structured(likelihood, design, layout.terms)
    whole = [np.diag(p) if p.ndim == 1 else p for term in layout.terms for p in term.penalties]
    terms = [
        replace(term, penalties=tuple(whole.pop(0) for _ in term.penalties))
        for term in layout.terms
    ]
    other = fit_structured(likelihood, Design.dense_of(design.dense(), 6), terms)
    np.testing.assert_allclose(fit.coef, other.coef, atol=1e-8)
    assert fit.edf == pytest.approx(other.edf, rel=1e-8)


def test_the_effect_of_a_column_times_time_is_that_of_a_logit_of_person_periods() -> None:
    rng = np.random.default_rng(11)
    n, cuts = 400, np.arange(1.0, 6.0)
    frame = pd.DataFrame({"x": rng.normal(size=n), "z": rng.normal(size=n)})
    hazard = 1 / (1 + np.exp(2 - 0.8 * frame["x"].to_numpy()[:, None] * (1 - cuts / 4)))
    fell = rng.uniform(size=hazard.shape) < hazard
    event = fell.any(1)
    time = np.where(event, cuts[fell.argmax(1)], cuts[-1])
    head = DiscreteTimeHead(cuts=cuts)
    target = head.fit_outcome((time, event))
    on_grid = SimpleNamespace(
        baseline=None,
        grid=Grid(head.grid.names, {"t": cuts}),
        parameters=head.parameters,
        constants=head.constants,
    )
    layout = Layout("x + x:t + z").fit(frame, on_grid)
    fit = fit_structured(Likelihood(head, target), layout.transform(frame))
    at_risk = (cuts[None] <= time[:, None]).ravel()
    long = long_table(frame, cuts)
    outcome = ((long["t"].to_numpy() == np.repeat(time, 5)) & np.repeat(event, 5)).astype(float)
    columns = np.column_stack(
        [np.tile(np.eye(5), (n, 1)), long["x"], long["z"], long["x"] * long["t"]]
    )
    theirs = sm.Logit(outcome[at_risk], columns[at_risk]).fit(disp=0, tol=1e-12)
    assert layout.names[5:] == ("x", "z", "x:t")
    np.testing.assert_allclose(fit.coef, theirs.params, atol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(fit.covariance)), theirs.bse, rtol=1e-5)
