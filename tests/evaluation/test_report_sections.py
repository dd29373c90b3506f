import json
import re

import numpy as np
import pandas as pd
import pytest

from evaluation.calibration import summarize_calibration
from evaluation.folder import write_confusion
from evaluation.report.build import write_report
from evaluation.report.reliability import describe_reliability
from tests.evaluation.reports import METRICS, Page, make_images, write_calibration, write_choice, write_how, write_run

SWEEP = {"cell": [[0.1, 0.2], [0.3, 0.6], [0.5, 0.5], [0.9, 0.1]]}


def numbers(text: str) -> list[tuple[float, float]]:
    """Returns the points of an SVG's polyline."""
    return [tuple(map(float, point.split(","))) for point in text.split()]


def section(text: str, name: str) -> str:
    """Returns a section of a page."""
    return re.search(rf'<section id="{name}">.*?</section>', text, re.DOTALL)[0]


def make_page(folder) -> str:
    return write_report(folder).read_text()


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        (
            [(0.1, 80, 4), (0.9, 20, 16)],
            "cell: where it says yes it is overconfident by 10.0 percentage points, sure to 90.0 % and right in 80.0 "
            "%; where it says no it is underconfident by 5.0 percentage points, sure to 90.0 % and right in 95.0 %. "
            "Expected calibration error 0.0600.",
        ),
        (
            # Sure to (60 x 0.95 + 20 x 0.75) / 80, right (48 + 20) / 80.
            [(0.05, 20, 1), (0.75, 20, 20), (0.95, 60, 48)],
            "cell: where it says yes it is overconfident by 5.0 percentage points, sure to 90.0 % and right in 85.0 %; "
            "where it says no it is as sure as it is right, 95.0 %. Expected calibration error 0.1400.",
        ),
        (
            [(0.25, 100, 25)],
            "cell: it never says yes; where it says no it is as sure as it is right, 75.0 %. "
            "Expected calibration error 0.0000.",
        ),
    ],
)
def test_words_say_how_far_probabilities_can_be_believed(tmp_path, rows, words):
    counts = write_calibration(tmp_path, {"cell": rows})
    assert describe_reliability("cell", pd.read_csv(tmp_path / "calibration.csv")).replace("\u00a0", " ") == words
    assert f"{summarize_calibration(counts, ['cell'])['calibration_error']:.4f}." in words


def test_each_class_has_its_reliability_curve_where_its_shares_are(tmp_path):
    folder = write_run(tmp_path / "run", make_images(["a", "b"]), METRICS)
    write_calibration(folder, {"<i>NA</i>": [(0.25, 75, 15), (0.75, 25, 20)], "NA": [(0.5, 10, 5)]})
    text = section(make_page(folder), "calibration")
    assert Page(text).ids == {"calibration", "chart-reliability-1", "chart-reliability-2"}
    assert "<i>NA" not in text and "<figcaption>NA: where it says yes it is as sure as it is right" in text
    chart = text[text.index('id="chart-reliability-1"') : text.index('id="chart-reliability-2"')]
    (left, bottom), (right, top) = numbers(re.search('"line-guide" points="([^"]+)"', chart)[1])

    def place(x, y):
        return pytest.approx((left + x * (right - left), bottom + y * (top - bottom)), abs=0.02)

    points = numbers(re.search('"line-main" points="([^"]+)"', chart)[1])
    assert points == [place(0.25, 0.2), place(0.75, 0.8)]
    bars = [dict(re.findall('(x|y|width)="([^"]+)"', bar)) for bar in re.findall('<rect class="soft"[^>]+>', chart)]
    assert [(float(bar["x"]) - 0.75, float(bar["y"])) for bar in bars] == [place(0.2, 0.75), place(0.7, 0.25)]
    assert "75.00% of the pixels are given 0.2 to 0.3" in chart


def test_the_page_says_how_masks_are_made_and_what_that_is_worth(tmp_path):
    folder = write_run(tmp_path / "run", make_images(["a", "b"]), METRICS)
    steps = {"cell": {"threshold": 0.4, "min_size": 20, "fill_holes": True}, "<b>": {"closing": 2}}
    write_how(folder, steps)
    write_choice(folder, steps, SWEEP)
    text = section(make_page(folder), "masks")
    assert "<dt>cell</dt><dd>threshold 0.4, holes filled, parts from 20 px on</dd>" in text
    assert "<dt>&lt;b&gt;</dt><dd>threshold 0.5, closing 2 px</dd>" in text
    assert "the 12 images of val: there a threshold of 0.5 and nothing else gives Dice per image 0.500" in text
    assert "this gives 0.750" in text
    assert Page(text).ids == {"masks", "chart-sweep-1"}
    points = numbers(re.search('"line-main" points="([^"]+)"', text)[1])
    mark = tuple(float(re.search(rf'class="mark" [^>]*{name}="([^"]+)"', text)[1]) for name in ("cx", "cy"))
    # Between the thresholds that were tried.
    assert mark == pytest.approx(tuple(np.mean([points[1], points[2]], 0)), abs=0.02)
    assert numbers(re.search('"line-guide" points="([^"]+)"', text)[1])[0][0] == pytest.approx(points[2][0], abs=0.02)
    assert ">0.4: 0.550<" in text and ">0.5: 0.500<" in text


@pytest.mark.parametrize(
    ("settings", "choice", "words", "drawn"),
    [
        ({"threshold": 0.4}, {}, "what --threshold says", True),
        ({}, {"classes": {"cell": {}}}, "Since then others have been chosen on validation", True),
        ({}, {"chosen": 0.5}, "nothing was found that gives a higher score: Dice per image 0.500", True),
        ({}, {"model_sha256": "e" * 64}, "no longer holds what that was worth", False),
        ({"tta": True}, {}, "no longer holds what that was worth", False),
        ({"tta": True, "ensemble": ("other",)}, {"way": "ensemble-tta"}, "Chosen on the 12 images of val", True),
        ({}, None, "no longer holds what that was worth", False),
    ],
)
def test_a_choice_counts_for_the_weights_and_the_way_it_was_made_for(tmp_path, settings, choice, words, drawn):
    folder = write_run(tmp_path / "run", make_images(["a", "b"]), METRICS)
    write_how(folder, {"cell": {"threshold": 0.4}}, **settings)
    if choice is not None:
        classes = {"cell": {"threshold": 0.4}}
        write_choice(folder, **{"classes": classes, "sweeps": SWEEP, **choice})
    text = section(make_page(folder), "masks")
    assert words in text
    assert ("chart-sweep-1" in text) == drawn


def test_the_page_says_that_nothing_was_chosen_and_where_thresholds_are_without_effect(tmp_path):
    classes = ("background", "cell", "gap")
    folder = write_run(tmp_path / "run", make_images(["a", "b"]), METRICS, classes)
    write_how(folder, {"cell": {}, "gap": {}}, original="native")
    text = section(make_page(folder), "masks")
    assert "Nothing was chosen on validation; python -m evaluation.tune" in text
    assert (
        "share that a class has of its own and the most probable other" in text
        and "stretched to the raw images" in text
    )
    (folder.parents[1] / "postprocess.json").write_text("{")
    with pytest.raises(
        ValueError, match=r"postprocess\.json: expected JSON, found damage .* run evaluation\.tune anew"
    ):
        write_report(folder)


def test_the_confusion_of_overlapping_classes_has_pixels_of_none(tmp_path):
    images = make_images(["a", "b"]).rename(columns={kind: f"{kind}/fish" for kind in ("tp", "fp", "fn")})
    folder = write_run(tmp_path / "run", images, METRICS, ("fish", "gravel"), overlapping=True)
    write_confusion(folder, np.array([[60, 20, 20], [0, 10, 10], [50, 0, 150]]), ["fish", "gravel"])
    text = section(make_page(folder), "confusion")
    assert "it may count several times" in text
    cells = re.findall(r'class="number (\w+)".*?data-value="(\d+)".*?>([\d.]+)<', text)
    assert cells == [
        *(("right", "60", "60.0"), ("either", "20", "20.0"), ("wrong", "20", "20.0")),
        *(("either", "0", "0.0"), ("right", "10", "50.0"), ("wrong", "10", "50.0")),
        *(("wrong", "50", "25.0"), ("wrong", "0", "0.0"), ("right", "150", "75.0")),
    ]
    assert text.count(">none of them<") == 2


def test_a_class_that_is_called_none_of_them_is_a_class(tmp_path):
    images = make_images(["a", "b"])
    names = ["background", "cell", "none of them"]
    for name in names[1:]:
        images[[f"{kind}/{name}" for kind in ("tp", "fp", "fn")]] = 1
    folder = write_run(tmp_path / "run", images, METRICS, names)
    write_confusion(folder, np.eye(3, dtype=int), names)
    text = section(make_page(folder), "confusion")
    assert "several times" not in text and "either" not in text


def test_images_that_a_gate_has_cleared_are_marked(tmp_path):
    images = make_images(["a", "b", "c"])
    images["cleared"] = [True, False, True]
    folder = write_run(tmp_path / "run", images, METRICS, pictures=["a", "b"])
    text = make_page(folder)
    rows = [row for row in Page(text).cells["table-images"] if row]
    assert {row[0][1]: row[1][1] for row in rows} == {"a": "yes", "b": "no", "c": "yes"}
    captions = dict(re.findall(r"<figcaption class=\"muted\">(\w): Dice [\d.]+(.*?)</figcaption>", text))
    assert captions == {"a": ", cleared by the gate", "b": ""}


def test_scores_have_the_same_names_on_the_page_and_in_the_terminal(tmp_path):
    from rich.console import Console

    from evaluation.score_names import SCORES
    from evaluation.terminal import score_table

    metrics = dict.fromkeys(SCORES, 0.5) | {"num_examples": 2, "distance_unit": "mm", "object_f1@0.50": 0.25}
    text = make_page(write_run(tmp_path / "run", make_images(["a", "b"]), metrics))
    console = Console(width=150)
    with console.capture() as capture:
        console.print(score_table(json.loads(json.dumps(metrics)), "RUN"))
    shown = capture.get()
    for name, score in SCORES.items():
        assert f'<th scope="row">{score.label}<small>' in text
        assert f"│ {score.label} " in shown or name in ("accuracy", "f1", "average_precision")
    assert "│ F1 of objects, IoU 0.5 " in shown and "│ Hausdorff 95 %, volumes (mm) " in shown
