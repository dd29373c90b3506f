import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from evaluation.exploration.comparison import (
    bin_label,
    compare_splits,
    count_bin,
    describe_comparison,
    known_measures,
    total_variation,
)
from evaluation.exploration.dataset import Dataset, ExamplePixels, read_dataset, read_examples, sample_keys
from evaluation.exploration.duplicates import closest_pairs
from evaluation.exploration.measures import example_facts, measure_examples, measure_objects
from evaluation.exploration.tables import (
    class_table,
    duplicate_table,
    group_table,
    left_out_table,
    outlier_table,
    size_table,
    split_table,
)
from records.info import RecordsInfo, SplitInfo
from records.schema import IGNORE, IGNORE_BIT
from tests.conftest import make_records


def make_info(classes=("background", "cell"), overlapping=False, unit="stored value", **splits) -> RecordsInfo:
    offset = -32768 if unit == "HU" else 0
    return RecordsInfo(
        name="made",
        classes=list(classes),
        overlapping=overlapping,
        labeled=True,
        instances=True,
        height=None,
        width=None,
        channels=1,
        dtype="uint16" if unit == "HU" else "uint8",
        coding="image",
        intensity={"offset": offset, "slope": 1, "unit": unit, "transform": "none"},
        mean=[0.0],
        std=[1.0],
        splits=splits,
        rejected=0,
        warnings={},
        config={},
        fingerprint="f",
        versions={},
    )


def make_dataset(rows: list[dict], index: list[dict] = ()) -> Dataset:
    """A plan of these rows; the index has their images, and what is given of them."""
    plan = pd.DataFrame(rows)
    defaults = {"status": "in", "reason": None, "split": "train", "shard": 0, "outlier": None, "duplicate": None}
    defaults |= {"height": 10, "width": 20}
    counts = ["slice_index", "objects", "foreground", "crop_height", "crop_width"]
    for name in [*defaults, *counts, "image", "group"]:
        values = plan[name] if name in plan else pd.Series([None] * len(plan), dtype=object)
        plan[name] = values.where(values.notna(), plan["key"] if name in ("image", "group") else defaults.get(name))
    plan["cluster"] = plan["group"]
    plan = plan.astype(dict.fromkeys(counts, "Int64"))
    columns = ["image", "slice_index", "height", "width", "mean", "contrast", "clipped", "perceptual_hash"]
    table = pd.DataFrame(list(index) or [{"image": image} for image in plan["image"].unique()]).reindex(columns=columns)
    table["slice_index"] = table["slice_index"].astype("Int64")
    return Dataset("made", None, table, plan, pd.DataFrame(columns=["split"]))


def make_facts(split_values: dict[str, list[float]], column="objects") -> pd.DataFrame:
    rows = [(split, value) for split, values in split_values.items() for value in values]
    facts = pd.DataFrame(rows, columns=["split", column])
    facts["cluster"] = [f"k{number}" for number in range(len(facts))]
    return facts.reindex(columns=["split", "cluster", "objects", "areas", "foreground", "brightness", "contrast"])


def test_counts_fall_into_bins_of_their_bits():
    np.testing.assert_array_equal(count_bin(np.array([0, 1, 2, 3, 4, 7, 8, 255, 256])), [0, 1, 2, 2, 3, 3, 4, 8, 9])
    assert [bin_label(number) for number in range(5)] == ["0", "1", "2–3", "4–7", "8–15"]


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), min_size=1, max_size=6))
@settings(max_examples=50, deadline=None)
def test_total_variation_is_the_largest_difference_that_any_event_shows(pairs):
    first, second = (np.array(side) + 1e-9 for side in zip(*pairs, strict=True))
    events = [[number >> place & 1 for place in range(len(pairs))] for number in range(2 ** len(pairs))]
    largest = max(first @ event / first.sum() - second @ event / second.sum() for event in np.array(events))
    assert total_variation(first, second) == pytest.approx(largest, abs=1e-9)


def test_a_split_is_compared_with_all_other_examples():
    # Bins of val: 1, 1, 2, 2. Of the rest (train and test): 1, 2 and eight times 3.
    facts = make_facts({"train": [1, 2, 4, 4, 4, 4], "val": [1, 1, 2, 3], "test": [5, 5, 6, 7]})
    found = compare_splits(facts).set_index("split")
    assert list(found.index) == ["val", "test"]
    assert found.loc["val", "distance"] == pytest.approx((0.4 + 0.4 + 0.8) / 2)
    assert found.loc["val", "examples"] == 4
    assert found.loc["val", "verdict"] == "cannot tell"  # four clusters


def test_random_splits_are_alike_and_shifted_ones_different():
    values = np.random.default_rng(0).normal(size=600)
    facts = make_facts({"train": values[:400], "val": values[400:500], "test": values[500:] + 2}, "brightness")
    found = compare_splits(facts).set_index("split")
    assert found.loc["val", "verdict"] == "alike"
    assert found.loc["test", "verdict"] == "different"
    assert found.loc["test", "distance"] > 2 * found.loc["test", "chance"]
    text = describe_comparison(found.reset_index())
    assert "mean brightness: alike (val); different (test)" in text
    assert "--seed" in text


def test_of_very_many_examples_a_sample_is_compared():
    values = np.random.default_rng(0).normal(size=30_000)
    found = compare_splits(make_facts({"train": values[:15_000], "val": values[15_000:] + 1}, "brightness")).iloc[0]
    # Two unit normals one apart: erf(1 / sqrt(8)).
    assert found["distance"] == pytest.approx(0.3829, abs=0.02)
    assert found["examples"] == pytest.approx(10_000, rel=0.03)
    assert found["verdict"] == "different"


def test_few_clusters_tell_nothing_however_many_examples_they_have():
    facts = make_facts({"train": [1] * 80, "val": [9] * 20})
    facts["cluster"] = ["a", "b", "c", "d"] * 20 + ["e"] * 20
    found = compare_splits(facts).iloc[0]
    assert (found["clusters"], found["examples"], found["verdict"]) == (1, 20, "cannot tell")
    assert found["distance"] == 1


def test_equal_mixes_are_alike_and_one_split_is_no_comparison():
    found = compare_splits(make_facts({"train": [0, 1, 2, 4] * 20, "val": [0, 1, 2, 4] * 5}))
    assert (found["distance"] == 0).all()
    assert "look alike" in describe_comparison(found)
    assert "nothing to compare" in describe_comparison(compare_splits(make_facts({"test": [1, 2, 3]})))


def test_connected_areas_are_a_measure_only_where_objects_are_not_counted():
    facts = make_facts({"train": [1, 2]})
    assert known_measures(facts) == ["objects"]
    assert known_measures(facts.assign(areas=[3.0, 4.0])) == ["objects"]
    assert known_measures(facts.assign(areas=[3.0, 4.0], objects=np.nan)) == ["areas"]
    assert known_measures(facts.assign(brightness=0.5)) == ["objects"]  # all equal


def example_of(mask, instances=None, image=None) -> ExamplePixels:
    image = np.zeros((*mask.shape, 1), np.uint8) if image is None else image
    return ExamplePixels("k", image, mask, instances, None)


def test_objects_of_an_instance_map_have_their_areas_and_classes():
    instances = np.array([[1, 1, 0, 3], [0, 3, 3, 3]], np.uint16)
    mask = np.array([[1, 1, 0, 2], [0, 2, 2, 2]], np.uint8)
    found = measure_objects(example_of(mask, instances), make_info(["background", "cell", "debris"]))
    assert found[["class", "area"]].to_numpy().tolist() == [["cell", 2], ["debris", 4]]
    np.testing.assert_allclose(found["diameter"] ** 2 * np.pi / 4, [2, 4])


def test_without_instances_objects_are_areas_that_touch_even_at_a_corner():
    mask = np.array([[1, 0, 0, 0], [0, 1, 0, 1], [0, 0, 0, IGNORE]], np.uint8)
    found = measure_objects(example_of(mask), make_info())
    assert sorted(found["area"]) == [1, 2]


def test_overlapping_classes_each_have_their_areas():
    mask = np.array([[1, 3, 2], [0, 0, 3 | IGNORE_BIT]], np.uint16)
    found = measure_objects(example_of(mask), make_info(["fish", "sugar"], overlapping=True))
    assert found[["class", "area"]].to_numpy().tolist() == [["fish", 2], ["sugar", 2]]


def test_records_are_measured_in_their_unit(nuclei_records):
    dataset = read_dataset(str(nuclei_records))
    keys = sample_keys(dataset, 3)
    assert dataset.offsets.loc[keys, "split"].value_counts().to_dict() == {"train": 3, "val": 3, "test": 3}
    assert keys == sample_keys(dataset, 3) != sample_keys(dataset, 3, seed=1)
    measured, objects = measure_examples(dataset, keys)
    example = next(read_examples(dataset, keys[:1]))
    weighted = (example.image @ [0.299, 0.587, 0.114]).mean() / 255
    row = measured.set_index("key").loc[keys[0]]
    assert row["brightness"] == pytest.approx(weighted, abs=0.003)
    assert row["foreground"] == pytest.approx((example.mask == 1).mean())
    assert row["objects"] == example.objects
    mine = objects[objects["key"] == keys[0]]
    assert len(mine) == row["areas"]
    assert mine["area"].sum() == np.count_nonzero(example.instances)
    facts = example_facts(dataset, measured)
    assert len(facts) == 24
    assert facts["brightness"].notna().all()
    assert facts["foreground"].notna().sum() == len(keys)


def test_facts_come_from_the_plan_first_and_from_measurements_where_it_knows_nothing():
    rows = [
        {"key": "a/0", "image": "a", "foreground": 5, "crop_height": 5, "crop_width": 10, "objects": 4},
        {"key": "a/1", "image": "a"},
        {"key": "b", "foreground": 20},
    ]
    dataset = make_dataset(rows, [{"image": "a", "mean": 0.25}, {"image": "b"}])
    measured = pd.DataFrame({"key": ["a/1", "b"], "objects": [7, 8], "areas": [1, 2], "foreground": [0.5, 0.6]})
    facts = example_facts(dataset, measured.assign(brightness=[0.9, 0.8], contrast=0.1, clipped=0.0))
    assert list(facts.index) == ["a/0", "a/1", "b"]
    np.testing.assert_array_equal(facts["objects"], [4, 7, 8])
    np.testing.assert_allclose(facts["foreground"], [5 / 50, 0.5, 20 / 200])
    np.testing.assert_allclose(facts["brightness"], [0.25, 0.25, 0.8])


def test_what_is_left_out_is_counted_by_kind():
    out = [
        ("rejected", "images/7.png: 7.png: expected 10x20, found 1x2"),
        ("rejected", "x/8.png: expected 9x9, found 3x2"),
    ]
    out += [("dropped", "above the quota: 3 objects"), ("dropped", "above the quota: 5 objects"), ("dropped", "empty")]
    rows = [{"key": f"k{n}", "status": status, "reason": reason} for n, (status, reason) in enumerate(out)]
    found = left_out_table(make_dataset([*rows, {"key": "in"}]))
    assert found[["status", "reason", "items", "for example"]].to_numpy().tolist() == [
        ["dropped", "above the quota", 2, "k2"],
        ["rejected", "expected #x#, found #x#", 2, "k0"],
        ["dropped", "empty", 1, "k4"],
    ]


def test_splits_groups_duplicates_and_outliers_are_counted():
    rows = [
        {"key": "a", "group": "g", "split": "fold10", "duplicate": "a", "outlier": "blank"},
        {"key": "b", "group": "g", "split": "fold10", "shard": 1},
        {"key": "c", "split": "fold2", "duplicate": "a"},
        {"key": "d", "split": "test", "duplicate": "d"},
        {"key": "e", "status": "dropped", "reason": "empty", "split": None, "outlier": "blank", "duplicate": "a"},
    ]
    dataset = make_dataset(rows)
    assert dataset.splits == ["fold2", "fold10", "test"]
    splits = split_table(dataset)
    assert splits["examples"].tolist() == [1, 2, 1]
    assert splits.loc["fold10", ["share", "groups", "shards"]].tolist() == [0.5, 1, 2]
    assert group_table(dataset).loc["fold10"].tolist() == [1, 2, 2]
    assert duplicate_table(dataset).to_numpy().tolist() == [["a", 2, "fold10, fold2"]]
    assert outlier_table(dataset).loc["blank"].to_dict() == {"in": 1, "left out": 1}


def test_sizes_and_classes_are_counted():
    index = [{"image": "a", "height": 5, "width": 9}, {"image": "b", "height": 5, "width": 9}, {"image": "c"}]
    assert size_table(make_dataset([{"key": "a"}], index)).to_numpy().tolist() == [[5, 9, 2]]
    split = SplitInfo([4], [1], ["0"], [30, 10], 60, [4, 1], [0], 0)
    empty = SplitInfo([], [], [], [0, 0], 0, [0, 0], [0], 0)
    found = class_table(make_info(train=split, val=empty))
    assert found.to_numpy().tolist() == [["train", "background", 0.75, 1.0], ["train", "cell", 0.25, 0.25]]


def test_the_closest_pairs_are_those_of_a_plain_search_and_share_no_key():
    hashes = np.random.default_rng(0).integers(0, 2**64, 40, np.uint64)
    hashes[31] = hashes[4] ^ np.uint64(0b101)
    keys = [f"k{number:02d}" for number in range(40)]
    index = [{"image": key, "perceptual_hash": f"{value:016x}"} for key, value in zip(keys, hashes, strict=True)]
    index[7]["perceptual_hash"] = None
    found = closest_pairs(make_dataset([{"key": key} for key in keys], index), 3)
    assert found.iloc[0].tolist() == ["k04", "k31", 2]
    distances = sorted(
        bin(int(hashes[i]) ^ int(hashes[j])).count("1") for i in range(40) for j in range(i) if 7 not in (i, j)
    )
    assert found["bits"].tolist()[:2] == distances[:2]
    assert len({*found["first"], *found["second"]}) == 6


def test_a_plan_alone_is_a_dataset_without_records(nuclei_raw, tmp_path):
    make_records("nuclei", nuclei_raw, tmp_path, size=64, plan_only=True)
    dataset = read_dataset(str(tmp_path))
    assert dataset.info is None
    assert sample_keys(dataset, 5) == []
    assert "as planned" in dataset.summary()


def test_what_was_found_bad_on_writing_is_left_out(nuclei_records, tmp_path):
    for path in nuclei_records.iterdir():
        (tmp_path / path.name).symlink_to(path)
    key = read_dataset(str(nuclei_records)).examples["key"].iloc[0]
    (tmp_path / "rejected.csv").unlink()
    (tmp_path / "rejected.csv").write_text(f"key,stage,reason\n{key},write,a.png: changed since it was indexed\n")
    dataset = read_dataset(str(tmp_path))
    assert len(dataset.examples) == 23
    assert left_out_table(dataset)["reason"].tolist() == ["changed since it was indexed"]


def test_a_folder_that_is_none_of_both_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"found no plan\.parquet; run `python -m preprocess`"):
        read_dataset(str(tmp_path))
