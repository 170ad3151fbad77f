"""Draw the figures of docs/figures.md: ``python docs/make_figures.py`` (about a minute)."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd

from mmfusion import Genes, Image, Tabular, surv
from mmfusion.datasets import load_digits_cohort
from mmfusion.estimators import FusionCox, FusionPAMM
from mmfusion.interpret import attribute, attribute_over_time, modality_value, plots
from mmfusion.metrics import net_benefit, survival_calibration

FOLDER = Path(__file__).with_name("figures")
TIME = 24.0


def save(name: str, on: Callable[[Any], Any], size: tuple[float, float] = (5.0, 3.4)) -> None:
    figure, ax = plt.subplots(figsize=size, layout="constrained")
    on(ax)
    figure.savefig(FOLDER / f"{name}.png", dpi=70, metadata={"Software": None})
    plt.close(figure)


def incidence() -> None:
    """Draw two causes, the second of which is the likelier the older a patient is."""
    cohort = load_digits_cohort(1500, n_genes=2, random_state=0)
    old = np.random.default_rng(0).normal(60, 10, 1500) < cohort.frame["age"]
    cause = np.where(cohort.target["event"], 1 + old, 0)
    y = surv(cohort.target["time"], cause)
    model = FusionPAMM({}, structured="s(age) + C(stage)").fit(cohort.frame[:1000], y[:1000])
    test, times = cohort.frame[1000:], np.linspace(2, 100, 25)
    predicted = model.predict_cumulative_incidence_function(test, times, cause=2)
    save(
        "incidence",
        lambda ax: plots.plot_incidence(
            y[1000:], predicted.iloc[:, 11], 2, ax, predicted=predicted, time_label="months"
        ),
    )


def main() -> None:
    warnings.simplefilter("ignore")
    FOLDER.mkdir(exist_ok=True)
    cohort = load_digits_cohort(1500, n_genes=30, random_state=0)
    train, test = cohort.frame[:1000], cohort.frame[1000:]
    y_train, y = cohort.target[:1000], cohort.target[1000:]
    model = FusionCox(
        {
            "image": Image("image", size=8, channels="L"),
            "rna": Genes("gene_*", hidden=(32,)),
            "clinic": Tabular(["sex"]),
        },
        structured="treatment + C(stage) + s(age)",
        epochs=30,
        random_state=0,
    ).fit(train, y_train)
    pamm = FusionPAMM(modalities={}, structured="tv(treatment) + te(age, gene_000) + C(stage)").fit(
        train, y_train
    )
    risk, curves = model.predict(test), model.predict_survival_function(test, [TIME])
    order = np.argsort(risk)[[25, 250, 475]]
    labels = ["low risk", "medium", "high risk"]
    times = np.linspace(2, 100, 25)

    save("forest", lambda ax: model.plot_effects(ax=ax), (6.0, 2.4))
    save("smooth", lambda ax: model.plot_effects("s(age)", ax))
    save("time_varying", lambda ax: pamm.plot_effects("tv(treatment)", ax))
    save("surface", lambda ax: pamm.plot_effects("te(age, gene_000)", ax))
    save(
        "curves",
        lambda ax: plots.plot_survival_curves(
            model.survival_interval(test.iloc[order], times, train, y_train),
            ax,
            labels=labels,
            time_label="months",
        ),
    )
    save("risk_groups", lambda ax: plots.plot_risk_groups(y, risk, ax, time_label="months"))
    residuals = model.residuals(test, y, "scaled_schoenfeld")
    event_time = pd.Series(y["time"], test.index)[residuals.index]
    save(
        "schoenfeld",
        lambda ax: plots.plot_schoenfeld(
            residuals["treatment"],
            event_time,
            ax,
            coef=model.effects_.loc["treatment", "coef"],
            p=model.check_proportional_hazards(test, y).loc["treatment", "p"],
            time_label="months",
        ),
    )
    save("calibration", lambda ax: plots.plot_calibration(survival_calibration(y, curves), ax))
    save("auc", lambda ax: plots.plot_auc(y, risk, ax=ax, time_label="months"))
    many = model.predict_survival_function(test, times)
    save("brier", lambda ax: plots.plot_brier(y, many, ax, time_label="months"))
    benefit = net_benefit(y, 1 - curves.iloc[:, 0], time=TIME)
    save("decision", lambda ax: plots.plot_decision(benefit, ax))
    found = attribute(model, test)
    one = int(order[2])
    place = list(found.owners["image"]).index(one)
    save(
        "image",
        lambda ax: plots.plot_attribution_image(
            np.asarray(test["image"].iloc[one]), found.images["image"][place], ax
        ),
        (6.0, 2.2),
    )
    save("genes", lambda ax: plots.plot_attribution_bars(found.tables["rna"], ax, n=10))
    rna = [name for name in train if name.startswith("gene_")]
    single = pd.concat(
        [FusionCox(modalities={}, structured=name).fit(train, y_train).effects_ for name in rna]
    )
    save("volcano", lambda ax: plots.plot_volcano(single, ax))
    values = attribute_over_time(model, test.iloc[[one]], np.linspace(4, 60, 8)).values
    wide = values.pivot_table("value", index="time", columns="feature", aggfunc="sum")
    save("over_time", lambda ax: plots.plot_attribution_over_time(wide, ax, time_label="months"))
    worth = modality_value(model, test, y, n_bootstrap=100)
    save("shapley", lambda ax: plots.plot_shapley(worth.table, ax, label="share of C"), (5.0, 2.2))
    incidence()
    save("learning", lambda ax: plots.plot_learning_curves(model.history_, ax))


if __name__ == "__main__":
    main()
