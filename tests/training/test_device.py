"""Where and how precisely a network runs."""

from __future__ import annotations

import warnings

import pytest
import torch

from mmfusion.training import make_fabric


def available() -> list[str]:
    mps = torch.backends.mps.is_available()
    return ["cpu", *["cuda"] * (torch.cuda.device_count() > 0), *["mps"] * mps]


def test_auto_is_an_accelerator_where_there_is_one() -> None:
    assert make_fabric("auto").device.type == available()[-1]


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_a_device_is_used_or_refused(name: str) -> None:
    if name in available():
        runtime = make_fabric(name, fall_back=True)
        assert runtime.device == torch.empty(0, device=name).device
        return
    with pytest.raises(ValueError, match=f"device='{name}' was asked for, but this machine has no"):
        make_fabric(name)
    with pytest.warns(UserWarning, match="using the CPU"):
        assert make_fabric(name, fall_back=True).device == torch.device("cpu")


@pytest.mark.gpu
def test_a_numbered_device() -> None:
    assert make_fabric("cuda:0").device == torch.device("cuda", 0)


@pytest.mark.parametrize(
    ("precision", "dtype"), [("32-true", torch.float32), ("bf16-mixed", torch.bfloat16)]
)
def test_precision(precision: str, dtype: torch.dtype) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with make_fabric("cpu", precision).autocast():
            assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == dtype
    assert torch.nn.Linear(2, 2)(torch.ones(1, 2)).dtype == torch.float32


@pytest.mark.parametrize("name", ["tpu", "cuda:x", "cpu:1", "mps:0", ""])
def test_devices_that_are_none(name: str) -> None:
    with pytest.raises(ValueError, match=r"device parameter must be 'auto', 'cpu', .* Got"):
        make_fabric(name)


def test_precisions_that_are_none() -> None:
    with pytest.raises(ValueError, match=r"precision parameter must be one of .* Got '16-mixed'"):
        make_fabric("cpu", "16-mixed")
