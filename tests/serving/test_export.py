"""python -m serving.export, as a user calls it."""

import json
import runpy
import sys

import cv2
import numpy as np
import pytest

from imaging.codec import encode_png
from model.config import ModelConfig
from model.labels import Labels
from model.unet import build_unet
from records.info import read_info
from serving.export import ExportConfig
from serving.formats.examples import read_examples
from tests.serving.tiny import tiny_model
from training.config import TrainConfig
from training.run_folder import RunFolder, write_config


@pytest.fixture(scope="module")
def trained_run(nuclei_records, tmp_path_factory) -> RunFolder:
    """A RUN folder of a network of random weights; read only but for its exports."""
    info, config = read_info(str(nuclei_records)), ModelConfig(depth=1, filters=4)
    run = RunFolder(tmp_path_factory.mktemp("export") / "run")
    write_config(run, TrainConfig(model=config), info)
    build_unet(config, 3, Labels(2), info.mean, info.std, seed=1).save(run.model)
    return run


@pytest.fixture
def call(monkeypatch, capsys):
    """Runs the command; returns (exit code, what it said, as one line)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["serving.export", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            runpy.run_module("serving.export", run_name="__main__")
        said = capsys.readouterr()
        return ended.value.code, " ".join((said.out + said.err).split())

    return call


def test_an_export_is_written_described_and_compared(trained_run, nuclei_raw, tmp_path, call):
    out = tmp_path / "models" / "1"
    settings = ("--to", "saved_model", "--out", out, "--num_examples", "3", "--batch_size", "2")
    code, said = call(trained_run.path, *settings, "--examples", nuclei_raw)
    assert code == 0, said
    assert f"saved_model on 3 images of {nuclei_raw}, 2 at once" in said and f"written {out}" in said
    assert {path.name for path in out.iterdir()} >= {"saved_model.pb", "variables", "metadata.json"}
    metadata = json.loads((out / "metadata.json").read_text())
    assert metadata["classes"] == ["background", "nucleus"] and metadata["stretched_to"] == [64, 64]
    assert (metadata["format"], metadata["height"], metadata["width"]) == ("saved_model", 64, 64)
    code, said = call(trained_run.path, *settings)
    assert code == 2 and "found an export; replace it with --overwrite" in said


def test_without_examples_some_are_made_up_and_the_export_lies_in_the_run(trained_run, call):
    code, said = call(trained_run.path, "--to", "onnx", "--num_examples", "2", "--quantize")
    assert code == 0 and "onnx on 2 made-up images" in said and "onnx quantized" in said
    assert (trained_run.path / "export" / "onnx-quantized" / "model.onnx").is_file()


def test_an_export_that_differs_is_not_written(trained_run, tmp_path, call, monkeypatch):
    monkeypatch.setattr("serving.formats.formats.TOLERANCE", -1.0)
    code, said = call(trained_run.path, "--to", "onnx", "--out", tmp_path / "out", "--num_examples", "1")
    assert code == 1 and "was not written: onnx differs from the Keras model" in said
    assert [*tmp_path.iterdir()] == []


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        ("folder", "expected a RUN folder made by train.py"),
        ("model", "the model cannot be loaded, the file is damaged"),
        ("classifier", "expected a run that segments, found one of --task classify"),
        ("sizes", "expected a run on images of one size, or on crops, found images of several sizes"),
    ],
)
def test_a_run_that_cannot_be_exported_is_told_in_one_line(broken, message, trained_run, tmp_path, call):
    content = json.loads(trained_run.config.read_text())
    run = RunFolder(tmp_path / "run")
    run.path.mkdir()
    data = trained_run.model.read_bytes()
    run.model.write_bytes(data[: len(data) // 2] if broken == "model" else data)
    if broken == "classifier":
        content["train"]["task"] = "classify"
    if broken == "sizes":
        content["records"]["height"] = content["records"]["width"] = None
    if broken != "folder":
        run.config.write_text(json.dumps(content))
    code, said = call(run.path, "--to", "onnx")
    assert code == 2 and said.startswith(f"error: {run.path}") and message in said
    assert not (run.path / "export").exists()


@pytest.mark.parametrize("flag", ["--ensemble=[other]", "--tta"])
def test_what_is_no_single_network_is_no_setting(flag, trained_run, call):
    code, said = call(trained_run.path, "--to", "onnx", flag)
    assert code == 2 and said.startswith("error: ") and flag.split("=")[0] in said


def test_settings_that_make_no_sense_are_refused():
    with pytest.raises(ValueError, match="quantize: expected --to onnx or tflite, found saved_model"):
        ExportConfig(to="saved_model", quantize=True)
    for name in ("num_examples", "batch_size"):
        with pytest.raises(ValueError, match=f"{name}: expected at least 1, found 0"):
            ExportConfig(to="onnx", **{name: 0})


def test_examples_are_what_the_model_would_see(tmp_path):
    image = cv2.GaussianBlur(np.random.default_rng(0).integers(0, 256, [40, 50, 3]).astype(np.uint8), (0, 0), 1)
    (tmp_path / "a.png").write_bytes(encode_png(image))
    (tmp_path / "b.png").write_text("no image")
    (tmp_path / "c.png").write_bytes(encode_png(image[:8, :8]))
    failed = []

    def read(count, **settings):
        return read_examples([str(tmp_path)], tiny_model(**settings), count, lambda *told: failed.append(told))

    stretched = read(5)
    assert stretched.pixels.shape == (2, 16, 24, 3) and stretched.stretched and len(failed) == 1
    assert stretched.files == [encode_png(image), encode_png(image[:8, :8])]
    np.testing.assert_array_equal(
        stretched.pixels[0], cv2.resize(cv2.resize(image, (50, 16), interpolation=3), (24, 16), interpolation=3)
    )
    crops = read(5, crop=16, stretched=False)
    np.testing.assert_array_equal(crops.pixels[0], image[12:28, 17:33])
    assert not crops.stretched and crops.files[0] == encode_png(image[12:28, 17:33])
    assert crops.pixels.shape == (2, 16, 16, 3) and (crops.pixels[1, 8:] == 0).all()
    tiles = read(1, stretched=False, size=(16, 16))
    assert tiles.pixels.shape == (1, 16, 16, 3)
    (tmp_path / "a.png").unlink()
    (tmp_path / "c.png").unlink()
    with pytest.raises(ValueError, match="examples: expected images that can be read in .*, found none"):
        read(1)
