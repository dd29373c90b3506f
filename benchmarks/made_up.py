"""Records of made-up images, for whoever has none at hand."""

import logging
import os
from pathlib import Path

import cli


def made_up_records(folder: Path, images: int) -> str:
    """Makes records of so many images of nuclei, 256x256, in a folder; returns theirs."""
    from preprocess.config import PreprocessConfig
    from preprocess.job import preprocess
    from preprocess.synthetic import SyntheticConfig, write_nuclei

    write_nuclei(folder / "raw", SyntheticConfig(images=images))
    logging.disable(logging.WARNING)  # Beam's notes
    settings = PreprocessConfig(size=256, workers=os.cpu_count())
    preprocess("nuclei", str(folder / "raw"), str(folder / "records"), settings, cli.progress, lambda line: None)
    logging.disable(logging.NOTSET)
    return str(folder / "records")
