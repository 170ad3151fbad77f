"""The table of effects of a paper: levels, counts, formats."""

from __future__ import annotations

import io
import xml.etree.ElementTree as ET

import numpy as np
import pandas as pd
import pytest

from mmfusion import surv
from mmfusion.estimators import FusionClassifier, FusionCox, FusionPAMM
from mmfusion.interpret import effects_table
from tests.helpers import make_cohort


@pytest.fixture(scope="module")
def cohort():
    frame, y = make_cohort(200, missing=0.0, random_state=1)
    return frame.assign(ward=[f"w{k % 4}" for k in range(200)]), y


@pytest.fixture(scope="module")
def cox(cohort):
    formula = "gene_0 + C(stage, ref='III') + s(age) + re(ward)"
    return FusionCox(modalities={}, structured=formula).fit(*cohort)


def test_reference_levels_counts_and_intervals(cox, cohort) -> None:
    frame, y = cohort
    table = effects_table(cox)
    assert list(table.columns) == [
        *("characteristic", "n", "events", "hazard ratio", "95 % interval", "p")
    ]
    labels = table["characteristic"].tolist()
    factor = "C(stage, ref='III')"
    at = labels.index(factor)
    assert labels[at + 1 : at + 5] == ["  III (reference)", "  I", "  II", "  IV"]
    cells = table.set_index("characteristic")
    assert cells.loc["  III (reference)", "hazard ratio"] == "1.00"
    for level in ("I", "II", "IV"):
        mine = (frame["stage"] == level).to_numpy()
        row, effect = cells.loc[f"  {level}"], cox.effects_.loc[f"{factor}[T.{level}]"]
        assert (row["n"], row["events"]) == (str(mine.sum()), str(y["event"][mine].sum()))
        assert row["hazard ratio"] == f"{effect['exp(coef)']:.2f}"
        assert row["95 % interval"] == f"{effect['exp(lower)']:.2f} to {effect['exp(upper)']:.2f}"
        assert row["p"] == ("<0.001" if effect["p"] < 0.001 else f"{effect['p']:.3f}")
    assert cells.loc["gene_0", "n"] == "200"
    assert cells.loc["s(age)", "hazard ratio"].startswith("edf ")
    assert cells.loc["re(ward)", "hazard ratio"].startswith("sd ")


def test_csv_html_and_latex_hold_the_same_cells(cox) -> None:
    table = effects_table(cox)
    again = pd.read_csv(io.StringIO(effects_table(cox, "csv")), dtype=str, keep_default_na=False)
    pd.testing.assert_frame_equal(again, table)

    page = ET.fromstring(f"<div>{effects_table(cox, 'html').replace(' class=under', '')}</div>")
    rows = [["".join(cell.itertext()) for cell in row] for row in page.iter("tr")]
    assert rows[0] == list(table.columns)
    expected = [[cell.strip() for cell in row] for row in table.to_numpy().tolist()]
    assert rows[1:] == expected
    assert {cell.get("scope") for cell in page.iter("th")} == {"col", "row"}

    latex = effects_table(cox, "latex", caption="A & B: 100 %")
    assert r"\caption{A \& B: 100 \%}" in latex
    lines = [line for line in latex.splitlines() if line.endswith(r"\\")]
    assert len(lines) == len(table) + 1
    assert all(line.count(" & ") == len(table.columns) - 1 for line in lines)
    assert any(line.startswith(r"\quad III (reference)") for line in lines)
    assert r"gene\_0" in latex
    with pytest.raises(ValueError, match="format"):
        effects_table(cox, "word")


def test_of_several_classes_a_row_a_parameter(cohort) -> None:
    frame, y = cohort
    label = np.array(["a", "b", "c"])[np.digitize(y["time"], np.quantile(y["time"], [0.3, 0.6]))]
    model = FusionClassifier(modalities={}, structured="sex + gene_0").fit(frame, label)
    table = effects_table(model)
    assert list(table.columns[:3]) == ["characteristic", "parameter", "n"]
    assert "events" not in table
    assert table["parameter"].isin(["b", "c"]).all()
    assert (table["characteristic"] == "  f (reference)").sum() == 2


def test_of_several_causes_each_counts_its_own_events(cohort, tmp_path) -> None:
    frame, y = cohort
    cause = np.where(y["event"], 1 + (frame["gene_0"] > 0), 0)
    formulas = {"cause_1": "C(stage)", "cause_2": "age", "shared": "sex"}
    model = FusionPAMM({}, structured=formulas, n_intervals=4).fit(frame, surv(y["time"], cause))
    model.save(tmp_path / "model")
    for one in (model, FusionPAMM.load(tmp_path / "model")):
        table = effects_table(one).set_index(["characteristic", "parameter"])["events"]
        assert table["age", "cause_2"] == str((cause == 2).sum())
        for level in ("I", "II"):
            mine = cause[(frame["stage"] == level).to_numpy()]
            name = "  I (reference)" if level == "I" else f"  {level}"
            assert table[name, "cause_1"] == str((mine == 1).sum())
        women = cause[(frame["sex"] == "f").to_numpy()]
        assert table["  f (reference)", "shared"] == str((women > 0).sum())


def test_a_summary_writes_the_same_table(cox) -> None:
    found = cox.summary()
    assert found.to_csv() == effects_table(cox, "csv")
    latex, html = found.to_latex(), found.to_html()
    for line in effects_table(cox, "latex").splitlines():
        if line.endswith(r"\\"):
            assert line in latex
    assert effects_table(cox, "html").partition("<tbody")[2].partition("</tbody>")[0] in html
    assert "Reference levels" in latex
    assert f"events {cox.seen_.n_events}" in html
    assert "<caption>FusionCox: gene_0" in html


def test_a_model_that_was_saved_and_loaded_has_the_same_table(cox, tmp_path) -> None:
    cox.save(tmp_path / "model")
    pd.testing.assert_frame_equal(
        effects_table(FusionCox.load(tmp_path / "model")), effects_table(cox)
    )


def test_of_a_model_that_keeps_no_counts_there_are_none(cox) -> None:
    import copy

    old = copy.copy(cox)
    old.seen_ = None
    table = effects_table(old)
    assert list(table.columns) == ["characteristic", "hazard ratio", "95 % interval", "p"]
    assert "C(stage, ref='III')[T.I]" in table["characteristic"].tolist()


def test_without_a_formula_there_is_no_table(cohort) -> None:
    frame, y = cohort
    from mmfusion import Genes

    model = FusionCox({"rna": Genes("gene_*")}, epochs=1, random_state=0).fit(frame, y)
    with pytest.raises(AttributeError, match="no structured effects"):
        effects_table(model)
