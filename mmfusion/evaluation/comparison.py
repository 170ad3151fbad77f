"""Scores of several models on the same folds, and what they say of each other."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from mmfusion.evaluation.intervals import corrected_interval

__all__ = ["TITLES", "Comparison"]

#: Columns of the scores that are no score.
KEYS = ["model", "repeat", "fold", "n_train", "n_test"]
TITLES = {"c": "Harrell's C", "ibs": "integrated Brier score", "seconds": "seconds a fold"}


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
        Out-of-fold predictions: model, repeat, fold, row (position in `X`), risk.
    """

    scores: pd.DataFrame
    risks: pd.DataFrame

    @property
    def models(self) -> list[str]:
        """Names of the models, in the order in which they were given."""
        return list(self.scores["model"].unique())

    def table(self) -> pd.DataFrame:
        """Return mean and standard deviation over folds (no standard error) of each score.

        Returns
        -------
        DataFrame
            A row a model; two columns a score: (score, "mean"), (score, "sd"). NaN where the
            model lacks the score in a fold.
        """
        scores = self.scores.drop(columns=KEYS[1:]).groupby("model", sort=False)
        named = {"mean": _mean, "sd": _sd}
        return scores.agg(list(named.values())).rename(
            columns={f.__name__: name for name, f in named.items()}, level=1
        )

    def differences(self, reference: str, metric: str = "c", level: float = 0.95) -> pd.DataFrame:
        """Return each other model's paired difference to `reference`, with its interval.

        Parameters
        ----------
        reference : str
            The name of a model.
        metric : str, default="c"
            A score's column.
        level : float, default=0.95

        Returns
        -------
        DataFrame
            A row a model: the fields of `corrected_interval`, and ``folds_higher``: the number of
            folds in which its score is higher.

        Raises
        ------
        ValueError
            An unknown model or score, fewer than two folds, or folds that models do not share.
        """
        known = [name for name in self.scores.columns if name not in KEYS]
        if metric not in known:
            raise ValueError(f"The metric parameter must be one of {known}. Got {metric!r}.")
        if reference not in self.models:
            raise ValueError(
                f"The reference parameter must be one of {self.models}. Got {reference!r}."
            )
        wide = self.scores.pivot(index=["repeat", "fold"], columns="model", values=metric)
        n_folds = self.scores.groupby("model")["fold"].size()
        if (n_folds != len(wide)).any():
            raise ValueError(
                "Models must be scored on the same folds to be compared. Got "
                f"{n_folds.to_dict()} folds."
            )
        test_share = float((self.scores["n_test"] / self.scores["n_train"]).mean())
        rows = {}
        for name in self.models:
            if name != reference:
                d = (wide[name] - wide[reference]).to_numpy()
                higher = {"folds_higher": int((d > 0).sum())}
                rows[name] = corrected_interval(d, test_share, level)._asdict() | higher
        return pd.DataFrame.from_dict(rows, orient="index").rename_axis("model")

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

    def to_markdown(self, reference: str | None = None, level: float = 0.95) -> str:
        """Return the table as Markdown: mean (sd), and differences of C and Brier score.

        Parameters
        ----------
        reference : str, optional
            The model to which differences are taken; without one there are none.
        level : float, default=0.95

        Returns
        -------
        str
        """
        table = self.table()
        columns = [["model", *self.models]]
        for score in table.columns.unique(level=0):
            digits = 1 if score == "seconds" else 3
            cells = [
                "–" if np.isnan(mean) else f"{mean:.{digits}f} ({sd:.{digits}f})"
                for mean, sd in table[score].to_numpy()
            ]
            columns.append([f"{TITLES.get(score, score)}, mean (sd)", *cells])
            if reference is not None and score != "seconds":
                differences = self.differences(reference, score, level)
                cells = [
                    "reference" if name == reference else _describe(differences, name)
                    for name in self.models
                ]
                columns.append([f"difference [{level:.0%} interval]", *cells])
        lines = list(zip(*columns, strict=True))
        lines.insert(1, ("---",) * len(columns))
        return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _mean(values: pd.Series) -> float:
    return float(values.mean(skipna=False))


def _sd(values: pd.Series) -> float:
    return float(values.std(skipna=False))


def _describe(differences: pd.DataFrame, name: str) -> str:
    shown = differences.loc[[name], ["difference", "lower", "upper"]].to_numpy(np.float64)[0]
    return "–" if np.isnan(shown[0]) else "{:+.3f} [{:+.3f}, {:+.3f}]".format(*shown)
