"""A YAML file as values that know their line, and errors that name it."""

from __future__ import annotations

import re
from collections.abc import Hashable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from mmfusion.inputs.messages import did_you_mean, shorten

__all__ = ["ConfigError", "Document", "Place"]

#: Where a value stands: the keys and positions that lead to it.
Place = tuple[Hashable, ...]


class ConfigError(ValueError):
    """What is wrong with a file, with the file and the line before it."""


@dataclass(frozen=True, eq=False)
class Document:
    """The values of a YAML file and the line of each.

    Attributes
    ----------
    path : Path
    values : dict
    lines : dict of Place to int
        From 1. Of a mapping's entry the line of its key.
    """

    path: Path
    values: dict[str, Any]
    lines: dict[Place, int]

    @classmethod
    def read(cls, path: Path) -> Document:
        """Read a file.

        Raises
        ------
        ConfigError
            If it is no file, no YAML, or no mapping, or names a key twice.
        """
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"{path} cannot be read: {error}") from error
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            line = "" if mark is None else f":{mark.line + 1}"
            raise ConfigError(f"{path}{line}: this is not YAML: {error.problem}.") from error
        except yaml.YAMLError as error:  # characters that no YAML holds
            raise ConfigError(f"{path}: this is not YAML: {error}") from error
        if not isinstance(root, yaml.MappingNode):
            raise ConfigError(f"{path}:1: the file must be a mapping of keys to values.")
        reader = _Reader(path)
        return cls(path, reader.value(root, ()), reader.lines)

    def error(self, place: Place, message: str) -> ConfigError:
        """Return an error of what stands at a place, or of the nearest around it."""
        while place and place not in self.lines:
            place = place[:-1]
        return ConfigError(f"{self.path}:{self.lines.get(place, 1)}: {message}")

    def check_keys(
        self, place: Place, known: Iterable[str], what: str, needed: Iterable[str] = ()
    ) -> dict[str, Any]:
        """Return the mapping at a place; its keys must be `known`, the `needed` ones there."""
        values = self.at(place)
        known = list(known)
        if not isinstance(values, dict):
            raise self.error(place, f"{what} must be a mapping of {shorten(known, 12)}.")
        for key in values:
            if key not in known:
                message = f"{what} has no {key!r}; it may have {shorten(known, 40)}."
                raise self.error((*place, key), message + did_you_mean(key, known))
        for key in needed:
            if values.get(key) is None:
                raise self.error(place, f"{what} needs {key!r}.")
        return values

    def at(self, place: Place) -> Any:
        """Return the value at a place; None where there is none."""
        value: Any = self.values
        for key in place:
            value = value.get(key) if isinstance(value, dict) else value[key]
        return value

    def blame(self, error: BaseException) -> str:
        """Return the message of an error of the package, with the line that it is about.

        Messages name a parameter ("The size parameter of Image ...") or quote a value ("Column
        'agee' not found ..."): the line of an entry of that name or value leads, where there is
        one. With several of the name, that whose owner or value the message has, too.
        """
        text = str(error)
        named = re.search(r"\b(\w+) parameter(?: of (\w+))?", text)
        places: list[Place] = []
        if named:
            places = [place for place in self.lines if place and place[-1] == named[1]]
            for fits in (
                lambda place: named[2] and self._type_of(place[:-1]) == named[2],
                lambda place: f"Got {self.at(place)!r}" in text,
            ):
                places = list(filter(fits, places)) or places
            got = re.search(r"Got '([^']+)'", text)
            inside = [p for p in self.lines if places and p[: len(places[0])] == places[0]]
            places = [p for p in inside if got and self.at(p) == got[1]] or places
        quoted = re.search(r"'([^']+)'", text)
        if not places and quoted:
            texts = {place: self.at(place) for place in self.lines}
            word = re.compile(rf"(?<!\w){re.escape(quoted[1])}(?!\w)")
            places = [place for place, value in texts.items() if value == quoted[1]] or [
                place
                for place, value in texts.items()
                if isinstance(value, str) and word.search(value)
            ]
        return str(self.error(places[0], text)) if places else f"{self.path}: {text}"

    def _type_of(self, place: Place) -> Any:
        value = self.at(place)
        return value.get("type") if isinstance(value, dict) else None


#: Plain text that is no text: YAML 1.2's core schema, in which "no" is a word and 1e-3 a number.
_PLAIN: dict[str, Any] = {
    r"|~|null|Null|NULL": lambda text: None,
    r"true|True|TRUE|false|False|FALSE": lambda text: text.lower() == "true",
    r"[-+]?[0-9]+": int,
    r"[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?": float,
    r"[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)": lambda text: float(text.replace(".", "")),
}


class _Reader:
    """Turns nodes into values, and notes their lines."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.lines: dict[Place, int] = {}

    def value(self, node: yaml.Node, place: Place) -> Any:
        self.lines.setdefault(place, node.start_mark.line + 1)
        if isinstance(node, yaml.MappingNode):
            return self.mapping(node, place)
        if isinstance(node, yaml.SequenceNode):
            return [self.value(item, (*place, number)) for number, item in enumerate(node.value)]
        if node.style is None:  # type: ignore[attr-defined]
            for pattern, meaning in _PLAIN.items():
                if re.fullmatch(pattern, node.value):
                    return meaning(node.value)
        return node.value

    def mapping(self, node: yaml.MappingNode, place: Place) -> dict[Hashable, Any]:
        values: dict[Hashable, Any] = {}
        for key_node, value_node in node.value:
            key = self.value(key_node, (*place, "<key>"))
            if not isinstance(key, Hashable):
                raise self.error(key_node, "a key must be text or a number.")
            if key in values:
                first = self.lines[(*place, key)]
                raise self.error(key_node, f"{key!r} is there twice, first in line {first}.")
            self.lines.pop((*place, "<key>"))
            self.lines[(*place, key)] = key_node.start_mark.line + 1
            values[key] = self.value(value_node, (*place, key))
        return values

    def error(self, node: yaml.Node, message: str) -> ConfigError:
        return ConfigError(f"{self.path}:{node.start_mark.line + 1}: {message}")
