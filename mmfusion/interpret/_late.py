"""What comes after the networks: pool, linear part, formula and head, as one function."""

from __future__ import annotations

from typing import Any

import numpy as np

from mmfusion.model.pools import Single

__all__ = ["Late"]


class Late:
    """What comes after the networks: pool, linear part, formula, head, of arrays.

    Called with a row's outputs of all networks, coordinates of the linear part and of the path of
    the formula, side by side. `explained` is the `Explained` that it belongs to.
    """

    def __init__(
        self, explained: Any, numbers: np.ndarray, outputs: Any, linear: int, formula: int
    ) -> None:
        self.explained, self.numbers, self.shape = explained, numbers, outputs
        self.linear, self.formula = linear, formula
        self.there = explained.seen(numbers)

    @property
    def narrow(self) -> bool:
        """Whether predictors are fewer than what they are made of, and simple to make."""
        members, width = self.shape
        single = isinstance(self.explained.model.deep.pool, Single)
        k = len(self.explained.model.deep.share)
        return single and k <= members * width + self.linear + self.formula

    def targets(self, eta: np.ndarray) -> np.ndarray:
        return self.explained.targets(eta, self.numbers)

    def __call__(self, values: np.ndarray) -> np.ndarray:
        explained, model = self.explained, self.explained.model
        members, width = self.shape
        edges = np.cumsum([members * width, self.linear])
        outputs, linear, formula = np.split(values, edges, axis=1)
        outputs = outputs.reshape(len(values), members, width)
        etas = model.structured.pool_base + outputs @ model.head.deep_basis.matrix.T
        etas[~self.there] = np.nan
        pool = model.deep.pool
        deep = model.deep.share * pool.pooled(pool.standardised(etas), self.there, model.head)
        if self.linear:
            deep = deep + linear @ model.deep.linear.basis.T
        eta = explained.known(self.numbers, moved=not self.formula)
        if self.formula:
            eta = eta + np.einsum("nj,njk->nk", formula, explained.moves(self.numbers))
        alone = explained.alone[self.numbers]
        return self.targets(eta + np.where(alone[:, None], 0.0, deep))
