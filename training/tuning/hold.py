"""A SEARCH folder, taken for one process and one search."""

import contextlib
import dataclasses
import json
from collections.abc import Iterator
from typing import Any

from records.info import RecordsInfo
from training.config import MAY_CHANGE
from training.run_folder import lock, write_text
from training.tuning.config import TuneConfig
from training.tuning.space import Space
from training.tuning.trial import SearchFolder

_DECIDING = ("seed", "sampler", "pruner", "min_epochs")
"""Settings of the search that decide what is proposed and given up."""


@contextlib.contextmanager
def hold(folder: SearchFolder, config: TuneConfig, space: Space, info: RecordsInfo) -> Iterator[None]:
    """Takes a SEARCH folder that is new, or holds this very search, for this process alone.

    Raises:
      ValueError: the folder holds something else, or another process has taken it.
    """
    content = {
        "search": {name: getattr(config, name) for name in _DECIDING},
        "space": space.content,
        "train": dataclasses.asdict(config.train),
        "records": {"name": info.name, "fingerprint": info.fingerprint},
    }
    content = json.loads(json.dumps(content))
    _check(folder, content)
    folder.trials.mkdir(parents=True, exist_ok=True)
    with lock(folder.path, "searches in this SEARCH folder"):
        _check(folder, content)  # what another process has done in the meantime
        write_text(folder.settings, json.dumps(content, indent=2) + "\n")
        yield


def _check(folder: SearchFolder, content: dict[str, Any]) -> None:
    """Raises ValueError unless the folder is new, or holds this very search."""
    if not folder.settings.is_file():
        left = [path for path in folder.path.rglob("*") if path != folder.trials and path.suffix != ".tmp"]
        if left:  # else it was killed at its very start
            raise ValueError(f"{folder.path}: expected a new or empty folder, or one of a search; it holds other files")
        return
    try:
        found = json.loads(folder.settings.read_text())
    except ValueError as error:
        raise ValueError(f"{folder.settings}: damaged ({error}); search in another SEARCH folder") from error
    there, here = _flat(found), _flat(content)
    changes = [
        f"{name}: {there.get(name)} there, {here.get(name)} here"
        for name in sorted(there.keys() | here.keys())
        if there.get(name) != here.get(name) and name.removeprefix("train.") not in MAY_CHANGE
    ]
    if changes:
        raise ValueError(
            f"{folder.path}: holds another search ({', '.join(changes)}); choose another SEARCH folder, or repeat its "
            "settings to go on with it"
        )


def _flat(content: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the values of a nested dict by dotted name."""
    if not isinstance(content, dict):
        return {prefix[:-1]: content}
    return {name: value for key, inner in content.items() for name, value in _flat(inner, f"{prefix}{key}.").items()}
