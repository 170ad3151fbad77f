"""One formula for several predictors: each has its own coefficients."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from mmfusion.structured.columns import TermColumns

__all__ = ["Expansion"]


@dataclass(frozen=True)
class Expansion:
    """What a formula's design becomes where a row has K predictors.

    The predictors of row i are ``eta_i = C (x_i' beta_1, ..., x_i' beta_F)'``: F coefficient
    vectors, of which a contrast matrix C makes K predictors. Of a multinomial model's K logits the
    first is 0 (its class is the reference), so that F = K - 1.

    Attributes
    ----------
    parameters : tuple of str, length F
        Names of the coefficient vectors.
    contrasts : ndarray, shape (K, F)
    baseline : tuple of str, length K or 0
        Names of constants, one a predictor, in the place of the formula's intercept: the baseline
        of a discrete-time model, whose intervals share their coefficients (a column of ones in C).
    """

    parameters: tuple[str, ...]
    contrasts: np.ndarray
    baseline: tuple[str, ...] = ()

    @property
    def single(self) -> bool:
        """Whether there is one coefficient vector: names need no addition then."""
        return len(self.parameters) == 1

    def design(self, design: np.ndarray) -> np.ndarray:
        """Return the design of all predictors, shape (n K, F p), a row's predictors together.

        With a baseline its K columns come first.
        """
        n, p = design.shape
        k, f = self.contrasts.shape
        if k == 1 and not self.baseline:
            return design
        expanded = np.einsum("ij,kf->ikfj", design, self.contrasts).reshape(n * k, f * p)
        if not self.baseline:
            return expanded
        return np.column_stack([np.tile(np.eye(k), (n, 1)), expanded])

    def name(self, label: str, parameter: str) -> str:
        """Return the name of a term or coefficient of one parameter."""
        return label if self.single else f"{label} [{parameter}]"

    def names(self, names: Sequence[str]) -> list[str]:
        """Return the names of all coefficients, parameter by parameter."""
        effects = [self.name(name, parameter) for parameter in self.parameters for name in names]
        return [*self.baseline, *effects]

    def terms(self, terms: Sequence[TermColumns], width: int) -> tuple[TermColumns, ...]:
        """Return the terms of all parameters, of a design with `width` columns each."""
        starts = [len(self.baseline) + number * width for number in range(len(self.parameters))]
        return tuple(
            replace(
                term,
                label=self.name(term.label, parameter),
                columns=slice(term.columns.start + start, term.columns.stop + start),
            )
            for start, parameter in zip(starts, self.parameters, strict=True)
            for term in terms
        )

    def index(self, labels: Sequence[str], shown: Sequence[str]) -> pd.Index:
        """Return the index of a table: by term, with several parameters by term and parameter.

        Parameters
        ----------
        labels : sequence of str
            Of the formula: coefficients and terms.
        shown : sequence of str
            Names that `name` made of them.
        """
        if self.single:
            return pd.Index(shown, name="term")
        pairs = {
            self.name(label, parameter): (label, parameter)
            for parameter in self.parameters
            for label in labels
        }
        return pd.MultiIndex.from_tuples(
            [pairs[name] for name in shown], names=["term", "parameter"]
        )
