"""python -m preprocess LAYOUT RAW RECORDS [settings]."""

import logging
import os
import sys

import cli
from preprocess.config import PreprocessConfig
from preprocess.sources import SOURCES


def main() -> None:
    """Parses the command line and runs the job."""
    paths, config = cli.parse(
        PreprocessConfig,
        {
            "layout": ("How the raw data are laid out.", tuple(SOURCES)),
            "raw": "Directory or zip of the raw data; it is only read.",
            "records": "Folder for the records.",
        },
        "python -m preprocess",
        "Converts raw images and masks into sharded TFRecords, once.",
    )
    # Beam reports a failed task over pages, where `run_tasks` raises its cause; and its import warns, on the root
    # logger, that an optional Google Cloud client is missing.
    logging.getLogger("apache_beam").setLevel(logging.CRITICAL + 1)
    logging.getLogger().addFilter(lambda record: "apitools" not in record.getMessage())
    from preprocess.job import preprocess  # imports Beam, which --help can do without

    tell = cli.console.print
    info = preprocess(paths["layout"], paths["raw"], paths["records"], config, cli.progress, tell)
    if info:
        examples = sum(split.num_examples for split in info.splits.values())
        size = sum(sum(split.shard_bytes) for split in info.splits.values())
        tell(f"{'done':<10} {examples} examples, {size / 2**20:.1f} MiB in {paths['records']}")


if __name__ == "__main__":
    try:
        cli.run(main)
    except SystemExit as end:
        if end.code:
            # Beam's threads may still wait for a worker process that died, and Python for them.
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise
