"""A gate clears images; what it clears is not segmented."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from tensorflow import keras

from inference.gate import Gate, check_gate, object_probabilities, read_tuned, write_tuned
from inference.run import TrainedModel
from records.config import InputConfig
from records.info import read_info
from records.input_pipeline import eval_batches
from records.schema import decode, decode_pixels
from records.shards import read_shard
from tests.conftest import predictor_of

EMPTY = tf.zeros([4, 6], tf.uint8)


def brightest(channels: int = 3) -> keras.Model:
    """A classifier without weights: the logit is (the brightest value - 200) / 10."""
    inputs = keras.Input([None, None, channels])
    largest = keras.layers.GlobalMaxPooling2D(keepdims=True)(inputs[..., :1])
    return keras.Model(inputs, keras.layers.Rescaling(0.1, -20.0)(largest))


class Segmenter:
    """Says 1 everywhere from value 1 on, and counts the images that it has seen and how often it was asked."""

    def __init__(self, outputs: int = 1):
        self.outputs = outputs
        self.images, self.calls = tf.Variable(0), tf.Variable(0)

    def __call__(self, images, training):
        assert not training
        self.images.assign_add(tf.shape(images)[0])
        self.calls.assign_add(1)
        return tf.repeat(tf.cast(images[..., :1], tf.float32) - 0.5, self.outputs, -1)


def of_brightness(*values: int) -> np.ndarray:
    """Images of 4x6, black but for one pixel of this value and one of 1."""
    images = np.zeros([len(values), 4, 6, 3], np.uint8)
    images[:, 1, 2] = np.array(values)[:, None]
    images[:, 3, 5] = 1
    return images


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize(("dtype", "bits"), [(tf.uint8, 1), (tf.uint16, 3)])
def test_only_images_that_are_not_cleared_are_segmented(compiled, dtype, bits):
    brightness = np.array([210, 190, 200, 0, 255])
    images, counted = of_brightness(*brightness), tf.Variable(0)

    def segment(images):
        counted.assign_add(tf.shape(images)[0])
        return tf.cast(images[..., 0] > 0, dtype) * bits

    def apply(images):
        return Gate(brightest(), threshold=0.5).apply(images, segment, tf.zeros([4, 6], dtype))

    masks, found = tf.function(apply)(tf.constant(images)) if compiled else apply(tf.constant(images))
    np.testing.assert_array_equal(found["cleared"], [False, True, False, True, False])
    assert int(counted) == 3
    assert masks.dtype == dtype
    expected = (images[..., 0] > 0) * bits * np.array([1, 0, 1, 0, 1])[:, None, None]
    np.testing.assert_array_equal(masks, expected)
    np.testing.assert_allclose(found["probability"], 1 / (1 + np.exp((200 - brightness) / 10)), atol=1e-7)


@pytest.mark.parametrize(("threshold", "kept"), [(0.0, 2), (0.9999, 0), (1.0000005, 0)])
def test_a_threshold_of_0_clears_none_and_a_high_one_all(threshold, kept):
    counted = []

    def segment(images):
        counted.append(len(images))
        return tf.ones(images.shape[:3], tf.uint8)

    masks, _ = Gate(brightest(), threshold).apply(tf.constant(of_brightness(0, 5)), segment, EMPTY)
    assert sum(counted) == kept
    assert masks.shape == (2, 4, 6)
    assert masks.numpy().sum() == kept * 24


def test_padding_is_not_segmented():
    counted = []

    def segment(images):
        counted.append(len(images))
        return tf.ones(images.shape[:3], tf.uint8)

    real = tf.constant([True, False, True, False])
    masks, _ = Gate(brightest()).apply(tf.constant(of_brightness(0, 0, 250, 250)), segment, EMPTY, real)
    assert counted == [2]
    np.testing.assert_array_equal(masks.numpy().any((1, 2)), real)


def test_a_threshold_between_neighbouring_probabilities_tells_them_apart():
    model = brightest()
    images = tf.constant(of_brightness(205, 206))
    low, high = object_probabilities(model, images).numpy()
    for threshold, cleared in ((low, [False, False]), ((np.float64(low) + high) / 2, [True, False])):
        gate = Gate(model, float(threshold))
        _, found = gate.apply(images, lambda images: tf.ones(images.shape[:3], tf.uint8), EMPTY)
        np.testing.assert_array_equal(found["cleared"], cleared)
    close = np.float64(low) + 1e-12  # as float32 it would be `low` itself
    _, found = Gate(model, close).apply(images, lambda images: tf.ones(images.shape[:3], tf.uint8), EMPTY)
    np.testing.assert_array_equal(found["cleared"], [True, False])


@pytest.fixture(scope="module")
def info(nuclei_records):
    return read_info(str(nuclei_records))


def trained_of(info, model, **settings) -> TrainedModel:
    known = {name: getattr(info, name) for name in ("classes", "channels", "dtype", "fingerprint", "intensity")}
    return TrainedModel(model, **known, **settings)


def gate_of(nuclei_records, info) -> tuple[Gate, np.ndarray]:
    """Returns a gate that clears about half of the validation split, and which, in the order of the shards."""
    records = [decode(data) for shard in info.shards("val") for data in read_shard(str(nuclei_records / shard.name))]
    brightness = [int(decode_pixels(record, "uint8")[..., 0].max()) for record in records]
    probabilities = 1 / (1 + np.exp(-(np.array(brightness) - 200) / 10))
    ordered = np.sort(probabilities)
    threshold = float((ordered[1] + ordered[2]) / 2)
    return Gate(brightest(), threshold), probabilities < threshold


@pytest.mark.parametrize("batch_size", [1, 2, 5, 8])
def test_batches_are_the_same_for_any_size_and_the_segmenter_sees_only_what_is_kept(info, nuclei_records, batch_size):
    gate, cleared = gate_of(nuclei_records, info)
    assert 0 < cleared.sum() < len(cleared) == 5
    segmenter = Segmenter()
    batches = eval_batches(info.shard_files(str(nuclei_records), ["val"]), info, batch_size, InputConfig())
    found = list(predictor_of(trained_of(info, segmenter), gate=gate).masks(batches))
    assert int(segmenter.images) == (~cleared).sum()
    joined = {name: np.concatenate([batch[name] for batch in found]) for name in found[0]}
    np.testing.assert_array_equal(joined["cleared"], cleared)
    whole = list(predictor_of(trained_of(info, Segmenter())).masks(batches))
    assert "cleared" not in whole[0]
    predictions = np.concatenate([batch["prediction"] for batch in whole])
    assert predictions.any((1, 2)).all()
    np.testing.assert_array_equal(joined["prediction"], predictions * ~cleared[:, None, None])


def test_a_batch_that_is_cleared_altogether_never_reaches_the_segmenter(info, nuclei_records):
    segmenter = Segmenter()
    batches = eval_batches(info.shard_files(str(nuclei_records), ["val"]), info, 2, InputConfig())
    found = predictor_of(trained_of(info, segmenter), gate=Gate(brightest(), 1.01)).masks(batches)
    assert sum(batch["prediction"].sum() for batch in found) == 0
    assert int(segmenter.calls) == 0


def test_tiles_are_cleared_one_by_one_in_batches_and_in_single_images(info, nuclei_records):
    trained = trained_of(info, Segmenter(), crop=16)
    batches = eval_batches(info.shard_files(str(nuclei_records), ["val"]), info, 3, InputConfig(crop=16))
    predictor = predictor_of(trained, gate=Gate(brightest(), 0.5), overlap=0)
    kept = 0
    records = [decode(data) for shard in info.shards("val") for data in read_shard(str(nuclei_records / shard.name))]
    images = list(predictor.masks(batches))
    for record, found in zip(records, images, strict=True):
        image = decode_pixels(record, "uint8")
        tiles = image.reshape(4, 16, 4, 16, 3)[..., 0].swapaxes(1, 2)
        bright = tiles.max((2, 3)) >= 200
        kept += bright.sum()
        expected = ((tiles > 0) & bright[..., None, None]).swapaxes(1, 2).reshape(64, 64)
        np.testing.assert_array_equal(found["prediction"][0], expected)
        np.testing.assert_array_equal(predictor.mask(image), expected)
    assert int(trained.model.images) == 2 * kept
    assert 0 < kept < 5 * 16


def test_a_gate_must_fit_what_it_gates(info):
    segmenter = trained_of(info, brightest())
    gate = dataclasses.replace(segmenter, task="classify")
    check_gate(gate, segmenter, "GATE", "RUN")
    for change, message in (
        ({"task": "segment"}, "gate: expected a run of --task classify, found GATE of --task segment"),
        ({"channels": 1}, "gate: RUN was trained on records with channels 3, but GATE on some with 1; train both"),
        ({"dtype": "uint16"}, "with dtype uint8, but GATE on some with uint16"),
        ({"classes": ["background", "ship"]}, "but GATE on some with .*ship"),
        ({"overlapping": True}, "with overlapping False, but GATE on some with True"),
        ({"intensity": {"offset": -1024}}, "with intensity .* but GATE on some with .*-1024"),
        (
            {"fingerprint": "another"},
            "with fingerprint .*, but GATE on some with another; train both on the same records",
        ),
        ({"fold": 1}, "with fold None, but GATE on some with 1; train both on the same records and fold"),
        ({"crop": 64}, "RUN was trained on whole images, but GATE on crops of 64; train both with the same --input"),
    ):
        with pytest.raises(ValueError, match=message):
            check_gate(dataclasses.replace(gate, **change), segmenter, "GATE", "RUN")
    with pytest.raises(ValueError, match="RUN was trained on crops of 32, but GATE on whole images"):
        check_gate(gate, dataclasses.replace(segmenter, crop=32), "GATE", "RUN")


def test_what_was_found_for_another_gate_or_is_damaged_is_not_read(tmp_path):
    path = tmp_path / "gate.json"
    assert read_tuned(path, {"model": "a"}) is None
    path.write_text(json.dumps({"model": "a", "threshold": 0.25}))
    assert read_tuned(path, {"model": "a"})["threshold"] == 0.25
    assert read_tuned(path, {"model": "b"}) is None
    assert read_tuned(path, {"model": "a", "records": "c"}) is None
    for damaged in ('{"model": "a", "thre', '["model"]', '{"model": "a"}', '{"model": "a", "threshold": "high"}'):
        path.write_text(damaged)
        assert read_tuned(path, {"model": "a"}) is None


def test_what_was_found_is_replaced_as_a_whole_or_not_at_all(tmp_path, monkeypatch):
    path = tmp_path / "gate.json"
    write_tuned(path, {"model": "a", "threshold": 0.25})
    assert read_tuned(path, {"model": "a"}) == {"model": "a", "threshold": 0.25}
    write_whole = Path.write_text

    def fill_the_disk(path, text):
        write_whole(path, text[:5])
        raise OSError("no space left")

    monkeypatch.setattr(Path, "write_text", fill_the_disk)
    with pytest.raises(OSError, match="no space left"):
        write_tuned(path, {"model": "b", "threshold": 0.5})
    assert read_tuned(path, {"model": "a"}) == {"model": "a", "threshold": 0.25}
    assert [*tmp_path.iterdir()] == [path]
