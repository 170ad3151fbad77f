"""Do the intervals of a treatment effect hold their level beside an image and genes?

Simulated studies with a known truth: an outcome depends on treatment, on the brightness of a part
of an image and, not linearly, on genes. In four scenarios the interval of the treatment effect that
`mmfusion` reports is held against the truth, beside what other ways would have claimed:

    a   a randomised trial, Gaussian outcome               inference="cross_fit"
    b   a randomised trial without effect, survival        inference="cross_fit"
    c   a randomised trial with effect, survival           inference="cross_fit"
    d   treatment follows the image, Gaussian outcome      inference="double_ml"

    python -m benchmarks.coverage --scenario a --n 400     # 200 studies, two seconds each
    python -m benchmarks.coverage --report                 # tables of all that was simulated

Every study is written to a file as soon as it is done, so an interrupted run goes on where it was.
"""

from __future__ import annotations

if __name__ == "coverage":  # numba looks for a package of this name, beside other scripts too
    raise ImportError("This is a benchmark, and not the coverage package.")

import argparse
import csv
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from joblib import Parallel, delayed
from scipy import stats
from scipy.special import expit
from torch import nn

from mmfusion import Genes, Image, Tabular
from mmfusion.estimators import FusionCox, FusionRegressor
from mmfusion.fusion import JointFusion
from mmfusion.model import Plan, Question, Study, prepare
from mmfusion.model.cross_fit import beside_unseen, cross_fitted
from mmfusion.structured import Design, Likelihood, fit_structured
from mmfusion.survival import surv

SCENARIOS = {
    "a": "Randomised, Gaussian outcome, effect 0.5",
    "b": "Randomised, survival, no effect",
    "c": "Randomised, survival, log hazard ratio 0.5",
    "d": "Treatment follows the image, Gaussian outcome, effect 0.5",
}
EFFECT = {"a": 0.5, "b": 0.0, "c": 0.5, "d": 0.5}
METHODS = {
    "cross_fit": '`inference="cross_fit"`',
    "double_ml": '`inference="double_ml"`',
    "model": "networks taken as known",
    "wide_deep": "Wide & Deep, trained by AdamW alone",
    "unadjusted": 'treatment alone: `inference="model"`',
    "oracle": "prognosis known",
}
COLUMNS = [
    *("scenario", "n", "seed"),
    *(f"{method}_{what}" for method in METHODS for what in ("coef", "se")),
    *("explained", "seconds"),
]
RESULTS = Path(__file__).parent / "results" / "coverage.csv"


def draw(scenario: str, n: int, seed: int) -> tuple[pd.DataFrame, Any, np.ndarray]:
    """Return a study's table, its outcome, and what image and genes contribute to it."""
    rng = np.random.default_rng([ord(scenario), n, seed])
    brightness = rng.uniform(-1, 1, size=n)
    pixels = rng.normal(128, 25, size=(n, 8, 8))
    pixels[:, 2:6, 2:6] += 60 * brightness[:, None, None]
    genes = rng.normal(size=(n, 10))
    frame = pd.DataFrame(genes, columns=[f"gene_{j}" for j in range(10)])
    frame["image"] = list(pixels.clip(0, 255).astype(np.uint8))
    chance = expit(1.5 * brightness) if scenario == "d" else np.full(n, 0.5)
    frame["treatment"] = (rng.uniform(size=n) < chance).astype(float)
    prognosis = 1.5 * brightness + 0.5 * genes[:, 0] + 0.35 * genes[:, 1] ** 2
    eta = EFFECT[scenario] * frame["treatment"].to_numpy() + prognosis
    if scenario in "ad":
        return frame, 1 + eta + rng.normal(size=n), prognosis
    failure = rng.exponential(np.exp(-eta))
    limit = rng.uniform(0, 4, size=n)
    return frame, surv(np.minimum(failure, limit), failure <= limit), prognosis


def small_network() -> nn.Module:
    """Return an encoder of 8 x 8 images: one convolution."""
    layers = [nn.Conv2d(1, 4, 4, stride=2, padding=1), nn.SiLU(), nn.AvgPool2d(2), nn.Flatten()]
    return nn.Sequential(*layers)


def modalities() -> dict[str, Any]:
    """Return what the deep part reads."""
    return {
        "scan": Image("image", size=8, channels="L", encoder=small_network),
        "rna": Genes("gene_*", hidden=(16,), dropout=0.0),
    }


def settings(n: int, seed: int, hidden: tuple[int, ...] = (16,)) -> dict[str, Any]:
    """Return what all networks are trained with."""
    return {
        "fusion": JointFusion("concat", dim=16, hidden=hidden, dropout=0.0),
        "epochs": 10,
        "patience": 4,
        "batch_size": 128 if n < 1000 else 256,
        "learning_rate": 0.02,
        "device": "cpu",
        "random_state": seed,
    }


def wide_deep(kind: Any, frame: pd.DataFrame, y: Any, seed: int) -> tuple[float, float]:
    """Return coefficient and claimed standard error of a Wide & Deep network.

    The treatment column enters the last, linear layer beside the embeddings, and all weights are
    trained jointly by AdamW with early stopping; nothing is fitted exactly. The predictor is linear
    in treatment, so the coefficient is its difference between treated and untreated. The claimed
    standard error takes the network as known: the inverse information of treatment (Gaussian: and
    constant, times the residual variance) at the trained predictor.
    """
    wide = {"wide": Tabular(["treatment"], encoder="raw")}
    model = kind(modalities() | wide, **settings(len(frame), seed, hidden=())).fit(frame, y)
    coef = np.mean(
        model.predict(frame.assign(treatment=1.0)) - model.predict(frame.assign(treatment=0.0))
    )
    head = model.model_.head
    likelihood = Likelihood(head, head.encode(y))
    eta = model.predict(frame)[:, None]
    columns = frame[["treatment"]].to_numpy()
    scale = 1.0
    if likelihood.has_scale:
        columns = np.column_stack([columns, np.ones(len(frame))])
        scale = 2 * likelihood.value(eta) / (len(frame) - 2)
    information = likelihood.information(eta, Design.dense_of(columns)).dense()
    covariance = scale * np.linalg.inv(information)
    return float(coef), float(covariance[0, 0] ** 0.5)


def study(scenario: str, n: int, seed: int) -> dict[str, float | str]:
    """Return estimate and claimed standard error of each method in one study."""
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    started = time.process_time()
    frame, y, prognosis = draw(scenario, n, seed)
    kind: Any = FusionRegressor if scenario in "ad" else FusionCox
    how = "double_ml" if scenario == "d" else "cross_fit"
    options = {"treatment": "treatment"} if how == "double_ml" else {}
    model = kind(
        modalities(), structured="treatment", inference=how, **options, **settings(n, seed)
    ).fit(frame, y)
    beside = model.model_.structured.final
    at = beside.names.index("treatment")
    plain = kind({}, structured="treatment").fit(frame, y)
    head, structured = plain.model_.head, plain.model_.structured
    likelihood = Likelihood(head, head.encode(y))
    oracle = fit_structured(likelihood, structured.design(frame), offset=prognosis[:, None])
    found: dict[str, Any] = {
        how: tuple(model.effects_.loc["treatment", ["coef", "se"]]),
        "model": (beside.coef[at], beside.covariance[at, at] ** 0.5),
        "wide_deep": wide_deep(kind, frame, y, seed),
        "unadjusted": tuple(plain.effects_.loc["treatment", ["coef", "se"]]),
        "oracle": (oracle.coef[at], oracle.covariance[at, at] ** 0.5),
    }
    record: dict[str, float | str] = {"scenario": scenario, "n": n, "seed": seed}
    for method, (coef, se) in found.items():
        record[f"{method}_coef"], record[f"{method}_se"] = f"{coef:.4f}", f"{se:.4f}"
    record["seconds"] = f"{time.process_time() - started:.2f}"
    if how == "cross_fit":
        record["explained"] = f"{explained(model, frame, y, scenario, prognosis):.3f}"
    return record


def unseen(model: Any, frame: pd.DataFrame, y: Any) -> np.ndarray:
    """Return what cross-fitting fits the effects beside, (n,): the same networks, trained again."""
    plan = Plan.of(model, frame)
    ready = prepare(plan, Study.read(plan, frame, y))
    question: Any = Question.of(ready)
    seed, parts = question.splits[0]
    deep = cross_fitted(ready, parts, seed)
    fit, _ = beside_unseen(ready, ready.structured.layout, ready.design, deep)
    return deep[:, 0] * (fit.coef[-1] if fit.names[-1] == "(deep)" else 0.0)


def explained(
    model: Any, frame: pd.DataFrame, y: Any, scenario: str, prognosis: np.ndarray
) -> float:
    """Return the share of variance that networks explain in rows they did not see, from the truth.

    Gaussian: of the outcome's variance given treatment. Survival: of the prognosis.
    """
    deep = unseen(model, frame, y)
    noise = 1.0 if scenario == "a" else 0.0
    return float(1 - (noise + np.var(prognosis - deep)) / (noise + np.var(prognosis)))


def simulate(scenario: str, n: int, trials: int, n_jobs: int, output: Path) -> None:
    """Simulate the studies that `output` does not hold yet, and add a line for each."""
    done = set()
    if output.exists():
        table = pd.read_csv(output)
        done = set(table.loc[(table["scenario"] == scenario) & (table["n"] == n), "seed"])
    else:
        output.parent.mkdir(parents=True, exist_ok=True)
        output.write_text(",".join(COLUMNS) + "\n", encoding="utf-8")
    left = [seed for seed in range(trials) if seed not in done]
    records = Parallel(n_jobs, return_as="generator_unordered")(
        delayed(study)(scenario, n, seed) for seed in left
    )
    with output.open("a", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, COLUMNS)
        for record in records:
            writer.writerow(record)
            file.flush()


def report(output: Path) -> str:
    """Return the tables of what `output` holds, in Markdown."""
    table = pd.read_csv(output).sort_values(["scenario", "n", "seed"])
    parts = []
    for (scenario, n), cell in table.groupby(["scenario", "n"]):
        parts.append(f"### ({scenario}) {SCENARIOS[scenario]}; n = {n:,}\n")
        parts.append(_cell(scenario, int(n), cell))
    return "\n".join(parts)


def _cell(scenario: str, n: int, cell: pd.DataFrame) -> str:
    """Return the table of one scenario at one size, and a line on what was explained."""
    truth = EFFECT[scenario]
    quantile = stats.t.ppf(0.975, n - 2) if scenario in "ad" else stats.norm.ppf(0.975)
    rows = [
        f"| {len(cell)} studies | {'rejects at 5 %' if scenario == 'b' else 'covers the truth'} "
        "(± Monte Carlo se) | bias (se) | sd of estimates | mean claimed se | mean width |",
        "| --- | --- | --- | --- | --- | --- |",
    ]
    widths, spreads = {}, {}
    for method, name in METHODS.items():
        coef, se = cell[f"{method}_coef"], cell[f"{method}_se"]
        if coef.isna().all():
            continue
        covers = (coef - truth).abs() < quantile * se
        share = float((~covers if scenario == "b" else covers).mean())
        error = np.sqrt(share * (1 - share) / len(cell))
        spreads[method], widths[method] = coef.std(), 2 * quantile * se.mean()
        rows.append(
            f"| {name} | {share:.1%} (± {error:.1%}) | {coef.mean() - truth:+.3f} "
            f"({coef.std() / np.sqrt(len(cell)):.3f}) | {coef.std():.3f} | {se.mean():.3f} | "
            f"{widths[method]:.3f} |"
        )
    text = "\n".join(rows) + "\n"
    share = cell["explained"].mean()
    if scenario == "a":
        text += (
            f"\nNetworks explain {share:.0%} of the outcome's variance given treatment, in rows "
            f"they did not see: intervals should be {np.sqrt(1 - share):.2f} times as wide as "
            f"unadjusted ones. They are {widths['cross_fit'] / widths['unadjusted']:.2f} times as "
            f"wide; the estimates spread {spreads['cross_fit'] / spreads['unadjusted']:.2f} times "
            "as much.\n"
        )
    elif scenario in "bc":
        text += f"\nNetworks explain {share:.0%} of the prognosis in rows they did not see.\n"
    seconds = cell["seconds"].median()
    return text + f"\nMedian cost of a study: {seconds:.1f} processor seconds, all methods.\n"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--scenario", choices=SCENARIOS, nargs="+", default=list(SCENARIOS))
    parser.add_argument("--n", type=int, nargs="+", default=[400, 1000])
    parser.add_argument("--trials", type=int, default=200)
    parser.add_argument("--n-jobs", type=int, default=1)
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--report", action="store_true", help="print tables, simulate nothing")
    arguments = parser.parse_args()
    if not arguments.report:
        for n in arguments.n:
            for scenario in arguments.scenario:
                simulate(scenario, n, arguments.trials, arguments.n_jobs, arguments.output)
    print(report(arguments.output))


if __name__ == "__main__":
    main()
