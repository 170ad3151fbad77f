"""Distributional regression: time of a fit, and simulations of intervals, scores and effects.

"time" fits location and scale, ten columns each, to 100,000 rows without networks, beside
lifelines' Weibull, log-normal and log-logistic models with an ancillary formula, statsmodels' beta
model, its negative binomial and Poisson models of one formula, and a normal location-scale model
written as its users write one that it does not have (numerical derivatives); one thread, seconds of
CPU time, after a small fit that loads what each library loads.
"epoch" trains the network of a table for some epochs, beside FusionRegressor's. "images" has an
outcome whose location and scale both follow the brightness of an image, at high and low noise: the
CRPS of new rows beside the oracle's, also with one of the two known, the mean log score, and how
often 90 % intervals hold; with the default settings, and with one of them changed.
"effects" are effects on location and scale of censored Weibull times beside networks of an image
that is no confounder: bias and coverage with ``inference="cross_fit"``, beside those of an oracle
that knows the brightness of each image. "rivals" fits smooth
locations and scales beside gamfit, where that is installed (an AGPL package: nothing else here
knows it): effective degrees of freedom, log-likelihood, distance from the true curves, CPU time and
memory, each fit in a process of its own. Writes results/distributions.csv, a row a figure;
"effects" a row a draw to results/distribution_effects.csv too, and goes on where it stopped.

    nice -n 19 python -m benchmarks.distributions time epoch images effects rivals
"""

# ruff: noqa: E402 - the number of threads is read when NumPy and Torch are imported
from __future__ import annotations

import argparse
import importlib.util
import os
import resource
import time
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "RAYON_NUM_THREADS"):
    os.environ[_name] = "1"

import numpy as np
import pandas as pd
import torch
from scipy import stats

from mmfusion import Image, surv
from mmfusion.estimators import FusionDistribution, FusionRegressor
from mmfusion.fusion import JointFusion

warnings.filterwarnings("ignore")
torch.set_num_threads(1)

RESULTS = Path(__file__).parent / "results" / "distributions.csv"
DRAWS = RESULTS.with_name("distribution_effects.csv")
#: True effects of the draws of "effects".
TRUE = {("x", "loc"): 0.5, ("w", "scale"): 0.3}
#: Draws of the oracle alone.
ORACLE = 400
#: Rows of the small fits.
FIRST = 500
Figure = tuple[str, str, float]


def seconds(run: Callable[[], object]) -> tuple[float, object]:
    """Return CPU time and result."""
    start = time.process_time()
    result = run()
    return time.process_time() - start, result


def timed(n: int = 100_000) -> Iterator[Figure]:
    """Yield times of fits without networks."""
    import statsmodels.api as sm
    from lifelines import LogLogisticAFTFitter, LogNormalAFTFitter, WeibullAFTFitter
    from statsmodels.base.model import GenericLikelihoodModel
    from statsmodels.othermod.betareg import BetaModel

    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 20)), columns=[f"x{i}" for i in range(20)])
    first, second = (" + ".join(X.columns[at : at + 10]) for at in (0, 10))
    designs = [sm.add_constant(X.iloc[:, at : at + 10]) for at in (0, 10)]
    loc = 1 + X.to_numpy()[:, :10] @ rng.normal(0, 0.2, 10)
    scale = np.exp(-0.3 + X.to_numpy()[:, 10:] @ rng.normal(0, 0.05, 10))

    def beside(
        family: str, y: object, names: tuple[str, ...], package: str, fit: Callable[[], object]
    ) -> Iterator[Figure]:
        """Yield the times of two libraries, ours first, and the difference of their maxima."""
        formulas = dict(zip(names, (first, second), strict=False))
        model = FusionDistribution({}, family=family, structured=formulas)
        model.fit(X[:FIRST], y[:FIRST])
        ours, _ = seconds(lambda: model.fit(X, y))
        theirs, found = seconds(fit)
        told = getattr(found, "log_likelihood_", None)
        gap = model.score(X, y) * n - (found.llf if told is None else told)
        name = family.replace("_", " ") + (", one formula" if len(names) == 1 else "")
        yield from (
            ("time", f"{name}: ours, s", ours),
            ("time", f"{name}: {package}, s", theirs),
            ("time", f"{name}: times faster", theirs / ours),
            ("time", f"{name}: our log-likelihood less that of {package}", gap),
        )

    end = rng.exponential(5.0, n)
    errors = {
        "weibull": (WeibullAFTFitter, np.log(rng.exponential(size=n))),
        "log_normal": (LogNormalAFTFitter, rng.normal(size=n)),
        "log_logistic": (LogLogisticAFTFitter, rng.logistic(size=n)),
    }
    for family, (kind, error) in errors.items():
        died = np.exp(loc + scale * error)
        y = surv(np.minimum(died, end), died <= end)
        table = X.assign(time=y["time"], event=y["event"])

        def lifelines(rows: slice, kind: type = kind, table: pd.DataFrame = table) -> object:
            return kind().fit(table[rows], "time", "event", ancillary=second, formula=first)

        lifelines(slice(FIRST))
        names = ("loc", "scale")
        yield from beside(family, y, names, "lifelines", lambda: lifelines(slice(None)))
    mean = 1 / (1 + np.exp(-(loc - 1)))
    y = rng.beta(mean * 10, (1 - mean) * 10).clip(1e-9, 1 - 1e-9)
    names = ("mean", "precision")
    yield from beside("beta", y, names, "statsmodels", lambda: BetaModel(y, *designs).fit(disp=0))
    counts = rng.negative_binomial(2, 2 / (2 + np.exp(loc)))
    yield from beside(
        *("negative_binomial", counts, ("rate",), "statsmodels"),
        lambda: sm.NegativeBinomial(counts, designs[0]).fit(disp=0, maxiter=200),
    )
    counts_alone = rng.poisson(np.exp(loc))
    yield from beside(
        *("poisson", counts_alone, ("rate",), "statsmodels"),
        lambda: sm.Poisson(counts_alone, designs[0]).fit(disp=0),
    )

    class LocationScale(GenericLikelihoodModel):
        """A normal distribution, as statsmodels' users write one that it does not have."""

        def loglike(self, params: np.ndarray) -> float:
            mean, logs = self.exog[:, :11] @ params[:11], self.exog[:, 11:] @ params[11:]
            return float(stats.norm.logpdf(self.endog, mean, np.exp(logs)).sum())

    numbers = loc + scale * rng.normal(size=n)
    both = np.hstack([np.asarray(design) for design in designs])
    start = np.zeros(22)
    start[[0, 11]] = numbers.mean(), np.log(numbers.std())
    yield from beside(
        *("normal", numbers, ("loc", "scale"), "statsmodels"),
        lambda: LocationScale(numbers, both).fit(start, method="bfgs", disp=0, maxiter=200),
    )


def epochs(n: int = 20_000, count: int = 6, rounds: int = 5) -> Iterator[Figure]:
    """Yield CPU seconds of an epoch of a tabular network, the least of some rounds."""
    rng = np.random.default_rng(0)
    X = pd.DataFrame(rng.normal(size=(n, 20)), columns=[f"x{i}" for i in range(20)])
    y = X["x0"].to_numpy() + rng.normal(size=n)
    models = {
        "FusionRegressor": FusionRegressor,
        "location": FusionDistribution,
        "location and scale": lambda **given: FusionDistribution(deep=("loc", "scale"), **given),
    }
    least = dict.fromkeys(models, np.inf)
    for _ in range(rounds):  # in turn, so that all are disturbed alike
        for name, make in models.items():
            spent = []
            for number in (1, count + 1):
                model = make(linear=False, n_members=1, patience=None, epochs=number)
                spent.append(seconds(lambda model=model: model.fit(X, y))[0])
            least[name] = min(least[name], (spent[1] - spent[0]) / count)
    for name, value in least.items():
        yield "epoch", f"{name}: CPU seconds an epoch", value
        yield "epoch", f"{name}: times FusionRegressor's", value / least["FusionRegressor"]


#: Standard deviation of what an image's 64 pixels say of its brightness.
BLUR = 0.05 / 8 / 0.35


def brightness(n: int, rng: np.random.Generator) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows with a column x and an image, and how bright each image is."""
    bright = rng.uniform(-1, 1, n)
    pixels = 0.5 + 0.35 * bright[:, None, None] + 0.05 * rng.normal(size=(n, 8, 8))
    frame = pd.DataFrame({"x": rng.normal(size=n)})
    frame["scan"] = list(np.clip(pixels, 0, 1))
    return frame, bright


def crps(y: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> float:
    """Return the mean CRPS of normal distributions (Gneiting & Raftery 2007, section 4.2)."""
    z = (y - loc) / scale
    density, chance = stats.norm.pdf(z), stats.norm.cdf(z)
    return float(np.mean(scale * (z * (2 * chance - 1) + 2 * density - 1 / np.sqrt(np.pi))))


def images(draws: int = 8) -> Iterator[Figure]:
    """Yield scores and coverage of new rows, with the default settings and one of them changed."""
    settings = {
        "": {},
        ", linear part alone": {"n_members": 0},
        ", no dropout": {"fusion": JointFusion(dropout=0.0)},
        ", no linear part": {"linear": False},
    }
    for noise, size in (("high", 0.5), ("low", -1.5)):
        for name, given in settings.items():
            if noise == "high" and name:
                continue
            found = pd.DataFrame([image(seed, size, **given) for seed in range(draws)])
            for figure, values in found.items():
                yield "images", f"{noise} noise{name}: {figure}", float(values.mean())
            spread = found[SEEN].std() / np.sqrt(draws)
            yield "images", f"{noise} noise{name}: standard error of the second", float(spread)
            yield "images", f"{noise} noise{name}: least of {draws} draws", float(found[HOLD].min())


SEEN = "CRPS over that of who sees pixels"
HOLD = "90 % intervals hold"


def image(
    seed: int, size: float, n: int = 1000, n_new: int = 4000, **given: object
) -> dict[str, float]:
    """Return scores of one draw with a log scale of about `size`, of settings that are given."""
    rng = np.random.default_rng(seed)
    frame, bright = brightness(n + n_new, rng)
    loc, scale = frame["x"].to_numpy() + np.sin(2 * bright), np.exp(size + 0.7 * bright)
    y = loc + scale * rng.normal(size=len(frame))
    model = FusionDistribution(
        {"scan": Image("scan", size=8, channels="L", encoder="raw")},
        structured={"loc": "x", "scale": "1"},
        deep=("loc", "scale"),
        random_state=seed,
        **given,
    ).fit(frame[:n], y[:n])
    new = slice(n, None)
    found = model.predict_parameters(frame[new])
    own = found["loc"].to_numpy(), found["scale"].to_numpy()
    # Who knows the model, and of an image what its pixels say.
    told = (np.stack(list(frame["scan"][new])).mean((1, 2)) - 0.5) / 0.35
    blur = 2 * np.cos(2 * told) * BLUR
    spread = np.sqrt(np.exp(2 * (size + 0.7 * told)) + blur**2)
    best = frame["x"].to_numpy()[new] + np.sin(2 * told), spread
    least = crps(y[new], *best)
    ends = model.predict_interval(frame[new], 0.9)
    # What of the location's error is a curve in the brightness, or of x: the rest is of pixels.
    error = own[0] - best[0]
    curves = np.column_stack([np.polynomial.chebyshev.chebvander(told, 11), frame["x"][new]])
    curve = curves @ np.linalg.lstsq(curves, error, rcond=None)[0]
    return {
        "squared error of the location's curve, in variances": np.mean((curve / best[1]) ** 2),
        "the same of the rest": np.mean(((error - curve) / best[1]) ** 2),
        "CRPS over the oracle's": crps(y[new], *own) / crps(y[new], loc[new], scale[new]),
        SEEN: crps(y[new], *own) / least,
        "the same, with that one's scale": crps(y[new], own[0], best[1]) / least,
        "the same, with that one's location": crps(y[new], best[0], own[1]) / least,
        "log score less the oracle's": model.score(frame[new], y[new])
        - stats.norm(loc[new], scale[new]).logpdf(y[new]).mean(),
        HOLD: float(((y[new] >= ends["lower"]) & (y[new] <= ends["upper"])).mean()),
    }


def lifetimes(seed: int, n: int = 600) -> tuple[pd.DataFrame, np.ndarray]:
    """Return rows with x, w, an image and its brightness, and censored Weibull times."""
    rng = np.random.default_rng(1000 + seed)
    frame, bright = brightness(n, rng)
    frame["w"] = rng.normal(size=n)
    scale = np.exp(-0.7 + 0.3 * frame["w"].to_numpy())
    died = np.exp(
        1 + 0.5 * frame["x"].to_numpy() + 0.8 * bright + scale * np.log(rng.exponential(size=n))
    )
    end = rng.exponential(8.0, n)
    return frame.assign(bright=bright), surv(np.minimum(died, end), died <= end)


def effects_of(model: FusionDistribution, seed: int, who: str) -> pd.DataFrame:
    """Return a row an effect: how far it is from the truth, and whether its interval holds that."""
    rows = []
    for (column, parameter), value in TRUE.items():
        row = model.effects_.loc[(column, parameter)]
        holds = int(row["lower"] <= value <= row["upper"])
        rows.append((seed, f"{column} on {parameter}", who, row["coef"] - value, row["se"], holds))
    return pd.DataFrame(rows, columns=["draw", "effect", "who", "error", "se", "holds"])


def draw_effects(seed: int) -> pd.DataFrame:
    """Return the effects of one draw, and those of who knows the brightness of each image."""
    frame, y = lifetimes(seed)
    ours = FusionDistribution(
        {"scan": Image("scan", size=8, channels="L", encoder="raw")},
        structured={"loc": "x", "scale": "w"},
        family="weibull",
        inference="cross_fit",
        n_members=1,
        epochs=30,
        learning_rate=0.01,
        random_state=seed,
    ).fit(frame[["x", "w", "scan"]], y)
    return pd.concat([effects_of(ours, seed, "ours"), oracle_effects(seed)])


def oracle_effects(seed: int) -> pd.DataFrame:
    frame, y = lifetimes(seed)
    formulas = {"loc": "x + bright", "scale": "w"}
    oracle = FusionDistribution({}, structured=formulas, family="weibull")
    return effects_of(oracle.fit(frame[["x", "w", "bright"]], y), seed, "oracle")


def effects(draws: int = 62) -> Iterator[Figure]:
    """Yield bias and coverage of effects on censored times; each draw is kept at once."""
    for seed in range(draws):
        known = pd.read_csv(DRAWS) if DRAWS.exists() else pd.DataFrame(columns=["draw"])
        if seed not in set(known["draw"]):
            found = draw_effects(seed)
            print(found.to_string(header=False), flush=True)
            pd.concat([known, found]).to_csv(DRAWS, index=False, float_format="%.5g")
    told = pd.read_csv(DRAWS)
    for effect, each in told.groupby("effect", sort=False):
        errors = each.pivot_table("error", "draw", "who")
        apart = errors["ours"] - errors["oracle"]
        root, name = np.sqrt(len(errors)), f"{effect}, {len(errors)} draws"
        for who, part in each.groupby("who", sort=False):
            yield from (
                ("effects", f"{name}, {who}: bias", part["error"].mean()),
                ("effects", f"{name}, {who}: its standard error", part["error"].std() / root),
                ("effects", f"{name}, {who}: sd of estimates", part["error"].std()),
                ("effects", f"{name}, {who}: mean standard error", part["se"].mean()),
                ("effects", f"{name}, {who}: 95 % intervals hold", part["holds"].mean()),
            )
        yield "effects", f"{name}: bias less the oracle's", apart.mean()
        yield "effects", f"{name}: its standard error", apart.std() / root
        held = each.pivot_table("holds", "draw", "who")
        yield "effects", f"{name}: only one interval holds", (held["ours"] != held["oracle"]).sum()
    # Few draws have an error of their own: what the oracle's is over many says how large.
    many = pd.concat([oracle_effects(seed) for seed in range(ORACLE)])
    for effect, each in many.groupby("effect", sort=False):
        name = f"{effect}, {ORACLE} draws, oracle"
        yield from (
            ("effects", f"{name}: bias", each["error"].mean()),
            ("effects", f"{name}: its standard error", each["error"].std() / np.sqrt(ORACLE)),
            ("effects", f"{name}: 95 % intervals hold", each["holds"].mean()),
        )


def smooth(family: str, n: int) -> tuple[pd.DataFrame, np.ndarray, np.ndarray]:
    """Return rows with a smooth location and scale, the outcome, and the true mean's predictor."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.uniform(size=(n, 2)), columns=["x", "z"])
    x = frame["x"].to_numpy()
    eta, spread = np.sin(6 * x) + frame["z"].to_numpy(), np.exp(-1 + 1.2 * x)
    if family == "gamma":
        return frame, rng.gamma(1 / spread, np.exp(eta) * spread), eta
    return frame, eta + spread * rng.normal(size=n), eta


def rival(engine: str, family: str, n: int) -> dict[str, float]:
    """Return what one engine's fit of smooth location and scale comes to."""
    frame, y, eta = smooth(family, n)
    first, second = "s(x, k=10) + z", "s(x, k=10)"
    names = ("mean", "dispersion") if family == "gamma" else ("loc", "scale")
    formulas = dict(zip(names, (first, second), strict=True))

    def ours(rows: slice) -> FusionDistribution:
        return FusionDistribution({}, family=family, structured=formulas).fit(frame[rows], y[rows])

    def theirs(rows: slice) -> object:
        import gamfit

        kind = "gaussian" if family == "normal" else family
        table = frame.assign(y=y)[rows]
        return gamfit.fit(table, f"y ~ {first}", noise_formula=second, family=kind)

    fit = ours if engine == "ours" else theirs
    fit(slice(FIRST))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    spent, model = seconds(lambda: fit(slice(None)))
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    if isinstance(model, FusionDistribution):
        edf = model.effects_["edf"].fillna(1.0).sum()
        total, mean = model.score(frame, y) * n, model.predict(frame)
    else:
        edf, total = model.edf_total, model.log_likelihood  # type: ignore[attr-defined]
        found = model.predict(frame)  # type: ignore[attr-defined]
        mean = np.asarray(found["mean_plugin"] if isinstance(found, pd.DataFrame) else found)
    told = np.log(mean) if family == "gamma" else mean
    return {
        "edf": float(edf),
        "log-likelihood": float(total),
        "distance from the true location": float(np.sqrt(np.mean((told - eta) ** 2))),
        "CPU s": spent,
        "MiB more": grown,
    }


def rivals() -> Iterator[Figure]:
    """Yield smooth location-scale fits beside those of another engine."""
    engines = ["ours"]
    if importlib.util.find_spec("gamfit") is None:
        print("There is no gamfit: left out.")
    else:
        engines.append("gamfit")
    for family in ("normal", "gamma"):
        for n in (2_000, 20_000):
            own = 0.0
            for engine in engines:
                with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
                    found = pool.submit(rival, engine, family, n).result()
                total = found.pop("log-likelihood")
                if engine == "ours":
                    own = total
                else:
                    found["log-likelihood less ours"] = total - own
                for name, value in found.items():
                    yield "rivals", f"{family}, {n} rows, {engine}: {name}", value


PARTS = {"rivals": rivals, "time": timed, "epoch": epochs, "images": images, "effects": effects}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=PARTS)
    parser.add_argument("--draws", type=int, default=62, help='of "effects"')
    arguments = parser.parse_args()
    known = pd.read_csv(RESULTS) if RESULTS.exists() else pd.DataFrame(columns=["part"])
    for part in arguments.parts:
        rows = []
        for figure in effects(arguments.draws) if part == "effects" else PARTS[part]():
            print(*figure, flush=True)
            rows.append(figure)
        new = pd.DataFrame(rows, columns=["part", "figure", "value"])
        known = pd.concat([known[known["part"] != part], new], ignore_index=True)
        known.to_csv(RESULTS, index=False, float_format="%.4g")


if __name__ == "__main__":
    main()
