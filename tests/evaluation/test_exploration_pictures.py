import numpy as np
import pandas as pd
import pytest

from evaluation.exploration.canvas import class_colour, split_colour
from evaluation.exploration.dataset import Dataset, read_dataset, sample_keys
from evaluation.exploration.gallery import (
    annotated_areas,
    choose_outliers,
    draw_duplicates,
    draw_outliers,
    draw_overlays,
    outlines,
    paint_annotation,
    shrink,
)
from evaluation.exploration.measures import example_facts, measure_examples
from evaluation.exploration.plots import (
    draw_classes,
    draw_groups,
    draw_measures,
    draw_objects,
    draw_sizes,
    draw_splits,
)
from imaging.codec import encode_jpeg
from imaging.rle import encode_rle
from records.schema import IGNORE
from tests.conftest import make_records
from tests.evaluation.test_exploration import example_of, make_dataset, make_info


def texts(figure) -> list[str]:
    """All that is written in a figure."""
    found = [text.get_text() for axis in figure.axes for text in axis.texts]
    found += [axis.get_title(loc="left") for axis in figure.axes]
    found += [label.get_text() for axis in figure.axes for label in axis.get_yticklabels()]
    return found + [text.get_text() for legend in figure.legends for text in legend.get_texts()]


def bar_lengths(axis) -> list[float]:
    return [patch.get_width() for patch in axis.patches]


def measure(dataset: Dataset, per_split: int = 50):
    measured, objects = measure_examples(dataset, sample_keys(dataset, per_split))
    return measured, objects, example_facts(dataset, measured)


@pytest.fixture(scope="module")
def cloud_records(tmp_path_factory):
    """Overlapping classes: 8 images, Fish in the left half of each, Sugar in the upper half of every second."""
    raw, folder = tmp_path_factory.mktemp("raw"), tmp_path_factory.mktemp("records") / "clouds"
    (raw / "train_images").mkdir()
    generator = np.random.default_rng(0)
    left, upper = np.zeros((40, 60), np.uint8), np.zeros((40, 60), np.uint8)
    left[:, :30], upper[:20] = 1, 1
    lines = ["Image_Label,EncodedPixels"]
    for number in range(8):
        image = generator.integers(0, 256, (40, 60, 3)).astype(np.uint8)
        (raw / "train_images" / f"{number}.jpg").write_bytes(encode_jpeg(image, 90))
        lines += [f"{number}.jpg_Fish,{encode_rle(left)}"]
        lines += [f"{number}.jpg_Sugar,{encode_rle(upper) if number % 2 else ''}"]
    (raw / "train.csv").write_text("\n".join(lines) + "\n")
    make_records("clouds", raw, folder, size=32)
    return read_dataset(str(folder))


def test_overlapping_classes_are_drawn_each_in_its_colour(cloud_records):
    measured, objects, facts = measure(cloud_records)
    figure = draw_overlays(cloud_records, measured)
    assert [name for name in texts(figure) if name in ("Fish", "Sugar", "ignored")] == ["Fish", "Sugar"]
    # The last is the most annotated. Fish ends with column 15, Sugar with row 15; where both end, Sugar is on top.
    picture = figure.axes[7].images[0].get_array()
    np.testing.assert_allclose(picture[15, 15] / 255, class_colour(1), atol=0.01)
    np.testing.assert_allclose(picture[31, 15] / 255, class_colour(0), atol=0.01)
    assert measured["foreground"].round(3).value_counts().to_dict() == {0.5: 4, 0.75: 4}
    assert objects["class"].value_counts().to_dict() == {"Fish": 8, "Sugar": 4}
    assert "Diameter of connected areas by class" in texts(draw_objects(cloud_records, facts, objects))


def test_shares_of_classes_are_drawn(cloud_records):
    pixels, examples = draw_classes(cloud_records).axes
    splits = len(cloud_records.splits)
    assert bar_lengths(examples)[:2] == [1.0, pytest.approx(cloud_records.info.splits["train"].class_examples[1] / 6)]
    assert sum(bar_lengths(pixels)) == pytest.approx(splits)
    assert pixels.get_title(loc="left") == "Share of the sum over all classes"


def test_splits_and_what_was_left_out_are_bars_of_their_length():
    rows = [{"key": f"k{number}", "split": "train" if number < 3 else "test"} for number in range(4)]
    out = [{"key": f"o{number}", "status": "dropped", "reason": "empty", "split": None} for number in range(2)]
    assert bar_lengths(draw_splits(make_dataset(rows)).axes[0]) == [3, 1]
    splits, left_out = draw_splits(make_dataset(rows + out)).axes
    assert [bar.get_facecolor()[:3] for bar in splits.patches] == [split_colour("train"), split_colour("test")]
    assert bar_lengths(left_out) == [2]
    assert left_out.get_yticklabels()[0].get_text() == "dropped: empty"


def test_sizes_beyond_the_commonest_are_summed_up():
    index = [{"image": f"{n}", "height": 10 + max(0, n - 1), "width": 20} for n in range(12)]
    axis = draw_sizes(make_dataset([{"key": "a"}], index)).axes[0]
    assert bar_lengths(axis) == [2, *[1] * 7, 3]
    assert [label.get_text() for label in axis.get_yticklabels()][-1] == "3 other sizes"
    assert texts(draw_sizes(make_dataset([{"key": "a"}], index[:2])))[0] == (
        "All 2 raw images are 10 × 20 pixels (height × width)."
    )


def test_groups_have_the_colours_of_their_splits():
    rows = [
        {"key": f"k{n}", "group": "big" if n < 3 else "small", "split": "train" if n < 3 else "val"} for n in range(5)
    ]
    axis = draw_groups(make_dataset(rows)).axes[0]
    assert [(bar.get_height(), bar.get_facecolor()[:3]) for bar in axis.patches] == [
        (3, split_colour("train")),
        (2, split_colour("val")),
    ]
    assert texts(draw_groups(make_dataset([{"key": "a"}])))[0] == "Every example is a group of its own."


def test_each_split_is_a_row_and_each_measure_a_column(cloud_records):
    _, _, facts = measure(cloud_records)
    figure = draw_measures(cloud_records, facts)
    titles = [axis.get_title(loc="left") for axis in figure.axes if axis.get_title(loc="left")]
    assert titles == ["Objects per example", "Annotated share of the pixels", "Mean brightness", "Contrast"]
    assert len(figure.axes) == 4 * len(cloud_records.splits)
    assert sum(bar.get_height() for bar in figure.axes[0].patches) == pytest.approx(1)


def test_near_duplicates_are_rows_and_outliers_tell_their_measures(nuclei_records):
    dataset = read_dataset(str(nuclei_records))
    plan = dataset.plan.copy()
    keys = plan["key"].iloc[:3].tolist()
    plan.loc[plan["key"].isin(keys), "duplicate"] = min(keys)
    clustered = Dataset(dataset.folder, dataset.info, dataset.index, plan, dataset.offsets)
    assert [len(axis.images) for axis in draw_duplicates(clustered).axes] == [1, 1, 1, 0]
    assert sum("bits apart" in text for text in texts(draw_duplicates(dataset))) == 4
    _, _, facts = measure(dataset)
    darkest = facts["brightness"].min()
    assert any("darkest" in text and f"mean {darkest:.3f}" in text for text in texts(draw_outliers(dataset, facts)))


def test_a_plan_alone_is_told_instead_of_drawn():
    dataset = make_dataset([{"key": "a"}, {"key": "b"}])
    measured, objects, facts = measure(dataset)
    figures = [draw_overlays(dataset, measured), draw_duplicates(dataset), draw_outliers(dataset, facts)]
    assert {texts(figure)[0] for figure in figures} == {
        "No pictures: the folder holds a plan, and no finished records."
    }
    assert "not known" in texts(draw_objects(dataset, facts, objects))[0]
    assert "No class is known" in texts(draw_classes(dataset))[0]
    assert "Nothing that differs" in texts(draw_measures(dataset, facts))[0]


def test_flagged_examples_are_shown_before_the_ends_of_each_measure():
    rows = [{"key": key, "outlier": "uniform" if key == "b" else None} for key in "abcdef"]
    facts = pd.DataFrame({"brightness": [1, 2, 3, 4, 5, 6.0], "contrast": 0.5, "clipped": np.nan}, index=list("abcdef"))
    found = choose_outliers(make_dataset(rows), facts)
    expected = {"b": "flagged: uniform", "a": "darkest", "c": "darkest", "f": "brightest", "e": "brightest"}
    assert found == expected


def test_outlines_part_objects_that_touch():
    labels = np.zeros((5, 8), np.uint16)
    labels[1:4, 1:4], labels[1:4, 4:7] = 1, 2
    found = outlines(labels)
    assert not found[labels == 0].any()
    np.testing.assert_array_equal(found[2], [0, 1, 0, 1, 1, 0, 1, 0])


def test_the_annotation_is_painted_and_the_background_left_as_it_is():
    mask = np.zeros((9, 9), np.uint8)
    mask[2:7, 2:7], mask[0, 0] = 1, IGNORE
    picture, info = np.full((9, 9, 3), 200, np.uint8), make_info()
    areas, ignored = annotated_areas(example_of(mask), info)
    assert (areas.sum((1, 2)).tolist(), ignored.sum()) == ([0, 25], 1)
    painted = paint_annotation(picture, example_of(mask), areas, ignored, info)
    assert painted[1, 1].tolist() == [200, 200, 200]
    assert painted[2, 2].tolist() == [255, 80, 20]
    np.testing.assert_allclose(painted[4, 4], 0.75 * 200 + 0.25 * np.array([255, 80, 20]), atol=1)
    assert painted[0, 0].max() < 150


def test_a_large_example_is_shrunk_with_its_masks():
    mask = np.zeros((320, 640), np.uint8)
    mask[:, 320:] = 7
    small = shrink(example_of(mask, mask.astype(np.uint16)))
    assert small.image.shape == (160, 320, 1)
    assert small.mask.tolist() == small.instances.tolist() == [[0] * 160 + [7] * 160] * 160
