"""python -m evaluation.report RUN: the page of an evaluation anew, from its files."""

from dataclasses import dataclass
from pathlib import Path

import cli


@dataclass(frozen=True)
class ReportConfig:
    """Which evaluation."""

    split: str = "test"
    """Name of the evaluation's folder in RUN/eval: its split, with -gate behind it for one with a gate. Without effect
    on the folder of one evaluation."""


def main() -> None:
    """Parses the command line, makes the page."""
    paths, config = cli.parse(
        ReportConfig,
        {"run": "Folder made by train.py and judged by test.py, or the folder of one evaluation."},
        "python -m evaluation.report",
        "Makes report.html of an evaluation anew, from its files.",
    )
    from evaluation.folder import METRICS_FILE
    from evaluation.report.build import write_report

    run = Path(paths["run"])
    folder = run if (run / METRICS_FILE).is_file() else run / "eval" / config.split
    cli.console.print(f"report    {write_report(folder)}")


if __name__ == "__main__":
    cli.run(main)
