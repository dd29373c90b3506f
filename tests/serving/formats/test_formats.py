"""Each format, written, loaded again, and asked the same as the Keras model."""

import json

import numpy as np
import onnx
import pytest
import tensorflow as tf
from tensorflow import keras

from imaging.codec import encode_jpeg, encode_png
from inference.images import prepare
from inference.postprocess import Steps
from serving.formats.formats import export
from serving.formats.onnx import FILE as ONNX_FILE
from serving.formats.onnx import OPSET, load_onnx, write_onnx
from serving.formats.saved_model import load_saved_model, write_saved_model
from serving.formats.tflite import load_tflite, write_tflite
from tests.conftest import predictor_of
from tests.serving.tiny import CLASSES, tiny_model

HU = {"offset": -32768, "slope": 1, "unit": "HU", "transform": "none"}


def images_of(trained, count: int = 3, size=(16, 24)) -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, np.iinfo(trained.dtype).max, [count, *size, trained.channels], trained.dtype, True)


def right(trained, images) -> np.ndarray:
    return trained.probabilities(tf.constant(images)).numpy()


@pytest.mark.parametrize("kind", CLASSES)
def test_a_saved_model_answers_pixels_and_files_alike(kind, tmp_path):
    trained = tiny_model(kind)
    steps = {number: Steps(0.3 + 0.1 * number) for number in trained.scored_classes}
    predictor = predictor_of(trained, postprocess=steps)
    write_saved_model(predictor, tmp_path)
    signatures = tf.saved_model.load(str(tmp_path)).signatures
    images = images_of(trained)
    of_pixels = signatures["pixels"](pixels=tf.constant(images))
    of_files = signatures["serving_default"](image=tf.constant([encode_png(image) for image in images]))
    np.testing.assert_allclose(of_pixels["probabilities"], right(trained, images), atol=1e-5)
    for name in ("probabilities", "mask"):
        np.testing.assert_array_equal(of_files[name], of_pixels[name])
    masks = predictor.decide({"probabilities": of_pixels["probabilities"].numpy()})["prediction"]
    np.testing.assert_array_equal(of_pixels["mask"], masks)
    assert of_pixels["mask"].dtype == trained.labels.mask_dtype and len(np.unique(masks)) > 1


@pytest.mark.parametrize("kind", CLASSES)
def test_onnx_answers_as_keras_does_whatever_the_batch(kind, tmp_path):
    trained = tiny_model(kind)
    write_onnx(trained, tmp_path, quantize=False)
    assert onnx.load(tmp_path / ONNX_FILE).opset_import[0].version == OPSET
    run = load_onnx(tmp_path)
    for count in (1, 3):
        images = images_of(trained, count)
        np.testing.assert_allclose(run(images), right(trained, images), atol=1e-5)


# The converter takes seconds.
@pytest.mark.parametrize("kind", [pytest.param(kind, marks=[pytest.mark.slow] * (kind != "one")) for kind in CLASSES])
def test_tflite_answers_as_keras_does_whatever_the_batch(kind, tmp_path):
    trained = tiny_model(kind)
    write_tflite(trained, tmp_path, quantize=False)
    run = load_tflite(tmp_path)
    for count in (1, 3, 1):
        images = images_of(trained, count)
        np.testing.assert_allclose(run(images), right(trained, images), atol=1e-5)


@pytest.mark.parametrize(("write", "load"), [(write_onnx, load_onnx), (write_tflite, load_tflite)])
def test_quantized_weights_are_smaller_and_answers_similar(write, load, tmp_path):
    wide = keras.Sequential([keras.Input([None, None, 3]), keras.layers.Rescaling(1 / 255)])
    for filters in (64, 64, 1):
        wide.add(keras.layers.Conv2D(filters, 3, padding="same", kernel_initializer=keras.initializers.HeNormal(1)))
    trained = tiny_model(model=wide)
    sizes, images = [], images_of(trained)
    for quantize in (False, True):
        folder = tmp_path / str(quantize)
        folder.mkdir()
        write(trained, folder, quantize)
        (file,) = folder.iterdir()
        sizes.append(file.stat().st_size)
        differences = np.abs(load(folder)(images) - right(trained, images))
        assert differences.mean() < (0.02 if quantize else 1e-6)
    assert differences.max() > 1e-6 and sizes[1] < sizes[0] / 2.5


@pytest.mark.parametrize("name", ["saved_model", "onnx", "tflite"])
def test_scans_of_16_bits_are_exported_with_what_their_values_mean(name, tmp_path):
    trained = tiny_model(channels=1, dtype="uint16", intensity=HU)
    exports = export(predictor_of(trained), name, False, tmp_path, stretched=False)
    images = images_of(trained)
    inputs = {"pixels": images, "files": [encode_png(image) for image in images]}
    for exported in exports:
        np.testing.assert_allclose(exported.run(inputs[exported.reads]), right(trained, images), atol=1e-5)
    said = json.loads((tmp_path / "metadata.json").read_text())
    assert said["intensity"] == HU and said["dtype"] == "uint16" and said["thresholds"] == [0.5]
    assert (said["height"], said["width"], said["outputs"]) == (16, 24, ["cell"])
    assert said["model_sha256"] == "of tiny" and said["fingerprint"] == "of records"


def test_a_saved_model_stretches_image_files_as_predict_does(tmp_path):
    trained = tiny_model()
    write_saved_model(predictor_of(trained), tmp_path)
    raw = [images_of(trained, 1, size)[0] for size in ((40, 33), (16, 24), (32, 24))]  # areas: equal to OpenCV's
    _, run = load_saved_model(tmp_path)
    prepared = np.stack([prepare(image, trained) for image in raw])
    np.testing.assert_allclose(run([encode_png(image) for image in raw]), right(trained, prepared), atol=1e-5)
    jpeg = encode_jpeg(raw[1], 90)
    assert run([jpeg]).shape == (1, 16, 24, 1)


@pytest.mark.parametrize("settings", [{"stretched": False, "crop": 16}, {"stretched": False, "size": (16, 16)}])
def test_models_that_know_the_raw_pixels_take_files_of_any_size(settings, tmp_path):
    trained = tiny_model(**settings)
    write_saved_model(predictor_of(trained), tmp_path)
    from_pixels, from_files = load_saved_model(tmp_path)
    images = np.maximum(images_of(trained, 2, (17, 31)), 60)
    found = from_files([encode_png(image) for image in images])
    fill = 0 if "crop" in settings else 60
    padded = np.pad(images, [(0, 0), (0, 1), (0, 1), (0, 0)], constant_values=fill)
    np.testing.assert_array_equal(found, from_pixels(padded)[:, :17, :31])
    np.testing.assert_allclose(found, right(trained, padded)[:, :17, :31], atol=1e-5)


def test_models_for_crops_of_stretched_images_stretch_files_first(tmp_path):
    trained = tiny_model(crop=8, size=(15, 24))
    exports = export(predictor_of(trained), "saved_model", False, tmp_path, stretched=True)
    assert [exported.reads for exported in exports] == ["pixels"]
    raw = images_of(trained, 1, (30, 48))[0]
    _, from_files = load_saved_model(tmp_path)
    padded = np.pad(prepare(raw, trained), [(0, 1), (0, 0), (0, 0)])[np.newaxis]
    np.testing.assert_allclose(from_files([encode_png(raw)]), right(trained, padded)[:, :15], atol=1e-5)


def test_a_contrast_that_no_graph_makes_is_refused_for_image_files_alone(tmp_path):
    trained = tiny_model(intensity={"offset": 0, "slope": 1, "unit": "stored value", "transform": "clahe"})
    with pytest.raises(ValueError, match="saved_model: expected a run on records of --intensity none, found clahe"):
        export(predictor_of(trained), "saved_model", False, tmp_path, stretched=False)
    (exported,) = export(predictor_of(trained), "onnx", False, tmp_path, stretched=False)
    np.testing.assert_allclose(exported.run(images_of(trained)), right(trained, images_of(trained)), atol=1e-5)


def test_an_operation_that_onnx_lacks_is_named_in_one_line(tmp_path):
    inputs = keras.Input([None, None, 3])
    logits = keras.layers.Lambda(lambda x: tf.math.lgamma(tf.cast(x[..., :1], tf.float32) + 1))(inputs)
    trained = tiny_model(model=keras.Model(inputs, logits))
    with pytest.raises(ValueError, match="onnx: the network has an operation that ONNX has not: .*Lgamma") as caught:
        write_onnx(trained, tmp_path, quantize=False)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 250 and not [*tmp_path.iterdir()]


@pytest.mark.slow  # up to 15 s on a busy machine
def test_an_operation_that_tflite_lacks_is_named_in_one_line(tmp_path, monkeypatch):
    # As it is, the network repeats pixels by slicing tensors of six axes.
    monkeypatch.setattr("serving.formats.tflite.replace_layers", lambda model, replace: model)
    with pytest.raises(ValueError, match="tflite: .* that TensorFlow Lite has not: tf.StridedSlice$"):
        write_tflite(tiny_model(), tmp_path, quantize=False)
    assert not [*tmp_path.iterdir()]


def test_onnx_holds_the_constants_of_normalisation(tmp_path):
    # Keras holds them as tensors, not as weights.
    (images,) = tiny_model().model.inputs
    normal = keras.layers.Normalization(mean=[1.0, 2.0, 3.0], variance=[4.0, 5.0, 6.0])
    trained = tiny_model(model=keras.Model(images, normal(images)[..., :1]))
    write_onnx(trained, tmp_path, quantize=False)
    pixels = np.arange(1152).reshape(1, 16, 24, 3).astype(np.uint8)
    expected = 1 / (1 + np.exp(-(pixels[..., :1].astype(np.float64) - 1) / 2))
    np.testing.assert_allclose(load_onnx(tmp_path)(pixels), expected, atol=1e-6)
