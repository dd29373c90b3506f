"""The terminal: flags and recipes from a dataclass, progress, and errors in one line."""

import contextlib
import dataclasses
import difflib
import itertools
import os
import re
import signal
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any, Literal, NoReturn, TypeVar, get_args, get_origin

import jsonargparse
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn, TimeRemainingColumn

Config = TypeVar("Config")

# Read when TensorFlow is imported, which commands do behind this module: its notes on CPU instructions and CUDA
# libraries help nobody here.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

# Paths and class names may hold brackets: they are text, never markup.
console = Console(highlight=False, markup=False, soft_wrap=True)

USAGE_ERROR = 2


def parse(
    config_class: type[Config],
    positionals: dict[str, str | tuple[str, tuple[str, ...]]],
    prog: str,
    description: str,
    argv: list[str] | None = None,
    several: str | None = None,
) -> tuple[dict[str, Any], Config]:
    """Returns (positional values by name, config), from the command line and, if given, a --config file.

    Args:
      config_class: a frozen dataclass; its fields are the flags, their docstrings the help.
      positionals: help text by name, or (help text, choices). They are paths and never part of a recipe.
      prog: the command as the user types it.
      description: what the command does.
      argv: arguments; None for those of the process.
      several: the positional that may come several times; its value is a list.
    """
    jsonargparse.set_parsing_settings(docstring_parse_attribute_docstrings=True)
    parser = _Parser(
        prog=prog,
        description=description,
        formatter_class=jsonargparse.DefaultHelpFormatter,
        allow_abbrev=False,
        print_config=None,
    )
    arguments = _spell_out_switches(config_class, sys.argv[1:] if argv is None else argv)
    # A recipe holds no paths, so showing one must not ask for them.
    optional = "--print_config" in arguments
    for name, described in positionals.items():
        text, choices = described if isinstance(described, tuple) else (described, None)
        nargs = ("*" if optional else "+") if name == several else "?" if optional else None
        parser.add_argument(name, type=Literal[choices] if choices else str, help=text, nargs=nargs)
    parser.add_argument("--config", action="config", help="A recipe: a YAML file of these settings.")
    parser.add_argument("--print_config", action="store_true", help="Show the settings as a recipe, and exit.")
    parser.add_argument("--debug", action="store_true", help="Show the traceback of an error.")
    parser.add_class_arguments(config_class)
    for action in parser._actions:
        if action.help == "Path to a configuration file.":
            action.help = "A YAML file of the settings of this group."
    namespace = parser.parse_args(arguments)
    if namespace.print_config:
        for name in (*positionals, "config", "debug", "print_config"):
            namespace.pop(name, None)
        print(parser.dump(namespace, skip_none=False, skip_validation=True), end="")
        sys.exit(0)
    values = parser.instantiate(namespace)
    fields = {field.name for field in dataclasses.fields(config_class)}
    config = config_class(**{name: value for name, value in values.items() if name in fields})
    return {name: getattr(values, name) for name in positionals}, config


class _Parser(jsonargparse.ArgumentParser):
    """Tells a mistake in one line, as `run` does, and what the flag may have been meant to be."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        message, known, wrong = " ".join(message.split()), [], ""
        if match := _UNKNOWN_FLAG.search(message):
            wrong, known = match[1], [name for name in self._option_string_actions if name.startswith("--")]
        elif match := _UNKNOWN_KEY.search(message):
            wrong, known = match[1], [action.dest for action in self._actions]
        elif match := _WRONG_VALUE.search(message):
            key, wrong = match.groups()
            types = {action.dest: getattr(action, "_typehint", None) for action in self._actions}
            if types.get(key):
                message = f"{key}: expected {describe_type(types[key])}, found {wrong}"
                known = [choice for choice in get_args(types[key]) if isinstance(choice, str)]
        message = re.sub('^Parser key "([^"]+)"', r"\1", message)
        meant = difflib.get_close_matches(wrong, known, 1)
        advice = f"did you mean {meant[0]}?" if meant else f"{self.prog} --help shows all settings"
        print(f"error: {message}; {advice}", file=sys.stderr)
        sys.exit(USAGE_ERROR)


# What argparse says of a flag, and jsonargparse of a recipe's key, that is no setting; and of a value of another type.
_UNKNOWN_FLAG = re.compile("unrecognized arguments: ([^ =]+)")
_UNKNOWN_KEY = re.compile("Option '([^']+)' is not accepted")
_WRONG_VALUE = re.compile('Parser key "([^"]+)": .*(?:Got|Given) value: (.+)$')

_TYPE_WORDS = {int: "whole number", float: "number", str: "text", bool: "true or false", type(None): "null"}


def describe_type(typehint: Any, many: bool = False) -> str:
    """Returns what a setting's value may be, in words: of `int | None` "a whole number or null"; many: "numbers"."""
    arguments = get_args(typehint)
    kind = get_origin(typehint)
    if kind is Literal:
        return "one of " * (len(arguments) > 1) + ", ".join(map(str, arguments))
    if kind in (tuple, list):
        fixed = kind is tuple and Ellipsis not in arguments
        return f"a list of {f'{len(arguments)} ' if fixed else ''}{describe_type(arguments[0], many=True)}"
    if kind is dict:
        return f"a mapping from {describe_type(arguments[0])} to {describe_type(arguments[1], many=True)}"
    if arguments:
        return " or ".join(describe_type(argument, many) for argument in arguments)
    words = _TYPE_WORDS.get(typehint, str(typehint))
    if typehint not in (int, float, str):
        return words
    return f"{words}s" if many else f"a {words}"


def _spell_out_switches(config_class: type, arguments: list[str]) -> list[str]:
    """Returns the arguments with `--switch` as `--switch=true`, which is what jsonargparse reads."""
    switches = set(_switches(config_class))
    spelled = []
    for argument, following in itertools.pairwise([*arguments, ""]):
        bare = argument in switches and following not in ("true", "false")
        spelled.append(f"{argument}=true" if bare else argument)
    return spelled


def _switches(config_class: type, prefix: str = "--") -> Iterator[str]:
    for field in dataclasses.fields(config_class):
        if field.type is bool:
            yield prefix + field.name
        elif dataclasses.is_dataclass(field.type):
            yield from _switches(field.type, f"{prefix}{field.name}.")


def say_nothing(*_) -> None:
    """Stands for `console.print` where another process talks."""


@contextlib.contextmanager
def show_nothing(label: str, total: int) -> Iterator[Callable[..., None]]:
    """Stands for `progress` where another process shows it."""
    yield say_nothing


def run(main: Callable[[], int | None]) -> None:
    """Runs a command and exits.

    What a user can mend (ValueError, OSError, FloatingPointError) ends with one line and exit code 2.
    """
    try:
        code = main() or 0
        sys.stdout.flush()
        sys.exit(code)
    except BrokenPipeError:
        # A pipe that closes early (`| head`) is no error of ours. (SIG_DFL would also end the process, without a
        # word, when a Dask worker or a remote store hangs up.)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(128 + signal.SIGPIPE)
    except (ValueError, OSError, FloatingPointError) as error:
        if "--debug" in sys.argv:
            traceback.print_exc()
        print(f"error: {' '.join(str(error).split())}", file=sys.stderr)
        sys.exit(USAGE_ERROR)
    except KeyboardInterrupt:
        print("stopped; the same command goes on", file=sys.stderr)
        sys.exit(128 + signal.SIGINT)


@contextlib.contextmanager
def progress(label: str, total: int) -> Iterator[Callable[..., None]]:
    """Shows how much of `total` is done, the rate and the time left; plain lines where there is no terminal.

    Rate and time left count from the first report on: what stands there was done before, by a run that is resumed, or
    while everything warmed up.

    Yields:
      A function to be called with the number done so far, and with words on it where there are new ones.
    """
    start, pace = time.monotonic(), _Pace()
    if console.is_terminal:
        columns = (
            TextColumn("{task.description:<10}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("{task.fields[rate]}"),
            TextColumn("{task.fields[words]}"),
        )
        with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=console) as bar:
            task = bar.add_task(label, total=total, rate="", words="")

            def show(done: int, words: str = "") -> None:
                rate = pace.describe(done)
                bar.update(task, completed=done, rate=rate, **({"words": words} if words else {}))

            yield show
    else:
        last, reached, latest = start, 0, ""

        def show(done: int, words: str = "") -> None:
            nonlocal last, reached, latest
            reached, latest, now = done, words or latest, time.monotonic()
            rate = pace.describe(done, total)
            if now - last > 10 and 0 < done < total:
                last = now
                console.print("  ".join(filter(None, [f"{label:<10} {done}/{total}", rate, latest])))

        yield show
        console.print(f"{label:<10} {reached}/{total}  {time.monotonic() - start:.1f} s")


class _Pace:
    """How fast work goes, from its first report on."""

    def __init__(self):
        self._first: tuple[float, int] | None = None

    def describe(self, done: int, total: int | None = None) -> str:
        """Returns the rate, and the time left where there is a total; nothing as long as neither is known."""
        now = time.monotonic()
        start, before = self._first = self._first or (now, done)
        if done <= before or now <= start:
            return ""
        rate = (done - before) / (now - start)
        return f"{rate:,.1f}/s" + (f"  {(total - done) / rate:.0f} s left" if total is not None else "")
