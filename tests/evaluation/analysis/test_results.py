import json

import numpy as np
import pandas as pd
import pytest

from evaluation.analysis.plots import error_frame
from evaluation.analysis.results import class_frame, compare_results, describe, read_results, score_frame
from tests.evaluation.comparison.judging import table_of, write


def several(folder, cells, split="test", **metrics):
    return write(folder, table_of(cells), split, **metrics)


def test_the_chosen_evaluation_comes_first_and_unlabelled_ones_are_left_out(tmp_path):
    run = several(tmp_path / "run", [(8, 1, 1)], dice_per_image=0.875, dice_per_image_ci95=[0.5, 1.0])
    several(tmp_path / "run", [(9, 1, 1)], "test-tta", dice_per_image=0.9)
    several(tmp_path / "run", [(1, 1, 1)], "raw")
    (tmp_path / "run/eval/raw/per_image.csv").unlink()
    assert [result.name for result in read_results([run])] == ["test", "test-tta"]
    found = read_results([run], "test-tta")
    assert [result.name for result in found] == ["test-tta", "test"]
    assert describe(found).splitlines() == [
        "test-tta: 1 images, Dice per image 0.9000",
        "test: 1 images, Dice per image 0.8750 (0.5000 to 1.0000)",
    ]


def test_of_several_runs_each_name_says_which(tmp_path):
    runs = [several(tmp_path / name, [(1, 0, 0)], split) for name, split in (("a", "fold0"), ("b", "test"))]
    assert [result.name for result in read_results(runs)] == ["a/fold0", "b/test"]
    with pytest.raises(ValueError, match="each once"):
        read_results([runs[0], runs[0]])
    with pytest.raises(ValueError, match="an evaluation test-tta, found fold0"):
        read_results(runs, "test-tta")


def test_a_run_that_was_not_judged_and_a_classifier_are_refused(tmp_path):
    (tmp_path / "new").mkdir()
    with pytest.raises(ValueError, match=r"found none; run `python test\.py"):
        read_results([str(tmp_path / "new")])
    answers = pd.DataFrame({"source_id": ["a"], "group": ["a"], "probability": [0.7], "truth": [1]})
    with pytest.raises(ValueError, match="answers of a classifier, which this is not for"):
        read_results([write(tmp_path / "gate", answers)])


def test_scores_stand_side_by_side_with_gaps_where_one_was_not_measured(tmp_path):
    run = several(tmp_path / "run", [(8, 1, 1)], dice_per_image=0.875, dice_per_image_ci95=[0.5, 1.0])
    several(tmp_path / "run", [(8, 1, 1)], "test-tta", dice_per_image=0.9, hausdorff95=2.0, distance_unit="mm")
    table = score_frame(read_results([run]))
    assert table.loc["Dice per image"].tolist() == ["0.8750 (0.5000 to 1.0000)", "0.9000"]
    assert table.loc["Hausdorff 95 % (mm)"].tolist() == ["", "2.0000"]


def test_other_images_are_left_out_of_a_comparison_and_that_is_told(tmp_path):
    run = several(tmp_path / "run", [(8, 1, 1), (4, 0, 4)])
    several(tmp_path / "run", [(9, 0, 0), (8, 0, 0)], "test-tta")
    several(tmp_path / "run", [(8, 1, 1)], "val")
    found, lines = compare_results(read_results([run]), "dice")
    assert [comparison.run for comparison in found] == ["test-tta"]
    np.testing.assert_allclose(found[0].differences, [1 - 16 / 18, 1 - 8 / 12])
    told, why = lines.splitlines()
    assert told == "1 of 2 others compared with test on the same images"
    assert why.startswith("left out: val: expected the 2 images of test, did not find b")
    alone, lines = compare_results(read_results([run])[:1], "dice")
    assert alone == [] and "nothing to compare it with" in lines


def test_wrong_pixels_are_counted_over_all_classes_the_most_first(tmp_path):
    table = pd.DataFrame({"source_id": ["007", "b"], "group": ["x", "y"], "dice": [0.5, 0.5]})
    table[["fp/cell", "fn/cell", "fp/gap", "fn/gap", "tp/cell", "tp/gap"]] = [[1, 2, 3, 4, 5, 6], [9, 9, 9, 9, 0, 0]]
    found = error_frame(read_results([write(tmp_path / "run", table)])[0])
    assert found.to_dict("index") == {
        "b": {"missed": 18, "invented": 18, "wrong": 36},
        "007": {"missed": 6, "invented": 4, "wrong": 10},
    }


def test_each_class_has_its_mean_its_pooled_score_and_an_interval_that_holds_them(tmp_path):
    table = pd.DataFrame({"source_id": list("abcd"), "group": list("abcd"), "dice": 0.5})
    for name, missed in (("cell", [0, 0, 10, 10]), ("gap", [0, 0, 0, 0])):
        table[f"tp/{name}"], table[f"fp/{name}"], table[f"fn/{name}"] = 10, 0, missed
        table[f"dice/{name}"] = 20 / (20 + np.array(missed))
    found = class_frame(read_results([write(tmp_path / "run", table)])[0]).set_index(["class", "score"])
    assert found.loc[("cell", "per image"), "value"] == pytest.approx((1 + 1 + 2 / 3 + 2 / 3) / 4)
    assert found.loc[("cell", "pooled"), "value"] == pytest.approx(80 / 100)
    assert (found["low"] <= found["value"]).all() and (found["value"] <= found["high"]).all()
    assert found.loc[("gap", "per image"), ["low", "high"]].tolist() == [1, 1]
    one = several(tmp_path / "one", [(1, 0, 0)])
    (tmp_path / "one/config.json").write_text(json.dumps({"train": {}}))
    assert class_frame(read_results([one])[0]).empty
