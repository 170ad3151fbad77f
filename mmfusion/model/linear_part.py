"""The linear part: what the modalities' features say of the outcome, as a ridge regression."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import pandas as pd

from mmfusion.heads.base import Head, Target
from mmfusion.inputs.rounding import is_constant
from mmfusion.modalities.base import Modality, TableData
from mmfusion.structured import Design, Likelihood, RidgeFit, StructuredFit, TermColumns, fit_ridge

__all__ = ["PRESENCE", "Features", "LinearPart"]

#: Features of images further out than this many standard deviations are moved there.
CLIP = 5.0
#: Name of the block of bits that say which modality a row has.
PRESENCE = "(present)"

Refit = Callable[[Design, Target, tuple[TermColumns, ...], tuple[str, ...]], StructuredFit]


@dataclass(frozen=True, eq=False)
class Features:
    """Standardised columns of those modalities that have any without training.

    Numbers and indicators of a table, a column a category, genes, features of a frozen encoder. A
    modality that a row lacks is zeros; where some rows lack one, a bit says which have it.

    Attributes
    ----------
    labels : dict of str to list of str
        Of each block's columns.
    center, factor : dict of str to ndarray
        What is subtracted and multiplied; the factor of what does not vary is 0.
    levels : dict of str to list of int
        Codes of each category of a table, 0 included.
    clipped : list of str
    """

    labels: dict[str, list[str]]
    center: dict[str, np.ndarray]
    factor: dict[str, np.ndarray]
    levels: dict[str, list[int]]
    clipped: list[str]

    @classmethod
    def learn(
        cls, modalities: Mapping[str, Modality], parts: Mapping[str, Any], rows: np.ndarray
    ) -> Self:
        """Learn centre and spread of each column over those of some subjects that have it.

        Parameters
        ----------
        modalities : mapping of str to Modality
            Fitted.
        parts : mapping of str to ModalityData
            Of all subjects.
        rows : ndarray of int
            The subjects to learn from.
        """
        found = cls({}, {}, {}, {}, [])
        for name, part in parts.items():
            if not isinstance(part, TableData):
                continue
            modality, present = modalities[name], part.present.numpy()[rows]
            # A network's own features of a table have a column for each category already.
            coded = modality.kind == "table" and part.categories.shape[1] > 0
            found.levels[name] = [int(n) for n in modality.cardinalities_] if coded else []
            values = _columns(part, found.levels[name])[rows][present]
            if len(values) > 1 and found._learn(name, values):
                found.labels[name] = _labels(modality, values.shape[1])
                if modality.kind != "table":
                    found.clipped.append(name)
        if found.labels and found._learn(PRESENCE, _presence(parts)[rows]):
            found.labels[PRESENCE] = list(parts)
        return found

    def _learn(self, name: str, values: np.ndarray) -> bool:
        """Learn the moments of a block, if any column of it varies."""
        spread = values.std(0)
        constant = is_constant(values, np.float32) | (spread < np.finfo(np.float32).tiny)
        if constant.all():
            return False
        self.center[name] = values.mean(0)
        self.factor[name] = np.where(constant, 0.0, 1 / np.where(constant, 1.0, spread))
        return True

    def blocks(self, parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return the standardised columns of each block, (n, p), of some subjects."""
        found = {}
        for name, center in self.center.items():
            factor = self.factor[name]
            if name == PRESENCE:
                found[name] = (_presence(parts) - center) * factor
                continue
            part = parts[name]
            there = part.present.numpy()
            found[name] = values = np.zeros((len(part), len(center)))
            if there.any():
                values[there] = (_columns(part, self.levels[name])[there] - center) * factor
            if name in self.clipped:
                np.clip(values, -CLIP, CLIP, out=values)
        return found


def _columns(part: TableData, levels: list[int]) -> np.ndarray:
    """Return a table's numbers beside a column 0/1 for each known category."""
    codes = part.categories.numpy()
    bits = [codes[:, [j]] == np.arange(1, count) for j, count in enumerate(levels)]
    return np.hstack([part.numeric.double().numpy(), *bits])


def _labels(modality: Any, width: int) -> list[str]:
    """Return the names of a modality's columns."""
    if modality.kind != "table":
        return [f"feature {number + 1}" for number in range(width)]
    names = list(modality.feature_labels_)
    if modality.cardinalities_:
        pairs = zip(modality.categorical_columns_, modality.categories_, strict=True)
        names += [f"{label}={category}" for label, known in pairs for category in known]
    return [str(name) for name in names]


def _presence(parts: Mapping[str, Any]) -> np.ndarray:
    return np.stack([part.present.numpy() for part in parts.values()], axis=1).astype(np.float64)


@dataclass(frozen=True, eq=False)
class LinearPart:
    """A ridge regression on the modalities' features, beside formulas or constants.

    Attributes
    ----------
    features : Features
    basis : ndarray, shape (K, F)
        What a coefficient moves.
    coef, se : dict of str to ndarray, each of shape (p_m, F)
        Of the standardised columns of each block; of a fold there are no errors.
    variances, edf, shares : ndarray, shape (M,)
        Of each block: variance of its coefficients, effective degrees of freedom, and the variance
        of what it adds to the predictor over the rows that were fitted.
    beside : ndarray, shape (p,)
        Coefficients of the formulas, or constants, that were fitted with it.
    """

    features: Features
    basis: np.ndarray
    coef: dict[str, np.ndarray]
    se: dict[str, np.ndarray]
    variances: np.ndarray
    edf: np.ndarray
    shares: np.ndarray
    beside: np.ndarray

    @classmethod
    def fit(
        cls,
        features: Features,
        blocks: Mapping[str, np.ndarray],
        head: Head,
        target: Target,
        design: Design,
        refit: Refit,
        start: np.ndarray | None = None,
        owner: np.ndarray | None = None,
        *,
        kernels: Sequence[np.ndarray] = (),
        with_errors: bool = True,
    ) -> tuple[Self, np.ndarray]:
        """Fit the coefficients of blocks with those of a design, as `fit_ridge` does.

        Returns
        -------
        part : LinearPart
        shift : ndarray, shape (n, K)
            How the predictors of each row would move had its subject not been fitted.
        """
        basis, names = head.linear_basis.matrix, list(blocks)

        def again(
            whole: Design, terms: tuple[TermColumns, ...], more: tuple[str, ...]
        ) -> StructuredFit:
            return refit(whole, target, terms, more)

        found: RidgeFit = fit_ridge(
            Likelihood(head, target),
            design,
            list(blocks.values()),
            basis,
            again,
            start=start,
            owner=owner,
            kernels=kernels,
            with_errors=with_errors,
        )
        added = [blocks[name] @ found.coef[at] for at, name in enumerate(names)]
        part = cls(
            features,
            basis,
            dict(zip(names, found.coef, strict=True)),
            dict(zip(names, found.se, strict=with_errors)),
            found.variances,
            found.edf,
            np.array([float(one.var(axis=0).sum()) for one in added]),
            found.fit.coef,
        )
        return part, found.shift @ basis.T

    @property
    def freedoms(self) -> dict[str, float]:
        """Effective degrees of freedom of each block."""
        return dict(zip(self.coef, self.edf.tolist(), strict=True))

    def by_block(self, parts: Mapping[str, Any]) -> dict[str, np.ndarray]:
        """Return what each block of features adds to the predictors of some subjects, (n, K)."""
        blocks = self.features.blocks(parts)
        return {name: blocks[name] @ coef @ self.basis.T for name, coef in self.coef.items()}

    def predictor(self, parts: Mapping[str, Any]) -> np.ndarray:
        """Return what the features of some subjects add to their predictors, (n, K)."""
        n = len(next(iter(parts.values()))) if parts else 0
        return sum(self.by_block(parts).values(), np.zeros((n, len(self.basis))))

    def effects(self, parameters: tuple[str, ...], units: np.ndarray) -> pd.DataFrame:
        """Return coefficients and standard errors in the users' units, a row a column.

        Parameters
        ----------
        parameters : tuple of str
        units : ndarray, shape (F,)
            What a coefficient of 1 is of each parameter, in its units.
        """
        tables = []
        for name, coef in self.coef.items():
            factor, used = self.features.factor[name], self.features.factor[name] > 0
            for at, parameter in enumerate(parameters):
                tables.append(
                    pd.DataFrame(
                        {
                            "modality": name,
                            "feature": np.array(self.features.labels[name], dtype=object)[used],
                            "parameter": parameter,
                            "coef": (coef[:, at] * units[at] * factor)[used],
                            "se": (self.se[name][:, at] * units[at] * factor)[used],
                            "coef per sd": coef[used, at] * units[at],
                        }
                    )
                )
        names = ["modality", "feature", "parameter", "coef", "se", "coef per sd"]
        table = pd.concat(tables or [pd.DataFrame(columns=names)], ignore_index=True)
        index = ["modality", "feature"] + (["parameter"] if len(parameters) > 1 else [])
        total = max(float(self.shares.sum()), np.finfo(float).tiny)
        table = table.drop(columns=[] if len(parameters) > 1 else ["parameter"]).set_index(index)
        table.attrs["modalities"] = pd.DataFrame(
            {"edf": self.edf, "share of variance": self.shares / total},
            index=pd.Index(list(self.coef), name="modality"),
        )
        return table

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        state = {field.name: getattr(self, field.name) for field in fields(self)}
        return state | {"features": dict(vars(self.features))}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Take back what `state` returned."""
        return cls(**{**state, "features": Features(**state["features"])})
