"""Names and types of the settings of a nested dataclass, as the command line reads them."""

import copy
import dataclasses
import difflib
import json
import types
from collections.abc import Iterator
from typing import Any, Literal, get_args, get_origin

import jsonargparse

_WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text", type(None): "null"}


class Names:
    """The settings of a dataclass.

    Args:
      config_class: whose fields are settings, or dataclasses of settings.
    """

    def __init__(self, config_class: type) -> None:
        self._types = dict(_walk(config_class))
        self._parser = jsonargparse.ArgumentParser(exit_on_error=False)
        self._parser.add_class_arguments(config_class)

    def check(self, name: str) -> None:
        """Raises ValueError if there is no such setting, or group of settings."""
        if name not in self._types:
            meant = [known for known in self._types if known.endswith(f".{name}")]
            meant = meant or difflib.get_close_matches(name, self._types, 1)
            advice = f"did you mean {' or '.join(meant)}?" if meant else "`python train.py --help` shows all"
            raise ValueError(f"{name}: expected a setting of the trainer, found none of this name; {advice}")

    def is_group(self, name: str) -> bool:
        """Whether it is a group of settings."""
        return dataclasses.is_dataclass(self._types[name])

    def number(self, name: str) -> type | None:
        """Returns float or int, if the setting may be one, else None."""
        kinds = [self._types[name], *get_args(self._types[name])]
        return next((kind for kind in (float, int) if kind in kinds), None)

    def read(self, name: str, value: Any) -> dict[str, Any]:
        """Returns typed values by name: that of a setting, e.g. the tuple of a list, or those of a group.

        Raises:
          ValueError: they are of another type, or the group has no such settings.
        """
        self.check(name)
        if self.is_group(name):
            if not isinstance(value, dict):
                raise ValueError(f"{name}: expected some of its settings as {{name: value}}, found {json.dumps(value)}")
            read = {}
            for inner, each in value.items():
                read |= self.read(f"{name}.{inner}", each)
            return read
        nested = copy.deepcopy(value)  # the parser writes into it
        for part in reversed(name.split(".")):
            nested = {part: nested}
        try:
            return {name: self._parser.parse_object(nested, defaults=False)[name]}
        except jsonargparse.ArgumentError as error:
            raise ValueError(f"{name}: expected {_describe(self._types[name])}, found {json.dumps(value)}") from error


def _walk(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config_class):
        yield prefix + field.name, field.type
        if dataclasses.is_dataclass(field.type):
            yield from _walk(field.type, f"{prefix}{field.name}.")


def _describe(kind: Any) -> str:
    """Returns a type in words."""
    if get_origin(kind) is Literal:
        return f"one of {', '.join(map(str, get_args(kind)))}"
    if get_origin(kind) is types.UnionType:
        return ", or ".join(map(_describe, get_args(kind)))
    if get_origin(kind) in (list, tuple):
        return "a list"
    return _WORDS.get(kind, "a mapping")
