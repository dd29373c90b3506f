"""What is drawn: numbers in the figures, and a line of words where there is nothing to draw."""

import json

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from evaluation.analysis import gallery, objects, plots, probabilities
from evaluation.analysis.results import compare_results, read_results
from tests.evaluation.analysis.making import write_choice
from tests.evaluation.comparison.judging import table_of, write

CELLS = [(90, 0, 10), (50, 50, 0), (80, 0, 40), (10, 0, 0), (60, 5, 5)]


def words(figure) -> str:
    """All text of a figure."""
    texts = [text.get_text() for axis in figure.axes for text in (*axis.texts, axis.title, axis._left_title)]
    labels = [label.get_text() for axis in figure.axes for label in (*axis.get_xticklabels(), *axis.get_yticklabels())]
    return "\n".join([*texts, *labels, *(axis.get_xlabel() for axis in figure.axes)])


def result_of(folder, table=None, **metrics):
    return read_results([write(folder, table_of(CELLS) if table is None else table, **metrics)])[0]


def test_scores_lie_where_they_are_and_intervals_around_them(tmp_path):
    result = result_of(tmp_path / "run", dice_per_image=0.8, dice_per_image_ci95=[0.7, 0.9], recall=0.6)
    axis = plots.draw_scores([result]).axes[0]
    places = {tuple(line.get_xdata()) for line in axis.lines}
    assert {(0.8,), (0.7, 0.9), (0.6,)} <= places
    assert [label.get_text() for label in axis.get_yticklabels()] == ["Dice per image", "recall"]


def test_one_evaluation_alone_has_no_differences_to_draw(tmp_path):
    run = write(tmp_path / "run", table_of(CELLS))
    write(tmp_path / "run", table_of([(95, 0, 5), (50, 60, 0), *CELLS[2:]]), "test-tta")
    first, other = read_results([run])
    compared, _ = compare_results([first, other], "dice")
    assert "better on 1, worse on 1, equal on 3" in words(plots.draw_differences(compared, first, "dice"))
    assert "There is no other evaluation" in words(plots.draw_differences([], first, "dice"))


def test_the_images_that_hold_half_of_the_errors_are_counted(tmp_path):
    # Wrong: 10, 50, 40, 0, 10 of 110; the worst alone hold 45 %, two of them 82 %.
    assert "in 2 images of 5" in words(plots.draw_errors(result_of(tmp_path / "run")))
    perfect = result_of(tmp_path / "perfect", table_of([(9, 0, 0)]))
    assert words(plots.draw_errors(perfect)).startswith("No pixel is wrong.")


def test_bins_hold_equally_many_and_are_drawn_at_their_medians():
    x = np.arange(24.0)
    assert plots.bin_medians(x[::-1], 2 * x[::-1]) == [(1.5 + 4 * part, 3 + 8 * part) for part in range(6)]
    assert plots.bin_medians(np.array([1.0, 5.0, 3.0]), np.array([0.0, 2.0, 7.0])) == [(3.0, 2.0)]


def test_parts_are_ordered_by_their_means_and_say_what_was_trained_on():
    facts = pd.DataFrame({"size": ["a", "a", "b", "b"], "group": list("wxyz"), "dice": [0.9, 0.7, 0.1, 0.5]})
    figure = plots.draw_parts(facts, "size", "dice", pd.Series({"a": 1200}))
    assert [label.get_text() for label in figure.axes[0].get_yticklabels()] == [
        "b: 2, trained on 0",
        "a: 2, trained on 1,200",
    ]
    means = [line.get_xdata()[0] for line in figure.axes[0].lines]
    np.testing.assert_allclose(means, [0.3, 0.8])
    assert "Each image is a group of its own" in words(plots.draw_parts(facts, "group", "dice"))
    assert "the same size: a" in words(plots.draw_parts(facts[:2], "size", "dice"))


def test_classes_and_where_their_pixels_went_are_drawn(tmp_path):
    table = pd.DataFrame({"source_id": ["a", "b"], "group": ["a", "b"], "dice": 0.5})
    for name in ("cell", "gap"):
        table[[f"tp/{name}", f"fp/{name}", f"fn/{name}"]], table[f"dice/{name}"] = [[8, 1, 1], [6, 2, 2]], [0.9, 0.7]
    run = write(tmp_path / "run", table)
    confusion = pd.DataFrame([[3, 1], [0, 4]], pd.Index(["cell", "gap"], name="true"), ["cell", "gap"])
    confusion.to_csv(tmp_path / "run/eval/test/confusion.csv")
    said = words(plots.draw_classes(read_results([run])[0]))
    assert "75%\n25%\n0%\n100%" in said
    (tmp_path / "run/config.json").write_text("{}")
    table_of(CELLS).to_csv(tmp_path / "run/eval/test/per_image.csv", index=False)
    assert "One class is scored" in words(plots.draw_classes(read_results([run])[0]))


def test_objects_that_are_too_few_and_too_many_are_counted(tmp_path):
    table = table_of(CELLS).assign(objects_true=[5, 5, 0, 9, 2], objects_found=[4, 5, 1, 3, 2])
    result = result_of(tmp_path / "run", table, **{"object_f1@0.50": 0.8, "object_f1@0.95": 0.1, "object_f1@0.50/x": 1})
    figure = objects.draw_objects([result])
    assert "too few in 2, too many in 1 of 5 images" in words(figure)
    np.testing.assert_allclose(figure.axes[0].lines[0].get_xydata(), [[0.5, 0.8], [0.95, 0.1]])
    assert "Objects were not judged" in words(objects.draw_objects([result_of(tmp_path / "pixels")]))
    several = table_of(CELLS).assign(**{"objects_true/a": 1, "objects_true/b": 2, "objects_found/a": 3})
    assert objects.object_frame(result_of(tmp_path / "several", several)).iloc[0].tolist() == [3, 3]


def test_thresholds_are_those_of_the_same_weights(tmp_path):
    result = result_of(tmp_path / "run")
    evaluated = tmp_path / "run/eval/test/evaluated.json"
    evaluated.write_text(json.dumps({"model": {"file": "model.keras", "sha256": "d" * 64}}))
    write_choice(tmp_path / "run", ["cell"])
    result = read_results([str(tmp_path / "run")])[0]
    axis = probabilities.draw_thresholds([result]).axes[0]
    np.testing.assert_allclose(axis.lines[0].get_xydata(), [[0.1, 0.2], [0.3, 0.9], [0.5, 0.6]])
    np.testing.assert_allclose(axis.lines[1].get_xydata(), [[0.3, 0.9]])
    write_choice(tmp_path / "run", ["cell"], digest="of other weights")
    assert "No threshold was tried" in words(probabilities.draw_thresholds([result]))
    (tmp_path / "run/postprocess.json").write_text("{")
    with pytest.raises(ValueError, match=r"postprocess\.json: damaged"):
        probabilities.read_choice(result)


def test_calibration_says_where_probabilities_are_wrong(tmp_path):
    result_of(tmp_path / "run")
    bins = [("cell", 0.0, 0.1, 900, 0.05, 0.05), ("cell", 0.8, 0.9, 100, 0.85, 0.6)]
    bins += [("gap", 0.0, 0.1, 99_999, 0.05, 0.06), ("gap", 0.9, 1.0, 1, 0.95, 0.0)]  # one pixel tells nothing
    columns = ["class", "low", "high", "pixels", "probability", "true"]
    pd.DataFrame(bins, columns=columns).to_csv(tmp_path / "run/eval/test/calibration.csv", index=False)
    result = read_results([str(tmp_path / "run")])[0]
    assert probabilities.describe_calibration(result).splitlines() == [
        "cell: too high where the model says 0.85, 0.60 is right (10.0% of the pixels)",
        "gap: probabilities can be believed",
    ]
    assert "cell: error 0.025" in words(probabilities.draw_calibration([result]))
    plain = result_of(tmp_path / "old")
    assert "Calibration was not measured" in words(probabilities.draw_calibration([plain]))
    assert probabilities.describe_calibration(plain) == "Calibration was not measured."


def test_the_worst_pictures_come_in_their_order(tmp_path):
    result_of(tmp_path / "run")
    folder = tmp_path / "run/eval/test/result-image"
    folder.mkdir()
    for number, name in enumerate(("best-01-a", "worst-02-b", "worst-01-c")):
        Image.fromarray(np.full([10, 40, 3], number, np.uint8)).save(folder / f"{name}.png")
    result = read_results([str(tmp_path / "run")])[0]
    shown = [axis.images[0].get_array()[0, 0, 0] for axis in gallery.draw_worst(result).axes]
    assert shown == [2, 1]
    assert "There are no pictures" in words(gallery.draw_worst(result, kind="median"))
