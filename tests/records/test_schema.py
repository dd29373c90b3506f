import io

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from imaging.codec import decode_image, decode_mask
from records.schema import FEATURES, decode, encode, parse


def bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def int64_feature(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def tensorflow_example(record) -> tf.train.Example:
    """The same example made with TensorFlow's own message, keys spelled out once more."""
    feature = {
        "image/encoded": bytes_feature(record.image),
        "image/format": bytes_feature(record.image_format.encode()),
        "image/height": int64_feature(record.height),
        "image/width": int64_feature(record.width),
        "image/channels": int64_feature(record.channels),
        "image/source_id": bytes_feature(record.source_id.encode()),
        "image/filename": bytes_feature(record.filename.encode()),
        "image/group": bytes_feature(record.group.encode()),
        "image/original/height": int64_feature(record.original_height),
        "image/original/width": int64_feature(record.original_width),
        "image/crop": int64_feature(*record.crop),
    }
    if record.mask is not None:
        feature["image/segmentation/class/encoded"] = bytes_feature(record.mask)
        feature["image/segmentation/class/format"] = bytes_feature(b"png")
    if record.instances is not None:
        feature["image/segmentation/instance/encoded"] = bytes_feature(record.instances)
    if record.objects is not None:
        feature["image/object/count"] = int64_feature(record.objects)
    return tf.train.Example(features=tf.train.Features(feature=feature))


VARIANTS = {
    "everything": {},
    "jpeg": {"image_format": "jpeg"},
    "grey16": {"channels": 1, "dtype": "uint16"},
    "unlabeled": {"mask": None, "instances": None, "objects": None},
    "no_objects": {"objects": 0},
    "no_instances": {"instances": None, "objects": None},
    "not_ascii": {"source_id": "Zürich/ø 1", "filename": "画像/1.png", "group": ""},
}


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_a_record_survives_encoding_and_decoding(make_record, changes):
    record = make_record("a0", **changes)
    assert decode(encode(record)) == record


@pytest.mark.parametrize("changes", VARIANTS.values(), ids=VARIANTS.keys())
def test_the_bytes_are_those_of_tensorflows_own_example(make_record, changes):
    record = make_record("a0", **changes)
    expected = tensorflow_example(record)
    assert encode(record) == expected.SerializeToString(deterministic=True)
    assert tf.train.Example.FromString(encode(record)) == expected


def test_encoding_twice_gives_the_same_bytes(make_record):
    assert encode(make_record("a0")) == encode(make_record("a0"))
    assert encode(make_record("a0")) != encode(make_record("a1"))


def test_decoding_reads_what_tensorflow_wrote_in_any_order_of_keys(make_record):
    record = make_record("a0")
    example = tensorflow_example(record)
    scrambled = tf.train.Example()
    for key in sorted(example.features.feature, reverse=True):
        scrambled.features.feature[key].CopyFrom(example.features.feature[key])
    scrambled.features.feature["somebody/elses"].float_list.value.append(1.5)
    assert decode(scrambled.SerializeToString()) == record


@pytest.mark.parametrize("key", [key for key, feature in FEATURES.items() if not feature.optional])
def test_a_missing_key_is_named(make_record, key):
    example = tensorflow_example(make_record("a0"))
    del example.features.feature[key]
    with pytest.raises(ValueError, match=f"expected the key '{key}', found .*image/object/count"):
        decode(example.SerializeToString())


def test_every_optional_key_may_be_missing_alone(make_record):
    field_by_key = {
        "image/segmentation/class/encoded": "mask",
        "image/segmentation/instance/encoded": "instances",
        "image/object/count": "objects",
    }
    for key, field in field_by_key.items():
        example = tensorflow_example(make_record("a0"))
        del example.features.feature[key]
        assert decode(example.SerializeToString()) == make_record("a0", **{field: None})


def test_a_value_of_the_wrong_type_or_number_is_named(make_record):
    example = tensorflow_example(make_record("a0"))
    example.features.feature["image/crop"].int64_list.value.append(5)
    with pytest.raises(ValueError, match=r"image/crop: expected int64 of shape \(4,\), found 5 values"):
        decode(example.SerializeToString())
    example = tensorflow_example(make_record("a0"))
    example.features.feature["image/height"].float_list.value.append(6.0)
    with pytest.raises(ValueError, match=r"image/height: expected int64 of shape \(\), found 0 values"):
        decode(example.SerializeToString())


def test_bytes_that_are_no_example_are_refused():
    with pytest.raises(ValueError, match=r"expected a serialized tf\.train\.Example"):
        decode(b"\xff\xff\xff\xffno protocol buffer")


def parse_eagerly(serialized, **settings):
    return parse(tf.constant(serialized), **settings)


def parse_in_a_dataset(serialized, **settings):
    dataset = tf.data.Dataset.from_tensors(serialized).map(lambda one: parse(one, **settings))
    assert dataset.element_spec["image"].shape.as_list() == [None, None, settings["channels"]]
    return next(iter(dataset))


@pytest.mark.parametrize("parse_one", [parse_eagerly, parse_in_a_dataset])
@pytest.mark.parametrize("labeled", [True, False])
@pytest.mark.parametrize(
    ("channels", "dtype", "image_format"),
    [(3, "uint8", "png"), (1, "uint8", "png"), (3, "uint8", "jpeg"), (1, "uint8", "jpeg"), (1, "uint16", "png")],
)
def test_parsing_gives_the_pixels_that_numpy_gives(make_record, parse_one, labeled, channels, dtype, image_format):
    record = make_record("a0", image_format, channels, dtype)
    example = parse_one(encode(record), channels=channels, dtype=dtype, labeled=labeled)
    assert set(example) == {"image", "source_id", "group"} | ({"mask"} if labeled else set())
    assert example["image"].dtype == dtype
    image = example["image"].numpy()
    # JPEG too, to the last bit: a model is trained on what TensorFlow decodes and applied to what OpenCV does.
    np.testing.assert_array_equal(image, decode_image(record.image))
    assert example["source_id"].numpy() == b"a0"
    assert example["group"].numpy() == b"group-a"
    if labeled:
        assert example["mask"].dtype == tf.uint8
        np.testing.assert_array_equal(example["mask"], decode_mask(record.mask))


def test_parsing_unlabeled_records_needs_no_mask_and_labeled_ones_do(make_record):
    serialized = encode(make_record("a0", mask=None))
    assert "mask" not in parse(serialized, channels=3, dtype="uint8", labeled=False)
    with pytest.raises(tf.errors.InvalidArgumentError, match="image/segmentation/class/encoded"):
        parse(serialized, channels=3, dtype="uint8", labeled=True)


def test_a_grey_image_of_colour_records_is_parsed_as_grey_colours(make_record):
    # An untouched grey JPEG among colour images: its three channels are equal.
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    record = make_record("a0", image=buffer.getvalue())
    image = parse(encode(record), channels=3, dtype="uint8", labeled=False)["image"].numpy()
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))
