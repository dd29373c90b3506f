import numpy as np
import pandas as pd
import pytest

from evaluation.comparison.judged import check_same_images, default_score, read_judged, short_names
from tests.evaluation.comparison.judging import table_of, write

CELLS = [(6, 2, 2), (0, 0, 4), (8, 0, 0)]
ANSWERS = pd.DataFrame(
    {
        "source_id": ["a", "b", "b"],
        "group": ["g", "g", "h"],
        "y": [0, 0, 9],
        "x": [0, 9, 0],
        "probability": [0.9, 0.5, 0.6],
    }
).assign(truth=pd.array([1, 0, None], "Int8"))


def test_keys_stay_text_and_missing_scores_are_nan(tmp_path):
    table = table_of(CELLS).assign(source_id=["007", "NA", "1e3"], group=["1", "nan", "01"], hausdorff95=[1.5, None, 2])
    run = read_judged(write(tmp_path / "run", table), "test")
    assert run.images.index.tolist() == ["007", "NA", "1e3"]
    assert run.groups.tolist() == ["1", "nan", "01"]
    np.testing.assert_array_equal(run.values("hausdorff95"), [1.5, np.nan, 2])
    assert run.scores == ["dice", "hausdorff95"]


def test_the_folder_of_one_evaluation_is_taken_as_it_is(tmp_path):
    write(tmp_path / "run", table_of(CELLS), split="test-gate")
    assert len(read_judged(str(tmp_path / "run/eval/test-gate"), "test").images) == 3


def test_images_in_another_order_are_put_into_that_of_the_first(tmp_path):
    table = table_of(CELLS)
    first = read_judged(write(tmp_path / "one", table), "test")
    other = check_same_images(first, read_judged(write(tmp_path / "two", table[::-1]), "test"))
    pd.testing.assert_frame_equal(other.images, first.images)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda table: table[table["source_id"] != "b"], "did not find b; judge both on the same split"),
        (lambda table: table.replace({"source_id": {"b": "z", "c": "y"}}), "did not find b nor 1 more"),
        (lambda table: pd.concat([table, table[:1].assign(source_id="z")]), "did not find z"),
        (lambda table: table.replace({"group": {"b": "other"}}), "the groups of .*one, found other instead of b for b"),
        (lambda table: table.assign(fn=[2, 4, 1]), "the truth of .*one, found 9 pixels instead of 8 pixels for c"),
        (lambda table: table.rename(columns={"tp": "tp/x", "fn": "fn/x"}).assign(**{"tp/y": 0, "fn/y": 0}), "classes"),
    ],
)
def test_runs_judged_on_other_images_groups_or_truth_are_refused(tmp_path, change, expected):
    first = read_judged(write(tmp_path / "one", table_of(CELLS)), "test")
    other = read_judged(write(tmp_path / "two", change(table_of(CELLS))), "test")
    with pytest.raises(ValueError, match=expected):
        check_same_images(first, other)


def test_a_classifiers_answers_are_right_or_wrong_and_those_without_truth_left_out(tmp_path):
    run = read_judged(write(tmp_path / "run", ANSWERS), "test")
    assert default_score(run) == "accuracy"
    assert run.images.index.tolist() == ["a@0,0", "b@0,9"]
    assert run.values("accuracy").tolist() == [1, 0]  # 0.5 is an object from threshold 0.5 on
    totals = {name: ratio.value() for name, ratio in run.totals("accuracy", np.ones(2, bool)).items()}
    assert totals == {"accuracy per image": 0.5, "f1": pytest.approx(2 / 3)}
    with pytest.raises(ValueError, match=r"expected one that .*run has for each image \(accuracy\), found dice"):
        run.values("dice")


def test_what_is_no_evaluation_is_refused_in_a_line(tmp_path):
    run = write(tmp_path / "run", table_of(CELLS), split="val")
    with pytest.raises(ValueError, match=r"expected an evaluation of split test, found val; run `python test.py"):
        read_judged(run, "test")
    with pytest.raises(ValueError, match="expected an evaluation of split test, found none"):
        read_judged(str(tmp_path / "nowhere"), "test")
    metrics, images = tmp_path / "run/eval/val/metrics.json", tmp_path / "run/eval/val/per_image.csv"
    images.write_text("source_id,group,dice\na,a,1\na,a,1\n")
    with pytest.raises(ValueError, match="expected a row for each image, found a twice"):
        read_judged(run, "val")
    images.write_text("")
    with pytest.raises(ValueError, match=r"per_image.csv: damaged"):
        read_judged(run, "val")
    images.unlink()
    with pytest.raises(ValueError, match="found no per_image.csv; judge labelled records"):
        read_judged(run, "val")
    metrics.write_text("{")
    with pytest.raises(ValueError, match=r"metrics.json: damaged"):
        read_judged(run, "val")
    unlabelled = write(tmp_path / "unlabelled", ANSWERS.drop(columns="truth"))
    with pytest.raises(ValueError, match="found unlabelled ones"):
        read_judged(unlabelled, "test")


def test_names_lose_the_folders_that_all_share():
    assert short_names(["runs/a", "runs/b/eval/test"]) == ["a", "b/eval/test"]
    assert short_names(["runs/a", "other/a"]) == ["runs/a", "other/a"]
    assert short_names(["runs/a", "runs/a/eval/val"]) == ["a", "a/eval/val"]
