"""What a model like the fitted one learns of a number or a class, from other rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np

from mmfusion.heads import CategoricalHead, GaussianHead
from mmfusion.heads.base import Head, Target
from mmfusion.model.fit import Ready, fit_part
from mmfusion.structured import Layout

__all__ = ["Nuisance", "texts_of", "treatment_head"]


def texts_of(formulas: str | Mapping[str, str] | None) -> list[str]:
    """Return the texts of formulas."""
    if formulas is None:
        return []
    return [formulas] if isinstance(formulas, str) else list(formulas.values())


def treatment_head(values: np.ndarray, weight: np.ndarray | None = None) -> tuple[Head, Target]:
    """Return the head of a treatment and its outcome: classes where it has two values.

    Parameters
    ----------
    values : ndarray, shape (n,)
    weight : ndarray, shape (n,), optional
    """
    levels = np.unique(values)
    if len(levels) == 2:
        of_classes = CategoricalHead()
        return of_classes, of_classes.fit_outcome((values == levels[1]).astype(int), weight)
    of_numbers = GaussianHead()
    return of_numbers, of_numbers.fit_outcome(values, weight)


class Nuisance:
    """The mean of an outcome given what a model reads, from a model like the fitted one.

    Parameters
    ----------
    ready : Ready
    head : Head
        Of the outcome, fitted.
    target : Target
        Of all rows.
    formulas : str, mapping of str to str, or None
        Without the treatment.
    """

    def __init__(
        self, ready: Ready, head: Head, target: Target, formulas: str | Mapping[str, str] | None
    ) -> None:
        strategy = ready.plan.strategy
        if strategy.pool == "curves" and not head.mixes_curves:
            raise ValueError(
                f"LateFusion(combine={strategy.combine!r}) combines curves, which the chance of a "
                "treatment has none of: use combine='risk' with propensity='learn'."
            )
        self.study = ready.study.with_outcome(head, target)
        table = ready.study.all.table
        # Networks are kept whole (judged=False). The bias of an effect is the product of the two
        # functions' errors: noise cancels in it, but shrinkage of both functions towards their
        # means adds up, with the sign of the confounding. Levels and knots are those of all rows
        # (prepared=), so that a fold knows levels that only the held rows have.
        self.plan = replace(
            ready.plan,
            head=head,
            formulas=formulas,
            inference="model",
            treatment=None,
            judged=False,
            n_members=0 if ready.plan.n_members == 0 else 1,
            settings=replace(ready.plan.settings, verbose=0, refit=False),
            prepared=None if formulas is None else Layout(formulas).fit(table, head),
        )

    def expectation(self, rows: np.ndarray, held: np.ndarray, seed: int) -> np.ndarray:
        """Return the mean of the outcome of the held rows, learned from other rows.

        Raises
        ------
        KeyboardInterrupt
            Where Ctrl-C ended the training.
        """
        plan = replace(self.plan, random_state=seed)
        model = fit_part(plan, self.study.part(plan, rows))
        rest = self.study.all.take(held)
        return model.head.expectation(model.predictor(rest.table, subjects=rest.subjects))
