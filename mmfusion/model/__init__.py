"""One model under all estimators: from a plan and the rows of a study to a fitted model."""

from __future__ import annotations

from mmfusion.model.beside import Beside
from mmfusion.model.fit import Model, prepare
from mmfusion.model.inference import Inference, Question
from mmfusion.model.network import Network, Start
from mmfusion.model.plan import Plan
from mmfusion.model.seen import Seen
from mmfusion.model.study import Sample, Study

__all__ = [
    "Beside",
    "Inference",
    "Model",
    "Network",
    "Plan",
    "Question",
    "Sample",
    "Seen",
    "Start",
    "Study",
    "prepare",
]
