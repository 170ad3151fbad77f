"""The report: what it says is what was computed, and a browser shows it without complaint."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import statsmodels.api as sm
from lifelines import CoxPHFitter

from mmfusion import Genes, Image, Tabular
from mmfusion.estimators import FusionClassifier, FusionCox
from mmfusion.interpret import META, write_report
from mmfusion.interpret.report import participants
from mmfusion.interpret.report.calibration import calibration
from mmfusion.interpret.report.evidence import gather
from mmfusion.interpret.report.needed import explained, n_parameters
from mmfusion.interpret.report.participants import characteristics, columns_shown
from mmfusion.interpret.report.performance import main_score
from mmfusion.interpret.report.tripod import BLANK, ITEMS
from mmfusion.metrics import score_interval, survival_calibration
from tests.helpers import make_cohort
from tests.interpret.browser import opened

SECTIONS = [
    *("short", "participants", "model", "performance", "calibration", "decisions", "subgroups"),
    *("effects", "modalities", "examples", "sample-size", "tripod", "reproducing"),
]
pytestmark = pytest.mark.filterwarnings("ignore::UserWarning")


class Outline(HTMLParser):
    """Images, sections, headings and texts of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.images: list[dict[str, str]] = []
        self.sections: dict[str, str] = {}
        self.headings: list[str] = []
        self.cells: list[str] = []
        self.scopes: set[str] = set()
        self.inside: list[str] = []
        self.links: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag, attrs) -> None:
        given = {name: value or "" for name, value in attrs}
        if tag == "section":
            self.sections[given["id"]] = ""
        if tag == "img":
            self.images.append(given)
        if tag == "th":
            self.scopes.add(given.get("scope", ""))
        if tag in ("a", "link"):
            self.links.append(given["href"])
        self.inside.append(tag)

    def handle_endtag(self, tag) -> None:
        while self.inside and self.inside.pop() != tag:
            pass

    def handle_data(self, text) -> None:
        if "style" in self.inside:
            return
        text = text.replace("\u00a0", " ")  # keeps an interval on one line
        if self.sections:
            self.sections[list(self.sections)[-1]] += text
        if self.inside[-1:] and self.inside[-1] in ("td", "th"):
            self.cells.append(text)
        if self.inside[-1:] == ["h2"]:
            self.headings.append(text)


def cohort(n: int = 260):
    frame, y = make_cohort(n, n_genes=6, image_size=8, random_state=4)
    rng = np.random.default_rng(0)
    frame = frame.assign(ldh=np.where(rng.random(n) < 0.3, np.nan, rng.lognormal(5, 0.6, n)))
    return frame.assign(treated=rng.integers(0, 2, n)), y


def modalities() -> dict:
    return {
        "ct": Image("image", size=8, channels="L"),
        "rna": Genes("gene_*"),
        "lab": Tabular(["ldh"]),
    }


@pytest.fixture(scope="module")
def cox():
    frame, y = cohort()
    formula = "treated + C(stage) + s(age, k=5)"
    model = FusionCox(modalities(), structured=formula, epochs=2, random_state=0)
    return model.fit(frame[:160], y[:160]), frame[160:], y[160:]


@pytest.fixture(scope="module")
def report(cox, tmp_path_factory):
    model, X, y = cox
    path = tmp_path_factory.mktemp("report") / "report.html"
    meta = {"centres": "Two <b>centres</b>", "time_unit": "months", "title": "Risk & time"}
    return model.report(X, y, path, meta, time=0.5, n_examples=2)


def test_every_section_is_filled_and_every_figure_has_a_text(report) -> None:
    page = Outline(report.path.read_text(encoding="utf-8"))
    assert list(page.sections) == SECTIONS
    assert min(len(" ".join(text.split())) for text in page.sections.values()) > 100
    assert len(page.images) >= 14
    for image in page.images:
        assert image["src"].startswith("data:image/")
        assert len(image["alt"]) > 30
    assert page.scopes == {"col", "row"}
    assert "could not be shown" not in report.html
    assert "nan" not in " ".join(page.cells)
    assert "linear(rna, lab) + network(ct, rna, lab)" in page.sections["model"]
    assert not [link for link in page.links if not link.startswith(("#", "data:"))]
    assert "http" not in re.sub(r"data:[^\"]+", "", report.html)
    assert "<script" not in report.html


def test_what_people_say_is_escaped(report) -> None:
    assert "Two &lt;b&gt;centres&lt;/b&gt;" in report.html
    assert "<title>Risk &amp; time</title>" in report.html


def test_scores_are_those_of_the_rows(report, cox) -> None:
    model, X, y = cox
    risk = model.predict(X)
    curves = model.predict_survival_function(X, [0.5])
    page = Outline(report.html)
    for name, row in {
        "Concordance (Harrell's C)": score_interval("harrell", y, risk).iloc[0],
        "AUC at 0.5": score_interval("auc", y, risk, times=[0.5]).iloc[0],
        "Brier score at 0.5": score_interval("brier", y, curves).iloc[0],
        "slope": survival_calibration(y, curves).table.loc["slope"],
    }.items():
        shown = page.cells[page.cells.index(name) + 1]
        assert shown == f"{row['score']:.3f} [{row['lower']:.3f}, {row['upper']:.3f}]"


def test_the_value_of_modalities_is_that_of_predictions_without_them(report, cox) -> None:
    model, X, y = cox
    alone = score_interval("harrell", y, model.predict(X, modalities=[])).iloc[0]
    page = Outline(report.html)
    shown = page.cells[page.cells.index("formula alone") + 1]
    assert shown.startswith(f"{alone['score']:.3f} [")
    d = score_interval("harrell", y, model.predict(X), reference=model.predict(X, modalities=[]))
    assert f"{d['score'].iloc[0]:+.3f} [" in page.cells[page.cells.index("formula alone") + 2]


def test_training_rows_are_refused(cox, tmp_path) -> None:
    model = cox[0]
    frame, outcome = cohort()
    with pytest.raises(ValueError, match=r"2 of 102 rows.*patient_158.*cross_validated"):
        model.report(frame[158:], outcome[158:], tmp_path / "report.html")
    assert not (tmp_path / "report.html").exists()


@pytest.mark.slow
def test_a_loaded_model_writes_the_same_numbers(cox, report, tmp_path) -> None:
    model, X, y = cox
    model.save(tmp_path / "model")
    loaded = FusionCox.load(tmp_path / "model")
    again = loaded.report(X, y, tmp_path / "again.html", {"time_unit": "months"}, time=0.5)
    cells = [Outline(one.html).cells for one in (report, again)]
    chosen = slice(cells[0].index("Concordance (Harrell's C)"), cells[0].index("slope") + 2)
    assert cells[0][chosen] == cells[1][chosen]


def test_the_tripod_table_has_27_items_and_marks_what_only_people_know(report) -> None:
    table = report.tripod
    numbers = table["item"].str.extract(r"(\d+)")[0].astype(int)
    assert sorted(numbers.unique()) == list(range(1, 28))
    centres = table.set_index("item").loc["6a"]
    assert (centres["status"], centres["content"]) == ("filled", "Two <b>centres</b>")
    funding = table.set_index("item").loc["18a"]
    assert funding["status"] == "blank"
    assert funding["content"].startswith(BLANK)
    assert (table["content"].str.contains(BLANK) == table["status"].ne("filled")).all()
    link = re.search(r'href="data:text/csv[^,]*,([^"]+)"', report.html)
    again = pd.read_csv(io.StringIO(base64.b64decode(link[1]).decode()), dtype=str)
    pd.testing.assert_frame_equal(again, table)


def test_everything_that_people_can_say_fills_something(cox, tmp_path) -> None:
    assert {item.meta for item in ITEMS if item.meta} <= set(META)
    assert set(META) - {item.meta for item in ITEMS} == {"authors", "time_unit"}
    model, X, y = cox
    meta = {name: f"said of {name}" for name in META if name != "time_unit"}
    done = model.report(X[:60], y[:60], tmp_path / "full.html", meta, n_examples=1)
    assert (done.tripod["status"] == "filled").all()
    assert "said of authors" in done.html
    with pytest.raises(ValueError, match=r"Got 'centre'\. Did you mean 'centres'"):
        model.report(X, y, tmp_path / "no.html", {"centre": "x"})


def test_table_one_counts_in_groups(cox) -> None:
    model, X, y = cox
    found = gather(model, X, y, 0.5, None, "months", 0)
    table = characteristics(found, None).to_frame().set_index("")
    died = y["event"]
    assert list(table.columns) == [
        f"all (n = {len(y)})",
        f"event (n = {died.sum()})",
        f"censored (n = {(~died).sum()})",
    ]
    mine = X["stage"][died] == "II"
    assert table.iloc[:, 1]["  II"] == f"{mine.sum()} ({mine.mean():.0%})"
    ages = X["age"][died]
    assert table.iloc[:, 1]["age, mean (SD)"] == f"{ages.mean():.3g} ({ages.std():.2g})"
    low, middle, high = X["ldh"].quantile([0.25, 0.5, 0.75])
    assert table.iloc[:, 0]["ldh, median [quartiles]"] == f"{middle:.3g} [{low:.3g}, {high:.3g}]"
    missing = X["ldh"].isna()
    assert table.iloc[:, 0]["  missing"] == f"{missing.sum()} ({missing.mean():.0%})"
    there = X["image"].notna()
    assert table.iloc[:, 0]["has ct"] == f"{there.sum()} ({there.mean():.0%})"
    by_sex = characteristics(found, "sex").to_frame()
    assert list(by_sex.columns[2:]) == [
        f"{level} (n = {(X['sex'] == level).sum()})" for level in ("f", "m")
    ]


def test_many_genes_leave_no_clinical_column_out(cox, monkeypatch) -> None:
    model, X, y = cox
    found = gather(model, X, y, 0.5, None, "months", 0)
    assert columns_shown(found)[-6:] == [f"gene_{j}" for j in range(6)]
    monkeypatch.setattr(participants, "MOST_COLUMNS", 8)
    assert sorted(columns_shown(found)) == ["age", "ldh", "stage", "treated"]
    assert "Too many to be shown: rna (6 columns)." in characteristics(found, None).notes


def test_what_is_explained_is_that_of_a_cox_model_of_the_risk(cox) -> None:
    model, X, y = cox
    found = gather(model, X, y, 0.5, None, "months", 0)
    frame = pd.DataFrame({"risk": found.risk, "time": y["time"], "event": y["event"]})
    ratio = CoxPHFitter().fit(frame, "time", "event").log_likelihood_ratio_test().test_statistic
    assert explained(found) == pytest.approx(1 - np.exp(-ratio / len(y)), abs=1e-4)
    own, every = n_parameters(model)
    assert own == len(model.covariance_)
    assert every == own + 6 + 1 + 1  # genes, the image, ldh


def test_cross_validation_never_predicts_a_row_by_a_model_that_saw_it(tmp_path) -> None:
    frame, y = cohort(120)
    model = FusionCox(modalities={}, structured="treated + age + gene_0").fit(frame, y)
    found = gather(model, frame, y, None, 3, "months", 0)
    assert sorted(np.concatenate([rows for _, rows in found.parts])) == list(range(120))
    for number, (fold_model, rows) in enumerate(found.parts):
        rest = np.setdiff1d(np.arange(120), rows)
        assert fold_model.seen_.n_rows == len(rest)
        alone = FusionCox(modalities={}, structured="treated + age + gene_0")
        expected = alone.fit(frame.iloc[rest], y[rest]).predict(frame.iloc[rows])
        np.testing.assert_allclose(found.risk[rows], expected)
        assert (found.folds[rows] == number).all()
    score = main_score(found)
    expected = score_interval("harrell", y, found.risk, strata=found.folds).iloc[0]
    assert score["score"] == expected["score"]
    done = model.report(frame, y, tmp_path / "cv.html", cross_validated=3)
    assert "3-fold cross-validation" in done.html
    assert "could not be shown" not in done.html


def test_given_predictions_are_scored_as_they_are(tmp_path) -> None:
    frame, y = cohort(120)
    model = FusionCox(modalities={}, structured="age").fit(frame, y)
    times = np.quantile(y["time"], [0.2, 0.4, 0.6])
    rng = np.random.default_rng(0)
    curves = pd.DataFrame(
        np.sort(rng.uniform(0.1, 0.9, (120, 3)), axis=1)[:, ::-1], frame.index, times
    )
    done = model.report(frame, y, tmp_path / "given.html", cross_validated=curves, time=times[1])
    brier = score_interval("brier", y, curves[[times[1]]]).iloc[0]
    assert f"{brier['score']:.3f} [{brier['lower']:.3f}" in done.html
    with pytest.raises(ValueError, match=r"each of the 120 rows. Got 119"):
        model.report(frame, y, tmp_path / "no.html", cross_validated=curves[1:])
    with pytest.raises(ValueError, match="name the same rows in another order"):
        model.report(frame, y, tmp_path / "no.html", cross_validated=curves[::-1])
    with pytest.raises(ValueError, match="must be one of the times of the given predictions"):
        model.report(frame, y, tmp_path / "no.html", cross_validated=curves, time=1e9)


def test_rows_without_a_modality_name_the_subgroup(cox, report) -> None:
    model, X, y = cox
    page = Outline(report.html)
    mine = X["image"].isna().to_numpy()
    score = score_interval("harrell", y[mine], model.predict(X)[mine]).iloc[0]
    assert page.cells[page.cells.index("ct: missing") + 2].startswith(f"{score['score']:.3f} [")


def test_calibration_of_classes_is_the_logistic_regression_of_the_logit(tmp_path) -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=400)
    y = (rng.random(400) < 1 / (1 + np.exp(-x))).astype(int)
    frame = pd.DataFrame({"x": x})
    model = FusionClassifier(modalities={}, structured="x").fit(frame[:200], y[:200])
    with pytest.raises(ValueError, match="must hold at least two classes"):
        model.report(frame[200:], np.full(len(frame) - 200, y[0]), tmp_path / "no.html")
    with pytest.raises(TypeError, match="meta parameter must be a dict"):
        model.report(frame[200:], y[200:], tmp_path / "no.html", "funding")
    found = gather(model, frame[200:], y[200:], None, None, "", 0)
    table = calibration(found)
    logit = model.decision_function(frame[200:])
    fit = sm.Logit(y[200:], sm.add_constant(logit)).fit(disp=0)
    np.testing.assert_allclose(
        table.loc["slope"], [fit.params[1], fit.bse[1], *fit.conf_int()[1]], rtol=1e-5
    )
    offset = sm.GLM(y[200:], np.ones(200), sm.families.Binomial(), offset=logit).fit()
    np.testing.assert_allclose(table.loc["intercept", "score"], offset.params[0], atol=1e-6)
    null = sm.Logit(y[200:], np.ones(200)).fit(disp=0).llf
    own = np.log(np.where(y[200:] == 1, found.risk, 1 - found.risk)).sum()
    assert explained(found) == pytest.approx(1 - np.exp(2 * (null - own) / 200), rel=1e-6)


def test_bad_parameters_are_named(cox, tmp_path) -> None:
    model, X, y = cox
    path = tmp_path / "report.html"
    with pytest.raises(ValueError, match="time parameter"):
        model.report(X, y, path, time=1e9)
    with pytest.raises(ValueError, match=r"subgroups parameter.*'ward'"):
        write_report(model, X, y, path, subgroups=["ward"])
    with pytest.raises(ValueError, match=r"group parameter.*'ward'"):
        model.report(X, y, path, group="ward")


def test_a_browser_shows_the_report_on_a_phone_and_a_desk(report, tmp_path) -> None:
    with opened() as page:
        for width in (390, 1280):
            page.open(Path(report.path), width)
            assert page.complaints == []
            assert page.asked_for == []
            assert page.ask("document.documentElement.scrollWidth") <= width
            drawn = page.ask("[...document.images].map(i => i.complete ? i.naturalWidth : 0)")
            assert len(drawn) >= 14
            assert min(drawn) > 100
            shown = page.ask("[...document.images].map(i => i.getBoundingClientRect().width)")
            assert min(shown) > 250
            heights = page.ask(
                "[...document.querySelectorAll('section')].map(s => s.innerText.trim().length)"
            )
            assert len(heights) == len(SECTIONS)
            assert min(heights) > 100
        overflowing = page.ask(
            "[...document.querySelectorAll('table')].filter(t => t.scrollWidth > t.clientWidth + 1)"
            ".length"
        )
        assert overflowing == 0


def test_the_text_of_the_page_stands_out(report) -> None:
    """WCAG AA: a contrast of 4.5 between text and what is behind it."""
    style = report.html.partition("<style>")[2].partition("</style>")[0]
    colours = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6})", style))
    pairs = [
        ("#1b1f24", "#ffffff"),
        (colours["soft"], colours["wash"]),
        (colours["accent"], "#ffffff"),
        *re.findall(r"\.status\.\w+ \{ color: (#[0-9a-f]{6}); background: (#[0-9a-f]{6})", style),
    ]
    assert len(pairs) >= 5

    def light(colour: str) -> float:
        parts = np.array([int(colour[k : k + 2], 16) for k in (1, 3, 5)]) / 255
        linear = np.where(parts <= 0.04045, parts / 12.92, ((parts + 0.055) / 1.055) ** 2.4)
        return float(linear @ [0.2126, 0.7152, 0.0722])

    for one, other in pairs:
        high, low = sorted((light(one), light(other)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5
