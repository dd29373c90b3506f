import dataclasses
import json

import cv2
import numpy as np
import pandas as pd
import pytest

from evaluation.analysis.facts import known_measures, read_facts, touching_share
from evaluation.analysis.plots import draw_parts
from evaluation.analysis.relations import relate
from evaluation.analysis.results import read_results
from evaluation.analysis.training_images import (
    compare_training,
    describe_twins,
    hash_distances,
    training_facts,
    training_keys,
    training_sizes,
)
from evaluation.exploration.dataset import ExamplePixels, read_dataset, read_examples
from records.info import read_info
from tests.evaluation.analysis.making import judge_run
from tests.evaluation.test_exploration import make_dataset


def example_of(labels: list[list[int]]) -> ExamplePixels:
    instances = np.array(labels, np.uint16)
    return ExamplePixels("k", np.zeros([*instances.shape, 1], np.uint8), None, instances, None)


@pytest.fixture(scope="module")
def opened(nuclei_records, tmp_path_factory):
    """(an evaluation of the test split, its records); read only."""
    run = judge_run(tmp_path_factory.mktemp("facts") / "run", nuclei_records, read_info(str(nuclei_records)))
    return read_results([str(run)])[0], read_dataset(str(nuclei_records))


def test_objects_touch_across_edges_and_corners():
    assert touching_share(example_of([[1, 1, 2], [0, 0, 0], [3, 0, 4]])) == 0.5
    assert touching_share(example_of([[1, 0], [0, 2]])) == 1
    assert touching_share(example_of([[0, 1], [2, 0]])) == 1
    assert touching_share(example_of([[1, 0, 2]])) == 0
    assert np.isnan(touching_share(example_of([[0, 0]])))


def test_facts_stand_beside_the_scores_of_the_same_image(opened, nuclei_records):
    result, data = opened
    table = read_facts(result, data, most=100)
    assert table.index.tolist() == sorted(result.judged.images.index) and len(table) == 5
    rows = data.index.set_index("key")
    for example in read_examples(data, table.index):
        row = table.loc[example.key]
        assert row["dice"] == result.judged.images.loc[example.key, "dice"]
        assert row["foreground"] == pytest.approx((example.mask == 1).mean())
        sizes = np.unique(example.instances[example.instances > 0], return_counts=True)[1]
        assert row["objects"] == rows.loc[example.key, "objects"]
        assert row["diameter"] == pytest.approx(np.median(np.sqrt(4 / np.pi * sizes)))
        assert row["brightness"] == pytest.approx(rows.loc[example.key, "mean"])
        assert row["size"] == f"{rows.loc[example.key, 'height']} × {rows.loc[example.key, 'width']}"
        assert data.offsets.loc[row["nearest"], "split"] == "train"
    assert {"brightness", "contrast", "diameter"} <= set(known_measures(table))


def test_of_more_images_than_wanted_some_are_opened_the_same_each_time(opened):
    result, data = opened
    some = read_facts(result, data, most=3)
    assert len(some) == 3
    pd.testing.assert_frame_equal(some, read_facts(result, data, most=3))


def test_images_that_the_records_do_not_have_are_left_out(opened):
    result, data = opened
    renamed = result.judged.images.rename(index=lambda key: f"raw/{key}")
    table = read_facts(result._replace(judged=dataclasses.replace(result.judged, images=renamed)), data, most=9)
    assert table.empty and known_measures(table) == [] and relate(table, "dice").empty
    assert draw_parts(table, "size", "dice").axes[0].texts[0].get_text() == "None of the images is among these records."
    assert "not known" in describe_twins(table, "dice")


def test_records_on_which_it_was_not_judged_are_refused(opened):
    result, data = opened
    other = dataclasses.replace(data, info=dataclasses.replace(data.info, fingerprint="other"))
    with pytest.raises(ValueError, match="expected the records on which test was judged, nuclei, found others"):
        read_facts(result, other, most=3)
    with pytest.raises(ValueError, match="found a plan alone"):
        read_facts(result, dataclasses.replace(data, info=None), most=3)


def test_what_a_run_was_trained_on_is_known_from_its_own_records_alone(opened, tmp_path):
    result, data = opened
    keys = training_keys(result, data)
    assert sorted(keys) == sorted(data.examples.loc[data.examples["split"] == "train", "key"])
    assert training_sizes(data, result).sum() == len(keys) == 14
    elsewhere = result._replace(files=dataclasses.replace(result.files, config={"records": {"fingerprint": "other"}}))
    assert training_keys(elsewhere, data) == [] and training_sizes(data, elsewhere) is None
    table = read_facts(elsewhere, data, most=3)
    assert table[["alike", "nearest", "bits"]].isna().all(axis=None)
    assert describe_twins(table, "dice") == "Perceptual hashes of these images and of training are not known."


def plan_of(brightness: dict[str, float], hashes: dict[str, str] | None = None):
    rows = [{"key": key, "split": "test" if key.startswith("t") else "train"} for key in brightness]
    hashes = hashes or {}
    index = [
        {"image": key, "mean": value, "contrast": 0.5, "clipped": 0.0, "perceptual_hash": hashes.get(key)}
        for key, value in brightness.items()
    ]
    return make_dataset(rows, index)


def test_training_images_are_alike_within_a_quarter_of_their_spread():
    data = plan_of({"t": 0.22, "a": 0.0, "b": 0.2, "c": 0.4, "d": 1.0, "e": 0.3})
    training = ["a", "b", "c", "d", "e"]
    facts = pd.DataFrame({"brightness": [0.22], "contrast": [0.5], "cluster": ["t"]}, index=["t"])
    # The standard deviation of 0, 0.2, 0.4, 1, 0.3 is 0.337; a quarter of it 0.084: b and e are within.
    known = training_facts(data, training, most=0)
    found = compare_training(facts, known)
    assert found.loc["t", "alike"] == pytest.approx(2 / 5) and found.loc["t", "nearest"] == "b"
    # Its own cluster is not what it is compared with.
    found = compare_training(facts.assign(cluster="b"), known)
    assert found.loc["t", "alike"] == pytest.approx(1 / 4) and found.loc["t", "nearest"] == "e"
    assert np.isnan(compare_training(facts, known[:0]).loc["t", "alike"])


def test_training_images_that_the_index_does_not_know_are_opened(opened):
    result, data = opened
    unknown = dataclasses.replace(data, index=data.index.assign(mean=np.nan, contrast=np.nan, clipped=np.nan))
    keys = training_keys(result, data)
    some = training_facts(unknown, keys, most=4)
    assert len(some) == 4 and set(some.index) <= set(keys)
    for example in read_examples(data, some.index[:1]):
        grey = cv2.cvtColor(example.image, cv2.COLOR_RGB2GRAY)
        assert some.loc[example.key, "brightness"] == pytest.approx(grey.mean() / 255)
    assert training_facts(unknown, [], most=4).empty


def test_hashes_differ_in_so_many_bits_and_twins_are_told():
    zero, far = "0" * 16, "f" * 16
    data = plan_of(dict.fromkeys("tuab", 0.5), {"t": zero, "a": "0" * 15 + "7", "b": far})
    found = hash_distances(data, ["t", "u"], ["a", "b"])
    assert found["t"] == 3 and np.isnan(found["u"])  # u has no hash
    assert hash_distances(data, ["t"], []).isna().all()
    facts = pd.DataFrame({"bits": [3, 20, 30, np.nan], "dice": [0.9, 0.5, 0.7, 0.1]})
    assert describe_twins(facts, "dice") == (
        "1 of 3 images have one in training whose hash differs in at most 10 of 64 bits: mean dice 0.9000, of the "
        "others 0.6000."
    )
    assert describe_twins(facts[1:], "dice").endswith("0 of 64 bits (the nearest: 20).")


def test_a_run_of_a_fold_was_trained_on_the_others(opened):
    result, data = opened
    folds = {f"fold{number}": data.info.splits["train"] for number in range(3)}
    info = dataclasses.replace(data.info, splits=folds)
    offsets = data.offsets.assign(split=[f"fold{number % 3}" for number in range(len(data.offsets))])
    config = json.loads(json.dumps(result.files.config)) | {"train": {"input": {"fold": 1}}}
    result = result._replace(files=dataclasses.replace(result.files, config=config))
    keys = training_keys(result, dataclasses.replace(data, info=info, offsets=offsets))
    assert keys == offsets.index[offsets["split"] != "fold1"].tolist()
