import io

import numpy as np
import pytest

from imaging.codec import decode_image, decode_mask, encode_png
from records.files import join
from records.info import read_info
from records.schema import FEATURES, decode
from records.shards import read_shard
from records.tfds import DATASET_INFO_FILE, FEATURES_FILE, dataset_info_json, features_json


def decoded_records(folder, split):
    info = read_info(str(folder))
    return [decode(data) for shard in info.shards(split) for data in read_shard(join(str(folder), shard.name))]


def check_all_examples(folder, split):
    import tensorflow_datasets as tfds  # a development dependency, and slow to import

    builder = tfds.builder_from_directory(str(folder))
    records = {record.source_id: record for record in decoded_records(folder, split)}
    seen = []
    for example in tfds.as_numpy(builder.as_dataset(split=split)):
        image = example["image"]
        record = records[image["source_id"].decode()]
        seen.append(record.source_id)
        if record.image_format == "raw":
            assert image["encoded"] == record.image
        else:
            np.testing.assert_array_equal(image["encoded"], decode_image(record.image))
        if record.slice_index is not None:
            assert image["slice_index"] == record.slice_index
            assert tuple(image["spacing_mm"]) == record.spacing_mm
        assert (image["height"], image["width"], image["channels"]) == (record.height, record.width, record.channels)
        assert image["filename"].decode() == record.filename
        assert image["group"].decode() == record.group
        assert image["format"].decode() == record.image_format
        assert tuple(image["crop"]) == record.crop
        assert (image["original"]["height"], image["original"]["width"]) == (
            record.original_height,
            record.original_width,
        )
        if record.mask is None:
            assert "segmentation" not in image
            continue
        mask = decode_mask(record.mask)
        assert image["segmentation"]["class"]["encoded"].dtype == mask.dtype
        np.testing.assert_array_equal(image["segmentation"]["class"]["encoded"][:, :, 0], mask)
        if record.instances is None:
            assert "instance" not in image["segmentation"]
            assert "object" not in image
        else:
            instances = image["segmentation"]["instance"]["encoded"]
            assert instances.dtype == np.uint16
            np.testing.assert_array_equal(instances[:, :, 0], decode_mask(record.instances))
            assert image["object"]["count"] == record.objects
    assert sorted(seen) == sorted(records)
    return builder


def test_tensorflow_datasets_reads_what_our_decoder_reads(nuclei_records):
    builder = check_all_examples(nuclei_records, "train")
    info = read_info(str(nuclei_records))
    assert {name: split.num_examples for name, split in builder.info.splits.items()} == {
        name: split.num_examples for name, split in info.splits.items()
    }
    assert builder.info.name == info.name


@pytest.mark.parametrize(
    ("settings", "split"), [({}, "train"), ({"unlabeled": True}, "test")], ids=["binary_masks", "unlabeled"]
)
def test_tensorflow_datasets_reads_records_without_objects_or_masks(
    folder_raw, preprocess_folder, tmp_path, settings, split
):
    preprocess_folder(folder_raw, tmp_path, size=32, **settings)
    check_all_examples(tmp_path, split)


@pytest.mark.parametrize("kind", ["grey16", "native_sizes"])
def test_tensorflow_datasets_reads_16_bit_images_and_several_sizes(preprocess_folder, tmp_path, kind):
    from PIL import Image

    raw = tmp_path / "raw"
    generator = np.random.default_rng(0)
    for name in ("images", "masks"):
        (raw / name).mkdir(parents=True)
    for number in range(6):
        height = 20 if kind == "grey16" else 20 + number
        if kind == "grey16":
            pixels = generator.integers(0, 65536, (height, 30), dtype=np.uint16)
        else:
            pixels = generator.integers(0, 256, (height, 30, 3), dtype=np.uint8)
        mask = generator.integers(0, 2, (height, 30), dtype=np.uint8) * 255
        for folder, array in (("images", pixels), ("masks", mask)):
            buffer = io.BytesIO()
            Image.fromarray(array).save(buffer, "PNG")
            (raw / folder / f"{number}.png").write_bytes(buffer.getvalue())
    preprocess_folder(raw, tmp_path / "records", size=None)
    check_all_examples(tmp_path / "records", "train")


@pytest.mark.parametrize("image_format", ["raw", "png"])
def test_tensorflow_datasets_reads_slices_of_overlapping_classes(tmp_path, make_record, write_records, image_format):
    generator = np.random.default_rng(0)
    shard = [
        make_record(
            f"a{number}",
            image_format,
            1,
            "uint16",
            mask=encode_png(generator.integers(0, 2**16, (6, 10), dtype=np.uint16)),
            slice_index=number,
            spacing_mm=(0.5, 0.75, 2.5),
        )
        for number in range(3)
    ]
    info = write_records(tmp_path, {"fold0": [shard]}, dtype="uint16", classes=["a", "b"], overlapping=True)
    (tmp_path / FEATURES_FILE).write_text(features_json(info, set(FEATURES)))
    (tmp_path / DATASET_INFO_FILE).write_text(dataset_info_json(info))
    check_all_examples(tmp_path, "fold0")
