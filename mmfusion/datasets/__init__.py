"""Data sets: real cohorts, and simulated ones whose truth is known.

Each loader returns a `sklearn.utils.Bunch` with ``frame`` (a row a subject), ``target``,
``DESCR``, ``source`` and ``license``; what is simulated with a known truth may say it in place of
the last two. ``load_*``, ``make_*`` and ``simulate_*`` need no connection. ``fetch_*`` look in the
folder named by the environment variable ``MMFUSION_DATA`` and in the user's data folder, and else
download, convert and check.
"""

from mmfusion.datasets._checks import ChecksumError
from mmfusion.datasets.deepsurv import fetch_deepsurv
from mmfusion.datasets.digits import DigitsTruth, load_digits_cohort
from mmfusion.datasets.glioma import fetch_glioma
from mmfusion.datasets.houses import fetch_houses
from mmfusion.datasets.metabric import load_metabric
from mmfusion.datasets.shapes import ShapesTruth, make_shapes
from mmfusion.datasets.simulated import make_additive, make_interaction
from mmfusion.datasets.simulated_missing import MissingTruth, simulate_missing_modalities
from mmfusion.datasets.tcga_omics import fetch_tcga_omics

__all__ = [
    "ChecksumError",
    "DigitsTruth",
    "MissingTruth",
    "ShapesTruth",
    "fetch_deepsurv",
    "fetch_glioma",
    "fetch_houses",
    "fetch_tcga_omics",
    "load_digits_cohort",
    "load_metabric",
    "make_additive",
    "make_interaction",
    "make_shapes",
    "simulate_missing_modalities",
]
