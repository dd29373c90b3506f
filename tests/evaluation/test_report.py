import base64
import io
import re
import shutil
import subprocess
import tomllib
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

import evaluation.report
from evaluation.folder import write_confusion
from evaluation.report.build import write_report
from tests.evaluation.reports import (
    HISTORY,
    METRICS,
    Page,
    make_images,
    write_calibration,
    write_choice,
    write_how,
    write_run,
)

EVIL = "<img src=x onerror=alert(1)>.png"
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


@pytest.fixture(scope="module")
def full(tmp_path_factory) -> Path:
    """An evaluation with all files, of images with awkward names; read only."""
    keys = [EVIL, "007", "NA", *(f"scan{number}" for number in range(57))]
    images = make_images(keys)
    images["group"] = ["patient <b>" if number < 20 else "other" for number in range(60)]
    images["objects_true"] = np.arange(60) % 7
    files = {"pictures": [EVIL, "007"], "history": HISTORY}
    folder = write_run(tmp_path_factory.mktemp("runs") / "mine", images, METRICS, **files)
    write_confusion(folder, np.array([[90, 10], [5, 15]]), ["background", "cell"])
    write_calibration(folder, {"cell": [(0.1, 80, 4), (0.9, 20, 16)]})
    write_how(folder, {"cell": {"threshold": 0.25}})
    write_choice(folder, {"cell": {"threshold": 0.25}}, {"cell": [[0.25, 0.75], [0.5, 0.5]]})
    write_report(folder)
    return folder


@pytest.fixture(scope="module")
def page(full) -> Page:
    return Page((full / "report.html").read_text())


def test_the_page_has_a_section_for_all_that_was_measured(page):
    sections = {"summary", "classes", "confusion", "charts", "calibration", "gallery-1", "groups", "images"}
    sections |= {"masks", "evaluated"}
    charts = {"distribution", "size", "objects", "reliability-1", "sweep-1", "learning-loss", "learning-dice_per_image"}
    assert page.ids == sections | {f"chart-{name}" for name in charts}


def test_what_was_not_measured_is_left_out(tmp_path):
    folder = write_run(tmp_path / "bare", make_images(["a", "b"]), {"dice_per_image": 0.5})
    text = write_report(folder).read_text()
    assert Page(text).ids == {
        *("summary", "classes", "charts", "chart-distribution", "chart-size", "images", "evaluated"),
    }
    assert "a single group cannot tell" in text


def test_values_are_those_of_the_files(full, page):
    table = pd.read_csv(full / "per_image.csv", keep_default_na=False, dtype={"source_id": str}).set_index("source_id")
    rows = [row for row in page.cells["table-images"] if row]
    assert [row[0][1] for row in rows] == table.sort_values("dice").index[:50].tolist()
    for key, group, dice, iou, true, missed, invented, objects in rows:
        image = table.loc[key[1]]
        assert (float(dice[1]), float(iou[1])) == (image["dice"], image["iou"])
        assert dice[0] == f"{image['dice']:.3f}"
        expected = image["tp"] + image["fn"], image["fn"], image["fp"], image["objects_true"]
        assert tuple(float(cell[1]) for cell in (true, missed, invented, objects)) == expected
        assert group[1] == image["group"]
    groups = {row[0][1]: [float(value) for _, value in row[1:]] for row in page.cells["table-groups"] if row}
    by_group = table.groupby("group")["dice"]
    assert groups == {name: pytest.approx([len(dice), dice.mean(), dice.min()]) for name, dice in by_group}
    summary = [cell for row in page.cells[""] for cell in row]
    assert ("0.812 ", "0.8125") in summary
    assert [value for text, value in summary if text in ("90.0", "10.0", "25.0", "75.0")] == ["90", "10", "5", "15"]


def test_groups_show_the_scores_of_their_images_together(tmp_path):
    images = make_images(["a", "b", "c"])
    images["group"] = ["x", "x", "y"]
    folder = write_run(tmp_path / "run", images, {**METRICS, "distance_unit": "mm"})
    rows = {"group": ["x", "y"], "images": [2, 1], "dice": [0.5, None], "iou": [0.4, 0.3], "hausdorff95": [2.5, 3.25]}
    pd.DataFrame(rows).to_csv(folder / "per_group.csv", index=False)
    text = write_report(folder).read_text()
    found = {row[0][1]: [value for _, value in row[1:]] for row in Page(text).cells["table-groups"] if row}
    assert (found["x"][3:], found["y"][3:]) == (["0.5", "0.4", "2.5"], ["", "0.3", "3.25"])
    assert "Hausdorff 95 %, mm" in text


def test_each_class_has_its_scores_and_its_pixels(tmp_path):
    images = pd.DataFrame({"source_id": ["a", "b"], "group": ["a", "b"], "dice": [0.5, 0.6], "iou": [0.4, 0.5]})
    for name, factor in (("cell", 1), ("gap", 10)):
        for kind, pixels in (("tp", 6), ("fp", 3), ("fn", 1)):
            images[f"{kind}/{name}"] = pixels * factor
    metrics = {**METRICS, "dice_per_image/cell": 0.75, "recall/cell": None, "dice_per_image/gap": 0.5, "recall/gap": 1}
    folder = write_run(tmp_path / "run", images, metrics, ("background", "cell", "gap"))
    text = write_report(folder).read_text()
    rows = [[value for _, value in row] for row in Page(text).cells["table-classes"] if row]
    assert [row[-2:] for row in rows] == [["0.75", ""], ["0.5", "1.0"]]
    assert text.count("60.0 % · 10.0 % · 30.0 %") == 2
    assert "of 20<" in text and "of 200<" in text


def test_points_of_a_curve_lie_where_their_values_are(tmp_path):
    metrics = {**METRICS, "object_f2@0.50": 1.0, "object_f2@0.75": 0.5, "object_f2@0.95": 0.0, "object_f2@0.90": None}
    text = write_report(write_run(tmp_path / "run", make_images(["a", "b"]), metrics)).read_text()
    chart = text[text.index('id="chart-thresholds"') :]
    points = re.search('points="([^"]+)"', chart)[1].split()
    (left, top), (middle, half), (right, bottom) = (tuple(map(float, point.split(","))) for point in points)
    assert half == pytest.approx((top + bottom) / 2) and top < bottom
    assert (middle - left) / (right - left) == pytest.approx(0.25 / 0.45, abs=1e-3)


@pytest.mark.parametrize(
    ("bounds", "baseline", "words"),
    [
        ([0.7, 0.9], 0.25, "the model is better than that"),
        ([0.7, 0.9], 0.75, "do not show that the model is better"),
        ([0.7, 0.9], 0.95, "the model is no better than that"),
    ],
)
def test_the_summary_says_what_the_score_is_worth(tmp_path, bounds, baseline, words):
    metrics = {"dice_per_image": 0.8, "dice_per_image_ci95": bounds, "baseline_nothing/dice_per_image": baseline}
    text = write_report(write_run(tmp_path / "run", make_images(["a", "b"]), metrics)).read_text()
    assert f"Predicting nothing at all would score {baseline:.3f}: " in text
    assert words in text
    assert "rests on only 2 images" in text


def test_a_classifier_has_a_page_too(tmp_path):
    answers = pd.DataFrame({"source_id": ["a", "b"], "group": ["a", "b"], "probability": [0.2, 0.9], "truth": [0, 1]})
    scores = {"num_judged": 2, "accuracy": 1.0, "f1": 1.0, "tp": 1, "fp": 0, "fn": 0, "tn": 1}
    history = HISTORY.rename(columns=lambda name: name.replace("dice_per_image", "f1"))
    text = write_report(write_run(tmp_path / "gate", answers, scores, history=history)).read_text()
    assert Page(text).ids == {"summary", "evaluated", "chart-learning-loss", "chart-learning-f1"}
    assert "accuracy is 1.000" in text
    unknown = write_run(tmp_path / "unknown", answers, dict.fromkeys(scores))
    assert "There are no scores" in write_report(unknown).read_text()


def test_names_of_files_inject_nothing(full, page):
    text = (full / "report.html").read_text()
    assert "<img src=x" not in text and "patient <b>" not in text
    assert any(attributes.get("alt", "").startswith(EVIL) for tag, attributes in page.tags if tag == "img")
    assert all(not name.startswith("on") for _, attributes in page.tags for name in attributes)
    assert [tag for tag, _ in page.tags].count("script") == 1


def test_the_page_needs_no_other_file(full, page):
    links = [attributes[name] for _, attributes in page.tags for name in ("src", "href") if name in attributes]
    assert {link.partition(",")[0] for link in links if link[0] != "#"} <= {"data:", "data:image/webp;base64"}
    text = re.sub(r"data:[^\"]*", "", (full / "report.html").read_text())
    assert "http" not in text.replace("http-equiv", "") and "url(" not in text and "@import" not in text
    pictures = [attributes["src"] for tag, attributes in page.tags if tag == "img"]
    assert len(pictures) == 2
    with Image.open(io.BytesIO(base64.b64decode(pictures[0].partition(",")[2]))) as picture:
        assert picture.size == (240, 60)


def test_large_pictures_are_shrunk_until_the_page_is_small(tmp_path):
    folder = write_run(tmp_path / "run", make_images(["a"]), METRICS)
    noise = np.random.default_rng(0).integers(0, 255, [350, 1600, 3]).astype(np.uint8)
    for number in range(6):
        Image.fromarray(noise).save(folder / "result-image" / f"worst-{number + 1:02d}-a.png", compress_level=0)
    assert write_report(folder).stat().st_size < 3.2e6


def test_the_same_files_give_the_same_bytes_wherever_they_lie(full, tmp_path):
    shutil.copytree(full.parents[1], tmp_path / "mine")
    (tmp_path / "mine" / "eval" / "test" / "report.html").unlink()
    assert write_report(tmp_path / "mine" / "eval" / "test").read_bytes() == (full / "report.html").read_bytes()


def test_a_folder_without_scores_is_refused_in_a_line(tmp_path):
    with pytest.raises(ValueError, match=r"found no metrics\.json; run test\.py first"):
        write_report(tmp_path)
    folder = write_run(tmp_path / "run", make_images(["a"]), METRICS)
    (folder / "metrics.json").write_text("{")
    with pytest.raises(ValueError, match=r"metrics\.json: expected JSON, found damage"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_what_the_page_is_made_of_is_installed():
    folder = Path(evaluation.report.__file__).parent
    project = tomllib.loads((folder.parents[1] / "pyproject.toml").read_text())
    installed = project["tool"]["setuptools"]["package-data"]["evaluation.report"]
    assert {*installed} == {path.name for path in folder.iterdir() if path.is_file() and path.suffix != ".py"}


def look_at(path: Path, *arguments: str) -> tuple[str, list[str]]:
    """Returns (the page as a browser has it once its script has run, what it wrote to its console)."""
    flags = ("--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000", "--enable-logging=stderr")
    command = [CHROMIUM, *flags, "--v=0", f"--user-data-dir={path.parent}/profile", *arguments, f"file://{path}"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=True)
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


def with_script(page: str, script: str) -> str:
    """Returns a page with another script behind its own, which its policy allows."""
    return re.sub("script-src '[^']+'", "script-src 'unsafe-inline'", page).replace(
        "</body>", f"<script>{script}</script></body>"
    )


@pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")
def test_a_browser_shows_the_page_without_a_complaint_and_sorts_its_tables(full, tmp_path):
    text = (full / "report.html").read_text()
    plain, sorted_page = tmp_path / "plain.html", tmp_path / "sorted.html"
    plain.write_text(text)
    found, complaints = look_at(plain, "--dump-dom")
    assert complaints == []
    assert '<button type="button">Dice</button>' in found
    clicks = "const heads = document.querySelectorAll('#table-images th button');"
    clicks += "heads[6].click(); console.log('clicked');"
    sorted_page.write_text(with_script(text, clicks))
    found, complaints = look_at(sorted_page, "--dump-dom")
    assert len(complaints) == 1 and "clicked" in complaints[0]  # so what a page complains of is seen
    before, after = ([float(row[6][1]) for row in Page(html).cells["table-images"] if row] for html in (text, found))
    assert after == sorted(before) != before
