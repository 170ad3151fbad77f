"""The commands: each reads its files and calls what a Python session would call."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import typer

from mmfusion.cli.document import Document

__all__ = ["app"]

app = typer.Typer(
    name="mmfusion",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["-h", "--help"]},
)

Config = Annotated[Path, typer.Argument(help="The YAML file that says what is fitted.")]
_trace = False


@app.callback()
def main(
    traceback: Annotated[
        bool, typer.Option("--traceback", help="Show where in the code an error was raised.")
    ] = False,
) -> None:
    """Multimodal survival models, classifiers and regressions, from tables and a YAML file.

    `mmfusion demo` writes a first example with its data, and runs it. The keys of the YAML file
    stand in `docs/cli.md`.
    """
    global _trace
    _trace = traceback


@app.command()
def fit(config: Config) -> None:
    """Fit the model of a file on its whole table, and save it.

    Writes `model/` into the output folder, and with a formula its effects, `effects.csv`.

    Example: `mmfusion fit study.yaml`
    """
    with _said() as said:
        from mmfusion.cli.work import fit_job

        fit_job(said.job(config))


@app.command()
def evaluate(
    config: Config,
    test: Annotated[
        Path | None,
        typer.Option(
            help="A table of other rows: the saved model is scored on it, with intervals."
        ),
    ] = None,
) -> None:
    """Cross-validate the model beside single modalities and classical models, on the same folds.

    With a section `tune` in the file the search stands beside them, made anew inside the training
    rows of each fold. Writes `scores.csv` (a row a model and fold), `comparison.md`,
    `differences.csv`, and `chosen.csv`, what the search took in each fold. With
    `--test`, the model that `fit` or `tune` saved is scored on rows that it has not seen:
    `test_scores.csv`.

    Example: `mmfusion evaluate study.yaml`

    Example: `mmfusion evaluate study.yaml --test other_hospital.csv`
    """
    with _said() as said:
        from mmfusion.cli.work import evaluate_job, test_job

        (evaluate_job if test is None else test_job)(said.job(config, test))


@app.command()
def predict(
    model: Annotated[Path, typer.Argument(help="The folder of a saved model.")],
    table: Annotated[Path, typer.Argument(help="A CSV, parquet or feather table.")],
    output: Annotated[Path, typer.Option("--output", "-o", help="The table that is written.")] = (
        Path("predictions.csv")
    ),
    times: Annotated[str, typer.Option(help="Times of survival probabilities: `12,36,60`.")] = "",
    index: Annotated[str, typer.Option(help="The column that names the rows.")] = "",
) -> None:
    """Predict the rows of a table with a saved model.

    Of survival the risk (higher is worse) and, with `--times`, survival probabilities; of classes
    the class and the probabilities; of numbers the prediction.

    Example: `mmfusion predict study/model patients.csv --times 12,36,60 -o risks.csv`
    """
    with _said():
        from mmfusion.cli.work import predict_table

        predict_table(model, table, output, times, index)


@app.command()
def tune(config: Config) -> None:
    """Search for better parameters with Optuna, and save the best model.

    Writes `model/` and `trials.csv`. The section `tune` of the file is what `FusionSearchCV` takes.

    Example: `mmfusion tune study.yaml`
    """
    with _said() as said:
        from mmfusion.cli.work import tune_job

        tune_job(said.job(config))


@app.command()
def report(
    config: Config,
    test: Annotated[
        Path, typer.Option(help="A table of rows that the model has not seen; others are refused.")
    ],
) -> None:
    """Write a report of the saved model on rows that it has not seen: `report.html`.

    Example: `mmfusion report study.yaml --test other_hospital.csv`
    """
    with _said() as said:
        from mmfusion.cli.work import report_job

        report_job(said.job(config, test))


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="The folder that is made.")] = Path(
        "mmfusion_demo"
    ),
) -> None:
    """Write a small simulated cohort with its YAML file, and run the other commands on it.

    Needs no network. The files are a start for one's own.

    Example: `mmfusion demo`
    """
    with _said() as said:
        from mmfusion.cli.demo import run_demo

        run_demo(folder, said)


class Said:
    """Reads jobs, and remembers which file an error may be about."""

    document: Document | None = None

    def job(self, config: Path, test: Path | None = None) -> Any:
        from mmfusion.cli.job import Job

        job = Job.read(config, test)
        self.document = job.document
        return job


@contextlib.contextmanager
def _said() -> Iterator[Said]:
    """Say errors and warnings in a line each, errors with the line of the file they are about."""
    said = Said()
    with warnings.catch_warnings():
        warnings.showwarning = _show  # type: ignore[assignment]
        try:
            yield said
        except (ValueError, TypeError, OSError, ImportError) as error:
            if _trace:
                raise
            known = type(error).__name__ == "ConfigError" or said.document is None
            text = str(error) if known else said.document.blame(error)  # type: ignore[union-attr]
            typer.echo(f"Error: {text}", err=True)
            raise typer.Exit(1) from error


def _show(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, UserWarning):  # how the package speaks to its users
        sys.stderr.write(f"Warning: {message}\n")
