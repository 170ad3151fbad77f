"""The package's rooms import one way, import no GPL code, and importing the package is light."""

from __future__ import annotations

import ast
import importlib.metadata
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import mmfusion

ROOT = Path(__file__).parents[1] / "mmfusion"

#: Which rooms each room may import, beside itself. "" is the package's own __init__ (its version).
BELOW = {
    "inputs": set(),
    "survival": {"inputs"},
    "modalities": {"inputs"},
    "metrics": {"inputs", "survival"},
    "datasets": {"inputs", "survival"},
    "encoders": {"inputs", "modalities"},
    "fusion": {"inputs", "modalities"},
    "heads": {"inputs", "survival", "metrics"},
    "structured": {"inputs"},
    "objectives": {"inputs"},
    "training": {"inputs", "heads", "fusion", "objectives", "modalities", "survival", "metrics"},
    "estimators": {
        "",
        "inputs",
        "survival",
        "modalities",
        "metrics",
        "encoders",
        "fusion",
        "heads",
        "structured",
        "objectives",
        "training",
    },
}
BELOW["evaluation"] = {"inputs", "survival", "modalities", "metrics"}
BELOW["testing"] = {"", "datasets", "estimators", *BELOW["estimators"]}
BELOW["recipes"] = {"estimators", *BELOW["estimators"]}
BELOW[""] = {"datasets", "testing", "recipes", *BELOW["testing"]}

#: Of a room on the left, only these modules, where `training` needs a contract and no more.
ONLY = {("training", "heads"): {"mmfusion.heads", "mmfusion.heads.base"}}

MODULES = sorted(ROOT.rglob("*.py"))


def imported(path: Path, root: Path = ROOT) -> Iterator[tuple[int, str]]:
    """Yield line and dotted name of each import in a file; ``from a import b`` yields ``a.b``."""
    package = [root.name, *path.relative_to(root).parts[:-1]]
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base = [*base, *(node.module.split(".") if node.module else [])]
            for alias in node.names:
                yield node.lineno, ".".join([*base, alias.name])


def room(dotted: str, root: Path = ROOT) -> str:
    """Return the room a dotted name of the package lies in, "" for the package itself."""
    parts = dotted.split(".")
    return parts[1] if len(parts) > 1 and (root / parts[1]).is_dir() else ""


def upward(path: Path, root: Path = ROOT) -> list[str]:
    """Return each import of a file that its room must not make."""
    parts = path.relative_to(root).parts
    mine = parts[0] if len(parts) > 1 else ""
    wrong = []
    for line, name in imported(path, root):
        if name.split(".")[0] != root.name:
            continue
        theirs = room(name, root)
        if theirs == mine:
            continue
        only = ONLY.get((mine, theirs))
        narrow = only is None or name in only or name.rpartition(".")[0] in only
        if theirs not in BELOW[mine] or not narrow:
            wrong.append(f"{path.relative_to(root.parent)}:{line} imports {name}")
    return wrong


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {path.relative_to(ROOT).parts[0] for path in MODULES if path.parent != ROOT}
    assert rooms <= set(BELOW), f"say in BELOW what {sorted(rooms - set(BELOW))} may import"


def test_imports_run_one_way() -> None:
    assert len(MODULES) > 10
    assert [line for path in MODULES for line in upward(path)] == []


@pytest.mark.parametrize(
    ("file", "statement", "allowed"),
    [
        ("heads/cox.py", "from mmfusion.encoders import mlp", False),
        ("heads/cox.py", "from ..encoders.mlp import MLP", False),
        ("heads/cox.py", "from .base import Head", True),
        ("fusion/joint.py", "import mmfusion.modalities.base", True),
        ("survival/curves.py", "from mmfusion import heads", False),
        ("survival/curves.py", "from mmfusion import __version__", False),
        ("training/trainer.py", "from mmfusion.heads.base import Head", True),
        ("training/trainer.py", "from mmfusion.heads.cox import CoxHead", False),
        ("estimators/cox.py", "from ..heads.cox import CoxHead", True),
    ],
)
def test_the_check_itself_sees_each_form_of_import(
    tmp_path: Path, file: str, statement: str, allowed: bool
) -> None:
    root = tmp_path / "mmfusion"
    for name in BELOW:
        (root / name).mkdir(parents=True, exist_ok=True)
    path = root / file
    path.write_text(statement + "\n", encoding="utf-8")
    assert (upward(path, root) == []) is allowed


def test_no_gpl_library_is_imported() -> None:
    gpl = [
        f"{path.relative_to(ROOT.parent)}:{line}"
        for path in MODULES
        for line, name in imported(path)
        if name.split(".")[0] == "sksurv"
    ]
    assert gpl == []


#: Slow to import, and what only some calls need: no room loads these before one of them.
HEAVY = {
    *("captum", "lifelines", "lightning_fabric", "matplotlib", "optuna", "pycox", "rich", "skops"),
    *("timm", "torchmetrics", "torchvision"),
    *(f"sklearn.{part}" for part in ("decomposition", "linear_model", "metrics", "preprocessing")),
    *(f"sklearn.{part}" for part in ("datasets", "model_selection", "pipeline")),
}


@pytest.mark.parametrize(
    ("imported", "more"),
    [
        ("mmfusion", {"torch", "sklearn", "pandas", "numpy"}),
        ("mmfusion.survival", {"torch", "sklearn", "tqdm"}),
        ("mmfusion.metrics", {"torch", "tqdm"}),
        ("mmfusion.datasets", {"torch", "tqdm"}),
        ("mmfusion.modalities", set()),
        ("mmfusion.estimators", set()),
    ],
)
def test_importing_is_light(imported: str, more: set[str]) -> None:
    code = f"import {imported}, sys; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert imported in done.stdout.split()
    assert (HEAVY | more).intersection(done.stdout.split()) == set()


def test_public_names_are_there_at_first_use() -> None:
    code = "import mmfusion; print(*(getattr(mmfusion, n).__name__ for n in mmfusion.__all__[:4]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Genes", "Image", "Points", "Tabular"]
    assert set(mmfusion.__all__) <= set(dir(mmfusion))
    assert mmfusion.surv is mmfusion.survival.surv
    with pytest.raises(AttributeError, match="has no attribute 'Tabula'"):
        mmfusion.Tabula


def test_the_version_is_that_of_the_installed_package() -> None:
    assert mmfusion.__version__ == importlib.metadata.version("mmfusion")
