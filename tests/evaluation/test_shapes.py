"""Objects, distances and volumes from records to files: what is read, judged beside the model, and written."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from sklearn.metrics import f1_score, jaccard_score
from tensorflow import keras

from evaluation.boundary import boundary_distances
from evaluation.config import EvalConfig
from evaluation.evaluator import evaluate
from evaluation.objects import THRESHOLDS, count_matches
from evaluation.shapes import ImageMasks, ShapeTask, judge_images
from evaluation.terminal import score_table
from imaging.codec import decode_image, decode_mask, encode_png
from imaging.objects import label_objects
from inference.run import TrainedModel
from records.info import RecordsInfo, read_info
from records.schema import IGNORE, IGNORE_BIT, Record, decode
from records.shards import read_shard
from tests.conftest import predictor_of, silent_progress
from tests.records.conftest import made_record, write_made_records

SIZE, DEPTHS, SPACING = 16, (4, 3), (1.0, 2.0, 5.0)


def bright_pixels(info: RecordsInfo) -> TrainedModel:
    """A model without weights: class 1 where the first channel is at least 128."""
    inputs = keras.Input([None, None, info.channels])
    logits = keras.layers.Rescaling(1.0, 0.5 - 128)(inputs[..., :1])
    return TrainedModel(keras.Model(inputs, logits), info.classes, info.channels, info.dtype, info.fingerprint)


def judge(records: Path, info: RecordsInfo, folder: Path, crop: int | None = None, **settings) -> dict:
    config = EvalConfig(**{"split": "test", "batch_size": 3, "pictures": 0, **settings})
    trained = dataclasses.replace(bright_pixels(info), crop=crop)
    return evaluate(predictor_of(trained, config.threshold or 0.5), str(records), info, folder, config, silent_progress)


def read_split(records: Path, info: RecordsInfo, split: str = "test") -> list[Record]:
    return [decode(data) for shard in info.shards(split) for data in read_shard(str(records / shard.name))]


def make_slice(volume: str, index: int, generator: np.random.Generator, **settings) -> Record:
    """A slice with a box in it; its picture shows the box moved by up to two pixels, its first columns are ignored."""
    mask, image = np.zeros([SIZE, SIZE], np.uint8), np.zeros([SIZE, SIZE, 3], np.uint8)
    top = 3 + index
    mask[top : top + 7, 4:12] = 1
    y, x = np.array([top, 4]) + generator.integers(-2, 3, 2)
    image[y : y + 7, x : x + 8] = 200
    mask[:, :2] = IGNORE
    place = {"group": volume, "filename": f"{volume}.nii", "slice_index": index, "spacing_mm": SPACING}
    sizes = {"height": SIZE, "width": SIZE, "crop": (0, 0, SIZE, SIZE)}
    pixels = {"image": encode_png(image), "mask": encode_png(mask), "instances": None, "objects": None}
    return made_record(f"{volume}-{index}", **{**place, **sizes, **pixels, **settings})


def write_volumes(folder: Path, slices: list[Record]) -> RecordsInfo:
    return write_made_records(folder, {"test": [slices]}, classes=["background", "lung"], height=SIZE, width=SIZE)


def made_volumes() -> list[Record]:
    """Slices of two patients, not in their order; one lacks in the middle of the first."""
    generator = np.random.default_rng(0)
    made = [[make_slice(f"patient{n}", index, generator) for index in range(depth)] for n, depth in enumerate(DEPTHS)]
    return [made[0][3], made[0][0], made[0][2], *made[1]]


@pytest.fixture(scope="module")
def volumes(tmp_path_factory) -> tuple[Path, RecordsInfo]:
    folder = tmp_path_factory.mktemp("volumes")
    return folder, write_volumes(folder, made_volumes())


def areas_of(record: Record) -> tuple[np.ndarray, np.ndarray]:
    """(truth, prediction) without ignored pixels."""
    mask = decode_mask(record.mask)
    return mask == 1, (decode_image(record.image)[..., 0] >= 128) & (mask != IGNORE)


def test_objects_are_those_of_the_instance_maps(nuclei_records, tmp_path):
    info = read_info(str(nuclei_records))
    metrics = judge(nuclei_records, info, tmp_path, split="train")
    table = pd.read_csv(tmp_path / "per_image.csv", dtype={"source_id": str}).set_index("source_id")
    f2, precision, pooled = [], [], np.zeros([3, 10])
    for record in read_split(nuclei_records, info, "train"):
        instances, found = decode_mask(record.instances), label_objects(areas_of(record)[1])
        tp, true, guessed = count_matches(instances, found)
        f2.append(np.mean(5 * tp / (4 * true + guessed)))
        precision.append(np.mean(tp / (true + guessed - tp)))
        pooled += [tp, np.full(10, true), np.full(10, guessed)]
        row = table.loc[record.source_id]
        assert (row["objects_true"], row["objects_found"]) == (true, guessed)
        assert (row["object_f2"], row["object_map"]) == pytest.approx((f2[-1], precision[-1]))
        distances = boundary_distances(*areas_of(record)) or (np.nan, np.nan)
        assert (row["hausdorff95"], row["surface_distance"]) == pytest.approx(distances, nan_ok=True)
    assert metrics["object_f2"] == pytest.approx(np.mean(f2))
    assert metrics["object_map"] == pytest.approx(np.mean(precision))
    assert metrics["object_f1"] == pytest.approx(np.mean(2 * pooled[0] / (pooled[1] + pooled[2])))
    assert metrics["object_recall@0.75"] == pytest.approx(pooled[0, 5] / pooled[1, 5])
    low, high = metrics["object_f2_ci95"]
    assert low < metrics["object_f2"] < high
    low, high = metrics["hausdorff95_ci95"]
    assert low < metrics["hausdorff95"] < high
    assert metrics["hausdorff95"] == pytest.approx(table["hausdorff95"].mean())
    empty = int((table["objects_found"] == 0).sum())
    assert (metrics["num_distances"], metrics["num_without_distance"]) == (14 - empty, empty)
    assert 0 < empty < 7
    assert metrics["distance_unit"] == "px"
    assert {f"object_f2@{threshold}" for threshold in THRESHOLDS} < metrics.keys()
    assert "num_volumes" not in metrics


def test_pixel_scores_are_scikit_learns(nuclei_records, tmp_path):
    info = read_info(str(nuclei_records))
    metrics = judge(nuclei_records, info, tmp_path)
    pairs = [[area.ravel() for area in areas_of(record)] for record in read_split(nuclei_records, info)]
    assert metrics["dice_per_image"] == pytest.approx(np.mean([f1_score(*pair) for pair in pairs]))
    assert metrics["iou_per_image"] == pytest.approx(np.mean([jaccard_score(*pair) for pair in pairs]))
    together = [np.concatenate(areas) for areas in zip(*pairs, strict=True)]
    assert metrics["dice_pooled"] == pytest.approx(f1_score(*together))


def test_slices_of_a_patient_are_judged_together_in_millimetres(volumes, tmp_path):
    metrics = judge(*volumes, tmp_path)
    table = pd.read_csv(tmp_path / "per_group.csv").set_index("group")
    assert table["images"].to_dict() == {"patient0": 3, "patient1": 3}
    expected = {}
    for name, depth in zip(table.index, DEPTHS, strict=True):
        true, found = np.zeros([2, depth, SIZE, SIZE], bool)
        for record in read_split(*volumes):
            if record.group == name:
                true[record.slice_index], found[record.slice_index] = areas_of(record)
        dice = 2 * (true & found).sum() / (true.sum() + found.sum())
        iou = (true & found).sum() / (true | found).sum()
        expected[name] = [dice, iou, *boundary_distances(true, found, (5.0, 1.0, 2.0))]
        names = ["dice", "iou", "hausdorff95", "surface_distance"]
        assert table.loc[name, names].tolist() == pytest.approx(expected[name])
    means = np.mean(list(expected.values()), 0)
    found = [metrics[f"volume_{name}"] for name in ("dice", "iou", "hausdorff95", "surface_distance")]
    assert found == pytest.approx(means)
    assert (metrics["num_volumes"], metrics["num_volume_distances"], metrics["distance_unit"]) == (2, 2, "mm")
    assert metrics["baseline_nothing/volume_dice"] == 0.0
    images = pd.read_csv(tmp_path / "per_image.csv").set_index("source_id")
    for record in read_split(*volumes):
        assert images.loc[record.source_id, "hausdorff95"] == pytest.approx(
            boundary_distances(*areas_of(record), (1.0, 2.0))[0]
        )


@pytest.mark.parametrize("settings", [{"batch_size": 1}, {"batch_size": 20}, {"crop": 12}, {"workers": 2}])
def test_scores_depend_neither_on_batches_nor_tiles_nor_processes(volumes, tmp_path, settings):
    expected = judge(*volumes, tmp_path / "one")
    assert judge(*volumes, tmp_path / "other", **settings) == expected
    for name in ("per_image.csv", "per_group.csv"):
        assert (tmp_path / "other" / name).read_text() == (tmp_path / "one" / name).read_text()


def test_the_order_of_the_records_does_not_matter(volumes, tmp_path):
    info = write_volumes(tmp_path / "turned", made_volumes()[::-1])
    turned, expected = judge(tmp_path / "turned", info, tmp_path / "a"), judge(*volumes, tmp_path / "b")
    assert turned == {
        name: pytest.approx(value) if isinstance(value, float | list) else value for name, value in expected.items()
    }


def test_what_is_left_out_has_no_scores_and_changes_no_others(volumes, tmp_path):
    full = judge(*volumes, tmp_path)
    bare = judge(*volumes, tmp_path, objects=False, distances=False)
    assert bare == {name: value for name, value in full.items() if name in bare}
    assert bare.keys() & {"dice_per_image", "volume_dice"} and not any("object" in name for name in bare)
    assert not any("hausdorff95" in name or "distance" in name for name in bare)
    columns = [list(pd.read_csv(tmp_path / name).columns) for name in ("per_image.csv", "per_group.csv")]
    assert columns == [["source_id", "group", "dice", "iou", "tp", "fp", "fn"], ["group", "images", "dice", "iou"]]
    assert json.loads((tmp_path / "metrics.json").read_text()) == bare


def test_resized_slices_have_other_distances_between_their_pixels(tmp_path):
    generator = np.random.default_rng(0)
    shown = {"crop": (0, 0, 2 * SIZE, 4 * SIZE)}
    slices = [make_slice("patient", index, generator, **shown) for index in range(2)]
    judge(tmp_path, write_volumes(tmp_path, slices), tmp_path / "eval")
    table = pd.read_csv(tmp_path / "eval" / "per_image.csv").set_index("source_id")
    expected = [boundary_distances(*areas_of(record), (2.0, 8.0)) for record in slices]
    np.testing.assert_allclose(table[["hausdorff95", "surface_distance"]], expected)


def test_tiles_of_a_slice_make_no_volume_but_count_in_its_pixels(tmp_path):
    generator = np.random.default_rng(0)
    slices = [make_slice("patient", index, generator) for index in (0, 1)]
    slices.append(dataclasses.replace(slices[1], source_id="patient-1-tile"))
    metrics = judge(tmp_path, write_volumes(tmp_path, slices), tmp_path / "eval")
    assert (metrics["num_volumes"], metrics["volume_hausdorff95"], metrics["num_volume_distances"]) == (1, None, 0)
    counts = np.sum([[(a & b).sum(), a.sum() + b.sum()] for a, b in map(areas_of, slices)], 0)
    assert metrics["volume_dice"] == pytest.approx(2 * counts[0] / counts[1])


def test_slices_that_come_apart_are_named(tmp_path):
    generator = np.random.default_rng(0)
    names = [("a", 0), ("b", 0), ("a", 1)]
    info = write_volumes(tmp_path, [make_slice(name, index, generator) for name, index in names])
    with pytest.raises(ValueError, match=r"a.nii: expected the slices of a volume side by side, found slice 1"):
        judge(tmp_path, info, tmp_path / "eval")
    assert judge(tmp_path, info, tmp_path / "eval", distances=False)["num_volumes"] == 2


def test_millimetres_are_known_everywhere_or_nowhere(tmp_path):
    generator = np.random.default_rng(0)
    slices = [make_slice("a", 0, generator), make_slice("a", 1, generator, spacing_mm=None)]
    info = write_volumes(tmp_path, slices)
    with pytest.raises(ValueError, match="image/spacing_mm: expected it in all records or in none"):
        judge(tmp_path, info, tmp_path / "eval")


def test_where_classes_overlap_objects_are_the_parts_of_each_class():
    truth = np.zeros([8, 8], np.uint16)
    truth[1:7, 1:7] |= 1  # one object of class 0, and on it two of class 1
    truth[2, 2] |= 2
    truth[5, 5] |= 2
    truth[:, 7] = IGNORE_BIT
    instances = encode_png(np.where(truth == 3, 2, truth == 1).astype(np.uint16))
    task = ShapeTask([0, 1], overlapping=True, objects=True, distances=True)
    (shapes,) = judge_images(task, [ImageMasks(truth, truth, instances, None)])
    assert shapes.objects.true.tolist() == shapes.objects.found.tolist() == [1, 2]
    assert shapes.objects.matched.tolist() == [[1] * 10, [2] * 10]
    assert (shapes.distances.values == 0).all()


def test_the_terminal_shows_each_kind_of_score_that_was_judged(volumes, tmp_path):
    metrics = judge(*volumes, tmp_path)
    console = Console(width=150)
    with console.capture() as capture:
        console.print(score_table(metrics, "scans"))
    shown = capture.get()
    for words in ("F2 of objects ", "Hausdorff 95 % (mm)", "Dice per volume", "surface distance (mm)"):
        assert words in shown
    row = next(line for line in shown.splitlines() if "mean average precision" in line)
    assert f"{metrics['object_map']:.4f}" in row
    assert f"{metrics['baseline_everything/object_map']:.4f}" in row
    with console.capture() as capture:
        console.print(score_table(judge(*volumes, tmp_path, objects=False, distances=False), "scans"))
    assert "Dice per volume" in (bare := capture.get())
    assert "of objects" not in bare
    assert "Hausdorff" not in bare
