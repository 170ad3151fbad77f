"""What every test has: one thread, fixed seeds, real data where there is some, small cohorts."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import settings

from tests.helpers import make_cohort

# Small tensors: a second thread costs more than it brings (the Makefile does it for NumPy's BLAS).
torch.set_num_threads(1)

# The same examples in every run: what fails, fails for whoever looks.
settings.register_profile("mmfusion", derandomize=True, deadline=None)
settings.load_profile("mmfusion")


@pytest.fixture(autouse=True)
def _seeds() -> None:
    """Start every test from the same global seeds, whatever ran before it in this worker."""
    np.random.seed(0)  # noqa: NPY002 - libraries under comparison draw from the global state
    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of real data, or skip."""
    folder = os.environ.get("MMFUSION_DATA")
    if not folder:
        pytest.skip("MMFUSION_DATA is not set: the folder of real data is not at hand")
    if not Path(folder).is_dir():
        pytest.skip(f"MMFUSION_DATA={folder!r} is not a folder: real data is not at hand")
    return Path(folder)


@pytest.fixture
def cohort() -> tuple[pd.DataFrame, np.ndarray]:
    """Return 120 rows of table, genes and images, some images missing, and their survival."""
    return make_cohort(120)


@pytest.fixture
def complete_cohort() -> tuple[pd.DataFrame, np.ndarray]:
    """Return the same cohort with every image there."""
    return make_cohort(120, missing=0.0)


def pytest_ignore_collect(collection_path: Path) -> bool | None:
    """Leave helpers and scripts beside the tests alone: --doctest-modules would run them."""
    is_script = collection_path.suffix == ".py" and not collection_path.name.startswith("test_")
    return True if is_script else None


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if torch.cuda.is_available():
        return
    skip = pytest.mark.skip(reason="no CUDA device")
    for item in items:
        if "gpu" in item.keywords:
            item.add_marker(skip)


@pytest.fixture
def one_network(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let estimators have, by default, one network and no linear part: tests of the network."""
    from mmfusion import estimators

    for name in estimators.__all__:
        defaults = getattr(getattr(estimators, name).__init__, "__kwdefaults__", None)
        if defaults and "n_members" in defaults:
            monkeypatch.setitem(defaults, "linear", False)
            monkeypatch.setitem(defaults, "n_members", 1)


@pytest.fixture
def two_networks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let two networks be the default where five are: tests of what is around them."""
    monkeypatch.setattr("mmfusion.model.plan.MEMBERS", 2)
