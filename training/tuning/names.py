"""Names and types of the settings of a nested dataclass, as the command line reads them."""

import copy
import dataclasses
import difflib
import json
from collections.abc import Iterator
from typing import Any, get_args

import jsonargparse

from cli import describe_type


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
            wanted = describe_type(self._types[name])
            raise ValueError(f"{name}: expected {wanted}, found {json.dumps(value)}") from error


def _walk(config_class: type, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for field in dataclasses.fields(config_class):
        yield prefix + field.name, field.type
        if dataclasses.is_dataclass(field.type):
            yield from _walk(field.type, f"{prefix}{field.name}.")
