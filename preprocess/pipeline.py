"""Running independent tasks on Beam.

Index and write are the same kind of work: tasks that share nothing, each of which leaves one finished file in the
records folder. Elements carry paths and keys, never pixels, and results come back as files: a runner may run a task
twice or keep no metrics (Dask does both).
"""

import os
import queue
import re
import shlex
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Protocol

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions, StandardOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from apache_beam.transforms.environments import SubprocessSDKEnvironment

from preprocess.storage import list_files


class Task(Protocol):
    """A piece of work: how many items it holds, and the file that says it is done."""

    items: int
    done_file: str


Report = Callable[[int], None]
"""Is told, now and then, how many items are done."""


def run_tasks(
    tasks: Sequence[Task],
    fn: beam.DoFn,
    label: str,
    folder: str,
    workers: int,
    beam_options: str,
    report: Report,
) -> None:
    """Runs every task through `fn`, on `workers` local processes or on the runner that `beam_options` names.

    Raises:
      ValueError, OSError: what a task raised, without Beam's frames.
      RuntimeError: anything else that went wrong on the runner.
    """
    if not tasks:
        return
    if beam_options:
        runner, options = None, PipelineOptions(shlex.split(beam_options))
        if not options.view_as(StandardOptions).runner:
            # Beam's default would be DirectRunner, which downloads another one.
            raise ValueError(f"beam: expected --runner=... among Beam's options, found {beam_options!r}")
    else:
        runner, options = _local_runner(workers), PipelineOptions([f"--direct_num_workers={workers}"])
    stop = threading.Event()
    watcher = threading.Thread(target=_watch, args=(tasks, folder, report, stop), daemon=True)
    watcher.start()
    pipeline = beam.Pipeline(runner=runner, options=options)
    _ = (
        pipeline
        | "CreateTasks" >> beam.Create(tasks)  # Task
        | "SpreadTasks" >> beam.Reshuffle()  # Task
        | label >> beam.ParDo(fn)  # nothing: each task leaves a file
    )
    try:
        _run(pipeline)
    except (RuntimeError, OSError, ValueError) as error:
        raise _cause(error) from error
    finally:
        stop.set()
        watcher.join()


def _run(pipeline: beam.Pipeline) -> None:
    """Runs a pipeline to its end, or raises OSError as soon as a local worker dies: Beam would wait for it for ever."""
    outcome: queue.SimpleQueue[BaseException | None] = queue.SimpleQueue()

    def run() -> None:
        try:
            pipeline.run().wait_until_finish()
            outcome.put(None)
        except BaseException as error:
            outcome.put(error)

    def thread_failed(failure) -> None:
        # Codes -2 and 130: Ctrl-C ended the worker, and will end us.
        if re.search(r"Worker subprocess exited with return code (?!-2$|130$)", str(failure.exc_value)):
            outcome.put(
                OSError(
                    f"a worker process died ({failure.exc_value}); where memory is short, the system ends it: "
                    "run the same command again with fewer --workers"
                )
            )

    hook, threading.excepthook = threading.excepthook, thread_failed
    try:
        threading.Thread(target=run, daemon=True).start()
        if error := outcome.get():
            raise error
    finally:
        threading.excepthook = hook


def _local_runner(workers: int) -> FnApiRunner:
    """Returns Beam's local runner, by name: the string "DirectRunner" would try to download another one."""
    if workers == 1:
        return FnApiRunner()
    # The workers' log lines (every start and stop, and C libraries' complaints without a file name) would drown
    # ours; what a task raises comes back through Beam.
    command = f'exec "{sys.executable}" -m preprocess.worker {os.getpid()} 2>{os.devnull}'
    return FnApiRunner(default_environment=SubprocessSDKEnvironment.from_command_string(command))


def _watch(tasks: Sequence[Task], folder: str, report: Report, stop: threading.Event) -> None:
    while True:
        stopped = stop.wait(0.5)
        files = list_files(folder)
        report(sum(task.items for task in tasks if task.done_file in files))
        if stopped:
            return


def _cause(error: BaseException) -> BaseException:
    """Returns the exception that a task raised; Beam hands it over as the text of a traceback."""
    lines = re.findall(
        r"^(?:\w+\.)*(ValueError|OSError|PermissionError): (.+?)(?: \[while running|$)", str(error), re.M
    )
    if lines:
        kind, message = lines[-1]
        return ValueError(message) if kind == "ValueError" else OSError(message)
    return error
