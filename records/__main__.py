"""python -m records info|verify RECORDS."""

from dataclasses import dataclass

import cli
from records.info import read_info
from records.table import info_tables
from records.verify import verify

FAULTY = 1


@dataclass(frozen=True)
class RecordsConfig:
    """These commands have no settings."""


def main() -> int:
    """Parses the command line and shows or checks a records folder."""
    arguments, _ = cli.parse(
        RecordsConfig,
        {
            "command": ("info: show what is in; verify: check every byte, count and label.", ("info", "verify")),
            "records": "Folder made by `python -m preprocess`.",
        },
        "python -m records",
        "Shows or checks records.",
    )
    folder = arguments["records"]
    info = read_info(folder)
    if arguments["command"] == "info":
        cli.console.print(info_tables(info, folder))
        return 0
    examples = sum(split.num_examples for split in info.splits.values())
    with cli.progress("verify", examples) as report:
        faults = list(verify(folder, info, report))
    for fault in faults:
        cli.console.print(fault)
    cli.console.print(f"{examples} examples, {len(faults)} faults" if faults else f"{examples} examples, all in order")
    return FAULTY if faults else 0


if __name__ == "__main__":
    cli.run(main)
