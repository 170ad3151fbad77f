"""Who was in the study: flow, presence of modalities, and the table of characteristics."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd

from mmfusion.inputs.columns import column_kind
from mmfusion.interpret.report.blocks import Block, Facts, Section, Table, Text
from mmfusion.interpret.report.evidence import Evidence
from mmfusion.interpret.tables import PaperTable
from mmfusion.survival import median_follow_up

__all__ = [
    "characteristics",
    "columns_shown",
    "events_in_words",
    "participants",
    "presence_of",
]

#: Modalities whose columns would make more rows of Table 1, and more levels of a column, are not
#: shown.
MOST_COLUMNS, MOST_LEVELS = 30, 12
#: A number that leans further than this is described by quartiles.
SKEWED = 1.0


def participants(found: Evidence, group: str | None) -> Section:
    """Return the section of who was in the study."""
    section = Section("participants", "Participants")
    section.blocks += _flow(found)
    section.blocks += _patterns(found)
    table, caption = characteristics(found, group), "Table 1. Characteristics"
    section.blocks.append(Table(PaperTable(table.columns, table.rows, caption, table.notes)))
    return section


def presence_of(found: Evidence) -> dict[str, np.ndarray]:
    """Return which rows have each modality."""
    modalities = found.model.modalities_
    return {name: np.asarray(one.present(found.X), bool) for name, one in modalities.items()}


def events_in_words(found: Evidence) -> str:
    """Return how many rows have the event, or each of several causes."""
    if not found.incidence:
        return f"{int(found.event.sum()):,} with the event"
    return ", ".join(
        f"{int((found.y.event == cause).sum()):,} with cause {cause}" for cause in found.incidence
    )


def _flow(found: Evidence) -> list[Block]:
    seen, n, present = found.model.seen_, len(found), presence_of(found)
    blocks: list[Block] = [Text.of(found.source)]
    if seen is not None:
        events = "" if seen.n_events is None else f", {seen.n_events:,} with the event"
        items = [("rows", f"{seen.n_rows:,}", f"trained on{events}")]
        if seen.n_judging:
            items.append(("rows of the eval_set", f"{seen.n_judging:,}", "judged when to stop"))
        for name, count in seen.presence.items():
            items.append((f"with {name}", f"{count:,}", f"{count / seen.n_rows:.0%}"))
        blocks.append(Facts(items, "1. The model was fitted on"))
    events = f", {events_in_words(found)}" if found.task == "survival" else ""
    what = "new to the model" if found.folds is None and found.parts else "not seen by who predicts"
    items = [("rows", f"{n:,}", f"{what}{events}")]
    for name, there in present.items():
        items.append((f"with {name}", f"{there.sum():,}", f"{there.mean():.0%}"))
    if found.task == "survival":
        y = found.y
        middle = median_follow_up(y.time, y.event)
        reached = "not reached" if np.isnan(middle) else f"{middle:.3g}"
        items.append(("median follow-up", reached, f"{found.unit} (reverse Kaplan-Meier)"))
    return [*blocks, Facts(items, "2. It was judged on")]


def _patterns(found: Evidence) -> list[Block]:
    present = presence_of(found)
    if not present:
        return []
    table = pd.DataFrame(present)
    survival = found.task == "survival"
    rows: list[tuple[int, list[str]]] = []
    counts = table.value_counts()
    for pattern, count in counts.items():
        own = np.asarray(pattern if isinstance(pattern, tuple) else (pattern,))
        names = [name for name, there in zip(table.columns, own, strict=True) if there]
        mine = (table.to_numpy() == own).all(axis=1)
        cells = [", ".join(names) or "none", f"{count:,}", f"{count / len(table):.0%}"]
        if survival:
            cells.append(f"{int(found.event[mine].sum()):,}")
        rows.append((0, cells))
    heads = ["what is there", "rows", "share", *(["events"] if survival else [])]
    return [Table(PaperTable(heads, rows, "Which modalities the rows judged on have"))]


def columns_shown(found: Evidence) -> list[str]:
    """Return the columns of Table 1: those of the formula, and of modalities that find room.

    Few columns come first, so that many genes leave no clinical column out.
    """
    model = found.model
    shown = _described_of(found, model.model_.structured.columns)[:MOST_COLUMNS]
    narrow = [one for one in model.modalities_.values() if len(one.columns_) <= MOST_COLUMNS]
    for modality in sorted(narrow, key=lambda one: len(one.columns_)):
        more = [c for c in _described_of(found, modality.columns_) if c not in shown]
        if len(shown) + len(more) <= MOST_COLUMNS:
            shown += more
    return shown


def _described_of(found: Evidence, columns: Iterable[str]) -> list[str]:
    return [name for name in columns if name in found.X and _kind(found.X[name]) is not None]


def characteristics(found: Evidence, group: str | None) -> PaperTable:
    """Return Table 1: each column in all rows and in groups, with what is missing.

    Parameters
    ----------
    found : Evidence
    group : str or None
        A column; by default with the event or without, or by class.
    """
    labels, title = _groups(found, group)
    names = list(labels.categories) if labels is not None else []
    masks = [np.ones(len(found), bool), *(np.asarray(labels == name) for name in names)]
    heads = ["", f"all (n = {len(found):,})"]
    heads += [f"{name} (n = {mask.sum():,})" for name, mask in zip(names, masks[1:], strict=True)]
    rows: list[tuple[int, list[str]]] = []
    for column in columns_shown(found):
        rows += _described(found.X[column], str(column), masks)
    for name, present in presence_of(found).items():
        cells = [_share(present[mask]) for mask in masks]
        rows.append((0, [f"has {name}", *cells]))
    notes = [
        "Numbers are mean (SD), or median [quartiles] where they lean to one side; counts are "
        "n (%). Groups are described, not tested."
    ]
    shown = set(columns_shown(found))
    wide = [
        f"{name} ({len(one.columns_):,} columns)"
        for name, one in found.model.modalities_.items()
        if len(one.columns_) > MOST_COLUMNS or set(_described_of(found, one.columns_)) - shown
    ]
    if wide:
        notes.append(f"Too many to be shown: {', '.join(wide)}.")
    if title:
        notes.append(f"Groups: {title}.")
    return PaperTable(heads, rows, "", notes)


def _groups(found: Evidence, group: str | None) -> tuple[Any, str]:
    if group is not None:
        if group not in found.X:
            raise ValueError(f"The group parameter must be a column of X. Got {group!r}.")
        values = found.X[group].astype("string").fillna("missing")
        if values.nunique() > 6:
            raise ValueError(
                f"The group column {group!r} must have 6 levels at most. Got {values.nunique()}."
            )
        return pd.Categorical(values), f"the column {group}"
    if found.task == "survival":
        if found.incidence:
            kinds = {**{cause: f"cause {cause}" for cause in found.incidence}, 0: "censored"}
            names = np.array([kinds[int(kind)] for kind in found.y.event])
            return pd.Categorical(names, list(kinds.values())), "the event that was seen first"
        names = np.where(found.event, "event", "censored")
        return pd.Categorical(names, ["event", "censored"]), "whether the event was seen"
    if found.task == "classification" and len(found.model.classes_) <= 4:
        classes = [str(level) for level in found.model.classes_]
        return pd.Categorical(found.y.astype(str), classes), "the class"
    return None, ""


def _kind(column: pd.Series) -> str | None:
    try:
        kind = column_kind(column)
    except ValueError:
        return None
    levels = column.nunique()
    if kind == "numeric" and set(column.dropna().unique()) <= {0, 1}:
        return "binary"
    if kind == "categorical" and levels > MOST_LEVELS:
        return None
    return kind if kind in ("numeric", "categorical") else None


def _described(
    column: pd.Series, name: str, masks: list[np.ndarray]
) -> list[tuple[int, list[str]]]:
    kind, missing = _kind(column), column.isna().to_numpy()
    rows: list[tuple[int, list[str]]] = []
    if kind == "binary":
        cells = [_share(column[mask & ~missing].to_numpy(np.float64) == 1) for mask in masks]
        rows.append((0, [f"{name} = 1", *cells]))
    elif kind == "numeric":
        values = pd.to_numeric(column, errors="coerce").astype(np.float64)
        leans = abs(float(np.asarray(values.skew()))) > SKEWED
        cells = [_number(values[mask].dropna().to_numpy(), leans) for mask in masks]
        what = "median [quartiles]" if leans else "mean (SD)"
        rows.append((0, [f"{name}, {what}", *cells]))
    else:
        rows.append((0, [name, *[""] * len(masks)]))
        known = pd.Categorical(column)
        for level in known.categories:
            own = np.asarray(known == level)
            cells = [_share(own[mask & ~missing]) for mask in masks]
            rows.append((1, [str(level), *cells]))
    if missing.any():
        rows.append((1, ["missing", *[_share(missing[mask]) for mask in masks]]))
    return rows


def _number(values: np.ndarray, leans: bool) -> str:
    if not len(values):
        return "–"
    if leans:
        low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
        return f"{middle:.3g} [{low:.3g}, {high:.3g}]"
    spread = f"{values.std(ddof=1):.2g}" if len(values) > 1 else "–"
    return f"{values.mean():.3g} ({spread})"


def _share(there: np.ndarray) -> str:
    return f"{there.sum():,} ({there.mean():.0%})" if len(there) else "–"
