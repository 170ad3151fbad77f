"""The examples run, in their fastest setting, and leave what they promise."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

EXAMPLES = Path(__file__).parents[1] / "examples"


@pytest.mark.slow
def test_the_demo_compares_draws_and_saves(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "demo.py", "--fast", "--output", tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "python examples/glioma.py" in done.stdout
    report = (tmp_path / "report.md").read_text(encoding="utf-8")
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "| oracle |" in report
    assert report.count("| joint fusion, tuned |") == 2
    assert report.count("Tuning changed the mean C by") == 2
    assert "<td>oracle</td>" in page
    for cohort, n_models in (("metabric", 6), ("digit", 8)):
        assert (tmp_path / f"{cohort}.png").stat().st_size > 10_000
        assert f"({cohort}.png)" in report
        assert (tmp_path / f"{cohort}_model").is_dir()
        scores = pd.read_csv(tmp_path / f"{cohort}_scores.csv")
        assert len(scores) == 2 * n_models
        chosen = pd.read_csv(tmp_path / f"{cohort}_chosen.csv")
        assert chosen["model"].tolist() == ["joint fusion, tuned"] * 2
        assert scores["c"].between(0, 1).all()
        assert scores["ibs"].between(0, 0.5).all()
    handed_over = (tmp_path / "digit_report.html").read_text(encoding="utf-8")
    assert "could not be shown" not in handed_over
    assert len(pd.read_csv(tmp_path / "digit_tripod.csv")) == handed_over.count('class="status')


@pytest.mark.slow
def test_what_a_model_looks_at_is_drawn_and_reported(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, EXAMPLES / "interpret.py", "--fast", "--output", tmp_path],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "page.png").stat().st_size > 50_000
    assert "could not be shown" not in (tmp_path / "report.html").read_text(encoding="utf-8")
    genes = pd.read_csv(tmp_path / "genes.csv", index_col=0)
    assert len(genes) == 30
    assert (genes.iloc[:, 0] >= 0).all()


@pytest.mark.slow
def test_embeddings_have_a_picture_and_a_number(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, EXAMPLES / "embeddings.py", "--fast"),
            *("--data", "metabric", "--output", tmp_path),
        ],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert (tmp_path / "embeddings.png").stat().st_size > 10_000
    assert "| all |" in (tmp_path / "results.md").read_text(encoding="utf-8")
    scores = pd.read_csv(tmp_path / "accuracies.csv")
    assert len(scores) == 2 * 2 * 3  # folds, inputs and embeddings, both modalities and each
    assert scores["accuracy"].between(0.4, 1).all()


@pytest.mark.slow
def test_fusions_are_compared_and_a_second_run_computes_nothing(tmp_path: Path) -> None:
    def run() -> pd.DataFrame:
        done = subprocess.run(
            [sys.executable, EXAMPLES / "compare_fusion.py", "--fast", "--output", tmp_path],
            capture_output=True,
            text=True,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return pd.read_csv(tmp_path / "scores.csv")

    first = run()
    assert first["model"].nunique() == 10
    assert first["c"].between(0, 1).all()
    assert "some lack a modality" in (tmp_path / "results.md").read_text(encoding="utf-8")
    assert (tmp_path / "comparison.png").stat().st_size > 10_000
    assert len(list((tmp_path / "folds").glob("*.json"))) == 20
    pd.testing.assert_frame_equal(first, run())  # seconds too: nothing was fitted again
