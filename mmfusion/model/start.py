"""Where networks start: the classical model and the linear part, fitted before them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from mmfusion.modalities.base import MultimodalData
from mmfusion.model.beside import Beside
from mmfusion.model.deep import parts_of
from mmfusion.model.learning import Prepared
from mmfusion.model.linear_part import Features, LinearPart
from mmfusion.model.plan import Plan
from mmfusion.model.structured import Constant, Structured
from mmfusion.model.study import Study
from mmfusion.structured import Design, kernels_of

__all__ = ["LinearStart", "start_linear"]


@dataclass(frozen=True, eq=False)
class LinearStart:
    """The linear part of the training rows, and what it is fitted to again of all rows.

    Attributes
    ----------
    part : LinearPart
    shift : ndarray, shape (n_training, K)
        How the predictors of each training row would move had the row not been fitted.
    blocks : dict of str to ndarray, each of shape (n, p_m)
        Standardised columns of all rows.
    kernels : list of ndarray, each of shape (n, n)
        The products of these columns, row by row, where they outnumber the rows of some fit: its
        are a part of them.
    n_rows : int
        n.
    """

    part: LinearPart
    shift: np.ndarray
    blocks: dict[str, np.ndarray]
    kernels: list[np.ndarray]
    n_rows: int

    @classmethod
    def of(
        cls,
        part: Structured,
        design: Design,
        study: Study,
        rows: np.ndarray,
        features: Features,
        blocks: dict[str, np.ndarray],
        kernels: list[np.ndarray],
        start: np.ndarray | None = None,
        *,
        with_errors: bool = True,
    ) -> LinearStart:
        """Fit some rows."""
        target, mine, products = study.all.target.take(torch.from_numpy(rows)), blocks, kernels
        if not np.array_equal(rows, np.arange(design.n_rows)):
            mine = {name: block[rows] for name, block in blocks.items()}
            products = [kernel[np.ix_(rows, rows)] for kernel in kernels]
        found, shift = LinearPart.fit(
            features,
            mine,
            study.head,
            target,
            design.take(rows),
            lambda *asked: part.refit(study.head, *asked),
            start,
            study.all.subjects.take(rows).owner,
            kernels=products,
            with_errors=with_errors,
        )
        return cls(found, shift, blocks, kernels, design.n_rows)

    def final(self, part: Structured, design: Design, study: Study) -> LinearStart:
        """Return the same of all rows."""
        if study.trains_all:
            return self
        every = np.arange(len(study.all))
        found, known = self.part, (self.blocks, self.kernels)
        return self.of(part, design, study, every, found.features, *known, found.variances)

    def offset(self, design: Design, rows: np.ndarray) -> torch.Tensor:
        """Return the predictor of all rows, (n, K), of which `rows` were fitted.

        Networks are trained beside the predictor that each of these would have had, had it not been
        fitted: a wide ridge leaves little of its own rows that a network could learn from.
        """
        eta = design.predict(self.part.beside) + self.added
        eta[rows] += self.shift
        return torch.from_numpy(eta)

    @property
    def added(self) -> np.ndarray:
        """What the linear part adds to the predictors of all rows, (n, K)."""
        found = [self.blocks[name] @ coef for name, coef in self.part.coef.items()]
        basis = self.part.basis
        return np.asarray(sum(found, np.zeros((self.n_rows, basis.shape[1]))) @ basis.T)


def start_linear(
    plan: Plan,
    study: Study,
    structured: Constant | Structured,
    design: Design,
    networks: Mapping[str, Prepared],
    beside: Beside,
) -> tuple[LinearStart | None, Beside]:
    """Fit the linear part, also in each fold; return it with what networks are trained beside."""
    if not isinstance(structured, Structured):
        return None, replace(beside, of_folds=(beside.offset,) * len(study.folds))
    if not (plan.linear or study.folds):
        return None, beside
    subjects = study.all.subjects
    looked: Sequence[MultimodalData] = [one.data for one in networks.values()] * plan.linear
    modalities = {n: m for one in networks.values() for n, m in one.network.modalities.items()}
    parts = parts_of(looked)
    features = Features.learn(modalities, parts, subjects.of(study.rows))
    blocks = {n: subjects.spread(block) for n, block in features.blocks(parts).items()}
    fewest = min([len(study.rows), *(len(train) for train, _ in study.folds)])
    kernels = kernels_of(list(blocks.values()), fewest)

    def fitted(rows: np.ndarray, *, reported: bool = False) -> LinearStart:
        return LinearStart.of(
            structured, design, study, rows, features, blocks, kernels, with_errors=reported
        )

    whole = fitted(study.rows, reported=study.trains_all)
    offset = whole.offset(design, study.rows)
    folds = [(fitted(train), train) for train, _ in study.folds]
    judged = beside.judged_offset
    if judged is not None:
        assert study.judges is not None
        seen = parts_of([one.judged for one in networks.values() if one.judged is not None])
        added = study.judges.subjects.spread(whole.part.predictor(seen)) if plan.linear else 0.0
        at = structured.design(study.judges.table)
        judged = torch.from_numpy(at.predict(whole.part.beside) + added)
    return whole if plan.linear else None, replace(
        beside,
        source=lambda: offset,
        judged_offset=judged,
        of_folds=tuple(one.offset(design, train) for one, train in folds),
    )
