"""A small cohort with its configuration, written and run: what the other commands do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from PIL import Image

from mmfusion.cli import work
from mmfusion.cli.tables import write_table
from mmfusion.datasets import load_digits_cohort

__all__ = ["CONFIG", "run_demo", "write_demo"]

CONFIG = """\
# A cohort of 240 simulated patients. Run it with `mmfusion fit study.yaml`.

data:
  file: patients.csv        # CSV, parquet or feather; paths of images start from its folder
  index: patient

outcome:
  time: months
  event: died

estimator: FusionCox

modalities:
  scan: {type: Image, column: scan, size: 8, channels: L}
  rna: {type: Genes, columns: "gene_*"}
  clinic: {type: Tabular, columns: [age, sex, stage]}

fusion: gated
structured: treatment       # a formula: effects to report

parameters:                 # any other parameter of the estimator
  epochs: 5
  n_members: 1
  random_state: 0

evaluate:
  cv: 3
  n_repeats: 1

tune:
  n_trials: 3
  cv: 2
  space:
    fusion: [gated, concat]
    learning_rate: {type: FloatDistribution, low: 0.001, high: 0.03, log: true}

output: results
"""


def write_demo(folder: Path) -> Path:
    """Write the cohort and its configuration; return the latter's path."""
    cohort = load_digits_cohort(360, missing=0.1, n_genes=20, random_state=0)
    frame = cohort.frame.drop(columns="image")
    (folder / "scans").mkdir(parents=True, exist_ok=True)
    names: list[str | None] = []
    for number, cell in enumerate(cohort.frame["image"]):
        names.append(None if cell is None else f"scans/{number:03d}.png")
        if cell is not None:
            Image.fromarray(cell).save(folder / f"scans/{number:03d}.png")
    frame.insert(0, "scan", names)
    frame.insert(0, "months", cohort.target["time"].round(3))
    frame.insert(1, "died", cohort.target["event"].astype(int))
    frame.index = frame.index.map("patient_{:03d}".format).rename("patient")
    write_table(frame[:240], folder / "patients.csv")
    write_table(frame[240:], folder / "new_patients.csv")
    config = folder / "study.yaml"
    config.write_text(CONFIG, encoding="utf-8")
    return config


def run_demo(folder: Path, said: Any) -> None:
    """Write the cohort, fit and evaluate a model, tune it, and predict."""
    if folder.exists() and any(folder.iterdir()) and not (folder / "study.yaml").is_file():
        raise ValueError(f"{folder} is not empty and holds no demo; name another folder.")
    config = write_demo(folder)
    print(f"Wrote {config} and its table, {folder / 'patients.csv'}.\n")
    print(f"$ mmfusion fit {config}")
    work.fit_job(said.job(config))
    print(f"\n$ mmfusion evaluate {config}")
    work.evaluate_job(said.job(config))
    print(f"\n$ mmfusion tune {config}")
    job = said.job(config)
    work.tune_job(job)
    output, new = folder / "predictions.csv", folder / "new_patients.csv"
    print(f"\n$ mmfusion evaluate {config} --test {new}")
    work.test_job(said.job(config, new))
    print(f"\n$ mmfusion report {config} --test {new}")
    work.report_job(said.job(config, new))
    print(f"\n$ mmfusion predict {job.output} {new} --times 12,36,60 --index patient -o {output}")
    work.predict_table(job.output, new, output, "12,36,60", "patient")
