"""A search: trials, one after the other, each a train.py of its own.

A process of its own means that a trial which runs out of memory, diverges or crashes is one failed trial, that it
leaves nothing on the GPU, and that the trainer's own checkpoints let it go on where a killed search left it.
"""

import dataclasses
import errno
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from records.info import RecordsInfo
from training.preemption import Preempted, Preemption
from training.run_folder import write_text
from training.tuning import process
from training.tuning.config import TuneConfig
from training.tuning.hold import hold
from training.tuning.results import describe_end, describe_settings, write_results
from training.tuning.space import Space
from training.tuning.study import Proposal, most_epochs
from training.tuning.trial import SearchFolder, Trial, best_trial, dump_recipe, read_scores, read_trials, write_trial

_POLL = 0.5
"""Seconds between looks at a trial."""

_FULL_DISK = tuple(os.strerror(number) for number in (errno.ENOSPC, errno.EDQUOT))


def search(
    records: str,
    info: RecordsInfo,
    folder: SearchFolder,
    config: TuneConfig,
    space: Space,
    tell: Callable[[str], None],
    show: Callable[[str], None],
) -> list[Trial]:
    """Runs trials until there are as many as wanted, or nothing is left to be tried; returns all of them.

    Args:
      records: folder of the records.
      info: of the records.
      folder: where everything goes; one that holds this very search is gone on with.
      config: settings of the search.
      space: what is searched.
      tell: shows a line to the user.
      show: shows where the trial under way stands.

    Raises:
      ValueError: settings and SEARCH folder do not fit together, or trials fail one after the other.
      Preempted: the process was asked to stop; the same call goes on.
    """
    if config.min_epochs > most_epochs(space):
        raise ValueError(
            f"min_epochs: expected at most the {most_epochs(space)} epochs of a trial, found {config.min_epochs}"
        )
    with Preemption() as preemption, hold(folder, config, space, info):
        preemption.deferred = True  # everything is in files at any time
        return _Search(records, info, folder, config, space, preemption, tell, show).run()


@dataclass
class _Search:
    """The arguments of `search`, and what asks to stop."""

    records: str
    info: RecordsInfo
    folder: SearchFolder
    config: TuneConfig
    space: Space
    preemption: Preemption
    tell: Callable[[str], None]
    show: Callable[[str], None]

    def run(self) -> list[Trial]:
        """Runs the trials that are missing; returns all."""
        trials, failures = read_trials(self.folder), 0
        running = trials.pop() if trials and trials[-1].state == "running" else None
        if trials or running:
            under_way = f", trial {running.number} under way" if running else ""
            self.tell(f"going on: {len(trials)} trials have ended{under_way}")
        for trial in trials:
            self._clean(trial)  # the search may have been killed before it could
        while len(trials) < self.config.trials:
            if self.preemption.asked:
                raise Preempted("stopped as asked (SIGTERM) between two trials; the same command goes on")
            proposal = Proposal(self.config, self.space, trials)
            settings = running.settings if running else proposal.settings()
            if settings is None:
                self.tell("every combination of the settings has been tried")
                break
            trials.append(self._run(running or Trial(len(trials), settings), proposal, best_trial(trials)))
            running = None
            write_results(self.folder, self.space, self.info, trials)
            failures = failures + 1 if trials[-1].state == "failed" else 0
            if failures == self.config.max_failures:
                raise ValueError(
                    f"{self.folder.path}: {failures} trials failed one after the other, the last one as: "
                    f"{trials[-1].reason}; see {self.folder.log(trials[-1].number)}; the same command goes on with the "
                    "next trial"
                )
        write_results(self.folder, self.space, self.info, trials)
        return trials

    def _run(self, trial: Trial, proposal: Proposal, best: Trial | None) -> Trial:
        """Returns a trial as it ended."""
        self.tell(f"{f'trial {trial.number}':<10} {describe_settings(trial)}")
        write_trial(self.folder, trial)
        trial = _Run(self, trial, proposal, best).run()
        write_trial(self.folder, trial)
        self._clean(trial)
        is_best = trial.state == "finished" and (best is None or trial.best[0] > best.best[0])
        self.tell(f"{'':<10} {describe_end(self.space, trial, is_best)}")
        return trial

    def _clean(self, trial: Trial) -> None:
        """Deletes what only a trial that goes on needs: a hundred of them would fill the disk."""
        run = self.folder.run(trial.number)
        for path in (run.checkpoints, run.cache, run.mended):
            shutil.rmtree(path, ignore_errors=True)


class _Run:
    """A trial under way.

    Args:
      search: whose trial it is.
      trial: as it stands.
      proposal: judges its epochs.
      best: trial so far.
    """

    def __init__(self, search: _Search, trial: Trial, proposal: Proposal, best: Trial | None):
        # Epochs are judged anew: what the proposal knows of them was in the memory of a process that is gone.
        self._trial, self._before = dataclasses.replace(trial, scores=[]), trial.seconds
        self._search, self._folder, self._proposal = search, search.folder, proposal
        self._start, self._best = time.monotonic(), best
        self._epochs = trial.settings.get("epochs", search.space.base.epochs)

    def run(self) -> Trial:
        """Trains, goes on where an earlier process was killed; returns the trial as it ended.

        Raises:
          Preempted: somebody asked to stop; the trial has saved.
        """
        number = self._trial.number
        try:
            config = self._search.space.config(self._trial.settings)
        except ValueError as error:
            return self._ended("failed", str(error))
        write_text(self._folder.recipe(number), dump_recipe(config))
        self._wait_for_others()
        if self._is_given_up():
            return self._ended("pruned")
        run = str(self._folder.run(number).path)
        command = [sys.executable, str(process.TRAIN), self._search.records, run]
        command += ["--config", str(self._folder.recipe(number))]
        with process.started(command, self._folder.log(number)) as child:
            try:
                while (code := _wait(child)) is None:
                    if self._is_given_up():
                        process.stop(child)
                        return self._ended("pruned")
                    self._stop_if_asked(child)
            except KeyboardInterrupt:
                process.stop(child, None)
                raise
        return self._ended("pruned") if self._is_given_up() else self._judge_end(code)

    def _judge_end(self, code: int) -> Trial:
        if process.was_stopped(code):
            raise Preempted(f"trial {self._trial.number} was stopped by somebody (SIGTERM); the same command goes on")
        if code:
            reason = process.failure(code, self._folder.log(self._trial.number))
            if any(words in reason for words in _FULL_DISK):
                raise ValueError(f"trial {self._trial.number}: {reason}; make room, and the same command goes on")
            return self._ended("failed", reason)
        return self._ended("finished")

    def _is_given_up(self) -> bool:
        """Judges the epochs that have ended since the last call; returns whether the trial is to end before its time.

        However late it is called, the trial is judged by the same epochs.
        """
        column, name = self._search.space.base.monitored
        scores = read_scores(self._folder.run(self._trial.number), column)
        for score in scores[len(self._trial.scores) :]:
            self._trial = self._timed(scores=[*self._trial.scores, score])
            given_up = self._proposal.gives_up(score)
            if given_up and len(self._trial.scores) < self._epochs:  # behind its last epoch it has finished
                return True
            write_trial(self._folder, self._trial)
        words = [f"trial {self._trial.number}", f"epoch {len(self._trial.scores)}/{self._epochs}"]
        for label, trial in ((name, self._trial), ("best trial", self._best)):
            if trial and trial.best:
                words.append(f"{label} {trial.best[0]:.4f}")
        self._search.show("  ".join(words))
        return False

    def _stop_if_asked(self, child: subprocess.Popen) -> None:
        if self._search.preemption.asked:
            self._search.show(f"trial {self._trial.number} saves")
            process.stop(child, None)
            write_trial(self._folder, self._timed())
            raise Preempted(f"stopped as asked (SIGTERM) in trial {self._trial.number}; the same command goes on")

    def _wait_for_others(self) -> None:
        run, told = self._folder.run(self._trial.number).path, False
        while process.is_held(run):
            if self._search.preemption.asked:
                raise Preempted("stopped as asked (SIGTERM); the same command goes on")
            if not told:
                self._search.tell(f"{run}: a process that a killed search has left trains into it; waiting for its end")
            told = True
            time.sleep(_POLL)

    def _timed(self, **changes) -> Trial:
        return dataclasses.replace(
            self._trial, seconds=self._before + time.monotonic() - self._start, notes=self._proposal.notes, **changes
        )

    def _ended(self, state: Literal["finished", "pruned", "failed"], reason: str = "") -> Trial:
        if state != "failed" and self._trial.best is None:
            state, reason = "failed", "no epoch has a finite score"
        return self._timed(state=state, reason=reason)


def _wait(child: subprocess.Popen) -> int | None:
    """Returns the exit code, or None if the process is not done after a while."""
    try:
        return child.wait(_POLL)
    except subprocess.TimeoutExpired:
        return None
