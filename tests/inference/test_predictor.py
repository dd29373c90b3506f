import dataclasses
import json
import math

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from imaging.codec import decode_image, decode_mask
from inference.predictor import _run
from inference.run import TrainedModel, check_fits, load_run
from model.config import ModelConfig
from model.labels import Labels
from model.unet import build_unet
from records.config import InputConfig
from records.info import read_info
from records.input_pipeline import eval_batches
from records.schema import decode
from records.shards import read_shard
from tests.conftest import predictor_of
from training.config import TrainConfig
from training.run_folder import RunFolder, write_config


@pytest.fixture(scope="module")
def info(nuclei_records):
    return read_info(str(nuclei_records))


@pytest.fixture(scope="module")
def trained(info) -> TrainedModel:
    """Of random weights."""
    # With two filters half of the pixels have no active unit, and all the same logit.
    model = build_unet(ModelConfig(depth=1, filters=8), 3, Labels(2), info.mean, info.std, seed=1)
    return TrainedModel(model, info.classes, info.channels, info.dtype, info.fingerprint)


@pytest.fixture(scope="module")
def val_records(nuclei_records, info):
    """The decoded records of the validation split, in the order of the shards."""
    return [decode(data) for shard in info.shards("val") for data in read_shard(str(nuclei_records / shard.name))]


def probabilities_of(model: keras.Model, image: np.ndarray) -> np.ndarray:
    """Returns the sigmoid of the model's logits."""
    logits = model.predict(image[np.newaxis], verbose=0)[0, :, :, 0].astype(np.float64)
    return 1 / (1 + np.exp(-logits))


def test_a_saved_run_is_loaded_with_what_it_was_trained_on(trained, info, tmp_path):
    run = RunFolder(tmp_path)
    write_config(run, TrainConfig(), info)
    trained.model.save(run.model)
    loaded = load_run(run)
    for name in ("classes", "channels", "dtype", "fingerprint"):
        assert getattr(loaded, name) == getattr(info, name)
    images = np.random.default_rng(0).integers(0, 256, [2, 16, 8, 3]).astype(np.uint8)
    np.testing.assert_array_equal(loaded.model(images), trained.model(images))


def test_depth_and_input_scaling_decide_what_sizes_must_be_multiples_of(info, tmp_path):
    run = RunFolder(tmp_path)
    config = ModelConfig(depth=2, filters=2, input_scaling=3)
    write_config(run, TrainConfig(model=config), info)
    build_unet(config, 3, Labels(2), info.mean, info.std, seed=1).save(run.model)
    loaded = load_run(run)
    assert loaded.multiple == 12
    check_fits(loaded, dataclasses.replace(info, height=36, width=48), "RUN", "RECORDS")
    with pytest.raises(ValueError, match="RUN needs images .* multiples of 12, but RECORDS has 64x64"):
        check_fits(loaded, info, "RUN", "RECORDS")


def test_a_folder_that_is_no_run_is_refused(tmp_path):
    with pytest.raises(ValueError, match="expected a RUN folder made by train.py, found no config.json"):
        load_run(RunFolder(tmp_path))


def test_settings_that_this_version_does_not_know_are_refused(trained, info, tmp_path):
    run = RunFolder(tmp_path)
    write_config(run, TrainConfig(), info)
    trained.model.save(run.model)
    content = json.loads(run.config.read_text())
    content["train"]["model"]["cardinality"] = 32
    run.config.write_text(json.dumps(content))
    with pytest.raises(ValueError, match=r"config\.json: expected the settings .* 'cardinality'\); train into another"):
        load_run(run)


def test_a_run_without_a_model_is_refused(info, tmp_path):
    run = RunFolder(tmp_path)
    write_config(run, TrainConfig(), info)
    with pytest.raises(ValueError, match="expected model.keras, found none; train for at least one epoch"):
        load_run(run)


def test_records_like_those_of_the_training_fit(trained, info):
    check_fits(trained, info, "RUN", "RECORDS")
    # Others of the same kind are what a model is for.
    check_fits(trained, dataclasses.replace(info, fingerprint="other", name="other", height=32), "RUN", "RECORDS")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"channels": 1}, "RUN was trained on records with channels 3, but RECORDS has 1; choose records"),
        ({"dtype": "uint16"}, "RUN was trained on records with dtype uint8, but RECORDS has uint16; choose records"),
        (
            {"classes": ["background", "ship"]},
            r"records with classes \['background', 'nucleus'\], but RECORDS has \['background', 'ship'\]",
        ),
        (
            {"overlapping": True},
            "RUN was trained on records with overlapping False, but RECORDS has True; choose records",
        ),
    ],
)
def test_records_of_another_kind_are_refused(trained, info, change, message):
    with pytest.raises(ValueError, match=message):
        check_fits(trained, dataclasses.replace(info, **change), "RUN", "RECORDS")


def test_the_class_names_of_unlabelled_records_do_not_matter(trained, info):
    unlabelled = dataclasses.replace(info, classes=["background", "object"], labeled=False)
    check_fits(trained, unlabelled, "RUN", "RECORDS")
    with pytest.raises(ValueError, match="channels 3"):
        check_fits(trained, dataclasses.replace(unlabelled, channels=1), "RUN", "RECORDS")


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_prediction_is_the_thresholded_sigmoid_of_the_logits(trained, val_records, share):
    for record in val_records[:2]:
        image = decode_image(record.image)
        probabilities = probabilities_of(trained.model, image)
        threshold = float(np.quantile(probabilities, share))
        found = predictor_of(trained, threshold).mask(image)
        assert found.dtype == np.uint8
        # A pixel on the very threshold may fall on either side.
        clear = np.abs(probabilities - threshold) > 1e-6
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(found[clear], (probabilities > threshold)[clear])
        assert found.mean() == pytest.approx(1 - share, abs=0.1)


def test_a_probability_of_the_threshold_belongs_to_the_class():
    inputs = keras.Input([None, None, 1])
    model = keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs))
    trained = TrainedModel(model, ["background", "object"], 1, "uint8", "")
    image = np.array([[[-1e-3], [0.0], [1e-3]]], np.float32)
    np.testing.assert_array_equal(predictor_of(trained, 0.5).mask(image), [[0, 1, 1]])
    np.testing.assert_array_equal(predictor_of(trained, 1 / (1 + math.exp(-5e-4))).mask(image), [[0, 0, 1]])


def test_the_prediction_of_several_classes_is_the_most_probable():
    inputs = keras.Input([None, None, 3])
    trained = TrainedModel(keras.Model(inputs, keras.layers.Rescaling(1.0)(inputs)), ["a", "b", "c"], 3, "uint8", "")
    image = np.random.default_rng(0).integers(0, 9, [6, 5, 3]).astype(np.uint8)
    for threshold in (0.1, 0.9):
        np.testing.assert_array_equal(predictor_of(trained, threshold).mask(image), image.argmax(-1))


@pytest.mark.parametrize("batch_size", [1, 3, 8])
def test_batches_hold_every_example_once_and_no_padding(trained, info, nuclei_records, val_records, batch_size):
    batches = eval_batches(info.shard_files(str(nuclei_records), ["val"]), info, batch_size, InputConfig())
    found = list(predictor_of(trained).masks(batches))
    assert [len(batch["prediction"]) for batch in found] == {1: [1] * 5, 3: [3, 2], 8: [5]}[batch_size]
    joined = {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
    assert set(joined) == {"prediction", "source_id", "group", "mask"}
    assert [key.decode() for key in joined["source_id"]] == [record.source_id for record in val_records]
    assert [group.decode() for group in joined["group"]] == [record.group for record in val_records]
    for record, mask, prediction in zip(val_records, joined["mask"], joined["prediction"], strict=True):
        np.testing.assert_array_equal(mask, decode_mask(record.mask))
        probabilities = probabilities_of(trained.model, decode_image(record.image))
        clear = np.abs(probabilities - 0.5) > 1e-6
        assert clear.mean() > 0.9
        np.testing.assert_array_equal(prediction[clear], (probabilities > 0.5)[clear])


class WatchedStrategy:
    """The default strategy, which notes the batches that it has begun."""

    def __init__(self):
        self.begun = []

    def experimental_distribute_dataset(self, batches):
        for number, batch in enumerate(batches):
            self.begun.append(number)
            yield batch

    def run(self, function, arguments):
        return function(*arguments)

    def experimental_local_results(self, value):
        return (value,)


@pytest.mark.parametrize("count", [0, 1, 3])
def test_a_batch_is_handed_out_when_the_next_one_has_begun(count):
    batches = [{"image": tf.fill([2], number), "weight": tf.constant([1.0, 0.0])} for number in range(count)]
    strategy, found = WatchedStrategy(), []
    for batch in _run(batches, strategy, lambda batch: {"prediction": 10 * batch["image"]}):
        found += batch["prediction"].tolist()
        assert strategy.begun == list(range(min(len(found) + 1, count)))
    assert found == [10 * number for number in range(count)]


def test_a_loaded_run_knows_what_its_labels_and_pixels_mean(info, tmp_path):
    run = RunFolder(tmp_path)
    meaning = {"offset": -32768, "slope": 1, "unit": "HU", "transform": "none"}
    scans = dataclasses.replace(info, classes=["a", "b"], overlapping=True, intensity=meaning, channels=1)
    config = ModelConfig(depth=1, filters=2, window=(-1000.0, 400.0))
    write_config(run, TrainConfig(model=config), scans)
    labels = Labels(2, overlapping=True)
    model = build_unet(config, 1, labels, [0.0], [1.0], 0, scans.stored_window(config.window))
    model.save(run.model)
    loaded = load_run(run)
    assert (loaded.labels, loaded.window, loaded.intensity) == (labels, (-1000.0, 400.0), meaning)
    assert loaded.scored_classes == {0: "a", 1: "b"}
    images = np.random.default_rng(0).integers(30_000, 34_000, [2, 8, 8, 1]).astype(np.uint16)
    np.testing.assert_array_equal(loaded.model(images), model(images))
    check_fits(loaded, scans, "RUN", "RECORDS")
    other = dataclasses.replace(scans, intensity=meaning | {"offset": -1024})
    with pytest.raises(
        ValueError, match="RUN was trained on records with intensity .*-32768.*, but RECORDS has .*-1024"
    ):
        check_fits(loaded, other, "RUN", "RECORDS")


def test_a_run_whose_settings_lack_a_key_is_refused(trained, info, tmp_path):
    run = RunFolder(tmp_path)
    write_config(run, TrainConfig(), info)
    trained.model.save(run.model)
    run.config.write_text(run.config.read_text().replace('"overlapping"', '"colour"'))
    with pytest.raises(
        ValueError, match=r"config\.json: expected the key 'overlapping', found none; train into another"
    ):
        load_run(run)


def test_the_prediction_of_overlapping_classes_is_a_bit_field():
    inputs = keras.Input([None, None, 3])
    model = keras.Model(inputs, keras.layers.Rescaling(1.0, -100.0)(inputs))
    trained = TrainedModel(model, ["a", "b", "c"], 3, "uint8", "", overlapping=True)
    image = np.random.default_rng(0).integers(0, 200, [6, 5, 3]).astype(np.uint8)
    found = predictor_of(trained, 0.5).mask(image)
    assert found.dtype == np.uint16
    np.testing.assert_array_equal(found, (image >= 100) @ np.array([1, 2, 4]))
