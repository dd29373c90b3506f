"""What dataclasses of settings have in common. Imports no TensorFlow, so that --help is quick."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any


def refuse_unread(config: Any, group: str, readers: Mapping[str, tuple[Any, str]]) -> None:
    """Raises ValueError if a setting has been changed that nothing reads: it would change nothing.

    Args:
      config: a dataclass of settings.
      group: name of these settings, e.g. "model".
      readers: by name of a setting: (whether anything reads it, what would). Others are always read.
    """
    defaults = {setting.name: setting.default for setting in fields(config)}
    for name, (is_read, reader) in readers.items():
        if not is_read and (found := getattr(config, name)) != defaults[name]:
            raise ValueError(f"{group}.{name}: found {found}, which only {reader} reads; leave it out")
