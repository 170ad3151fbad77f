"""A simulated cohort with a known truth: scanned digits as the image, a table, genes, survival."""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Integral, Real

import numpy as np
import pandas as pd
from sklearn.utils import Bunch

from mmfusion.datasets._weibull import SCALE, SHAPE, WeibullTruth, draw_times

#: Log hazard ratios of the table: a woman of 60, untreated, in stage I has none.
TABLE = {"age": 0.03, "sex=male": 0.2, "treatment": -0.6}
STAGES = {"I": 0.0, "II": 0.3, "III": 0.6, "IV": 1.0}

#: Log hazard ratio of one standard deviation of the digit (uniform on 0, ..., 9).
IMAGE = 0.8
DIGIT_MEAN, DIGIT_SD = 4.5, 8.25**0.5

#: Genes come in blocks that share a factor; the first gene of each of three blocks has an effect.
BLOCK = 10
GENES = (0.5, -0.4, 0.3)
FACTOR_SHARE = 0.6

_STAGE_SHARES = (0.3, 0.3, 0.25, 0.15)
_N_DIGITS = 1797

_DESCRIPTION = f"""A simulated cohort: scikit-learn's scanned digits (8 x 8 pixels, handwritten) as
the image, simulated covariates and genes, and survival times from a known model.

log hazard ratio = table + image + genes + interaction
  table        0.03 (age - 60) + 0.2 [male] - 0.6 treatment
               + (0, 0.3, 0.6, 1.0 in stage I, II, III, IV)
  image        0.8 z, z = (digit - 4.5) / sqrt(8.25), the digit that the image shows
  genes        0.5 gene_000 - 0.4 gene_010 + 0.3 gene_020 (those that exist)
  interaction  the parameter of that name, times treatment, times z

Time (months) is Weibull with proportional hazards: shape {SHAPE}, scale {SCALE:g} at log hazard
ratio 0. Censoring is exponential and independent of everything. Genes are standard normal in blocks
of {BLOCK}, correlated {FACTOR_SHARE} within a block and 0 between blocks. Modalities are
independent of each other and go missing completely at random."""


@dataclass(frozen=True, eq=False)
class DigitsTruth(WeibullTruth):
    """What is true of a simulated cohort, before any modality goes missing.

    Attributes
    ----------
    log_hazard : DataFrame, shape (n, 5)
        Log hazard ratio of each patient: table, image, genes, interaction, total (their sum).
    coefficients, event_time, shape, scale, censoring_rate
        As of `WeibullTruth`; an absent term has no coefficient.
    digit : ndarray of int64, shape (n,)
        The digit that the image shows.
    """

    digit: np.ndarray


def load_digits_cohort(
    n: int | None = None,
    *,
    missing: float = 0.0,
    n_genes: int = 50,
    censoring: float = 0.3,
    interaction: float = 0.0,
    random_state: int | np.random.Generator | None = 0,
) -> Bunch:
    """Simulate a cohort with an image, a table, genes and survival times from a known truth.

    Images are real (the 1,797 scanned digits of scikit-learn); everything else is drawn. See
    ``DESCR`` of the result for the model. No connection is needed.

    Parameters
    ----------
    n : int, optional
        Number of patients, drawn without replacement from the 1,797 images; all by default.
    missing : float in [0, 0.5], default 0
        Share of patients without an image, and share without genes (exactly, up to rounding). No
        patient lacks both, and the table is always there.
    n_genes : int, default 50
        Number of genes, at least 1.
    censoring : float in [0, 1), default 0.3
        Expected share of censored patients.
    interaction : float, default 0
        Log hazard ratio of treatment times the standardised digit: no sum of one function a
        modality can express it.
    random_state : int, Generator or None, default 0
        Seed. The outcome does not depend on `missing`.

    Returns
    -------
    Bunch
        ``frame``
            DataFrame: image (uint8 array (8, 8), or None), age (years), sex ("female", "male"),
            treatment (0/1), stage ("I" to "IV"), gene_000, gene_001, ... (float64, or all NaN).
        ``target``
            Structured array (event: bool, time: float64 in months).
        ``truth``
            `DigitsTruth`: the parts of the log hazard ratio, coefficients, true survival curves.
        ``DESCR``, ``source``, ``license``
            Text.

    Raises
    ------
    ValueError
        A parameter is out of its range.

    Examples
    --------
    >>> from mmfusion.datasets import load_digits_cohort
    >>> cohort = load_digits_cohort(200, missing=0.25, n_genes=20)
    >>> cohort.frame.shape, cohort.frame["image"].isna().sum()
    ((200, 25), np.int64(50))
    >>> cohort.frame["image"].dropna().iloc[0].shape
    (8, 8)
    >>> cohort.truth.coefficients["image"]
    np.float64(0.8)
    >>> cohort.truth.survival_function([12, 60]).shape
    (200, 2)
    """
    from sklearn.datasets import load_digits  # slow to import

    n = _N_DIGITS if n is None else n
    _check(n, missing, n_genes, censoring)
    # A stream each, so that no part of the cohort changes with the parameters of another.
    rows_rng, table_rng, genes_rng, time_rng, censoring_rng, missing_rng = np.random.default_rng(
        random_state
    ).spawn(6)

    digits = load_digits()
    rows = rows_rng.permutation(_N_DIGITS)[:n]
    digit = digits.target[rows].astype(np.int64)
    images = np.rint(digits.images[rows] * (255 / 16)).astype(np.uint8)
    table = _draw_table(n, table_rng)
    genes = _draw_genes(n, n_genes, genes_rng)

    signals = {f"gene_{i * BLOCK:03d}": b for i, b in enumerate(GENES) if i * BLOCK < n_genes}
    z = (digit - DIGIT_MEAN) / DIGIT_SD
    log_hazard = pd.DataFrame(
        {
            "table": TABLE["age"] * (table["age"] - 60)
            + TABLE["sex=male"] * (table["sex"] == "male")
            + TABLE["treatment"] * table["treatment"]
            + table["stage"].map(STAGES),
            "image": IMAGE * z,
            "genes": genes[list(signals)] @ np.array(list(signals.values())),
            "interaction": interaction * table["treatment"] * z,
        }
    )
    log_hazard["total"] = log_hazard.sum(axis=1)

    times = draw_times(log_hazard["total"].to_numpy(), censoring, time_rng, censoring_rng)

    cells = np.empty(n, dtype=object)
    cells[:] = list(images)
    n_missing = round(missing * n)
    lacking = missing_rng.permutation(n)
    cells[lacking[:n_missing]] = None
    genes.iloc[lacking[n_missing : 2 * n_missing]] = np.nan

    return Bunch(
        frame=pd.concat([pd.DataFrame({"image": cells}), table, genes], axis=1),
        target=times.target,
        truth=DigitsTruth(
            log_hazard=log_hazard,
            coefficients=pd.Series(
                TABLE
                | {f"stage={stage}": effect for stage, effect in STAGES.items() if effect}
                | {"image": IMAGE}
                | signals
                | {"treatment:image": interaction},
                dtype=np.float64,
            ),
            digit=digit,
            event_time=times.event_time,
            shape=SHAPE,
            scale=SCALE,
            censoring_rate=times.censoring_rate,
        ),
        DESCR=_DESCRIPTION,
        source="Images: scikit-learn's digits (E. Alpaydin and C. Kaynak, Optical Recognition of "
        "Handwritten Digits, 1998, UCI repository); the rest is simulated.",
        license="BSD-3-Clause (scikit-learn); the images CC BY 4.0 (UCI).",
    )


def _draw_table(n: int, rng: np.random.Generator) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "age": np.clip(rng.normal(60, 10, n), 30, 90).round(1),
            "sex": rng.choice(["female", "male"], n),
            "treatment": rng.integers(0, 2, n),
            "stage": rng.choice(list(STAGES), n, p=_STAGE_SHARES),
        }
    ).astype({"sex": object, "stage": object})


def _draw_genes(n: int, n_genes: int, rng: np.random.Generator) -> pd.DataFrame:
    block = np.arange(n_genes) // BLOCK
    factors = rng.normal(size=(n, block[-1] + 1))
    own = rng.normal(size=(n, n_genes))
    values = FACTOR_SHARE**0.5 * factors[:, block] + (1 - FACTOR_SHARE) ** 0.5 * own
    return pd.DataFrame(values, columns=[f"gene_{i:03d}" for i in range(n_genes)])


def _check(n: int, missing: float, n_genes: int, censoring: float) -> None:
    if not isinstance(n, Integral) or not 1 <= n <= _N_DIGITS:
        raise ValueError(f"The n parameter must be an int from 1 to {_N_DIGITS}. Got {n!r}.")
    if not isinstance(n_genes, Integral) or n_genes < 1:
        raise ValueError(f"The n_genes parameter must be an int of at least 1. Got {n_genes!r}.")
    if not isinstance(missing, Real) or not 0 <= missing <= 0.5:
        raise ValueError(f"The missing parameter must be between 0 and 0.5. Got {missing!r}.")
    if not isinstance(censoring, Real) or not 0 <= censoring < 1:
        raise ValueError(f"The censoring parameter must be at least 0, below 1. Got {censoring!r}.")
