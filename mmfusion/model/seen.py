"""What a fitted model keeps of the rows it was fitted to: counts, and hashes that tell them."""

from __future__ import annotations

import platform
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mmfusion.heads.base import Target
from mmfusion.inputs.hashes import row_hashes
from mmfusion.inputs.messages import name_rows
from mmfusion.model.fit import Ready
from mmfusion.model.structured import Structured

__all__ = ["Seen"]

#: Hashes that are kept, whatever the number of rows: 8 kB.
KEPT = 1024
#: A place without a hash.
EMPTY = np.iinfo(np.uint64).max
#: Rows that look alike by chance are as many as this with so small a probability.
UNLIKELY = 1e-4


@dataclass(frozen=True, eq=False)
class Seen:
    """Counts of the training rows, and the smallest of their hashes: no row, and no size of n.

    A sketch of the smallest hashes (Broder 1997) holds every row of up to 1,024, and of more a
    random sample; so it knows a part of the rows as surely as it knows all of them.

    Attributes
    ----------
    n_rows : int
    n_events : int or None
        Of survival outcomes.
    n_judging : int
        Rows of an ``eval_set``, which are among the hashes, not among the counts.
    presence : dict of str to int
        Rows that have each modality.
    levels : dict of str to list
        Of each factor of the formulas: a level, its coefficient (None of a reference), its rows and
        events (None where the outcome has none).
    causes : dict of str to dict of str to list of int
        Of several causes, by the name of each among the parameters: the events of it of the levels
        of each factor, in their order; under "" of all rows.
    versions : dict of str to str
        Of Python and the packages, when the model was fitted.
    hashes : ndarray of uint64, shape (1024,)
        Of rows that are like no other of the training rows; ascending.
    limit : int
        Every row whose hash is at most this was looked at.
    chance : float
        How probable it is at most that a new row looks like one of these: ``2 n_2 / n``, of n_2
        pairs of rows that look alike (Good 1953, Biometrika 40:237-264, with r = 1), and three
        standard errors.
    """

    n_rows: int
    n_events: int | None
    n_judging: int
    presence: dict[str, int]
    levels: dict[str, list[tuple[str, str | None, int, int | None]]]
    versions: dict[str, str]
    hashes: np.ndarray
    limit: int
    chance: float
    causes: dict[str, dict[str, list[int]]] = field(default_factory=dict)

    @classmethod
    def of(cls, ready: Ready) -> Self:
        """Return what is kept of the rows of a fit."""
        study, rows = ready.study, ready.study.all
        samples = [rows]
        if study.judges is not None and study.judging is None:  # an eval_set
            samples.append(study.judges)
        hashed = [hashes_of(some.table, some.target, ready.columns) for some in samples]
        found, counts = np.unique(np.concatenate(hashed), return_counts=True)
        looked, limit = found[:KEPT], EMPTY if len(found) <= KEPT else found[KEPT - 1]
        kept = np.full(KEPT, EMPTY, dtype=np.uint64)
        single = looked[counts[:KEPT] == 1]
        kept[: len(single)] = single
        owner = rows.subjects.spread(ready.present)
        pairs = float((counts == 2).sum())
        return cls(
            n_rows=len(rows),
            n_events=ready.study.head.n_events(rows.target),
            n_judging=sum(map(len, samples[1:])),
            presence=dict(zip(ready.modalities, owner.sum(axis=0).tolist(), strict=True)),
            levels=_levels(ready),
            causes=_causes(ready),
            versions=_versions(),
            hashes=kept,
            limit=int(limit),
            chance=min(1.0, (2 * pairs + 6 * np.sqrt(pairs)) / len(rows)),
        )

    def known(self, table: pd.DataFrame, target: Target, columns: Sequence[Any]) -> np.ndarray:
        """Return which rows are training rows, bool, (n,); none where as many are so by chance."""
        own = hashes_of(table, target, columns)
        looked = own <= np.uint64(self.limit)
        same = looked & np.isin(own, self.hashes[self.hashes != EMPTY])
        unlikely = stats.binom.sf(same.sum() - 1, looked.sum(), self.chance) < UNLIKELY
        return same & bool(unlikely)

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        plain = {name: [list(level) for level in known] for name, known in self.levels.items()}
        return {**asdict(self), "levels": plain}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Take back what `state` returned."""
        levels = {name: [tuple(level) for level in k] for name, k in state["levels"].items()}
        return cls(**{**state, "levels": levels})


def hashes_of(table: pd.DataFrame, target: Target, columns: Sequence[Any]) -> np.ndarray:
    """Return the hash of each row: of the columns that the model reads, and of the outcome."""
    outcome = {
        f"outcome {name}": value.numpy()
        for name, value in vars(target).items()
        if isinstance(value, torch.Tensor) and name not in ("weight", *target.derived)
    }
    known = {f"column {name}": table[name] for name in dict.fromkeys(columns)}
    known |= {
        f"{name} {k}": part
        for name, value in outcome.items()
        for k, part in enumerate(value.reshape(len(value), -1).T)
    }
    return row_hashes(known)


def refuse_seen(known: np.ndarray, table: pd.DataFrame, what: str, otherwise: str = "") -> None:
    """Raise if some rows are training rows; `otherwise` says what can be done beside leaving out.

    Parameters
    ----------
    known : ndarray of bool, shape (n,)
        As `Seen.known` has them.
    table : DataFrame, n rows

    Raises
    ------
    ValueError
        Naming the rows.
    """
    if known.any():
        share = "all rows" if known.all() else f"{known.sum()} of {len(known)} rows"
        raise ValueError(
            f"{what} needs rows that the model did not see; {share} were in its training, or are "
            f"like such a row in all it reads and in the outcome: {name_rows(table, known)}. Leave "
            f"them out (train_test_split before fit){otherwise}."
        )


def _levels(ready: Ready) -> dict[str, list[tuple[str, str | None, int, int | None]]]:
    part = ready.structured
    if not isinstance(part, Structured) or not part.complete:
        return {}
    head, rows = ready.study.head, ready.study.all

    def counted(mine: np.ndarray) -> tuple[int, int | None]:
        some = rows.target.take(torch.from_numpy(np.flatnonzero(mine)))
        return int(mine.sum()), head.n_events(some)

    found: dict[str, list[tuple[str, str | None, int, int | None]]] = {}
    for factor in part.layout.factors(ready.cells or rows.table):
        found[factor.label] = [
            (str(level), name, *counted(factor.codes == code))
            for code, (level, name) in enumerate(factor.levels)
        ]
    return found


def _causes(ready: Ready) -> dict[str, dict[str, list[int]]]:
    part, rows = ready.structured, ready.study.all
    causes = getattr(ready.study.head, "causes_", ())
    if len(causes) < 2:
        return {}
    target: Any = rows.target
    event = np.where(target.weight > 0, target.event, 0)  # its place among the causes, from 1
    found = {}
    for place, cause in enumerate(causes, 1):
        found[f"cause_{cause}"] = {"": [int((event == place).sum())]}
        if not isinstance(part, Structured) or not part.complete:
            continue
        for factor in part.layout.factors(ready.cells or rows.table):
            found[f"cause_{cause}"][factor.label] = [
                int((event[factor.codes == code] == place).sum())
                for code in range(len(factor.levels))
            ]
    return found


def _versions() -> dict[str, str]:
    import sklearn

    return {
        "Python": platform.python_version(),
        "torch": str(torch.__version__),
        "scikit-learn": sklearn.__version__,
        "numpy": np.__version__,
        "pandas": pd.__version__,
    }
