"""Shared by all tests: small raw datasets and records, made once a session."""

import contextlib
import os
import signal
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
if not os.environ.get("TEST_GPU"):  # `make test-gpu`
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # values are asserted to float32 tolerances of the CPU

# Jobs in the background of a shell ignore Ctrl-C, and so would the processes that tests start and interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

import pytest

from preprocess.config import PreprocessConfig, Splits
from preprocess.job import preprocess
from preprocess.synthetic import SyntheticConfig, write_folder, write_nuclei


@contextlib.contextmanager
def silent_progress(label, total):
    yield lambda done, words="": None


def make_records(layout: str, raw, records, **settings):
    """Preprocesses in this process; returns the RecordsInfo."""
    config = PreprocessConfig(**{"workers": 1, **settings})
    return preprocess(layout, str(raw), str(records), config, silent_progress, lambda line: None)


@pytest.fixture(scope="session")
def nuclei_raw(tmp_path_factory) -> Path:
    """24 made-up images in the nuclei layout, of several sizes; read only."""
    folder = tmp_path_factory.mktemp("raw") / "nuclei"
    write_nuclei(folder, SyntheticConfig(images=24, seed=1))
    return folder


@pytest.fixture(scope="session")
def folder_raw(tmp_path_factory) -> Path:
    """12 made-up images in the folder layout; read only."""
    folder = tmp_path_factory.mktemp("raw") / "folder"
    write_folder(folder, SyntheticConfig(images=12, seed=2))
    return folder


@pytest.fixture(scope="session")
def nuclei_records(nuclei_raw, tmp_path_factory) -> Path:
    """Records of `nuclei_raw` at 64x64: 14 train, 5 val, 5 test; read only."""
    folder = tmp_path_factory.mktemp("records") / "nuclei"
    make_records("nuclei", nuclei_raw, folder, size=64, splits=Splits(0.6, 0.2, 0.2))
    return folder


def predictor_of(trained, threshold: float = 0.5, **settings):
    """Returns the predictor of a model on the default device, with one threshold and nothing else."""
    import tensorflow as tf

    from inference.postprocess import Steps
    from inference.predictor import Predictor

    postprocess = dict.fromkeys(trained.scored_classes, Steps(threshold))
    return Predictor(trained, **{"strategy": tf.distribute.get_strategy(), "postprocess": postprocess, **settings})


def untrained_run(records: Path, folder: Path) -> Path:
    """Makes a RUN folder with a small network of random weights; returns it."""
    from model.config import ModelConfig
    from model.labels import Labels
    from model.unet import build_unet
    from records.info import read_info
    from training.config import TrainConfig
    from training.run_folder import RunFolder, write_config

    info, network = read_info(str(records)), ModelConfig(depth=1, filters=8)
    write_config(RunFolder(folder), TrainConfig(model=network), info)
    build_unet(network, info.channels, Labels(len(info.classes)), info.mean, info.std, seed=1).save(
        RunFolder(folder).model
    )
    return folder
