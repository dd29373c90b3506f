"""python -m records info|verify RECORDS, python -m records dispatcher|worker: what is in, and servers of records."""

import sys
from dataclasses import dataclass

import cli
from records.info import read_info
from records.table import info_tables
from records.verify import verify

FAULTY = 1

_PROG = "python -m records"


@dataclass(frozen=True)
class RecordsConfig:
    """These commands have no settings."""


@dataclass(frozen=True)
class DispatcherConfig:
    """Where a dispatcher of the tf.data service listens."""

    port: int = 5050
    """To listen at; 0: any that is free."""


@dataclass(frozen=True)
class WorkerConfig:
    """Where a worker of the tf.data service listens."""

    port: int = 0
    """To listen at; 0: any that is free."""
    host: str | None = None
    """Name or address of this machine for those who train; null: the address under which the dispatcher sees it."""


def main() -> int:
    """Parses the command line and runs the command that it begins with."""
    servers = {"dispatcher": _dispatch, "worker": _work}
    if sys.argv[1:] and sys.argv[1] in servers:
        servers[sys.argv[1]](sys.argv[2:])
        return 0
    return _look()


def _look() -> int:
    """Shows or checks a folder; returns the exit code."""
    arguments, _ = cli.parse(
        RecordsConfig,
        {
            "command": ("info: show what is in; verify: check every byte, count and label.", ("info", "verify")),
            "records": "Folder made by `python -m preprocess`.",
        },
        _PROG,
        f"Shows or checks records. Decoding on other machines: {_PROG} dispatcher --help, {_PROG} worker --help.",
    )
    folder = arguments["records"]
    is_info = arguments["command"] == "info"
    info = read_info(folder, check_shards=is_info)  # verify names the records that a cut shard lacks
    if is_info:
        cli.console.print(info_tables(info, folder))
        return 0
    examples = sum(split.num_examples for split in info.splits.values())
    with cli.progress("verify", examples) as report:
        faults = list(verify(folder, info, report))
    for fault in faults:
        cli.console.print(fault)
    cli.console.print(f"{examples} examples, {len(faults)} faults" if faults else f"{examples} examples, all in order")
    return FAULTY if faults else 0


def _dispatch(argv: list[str]) -> None:
    _, config = cli.parse(
        DispatcherConfig,
        {},
        f"{_PROG} dispatcher",
        "Runs the dispatcher of a tf.data service: workers ask it for work, `train.py --input.data_service HOST:PORT` "
        "gets batches by it. It has no authentication and belongs in a trusted network.",
        argv,
    )
    from records.service import run_dispatcher

    run_dispatcher(config.port, cli.console.print)


def _work(argv: list[str]) -> None:
    arguments, config = cli.parse(
        WorkerConfig,
        {"dispatcher": "HOST:PORT of the dispatcher."},
        f"{_PROG} worker",
        "Runs a worker of a tf.data service: reads and decodes records for those who train. It must find them under "
        "the same paths. It has no authentication and belongs in a trusted network.",
        argv,
    )
    from records.service import run_worker

    run_worker(arguments["dispatcher"], config.port, config.host, cli.console.print)


if __name__ == "__main__":
    cli.run(main)
