"""The training loop, exact gradients of large risk sets, early stopping, devices."""

from mmfusion.training.batches import MIN_VALIDATION_ROWS, deal, split_validation
from mmfusion.training.callbacks import Callback, ProgressBar, StopAt, TrainingState
from mmfusion.training.device import make_fabric
from mmfusion.training.inference import network_outputs
from mmfusion.training.rows import Rows
from mmfusion.training.settings import Training, TrainingSettings
from mmfusion.training.trainer import (
    InterruptedWarning,
    TrainingDivergedError,
    TrainingResult,
    train,
    train_members,
)
from mmfusion.training.two_pass import two_pass_backward

__all__ = [
    "MIN_VALIDATION_ROWS",
    "Callback",
    "InterruptedWarning",
    "ProgressBar",
    "Rows",
    "StopAt",
    "Training",
    "TrainingDivergedError",
    "TrainingResult",
    "TrainingSettings",
    "TrainingState",
    "deal",
    "make_fabric",
    "network_outputs",
    "split_validation",
    "train",
    "train_members",
    "two_pass_backward",
]
