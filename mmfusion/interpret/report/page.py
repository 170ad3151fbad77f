"""The page: sections filled into the template that stands beside this file."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from pathlib import Path

import pandas as pd

import mmfusion
from mmfusion.interpret.report.blocks import Block, Section
from mmfusion.interpret.report.tripod import BLANK

__all__ = ["Look", "Tripod", "page_of"]

TEMPLATE = Path(__file__).with_name("page.html.j2")


@dataclass(frozen=True)
class Look(Block):
    """What a reader should look at before believing the rest."""

    title: str
    items: Sequence[str]
    kind = "look"


@dataclass(frozen=True)
class Tripod(Block):
    """The TRIPOD+AI table, with its CSV to download."""

    table: pd.DataFrame = field(repr=False)
    caption: str = ""
    kind = "tripod"

    @property
    def csv(self) -> str:
        """The table as the address of a file that the page itself holds."""
        content = base64.b64encode(self.table.to_csv(index=False).encode()).decode()
        return f"data:text/csv;charset=utf-8;base64,{content}"

    @property
    def rows(self) -> Iterator[dict[str, str]]:
        """Lines, with what is known apart from what is blank."""
        css = {"filled": "filled", "in part": "part", "blank": "blank"}
        for row in self.table.to_dict("records"):
            known, found, blank = str(row["content"]).partition(BLANK)
            yield {
                **{str(name): str(value) for name, value in row.items()},
                "css": css[str(row["status"])],
                "known": known.strip(),
                "blank": f"{BLANK}{blank}" if found else "",
            }


@dataclass(frozen=True)
class _Run:
    """Blocks after each other that are figures, or are not: figures stand side by side."""

    figures: bool
    blocks: list[Block]


@dataclass(frozen=True)
class _Shown:
    id: str
    title: str
    runs: list[_Run]


def page_of(title: str, byline: str, sections: Sequence[Section]) -> str:
    """Return the page as HTML; text is escaped by the template."""
    import jinja2  # slow to import, and only reports need it

    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined)
    template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
    shown = [
        _Shown(
            section.id,
            section.title,
            [
                _Run(bool(figures), list(blocks))
                for figures, blocks in groupby(section.blocks, lambda block: block.kind == "figure")
            ],
        )
        for section in sections
    ]
    return template.render(title=title, byline=byline, sections=shown, version=mmfusion.__version__)
