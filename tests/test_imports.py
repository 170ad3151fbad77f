"""The package's rooms import one way, import no GPL code, and importing the package is light."""

from __future__ import annotations

import ast
import importlib.metadata
import re
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
    "model": {
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
BELOW["interpret"] = {"", "evaluation", "model", *BELOW["model"]}
BELOW["estimators"] = {"interpret", *BELOW["interpret"]}
BELOW["tuning"] = {"estimators", "evaluation", *BELOW["estimators"]}
BELOW["testing"] = {"", "datasets", "estimators", *BELOW["estimators"]}
BELOW["recipes"] = {"estimators", *BELOW["estimators"]}
BELOW["cli"] = {"datasets", "tuning", *BELOW["tuning"]}
BELOW[""] = {"cli", "datasets", "testing", "recipes", *BELOW["testing"]}

#: Of a room on the left, only these modules, where `training` needs a contract and no more.
ONLY = {("training", "heads"): {"mmfusion.heads", "mmfusion.heads.base"}}

#: Layers of a room's files and sub-packages, the lowest first: no import goes up or stays within a
#: layer. A name that is not listed is free.
WITHIN = {
    "modalities": [{"base"}, {"genes", "image", "points", "tabular"}, {"infer"}],
    "encoders": [{"base"}, {"cnn", "mlp", "pointnet", "points", "vision"}, {"build"}],
    "fusion": [{"base"}, {"operators"}, {"strategy"}],
    "heads": [
        {"base"},
        {"categorical", "cox", "discrete", "gaussian", "nothing"},
        {"piecewise"},
    ],
    "objectives": [{"base"}, {"contrastive", "correlation", "latent", "reconstruction"}],
    "metrics": [
        {"_observed", "_quadrature", "auc", "brier", "calibration", "concordance"},
        {"crps", "prediction_intervals", "predictive"},
        {"conformal", "distribution_checks", "recalibration"},
        {"scorers"},
        {"distribution_scorers"},
    ],
    "structured": [{"rows"}, {"blocks"}, {"design"}, {"likelihood"}, {"newton"}, {"fit"}, {"held"}],
    "model": [
        {"network", "pool_rows", "roles"},
        {"subjects"},
        {"plan", "pools"},
        {"study"},
        {"folds", "learning", "structured"},
        {"deep", "late"},
        {"fit"},
        {"confounding", "measured", "nuisance"},
        {"cross_fit", "double_ml"},
        {"inference", "marginal_table"},
        {"bands", "likelihood_ratio", "marginal", "restore", "seen", "summary"},
    ],
}

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


def file_of(dotted: str, root: Path = ROOT) -> Path:
    """Return the file that a dotted name of the package stands for, or stands in."""
    path = root.parent.joinpath(*dotted.split("."))
    if path.is_dir():
        return path / "__init__.py"
    module = path.with_name(f"{path.name}.py")
    return module if module.is_file() else file_of(dotted.rpartition(".")[0], root)


def reached(path: Path, root: Path = ROOT) -> set[Path]:
    """Return the files that the imports of a file run, wherever in it they stand.

    An import runs the ``__init__`` of each package on its way. One that encloses the importing file
    runs already, so that it counts only where a name is taken from it: the files of a room import
    each other directly.
    """
    files = set()
    for _, name in imported(path, root):
        if name.split(".")[0] == root.name:
            file = file_of(name, root)
            on_the_way = {
                parent / "__init__.py" for parent in file.parents if root in parent.parents
            }
            files |= {file} | {init for init in on_the_way if init.parent not in path.parents}
    return {file for file in files - {path} if file.is_file()}


def circles(root: Path = ROOT) -> list[set[str]]:
    """Return the sets of files of which each imports each, directly or by others."""
    graph = {path: reached(path, root) for path in sorted(root.rglob("*.py"))}
    beyond: dict[Path, set[Path]] = {}
    for path in graph:
        found: set[Path] = set()
        ahead = [path]
        while ahead:
            new = graph[ahead.pop()] - found
            found |= new
            ahead += new
        beyond[path] = found
    loops = {
        frozenset(other for other in beyond[path] if path in beyond[other])
        for path in graph
        if path in beyond[path]
    }
    return [{str(path.relative_to(root)) for path in loop} for loop in loops]


def upward_within(path: Path, root: Path = ROOT) -> list[str]:
    """Return each import of a file that the order of its room forbids."""
    place, *names = path.relative_to(root).with_suffix("").parts
    height = {name: level for level, layer in enumerate(WITHIN.get(place, [])) for name in layer}
    mine = names[0] if names else ""
    wrong = []
    for line, name in imported(path, root):
        theirs = [*name.split("."), ""][2] if name.startswith(f"{root.name}.{place}.") else ""
        both = mine in height and theirs in height and mine != theirs
        if both and height[theirs] >= height[mine]:
            wrong.append(f"{path.relative_to(root.parent)}:{line} imports {name}")
    return wrong


def test_every_room_has_its_place_in_the_order() -> None:
    rooms = {path.relative_to(ROOT).parts[0] for path in MODULES if path.parent != ROOT}
    assert rooms <= set(BELOW), f"say in BELOW what {sorted(rooms - set(BELOW))} may import"


def test_imports_run_one_way() -> None:
    assert len(MODULES) > 10
    assert [line for path in MODULES for line in upward(path)] == []


def test_imports_within_a_room_run_one_way() -> None:
    assert [line for path in MODULES for line in upward_within(path)] == []


def test_no_two_files_import_each_other_in_a_loop() -> None:
    assert [sorted(loop) for loop in circles()] == []


def test_the_estimators_are_at_most_four_levels_deep() -> None:
    files = {path.stem for path in (ROOT / "estimators").glob("*.py")} - {"__init__"}
    below = {
        name: {
            target.split(".")[2]
            for _, target in imported(ROOT / "estimators" / f"{name}.py")
            if target.startswith("mmfusion.estimators.") and target.split(".")[2] in files
        }
        for name in files
    }

    def depth(name: str) -> int:
        return 1 + max((depth(other) for other in below[name]), default=0)

    assert depth("cox") > 1
    assert max(map(depth, files)) <= 4


#: Of heads, outcomes and fusions: what differs between them they say themselves.
KINDS = re.compile(r"(Head|Target|JointFusion|EarlyFusion|LateFusion)$")


def kinds_asked(path: Path) -> list[str]:
    """Return each `isinstance` of a file that asks for the kind of a head, outcome or fusion."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    asked = []
    for call in calls:
        if isinstance(call.func, ast.Name) and call.func.id == "isinstance":
            names = [node.id for node in ast.walk(call.args[1]) if isinstance(node, ast.Name)]
            asked += [f"{path.name}:{call.lineno} {name}" for name in names if KINDS.search(name)]
    return asked


def test_nothing_outside_asks_for_the_kind_of_a_head_or_of_a_fusion() -> None:
    own = {"heads", "fusion"}
    outside = [path for path in MODULES if path.relative_to(ROOT).parts[0] not in own]
    assert [line for path in outside for line in kinds_asked(path)] == []
    assert any(kinds_asked(path) for path in MODULES if path not in outside)


def test_files_of_the_model_are_short() -> None:
    lengths = {
        path.name: len(path.read_text(encoding="utf-8").splitlines())
        for path in (ROOT / "model").glob("*.py")
    }
    assert len(lengths) > 10
    assert {name: length for name, length in lengths.items() if length > 450} == {}


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text + "\n", encoding="utf-8")


IN_A_FUNCTION = "def f():\n    from .a import x"
FOR_TYPES = "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import mmfusion.heads.a"


@pytest.mark.parametrize(
    ("files", "loop"),
    [
        # The files of a room behind its __init__, and a room above it: no circle.
        ({"heads/a.py": "from .b import x", "fusion/c.py": "from mmfusion.heads import a"}, None),
        # From the top, in a function, for types alone.
        ({"heads/a.py": "from .b import x", "heads/b.py": "from .a import x"}, "a b"),
        ({"heads/a.py": "from .b import x", "heads/b.py": IN_A_FUNCTION}, "a b"),
        ({"heads/a.py": "from . import b", "heads/b.py": FOR_TYPES}, "a b"),
        (
            {
                "heads/a.py": "from .b import x",
                "heads/b.py": "from mmfusion.heads.d import x",
                "heads/d.py": FOR_TYPES,
            },
            "a b d",
        ),
        # By the __init__ of the file's own room, and by that of a package on the way.
        ({"heads/b.py": "from mmfusion.heads import x"}, "__init__ b"),
        ({"heads/b.py": "import mmfusion.heads"}, "__init__ b"),
        (
            {
                "heads/b.py": "from .cox.plan import x",
                "heads/cox/plan.py": "",
                "heads/cox/__init__.py": "from .head import x",
                "heads/cox/head.py": "from ..b import x",
            },
            "b cox/__init__ cox/head",
        ),
    ],
)
def test_the_check_of_circles_sees_each_form_of_loop(
    tmp_path: Path, files: dict[str, str], loop: str | None
) -> None:
    root = tmp_path / "mmfusion"
    room = {"heads/__init__.py": "from .a import x\nfrom .b import x", "heads/a.py": ""}
    write(root, {"__init__.py": "", **room, "heads/b.py": "", **files})
    found = [] if loop is None else [{f"heads/{name}.py" for name in loop.split()}]
    assert circles(root) == found


@pytest.mark.parametrize(
    ("file", "statement", "allowed"),
    [
        ("heads/cox/head.py", "from mmfusion.heads.base import Head", True),
        ("heads/cox/head.py", "from .plan import CoxPlan", True),
        ("heads/cox/head.py", "from mmfusion.heads.discrete import grid", False),
        ("heads/base.py", "from .cox import CoxHead", False),
        ("heads/base.py", "from mmfusion.heads.cox.plan import CoxPlan", False),
        ("heads/missing.py", "from .cox import CoxHead", True),
    ],
)
def test_the_check_within_a_room_knows_its_layers(
    tmp_path: Path, file: str, statement: str, allowed: bool
) -> None:
    root = tmp_path / "mmfusion"
    write(root, {file: statement})
    assert (upward_within(root / file, root) == []) is allowed


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
    code = "import mmfusion; print(*(getattr(mmfusion, n).__name__ for n in mmfusion.__all__[:5]))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["Embedding", "Genes", "Image", "Points", "Tabular"]
    assert set(mmfusion.__all__) <= set(dir(mmfusion))
    assert mmfusion.surv is mmfusion.survival.surv
    with pytest.raises(AttributeError, match="has no attribute 'Tabula'"):
        mmfusion.Tabula


def test_the_version_is_that_of_the_installed_package() -> None:
    assert mmfusion.__version__ == importlib.metadata.version("mmfusion")
