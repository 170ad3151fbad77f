from __future__ import annotations

import pickle
import warnings
from typing import Any

import numpy as np
import pandas as pd
import patsy
import pytest
import skops.io
from hypothesis import given, settings
from hypothesis import strategies as st

from mmfusion.structured import without_columns
from mmfusion.structured.formula import Formula
from mmfusion.structured.terms import term_from_state, term_state


def make_frame(n: int = 80, seed: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    return pd.DataFrame(
        {
            "age": rng.uniform(30, 80, n).round(1),
            "dose": rng.normal(1.0, 1.0, n),
            "treatment": rng.integers(0, 2, n),
            "sex": rng.choice(["f", "m"], n),
            "stage": rng.choice([1, 2, 3], n),
            "site": rng.choice(list("ABCDE"), n),
            "body mass": rng.normal(25, 3, n),
            "smoker": rng.random(n) > 0.5,
        },
        index=[f"patient_{i}" for i in range(n)],
    )


FRAME = make_frame()
EVERYTHING = (
    "treatment + C(stage)*dose + poly(age, 2) + bs(dose, df=5) + center(`body mass`) + "
    "ti(age, dose, k=4) + te(dose, `body mass`, k=4) + s(age, by=sex, k=6) + "
    "s(dose, by=age, bs='cr', k=5) + re(site, df=2)"
)


def test_names_and_terms_of_a_clinical_formula() -> None:
    formula = Formula("treatment + s(age, k=5) + C(stage) + sex:dose + re(site)").fit(
        FRAME, intercept=False
    )
    assert formula.names_ == (
        "treatment",
        *("C(stage)[T.2]", "C(stage)[T.3]"),
        *("sex[f]:dose", "sex[m]:dose"),
        *(f"s(age).{j}" for j in range(1, 5)),
        *(f"re(site)[{site}]" for site in "ABCDE"),
    )
    assert [(term.label, term.kind) for term in formula.terms_] == [
        ("treatment", "parametric"),
        ("C(stage)", "parametric"),
        ("sex:dose", "parametric"),
        ("s(age)", "smooth"),
        ("re(site)", "random"),
    ]
    assert not formula.intercept
    assert set(formula.columns_) == {"treatment", "age", "stage", "sex", "dose", "site"}
    assert formula.terms_[2].variables == ("sex", "dose")


def test_the_terms_tile_the_design() -> None:
    formula = Formula(EVERYTHING).fit(FRAME)
    stops = [0, *(term.columns.stop for term in formula.terms_)]
    assert [term.columns.start for term in formula.terms_] == stops[:-1]
    design = formula.transform(FRAME)
    assert stops[-1] == len(formula.names_) == design.shape[1]
    np.testing.assert_array_equal(Formula(EVERYTHING).fit_transform(FRAME), design)
    assert len(set(formula.names_)) == len(formula.names_)
    for term in formula.terms_:
        width = term.columns.stop - term.columns.start
        assert all(penalty.shape == (width, width) for penalty in term.penalties)
        assert (term.kind == "parametric") == (term.penalties == ())


@pytest.mark.parametrize(
    ("ours", "theirs"),
    [
        ("treatment + age", "treatment + age"),
        ("C(stage)", "C(stage)"),
        ("sex * dose", "sex * dose"),
        ("sex:dose", "sex:dose"),
        ("C(stage):sex", "C(stage):sex"),
        ("C(stage, contr.sum)", "C(stage, Sum)"),
        ("C(stage, contr.treatment(base=3))", "C(stage, Treatment(3))"),
        ("(sex + C(stage) + dose)**2", "(sex + C(stage) + dose)**2"),
        ("log(age) + I(age / 10) + I(age > 50)", "np.log(age) + I(age / 10) + I(age > 50)"),
        ("`body mass` + np.sqrt(age)", "Q('body mass') + np.sqrt(age)"),
        ("bs(age, df=5)", "bs(age, df=5)"),
        ("bs(age, knots=[40, 60], degree=2)", "bs(age, knots=[40, 60], degree=2)"),
        ("center(age)", "center(age)"),
        ("0 + C(stage) + dose", "0 + C(stage) + dose"),
        ("~ age", "age"),
    ],
)
def test_parametric_terms_agree_with_patsy(ours: str, theirs: str) -> None:
    formula = Formula(ours).fit(FRAME)
    wanted = np.asarray(patsy.dmatrix(theirs, FRAME))
    assert sorted(map(tuple, formula.transform(FRAME).T.round(9))) == sorted(
        map(tuple, wanted.T.round(9))
    )


def test_poly_spans_the_powers_and_is_orthonormal() -> None:
    formula = Formula("poly(age, 3)").fit(FRAME)
    design = formula.transform(FRAME)
    np.testing.assert_allclose(design[:, 1:].T @ design[:, 1:], np.eye(3), atol=1e-10)
    age = (FRAME["age"].to_numpy() - 55) / 25
    powers = np.vander(age, 4)
    fitted = design @ np.linalg.lstsq(design, powers, rcond=None)[0]
    np.testing.assert_allclose(fitted, powers, atol=1e-10)


def test_without_an_intercept_factors_are_coded_as_beside_one() -> None:
    beside = Formula("C(stage) + age").fit(FRAME).transform(FRAME)
    for text in ("C(stage) + age", "0 + C(stage) + age"):
        without = Formula(text).fit(FRAME, intercept=False)
        np.testing.assert_array_equal(without.transform(FRAME), beside[:, 1:])
        assert not without.intercept
    assert not Formula("age - 1").fit(FRAME).intercept


def test_a_formula_of_nothing() -> None:
    assert Formula("1").fit(FRAME).transform(FRAME).tolist() == [[1.0]] * len(FRAME)
    assert Formula("1").fit(FRAME, intercept=False).transform(FRAME).shape == (len(FRAME), 0)
    assert Formula("0").fit(FRAME).names_ == ()


def test_smooths_sum_to_zero_over_the_training_rows() -> None:
    formula = Formula("s(age) + te(stage, dose, k=3)").fit(FRAME, intercept=False)
    sums = formula.transform(FRAME).sum(axis=0)
    np.testing.assert_allclose(sums, 0.0, atol=1e-10)
    assert formula.transform(FRAME).shape[1] == 9 + 8


def test_a_varying_coefficient_is_not_centred_and_holds_its_variable() -> None:
    formula = Formula("s(age, by=dose)").fit(FRAME, intercept=False)
    design = formula.transform(FRAME)
    assert design.shape[1] == 10
    dose = FRAME["dose"].to_numpy()
    fitted = design @ np.linalg.lstsq(design, dose, rcond=None)[0]
    np.testing.assert_allclose(fitted, dose, atol=1e-9)
    (term,) = formula.terms_
    assert (term.label, term.variables) == ("s(age):dose", ("age", "dose"))


def test_a_factor_has_one_smooth_a_level() -> None:
    formula = Formula("sex + s(age, by=sex)").fit(FRAME, intercept=False)
    _, women, men = formula.terms_
    assert (women.label, men.label) == ("s(age):sex[f]", "s(age):sex[m]")
    design = formula.transform(FRAME)
    female = (FRAME["sex"] == "f").to_numpy()
    assert not design[~female, women.columns].any()
    assert not design[female, men.columns].any()
    plain = Formula("s(age)").fit(FRAME, intercept=False).transform(FRAME)
    np.testing.assert_allclose(design[:, women.columns] + design[:, men.columns], plain)


@given(
    seed=st.integers(0, 10_000),
    k=st.integers(5, 15),
    order=st.integers(1, 3),
    bs=st.sampled_from(["ps", "cr"]),
)
@settings(max_examples=25)
def test_the_null_space_of_a_smooth(seed: int, k: int, order: int, bs: str) -> None:
    frame = make_frame(seed=seed)
    option = f", m=(2, {order})" if bs == "ps" else ""
    formula = Formula(f"s(age, k={k}, bs='{bs}'{option})").fit(frame, intercept=False)
    X = formula.transform(frame)
    (term,) = formula.terms_
    (penalty,) = term.penalties
    values = np.linalg.eigvalsh(penalty)
    np.testing.assert_array_equal(penalty, penalty.T)
    assert values[0] > -1e-9 * values[-1]
    assert int((values < 1e-9 * values[-1]).sum()) == (order if bs == "ps" else 2) - 1
    np.testing.assert_allclose(X.sum(axis=0), 0.0, atol=1e-9)
    age = frame["age"].to_numpy()
    line = np.linalg.lstsq(X, age - age.mean(), rcond=None)[0]
    np.testing.assert_allclose(X @ line, age - age.mean(), atol=1e-8)
    if order > 1 or bs == "cr":
        assert abs(line @ penalty @ line) < 1e-9 * values[-1] * (line @ line)


def test_a_tensor_product_has_a_penalty_a_direction() -> None:
    formula = Formula("te(age, dose, k=(6, 4))").fit(FRAME, intercept=False)
    X = formula.transform(FRAME)
    (term,) = formula.terms_
    assert X.shape[1] == 6 * 4 - 1
    along_age, along_dose = term.penalties
    age, dose = FRAME["age"].to_numpy(), FRAME["dose"].to_numpy()

    def roughness(surface: Any, penalty: Any) -> float:
        coefficients, *_ = np.linalg.lstsq(X, surface - surface.mean(), rcond=None)
        np.testing.assert_allclose(X @ coefficients, surface - surface.mean(), atol=1e-8)
        return float(coefficients @ penalty @ coefficients / (coefficients @ coefficients))

    assert roughness(age, along_age) < 1e-10
    assert roughness(age, along_dose) < 1e-10
    assert roughness(age * dose, along_age) < 1e-10
    assert roughness(age * dose, along_dose) < 1e-10
    curved = Formula("s(dose, bs='cr', k=4)").fit(FRAME, intercept=False).transform(FRAME)[:, 1]
    assert roughness(curved, along_age) < 1e-10
    assert roughness(curved, along_dose) > 1e-4


@pytest.mark.parametrize("bs", ["ps", "cr"])
def test_an_interaction_holds_no_main_effect(bs: str) -> None:
    # On a grid the two are orthogonal, so that what lies in both would be seen.
    age, dose = (side.ravel() for side in np.meshgrid(np.linspace(30, 80, 9), np.arange(8.0)))
    frame = pd.DataFrame({"age": age, "dose": dose})
    formula = Formula(f"ti(age, dose, bs='{bs}', k=(6, 5))").fit(frame, intercept=False)
    X = formula.transform(frame)
    (term,) = formula.terms_
    assert X.shape[1] == 5 * 4
    assert [len(penalty) for penalty in term.penalties] == [20, 20]
    for column in (age, dose):
        means = pd.DataFrame(X).groupby(column).mean()
        np.testing.assert_allclose(means, 0.0, atol=1e-9)
    product = (age - age.mean()) * (dose - dose.mean())
    coefficients = np.linalg.lstsq(X, product, rcond=None)[0]
    np.testing.assert_allclose(X @ coefficients, product, atol=1e-8)
    for penalty in term.penalties:
        values = np.linalg.eigvalsh(penalty)
        assert abs(coefficients @ penalty @ coefficients) < 1e-9 * values[-1] * (product @ product)
    # Main effects and interaction are the surface: te() has the same space, no more.
    split = f"s(age, bs='{bs}', k=6) + s(dose, bs='{bs}', k=5) + ti(age, dose, bs='{bs}', k=(6, 5))"
    parts = Formula(split).fit(frame).transform(frame)
    whole = Formula(f"te(age, dose, bs='{bs}', k=(6, 5))").fit(frame).transform(frame)
    assert parts.shape[1] == whole.shape[1] == np.linalg.matrix_rank(parts) == 30
    inside = whole @ np.linalg.lstsq(whole, parts, rcond=None)[0]
    np.testing.assert_allclose(inside, parts, atol=1e-8)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "te(age, dose) + s(age)",
            r"te\(age, dose\) and s\(age\) both hold the smooth effect of age: .* write each "
            r"effect once: s\(age\) \+ s\(dose\) \+ ti\(age, dose\)\.",
        ),
        ("s(dose, k=5) + te(age, dose)", r"s\(dose\) and te\(age, dose\) both"),
        (
            "te(age, dose) + te(dose, `body mass`)",
            r"effect of dose.* ti\(age, dose\) \+ ti\(body mass, dose\)",
        ),
        ("ti(dose, age) + te(age, dose)", r"ti\(dose, age\) and .* interaction of age, dose"),
        ("ti(dose, age) + ti(age, dose)", "interaction of age, dose"),
        ("te(age, dose, by=stage) + s(age, by=stage)", r"ti\(age, dose, by=stage\)"),
        ("sex + s(age, by=sex) + s(age)", "levels add up to one without by="),
        ("s(age, by=sex) + s(age, by=site)", "levels add up to one without by="),
    ],
)
def test_two_smooths_that_hold_the_same_effect_are_named(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Formula(text).fit(FRAME)


@pytest.mark.parametrize(
    "text",
    [
        "s(age) + s(dose) + ti(age, dose)",
        "te(age, dose) + s(stage, k=3, m=1) + re(stage)",
        "te(age, dose) + ti(age, `body mass`)",
        "s(age) + s(age, by=treatment) + s(dose, by=treatment)",
        "ti(age, dose) + ti(age, dose, by=treatment)",
    ],
)
def test_smooths_of_different_effects_stand_side_by_side(text: str) -> None:
    design = Formula(text).fit(FRAME).transform(FRAME)
    assert np.isfinite(design).all()


def test_fixed_smoothing_reaches_the_terms() -> None:
    formula = Formula("s(age, sp=2) + s(dose, df=4) + ti(age, dose, sp=(1, 0)) + re(site, sp=1)")
    age, dose, surface, site = formula.fit(FRAME, intercept=False).terms_
    assert (age.sp, age.df) == ((2.0,), None)
    assert (dose.sp, dose.df) == (None, 4.0)
    assert surface.sp == (1.0, 0.0)
    assert site.sp == (1.0,)
    np.testing.assert_array_equal(site.penalties[0], np.eye(5))


def test_the_order_of_levels_is_that_of_the_categories() -> None:
    grades = ["low", "high", "never", "mid"]
    frame = pd.DataFrame(
        {"grade": pd.Categorical(["mid", "low", "high", "low"], categories=grades)}
    )
    formula = Formula("grade").fit(frame)
    assert formula.names_ == ("Intercept", "grade[T.high]", "grade[T.mid]")
    text = frame.astype(str)
    np.testing.assert_array_equal(formula.transform(text), formula.transform(frame))


def test_numbers_are_levels_whatever_their_type() -> None:
    formula = Formula("C(stage) + C(smoker)").fit(FRAME)
    assert formula.names_[-1] == "C(smoker)[T.True]"
    other = FRAME.assign(stage=FRAME["stage"].astype(float), smoker=FRAME["smoker"].astype(int))
    np.testing.assert_array_equal(formula.transform(other), formula.transform(FRAME))


@pytest.mark.parametrize("rows", [slice(0, 1), slice(5, 9), slice(None, None, -1)])
def test_rows_do_not_depend_on_their_neighbours(rows: slice) -> None:
    formula = Formula(EVERYTHING).fit(FRAME)
    np.testing.assert_allclose(
        formula.transform(FRAME.iloc[rows]), formula.transform(FRAME)[rows], atol=1e-12
    )


def test_state_is_plain_and_survives_pickle_and_skops() -> None:
    formula = Formula(EVERYTHING).fit(FRAME, intercept=False)
    new = make_frame(seed=5)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wanted = formula.transform(new)
        dumped = skops.io.dumps(formula.state())
        assert skops.io.get_untrusted_types(data=dumped) == []
        loaded = Formula.from_state(skops.io.loads(dumped))
        for again in (loaded, pickle.loads(pickle.dumps(formula))):
            np.testing.assert_array_equal(again.transform(new), wanted)
            assert again.names_ == formula.names_
            assert again.columns_ == formula.columns_
            for ours, theirs in zip(again.terms_, formula.terms_, strict=True):
                assert (ours.label, ours.columns, ours.kind) == (
                    theirs.label,
                    theirs.columns,
                    theirs.kind,
                )
                assert (ours.sp, ours.df, ours.variables) == (
                    theirs.sp,
                    theirs.df,
                    theirs.variables,
                )
                np.testing.assert_array_equal(ours.penalties, theirs.penalties)


def test_one_term_needs_its_columns_alone() -> None:
    formula = Formula(EVERYTHING).fit(FRAME)
    design = formula.transform(FRAME)
    for term in formula.terms_:
        if term.kind != "parametric":
            part = formula.transform_term(term.label, FRAME[list(term.variables)])
            np.testing.assert_array_equal(part, design[:, term.columns])
    unit = formula.transform_term("s(dose):age", FRAME[["dose"]])
    np.testing.assert_allclose(unit, formula.transform_term("s(dose):age", FRAME.assign(age=1.0)))
    everyone = formula.transform_term("s(age):sex[m]", FRAME[["age"]])
    np.testing.assert_array_equal(
        everyone, formula.transform_term("s(age):sex[m]", FRAME.assign(sex="m"))
    )
    with pytest.raises(
        ValueError, match=r"no smooth or random term 'treatment'.*'s\(age\):sex\[f\]'"
    ):
        formula.transform_term("treatment", FRAME)


def test_each_term_says_what_it_is_and_survives_its_state() -> None:
    formula = Formula(EVERYTHING).fit(FRAME)
    design, rows = formula.transform(FRAME), formula.read(FRAME)
    for term, placed in zip(formula.terms, formula.terms_, strict=True):
        again = term_from_state(skops.io.loads(skops.io.dumps(term_state(term))))
        for one in (term, again):
            part = one.evaluate(rows, formula.points)
            np.testing.assert_array_equal(part, design[:, placed.columns])
            assert one.names == formula.names_[placed.columns]
        assert (again.label, again.variables, again.sp, again.df) == (
            (term.label, term.variables, term.sp, term.df)
        )
        assert term.coordinates == ()
        smooth = term.tested and not term.by_coefficient
        assert set(term.ranges) == (set(term.variables) - {term.by} if smooth else set())
    told = {term.label: (term.by_coefficient, term.tested) for term in formula.terms}
    assert told["treatment"] == told["bs(dose, df=5)"] == (True, True)
    assert told["s(age):sex[m]"] == told["te(dose, body mass)"] == (False, True)
    assert told["re(site)"] == (False, False)


# What happens at prediction.


def test_an_unseen_fixed_level_is_an_error_that_names_all() -> None:
    new = FRAME.iloc[:3].assign(stage=[1, 4, 2])
    message = r"Column 'stage' holds 4 in row 'patient_1'.*Known levels: 1, 2, 3"
    for text in ("C(stage)", "dose:C(stage)", "C(stage) + re(stage)"):
        with pytest.raises(ValueError, match=message):
            Formula(text).fit(FRAME).transform(new)
    with pytest.raises(ValueError, match=r"Column 'sex' holds 'x'.*'f', 'm'"):
        Formula("s(age, by=sex)").fit(FRAME).transform(FRAME.assign(sex="x"))


def test_an_unseen_random_level_has_effect_zero() -> None:
    formula = Formula("re(site)").fit(FRAME, intercept=False)
    design = formula.transform(FRAME.iloc[:3].assign(site=["A", "Z", "E"]))
    assert design.tolist() == [[1, 0, 0, 0, 0], [0] * 5, [0, 0, 0, 0, 1]]


def test_a_column_can_be_a_number_and_a_random_factor() -> None:
    formula = Formula("stage + re(stage)").fit(FRAME, intercept=False)
    design = formula.transform(FRAME.iloc[:2].assign(stage=[2, 9]))
    assert design.tolist() == [[2, 0, 1, 0], [9, 0, 0, 0]]


def test_beyond_the_range_a_smooth_is_straight_with_one_warning_a_column() -> None:
    formula = Formula("s(age) + s(age, by=treatment, bs='cr') + ti(age, dose)").fit(FRAME)
    new = FRAME.iloc[[0] * 4].assign(age=[90.0, 100.0, 110.0, 55.0])
    with pytest.warns(
        UserWarning, match=r"Column 'age' has 3 value\(s\) outside \[3.*, 7.*\]"
    ) as w:
        design = formula.transform(new)
    assert len(w) == 1
    np.testing.assert_allclose(design[2] - design[1], design[1] - design[0], atol=1e-9)


def test_bs_goes_on_straight_too() -> None:
    formula = Formula("bs(age, df=5)").fit(FRAME)
    with pytest.warns(UserWarning, match="Column 'age' has 3 value"):
        design = formula.transform(pd.DataFrame({"age": [90.0, 100.0, 110.0]}))
    np.testing.assert_allclose(design[2] - design[1], design[1] - design[0], atol=1e-9)


def test_no_warning_within_the_range() -> None:
    formula = Formula(EVERYTHING).fit(FRAME)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        formula.transform(FRAME)


@pytest.mark.parametrize(
    ("text", "column"), [("age", "age"), ("s(age)", "age"), ("C(sex)", "sex"), ("re(sex)", "sex")]
)
def test_missing_cells_are_named_at_fit_and_at_prediction(text: str, column: str) -> None:
    holes = FRAME.astype({column: object})
    holes.iloc[[2, 7], holes.columns.get_loc(column)] = None
    message = rf"Column '{column}' .*missing in 2 rows: 'patient_2', 'patient_7'.*not imputed"
    with pytest.raises(ValueError, match=message):
        Formula(text).fit(holes)
    with pytest.raises(ValueError, match=message):
        Formula(text).fit(FRAME).transform(holes)


# Bad formulas and bad columns.


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("age +", r"'age \+' does not parse.*Allowed are columns"),
        ("age + s(age", "does not parse"),
        ("y ~ age", "right-hand side alone"),
        ("age | sex", "right-hand side alone"),
        (".", "does not parse"),
        ("s(age):sex", r"s\(x, by=z\)"),
        ("s(age, knots=5)", r"unknown option 'knots'. s\(\) takes k, bs"),
        ("s(age, k=2)", r"The k option of .* at least 4. Got 2"),
        ("s(age, k=3.5)", "k option"),
        ("s(age, bs='tp')", "must be 'ps' or 'cr'. Got 'tp'"),
        ("s(age, bs='cr', m=2)", "m option"),
        ("s(age, m=(1, 0))", "m option"),
        ("s(age, sp=-1)", "sp option"),
        ("s(age, sp=1, df=4)", "one of sp= and df="),
        ("s(age, df=0)", "df option"),
        ("s(age, df=1)", r"df option of s\(age\) must be above 1, .*at most 9"),
        ("s(age, df=12)", "df option"),
        ("te(age, dose, sp=(1, 2, 3))", "or 2 of them"),
        ("s(age, dose)", r"one column.*te\(x, z\)"),
        ("te(age)", "two columns or more"),
        ("ti(age, k=5)", "two columns or more"),
        ("te(age, age)", "different columns"),
        ("s(log(age))", "must name columns"),
        ("s(age, by=age)", "other than its own"),
        ("s(age, k=n)", "k option .* must be a number or text"),
        ("s(age) + s(age, k=5)", r"s\(age\) twice"),
        ("age + C(age)", "'age' as a factor and as a number"),
        ("C(log(age))", r"C\(column\)"),
        ("C(stage, contr.custom([1]))", r"one of contr\.treatment"),
        ("lag(age)", "'lag', which is not allowed"),
    ],
)
def test_a_bad_formula_is_explained(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Formula(text).fit(FRAME)


@pytest.mark.parametrize(
    "text",
    [
        "I(__import__('os').getcwd())",
        "np.load('x')",
        "I(age.to_csv('x'))",
        "I((lambda: 1)())",
        "I([age for age in (1, 2)])",
        "exec('1')",
        "I(age if age else 1)",
        "C(age, contr.treatment(base=exec('1')))",
        "s(age, k=exec('1'))",
        "{age.__class__}",
    ],
)
def test_a_formula_cannot_run_code(text: str) -> None:
    with pytest.raises(ValueError, match=r"not allowed|must be|does not parse"):
        Formula(text).fit(FRAME)
    state = Formula("age").fit(FRAME).state()
    with pytest.raises(ValueError, match=r"not allowed|must be|does not parse"):
        Formula.from_state({**state, "formula": text})
    state = Formula("I(age)").fit(FRAME).state()
    state["terms"][1]["parts"][0]["factors"][0]["text"] = text
    with pytest.raises(ValueError, match=r"not allowed|must be|does not parse"):
        Formula.from_state(state)


@pytest.mark.parametrize(
    ("text", "changes", "message"),
    [
        ("agee + sex", {}, "Column 'agee' not found.*Nearest to 'agee': 'age'"),
        ("s(doze)", {}, "Nearest to 'doze': 'dose'"),
        ("s(age)", {"age": 3.0}, r"'age' is constant .*s\(age\)"),
        ("s(stage, bs='cr')", {}, r"'stage' has 3 distinct values.*at least 10.*C\(stage\)"),
        ("C(stage)", {"stage": 1}, "'stage' is a factor of one level.*1"),
        ("re(site)", {"site": "A"}, "'site' is a factor of one level"),
        ("s(age, by=dose)", {"dose": 2.0}, "'dose', by= .* is constant"),
        ("s(sex)", {}, "Column 'sex' must hold numbers"),
        ("log(sex)", {}, "Column 'sex' must hold numbers"),
        ("age", {"age": np.inf}, "'age' must hold finite numbers"),
        ("log(dose)", {"dose": -1.0}, r"'log\(dose\)' .*finite. Got nan in row 'patient_0'"),
        ("age", {"age": pd.Timestamp("2020-01-01")}, "'age' holds dates"),
    ],
)
def test_a_bad_column_is_explained(text: str, changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Formula(text).fit(FRAME.assign(**changes))


def test_what_is_no_formula_or_no_table() -> None:
    with pytest.raises(TypeError, match=r"must be text\. Got int"):
        Formula(3).fit(FRAME)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"pandas DataFrame\. Got ndarray"):
        Formula("age").fit(FRAME[["age"]].to_numpy())  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a row at least"):
        Formula("age").fit(FRAME.iloc[:0])
    with pytest.raises(ValueError, match="not fitted"):
        Formula("age").transform(FRAME)


@pytest.mark.parametrize(
    ("formula", "rest"),
    [
        (
            "arm*x + s(z, by=arm) + s(z, k=5) + C(g) + tv(x) + x:t + `age x`",
            "x + s(z, k=5) + C(g) + `age x`",
        ),
        ("C(arm) + log(x):g", "log(x):g"),
        ("arm", "1"),
    ],
)
def test_terms_without_a_column(formula: str, rest: str) -> None:
    known = ["arm", "x", "z", "g", "age x"]
    assert without_columns(formula, ["arm"], known) == rest
    assert without_columns(rest, ["arm"], known) == rest
