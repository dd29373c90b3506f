import dataclasses
import json
from pathlib import Path

import pytest

from model.config import ModelConfig
from records.info import read_info
from training.config import TrainConfig
from training.run_folder import RunFolder, describe_records, read_config, write_config, write_text


def test_everything_has_its_place(tmp_path):
    run = RunFolder(tmp_path)
    places = [run.config, run.model, run.checkpoints, run.history, run.tensorboard, run.plots, run.evaluation("val")]
    names = ["config.json", "model.keras", "checkpoints", "history.csv", "tensorboard", "plots", "eval/val"]
    assert [place.relative_to(tmp_path).as_posix() for place in places] == names


def test_the_config_comes_back_as_it_was(nuclei_records, tmp_path):
    run, info = RunFolder(tmp_path / "new" / "run"), read_info(str(nuclei_records))
    config = TrainConfig(seed=9, model=ModelConfig(depth=2))
    write_config(run, config, info)
    found = read_config(run)
    assert found["train"] == json.loads(json.dumps(dataclasses.asdict(config)))
    assert (found["train"]["seed"], found["train"]["model"]["depth"]) == (9, 2)
    assert found["records"] == describe_records(info)
    assert found["records"]["fingerprint"] == info.fingerprint
    assert found["records"]["classes"] == ["background", "nucleus"]
    assert found["records"]["mean"] == info.mean
    assert found["records"]["overlapping"] is False
    assert found["records"]["intensity"] == info.intensity


def test_a_folder_without_config_is_no_run(tmp_path):
    with pytest.raises(ValueError, match=r"expected a RUN folder made by train.py, found no config.json"):
        read_config(RunFolder(tmp_path))


def test_text_replaces_text_and_leaves_nothing_beside_it(tmp_path):
    path = tmp_path / "deep" / "history.csv"
    for text in ("old and longer", "new"):
        write_text(path, text)
    assert path.read_text() == "new"
    assert list(path.parent.iterdir()) == [path]


def test_a_write_that_fails_leaves_the_old_text(tmp_path, monkeypatch):
    path = tmp_path / "history.csv"
    write_text(path, "old")

    def full(self, text):
        with self.open("w") as file:
            file.write(text[:1])
        raise OSError("no space left on device")

    monkeypatch.setattr(Path, "write_text", full)
    with pytest.raises(OSError, match="no space"):
        write_text(path, "new")
    assert path.read_text() == "old"
