"""Small fits of every kind give the results that are frozen beside this file.

To see which results have moved by more than that: ``MMFUSION_GOLDEN_RTOL=1e-10``. To freeze them
anew: ``python -m tests.golden.write``. Another processor or another torch may round the last bit
otherwise: freeze anew from a version of before on that machine.
"""

from __future__ import annotations

import json
import os
from typing import Any

import numpy as np
import pytest

from tests.golden.cases import CASES, results
from tests.golden.write import FROZEN

#: Largest difference of an array as a share of its largest entry; 0 is equality to the last bit.
RTOL = float(os.environ.get("MMFUSION_GOLDEN_RTOL", 0))


def difference(found: Any, frozen: Any) -> float:
    """Return the largest difference over the largest entry; inf where no number says it."""
    new, old = np.asarray(found), np.asarray(frozen)
    if new.shape != old.shape or new.dtype.kind != old.dtype.kind or new.dtype.kind not in "fi":
        return 0.0 if new.shape == old.shape and np.array_equal(new, old) else np.inf
    new, old = new.astype(float), old.astype(float)
    finite = np.isfinite(old)
    same = np.array_equal(new[~finite], old[~finite], equal_nan=True)
    if not same or not np.isfinite(new[finite]).all():
        return np.inf
    apart = np.abs(new[finite] - old[finite]).max(initial=0.0)
    return 0.0 if apart == 0 else float(apart / np.abs(old[finite]).max())


def differing(found: dict[str, Any], frozen: dict[str, Any]) -> list[str]:
    """Return a line for each array that is further from what is frozen than RTOL."""
    lines = [f"{name}: not frozen" for name in found.keys() - frozen.keys()]
    lines += [f"{name}: gone" for name in frozen.keys() - found.keys()]
    for name in found.keys() & frozen.keys():
        apart = difference(found[name], frozen[name])
        if not apart <= RTOL:
            lines.append(f"{name}: relative difference {apart:.1e}")
    return sorted(lines)


@pytest.fixture(scope="module")
def frozen() -> dict[str, dict[str, Any]]:
    return json.loads(FROZEN.read_text(encoding="utf-8"))


def test_each_case_is_frozen(frozen: dict[str, Any]) -> None:
    assert set(frozen) == set(CASES)


@pytest.mark.parametrize("name", CASES)
def test_results_are_those_frozen(name: str, frozen: dict[str, Any]) -> None:
    lines = differing(results(name), frozen[name])
    assert not lines, f"{name} has moved (RTOL {RTOL:g}):\n" + "\n".join(lines)


@pytest.mark.parametrize(
    ("found", "said"),
    [
        ([1.0, 2.0], 0.0),
        ([1.0, 2.0 + 2.0**-51], 2.0**-52),
        ([1.0, 3.0], 0.5),
        ([1.0, np.nan], np.inf),
        ([1.0], np.inf),
        (["a", "b"], np.inf),
    ],
)
def test_the_comparison_sees_the_last_bit(found: list[Any], said: float) -> None:
    assert difference(found, [1.0, 2.0]) == said
    assert differing({"x": found}, {"x": [1.0, 2.0]}) == [] or said > RTOL
