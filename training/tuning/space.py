"""The search space: a file that says which settings are searched, and what each may be.

It is checked as a whole before anything starts: a value that train.py refuses should not show in the tenth trial.
"""

import dataclasses
import itertools
import json
import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jsonargparse
import yaml
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from training.config import TrainConfig
from training.tuning.names import Names

_MOST_COMBINATIONS = 4096
"""So many are checked, or listed, in less than a second."""


@dataclass(frozen=True)
class Setting:
    """A searched setting. Its values are as YAML and JSON have them.

    Attributes:
      name: dotted, e.g. "model.filters"; or of a group, e.g. "optimizer", whose choices are mappings.
      distribution: for Optuna. Of choices: over their labels.
      choices: by label, in the file's order; empty for a range.
    """

    name: str
    distribution: BaseDistribution
    choices: dict[str, Any]

    def value(self, proposed: Any) -> Any:
        """Returns the setting's value for what Optuna proposes."""
        if self.choices:
            return self.choices[proposed]
        if not isinstance(proposed, float):
            return proposed
        if self.distribution.step is not None:
            return _tidy(proposed)
        # Recipes are read by people, and nothing depends on the fifth digit.
        return min(max(float(f"{proposed:.4g}"), self.distribution.low), self.distribution.high)

    def parameter(self, value: Any) -> Any:
        """Returns what Optuna calls a value."""
        return label(value) if self.choices else value

    @property
    def count(self) -> int | None:
        """How many values there are; None where there is no end of them."""
        if self.choices:
            return len(self.choices)
        distribution = self.distribution
        return distribution.step and round((distribution.high - distribution.low) / distribution.step) + 1

    def values(self) -> list[Any]:
        """Returns all values, in order. There may be billions: look at `count` first."""
        if self.choices:
            return list(self.choices.values())
        low, step = self.distribution.low, self.distribution.step
        return [_tidy(low + index * step) for index in range(self.count)]

    @property
    def extremes(self) -> list[Any]:
        """All choices, or the bounds of a range."""
        return list(self.choices.values()) or [self.distribution.low, self.distribution.high]


def label(value: Any) -> str:
    """Returns a value in words, which differ for different values."""
    return value if isinstance(value, str) else json.dumps(value)


def _tidy(value: float) -> float:
    """Returns a multiple of a step without what floats add to it: 0.3, not 0.30000000000000004."""
    return value if isinstance(value, int) else float(f"{value:.10g}")


class Space:
    """What is searched.

    Args:
      settings: in the file's order.
      base: all other settings, and these before they are replaced.
      names: of all settings.
      content: of the file.
    """

    def __init__(self, settings: list[Setting], base: TrainConfig, names: Names, content: dict[str, Any]):
        self.settings, self.base, self.content = settings, base, content
        self._choices = {
            (setting.name, name): names.read(setting.name, value)
            for setting in settings
            for name, value in setting.choices.items()
        }

    def config(self, values: dict[str, Any]) -> TrainConfig:
        """Returns the settings of a trial, from the values of the searched ones by name.

        Raises:
          ValueError: they do not go together.
        """
        return _replace(self.base, self._typed(values))

    def combinations(self) -> Iterator[dict[str, Any]] | None:
        """Returns all combinations of values; None where there are too many to be listed."""
        counts = [setting.count for setting in self.settings]
        if None in counts or math.prod(counts) > _MOST_COMBINATIONS:
            return None
        names = [setting.name for setting in self.settings]
        values = [setting.values() for setting in self.settings]
        return (dict(zip(names, each, strict=True)) for each in itertools.product(*values))

    def check(self) -> None:
        """Raises ValueError if choices, or bounds, do not go together: all of them, or pairs where these are many."""
        typed = [
            [(setting.name, value, self._typed({setting.name: value})) for value in setting.extremes]
            for setting in self.settings
        ]
        if math.prod(map(len, typed)) <= _MOST_COMBINATIONS:
            combinations = itertools.product(*typed)
        else:
            firsts = [options[0] for options in typed]
            combinations = (
                [*firsts[:first], one, *firsts[first + 1 : second], other, *firsts[second + 1 :]]
                for first, second in itertools.combinations(range(len(typed)), 2)
                for one, other in itertools.product(typed[first], typed[second])
            )
        for combination in combinations:
            if error := self._error(combination):
                raise ValueError(self._blame(combination, error) + error)

    def _typed(self, values: dict[str, Any]) -> dict[str, Any]:
        """Returns values as TrainConfig has them: tuples for lists, a group's settings for a group."""
        typed = {}
        for name, value in values.items():
            typed |= self._choices.get((name, label(value)), {name: value})
        return typed

    def _error(self, combination) -> str:
        """Returns why these values do not go together with the base, or nothing."""
        typed = {}
        for _, _, each in combination:
            typed |= each
        try:
            _replace(self.base, typed)
        except ValueError as error:
            return str(error)
        return ""

    def _blame(self, combination, error: str) -> str:
        """Returns the values, in words, that the error comes from; nothing where it says so itself."""
        parts = (itertools.combinations(combination, size) for size in (1, 2))
        guilty = next((part for part in itertools.chain(*parts) if self._error(part) == error), combination)
        if len(guilty) == 1 and error.startswith(f"{guilty[0][0]}:"):
            return ""
        return " with ".join(f"{name} {label(value)}" for name, value, _ in guilty) + ": "


def read_space(path: Path, base: TrainConfig) -> Space:
    """Returns the checked space of a file.

    Raises:
      ValueError: a line that names file and setting, and says what was expected.
    """
    try:
        text = path.read_text()
        root, content = yaml.compose(text), jsonargparse.get_loader("yaml")(text)
        json.dumps(content)
    except FileNotFoundError as error:
        raise ValueError(f"{path}: expected a search space, a YAML file; found no such file") from error
    except (yaml.YAMLError, UnicodeDecodeError, TypeError) as error:  # of json.dumps: a set
        raise ValueError(f"{path}: expected a search space in YAML, found something else ({error})") from error
    try:
        if isinstance(content, dict) and "task" in content:
            raise ValueError("task: expected settings of one task, whose scores can be compared; set it under --train")
        if not isinstance(content, dict) or not content:
            raise ValueError(f"expected settings and what each may be, e.g. 'model.filters: [8, 16]'; found {content}")
        written = [key.value for key, _ in root.value]
        if twice := {name for name in written if written.count(name) > 1}:
            raise ValueError(f"expected every setting once, found {', '.join(sorted(twice))} again")
        names = Names(TrainConfig)
        space = Space([_read_setting(str(name), value, names) for name, value in content.items()], base, names, content)
        for outer, inner in itertools.permutations([setting.name for setting in space.settings], 2):
            if inner.startswith(f"{outer}."):
                raise ValueError(f"expected {outer} or {inner}, which is part of it; found both")
        space.check()
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return space


def _read_setting(name: str, content: Any, names: Names) -> Setting:
    names.check(name)
    if isinstance(content, list):
        choices = {label(choice): choice for choice in content}
        if len(content) < 2 or len(choices) < len(content):
            raise ValueError(f"{name}: expected two or more different choices, found {json.dumps(content)}")
        return Setting(name, CategoricalDistribution(tuple(choices)), choices)
    if isinstance(content, dict) and {"low", "high"} <= content.keys() <= {"low", "high", "log", "step"}:
        return Setting(name, _read_range(name, content, names), {})
    if names.is_group(name) and isinstance(content, dict) and content:
        first = next(iter(content))
        raise ValueError(f"{name}: expected a list of choices, as it is a group; to search one of its settings, write "
                         f"{name}.{first}: ...")  # fmt: skip
    raise ValueError(
        f"{name}: expected a list of choices, or {{low: ..., high: ...}} with log: true or step: ... if wanted; "
        f"found {json.dumps(content)}"
    )


def _read_range(name: str, content: dict[str, Any], names: Names) -> BaseDistribution:
    kind = names.number(name)
    if kind is None:
        raise ValueError(f"{name}: expected a list of choices, as it is no number; found {json.dumps(content)}")
    low, high, log, step = (content.get(key) for key in ("low", "high", "log", "step"))
    for key in ("low", "high", "step"):
        value = content.get(key)
        if key in content and (isinstance(value, bool) or not isinstance(value, int if kind is int else int | float)):
            raise ValueError(f"{name}: expected {'whole ' * (kind is int)}numbers, found {key}: {json.dumps(value)}")
    if not low < high or not math.isfinite(high - low):
        raise ValueError(f"{name}: expected low < high, found {low} and {high}")
    if log not in (None, True, False):
        raise ValueError(f"{name}: expected log: true or false, found {json.dumps(log)}")
    if log and (low <= 0 or step is not None):
        raise ValueError(f"{name}: expected low above 0 and no step with log: true, found {json.dumps(content)}")
    if step is not None:
        steps = (high - low) / step if step > 0 else math.nan
        if not math.isclose(steps, round(steps) if step > 0 else 0, rel_tol=1e-9):
            raise ValueError(f"{name}: expected steps that lead from low to high, found {json.dumps(content)}")
    if kind is int:
        return IntDistribution(low, high, log=bool(log), step=step or 1)
    return FloatDistribution(low, high, log=bool(log), step=step)


def _replace(config: Any, values: dict[str, Any]) -> Any:
    """Returns a config with other values of settings, by dotted name."""
    own, groups = {}, {}
    for name, value in values.items():
        group, _, rest = name.partition(".")
        if rest:
            groups.setdefault(group, {})[rest] = value
        else:
            own[name] = value
    nested = {group: _replace(getattr(config, group), inner) for group, inner in groups.items()}
    return dataclasses.replace(config, **own, **nested)
