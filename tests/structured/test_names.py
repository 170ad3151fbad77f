"""Names of columns that read like something else, and formulas that no one could mean."""

from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from mmfusion import surv
from mmfusion.estimators import FusionCox, FusionRegressor
from mmfusion.structured import Formula, columns_read

N = 60
RNG = np.random.default_rng(0)
NUMBER = RNG.uniform(0.5, 2.0, N)
FACTOR = np.array(list("abc"))[RNG.integers(0, 3, N)]
OTHER = RNG.normal(size=N)
OUTCOME = 1 + NUMBER + 0.5 * OTHER + 0.1 * RNG.normal(size=N)

#: With NAME for the column.
OF_NUMBERS = (
    "NAME",
    "NAME + other",
    "other:NAME",
    "2:NAME",
    "NAME * other",
    "(NAME + other) ** 2 - NAME",
    "I(NAME / 10)",
    "I(NAME ** 2 + other)",
    "log(NAME) + NAME",
    "np.exp(NAME)",
    "I(NAME > 1) + scale(NAME)",
    "poly(NAME, 2)",
    "bs(NAME, df=4)",
    "s(NAME, k=5)",
    "te(NAME, other, k=4)",
    "s(other, by=NAME, k=5)",
)
OF_FACTORS = (
    "NAME",
    "NAME - 1",
    "NAME:other",
    "C(NAME)",
    "C(NAME, contr.sum):other",
    "re(NAME)",
    "s(other, by=NAME, k=5) + NAME",
)


def quoted(name: str) -> str:
    return f"`{name.replace('`', '``')}`"


def table(name: str, values: np.ndarray) -> pd.DataFrame:
    return pd.DataFrame({name: values, "other": OTHER})


def check(text: str, name: str, values: np.ndarray) -> None:
    plain = Formula(text.replace("NAME", "plain")).fit(table("plain", values))
    formula = Formula(text.replace("NAME", quoted(name))).fit(table(name, values))
    frame = table(name, values)
    wanted = plain.transform(table("plain", values))
    np.testing.assert_array_equal(formula.transform(frame), wanted)
    assert columns_read(formula.formula) == tuple(
        name if column == "plain" else column for column in columns_read(plain.formula)
    )
    assert len(set(formula.names_)) == len(formula.names_)
    assert formula.intercept == plain.intercept
    assert [term.kind for term in formula.terms_] == [term.kind for term in plain.terms_]
    # Saved and read again it is the same over some of the rows.
    again = Formula.from_state(pickle.loads(pickle.dumps(formula.state())))
    np.testing.assert_array_equal(again.transform(frame[:7]), formula.transform(frame[:7]))


#: Also the sign of kelvin, which Python's own names turn into the letter.
TRAPS = (
    *("0", "1", "-1", "1e3", "x²", "\u212a", "ﬁ", "`", "``", "\\", "'", ".", "_c0", "_c1", "f0"),
    *("Intercept", "C(g)", "s(x)", "a:b", "a + b", "10:x", "log", "exp", "scale", "I", "poly"),
    *("bs", "C", "s", "re", "np", "contr", "class", "lambda", "None", "True", "by", "k", "t", "in"),
)
NAMES = st.one_of(
    st.text(st.characters(categories=("L", "M", "N", "P", "S", "Zs")), min_size=1, max_size=12),
    st.text("`~:+-*/()[]{}.,=|^%'\"\\ 01_cCIsx", min_size=1, max_size=8),
    st.sampled_from(TRAPS),
).filter(lambda name: name != "other")


@settings(max_examples=60, deadline=None, derandomize=True)
@example("1", "NAME + other")
@example("\u212a", "I(NAME / 10)")
@example("log", "log(NAME) + NAME")
@example("x\\", "NAME + other")
@given(NAMES, st.sampled_from(OF_NUMBERS))
def test_a_column_of_numbers_may_have_any_name(name: str, text: str) -> None:
    check(text, name, NUMBER)


@settings(max_examples=40, deadline=None, derandomize=True)
@example("1", "NAME:other")
@example("class", "C(NAME)")
@given(NAMES, st.sampled_from(OF_FACTORS))
def test_a_column_of_levels_may_have_any_name(name: str, text: str) -> None:
    check(text, name, FACTOR)


@pytest.mark.parametrize("name", ["1", "0", "Intercept", "C(g)", "log", "class", "a:b", "_c0"])
def test_names_change_no_coefficient(name: str) -> None:
    plain = FusionRegressor({}, structured="x + other").fit(table("x", NUMBER), OUTCOME)
    model = FusionRegressor({}, structured=f"`{name}` + other").fit(table(name, NUMBER), OUTCOME)
    np.testing.assert_array_equal(model.effects_.coef, plain.effects_.coef)
    assert model.effects_.index.is_unique
    y = surv(np.exp(-OUTCOME), np.ones(N, bool))
    cox = FusionCox({}, structured=f"`{name}`").fit(table(name, NUMBER), y)
    assert cox.effects_.index.tolist() == [name]  # no intercept beside it: its own name


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("`0`:`1`", ["0:1"]),
        ("`C(g)` + C(g)", ["C(g)", "C(g)[T.b]", "C(g)[T.c]"]),
        ("`0` + C(g):`1`", ["0", "C(g)[a]:1", "C(g)[b]:1", "C(g)[c]:1"]),
        ("10:`0`", ["10:0"]),
        ("`0`:10", ["10:0"]),
        ("2.5:g", ["2.5:g[T.b]", "2.5:g[T.c]"]),
        ("1:`0`", ["0"]),
        ("Intercept + `a:b` + a:b", ["`Intercept`", "`a:b`", "a:b"]),
        ("`g[T.b]` + g", ["`g[T.b]`", "g[T.b]", "g[T.c]"]),
        ("log(log) + log", ["log(log)", "log"]),
        ("log + log(a) + exp(exp) + scale(scale)", ["log", "log(a)", "exp(exp)", "scale(scale)"]),
        ("I(`class` / 2) + I(log (log) * log)", ["I(`class` / 2)", "I(log (log) * log)"]),
        ("a / b", ["a", "a:b"]),
        ("(a + b) ** 2 - b", ["a", "a:b"]),
        ("a + -b + b + b", ["a", "b"]),
    ],
)
def test_names_are_the_users_and_told_apart(text: str, names: list[str]) -> None:
    columns = ["0", "1", "C(g)", "a", "b", "a:b", "g[T.b]", "log", "exp", "scale", "class"]
    values = np.random.default_rng(1).uniform(1, 2, (N, 12))
    frame = pd.DataFrame(values, columns=[*columns, "Intercept"]).assign(g=FACTOR)
    if "-b" in text:
        with pytest.raises(ValueError, match="takes away b, which no term before it holds"):
            Formula(text).fit(frame)
        return
    formula = Formula(text).fit(frame)
    assert formula.names_ == ("Intercept", *names)
    assert formula.intercept


def test_a_number_times_a_term() -> None:
    frame = table("x", NUMBER)
    design = Formula("10:x").fit(frame).transform(frame)
    np.testing.assert_array_equal(design[:, 1], 10 * NUMBER)


def test_without_an_intercept_a_column_of_its_name_is_none() -> None:
    frame = table("Intercept", NUMBER)
    formula = Formula("Intercept - 1").fit(frame)
    assert (formula.names_, formula.intercept) == (("Intercept",), False)


def test_a_spline_beyond_its_range_names_the_users_column() -> None:
    frame = table("my column", NUMBER)
    formula = Formula("bs(`my column`, df=4)").fit(frame)
    with pytest.warns(UserWarning, match=r"Column 'my column' has 1 value"):
        formula.transform(frame.assign(**{"my column": 9.0})[:1])


NO_FORMULA = [
    ("0:x", "the term 0:x is zero"),
    ("``", "holds no name"),
    ("-x", "takes away x"),
    ("x - other", "takes away other"),
    ("(x - 1)", "takes away the intercept"),
    ("x - 2", "takes away 2"),
    ("x + 2", "number 2 stands alone"),
    ("2 * x", r"joins a number.*I\(10 \* x\)"),
    ("x + 2:x", "one term times two numbers"),
    ("x other", "operator must stand where 'other'"),
    ("x + * other", r"must stand where '\*' does"),
    ("(x + other", r"'\)' must stand where the end does"),
    ("x)", r"where '\)' does"),
    ("x ** other", "whole number from 1 to 20.*'other'"),
    ("x + 'other'", "has no meaning"),
    ("x[0]", r"Write I\(\.\.\.\)"),
    ("`x", "backticks are not closed"),
    ("log(x", "is not closed"),
    ("s(x k=4)", r"'s\(x k=4\)' does not parse: .*commas"),
    ("I(x ** )", r"'I\(x \*\* \)' does not parse"),
    ("I(x `other`)", "does not parse"),
    ("I(\0)", "does not parse"),
    ("C()", r"'C\(\)' must be C\(column\)"),
    ("s()", "one column before its options. Got 0"),
    ("C(class)", "'class' is a word of Python.*backticks"),
    ("s(lambda)", "'lambda' is a word of Python"),
    ("I(if / 2)", "'if' is a word of Python"),
    ("log()", r"must call log\(x\)"),
    ("log(x, 2)", r"must call log\(x\)"),
    ("poly(x, order=2)", r"must call poly\(x, degree=\.\.\., raw=\.\.\.\)"),
    ("poly(x, degree=other)", r"must call poly.*Got 'poly\(x, degree=other\)'"),
    ("poly(x, 0)", "must have a column at least"),
    ("I(2)", "reads no column"),
    ("I(x + 'a')", "holds \"'a'\""),
    ("I(x @ other)", "holds 'x @ other'|holds '@'|not allowed"),
    ("`log`(x)", "operator or|an operator must stand"),
    ("s(log(x))", r"Got 'log\(x\)'"),
    ("bs(x, df=2)", r"'bs\(x, df=2\)' cannot be evaluated: df of bs"),
    ("C(g, contr.treatment(base='z'))", "cannot be evaluated"),
]
OF_OTHERS = [
    ("x + strata(g)", r"FusionCox\(strata="),
    ("cluster(g)", r"FusionCox\(cluster="),
    ("frailty(g)", r"write re\(g\)"),
    ("(1|g)", r"re\(g\)"),
    ("(1 + x || g)", r"re\(g\)"),
    ("ns(x, df=3)", r's\(x, bs="cr"\)'),
    ("pspline(x)", r"s\(x\)"),
    ("rcs(x, 4)", r"s\(x\)"),
    ("factor(g)", r"Write C\(g\)"),
    ("as.factor(g)", r"Write C\(g\)"),
    ("tt(x)", r"tv\(x\)"),
    ("Q('x')", "in `backticks`"),
    ("I(x^2)", r"I\(x \*\* 2\)"),
    ("x + .", "name those"),
    ("x %in% g", "interaction a:b"),
    ("surv(x, g) ~ other", "outcome is"),
    ("C(g, Treatment('b'))", r"write C\(column, ref='b'\), which is Treatment\('b'\)"),
    ("relevel(g, ref='b')", r"C\(g, ref='b'\)"),
    ("C(g, ref=b)", r"C\(column, ref='level'\)"),
    ("C(g, ref='q')", "must be a level of the column.*Got 'q'"),
    ("interaction(x, g)", "interaction a:b"),
    ("offset(x):g", "alone, with one expression"),
    ("2:offset(x)", "alone, with one expression"),
    ("offset(1)", "alone, with one expression"),
    ("offset(x, 2)", "alone, with one expression"),
    ("offset(g)", "'g' must hold numbers"),
    ("C(g, Sum)", r"contr\.sum for Sum"),
    ("ln(x)", r"log\(x\)"),
    ("I(ln(x))", r"log\(x\)"),
]


@pytest.mark.parametrize(("text", "message"), [*NO_FORMULA, *OF_OTHERS])
def test_what_no_formula_can_mean_is_explained(text: str, message: str) -> None:
    frame = table("x", NUMBER).assign(g=FACTOR)
    with pytest.raises(ValueError, match=message) as caught:
        Formula(text).fit(frame)
    assert "_c0" not in str(caught.value)
    assert "formulaic" not in str(caught.value).lower()


@settings(max_examples=300, deadline=None, derandomize=True)
@given(st.text("xg C(s)I`:+-*/^.,='\"k0123~|{}[]%log\\\n", max_size=14))
def test_whatever_is_typed_is_a_formula_or_a_value_error(text: str) -> None:
    frame = table("x", NUMBER).assign(g=FACTOR)
    told = ""
    try:
        names = Formula(text).fit(frame).names_
    except ValueError as error:
        told = str(error)
    else:
        assert len(set(names)) == len(names)
    assert "_c0" not in told
