"""The commands, run in this process, and one after the other in processes of their own."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from typer.testing import CliRunner

from mmfusion import Genes, Image, Tabular, surv
from mmfusion.cli.app import app
from mmfusion.cli.demo import CONFIG, write_demo
from mmfusion.estimators import FusionCox, load
from mmfusion.metrics import cause_scores

CLINIC = "  clinic: {type: Tabular, columns: [age, sex, stage]}\n"


@pytest.fixture
def study(tmp_path: Path) -> Path:
    return write_demo(tmp_path)


def call(*arguments: object, code: int = 0) -> str:
    """Run a command; return what it prints, or where it fails its errors."""
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert done.exit_code == code, done.output
    assert isinstance(done.exception, SystemExit | None)
    return done.stderr if code else done.stdout


def change(study: Path, *changes: tuple[str, str]) -> Path:
    text = study.read_text(encoding="utf-8")
    for old, new in changes:
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    study.write_text(text, encoding="utf-8")
    return study


def write_plain(folder: Path, outcome: str, estimator: str) -> Path:
    """Write the demo's table with two causes of death, and a file without networks."""
    write_demo(folder)
    table = pd.read_csv(folder / "patients.csv")
    cause = table["died"] * (1 + (table["age"] > table["age"].median()))
    table.assign(cause=cause).to_csv(folder / "patients.csv", index=False)
    study = folder / "plain.yaml"
    study.write_text(
        f"data: patients.csv\noutcome: {outcome}\nestimator: {estimator}\n"
        "structured: age\nmodalities: {clinic: {type: Tabular, columns: [stage]}}\n"
        "parameters: {n_members: 0, linear: false, n_intervals: 5, baseline: steps}\n"
    )
    return study


def test_fit_and_predict_do_what_the_same_lines_of_python_do(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = call("fit", study)
    folder = study.parent
    assert "240 rows, 160 events" in said
    call(
        "predict", folder / "results", folder / "patients.csv", "--times", "12, 36", *INDEX(folder)
    )

    monkeypatch.chdir(folder)
    table = pd.read_csv("patients.csv", index_col="patient")
    model = FusionCox(
        {
            "scan": Image("scan", size=8, channels="L"),
            "rna": Genes("gene_*"),
            "clinic": Tabular(["age", "sex", "stage"]),
        },
        "gated",
        structured="treatment",
        epochs=5,
        n_members=1,
        random_state=0,
    )
    X = table.drop(columns=["months", "died"])
    model.fit(X, surv(table["months"], table["died"]))
    found = pd.read_csv("risks.csv", index_col="patient")
    np.testing.assert_allclose(found["risk"], model.predict(X), rtol=1e-12)
    curves = model.predict_survival_function(X, times=[12, 36])
    np.testing.assert_allclose(found.iloc[:, 1:], curves, rtol=1e-12)
    assert list(found.columns) == ["risk", "survival at 12", "survival at 36"]
    assert list(found.index) == list(X.index)
    effects = pd.read_csv("results/effects.csv", index_col=0)
    np.testing.assert_allclose(effects["coef"], model.effects_["coef"], rtol=1e-12)


def INDEX(folder: Path) -> list[object]:
    return ["--index", "patient", "-o", folder / "risks.csv"]


def test_evaluate_scores_single_modalities_and_classical_models(study: Path) -> None:
    change(
        study,
        ('  rna: {type: Genes, columns: "gene_*"}\n', ""),
        ("  epochs: 5", "  epochs: 2"),
        ("n_trials: 3", "n_trials: 2"),
    )
    said = call("evaluate", study)
    results = study.parent / "results"
    scores = pd.read_csv(results / "scores.csv")
    assert set(scores["model"]) >= {"formula alone", "formula + scan", "joint fusion, gated"}
    # The search is made anew inside the training rows of each fold.
    chosen = pd.read_csv(results / "chosen.csv").query("model == 'tuned'")
    assert chosen["fold"].tolist() == [0, 1, 2]
    assert chosen["fusion"].isin(["'gated'", "'concat'"]).all()
    kept = (results / "search.journal.folds").read_text(encoding="utf-8")
    assert len(kept.splitlines()) == 3 * 2 * 2
    assert (scores.groupby("model").size() == 3).all()
    assert "| joint fusion, gated |" in (results / "comparison.md").read_text(encoding="utf-8")
    assert "Harrell's C" in said
    assert {"difference", "p_adjusted"} <= set(pd.read_csv(results / "differences.csv"))


def test_a_saved_model_is_scored_on_other_rows(
    study: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = study.parent
    table = pd.read_csv(folder / "patients.csv")
    table.iloc[:160].to_csv(folder / "patients.csv", index=False)
    table.iloc[160:].to_feather(folder / "others.feather")
    call("fit", study)
    said = call("evaluate", study, "--test", folder / "others.feather")
    scores = pd.read_csv(folder / "results/test_scores.csv", index_col=0)
    others = table.iloc[160:].set_index("patient")
    y = surv(others["months"], others["died"])
    monkeypatch.chdir(folder)
    assert scores.loc["harrell", "score"] == load("results/model").score(others, y)
    assert (scores["lower"] < scores["score"]).all()
    assert "others.feather: 80 rows" in said


def test_tune_saves_the_best_model_and_goes_on_where_it_was(study: Path) -> None:
    change(study, ("  epochs: 5", "  epochs: 2"), ("  n_trials: 3", "  n_trials: 2"))
    said = call("tune", study)
    results = study.parent / "results"
    trials = pd.read_csv(results / "trials.csv")
    best = trials.loc[trials["mean_test_score"].idxmax()]
    model = load(results / "model")
    assert model.fusion == best["param_fusion"]
    assert model.learning_rate == pytest.approx(best["param_learning_rate"], rel=1e-12)
    assert f"Best of 2 trials: {best['mean_test_score']:.4f}" in said
    change(study, ("n_trials: 2", "n_trials: 3"))
    call("tune", study)
    again = pd.read_csv(results / "trials.csv")
    assert len(again) == 3
    pd.testing.assert_frame_equal(again.filter(like="fit_time")[:2], trials.filter(like="fit_time"))
    change(study, ("n_trials: 3", "n_trials: 3\n  n_best: 2"))
    call("tune", study)
    assert len(load(results / "model").estimators_) == 2
    test = ("--test", study.parent / "patients.csv")
    call("evaluate", study, *test)
    assert pd.read_csv(results / "test_scores.csv", index_col=0)["score"].notna().all()
    assert "a mean of several trials" in call("report", study, *test, code=1)


@pytest.mark.parametrize(
    ("outcome", "estimator", "columns"),
    [
        ("stage", "FusionClassifier", ["class", *(f"probability of {s}" for s in ("I", "II"))]),
        ("{column: age}", "FusionRegressor", ["prediction"]),
    ],
)
def test_classes_and_numbers(
    tmp_path: Path, outcome: str, estimator: str, columns: list[str]
) -> None:
    folder = write_demo(tmp_path).parent
    table = pd.read_csv(folder / "patients.csv")
    table[table["stage"].isin(["I", "II"])].to_parquet(folder / "patients.parquet")
    study = folder / "other.yaml"
    study.write_text(
        f"data: patients.parquet\noutcome: {outcome}\nestimator: {estimator}\n"
        "modalities: {clinic: {type: Tabular, columns: [sex, treatment]}}\n"
        "parameters: {epochs: 2, n_members: 1, random_state: 0, training__ema: null}\n"
        "evaluate: {cv: 2}\n"
    )
    call("fit", study)
    call("predict", folder / "other", folder / "patients.parquet", "-o", folder / "p.parquet")
    found = pd.read_parquet(folder / "p.parquet")
    assert list(found.columns) == ["index", *columns]
    assert found[columns].notna().all(axis=None)
    call("evaluate", study, "--test", folder / "patients.parquet")
    assert (folder / "other/test_scores.csv").is_file()
    call("evaluate", study)
    assert estimator in set(pd.read_csv(folder / "other/scores.csv")["model"])
    assert "leave --times out" in call(
        *("predict", folder / "other", folder / "patients.parquet", "--times", "3"), code=1
    )


@pytest.mark.parametrize(
    ("change_", "line", "message"),
    [
        (("file: patients.csv ", "file: patient.csv "), 4, "There is no table '"),
        (("file: patients.csv ", "file: patients.txt "), 4, "Got 'patients.txt'"),
        (("index: patient", "index: patien"), 5, "no column 'patien'; .* Did you mean 'patient'?"),
        (("time: months", "time: month"), 8, "no column 'month'; .* Did you mean 'months'?"),
        (("  time: months\n", ""), 7, "outcome must have time and event"),
        (("outcome:", "outcom:"), 7, "no 'outcom'; .* Did you mean 'outcome'?"),
        (("FusionCox", "FusionCoxx"), 11, "Got 'FusionCoxx'. Did you mean 'FusionCox'?"),
        (("FusionCox", "FusionClassifier"), 11, "is for one of 'FusionCox', 'FusionDiscrete"),
        (("type: Genes", "type: Gene"), 15, "Modality 'rna' needs a type.*Did you mean 'Genes'"),
        (("size: 8", "sise: 8"), 14, "Image has no 'sise'; .* Did you mean 'size'?"),
        (("column: scan, ", ""), 14, "Image needs 'column'"),
        (("column: scan", "column: scann"), 14, "Column 'scann' not found .* Nearest .*'scan'"),
        (("sex, stage]", "sex, stages]"), 16, "'stages' not found in the table. .*'stage'"),
        (("fusion: gated", "fusion: gatd"), 18, "Got 'gatd'. Did you mean 'gated'?"),
        (
            ("fusion: gated", "fusion:\n  type: JointFusion\n  operator: gatd"),
            20,
            "Got 'gatd'. Did you mean 'gated'?",
        ),
        (
            ("fusion: gated", "fusion: {type: JointFusio}"),
            18,
            "Got 'JointFusio'. Did you mean 'JointFusion'?",
        ),
        (("structured: treatment", "structured: treat"), 19, "'treat' not found .*'treatment'"),
        (("estimator: FusionCox", "estimator: [FusionCox]"), 11, "one of .*Got .'FusionCox'"),
        (("output: results", "output: [results]"), 37, "must be the name of a folder"),
        (("  file: patients.csv ", "  file: [patients.csv] "), 4, "must be the name of a file"),
        (("  epochs: 5", "  epoch: 10"), 22, "no 'epoch'; .* Did you mean 'epochs'?"),
        (("  epochs: 5", "  epochs: 1.5"), 22, "The epochs parameter must be an integer"),
        (("  epochs: 5", "  training__emma: 1"), 22, "Invalid parameter 'emma'"),
        (("  n_members: 1", "  n_members: 1\n  n_members: 2"), 24, "'n_members' is there twice"),
    ],
)
def test_errors_name_the_line(
    study: Path, change_: tuple[str, str], line: int, message: str
) -> None:
    said = call("fit", change(study, change_), code=1)
    assert said.startswith(f"Error: {study}:{line}: ")
    assert re.search(message, said), said


def test_a_missing_image_names_its_row_and_the_line_of_its_modality(study: Path) -> None:
    (study.parent / "scans/003.png").unlink()
    said = call("fit", study, code=1)
    assert said.startswith(f"Error: {study}:14: Column 'scan', row 'patient_003': cannot read")
    assert not (study.parent / "results").exists()


def test_columns_that_are_named_are_all_that_is_read(study: Path) -> None:
    change(
        study,
        ("  index: patient\n", "  index: patient\n  columns: [age, sex]\n"),
        ("structured: treatment ", "# "),
        ("  scan: {type: Image, column: scan, size: 8, channels: L}\n", ""),
        ('  rna: {type: Genes, columns: "gene_*"}\n', ""),
        (CLINIC, ""),
        ("modalities:\n", ""),
    )
    call("fit", study)
    model = load(study.parent / "results/model")
    assert list(model.feature_names_in_) == ["age", "sex"]
    assert [one.kind for one in model.modalities_.values()] == ["table"]


def test_a_table_with_an_outcome_that_is_missing_names_the_rows(study: Path) -> None:
    table = pd.read_csv(study.parent / "patients.csv")
    table.loc[[2, 5], "months"] = np.nan
    table.to_csv(study.parent / "patients.csv", index=False)
    said = call("fit", study, code=1)
    assert said.startswith(f"Error: {study}:7: ")
    assert "2" in said
    assert "5" in said


def test_predictions_name_what_is_wrong(study: Path, tmp_path: Path) -> None:
    table = study.parent / "patients.csv"
    said = call("predict", tmp_path / "nothing", table, code=1)
    assert "holds no saved estimator (model.json is missing)" in said
    call("fit", change(study, ("  epochs: 5", "  epochs: 1")))
    model = study.parent / "results"
    assert "Got 'risks.txt'" in call("predict", model, table, "-o", "risks.txt", code=1)
    assert "no column 'id'" in call("predict", model, table, "--index", "id", code=1)
    assert "must be numbers" in call("predict", model, table, "--times", "1;2", code=1)
    pd.read_csv(table).drop(columns="age").to_csv(tmp_path / "less.csv")
    assert "Column 'age' not found" in call("predict", model, tmp_path / "less.csv", code=1)


def test_each_row_of_a_table_is_predicted_once(tmp_path: Path) -> None:
    study = write_plain(tmp_path, "{time: months, event: died}", "FusionPAMM")
    table = pd.read_csv(tmp_path / "patients.csv")
    again = pd.concat([table, table[:5].assign(age=80)])  # five patients with two rows
    again.to_csv(tmp_path / "again.csv", index=False)
    call("fit", study)
    out = tmp_path / "p.parquet"
    times = "12,12,12.00000001"
    call(
        *("predict", tmp_path / "plain", tmp_path / "again.csv"),
        *("--times", times, "--index", "patient", "-o", out),
    )
    found, model = pd.read_parquet(out), load(tmp_path / "plain/model")
    assert list(found.columns[2:]) == ["survival at 12", "survival at 12.00000001"]
    assert found["patient"].tolist() == again["patient"].tolist()
    np.testing.assert_allclose(found["risk"], model.predict(again), rtol=1e-12)
    curves = model.predict_survival_function(again, [12])
    np.testing.assert_allclose(found["survival at 12"], curves[12.0], rtol=1e-12)


def test_a_test_table_is_scored_a_cause_at_a_time_and_seen_rows_are_told(tmp_path: Path) -> None:
    study = write_plain(tmp_path, "{time: months, event: cause}", "FusionPAMM")
    table = pd.read_csv(tmp_path / "patients.csv")
    table[:160].to_csv(tmp_path / "patients.csv", index=False)
    table[160:].to_csv(tmp_path / "others.csv", index=False)
    call("fit", study)
    call("evaluate", study, "--test", tmp_path / "others.csv")
    scores = pd.read_csv(tmp_path / "plain/test_scores.csv", index_col=0)
    y, model = surv(table["months"], table["cause"])[160:], load(tmp_path / "plain/model")
    time = float(np.median(y["time"][y["event"] > 0]))
    for cause in (1, 2):
        found = model.predict_cumulative_incidence_function(table[160:], [time], cause)
        own = cause_scores(y, found.iloc[:, 0], time, cause)
        rows = scores[scores.index.str.contains(f"cause {cause} by")]
        np.testing.assert_allclose(rows.to_numpy(), own.to_numpy(), rtol=1e-9)
    arguments = ("evaluate", study, "--test", tmp_path / "patients.csv")
    said = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert "160 of 160 rows are like rows that the model was trained on" in said.stderr


@pytest.mark.parametrize(
    ("command", "section", "message"),
    [
        ("evaluate", "evaluate: {cv: 2, n_job: 1}", "no 'n_job'; .* Did you mean 'n_jobs'?"),
        ("tune", "tune: {trials: 3}", "no 'trials'; .* Did you mean 'n_trials'?"),
    ],
)
def test_sections_name_the_entries_they_may_have(
    tmp_path: Path, command: str, section: str, message: str
) -> None:
    study = write_plain(tmp_path, "{time: months, event: died}", "FusionPAMM")
    study.write_text(f"{study.read_text()}{section}\n")
    said = call(command, study, code=1)
    assert said.startswith(f"Error: {study}:7: ")
    assert re.search(message, said), said


def test_the_configuration_of_the_demo_is_explained() -> None:
    page = (Path(__file__).parents[2] / "docs/cli.md").read_text(encoding="utf-8")
    assert CONFIG in page


def test_traceback_shows_where_an_error_was_raised(study: Path) -> None:
    change(study, ("FusionCox", "FusionCoxx"))
    done = CliRunner().invoke(app, ["--traceback", "fit", str(study)])
    assert type(done.exception).__name__ == "ConfigError"


def test_help_has_examples_and_the_shells_get_completion() -> None:
    for command in ("fit", "evaluate", "predict", "tune", "report", "demo"):
        assert f"mmfusion {command}" in call(command, "--help")
    assert "--install-completion" in call("--help")


def process(*arguments: object, code: int = 0) -> tuple[str, str]:
    """Run a command in a process of its own; return what it prints and its errors."""
    command = [sys.executable, "-m", "mmfusion", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stderr
    return done.stdout, done.stderr


def test_a_process_says_what_is_wrong_in_one_line_and_ends_with_1(tmp_path: Path) -> None:
    (tmp_path / "study.yaml").write_text("data: a.csv\noutcome: [time\n")
    said, errors = process("fit", tmp_path / "study.yaml", code=1)
    assert said == ""
    assert errors.startswith(f"Error: {tmp_path / 'study.yaml'}:3: this is not YAML: ")
    assert len(errors.splitlines()) == 1


@pytest.mark.slow
def test_each_command_as_a_process(tmp_path: Path) -> None:
    folder = tmp_path / "demo"
    said, _ = process("demo", folder)
    assert "$ mmfusion evaluate" in said
    assert "| tuned |" in said
    assert len(pd.read_csv(folder / "predictions.csv")) == 120
    assert (folder / "results/report.html").is_file()
    study = folder / "study.yaml"
    # What the demo did in one process, smaller, each in a process of its own.
    change(
        study,
        ("output: results", "output: mine"),
        ("  epochs: 5", "  epochs: 1"),
        ("  n_trials: 3", "  n_trials: 1"),
        ("evaluate:\n  cv: 3", "evaluate:\n  single: false\n  cv: 2"),
        ('  rna: {type: Genes, columns: "gene_*"}\n', ""),
    )
    process("fit", study)
    assert load(folder / "mine/model").epochs == 1
    process("evaluate", study)
    assert "tuned" in set(pd.read_csv(folder / "mine/differences.csv")["model"])
    process("tune", study)
    assert len(pd.read_csv(folder / "mine/trials.csv")) == 1
    process("report", study, "--test", folder / "new_patients.csv")
    page = (folder / "mine/report.html").read_text(encoding="utf-8")
    assert "TRIPOD+AI" in page
    process("predict", folder / "mine", folder / "patients.csv", "-o", folder / "r.feather")
    assert len(pd.read_feather(folder / "r.feather")) == 240
    (folder / "scans/007.png").unlink()
    _, errors = process("predict", folder / "mine", folder / "patients.csv", code=1)
    assert errors.startswith("Error: Column 'scan', row 7: cannot read the image 'scans/007.png'")
    change(study, ("time: months", "time: month"))
    _, errors = process("fit", study, code=1)
    assert errors.startswith(f"Error: {study}:8: The table has no column 'month'")
