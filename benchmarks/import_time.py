"""Time to import the package's rooms beside that of torch and scikit-learn alone.

Processor seconds of a fresh process (other work of the machine and its disk do not count), medians,
in turns. Prints a Markdown table; ``--output`` writes it.

    python -m benchmarks.import_time --output import_time.md
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
from pathlib import Path

#: What the ratio is of: what no estimator of ours can do without.
FLOOR = "import torch, sklearn.base"
STATEMENTS = (
    "import torch",
    FLOOR,
    "import mmfusion.estimators",
    "import sklearn.base",
    "import mmfusion.survival",
    "import mmfusion.metrics",
    "import mmfusion.datasets",
)


def seconds(statement: str) -> float:
    before = os.times()
    subprocess.run([sys.executable, "-c", statement], check=True)
    after = os.times()
    system = after.children_system - before.children_system
    return after.children_user - before.children_user + system


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--turns", type=int, default=7)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    turns = [{s: seconds(s) for s in STATEMENTS} for _ in range(arguments.turns + 1)]
    median = {s: statistics.median(turn[s] for turn in turns[1:]) for s in STATEMENTS}  # warmed up
    lines = ["| statement | seconds | times torch and scikit-learn |", "| --- | ---: | ---: |"]
    lines += [f"| `{s}` | {m:.2f} | {m / median[FLOOR]:.2f} |" for s, m in median.items()]
    text = "\n".join(lines)
    print(text)
    if arguments.output:
        arguments.output.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
