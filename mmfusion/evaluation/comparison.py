"""Scores of several models on the same folds, and what they say of each other."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.evaluation.intervals import CorrectedInterval, corrected_interval
from mmfusion.inputs.parameters import check_choice
from mmfusion.metrics import Score

__all__ = ["TITLES", "Comparison"]

#: Letters of a message in a table.
LONGEST = 120
#: Columns of the scores that are no score.
KEYS = ["model", "repeat", "fold", "n_train", "n_test"]
TITLES = {
    "c": "Harrell's C",
    "uno": "Uno's C",
    "antolini": "Antolini's C",
    "auc": "AUC",
    "ibs": "integrated Brier score",
    "log_loss": "log loss",
    "r2": "R²",
    "rmse": "root mean squared error",
    "log_score": "log score",
    "crps": "CRPS",
    "seconds": "seconds a fold",
}


@dataclass(frozen=True, eq=False)
class Comparison:
    """Scores of models on the same folds.

    It can be made of any scores, so that models fitted elsewhere can be compared too.

    Attributes
    ----------
    scores : DataFrame
        A row a model and fold: model, repeat, fold (from 0), n_train, n_test, then the scores
        (c, ibs, seconds).
    risks : DataFrame
        Out-of-fold predictions: model, repeat, fold, row (position in `X`), and risk (of classes or
        numbers: prediction).
    reference : str, optional
        The model to which differences are taken where a call names none.
    notes : tuple of str
        What a reader of the table must know.
    pooled : mapping of str to mapping of str to Score
        By model and score, the mean over the folds with the influence of each row of `X`: for
        intervals by cluster, and of differences between these very models.
    failures : mapping of str to str
        Of models that failed: in how many folds, and the first error.
    chosen : DataFrame
        Of models that are searches, a row a fold: model, repeat, fold, the position (``trial``) and
        inner score of what the search found best, and its parameters as texts.
    """

    scores: pd.DataFrame
    risks: pd.DataFrame
    reference: str | None = None
    notes: tuple[str, ...] = ()
    pooled: Mapping[str, Mapping[str, Score]] = field(default_factory=dict)
    failures: Mapping[str, str] = field(default_factory=dict)
    chosen: pd.DataFrame = field(default_factory=pd.DataFrame)

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order in which they were given."""
        return list(self.scores["model"].unique())

    @property
    def metrics(self) -> list[str]:
        """Names of the scores; the first is what differences are taken of by default."""
        return [name for name in self.scores.columns if name not in KEYS]

    def table(self, level: float = 0.95, cluster: Any = None) -> pd.DataFrame:
        """Return each score's mean and standard deviation over folds, and the mean's interval.

        The standard deviation is no standard error: it tells how unlike the folds are. The interval
        says what the mean score of these fitted models would be in other rows of the same kind; of
        other training rows it says nothing.

        Parameters
        ----------
        level : float, default=0.95
        cluster : array-like, shape (n,), optional
            A label of each row of `X`, where rows are not independent; see `Score.interval`.

        Returns
        -------
        DataFrame
            A row a model; columns (score, "mean") and (score, "sd"), and (score, "lower") and
            (score, "upper") where the influences of the rows are known. NaN where the model lacks
            the score in a fold.
        """
        scores = self.scores.drop(columns=KEYS[1:]).groupby("model", sort=False)
        named = {"mean": _mean, "sd": _sd}
        table = scores.agg(list(named.values())).rename(
            columns={f.__name__: name for name, f in named.items()}, level=1
        )
        for score in self.metrics:
            if any(score in known for known in self.pooled.values()):
                for end in ("lower", "upper"):
                    table[score, end] = [
                        getattr(known[score].interval(level, cluster), end)
                        if score in (known := self.pooled.get(name, {}))
                        else float("nan")
                        for name in table.index
                    ]
        order = [name for score in self.metrics for name in table.columns if name[0] == score]
        return table[order]

    def differences(
        self,
        reference: str | None = None,
        metric: str | None = None,
        level: float = 0.95,
        *,
        adjust: str | None = None,
    ) -> pd.DataFrame:
        """Return each other model's paired difference to `reference`, with its interval.

        Parameters
        ----------
        reference : str, optional
            The name of a model; by default the comparison's own reference, else the first model.
        metric : str, optional
            A score's column, the first by default.
        level : float, default=0.95
        adjust : {None, "holm"}, default=None
            "holm" adds ``p_adjusted``: p-values that hold for all rows of the table at once (Holm
            1979). Intervals stay those of one comparison each.

        Returns
        -------
        DataFrame
            A row a model: the fields of `corrected_interval`, and ``folds_higher``: the number of
            folds in which its score is higher. Of a single fold there is no interval: NaN.

        Raises
        ------
        ValueError
            An unknown model or score, or folds that models do not share.
        """
        reference, metric = self.resolve(reference, metric)
        if adjust not in (None, "holm"):
            raise ValueError(f"The adjust parameter must be None or 'holm'. Got {adjust!r}.")
        wide = self.by_fold(metric)
        test_share = float((self.scores["n_test"] / self.scores["n_train"]).mean())
        rows = {}
        for name in self.models:
            if name != reference:
                d = (wide[name] - wide[reference]).to_numpy()
                higher = {"folds_higher": int((d > 0).sum())}
                rows[name] = _interval(d, test_share, level)._asdict() | higher
        table = pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")
        if adjust == "holm":
            table["p_adjusted"] = holm(table["p_value"].to_numpy())
        return table

    def by_fold(self, metric: str | None = None) -> pd.DataFrame:
        """Return a score as a table: a row a repeat and fold, a column a model.

        Raises
        ------
        ValueError
            An unknown score, or folds that models do not share.
        """
        metric = self.resolve(None, metric)[1]
        wide = self.scores.pivot(index=["repeat", "fold"], columns="model", values=metric)
        n_folds = self.scores.groupby("model")["fold"].size()
        if (n_folds != len(wide)).any():
            raise ValueError(
                "Models must be scored on the same folds to be compared. Got "
                f"{n_folds.to_dict()} folds."
            )
        return wide[self.models]

    def resolve(self, reference: str | None, metric: str | None) -> tuple[str, str]:
        """Return reference and score with what stands for None, checked."""
        metric = self.metrics[0] if metric is None else metric
        check_choice("metric", metric, self.metrics)
        if reference is None:
            reference = self.models[0] if self.reference is None else self.reference
        check_choice("reference", reference, self.models)
        return reference, metric

    def out_of_fold_rank(self, model: str, repeat: int = 0) -> np.ndarray:
        """Return where each row's risk stood among those of its test fold, in (0, 1).

        Each fold's model has its own scale; ranks within the fold can be put together, for
        example for Kaplan-Meier curves of risk groups.

        Parameters
        ----------
        model : str
        repeat : int, default=0

        Returns
        -------
        ndarray of float64, shape (n,)
            NaN for rows that no fold of the repeat tested.
        """
        mine = self.risks[(self.risks["model"] == model) & (self.risks["repeat"] == repeat)]
        if not len(mine):
            raise ValueError(
                f"The model parameter must be one of {self.models}, with a repeat of its own. "
                f"Got {model!r}, repeat {repeat!r}."
            )
        by_fold = mine.groupby("fold")["risk"]
        rank = (by_fold.rank() - 0.5) / by_fold.transform("size")
        ranks = np.full(int(self.risks["row"].max()) + 1, np.nan)
        ranks[mine["row"]] = rank
        return ranks

    def to_markdown(
        self, reference: str | None = None, level: float = 0.95, *, adjust: str | None = None
    ) -> str:
        """Return the table as Markdown: mean (sd) and interval of each score, and differences.

        A model that failed has its first error in place of the first score.

        Parameters
        ----------
        reference : str, optional
            The model to which differences are taken, by default the comparison's own; without one
            there are none.
        level : float, default=0.95
        adjust : {None, "holm"}, default=None
            "holm" writes the adjusted p-value behind each interval; see `differences`.

        Returns
        -------
        str
        """
        table = self.table(level)
        reference = self.reference if reference is None else reference
        columns = [["model", *self.models]]
        for number, score in enumerate(table.columns.unique(level=0)):
            digits = 1 if score == "seconds" else 3
            known = pd.DataFrame(table[score])
            rows = known.to_dict("index")
            cells = [_cell(rows[name], digits) for name in self.models]
            if not number:
                cells = [
                    _one_line(self.failures[name]) if name in self.failures else cell
                    for name, cell in zip(self.models, cells, strict=True)
                ]
            title = f"{TITLES.get(score, score)}, mean (sd)"
            columns.append([title + (f" [{level:.0%}]" if "lower" in known else ""), *cells])
            if reference is not None and score != "seconds":
                differences = self.differences(reference, score, level, adjust=adjust)
                cells = [
                    "reference" if name == reference else _describe(differences, name)
                    for name in self.models
                ]
                title = f"difference [{level:.0%} interval]"
                columns.append([title + (", Holm's p" if adjust else ""), *cells])
        lines = list(zip(*columns, strict=True))
        lines.insert(1, ("---",) * len(columns))
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)

    def summary(self, level: float = 0.95) -> str:
        """Return what was compared, the table as Markdown with Holm's p, and the notes.

        Parameters
        ----------
        level : float, default=0.95

        Returns
        -------
        str
        """
        repeats = self.scores["repeat"].nunique()
        folds = len(self.scores[["repeat", "fold"]].drop_duplicates())
        first = f"{len(self.models)} models, {folds} folds in {repeats} repeat(s)."
        if self.pooled:
            first += (
                f" In square brackets the {level:.0%} interval of the mean score, of the fitted "
                "models as they are."
            )
        if self.reference is not None:
            first += (
                f" Differences are paired, model minus {self.reference!r}; intervals are those of "
                "the corrected resampled t-test (Nadeau & Bengio 2003)."
            )
        adjust = None if self.reference is None else "holm"
        failed = [f"{name} {text}." for name, text in self.failures.items()]
        table = self.to_markdown(level=level, adjust=adjust)
        return "\n\n".join([first, table, *failed, *self.notes])


def holm(p_values: np.ndarray) -> np.ndarray:
    """Return p-values adjusted for their number (Holm 1979); NaN stays and is not counted.

    Of m p-values, ascending, the i-th becomes ``max_{j <= i} min(1, (m - j + 1) p_(j))``.
    """
    adjusted = np.full(len(p_values), np.nan)
    order = np.argsort(p_values)[: int((~np.isnan(p_values)).sum())]
    factors = np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(factors * p_values[order]))
    return adjusted


def _mean(values: pd.Series) -> float:
    return float(values.mean(skipna=False))


def _sd(values: pd.Series) -> float:
    return float(values.std(skipna=False))


def _interval(d: np.ndarray, test_share: float, level: float) -> CorrectedInterval:
    if len(d) > 1:
        return corrected_interval(d, test_share, level)
    return CorrectedInterval(float(d[0]), *[float("nan")] * 4)  # one fold tells of no spread


def _cell(known: Mapping[Any, float], digits: int) -> str:
    if np.isnan(known["mean"]):
        return "–"
    text = f"{known['mean']:.{digits}f} ({_number(known['sd'], digits)})"
    if np.isnan(known.get("lower", np.nan)):
        return text
    return f"{text} [{known['lower']:.{digits}f}, {known['upper']:.{digits}f}]"


def _one_line(text: str) -> str:
    """Return a message that fits into a cell of a table."""
    text = " ".join(text.split()).replace("|", "/")
    return text if len(text) <= LONGEST else text[: LONGEST - 1] + "…"


def _number(value: float, digits: int) -> str:
    return "–" if np.isnan(value) else f"{value:.{digits}f}"


def _describe(differences: pd.DataFrame, name: str) -> str:
    shown = differences.loc[[name], ["difference", "lower", "upper"]].to_numpy(np.float64)[0]
    if np.isnan(shown[0]):
        return "–"
    if np.isnan(shown[1]):
        return f"{shown[0]:+.3f} [–]"
    text = "{:+.3f} [{:+.3f}, {:+.3f}]".format(*shown)
    if "p_adjusted" in differences:
        p = float(differences["p_adjusted"].to_numpy()[differences.index == name][0])
        text += "" if np.isnan(p) else ", p < 0.001" if p < 0.001 else f", p = {p:.3f}"
    return text
