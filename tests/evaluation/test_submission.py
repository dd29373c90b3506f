"""Submission files, from made-up raw data through records and a model to the file, decoded by code of our own."""

import csv
import dataclasses
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import scipy.ndimage
from tensorflow import keras

from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from evaluation.submission import check_submission, write_submission
from imaging.codec import decode_image, encode_png
from inference.run import TrainedModel
from preprocess.config import Splits
from preprocess.synthetic import SyntheticConfig, write_airbus, write_clouds
from records.info import read_info
from records.schema import decode
from records.shards import read_shard
from tests.conftest import make_records, predictor_of, silent_progress

CORNERS = np.ones((3, 3))  # pixels that touch at a corner are connected
CLOUDS = ["Fish", "Flower", "Gravel", "Sugar"]


def bright_pixels(info, threshold: float = 128, **settings) -> TrainedModel:
    """A model without weights: class 1 where the first channel is at least `threshold`."""
    inputs = keras.Input([None, None, info.channels])
    logits = keras.layers.Rescaling(1.0, 0.5 - threshold)(inputs[..., :1])
    classes = ["background", "object"] if not info.labeled else info.classes
    model = keras.Model(inputs, logits)
    return TrainedModel(model, classes, info.channels, info.dtype, info.fingerprint, **settings)


def submit(trained: TrainedModel, records: Path, folder: Path, **settings) -> list[tuple[str, str]]:
    """Returns the rows of the file that an evaluation writes."""
    config = EvalConfig(**{"split": "test", "batch_size": 3, "pictures": 0, **settings})
    info = read_info(str(records))
    evaluate(predictor_of(trained, config.threshold or 0.5), str(records), info, folder, config, silent_progress)
    with (folder / "submission.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == ["Image_Label" if config.submission == "clouds" else "ImageId", "EncodedPixels"]
    return [tuple(row) for row in rows]


def paint(code: str, height: int, width: int) -> np.ndarray:
    """Decodes pixel by pixel: bool [height, width]."""
    numbers = list(map(int, code.split()))
    mask = np.zeros((height, width), bool)
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start - 1, start - 1 + length):
            assert not mask[pixel % height, pixel // height], "a run covers what another did"
            mask[pixel % height, pixel // height] = True
    return mask


def nearest(mask: np.ndarray, height: int, width: int) -> np.ndarray:
    """Resizes by the pixel that lies beneath each centre, in whole numbers."""
    rows = (2 * np.arange(height) + 1) * mask.shape[0] // (2 * height)
    columns = (2 * np.arange(width) + 1) * mask.shape[1] // (2 * width)
    return mask[rows[:, None], columns]


def stretched(image: np.ndarray, height: int, width: int, limit: float = 128) -> np.ndarray:
    """Probabilities of `bright_pixels` with this threshold, stretched linearly between pixel centres."""
    values = 1 / (1 + np.exp(np.float64(limit) - 0.5 - image[..., 0]))
    for axis, length in enumerate((height, width)):
        size = values.shape[axis]
        places = np.clip((np.arange(length) + 0.5) * size / length - 0.5, 0, size - 1)
        below = np.minimum(places.astype(int), size - 1)
        share = np.expand_dims(places - below, 1 - axis)
        above = np.minimum(below + 1, size - 1)
        values = values.take(below, axis) * (1 - share) + values.take(above, axis) * share
    return values


def stored_examples(records: Path, split: str) -> list:
    """Returns the records of a split in their order."""
    info = read_info(str(records))
    return [decode(data) for shard in info.shards(split) for data in read_shard(str(records / shard.name))]


def check_objects(codes: list[str], expected: np.ndarray) -> None:
    """Asserts that rows of one image are the connected areas of a mask, each once, without shared pixels."""
    painted = [paint(code, *expected.shape) for code in codes]
    np.testing.assert_array_equal(np.sum(painted, axis=0), expected)  # 2 where rows share a pixel
    areas, count = scipy.ndimage.label(expected, CORNERS)
    if count == 0:
        assert codes == [""]
        return
    assert len(codes) == count
    for mask in painted:
        (number,) = np.unique(areas[mask])
        np.testing.assert_array_equal(mask, areas == number)


def codes_by_image(rows: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for image, code in rows:
        found.setdefault(image, []).append(code)
    return found


def write_images(folder: Path, images: dict[str, np.ndarray], masks: bool = False) -> Path:
    """Writes raw data in the folder layout; the mask of an image is where it is bright."""
    for name, image in images.items():
        for kind, pixels in (("images", image), ("masks", 255 * (image[..., 0] >= 128).astype(np.uint8))):
            if kind == "images" or masks:
                path = folder / kind / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(encode_png(pixels))
    return folder


def blobs(height: int, width: int, seed: int = 0) -> np.ndarray:
    """An image of bright areas, uint8 RGB."""
    noise = np.random.default_rng(seed).normal(size=(height, width))
    return np.where(scipy.ndimage.gaussian_filter(noise, 2)[..., None] > 0.1, 200, 40).repeat(3, 2).astype(np.uint8)


@pytest.fixture(scope="module")
def ships(tmp_path_factory) -> tuple[Path, Path]:
    """(unlabelled records at 96x96, the sample submission whose order they have); read only."""
    folder = tmp_path_factory.mktemp("ships")
    write_airbus(folder / "raw", SyntheticConfig(images=24, seed=10))
    shutil.rmtree(folder / "raw" / "train_v2")
    sample = folder / "sample.csv"
    header, *rows = (folder / "raw" / "sample_submission_v2.csv").read_text().splitlines()
    sample.write_text("\n".join([header, *rows[1:], rows[0]]) + "\n")
    make_records("airbus", folder / "raw", folder / "records", size=96, unlabeled=True, sample=str(sample))
    return folder / "records", sample


def test_ships_come_in_the_samples_order_at_the_size_of_the_raw_images(ships, tmp_path):
    records, sample = ships
    rows = submit(bright_pixels(read_info(str(records))), records, tmp_path / "eval", submission="airbus")
    found = codes_by_image(rows)
    assert list(found) == [line.partition(",")[0] for line in sample.read_text().splitlines()[1:]]
    assert [image for image, _ in rows] == [image for image, codes in found.items() for _ in codes]
    examples = stored_examples(records, "test")
    assert [example.filename for example in examples] == [f"test_v2/{image}" for image in found]
    for example, codes in zip(examples, found.values(), strict=True):
        assert (example.original_height, example.height) == (768, 96)
        check_objects(codes, stretched(decode_image(example.image), 768, 768) >= 0.5)
    assert sorted(len(codes) for codes in found.values() if codes != [""]) == [2, 4]


def test_nuclei_have_the_size_of_every_image_and_ids_without_extension(nuclei_raw, tmp_path):
    make_records("nuclei", nuclei_raw, tmp_path / "records", size=32)
    trained, options = bright_pixels(read_info(str(tmp_path / "records"))), {"split": "train", "submission": "nuclei"}
    found = codes_by_image(submit(trained, tmp_path / "records", tmp_path / "eval", **options))
    examples = stored_examples(tmp_path / "records", "train")
    assert list(found) == [example.source_id for example in examples]
    assert len({(example.original_height, example.original_width) for example in examples}) > 2
    for example in examples:
        size = example.original_height, example.original_width
        check_objects(found[example.source_id], stretched(decode_image(example.image), *size) >= 0.5)
    assert max(map(len, found.values())) > 3


@pytest.mark.parametrize("kept", [CLOUDS, ["Flower", "Sugar"]])
def test_clouds_have_four_rows_an_image_which_may_overlap(tmp_path, kept):
    write_clouds(tmp_path / "raw", SyntheticConfig(images=8, seed=1))
    settings = {"size": 175, "unlabeled": True, "sample": str(tmp_path / "raw" / "sample_submission.csv")}
    make_records("clouds", tmp_path / "raw", tmp_path / "records", classes=kept, **settings)
    info = read_info(str(tmp_path / "records"))
    limits = {"Fish": 60, "Flower": 90, "Gravel": 120, "Sugar": 300}
    inputs = keras.Input([None, None, 3])
    bright = [keras.layers.Rescaling(1.0, 0.5 - limits[name])(inputs[..., :1]) for name in kept]
    model = keras.Model(inputs, keras.layers.Concatenate()(bright))
    trained = TrainedModel(model, kept, 3, "uint8", info.fingerprint, overlapping=True)
    rows = submit(trained, tmp_path / "records", tmp_path / "eval", submission="clouds")
    sample = (tmp_path / "raw" / "sample_submission.csv").read_text().splitlines()[1:]
    assert [label for label, _ in rows] == [line.partition(",")[0] for line in sample]
    codes = dict(rows)
    for example in stored_examples(tmp_path / "records", "test"):
        size = example.original_height, example.original_width
        for name, limit in limits.items():
            image = decode_image(example.image)
            probabilities = nearest(stretched(image, *size, limit), 350, 525)
            expected = (probabilities >= 0.5) & (name in kept)
            clear = np.abs(probabilities - 0.5) > 1e-5  # rounded, a half may fall on either side
            assert clear.mean() > 0.99
            label = f"{example.filename.rpartition('/')[2]}_{name}"
            np.testing.assert_array_equal(paint(codes[label], 350, 525)[clear], expected[clear])
            assert codes[label] or name == "Sugar" or name not in kept


def test_clouds_have_the_competitions_size_whatever_the_images(tmp_path):
    small = blobs(175, 175)
    write_images(tmp_path / "raw", {"sky.png": small.repeat(8, axis=0).repeat(12, axis=1)})
    make_records("folder", tmp_path / "raw", tmp_path / "records", size=175, unlabeled=True)
    trained = bright_pixels(read_info(str(tmp_path / "records")))
    trained = dataclasses.replace(trained, classes=["background", "Gravel"])
    rows = dict(submit(trained, tmp_path / "records", tmp_path / "eval", submission="clouds"))
    assert [rows[f"sky.png_{name}"] for name in ("Fish", "Flower", "Sugar")] == [""] * 3
    expected = nearest(stretched(small, 1400, 2100) >= 0.5, 350, 525)
    np.testing.assert_array_equal(paint(rows["sky.png_Gravel"], 350, 525), expected)


@pytest.mark.parametrize(("overlap", "crop"), [(0, None), (5, None), (5, 8)])
def test_tiles_are_put_together_again(tmp_path, overlap, crop):
    images = {f"scan{number}.png": blobs(height, 45, number) for number, height in enumerate((16, 33, 60, 7))}
    write_images(tmp_path / "raw", images)
    settings = {"size": 16, "tile": True, "tile_overlap": overlap, "unlabeled": True, "near_duplicates": None}
    make_records("folder", tmp_path / "raw", tmp_path / "records", **settings)
    info = read_info(str(tmp_path / "records"))
    trained = bright_pixels(info, crop=crop)
    found = codes_by_image(submit(trained, tmp_path / "records", tmp_path / "eval", submission="airbus"))
    assert sorted(found) == sorted(images)
    for name, codes in found.items():
        check_objects(codes, images[name][..., 0] >= 128)


def test_tiles_that_were_left_out_are_refused(tmp_path):
    image = blobs(32, 32)
    image[:16, :16] = 0
    write_images(tmp_path / "raw", {"scan.png": image}, masks=True)
    settings = {"size": 16, "tile": True, "splits": Splits(0.0, 0.0, 1.0), "drop_empty": True}
    make_records("folder", tmp_path / "raw", tmp_path / "records", **settings)
    trained = bright_pixels(read_info(str(tmp_path / "records")))
    with pytest.raises(ValueError, match=r"all tiles of every image, found 1 images that lack some, such as 'scan'"):
        submit(trained, tmp_path / "records", tmp_path / "eval", submission="nuclei")


def test_names_of_files_cannot_break_the_table(tmp_path):
    names = ['a,"b".png', "line\nbreak.png", "=1+1.png", "ünï cøde.png", "scan/y00000x00000.png", "'; x.png"]
    write_images(tmp_path / "raw", {name: blobs(16, 16, number) for number, name in enumerate(names)})
    settings = {"size": None, "unlabeled": True, "near_duplicates": None}
    make_records("folder", tmp_path / "raw", tmp_path / "records", **settings)
    trained = bright_pixels(read_info(str(tmp_path / "records")))
    files = [name.rpartition("/")[2] for name in names]
    for form, expected in (("airbus", files), ("nuclei", [name.removesuffix(".png") for name in files])):
        found = codes_by_image(submit(trained, tmp_path / "records", tmp_path / form, submission=form))
        assert sorted(found) == sorted(expected)
        for number, name in enumerate(expected):
            check_objects(found[name], blobs(16, 16, number)[..., 0] >= 128)


@pytest.fixture(scope="module")
def damaged(tmp_path_factory) -> Path:
    """Unlabelled records of six images of which scan2 is damaged; read only."""
    folder = tmp_path_factory.mktemp("damaged")
    write_images(folder / "raw", {f"scan{number}.png": blobs(16, 16, number) for number in range(6)})
    path = folder / "raw" / "images" / "scan2.png"
    path.write_bytes(path.read_bytes()[:40])
    settings = {"size": 16, "unlabeled": True, "near_duplicates": None, "max_rejects": 0.5}
    make_records("folder", folder / "raw", folder / "records", **settings)
    return folder / "records"


def test_damaged_images_have_an_empty_row_at_the_end(damaged, tmp_path):
    rows = submit(bright_pixels(read_info(str(damaged))), damaged, tmp_path / "eval", submission="airbus")
    found = codes_by_image(rows)
    order = [example.filename.rpartition("/")[2] for example in stored_examples(damaged, "test")]
    assert list(found) == [*order, "scan2.png"]
    assert found["scan2.png"] == [""]
    assert all(found[name] != [""] for name in order)


def test_an_image_found_damaged_on_writing_has_an_empty_row_in_its_place(damaged, tmp_path):
    records = tmp_path / "records"
    shutil.copytree(damaged, records)
    plan = pd.read_parquet(records / "plan.parquet")
    late = plan.iloc[[1]].assign(key="late", image="images/late.png")
    pd.concat([plan.iloc[:1], late, plan.iloc[1:]]).to_parquet(records / "plan.parquet")
    rows = submit(bright_pixels(read_info(str(records))), records, tmp_path / "eval", submission="airbus")
    assert list(codes_by_image(rows))[1] == "late.png"
    assert codes_by_image(rows)["late.png"] == [""]


def test_records_without_a_plan_are_refused(damaged, tmp_path):
    shutil.copytree(damaged, tmp_path / "records")
    (tmp_path / "records" / "plan.parquet").unlink()
    trained = bright_pixels(read_info(str(damaged)))
    with pytest.raises(ValueError, match=r"plan.parquet: cannot be read .* --overwrite makes the records anew"):
        submit(trained, tmp_path / "records", tmp_path / "eval", submission="airbus")


def test_a_sample_decides_rows_and_their_order(damaged, tmp_path):
    sample = tmp_path / "sample.csv"
    sample.write_text("\ufeffImageId,EncodedPixels\nscan4,1 1\nscan2,1 1\nscan0,1 1\nscan4,9 1\n", encoding="utf-8")
    trained, folder = bright_pixels(read_info(str(damaged))), tmp_path / "eval"
    found = codes_by_image(submit(trained, damaged, folder, submission="nuclei", sample=str(sample)))
    assert list(found) == ["scan4", "scan2", "scan0"]
    assert found["scan2"] == [""]
    check_objects(found["scan0"], blobs(16, 16, 0)[..., 0] >= 128)
    check_objects(found["scan4"], blobs(16, 16, 4)[..., 0] >= 128)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("ImageId,EncodedPixels\nscan1,\nscan9,\n", r"found 'scan9', which is none \(1 of 2 ids\)"),
        ("Image_Label,EncodedPixels\nscan1_Fish,\n", "the column ImageId and rows beneath it, found 'Image_Label'"),
        ("ImageId,EncodedPixels\n", "rows beneath it, found 'ImageId'"),
        ("", "rows beneath it, found nothing"),
        ("\0\ud800", "expected a CSV file in UTF-8"),
    ],
)
def test_a_sample_of_other_images_is_refused_before_any_prediction(damaged, tmp_path, text, message):
    sample = tmp_path / "sample.csv"
    sample.write_bytes(text.encode("utf-8", "surrogatepass"))
    trained = dataclasses.replace(bright_pixels(read_info(str(damaged))), model=None)
    with pytest.raises(ValueError, match=message) as error:
        submit(trained, damaged, tmp_path / "eval", submission="nuclei", sample=str(sample))
    assert "\n" not in str(error.value)


def test_two_images_of_one_name_are_refused(tmp_path):
    write_images(tmp_path / "raw", {f"{part}/scan.png": blobs(16, 16, number) for number, part in enumerate("ab")})
    settings = {"size": 16, "unlabeled": True, "near_duplicates": None}
    make_records("folder", tmp_path / "raw", tmp_path / "records", **settings)
    trained = bright_pixels(read_info(str(tmp_path / "records")))
    for form, name in (("airbus", "scan.png"), ("nuclei", "scan")):
        with pytest.raises(ValueError, match=f"different names, found '{name}' for 'a/scan' and 'b/scan'"):
            submit(trained, tmp_path / "records", tmp_path / "eval", submission=form)


def test_models_of_other_classes_are_refused(damaged):
    trained = bright_pixels(read_info(str(damaged)))
    of_three = dataclasses.replace(trained, classes=["background", "road", "car"])
    with pytest.raises(ValueError, match="a model of one class for airbus, found road, car"):
        check_submission(of_three, EvalConfig(submission="airbus"))
    with pytest.raises(ValueError, match="of the classes Fish, Flower, Gravel, Sugar for clouds, found object"):
        check_submission(trained, EvalConfig(submission="clouds"))
    with pytest.raises(ValueError, match="a run that segments, found one of --task classify"):
        check_submission(dataclasses.replace(trained, task="classify"), EvalConfig(submission="nuclei"))
    check_submission(of_three, EvalConfig())


def test_a_sample_needs_a_form():
    with pytest.raises(ValueError, match="sample: expected --submission with it"):
        EvalConfig(sample="sample.csv")


def test_an_evaluation_that_fails_leaves_no_file(damaged, tmp_path):
    info = read_info(str(damaged))
    config = EvalConfig(submission="airbus")
    with (
        pytest.raises(RuntimeError),
        write_submission(tmp_path, predictor_of(bright_pixels(info)), str(damaged), info, config) as add,
    ):
        key = stored_examples(damaged, "test")[0].source_id
        add({"source_id": [key.encode()], "probabilities": [np.ones((16, 16, 1), np.float32)]})
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []
