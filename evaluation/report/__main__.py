"""python -m evaluation.report RUN: the page of an evaluation anew, from its files."""

from dataclasses import dataclass
from pathlib import Path

import cli


@dataclass(frozen=True)
class ReportConfig:
    """Which evaluation."""

    split: str = "test"
    """Name of the evaluation's folder in RUN/eval: its split, with -gate behind it for one with a gate."""


def main() -> None:
    """Parses the command line, makes the page."""
    paths, config = cli.parse(
        ReportConfig,
        {"run": "Folder made by train.py and judged by test.py."},
        "python -m evaluation.report",
        "Makes report.html of an evaluation anew, from its files.",
    )
    from evaluation.report.build import write_report

    cli.console.print(f"report    {write_report(Path(paths['run']) / 'eval' / config.split)}")


if __name__ == "__main__":
    cli.run(main)
