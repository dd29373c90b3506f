"""What a search has found: a table, a picture, and the best settings as a recipe."""

import csv
import io
from typing import Any

from rich.table import Table

from records.info import RecordsInfo
from training.run_folder import write_text
from training.tuning.plot import plot_trials
from training.tuning.space import Space, label
from training.tuning.trial import SearchFolder, Trial, best_trial, dump_recipe

_SHOWN = 20
"""Rows of the table in the terminal."""

_ORDER = ("finished", "pruned", "failed")


def write_results(folder: SearchFolder, space: Space, info: RecordsInfo, trials: list[Trial]) -> None:
    """Writes trials.csv, parallel_coordinates.png and, once a trial has finished, best.yaml."""
    write_text(folder.table, _csv(space, trials))
    plot_trials(space, trials, folder.plot)
    if best := best_trial(trials):
        write_text(folder.best, _recipe(folder, space, info, trials, best))


def trial_table(space: Space, trials: list[Trial], folder: SearchFolder, width: int) -> Table:
    """Returns trials, the best first, to be printed in a terminal that is so many characters wide."""
    ranked = sorted(trials, key=lambda trial: (_ORDER.index(trial.state), -trial.best[0] if trial.best else 0))
    rows = [_row(space, trial) for trial in ranked[:_SHOWN]]
    headings = ["trial", space.base.monitored[1], "epoch", "time", "end", *short_names(space)]
    widths = [max(map(len, column)) for column in zip(headings, *rows, strict=True)]
    if sum(widths) + 2 * len(widths) > width:
        headings[5:] = ["settings"]
        rows = [[*row[:5], describe_settings(trial)] for row, trial in zip(rows, ranked, strict=False)]
    shown = f"{len(trials)} trials" if len(trials) <= _SHOWN else f"the best {_SHOWN} of {len(trials)} trials"
    table = Table(title=f"{shown}: {folder.table}", title_justify="left", box=None, padding=(0, 2, 0, 0))
    for index, heading in enumerate(headings):
        table.add_column(heading, justify="right" if index < 4 else "left", no_wrap=index < 4)
    for row in rows:
        table.add_row(*row)
    return table


def _row(space: Space, trial: Trial) -> list[str]:
    score, epoch = trial.best or (None, None)
    end = f"failed: {trial.reason}" if trial.state == "failed" else trial.state
    values = [show(trial.settings[setting.name]) for setting in space.settings]
    words = "" if score is None else f"{score:.4f}"
    return [str(trial.number), words, _of(epoch, trial), _time(trial.seconds), end, *values]


def short_names(space: Space) -> list[str]:
    """Returns the settings' names without their groups, where they differ without them."""
    names = [setting.name for setting in space.settings]
    last = [name.rpartition(".")[2] for name in names]
    return [short if last.count(short) == 1 and short != "name" else name
            for short, name in zip(last, names, strict=True)]  # fmt: skip


def show(value: Any) -> str:
    """Returns a value as a recipe has it: {bce: 1}, [8, 16], 0.001."""
    if isinstance(value, float):
        return f"{value:.4g}"
    return label(value).replace('"', "")


def describe_settings(trial: Trial) -> str:
    """Returns what a trial tries, in words."""
    return ", ".join(f"{name} {show(value)}" for name, value in trial.settings.items())


def describe_end(space: Space, trial: Trial, best: bool) -> str:
    """Returns what came of a trial, in words."""
    if trial.state == "failed":
        return f"failed after {_time(trial.seconds)}: {trial.reason}"
    score, epoch = trial.best
    end = f"pruned behind epoch {len(trial.scores)}" if trial.state == "pruned" else "finished"
    words = f"{space.base.monitored[1]} {score:.4f} at epoch {_of(epoch, trial)}, {_time(trial.seconds)}"
    return f"{end}: {words}{'  best' if best else ''}"


def _csv(space: Space, trials: list[Trial]) -> str:
    names = [setting.name for setting in space.settings]
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(["trial", "state", "score", "best_epoch", "epochs", "seconds", *names, "reason"])
    for trial in trials:
        score, epoch = trial.best or ("", "")
        values = [label(trial.settings[name]) for name in names]
        seconds = f"{trial.seconds:.1f}"
        table.writerow([trial.number, trial.state, score, epoch, len(trial.scores), seconds, *values, trial.reason])
    return text.getvalue()


def _recipe(folder: SearchFolder, space: Space, info: RecordsInfo, trials: list[Trial], best: Trial) -> str:
    """Returns the best trial's settings, and where they come from."""
    score, epoch = best.best
    ends = [trial.state for trial in trials]
    counts = ", ".join(f"{ends.count(state)} {state}" for state in _ORDER if state in ends)
    head = [
        f"Trial {best.number} of the search {folder.path}, the best of {len(trials)} ({counts}).",
        f"Records: {info.name}, fingerprint {info.fingerprint[:12]}",
        f"Score:   {space.base.monitored[0]} {score:.4f} at epoch {_of(epoch, best)}",
        f"Searched: {describe_settings(best)}",
    ]
    return "".join(f"# {line}\n" for line in head) + dump_recipe(space.config(best.settings))


def _of(epoch: int | None, trial: Trial) -> str:
    return "" if epoch is None else f"{epoch} of {len(trial.scores)}"


def _time(seconds: float) -> str:
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {seconds} s" if minutes else f"{seconds} s"
