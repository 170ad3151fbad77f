"""What a fitted model keeps of the rows it was fitted to: counts, and hashes that tell them."""

from __future__ import annotations

import platform
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Self

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mmfusion.heads.base import Target
from mmfusion.inputs.hashes import cell_sums, mixed
from mmfusion.inputs.messages import name_rows
from mmfusion.model.fit import Ready
from mmfusion.model.structured import Structured

__all__ = ["Alike", "Seen"]

#: Hashes that are kept, whatever the number of rows: 8 kB.
KEPT = 1024
#: A place without a hash.
EMPTY = np.iinfo(np.uint64).max
#: Chance makes as many rows look alike with so small a probability: they were seen.
UNLIKELY = 1e-3
#: Chance makes as many with a probability above this: there is nothing to say.
USUAL = 0.05
#: Outcomes of rows that agree in all columns agree at most so many times as often as those of any.
RELATED = 10.0


@dataclass(frozen=True, eq=False)
class Alike:
    """Rows that look like training rows, in all columns that a model reads and in the outcome.

    Attributes
    ----------
    rows : ndarray of bool, shape (n,)
        None of them where chance usually makes as many.
    sure : bool
        Whether chance cannot have made so many.
    chance : float
        The largest share of new rows that chance makes look so.
    """

    rows: np.ndarray
    sure: bool
    chance: float


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
        How probable it is at most that a new row looks like one of these; see `largest_chance`.
    usual : float
        How probable it is usually: ``2 n_2 / n``, of n_2 pairs of rows that look alike (Good 1953,
        Biometrika 40:237-264, with r = 1), and two standard errors; 0 where no two do.
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
    usual: float = 0.0

    @classmethod
    def of(cls, ready: Ready) -> Self:
        """Return what is kept of the rows of a fit."""
        study, rows = ready.study, ready.study.all
        samples = [rows]
        if study.judges is not None and study.judging is None:  # an eval_set
            samples.append(study.judges)
        summed = [sums_of(some.table, some.target, ready.columns) for some in samples]
        columns, outcome = (np.concatenate(some) for some in zip(*summed, strict=True))
        found, counts = np.unique(mixed(columns + outcome), return_counts=True)
        looked, limit = found[:KEPT], EMPTY if len(found) <= KEPT else found[KEPT - 1]
        kept = np.full(KEPT, EMPTY, dtype=np.uint64)
        single = looked[counts[:KEPT] == 1]
        kept[: len(single)] = single
        owner = rows.subjects.spread(ready.present)
        twins, n = int((counts == 2).sum()), len(columns)
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
            chance=largest_chance(twins, n_pairs(columns), n_pairs(outcome), n),
            usual=min(1.0, 2 * (twins + 2 * np.sqrt(twins)) / n),
        )

    def alike(self, table: pd.DataFrame, target: Target, columns: Sequence[Any]) -> Alike:
        """Return which rows look like training rows, and whether chance can have made so many."""
        in_columns, in_outcome = sums_of(table, target, columns)
        own = mixed(in_columns + in_outcome)
        looked = own <= np.uint64(self.limit)
        same = looked & np.isin(own, self.hashes[self.hashes != EMPTY])
        usual, largest = stats.binom.sf(same.sum() - 1, looked.sum(), [self.usual, self.chance])
        return Alike(same & bool(usual < USUAL), bool(largest < UNLIKELY), self.chance)

    def state(self) -> dict[str, Any]:
        """Return what saving writes: plain Python and arrays."""
        plain = {name: [list(level) for level in known] for name, known in self.levels.items()}
        return {**asdict(self), "levels": plain}

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Self:
        """Take back what `state` returned."""
        levels = {name: [tuple(level) for level in k] for name, k in state["levels"].items()}
        return cls(**{**state, "levels": levels})


def sums_of(
    table: pd.DataFrame, target: Target, columns: Sequence[Any]
) -> tuple[np.ndarray, np.ndarray]:
    """Return sums of the columns that the model reads, and of the outcome, a number a row each.

    `mixed`, their sum is the hash of a row.
    """
    outcome = {
        f"outcome {name}": value.numpy()
        for name, value in vars(target).items()
        if isinstance(value, torch.Tensor) and name not in ("weight", *target.derived)
    }
    known = {
        f"{name} {k}": part
        for name, value in outcome.items()
        for k, part in enumerate(value.reshape(len(value), -1).T)
    }
    if not columns:
        return np.zeros(len(table), dtype=np.uint64), cell_sums(known)
    return cell_sums({f"column {name}": table[name] for name in columns}), cell_sums(known)


def n_pairs(values: np.ndarray) -> float:
    """Return how many pairs of rows agree."""
    counts = np.unique(values, return_counts=True)[1].astype(np.float64)
    return float((counts * (counts - 1)).sum() / 2)


def largest_chance(twins: int, in_columns: float, in_outcome: float, n: int) -> float:
    """Return how probable it is at most that a new row looks like one of n rows by chance.

    Of two limits the smaller. Counts of pairs are taken at three standard errors above, by
    Poisson's distribution, so that none of 20 rows says less than none of 2,000.

    * ``2 n_2 / n`` (Good 1953), of n_2 = `twins` pairs that agree in all.
    * ``n p q``, of the share p of pairs that agree in the columns and `RELATED` times the share q
      of those that agree in the outcome: it is small where n_2 = 0 says little, of few rows of
      numbers that seldom agree.
    """
    total = max(n * (n - 1) / 2, 1.0)
    both, p, q = (_limit(count) for count in (twins, in_columns, in_outcome))
    return float(min(1.0, 2 * both / n, n * min(1.0, p / total) * min(1.0, RELATED * q / total)))


def _limit(count: float) -> float:
    """Return the largest mean with which so few are counted, at a one-sided 99.87 %."""
    return float(stats.chi2.ppf(stats.norm.cdf(3), 2 * (count + 1)) / 2)


def refuse_seen(known: Alike, table: pd.DataFrame, what: str, otherwise: str = "") -> None:
    """Raise if some rows are training rows, warn if they may be so.

    Parameters
    ----------
    known : Alike
    table : DataFrame, n rows
    what : str
        What asks for rows that were not seen.
    otherwise : str
        What can be done beside leaving them out.

    Raises
    ------
    ValueError
        Naming the rows.
    """
    rows = known.rows
    if not rows.any():
        return
    share = "all rows" if rows.all() else f"{rows.sum()} of {len(rows)} rows"
    if known.sure:
        raise ValueError(
            f"{what} needs rows that the model did not see; {share} were in its training, or are "
            f"like such a row in all it reads and in the outcome: {name_rows(table, rows)}. Leave "
            f"them out (train_test_split before fit){otherwise}."
        )
    warnings.warn(
        f"{what} needs rows that the model did not see; {share} look like a training row in all it "
        f"reads and in the outcome: {name_rows(table, rows)}. Chance can do that in up to "
        f"{known.chance:.2g} of the rows of such a table. If they are the same subjects, leave "
        "them out.",
        UserWarning,
        stacklevel=3,
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
