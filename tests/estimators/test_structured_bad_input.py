"""What a structured part cannot be fitted to: each has its own error or warning."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest

from mmfusion.estimators import FusionClassifier, FusionCox, FusionRegressor
from mmfusion.modalities import Tabular
from mmfusion.structured import CollinearityError, SeparationWarning
from mmfusion.survival import surv

DEEP = {"deep": Tabular(["z"], hidden=(4,))}
KINDS = {"cox": FusionCox, "classifier": FusionClassifier, "regressor": FusionRegressor}


def draw(n: int = 60) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return a table, and an outcome for each estimator."""
    rng = np.random.default_rng(0)
    frame = pd.DataFrame(rng.normal(size=(n, 3)), columns=["age", "dose", "z"])
    frame["site"] = 7.0
    frame["arm"] = "a"
    frame["dose_mg"] = 1000 * frame["dose"]
    time = rng.exponential(size=n)
    event = rng.random(n) < 0.6
    outcomes = {
        "cox": surv(time, event),
        "classifier": np.where(event, "dead", "alive"),
        "regressor": time,
    }
    return frame, outcomes


def fit(kind: str, formula: str, frame: pd.DataFrame, y: Any, deep: bool = False) -> Any:
    model = KINDS[kind](DEEP if deep else {}, structured=formula, epochs=2, device="cpu")
    return model.fit(frame, y)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_column_that_is_not_there(kind: str, deep: bool) -> None:
    frame, y = draw()
    with pytest.raises(ValueError, match=r"Column 'dosage' not found in the table\. .*'dose'"):
        fit(kind, "age + dosage", frame, y[kind], deep)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_a_constant_column(kind: str, deep: bool) -> None:
    frame, y = draw()
    with pytest.raises(ValueError, match=r"constant columns: 'site' \(always 7\)"):
        fit(kind, "age + site", frame, y[kind], deep)
    with pytest.raises(ValueError, match=r"'arm' is a factor of one level .*'a'"):
        fit(kind, "age + arm", frame, y[kind], deep)


@pytest.mark.parametrize("deep", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_columns_that_say_the_same(kind: str, deep: bool) -> None:
    frame, y = draw()
    with pytest.raises(
        CollinearityError, match=r"'dose_mg' is a linear combination of 'dose'"
    ) as caught:
        fit(kind, "age + dose + dose_mg", frame, y[kind], deep)
    assert caught.value.columns == ("dose_mg",)
    twice = pd.concat([frame, frame[["dose"]]], axis=1)
    with pytest.raises(ValueError, match=r"several columns of the same name: \['dose'\]"):
        fit(kind, "age + dose", twice, y[kind], deep)


@pytest.mark.parametrize("kind", KINDS)
def test_more_columns_than_rows(kind: str) -> None:
    frame, y = draw(20)
    wide = pd.DataFrame(np.random.default_rng(1).normal(size=(20, 25))).add_prefix("g")
    formula = " + ".join(wide)
    with pytest.raises(CollinearityError, match=r"2[56] coefficients for 20 rows, without a pen"):
        fit(kind, formula, pd.concat([frame, wide], axis=1), y[kind])


def test_as_many_columns_as_rows() -> None:
    frame, y = draw(4)
    with pytest.raises(ValueError, match=r"Got 4 coefficients without a penalty for 4 rows"):
        fit("regressor", "age + dose + z", frame, y["regressor"])
    effects = fit("regressor", "age + dose", frame, y["regressor"]).effects_
    assert np.isfinite(effects[["se", "lower", "upper"]].to_numpy(float)).all()


def test_perfect_separation() -> None:
    frame, y = draw()
    dead = y["classifier"] == "dead"
    with pytest.warns(SeparationWarning, match="of Intercept, shock go to infinity"):
        model = fit("classifier", "age + shock", frame.assign(shock=1.0 * dead), y["classifier"])
    assert np.isnan(model.effects_.loc["shock", ["se", "p"]].to_numpy(float)).all()
    # Those in shock die first, one after the other: the hazard ratio has no upper end.
    late = surv(np.arange(1.0, 61), np.arange(60) % 3 > 0)
    early = frame.assign(shock=(np.arange(60) < 10) * 1.0)
    with pytest.warns(SeparationWarning, match="coefficients of shock go to infinity"):
        model = fit("cox", "age + shock", early, late)
    assert np.isfinite(model.effects_.loc["age", ["coef", "se"]].to_numpy(float)).all()
    assert np.isfinite(model.predict(early)).all()


@pytest.mark.parametrize("deep", [False, True])
def test_all_censored(deep: bool) -> None:
    frame, y = draw()
    none = surv(y["cox"]["time"], np.zeros(60, dtype=bool))
    with pytest.raises(ValueError, match=r"at least one event. Got 60 rows, all censored"):
        fit("cox", "age", frame, none, deep)
    with pytest.raises(ValueError, match=r"needs at least 2 classes in y; got 1 class"):
        fit("classifier", "age", frame, np.full(60, "alive"), deep)


@pytest.mark.parametrize("oldest", [3.0, 30.0, 99.0])
def test_one_event(oldest: float) -> None:
    frame, _ = draw()
    event = np.arange(60) == 0
    frame.loc[event, "age"] = frame["age"].median()  # neither youngest nor oldest
    model = fit("cox", "age", frame, surv(np.arange(60.0), event))
    assert np.isfinite(model.effects_.loc["age", ["coef", "se"]].to_numpy(float)).all()
    frame.loc[event, "age"] = oldest  # of all, however far: there is none
    with pytest.warns(SeparationWarning, match="coefficients of age go to infinity"):
        fit("cox", "age", frame, surv(np.arange(60.0), event))
