import io

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from imaging.codec import decode_image, decode_mask, encode_png
from records.schema import FEATURES, IGNORE_BIT, class_areas, count_classes, decode, decode_pixels, encode, parse


def bytes_feature(value):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))


def int64_feature(*values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def float_feature(*values):
    return tf.train.Feature(float_list=tf.train.FloatList(value=values))


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
    if record.slice_index is not None:
        feature["image/slice_index"] = int64_feature(record.slice_index)
    if record.spacing_mm is not None:
        feature["image/spacing_mm"] = float_feature(*record.spacing_mm)
    return tf.train.Example(features=tf.train.Features(feature=feature))


VARIANTS = {
    "everything": {},
    "jpeg": {"image_format": "jpeg"},
    "grey16": {"channels": 1, "dtype": "uint16"},
    "unlabeled": {"mask": None, "instances": None, "objects": None},
    "no_objects": {"objects": 0},
    "no_instances": {"instances": None, "objects": None},
    "slice": {"channels": 1, "dtype": "uint16", "slice_index": 0, "spacing_mm": (0.75, 0.5, 5.0)},
    "raw": {"image_format": "raw"},
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
        "image/slice_index": "slice_index",
        "image/spacing_mm": "spacing_mm",
    }
    whole = {"slice_index": 3, "spacing_mm": (1.0, 1.0, 2.5)}
    for key, field in field_by_key.items():
        example = tensorflow_example(make_record("a0", **whole))
        del example.features.feature[key]
        assert decode(example.SerializeToString()) == make_record("a0", **{**whole, field: None})


def test_spacing_is_kept_to_the_precision_of_float32(make_record):
    spacing = (0.703125, 0.7, 1.2500001)
    found = decode(encode(make_record("a0", spacing_mm=spacing))).spacing_mm
    assert found == tuple(float(np.float32(value)) for value in spacing)


def test_a_value_of_the_wrong_type_or_number_is_named(make_record):
    example = tensorflow_example(make_record("a0"))
    example.features.feature["image/crop"].int64_list.value.append(5)
    with pytest.raises(ValueError, match=r"image/crop: expected int64 of shape \(4,\), found 5 values"):
        decode(example.SerializeToString())
    example = tensorflow_example(make_record("a0"))
    example.features.feature["image/height"].float_list.value.append(6.0)
    with pytest.raises(ValueError, match=r"image/height: expected int64 of shape \(\), found 0 values"):
        decode(example.SerializeToString())
    example = tensorflow_example(make_record("a0", spacing_mm=(1.0, 1.0, 1.0)))
    example.features.feature["image/spacing_mm"].float_list.value.pop()
    with pytest.raises(ValueError, match=r"image/spacing_mm: expected float of shape \(3,\), found 2 values"):
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


def test_details_are_the_records_and_say_what_is_not_known(make_record):
    how = {"channels": 3, "dtype": "uint8", "labeled": True, "details": True}
    # 40 rows and 60 columns of the raw volume are stored as 20 and 10.
    geometry = {"crop": (3, 4, 40, 60), "height": 20, "width": 10, "slice_index": 7, "spacing_mm": (0.5, 0.25, 3.0)}
    record = make_record("scan", **geometry)
    parsed = parse(encode(record), **how)
    np.testing.assert_allclose(parsed["spacing_mm"], [1.0, 1.5, 3.0])
    assert parsed["slice_index"] == 7
    assert parsed["filename"] == record.filename.encode()
    np.testing.assert_array_equal(decode_mask(parsed["instances"].numpy()), decode_mask(record.instances))
    bare = parse(encode(make_record("image", instances=None)), **how)
    assert (bare["slice_index"], bare["instances"]) == (-1, b"")
    np.testing.assert_array_equal(bare["spacing_mm"], [0, 0, 0])


def test_a_grey_image_of_colour_records_is_parsed_as_grey_colours(make_record):
    # An untouched grey JPEG among colour images: its three channels are equal.
    grey = np.arange(60, dtype=np.uint8).reshape(6, 10)
    buffer = io.BytesIO()
    Image.fromarray(grey).save(buffer, "PNG")
    record = make_record("a0", image=buffer.getvalue())
    image = parse(encode(record), channels=3, dtype="uint8", labeled=False)["image"].numpy()
    np.testing.assert_array_equal(image, np.dstack([grey] * 3))


# --- raw pixels and overlapping classes


@pytest.mark.parametrize("parse_one", [parse_eagerly, parse_in_a_dataset])
@pytest.mark.parametrize(("channels", "dtype"), [(3, "uint8"), (1, "uint8"), (1, "uint16"), (3, "uint16")])
def test_raw_pixels_are_those_of_the_file_in_a_row(make_record, parse_one, channels, dtype):
    raw, file = (make_record("a0", image_format, channels, dtype) for image_format in ("raw", "png"))
    pixels = decode_image(file.image)
    np.testing.assert_array_equal(decode_pixels(raw, dtype), pixels)
    np.testing.assert_array_equal(decode_pixels(file, dtype), pixels)
    assert decode_pixels(raw, dtype).dtype == dtype
    example = parse_one(encode(raw), channels=channels, dtype=dtype, labeled=True, raw=True)
    assert example["image"].dtype == dtype
    np.testing.assert_array_equal(example["image"], pixels)
    np.testing.assert_array_equal(example["mask"], decode_mask(raw.mask))


def test_raw_pixels_of_two_bytes_are_little_endian(make_record):
    record = make_record("a0", image=bytes([1, 2, 3, 4]), image_format="raw", height=1, width=2, channels=1)
    np.testing.assert_array_equal(decode_pixels(record, "uint16")[0, :, 0], [0x0201, 0x0403])
    parsed = parse(encode(record), channels=1, dtype="uint16", labeled=False, raw=True)["image"]
    np.testing.assert_array_equal(parsed[0, :, 0], [0x0201, 0x0403])


@pytest.mark.parametrize("change", [-1, 1])
def test_too_few_or_too_many_raw_pixels_are_refused(make_record, change):
    record = make_record("a0", "raw")
    record = make_record("a0", "raw", image=record.image[:change] if change < 0 else record.image + b"x")
    message = rf"image/encoded: expected 180 bytes of raw uint8\[6, 10, 3\], found {180 + change}"
    with pytest.raises(ValueError, match=message):
        decode_pixels(record, "uint8")


@pytest.mark.parametrize("parse_one", [parse_eagerly, parse_in_a_dataset])
def test_bit_fields_are_parsed_to_the_last_bit(make_record, parse_one):
    mask = np.random.default_rng(0).integers(0, 2**16, (6, 10), dtype=np.uint16)
    record = make_record("a0", mask=encode_png(mask))
    example = parse_one(encode(record), channels=3, dtype="uint8", labeled=True, overlapping=True)
    assert example["mask"].dtype == tf.uint16
    np.testing.assert_array_equal(example["mask"], mask)


def test_areas_and_counts_of_bit_fields_by_hand():
    mask = np.array([[0b001, 0b101, 0], [IGNORE_BIT + 0b001, IGNORE_BIT, 0b100]], np.uint16)
    areas = class_areas(mask, [0, 1, 2], overlapping=True)
    np.testing.assert_array_equal(areas[0], [[1, 1, 0], [0, 0, 0]])
    assert not areas[1].any()
    np.testing.assert_array_equal(areas[2], [[0, 1, 0], [0, 0, 1]])
    pixels, ignored = count_classes(mask, 3, overlapping=True)
    assert (pixels.tolist(), ignored) == ([2, 0, 2], 2)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.integers(0, 2**16 - 1), min_size=1, max_size=50), st.integers(1, 15))
def test_counts_are_the_sizes_of_the_areas(values, num_classes):
    fields = np.array([values], np.uint16)
    pixels, ignored = count_classes(fields, num_classes, overlapping=True)
    np.testing.assert_array_equal(pixels, class_areas(fields, range(num_classes), True).sum((1, 2)))
    assert ignored == sum(value >= 2**15 for value in values)
    indices = (fields % 256).astype(np.uint8)
    pixels, ignored = count_classes(indices, num_classes, overlapping=False)
    np.testing.assert_array_equal(pixels, class_areas(indices, range(num_classes), False).sum((1, 2)))
    assert ignored == (indices == 255).sum()
