"""Small synthetic cohorts with a known truth, and distributions, for tests of any room."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

__all__ = ["Frozen", "make_cohort"]


def make_cohort(
    n: int,
    *,
    n_genes: int = 10,
    image_size: int = 16,
    missing: float = 0.2,
    censoring: float = 0.3,
    tied: bool = False,
    random_state: int = 0,
) -> tuple[pd.DataFrame, np.ndarray]:
    """Draw a multimodal cohort whose log-hazard is known.

    Survival times are exponential with log-hazard ``eta = 0.6 z(age) + 0.8 gene_0 - 0.8 gene_1 +
    1.2 b``, where `b` (standard normal) is the brightness of the image.

    Parameters
    ----------
    n : int
        Rows; the index is ``patient_0, patient_1, ...``.
    n_genes : int
        Columns ``gene_0 ...``, standard normal.
    image_size : int
        Side of the grey images, arrays of uint8 of shape (image_size, image_size).
    missing : float
        Share of rows whose image cell is None.
    censoring : float
        Share of rows censored, at a uniform part of their survival time.
    tied : bool
        Round times up to whole units, so that many tie.
    random_state : int

    Returns
    -------
    frame : DataFrame
        Columns ``age`` (float), ``sex`` ("f", "m"), ``stage`` (categorical, I to IV),
        ``gene_0 ...`` and ``image``.
    y : structured array of shape (n,)
        Fields ``event`` (bool) and ``time`` (float64).
    """
    rng = np.random.default_rng(random_state)
    age = rng.normal(60.0, 10.0, n)
    genes = rng.normal(size=(n, n_genes))
    brightness = rng.normal(size=n)
    eta = 0.6 * (age - 60.0) / 10.0 + 1.2 * brightness
    for column, effect in enumerate((0.8, -0.8)[:n_genes]):
        eta = eta + effect * genes[:, column]

    noise = rng.normal(0.0, 12.0, (n, image_size, image_size))
    pixels = np.clip(128.0 + 30.0 * brightness[:, None, None] + noise, 0, 255).astype(np.uint8)
    has_image = rng.random(n) >= missing
    images = [image if has else None for image, has in zip(pixels, has_image, strict=True)]

    time = rng.exponential(np.exp(-eta))
    event = rng.random(n) >= censoring
    time = np.where(event, time, time * rng.uniform(0.2, 1.0, n))
    if tied:
        time = np.ceil(4.0 * time)

    frame = pd.DataFrame(
        {
            "age": age,
            "sex": rng.choice(["f", "m"], n),
            "stage": pd.Categorical(
                rng.choice(["I", "II", "III", "IV"], n), categories=["I", "II", "III", "IV"]
            ),
            **{f"gene_{column}": genes[:, column] for column in range(n_genes)},
            "image": pd.Series(images, dtype=object),
        }
    )
    frame.index = pd.Index([f"patient_{row}" for row in range(n)])

    y = np.empty(n, dtype=[("event", bool), ("time", np.float64)])
    y["event"], y["time"] = event, time
    return frame, y


class Frozen:
    """A distribution of scipy as a predictive distribution of n rows."""

    def __init__(self, family: Any, **parameters: Any) -> None:
        arrays = np.broadcast_arrays(
            *(np.asarray(v, dtype=np.float64) for v in parameters.values())
        )
        self.family = family
        self.parameters = dict(zip(parameters, map(np.atleast_1d, arrays), strict=True))
        self.discrete = hasattr(family, "pmf")
        self.mean, self.median = self._of("mean"), self._of("median")
        self.std, self.support = self._of("std"), self._of("support")

    def __len__(self) -> int:
        return len(next(iter(self.parameters.values())))

    def _of(self, name: str, *given: Any) -> Any:
        if not given or np.ndim(given[0]) == 0:
            return getattr(self.family, name)(*given, **self.parameters)
        values = np.asarray(given[0])
        shape = (-1, *[1] * (values.ndim - 1))
        parameters = {key: value.reshape(shape) for key, value in self.parameters.items()}
        return getattr(self.family, name)(values, **parameters)

    def cdf(self, y: Any) -> Any:
        return self._of("cdf", y)

    def sf(self, y: Any) -> Any:
        return self._of("sf", y)

    def logpdf(self, y: Any) -> Any:
        return self._of("logpmf" if self.discrete else "logpdf", y)

    def quantile(self, p: Any) -> Any:
        return self._of("ppf", p)

    def sample(self, size: int, random_state: Any = None) -> Any:
        draws = np.random.default_rng(random_state).uniform(size=(len(self), size))
        return self.quantile(draws)
