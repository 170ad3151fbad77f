"""The auxiliary losses as loops over rows, in NumPy, read off the papers' formulas."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import numpy as np

Arrays = Sequence[np.ndarray]


def cosine(a: np.ndarray, b: np.ndarray) -> float:
    return float(a @ b / np.sqrt((a @ a) * (b @ b)))


def cosine_margin(h: Arrays, present: np.ndarray, margin: float) -> float:
    terms = []
    for k, other in itertools.permutations(range(len(h)), 2):
        for i, j in itertools.permutations(range(len(present)), 2):
            if present[i, k] and present[i, other] and present[j, other]:
                matched, crossed = cosine(h[k][i], h[other][i]), cosine(h[k][i], h[other][j])
                terms.append(max(0.0, margin - matched + crossed))
    return float(np.mean(terms)) if terms else 0.0


def variance_ratio(h: Arrays, present: np.ndarray) -> float:
    rows = [i for i in range(len(present)) if present[i].sum() >= 2]
    groups = [np.array([h[k][i] for k in range(len(h)) if present[i, k]]) for i in rows]
    if len(groups) < 2:
        return 0.0
    within = np.mean([group.var(axis=0) for group in groups])
    return float(np.clip(within / np.concatenate(groups).var(axis=0).mean(), 0.02, 1.0))


def _root(matrix: np.ndarray) -> np.ndarray:
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**-0.5) @ vectors.T


def canonical_correlation(h: Arrays, present: np.ndarray, shrinkage: float) -> float:
    losses = []
    for k, other in itertools.combinations(range(len(h)), 2):
        rows = present[:, k] & present[:, other]
        if rows.sum() < 2:
            continue
        u, v = h[k][rows], h[other][rows]
        whole = np.cov(np.hstack([u, v]), rowvar=False)
        d = u.shape[1]
        s_u, s_v, s_uv = whole[:d, :d], whole[d:, d:], whole[:d, d:]
        s_u, s_v = (
            (1 - shrinkage) * s + shrinkage * np.trace(s) / len(s) * np.eye(len(s))
            for s in (s_u, s_v)
        )
        losses.append(-np.linalg.norm(_root(s_u) @ s_uv @ _root(s_v), ord="nuc"))
    return float(np.mean(losses)) if losses else 0.0


def pearson(h: Arrays, present: np.ndarray) -> float:
    losses = []
    for k, other in itertools.combinations(range(len(h)), 2):
        rows = present[:, k] & present[:, other]
        if rows.sum() >= 2:
            columns = zip(h[k][rows].T, h[other][rows].T, strict=True)
            losses.append(-sum(np.corrcoef(a, b)[0, 1] for a, b in columns))
    return float(np.mean(losses)) if losses else 0.0


def info_nce(h: Arrays, present: np.ndarray, temperature: float) -> float:
    losses = []
    for k, other in itertools.combinations(range(len(h)), 2):
        rows = np.flatnonzero(present[:, k] & present[:, other])
        if len(rows) < 2:
            continue
        terms = []
        for a, b in ((k, other), (other, k)):
            for i in rows:
                scores = [np.exp(cosine(h[a][i], h[b][j]) / temperature) for j in rows]
                own = np.exp(cosine(h[a][i], h[b][i]) / temperature)
                terms.append(-np.log(own / sum(scores)))
        losses.append(np.mean(terms))
    return float(np.mean(losses)) if losses else 0.0


def nt_xent(h: Arrays, present: np.ndarray, temperature: float) -> float:
    losses = []
    for k, other in itertools.combinations(range(len(h)), 2):
        rows = np.flatnonzero(present[:, k] & present[:, other])
        if len(rows) < 2:
            continue
        views = [(i, h[m][i]) for m in (k, other) for i in rows]
        terms = []
        for a, (i, x) in enumerate(views):
            scores = {
                b: np.exp(cosine(x, z) / temperature) for b, (_, z) in enumerate(views) if b != a
            }
            (own,) = (b for b, (j, _) in enumerate(views) if j == i and b != a)
            terms.append(-np.log(scores[own] / sum(scores.values())))
        losses.append(np.mean(terms))
    return float(np.mean(losses)) if losses else 0.0


def supervised(h: Arrays, present: np.ndarray, labels: np.ndarray, temperature: float) -> float:
    views = [
        (labels[i], h[k][i])
        for k in range(len(h))
        for i in range(len(present))
        if present[i, k] and labels[i] >= 0
    ]
    terms = []
    for a, (label, x) in enumerate(views):
        scores = {b: np.exp(cosine(x, z) / temperature) for b, (_, z) in enumerate(views) if b != a}
        alike = [b for b in scores if views[b][0] == label]
        if alike:
            terms.append(-np.mean([np.log(scores[b] / sum(scores.values())) for b in alike]))
    return float(np.mean(terms)) if terms else 0.0


def silu_mlp(x: np.ndarray, layers: Sequence[tuple[np.ndarray, np.ndarray]]) -> np.ndarray:
    for number, (weight, bias) in enumerate(layers):
        x = x @ weight.T + bias
        if number + 1 < len(layers):
            x = x / (1 + np.exp(-x))
    return x


def teacher_prediction(
    h: Arrays, present: np.ndarray, told: Arrays, predictors: dict[tuple[int, int], list]
) -> float:
    losses = []
    for k, other in itertools.permutations(range(len(h)), 2):
        rows = np.flatnonzero(present[:, k] & present[:, other])
        if len(rows) >= 2:
            guesses = silu_mlp(h[k][rows], predictors[k, other])
            losses.append(
                np.mean(
                    [2 - 2 * cosine(g, told[other][i]) for g, i in zip(guesses, rows, strict=True)]
                )
            )
    return float(np.mean(losses)) if losses else 0.0


def reconstruction(
    h: Arrays,
    present: np.ndarray,
    numbers: Arrays,
    codes: Sequence[np.ndarray | None],
    cardinalities: Sequence[Sequence[int]],
    decoders: Sequence[list],
    cross: bool,
) -> float:
    losses = []
    for k in range(len(h)):
        for other in range(len(h)):
            rows = np.flatnonzero(present[:, k] & present[:, other])
            if (k != other and not cross) or not len(rows):
                continue
            n_columns = numbers[k].shape[1] + len(cardinalities[k])
            error = 0.0
            for i in rows:
                out = silu_mlp(h[other][i], decoders[k])
                error += ((out[: numbers[k].shape[1]] - numbers[k][i]) ** 2).sum()
                at = numbers[k].shape[1]
                for column, width in enumerate(cardinalities[k]):
                    logits, code = out[at : at + width], codes[k][i, column]
                    at += width
                    if code:
                        error -= logits[code] - np.log(np.exp(logits).sum())
            losses.append(error / len(rows) / n_columns)
    return float(np.mean(losses)) if losses else 0.0
