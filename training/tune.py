"""python -m training.tune RECORDS SEARCH --space SPACE: which settings?"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import cli
from training.tuning.config import TuneConfig

_TELL_EVERY = 60.0
"""Seconds between lines on the trial under way, where there is no terminal."""


def main() -> int:
    """Parses the command line, searches, shows what was found."""
    paths, config = cli.parse(
        TuneConfig,
        {
            "records": "Folder made by `python -m preprocess`.",
            "search": "Folder for the trials and what they found.",
        },
        "python -m training.tune",
        "Trains with many settings, one trial after the other; the same command continues a search that was stopped.",
    )
    from records.info import judged_split, read_info
    from training.cluster import cluster_size
    from training.preemption import Preempted
    from training.tuning.results import trial_table
    from training.tuning.search import search
    from training.tuning.space import read_space
    from training.tuning.trial import SearchFolder, best_trial

    tell = cli.console.print
    if (machines := cluster_size()) > 1:
        raise ValueError(f"TF_CONFIG: expected one machine for a search, found {machines}; unset TF_CONFIG")
    space = read_space(Path(config.space), config.train)
    info = read_info(paths["records"], check_shards=False)  # train.py checks, and names what is lost
    folder = SearchFolder(Path(paths["search"]))
    try:
        with _status() as show:
            trials = search(paths["records"], info, folder, config, space, tell, show)
    except Preempted as stop:
        tell(str(stop))
        return stop.exit_code
    tell(trial_table(space, trials, folder, cli.console.width))
    tell(f"{'plot':<10} {folder.plot}")
    best = best_trial(trials)
    if best is None:
        tell(f"{'best':<10} none: no trial has finished")
        return 0
    score, epoch = best.best
    split = judged_split(info, space.config(best.settings).input.fold)
    choice = "" if split == "test" else f" --split {split}"
    found = f"validation {space.base.monitored[1]} {score:.4f} at epoch {epoch}"
    tell(f"{'best':<10} trial {best.number}, {found}: {folder.best}")
    tell(f"{'next':<10} python test.py {folder.run(best.number).path} {paths['records']}{choice}")
    tell(f"{'longer':<10} python train.py {paths['records']} RUN --config {folder.best} --epochs N")
    return 0


@contextmanager
def _status() -> Iterator[Callable[[str], None]]:
    """Shows a line that changes; where there is no terminal, a line now and then."""
    if cli.console.is_terminal:
        with cli.console.status("") as status:
            yield status.update
        return
    last = time.monotonic()

    def show(words: str) -> None:
        nonlocal last
        if time.monotonic() - last > _TELL_EVERY:
            last = time.monotonic()
            cli.console.print(words)

    yield show


if __name__ == "__main__":
    cli.run(main)
