"""Do effects hold their level: the default table, marginal effects, effects under confounding?

Simulated studies with a known truth. Each row of the results is a mechanism and a way to ask for
the effect of treatment; each of its quantities has how often the interval covered the truth and how
often the test rejected no effect, with Monte Carlo errors. Rows are run one by one:

    python -m benchmarks.effects --list                         # what there is
    python -m benchmarks.effects --rows table.gaussian.400      # all rows that start so
    python -m benchmarks.effects --rows marginal --trials 200
    python -m benchmarks.effects --report                       # tables of all that was run

A row that is run again replaces its lines in ``benchmarks/results/effects.csv``.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from scipy.special import expit

from mmfusion import Genes
from mmfusion.estimators import FusionClassifier, FusionCox, FusionDiscreteTime, FusionRegressor
from mmfusion.fusion import JointFusion
from mmfusion.survival import surv

RESULTS = Path(__file__).parent / "results" / "effects.csv"
KINDS: dict[str, Any] = {
    "gaussian": FusionRegressor,
    "logistic": FusionClassifier,
    "cox": FusionCox,
    "discrete": FusionDiscreteTime,
}
GENES = [f"gene_{j}" for j in range(10)]
HORIZON, TIMES = 1.5, [0.5, 1.5]
#: Rows of the sample that truths without a closed form are read off.
LARGE = 400_000
CUTS = [0.15, 0.3, 0.5, 0.75, 1.0, 1.5, 2.0]


@dataclass(frozen=True)
class Mechanism:
    """How a study comes about.

    Attributes
    ----------
    kind : str
        Of the outcome.
    n : int
    effect : float
        On the linear predictor, given everything else.
    share : float
        Of the treated.
    centres : int
        Randomised as wholes, with effects of their own; 0 for none.
    heavy : bool
        Whether censoring takes most events.
    confounder : str
        "" for none; "easy": linear in genes; "sine", "product", "absolute".
    """

    kind: str
    n: int
    effect: float = 0.0
    share: float = 0.5
    centres: int = 0
    heavy: bool = False
    confounder: str = ""

    def draw(self, n: int, rng: np.random.Generator, arm: int | None = None) -> pd.DataFrame:
        """Return a table with the outcome in it; `arm` puts all rows in one, uncensored."""
        genes = rng.normal(size=(n, len(GENES)))
        frame = pd.DataFrame(genes, columns=GENES)
        steers = confounding(self.confounder, genes)
        prognosis = genes[:, 0] + 0.6 * genes[:, 1] + 0.4 * (genes[:, 2] ** 2 - 1) + steers
        chance: Any = self.share
        if self.confounder:
            chance = expit(1.2 * steers)
        treated = rng.random(n) < chance
        if self.centres:
            frame["centre"] = np.arange(n) // (self.n // self.centres)
            count = int(frame["centre"].iloc[-1]) + 1
            prognosis = prognosis + 0.4 * rng.normal(size=count)[frame["centre"]]
            order = rng.permutation(count) < round(self.share * count)
            treated = order[frame["centre"]]
        frame["treatment"] = (treated if arm is None else np.full(n, arm)).astype(float)
        eta = self.effect * frame["treatment"].to_numpy() + prognosis
        if self.kind == "gaussian":
            frame["y"] = 1 + eta + rng.normal(size=n)
        elif self.kind == "logistic":
            frame["y"] = (rng.random(n) < expit(eta - 0.5)).astype(int)
        else:
            frame["time"] = rng.exponential(np.exp(-eta))
            frame["event"] = True
            if arm is None:
                limit = rng.uniform(0, 1.2, n) if self.heavy else rng.uniform(0.5, 4, n)
                frame["event"] = frame["time"] <= limit
                frame["time"] = np.minimum(frame["time"], limit)
        return frame

    def outcome(self, frame: pd.DataFrame) -> Any:
        """Return the outcome of a table."""
        if self.kind in ("gaussian", "logistic"):
            return frame["y"].to_numpy()
        return surv(frame["time"], frame["event"])

    @property
    def horizon(self) -> float:
        """Up to when restricted means are taken."""
        return 0.6 if self.heavy else HORIZON


def confounding(kind: str, genes: np.ndarray) -> np.ndarray:
    """Return what steers treatment and outcome both."""
    shapes: dict[str, Callable[[], np.ndarray]] = {
        "": lambda: np.zeros(len(genes)),
        "easy": lambda: genes[:, 3] + 0.5 * genes[:, 4],
        "sine": lambda: 1.4 * np.sin(3 * genes[:, 3]),
        "product": lambda: genes[:, 3] * genes[:, 4],
        "absolute": lambda: 1.6 * (np.abs(genes[:, 3]) - 0.8),
    }
    return shapes[kind]()


def potential(mechanism: Mechanism) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return a large sample in the control and in the treated arm, uncensored."""
    draws = (mechanism.draw(LARGE, np.random.default_rng([7, a]), a) for a in (0, 1))
    control, treated = draws
    return control, treated


@cache
def classical_truth(mechanism: Mechanism) -> float:
    """Return what the classical model's coefficient of treatment tends to."""
    if mechanism.kind == "gaussian" or mechanism.effect == 0:
        return mechanism.effect
    n = 60_000
    frame = mechanism.draw(n, np.random.default_rng(11))
    model = KINDS[mechanism.kind]({}, structured="treatment", **options(mechanism))
    return float(model.fit(frame, mechanism.outcome(frame)).effects_.loc["treatment", "coef"])


@cache
def marginal_truth(mechanism: Mechanism) -> dict[str, float]:
    """Return the true value of each line of a table of marginal effects."""
    if mechanism.kind == "gaussian":
        return {"mean difference": mechanism.effect}
    control, treated = potential(mechanism)
    if mechanism.effect == 0:
        treated = control
    if mechanism.kind == "logistic":
        low, high = (float(arm["y"].mean()) for arm in (control, treated))
        odds = high / (1 - high) / (low / (1 - low))
        return {"risk difference": high - low, "risk ratio": high / low, "odds ratio": odds}
    at = mechanism.horizon
    times = [arm["time"].to_numpy() for arm in (control, treated)]
    low, high = (float((time > at).mean()) for time in times)
    areas = [float(np.minimum(time, at).mean()) for time in times]
    return {
        "survival difference": high - low,
        "restricted mean difference": areas[1] - areas[0],
        "hazard ratio": float(np.exp(classical_truth(replace(mechanism, kind="cox")))),
    }


def options(mechanism: Mechanism) -> dict[str, Any]:
    """Return what the estimator of an outcome needs to know."""
    found: dict[str, Any] = {"device": "cpu"}
    if mechanism.kind == "discrete":
        found["cuts"] = CUTS
    return found


def networks(seed: int, **changed: Any) -> dict[str, Any]:
    """Return small networks of the genes."""
    given = {
        "modalities": {"rna": Genes("gene_*", hidden=(16,), dropout=0.0)},
        "fusion": JointFusion("concat", dim=16, hidden=(16,), dropout=0.0),
        "epochs": 12,
        "patience": 4,
        "batch_size": 128,
        "learning_rate": 0.02,
        "random_state": seed,
    }
    return {**given, **changed}


#: What models of the folds are made of: the formula, and the networks.
MODELS: dict[str, Callable[[int], dict[str, Any]]] = {
    "none": lambda seed: {"modalities": {}, "structured": "treatment"},
    "formula": lambda seed: {"modalities": {}, "structured": "treatment + gene_0 + gene_1"},
    "networks": lambda seed: {"structured": "treatment", **networks(seed)},
    "overfitted": lambda seed: {
        "structured": "treatment",
        **networks(seed, epochs=60, patience=None, learning_rate=0.05),
    },
    "noise": lambda seed: {
        "structured": "treatment",
        **networks(
            seed,
            modalities={"noise": Genes("noise_*", hidden=(16,), dropout=0.0)},
            epochs=40,
            patience=None,
        ),
    },
}

Record = dict[str, Any]


def table(mechanism: Mechanism, model: str, inference: str, seed: int) -> list[Record]:
    """Return what the table of effects says of one study."""
    frame = study(mechanism, seed)
    given = {**MODELS[model](seed), **options(mechanism), "inference": inference}
    if mechanism.centres:
        given["cluster"] = "centre"
    if inference == "double_ml":
        given["treatment"] = "treatment"
    fitted = KINDS[mechanism.kind](**given).fit(frame, mechanism.outcome(frame))
    line = fitted.effects_.loc["treatment"]
    conditional = inference in ("cross_fit", "double_ml")
    truth = mechanism.effect if conditional else classical_truth(mechanism)
    record = {
        "quantity": "coefficient",
        "truth": truth,
        **{name: float(line[name]) for name in ("lower", "upper", "p", "se")},
        "estimate": float(line["coef"]),
    }
    if inference == "double_ml":
        record["flagged"] = bool(fitted.confounding_.warning)
    return [record]


def marginal(
    mechanism: Mechanism, model: str, propensity: str, splits: int, seed: int
) -> list[Record]:
    """Return what the table of marginal effects says of one study."""
    frame = study(mechanism, seed)
    given = {**MODELS[model](seed), **options(mechanism)}
    asked: dict[str, Any] = {"propensity": propensity, "splits": splits}
    if mechanism.kind in ("cox", "discrete"):
        asked["horizon"] = mechanism.horizon
    if mechanism.centres:
        asked["cluster"] = "centre"
    found = KINDS[mechanism.kind](**given).marginal_effect(
        frame, mechanism.outcome(frame), treatment="treatment", **asked
    )
    lines = found.table
    if lines.index.nlevels > 1:
        lines = lines.droplevel("time")
    records = []
    for quantity, truth in marginal_truth(mechanism).items():
        if quantity not in lines.index:
            continue
        line = lines.loc[quantity]
        ratio = quantity.endswith("ratio")
        record = {
            "quantity": quantity,
            "truth": np.log(truth) if ratio else truth,
            "estimate": np.log(line["estimate"]) if ratio else line["estimate"],
            "lower": np.log(line["lower"]) if ratio else line["lower"],
            "upper": np.log(line["upper"]) if ratio else line["upper"],
            "p": line["p"],
            "se": line["se"],
            "width": line["se"] / line["unadjusted_se"],
        }
        if propensity == "learn":
            record["flagged"] = bool(found.warning)
        records.append(record)
    return records


def study(mechanism: Mechanism, seed: int) -> pd.DataFrame:
    """Return the table of one study; a modality of pure noise stands in it too."""
    rng = np.random.default_rng([seed, mechanism.n])
    frame = mechanism.draw(mechanism.n, rng)
    noise = pd.DataFrame(
        np.random.default_rng([seed, 5]).normal(size=(mechanism.n, 10)),
        columns=[f"noise_{j}" for j in range(10)],
        index=frame.index,
    )
    return pd.concat([frame, noise], axis=1)


Row = Callable[[int], list[Record]]


def rows() -> dict[str, Row]:
    """Return all rows by name."""
    found: dict[str, Row] = {}

    def add(name: str, ask: Any, *how: Any) -> None:
        found[name] = lambda seed: ask(*how, seed)

    sized = [(150, 0.5), (400, 0.5), (400, 0.2), (1000, 0.5)]
    for kind in KINDS:
        for n, share in sized:
            for effect in (0.0, 0.5):
                mechanism = Mechanism(kind, n, effect, share)
                name = f"{kind}.{n}.{'half' if share == 0.5 else 'fifth'}.{effect:g}"
                add(f"table.{name}", table, mechanism, "none", "model")
                add(f"marginal.formula.{name}", marginal, mechanism, "formula", "randomised", 1)
                add(f"marginal.networks.{name}", marginal, mechanism, "networks", "randomised", 1)
        for centres in (20, 40):
            mechanism = Mechanism(kind, 400, 0.5, centres=centres)
            name = f"{kind}.400.centres{centres}.0.5"
            add(f"table.{name}", table, mechanism, "none", "model")
            add(f"marginal.formula.{name}", marginal, mechanism, "formula", "randomised", 1)
    for kind in ("cox", "discrete"):
        mechanism = Mechanism(kind, 400, 0.5, heavy=True)
        add(f"table.{kind}.400.heavy.0.5", table, mechanism, "none", "model")
        how = ("formula", "randomised", 1)
        add(f"marginal.formula.{kind}.400.heavy.0.5", marginal, mechanism, *how)
    for kind in ("gaussian", "cox"):
        mechanism = Mechanism(kind, 400, 0.5)
        add(f"table.networks.{kind}.400.half.0.5", table, mechanism, "networks", "model")
        for bad in ("overfitted", "noise"):
            how = (bad, "randomised", 1)
            add(f"marginal.{bad}.{kind}.400.half.0.5", marginal, mechanism, *how)
    mechanism = Mechanism("gaussian", 400, 0.5)
    add("table.cross_fit.gaussian.400.half.0.5", table, mechanism, "networks", "cross_fit")
    for shape in ("easy", "sine", "product", "absolute"):
        mechanism = Mechanism("gaussian", 600, 0.5, confounder=shape)
        add(f"confounded.double_ml.gaussian.{shape}", table, mechanism, "networks", "double_ml")
        how = ("networks", "learn", 1)
        for kind in ("gaussian", "cox"):
            mechanism = Mechanism(kind, 600, 0.5, confounder=shape)
            add(f"confounded.marginal.{kind}.{shape}", marginal, mechanism, *how)
    mechanism = Mechanism("cox", 600, 0.5, confounder="easy")  # with three splits, the default
    add("confounded.splits.cox.easy", marginal, mechanism, "networks", "learn", 3)
    return found


def summarise(name: str, records: pd.DataFrame, seconds: float) -> pd.DataFrame:
    """Return a line for each quantity of a row."""
    lines = []
    for quantity, cell in records.groupby("quantity", sort=False):
        covered = (cell["lower"] <= cell["truth"]) & (cell["truth"] <= cell["upper"])
        rejected = cell["p"] < 0.05
        n = len(cell)
        line = {"row": name, "quantity": quantity, "trials": n}
        for what, share in (("covered", covered.mean()), ("rejected", rejected.mean())):
            line[what] = f"{share:.3f}"
            line[f"{what}_error"] = f"{np.sqrt(share * (1 - share) / n):.3f}"
        line["truth"] = f"{cell['truth'].mean():.4f}"
        line["bias"] = f"{(cell['estimate'] - cell['truth']).mean():+.4f}"
        line["sd"] = f"{cell['estimate'].std():.4f}"
        line["se"] = f"{cell['se'].mean():.4f}"
        line["width"] = f"{cell['width'].mean():.3f}" if "width" in cell else ""
        line["flagged"] = f"{cell['flagged'].mean():.3f}" if "flagged" in cell else ""
        line["missed_not_flagged"] = ""
        if "flagged" in cell:
            line["missed_not_flagged"] = f"{(~covered & ~cell['flagged'].astype(bool)).mean():.3f}"
        line["seconds"] = f"{seconds / n:.2f}"
        lines.append(line)
    return pd.DataFrame(lines)


def run(names: list[str], trials: int, limit: float, output: Path) -> None:
    """Run some rows, each until its trials or its seconds are spent, and write their lines."""
    known = rows()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")
    for name in names:
        started, records = time.process_time(), []
        for seed in range(trials):
            records += known[name](seed)
            if time.process_time() - started > limit:
                break
        found = summarise(name, pd.DataFrame(records), time.process_time() - started)
        if output.exists():
            held = pd.read_csv(output, dtype=str, keep_default_na=False)
            found = pd.concat([held[held["row"] != name], found])
        found.sort_values("row", kind="stable").to_csv(output, index=False)
        print(found[found["row"] == name].to_string(index=False), flush=True)


def report(output: Path) -> str:
    """Return what `output` holds as a table in Markdown."""
    table = pd.read_csv(output, dtype=str, keep_default_na=False)
    lines = [
        "| row | quantity | trials | covered | rejected | bias | sd | mean se | width | flagged |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |",
    ]
    for line in table.to_dict("records"):
        shares = (f"{line[w]} ± {line[f'{w}_error']}" for w in ("covered", "rejected"))
        cells = [f"`{line['row']}`", line["quantity"], line["trials"], *shares]
        cells += [line[name] for name in ("bias", "sd", "se", "width", "flagged")]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--rows", nargs="+", default=[], help="how the rows' names start")
    parser.add_argument("--trials", type=int, default=400)
    parser.add_argument("--limit", type=float, default=1e9, help="processor seconds a row")
    parser.add_argument("--output", type=Path, default=RESULTS)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--report", action="store_true")
    arguments = parser.parse_args()
    if arguments.list:
        print("\n".join(rows()))
    elif arguments.report:
        print(report(arguments.output))
    else:
        chosen = [name for name in rows() if name.startswith(tuple(arguments.rows))]
        if not chosen:
            parser.error("the rows parameter must start the name of a row: see --list")
        run(chosen, arguments.trials, arguments.limit, arguments.output)


if __name__ == "__main__":
    main()
