"""Settings for the tests of the training loop."""

from __future__ import annotations

from typing import Any

from mmfusion.training import Training, TrainingSettings

__all__ = ["make_settings"]


def make_settings(**given: Any) -> TrainingSettings:
    rare = {**Training(ema=None).get_params(), "callbacks": ()}
    often = {"learning_rate": 1e-3, "modality_dropout": 0.0, "device": "cpu", "verbose": 0}
    return TrainingSettings(**(often | rare | given))
