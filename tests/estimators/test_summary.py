"""What summary() shows: the numbers of the fit, as text and as HTML that a notebook can trust."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion import Tabular
from mmfusion.estimators import (
    FusionClassifier,
    FusionCox,
    FusionDiscreteTime,
    FusionRegressor,
)

pytestmark = pytest.mark.usefixtures("one_network")


def draw(n: int = 300) -> tuple[pd.DataFrame, Any]:
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(
        {
            "dose": rng.normal(size=n),
            "age": rng.uniform(30, 80, n),
            "risk": rng.choice(["x<5", "x>=5 & <b>", "none"], n),
            "clinic": rng.integers(0, 30, n),
        }
    )
    log_hazard = 0.8 * frame["dose"] + np.sin(frame["age"] / 8)
    time = rng.exponential(np.exp(-log_hazard))
    return frame, (np.minimum(time, 3.0), time < 3.0)


class Cells(HTMLParser):
    """The cells of each row of each table, and what tags there are."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        self.tags.add(tag)
        if tag != "br":
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open[-1] in ("td", "th"):
            self.rows[-1][-1] += data


@pytest.fixture(scope="module")
def cox() -> FusionCox:
    frame, y = draw()
    formula = "dose + C(risk) + s(age) + re(clinic)"
    return FusionCox({}, structured=formula).fit(frame, y)


def test_text_holds_the_fit(cox: FusionCox) -> None:
    told = str(cox.summary())
    assert repr(cox.summary()) == told
    lines = told.splitlines()
    fit = cox.inference_.fit
    assert lines[0] == "FusionCox: dose + C(risk) + s(age) + re(clinic)"
    events = int(draw()[1][1].sum())
    assert lines[1].startswith(f"rows 300   events {events}   median follow-up ")
    assert f"log-likelihood {fit.log_likelihood:.2f}" in lines[1]
    assert f"AIC {fit.aic:.2f}" in lines[1]
    assert "inference model" in lines[2]
    assert "orthogonalization post_hoc" in lines[2]
    assert lines[2].endswith("variance 0.00")
    (row,) = [line.split() for line in lines if line.startswith("dose ")]
    effect = cox.effects_.loc["dose"]
    ends = effect[["lower", "upper"]]
    wanted = [*effect[["coef", "se"]], *ends, np.exp(effect["coef"]), *np.exp(ends)]
    np.testing.assert_allclose([float(cell) for cell in row[1:8]], wanted, rtol=5e-4)
    assert float(row[8]) == pytest.approx(effect["z"], abs=0.005)
    assert row[9] == "<0.0001"
    (smooth,) = [line.split() for line in lines if line.startswith("s(age) ")]
    wanted = cox.effects_.loc["s(age)", ["edf", "chi2"]].tolist()
    np.testing.assert_allclose([float(cell) for cell in smooth[1:3]], wanted, atol=0.005)
    (random,) = [line.split() for line in lines if line.startswith("re(clinic) ")]
    assert len(random) == 3  # degrees of freedom and standard deviation, and no test
    assert "hazard ratio" in told
    assert "nan" not in told
    assert "too narrow" not in told


def test_html_is_the_same_table_and_escaped(cox: FusionCox) -> None:
    summary = cox.summary()
    html = summary._repr_html_()
    page = Cells(html)
    assert page.open == []
    assert "b" not in page.tags
    assert {"x<5" in row[0] for row in page.rows} == {True, False}
    assert "x<5" not in html
    assert "x&lt;5" in html
    rows = {row[0]: row[1:] for row in page.rows}
    assert rows["rows"] == ["300"]
    assert rows["C(risk)[T.x>=5 & <b>]"] == summary.tables[0].loc["C(risk)[T.x>=5 & <b>]"].tolist()
    assert rows["s(age)"] == summary.tables[1].loc["s(age)"].tolist()
    assert rows["re(clinic)"][1:3] == ["", ""]
    for table in summary.tables:
        assert ["", *table.columns] in page.rows
    for note in summary.notes:
        assert note in html


def test_a_residual_variance_makes_it_t_and_no_ratio() -> None:
    frame, (time, _) = draw()
    model = FusionRegressor({}, structured="dose", inference="robust").fit(frame, np.log(time))
    told = str(model.summary())
    assert "t has 298.0 degrees of freedom" in told
    assert "exp(coef)" not in told
    assert "events" not in told
    assert "sandwich" in told
    assert told.splitlines()[4].split()[-2:] == ["t", "p"]
    # Numbers of any size keep their digits.
    large = FusionRegressor({}, structured="dose").fit(frame, 123456789.0 * np.log(time))
    told = large.summary().tables[0].loc["dose", "coef"]
    assert float(told) == pytest.approx(large.effects_.loc["dose", "coef"], rel=5e-4)


def test_the_note_says_what_the_intervals_take_as_known() -> None:
    frame, y = draw()
    deep = {"clinic": Tabular(["age"], hidden=(16,))}
    options: Any = {"epochs": 20, "device": "cpu", "random_state": 0, "patience": None}
    model = FusionCox(deep, structured="dose", **options).fit(frame, y)
    assert model.deep_share_ > 0
    assert "not adjusted for the modalities" in str(model.summary())
    assert "taken as known" not in str(model.summary())
    model.set_params(orthogonalization=None).fit(frame, y)
    assert "the deep part taken as known" in str(model.summary())
    assert "given what the networks explain" in str(model.summary())
    model = FusionCox({}, structured="dose", cluster="clinic").fit(frame, y)
    assert "inference model, clusters of clinic" in str(model.summary())
    told = str(model.summary())
    assert "intervals: from the sandwich covariance (CR2, for few clusters)." in told
    assert "t has df degrees of freedom (Satterthwaite)" in told
    plain = FusionCox({}, structured="dose", cluster="clinic", inference="sandwich").fit(frame, y)
    assert "without a correction for few rows or clusters." in str(plain.summary())


def test_a_coefficient_that_runs_to_infinity_is_told() -> None:
    frame, (time, event) = draw(60)
    frame["arm"] = (np.arange(60) % 2).astype(float)
    with pytest.warns(UserWarning, match="arm"):
        model = FusionCox({}, structured="dose + arm").fit(
            frame, (time, event & (frame["arm"] == 1).to_numpy())
        )
    told = str(model.summary())
    (row,) = [line.split() for line in told.splitlines() if line.startswith("arm ")]
    assert row[1] == "inf"
    assert "no finite estimate" in told


def test_what_a_coefficient_is_is_said_where_a_reader_would_err() -> None:
    frame, (time, event) = draw(120)
    three = np.digitize(time, [0.3, 1.0])
    model = FusionClassifier({}, structured="dose").fit(frame, three)
    assert model.effects_.attrs["ratio"] == "relative risk ratio"
    assert "exp(coef) is the relative risk ratio" in str(model.summary())
    two = FusionClassifier({}, structured="dose").fit(frame, three > 0)
    assert two.effects_.attrs["ratio"] == "odds ratio"
    hazards = FusionDiscreteTime({}, structured="dose", loss="pc_hazard", cuts=[0.5, 1.0, 3.0])
    hazards.fit(frame, (time, event))
    assert "softplus scale" in hazards.effects_.attrs["scale"]
    assert "softplus scale" in str(hazards.summary())
    assert "scale" not in two.effects_.attrs
