"""What a section of the report is made of: text, tables, figures, numbers, what is missing."""

from __future__ import annotations

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from html import escape
from typing import Any

import numpy as np

from mmfusion.interpret.tables import PaperTable

__all__ = [
    "Block",
    "Facts",
    "Figure",
    "Heading",
    "Missing",
    "Section",
    "Table",
    "Text",
    "draw",
    "either",
    "interval",
]


#: "[0.650, 0.765]", and what heads a column of these.
INTERVAL = r"\[[-+]?[\d.]+, [-+]?[\d.]+\]|\[95 %[a-z ]*\]"

#: A longer cell takes the place of two columns on a phone.
WORDY = 25


class Block:
    """A piece of a section."""

    kind: str


@dataclass(frozen=True)
class Text(Block):
    """A paragraph; `html` is trusted: what comes from data was escaped."""

    html: str
    kind = "text"

    @classmethod
    def of(cls, text: str) -> Text:
        """Return plain text."""
        return cls(escape(text))


@dataclass(frozen=True)
class Heading(Block):
    """A heading within a section."""

    text: str
    kind = "heading"


@dataclass(frozen=True)
class Facts(Block):
    """Numbers to be seen first: a name, a value, and what it says."""

    items: Sequence[tuple[str, str, str]]
    title: str = ""
    kind = "facts"


@dataclass(frozen=True)
class Table(Block):
    """A table."""

    table: PaperTable
    kind = "table"

    @property
    def many(self) -> bool:
        """Whether a phone shows it line by line: more than what stands beside each other."""
        wordy = any(len(cell) > WORDY for _, row in self.table.rows for cell in row)
        return len(self.table.columns) > (2 if wordy else 3)

    @property
    def html(self) -> str:
        """The table with its notes; no line ends within an interval."""
        return re.sub(INTERVAL, lambda m: m[0].replace(" ", "\u00a0"), self.table.to_html())


@dataclass(frozen=True)
class Figure(Block):
    """A figure, inlined."""

    source: str
    alt: str
    caption: str
    kind = "figure"


@dataclass(frozen=True)
class Missing(Block):
    """What stands in the place of something that could not be made, with the reason."""

    text: str
    kind = "missing"


@dataclass
class Section:
    """A part of the report under a heading of its own."""

    id: str
    title: str
    blocks: list[Block] = field(default_factory=list)


#: Of all figures: readable at 390 pixels and on paper.
STYLE: Any = {
    "font.size": 10,
    "font.family": "sans-serif",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "legend.fontsize": 9,
    "svg.fonttype": "path",
    "svg.hashsalt": "mmfusion",
}


def draw(
    on: Callable[[Any], Any],
    alt: str,
    caption: str,
    size: tuple[float, float] = (5.2, 3.6),
    *,
    pixels: bool = False,
) -> Figure:
    """Return what a function draws on Axes as an inlined figure.

    Parameters
    ----------
    on : callable of Axes
    alt : str
        What the figure shows, for who does not see it.
    caption : str
    size : tuple of float, default=(5.2, 3.6)
        Inches.
    pixels : bool
        PNG in place of SVG: of pictures and of thousands of points.
    """
    import matplotlib
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure as Drawing

    with matplotlib.rc_context(STYLE):
        drawing = Drawing(figsize=size, layout="constrained")
        FigureCanvasAgg(drawing)
        on(drawing.subplots())
        buffer = io.BytesIO()
        kind = "png" if pixels else "svg"
        metadata = {} if pixels else {"Date": None, "Creator": None}
        drawing.savefig(buffer, format=kind, dpi=180, metadata=metadata)
    content = base64.b64encode(buffer.getvalue()).decode()
    mime = "image/png" if pixels else "image/svg+xml"
    return Figure(f"data:{mime};base64,{content}", alt, caption)


def either(make: Callable[[], Sequence[Block]], what: str) -> list[Block]:
    """Return blocks, or why they could not be made: a report is worth having without one figure."""
    try:
        return list(make())
    except ValueError as error:
        return [Missing(f"{what} could not be shown. {error}")]


def interval(row: Any, digits: int = 3) -> str:
    """Return a score with its interval, "0.712 [0.650, 0.765]"."""
    value, lower, upper = (float(row[name]) for name in ("score", "lower", "upper"))
    if np.isnan(lower):
        return f"{value:.{digits}f}"
    return f"{value:.{digits}f} [{lower:.{digits}f}, {upper:.{digits}f}]"
