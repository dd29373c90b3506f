"""python -m preprocess.synthetic LAYOUT OUT [--images 96] [--seed 0]."""

from pathlib import Path

import cli
from preprocess.synthetic import WRITERS, SyntheticConfig


def main() -> None:
    """Parses the command line and writes a dataset."""
    paths, config = cli.parse(
        SyntheticConfig,
        {"layout": ("Layout to write.", tuple(WRITERS)), "out": "New folder for the raw dataset."},
        "python -m preprocess.synthetic",
        "Makes a small raw dataset.",
    )
    folder = Path(paths["out"])
    if folder.exists() and any(folder.iterdir()):
        raise ValueError(f"{folder}: expected a new or empty folder, found files in it")
    WRITERS[paths["layout"]](folder, config)
    cli.console.print(f"{config.images} images in the layout {paths['layout']}: {folder}")


if __name__ == "__main__":
    cli.run(main)
