"""Fixtures of the data sets' tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from mmfusion.datasets import _store
from tests.datasets.network import Network


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Network:
    """Replace the network by a pretended one that serves nothing, and the data folders by none."""
    pretended = Network()
    monkeypatch.setattr(_store, "urlopen", pretended.urlopen)
    monkeypatch.delenv(_store.VARIABLE, raising=False)
    monkeypatch.setattr(_store, "user_data_folder", lambda: tmp_path / "user")
    return pretended
