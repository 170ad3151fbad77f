from __future__ import annotations

import pickle

import numpy as np
import pandas as pd
import pytest
from lifelines import CoxPHFitter, KaplanMeierFitter
from scipy.integrate import quad
from sklearn.datasets import load_digits
from sklearn.utils import Bunch

from mmfusion.datasets import load_digits_cohort

PARTS = ["table", "image", "genes"]


@pytest.fixture(scope="module")
def cohort() -> Bunch:
    return load_digits_cohort()


def test_frame(cohort: Bunch) -> None:
    assert cohort.frame.shape == (1797, 55)
    assert list(cohort.frame.columns[:6]) == [
        "image",
        "age",
        "sex",
        "treatment",
        "stage",
        "gene_000",
    ]
    assert cohort.frame.columns[-1] == "gene_049"
    assert not cohort.frame.isna().any(axis=None)
    assert set(cohort.frame["sex"]) == {"female", "male"}
    assert set(cohort.frame["stage"]) == {"I", "II", "III", "IV"}
    assert cohort.target.dtype.names == ("event", "time")


def test_images_are_the_scanned_digits(cohort: Bunch) -> None:
    digits = load_digits()
    images = np.stack(list(cohort.frame["image"]))
    assert images.shape == (1797, 8, 8)
    assert images.dtype == np.uint8
    assert images.max() == 255
    # Every scan once, each with its own label.
    known = {
        (np.rint(image * 255 / 16).astype(np.uint8).tobytes(), label)
        for image, label in zip(digits.images, digits.target, strict=True)
    }
    drawn = {
        (image.tobytes(), label) for image, label in zip(images, cohort.truth.digit, strict=True)
    }
    assert drawn == known


def test_log_hazard_by_hand() -> None:
    cohort = load_digits_cohort(300, interaction=0.7, n_genes=25, random_state=3)
    parts, frame = cohort.truth.log_hazard, cohort.frame
    for row in (0, 17, 299):
        patient = frame.iloc[row]
        stage = {"I": 0.0, "II": 0.3, "III": 0.6, "IV": 1.0}[patient["stage"]]
        table = 0.03 * (patient["age"] - 60) + 0.2 * (patient["sex"] == "male") + stage
        table -= 0.6 * patient["treatment"]
        z = (cohort.truth.digit[row] - 4.5) / np.std(np.arange(10))
        genes = 0.5 * patient["gene_000"] - 0.4 * patient["gene_010"] + 0.3 * patient["gene_020"]
        both = 0.7 * patient["treatment"] * z
        expected = [table, 0.8 * z, genes, both, table + 0.8 * z + genes + both]
        np.testing.assert_allclose(parts.iloc[row].astype(float), expected, rtol=1e-12, atol=1e-12)
    assert list(parts) == ["table", "image", "genes", "interaction", "total"]


def test_cox_finds_the_truth(cohort: Bunch) -> None:
    data = cohort.truth.log_hazard[PARTS].assign(
        time=cohort.target["time"], event=cohort.target["event"]
    )
    fit = CoxPHFitter().fit(data, "time", "event")
    error = (fit.params_ - 1) / fit.standard_errors_
    assert (error.abs() < 3).all(), error
    assert (fit.standard_errors_ < 0.08).all()  # narrow enough for the line above to say something


def test_cox_finds_the_coefficients() -> None:
    cohort = load_digits_cohort(interaction=0.5, censoring=0.0, random_state=1)
    frame, true = cohort.frame, cohort.truth.coefficients
    z = (cohort.truth.digit - 4.5) / 8.25**0.5
    data = pd.DataFrame(
        {
            "age": frame["age"],
            "sex=male": frame["sex"] == "male",
            "treatment": frame["treatment"],
            **{f"stage={stage}": frame["stage"] == stage for stage in ("II", "III", "IV")},
            "image": z,
            **{gene: frame[gene] for gene in ("gene_000", "gene_010", "gene_020")},
            "treatment:image": frame["treatment"] * z,
        }
    ).astype(float)
    assert list(data) == list(true.index)
    fit = CoxPHFitter().fit(data.assign(time=cohort.target["time"], event=1), "time", "event")
    assert (((fit.params_ - true) / fit.standard_errors_).abs() < 3).all()
    null = data.assign(gene_001=frame["gene_001"])
    fit = CoxPHFitter().fit(null.assign(time=cohort.target["time"], event=1), "time", "event")
    assert abs(fit.params_["gene_001"] / fit.standard_errors_["gene_001"]) < 3


def test_kaplan_meier_meets_the_true_mean_curve(cohort: Bunch) -> None:
    curve = KaplanMeierFitter().fit(cohort.target["time"], cohort.target["event"])
    times = np.linspace(1, np.quantile(cohort.target["time"], 0.95), 50)
    true = cohort.truth.survival_function(times).mean(axis=0)
    estimate = curve.survival_function_at_times(times).to_numpy()
    assert np.abs(estimate - true.to_numpy()).max() < 0.035
    assert true.iloc[-1] < 0.5


def test_true_curves_are_the_weibull_model(cohort: Bunch) -> None:
    truth = cohort.truth
    curves = truth.survival_function([0.0, 20.0])
    assert (curves[0.0] == 1).all()
    eta = truth.log_hazard["total"].iloc[4]
    hazard, _ = quad(lambda t: 1.5 / 60 * (t / 60) ** 0.5 * np.exp(eta), 0, 20)
    assert curves[20.0].iloc[4] == pytest.approx(np.exp(-hazard), rel=1e-8)
    # At its own event time a patient's survival probability is uniform on (0, 1).
    own = np.exp(-np.exp(truth.log_hazard["total"]) * (truth.event_time / 60) ** 1.5)
    assert abs(own.mean() - 0.5) < 3 * (1 / 12 / len(own)) ** 0.5
    assert abs(own.var() - 1 / 12) < 0.01


@pytest.mark.parametrize("share", [0.0, 0.05, 0.3, 0.8])
def test_censoring(share: float) -> None:
    cohort = load_digits_cohort(censoring=share, random_state=2)
    found = 1 - cohort.target["event"].mean()
    assert abs(found - share) <= 3 * (share * (1 - share) / 1797) ** 0.5
    censored = ~cohort.target["event"]
    truth = cohort.truth
    np.testing.assert_array_equal(cohort.target["time"][~censored], truth.event_time[~censored])
    assert (cohort.target["time"][censored] < truth.event_time[censored]).all()
    if share:
        # Exponential whatever the patient: the reverse Kaplan-Meier curve is its survival function.
        curve = KaplanMeierFitter().fit(cohort.target["time"], censored)
        times = np.quantile(cohort.target["time"], [0.1, 0.3, 0.5, 0.7])
        estimate = curve.survival_function_at_times(times).to_numpy()
        np.testing.assert_allclose(estimate, np.exp(-truth.censoring_rate * times), atol=0.05)
    else:
        assert truth.censoring_rate == 0


@pytest.mark.parametrize(("missing", "n"), [(0.0, 100), (0.25, 1000), (0.5, 101)])
def test_missing_modalities(missing: float, n: int) -> None:
    whole = load_digits_cohort(n, random_state=5)
    cohort = load_digits_cohort(n, missing=missing, random_state=5)
    genes = cohort.frame.filter(like="gene_")
    no_image = cohort.frame["image"].isna()
    no_genes = genes.isna().all(axis=1)
    assert (genes.isna().any(axis=1) == no_genes).all()
    assert no_image.sum() == no_genes.sum() == round(missing * n)
    assert not (no_image & no_genes).any()
    assert all(cell is None for cell in cohort.frame["image"][no_image])
    table = ["age", "sex", "treatment", "stage"]
    pd.testing.assert_frame_equal(cohort.frame[table], whole.frame[table])
    pd.testing.assert_frame_equal(genes[~no_genes], whole.frame.loc[~no_genes, genes.columns])
    # The outcome and the truth are of the patients before anything went missing.
    np.testing.assert_array_equal(cohort.target, whole.target)
    pd.testing.assert_frame_equal(cohort.truth.log_hazard, whole.truth.log_hazard)


def test_genes_are_correlated_within_blocks(cohort: Bunch) -> None:
    correlation = cohort.frame.filter(like="gene_").corr().to_numpy()
    block = np.arange(50) // 10
    same = block[:, None] == block
    np.fill_diagonal(same, False)
    off = ~same & ~np.eye(50, dtype=bool)
    assert np.abs(correlation[same] - 0.6).max() < 0.08
    assert np.abs(correlation[off]).max() < 0.12


@pytest.mark.parametrize(("n_genes", "signals"), [(1, 1), (10, 1), (11, 2), (21, 3)])
def test_few_genes(n_genes: int, signals: int) -> None:
    cohort = load_digits_cohort(50, n_genes=n_genes)
    assert cohort.frame.filter(like="gene_").shape == (50, n_genes)
    assert cohort.truth.coefficients.index.str.startswith("gene_").sum() == signals


def test_same_seed_same_cohort() -> None:
    first, second = (load_digits_cohort(80, missing=0.2, random_state=7) for _ in range(2))
    np.testing.assert_array_equal(first.target, second.target)
    assert pickle.dumps(first.frame) == pickle.dumps(second.frame)
    other = load_digits_cohort(80, missing=0.2, random_state=8)
    assert not np.array_equal(first.target["time"], other.target["time"])
    generator = load_digits_cohort(80, missing=0.2, random_state=np.random.default_rng(7))
    np.testing.assert_array_equal(generator.target, first.target)


def test_truth_pickles(cohort: Bunch) -> None:
    again = pickle.loads(pickle.dumps(cohort))
    pd.testing.assert_frame_equal(
        again.truth.survival_function([1, 10]), cohort.truth.survival_function([1, 10])
    )


@pytest.mark.parametrize(
    ("parameters", "message"),
    [
        ({"n": 0}, r"The n parameter must be an int from 1 to 1797\. Got 0\."),
        ({"n": 1798}, "Got 1798"),
        ({"n": 10.5}, "Got 10.5"),
        ({"missing": 0.6}, "The missing parameter must be between 0 and 0.5. Got 0.6"),
        ({"missing": "some"}, "The missing parameter"),
        ({"n_genes": 0}, "The n_genes parameter must be an int of at least 1. Got 0"),
        ({"censoring": 1.0}, "The censoring parameter must be at least 0, below 1. Got 1.0"),
        ({"censoring": float("nan")}, "The censoring parameter"),
    ],
)
def test_bad_parameters(parameters: dict, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        load_digits_cohort(**parameters)
