"""Freeze today's results: ``python -m tests.golden.write [CASE ...]``, by default all cases."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from tests.golden.cases import CASES, results

FROZEN = Path(__file__).with_name("frozen.json")


def write(frozen: dict[str, dict[str, list[Any]]]) -> None:
    """Write a line an array, so that a difference between versions names it."""
    cases = []
    for name, arrays in sorted(frozen.items()):
        lines = [f"  {json.dumps(key)}: {json.dumps(value)}" for key, value in arrays.items()]
        cases.append(f" {json.dumps(name)}: {{\n" + ",\n".join(lines) + "\n }")
    FROZEN.write_text("{\n" + ",\n".join(cases) + "\n}\n", encoding="utf-8")


def main() -> None:
    asked = sys.argv[1:] or list(CASES)
    frozen = json.loads(FROZEN.read_text(encoding="utf-8")) if FROZEN.exists() else {}
    frozen = {name: arrays for name, arrays in frozen.items() if name in CASES}
    write(frozen | {name: results(name) for name in asked})


if __name__ == "__main__":
    main()
