import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
import yaml

import cli


@dataclass(frozen=True)
class Inner:
    """Nested settings."""

    depth: int = 4
    """Number of levels."""
    fast: bool = False
    """Be quick."""

    def __post_init__(self):
        if self.depth < 1:
            raise ValueError(f"model.depth: expected at least 1, found {self.depth}")


@dataclass(frozen=True)
class Settings:
    """Settings of a made-up command."""

    epochs: int = 50
    """Times that everything is seen."""
    rate: float = 1e-3
    """How far a step goes."""
    loss: Literal["bce", "dice"] = "bce"
    """What is made small."""
    plan_only: bool = False
    """Stop after the plan."""
    overwrite: bool = False
    """Replace what is there."""
    threads: int | None = None
    """Null: as many as there are."""
    classes: list[str] | None = None
    """Names."""
    model: Inner = field(default_factory=Inner)
    """Of the network."""


POSITIONALS = {"layout": ("How it lies.", ("nuclei", "folder")), "raw": "Where from.", "out": "Where to."}
PATHS = {"layout": "nuclei", "raw": "from/here", "out": "to/there"}
ARGUMENTS = list(PATHS.values())


def parse(*arguments):
    return cli.parse(Settings, POSITIONALS, "python -m made", "Does nothing.", list(arguments))


def parse_fails(capsys, *arguments) -> str:
    """Returns what is on stderr after a usage error."""
    with pytest.raises(SystemExit) as exit_:
        parse(*arguments)
    assert exit_.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    return captured.err


def printed_recipe(capsys, *arguments) -> str:
    with pytest.raises(SystemExit) as exit_:
        parse(*arguments)
    assert exit_.value.code == 0
    return capsys.readouterr().out


def test_without_flags_the_defaults_hold():
    assert parse(*ARGUMENTS) == (PATHS, Settings())


def test_flags_set_fields_of_every_type():
    _, config = parse(
        *ARGUMENTS, "--epochs", "3", "--rate=0.5", "--loss", "dice", "--threads", "2", "--classes", "[sky,tree]"
    )
    assert config == Settings(epochs=3, rate=0.5, loss="dice", threads=2, classes=["sky", "tree"])
    assert parse(*ARGUMENTS, "--threads", "null")[1] == Settings()


def test_nested_flags_set_fields_of_nested_settings():
    _, config = parse(*ARGUMENTS, "--model.depth", "2", "--model.fast", "true")
    assert config == Settings(model=Inner(depth=2, fast=True))
    assert isinstance(config.model, Inner)


@pytest.mark.parametrize(
    "arguments",
    [
        ["--plan_only", *ARGUMENTS],
        [*ARGUMENTS, "--plan_only"],
        ["nuclei", "--plan_only", "from/here", "to/there"],
        [*ARGUMENTS, "--plan_only", "true"],
        [*ARGUMENTS, "--plan_only=true"],
        [*ARGUMENTS, "--overwrite", "false", "--plan_only"],
    ],
)
def test_a_bare_switch_means_true_wherever_it_stands(arguments):
    assert parse(*arguments) == (PATHS, Settings(plan_only=True))


def test_two_bare_switches_and_one_turned_off():
    assert parse("--plan_only", "--overwrite", *ARGUMENTS)[1] == Settings(plan_only=True, overwrite=True)
    assert parse(*ARGUMENTS, "--plan_only", "false")[1] == Settings()


def test_a_bare_switch_of_nested_settings_means_true_too():
    assert parse(*ARGUMENTS, "--model.fast")[1] == Settings(model=Inner(fast=True))


@pytest.mark.parametrize("arguments", [["--epoch", "3"], ["--plan-only"], ["--model.width", "3"], ["--runner=X"]])
def test_an_unknown_flag_is_named_and_ends_with_2(capsys, arguments):
    assert arguments[0].split("=")[0] in parse_fails(capsys, *ARGUMENTS, *arguments)


def test_a_value_of_the_wrong_type_is_named_and_ends_with_2(capsys):
    message = parse_fails(capsys, *ARGUMENTS, "--epochs", "many")
    assert "epochs" in message
    assert "many" in message


def test_a_missing_path_and_an_unknown_layout_end_with_2(capsys):
    assert "out" in parse_fails(capsys, "nuclei", "from/here").splitlines()[-1]
    assert "airbus" in parse_fails(capsys, "airbus", "from/here", "to/there")


def test_a_setting_that_its_class_refuses_is_a_value_error_with_its_own_message():
    with pytest.raises(ValueError, match=r"model\.depth: expected at least 1, found 0"):
        parse(*ARGUMENTS, "--model.depth", "0")


def test_a_config_file_sets_fields_and_flags_behind_it_win(tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("epochs: 3\nplan_only: true\nmodel:\n  depth: 7\n")
    assert parse(*ARGUMENTS, "--config", str(recipe)) == (
        PATHS,
        Settings(epochs=3, plan_only=True, model=Inner(depth=7)),
    )
    _, config = parse("--config", str(recipe), *ARGUMENTS, "--epochs", "4", "--model.fast", "true")
    assert config == Settings(epochs=4, plan_only=True, model=Inner(depth=7, fast=True))


def test_an_unknown_key_in_a_config_file_is_named_and_ends_with_2(capsys, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("epoch: 3\n")
    assert "epoch" in parse_fails(capsys, *ARGUMENTS, "--config", str(recipe)).splitlines()[-1]


def test_a_config_file_that_is_not_there_is_named_and_ends_with_2(capsys, tmp_path):
    path = str(tmp_path / "nowhere.yaml")
    assert path in parse_fails(capsys, *ARGUMENTS, "--config", path)


def test_print_config_needs_no_paths_and_shows_every_setting(capsys):
    recipe = yaml.safe_load(printed_recipe(capsys, "--print_config", "--epochs", "3", "--plan_only"))
    expected = {
        "epochs": 3,
        "rate": 0.001,
        "loss": "bce",
        "plan_only": True,
        "overwrite": False,
        "threads": None,
        "classes": None,
        "model": {"depth": 4, "fast": False},
    }
    assert {name: recipe[name] for name in expected} == expected


@pytest.mark.parametrize("paths", [[], ARGUMENTS], ids=["without_paths", "with_paths"])
def test_print_config_holds_no_paths(capsys, paths):
    recipe = yaml.safe_load(printed_recipe(capsys, *paths, "--print_config"))
    assert not recipe.keys() & PATHS.keys()


@pytest.mark.parametrize("paths", [[], ["folder", "somewhere/else", "gone"]], ids=["without_paths", "with_paths"])
def test_what_print_config_shows_is_a_recipe_for_any_paths(capsys, tmp_path, paths):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(printed_recipe(capsys, *paths, "--print_config", "--epochs", "3", "--model.depth", "2"))
    expected = (PATHS, Settings(epochs=3, model=Inner(depth=2)))
    assert parse(*ARGUMENTS, "--config", str(recipe)) == expected
    assert parse("--config", str(recipe), *ARGUMENTS) == expected


def test_help_shows_each_settings_meaning_and_default(capsys):
    with pytest.raises(SystemExit) as exit_:
        parse("--help")
    assert exit_.value.code == 0
    text = " ".join(capsys.readouterr().out.split())
    for part in ("Does nothing.", "Times that everything is seen.", "50", "Number of levels.", "--model.depth", "How"):
        assert part in text


# --- errors


@pytest.fixture(autouse=True)
def pipe_signal():
    """`run` sets how the process takes a closed pipe; the tests' own process goes on as before."""
    before = signal.getsignal(signal.SIGPIPE)
    yield
    signal.signal(signal.SIGPIPE, before)


def ended(main, *flags, monkeypatch, capsys):
    """Returns (exit code, stderr) of a command."""
    monkeypatch.setattr(sys, "argv", ["command", *flags])
    with pytest.raises(SystemExit) as exit_:
        cli.run(main)
    captured = capsys.readouterr()
    assert captured.out == ""
    return exit_.value.code, captured.err


def mistake(error):
    def main():
        raise error

    return main


@pytest.mark.parametrize("error", [ValueError("expected 3,\n  found\n4"), OSError("expected 3, found 4")])
def test_a_users_mistake_is_one_line_on_stderr_and_ends_with_2(monkeypatch, capsys, error):
    code, text = ended(mistake(error), monkeypatch=monkeypatch, capsys=capsys)
    assert (code, text) == (2, "error: expected 3, found 4\n")


def test_a_missing_file_is_named(monkeypatch, capsys, tmp_path):
    path = tmp_path / "nowhere"
    code, text = ended(path.read_bytes, monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert str(path) in text
    assert text.count("\n") == 1


def test_debug_shows_the_traceback_too(monkeypatch, capsys):
    error = ValueError("expected 3, found 4")
    code, text = ended(mistake(error), "--debug", monkeypatch=monkeypatch, capsys=capsys)
    assert code == 2
    assert text.startswith("Traceback (most recent call last):")
    assert "in main" in text
    assert text.splitlines()[-1] == "error: expected 3, found 4"


def test_debug_is_a_flag_of_every_command():
    assert parse("--debug", *ARGUMENTS) == (PATHS, Settings())


def test_a_bug_is_not_taken_for_a_users_mistake(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command"])
    with pytest.raises(ZeroDivisionError):
        cli.run(lambda: 1 // 0)


@pytest.mark.parametrize(("returned", "code"), [(None, 0), (0, 0), (1, 1)])
def test_a_command_ends_with_what_main_returns(monkeypatch, capsys, returned, code):
    assert ended(lambda: returned, monkeypatch=monkeypatch, capsys=capsys) == (code, "")


def test_a_command_that_was_stopped_ends_with_130_and_one_line(monkeypatch, capsys):
    code, text = ended(mistake(KeyboardInterrupt()), monkeypatch=monkeypatch, capsys=capsys)
    assert code == 130
    assert text == "stopped; the same command goes on\n"


def test_a_command_without_positionals_runs_without_any_argument(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["command"])
    paths, config = cli.parse(Settings, {}, "command", "Does nothing.")
    assert (paths, config) == ({}, Settings())


def test_a_mistake_is_told_in_one_line_with_the_flag_that_may_be_meant(capsys):
    message = parse_fails(capsys, *ARGUMENTS, "--epoch", "3")
    assert message.count("\n") == 1
    assert message.startswith("error: ")
    assert message.endswith("; did you mean --epochs?\n")
    assert parse_fails(capsys, *ARGUMENTS, "--zzz=3").endswith("; python -m made --help shows all settings\n")


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("--epochs=1.5", "epochs: expected a whole number, found 1.5"),
        ("--rate=fast", "rate: expected a number, found fast"),
        ("--loss=dise", "loss: expected one of bce, dice, found dise; did you mean dice?"),
        ("--overwrite=perhaps", "overwrite: expected true or false, found perhaps"),
        ("--threads=[2]", "threads: expected a whole number or null, found [2]"),
        ("--classes={a: 1}", "classes: expected a list of texts or null, found {'a': 1}"),
        ("--model.depth=deep", "model.depth: expected a whole number, found deep"),
        ("--config=missing.yaml", "config: File does not exist"),
    ],
)
def test_a_value_of_another_type_is_told_in_words(capsys, wrong, message):
    assert parse_fails(capsys, *ARGUMENTS, wrong).startswith(f"error: {message}")


@pytest.mark.parametrize(
    ("typehint", "words"),
    [
        (tuple[float, float] | None, "a list of 2 numbers or null"),
        (int | tuple[int, ...], "a whole number or a list of whole numbers"),
        (dict[Literal["bce", "dice"], float], "a mapping from one of bce, dice to numbers"),
        (list[float] | Literal["balanced"] | None, "a list of numbers or balanced or null"),
    ],
)
def test_types_have_words(typehint, words):
    assert cli.describe_type(typehint) == words


def test_tensorflow_is_told_to_be_quiet_before_it_is_imported():
    code = "import os, sys, cli; print(os.environ['TF_CPP_MIN_LOG_LEVEL'], 'tensorflow' in sys.modules)"
    environment = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    output = subprocess.check_output([sys.executable, "-c", code], cwd=Path(cli.__file__).parent, env=environment)
    assert output.split() == [b"3", b"False"]


def test_a_recipe_with_a_misspelt_setting_names_the_one_that_may_be_meant(capsys, tmp_path):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("modle:\n  depth: 3\n")
    message = parse_fails(capsys, *ARGUMENTS, f"--config={recipe}")
    assert "'modle.depth' is not accepted; did you mean model.depth?" in message


def test_the_help_says_what_a_group_of_settings_takes(capsys):
    with pytest.raises(SystemExit):
        cli.parse(Settings, POSITIONALS, "python -m made", "Does nothing.", ["--help"])
    assert "A YAML file of the settings of this group." in capsys.readouterr().out


def test_a_positional_that_may_come_several_times_is_a_list(capsys):
    def parse_runs(*arguments):
        return cli.parse(Settings, {"runs": "Where."}, "python -m made", "Nothing.", list(arguments), several="runs")

    assert parse_runs("one", "two", "--epochs", "3") == ({"runs": ["one", "two"]}, Settings(epochs=3))
    assert parse_runs("--plan_only", "one")[0] == {"runs": ["one"]}
    with pytest.raises(SystemExit):
        parse_runs()
    assert "runs" in capsys.readouterr().err
    with pytest.raises(SystemExit) as exit_:
        parse_runs("--print_config")
    assert exit_.value.code == 0
    assert "runs" not in yaml.safe_load(capsys.readouterr().out)
