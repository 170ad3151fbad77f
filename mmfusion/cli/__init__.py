"""The command line: ``mmfusion fit study.yaml`` and its sisters."""

from __future__ import annotations

__all__ = ["main"]


def main() -> None:
    """Run the command line."""
    from mmfusion.cli.app import app

    app()
