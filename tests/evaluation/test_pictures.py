import re

import cv2
import numpy as np
import pytest

from evaluation.pictures import AGREED, INVENTED, MISSED, draw_comparison, file_name
from imaging.painting import PALETTE, display_image, paint
from records.schema import IGNORE, IGNORE_BIT


def test_paint_mixes_the_colour_into_its_area_alone():
    image = np.full([2, 2, 3], 100, np.uint8)
    area = np.array([[True, False], [False, False]])
    found = paint(image, [(area, (200, 0, 100))], opacity=0.25)
    np.testing.assert_array_equal(found[0, 0], [125, 75, 100])
    np.testing.assert_array_equal(found[0, 1], [100, 100, 100])
    np.testing.assert_array_equal(found[1], image[1])
    assert (image == 100).all()


def test_later_areas_are_painted_over_earlier_ones():
    area = np.ones([1, 1], bool)
    found = paint(np.zeros([1, 1, 3], np.uint8), [(area, (255, 0, 0)), (area, (0, 0, 255))], opacity=1.0)
    np.testing.assert_array_equal(found, [[[0, 0, 255]]])


def test_an_image_is_stretched_to_all_of_the_grey_scale():
    image = np.linspace(1000, 3000, 10_000).astype(np.uint16).reshape(100, 100, 1)
    found = display_image(image)
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found[..., 0], found[..., 1])
    assert (found[0, 0] == 0).all()
    assert (found[-1, -1] == 255).all()
    # The percentiles 0.5 and 99.5 are 1010 and 2990.
    expected = (image[..., 0].astype(float) - 1010) / 1980 * 255
    np.testing.assert_allclose(found[..., 0], expected.clip(0, 255), atol=1.5)


def test_colours_are_stretched_together():
    image = np.random.default_rng(0).integers(50, 100, [40, 40, 3]).astype(np.uint8)
    image[..., 2] //= 2
    low, high = np.percentile(image, [0.5, 99.5])
    expected = ((image - low) / (high - low) * 255).clip(0, 255)
    np.testing.assert_allclose(display_image(image), expected, atol=1)


@pytest.mark.parametrize("value", [0, 7, 255])
def test_a_blank_image_is_no_error(value):
    np.testing.assert_array_equal(display_image(np.full([4, 4, 1], value, np.uint8)), np.zeros([4, 4, 3]))


@pytest.mark.parametrize(
    "key",
    [
        "../../x",
        "..",
        "/etc/passwd",
        "a/b\\c",
        "C:\\x",
        ".hidden",
        "",
        "名前",
        "new\nline",
        "nul\0byte",
        "x" * 500,
        "-rf",
        "%2e%2e%2f",
        "...",
    ],
)
def test_a_key_can_not_lead_out_of_its_folder(key, tmp_path):
    name = file_name(key)
    assert re.fullmatch(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,71}", name)
    path = tmp_path / f"{name}.png"
    assert path.resolve().parent == tmp_path
    path.write_bytes(b"")


def test_a_harmless_key_stays():
    assert file_name("train_scene-01.b") == "train_scene-01.b"
    assert re.fullmatch("train_scene_01-[0-9a-f]{8}", file_name("train/scene 01"))


def panels_of(path) -> np.ndarray:
    return cv2.imread(str(path))[:, :, ::-1]


def share_of(picture: np.ndarray, colour: np.ndarray) -> float:
    return float((np.abs(picture.astype(int) - colour).max(-1) <= 3).mean())


@pytest.mark.parametrize(
    ("truth", "prediction", "colour"),
    [(1, 1, AGREED), (1, 0, MISSED), (0, 1, INVENTED), (2, 1, INVENTED), (1, 2, INVENTED), (2, 2, AGREED)],
)
def test_the_difference_is_painted_in_its_colour(tmp_path, truth, prediction, colour):
    image = np.zeros([32, 32, 3], np.uint8)
    masks = [np.full([32, 32], value, np.uint8) for value in (truth, prediction)]
    draw_comparison(tmp_path / "x.png", image, *masks, {1: "a", 2: "b"}, "title")
    picture = panels_of(tmp_path / "x.png")
    for candidate in (AGREED, MISSED, INVENTED):
        # The panel covers about a fifth of the picture; black shines through.
        assert (share_of(picture, np.array(candidate) * 0.75) > 0.1) == (candidate == colour)


@pytest.mark.parametrize(("truth", "prediction"), [(0, 0), (IGNORE, 1), (IGNORE, 0)])
def test_where_nothing_is_to_judge_nothing_is_painted(tmp_path, truth, prediction):
    masks = [np.full([32, 32], value, np.uint8) for value in (truth, prediction)]
    draw_comparison(tmp_path / "x.png", np.zeros([32, 32, 3], np.uint8), *masks, {1: "cell"}, "title")
    picture = panels_of(tmp_path / "x.png")
    for colour in (AGREED, MISSED, INVENTED):
        assert share_of(picture, np.array(colour) * 0.75) < 0.01


def test_without_truth_there_are_two_panels(tmp_path):
    image, mask = np.zeros([32, 48, 1], np.uint8), np.ones([32, 48], np.uint8)
    draw_comparison(tmp_path / "two.png", image, None, mask, {1: "cell"}, "title")
    draw_comparison(tmp_path / "four.png", image, mask, mask, {1: "cell"}, "title")
    two, four = panels_of(tmp_path / "two.png"), panels_of(tmp_path / "four.png")
    assert four.shape[1] == 2 * two.shape[1]
    assert share_of(two, np.array(PALETTE[0]) * 0.3) > 0.2


def test_a_mask_is_outlined_in_its_full_colour(tmp_path):
    mask = np.zeros([32, 32], np.uint8)
    mask[4:28, 4:28] = 1
    draw_comparison(tmp_path / "x.png", np.zeros([32, 32, 3], np.uint8), None, mask, {1: "cell"}, "title")
    picture = panels_of(tmp_path / "x.png")
    full, faint = (share_of(picture, np.array(PALETTE[0]) * opacity) for opacity in (1.0, 0.3))
    # A ring of 4 * 23 pixels around 22 * 22; drawing scales both alike.
    np.testing.assert_allclose(full / faint, 4 * 23 / 22**2, rtol=0.15)


@pytest.mark.parametrize(
    ("truth", "prediction", "colour"),
    [
        (0b11, 0b11, AGREED),
        (0b11, 0b01, MISSED),
        (0b01, 0b11, INVENTED),
        (0b01, 0b10, INVENTED),
        (0b10, 0, MISSED),
        (0, 0, None),
        (IGNORE_BIT, 0b11, None),
        (IGNORE_BIT + 0b11, 0b01, None),
    ],
)
def test_the_difference_of_overlapping_classes_is_painted_in_its_colour(tmp_path, truth, prediction, colour):
    masks = [np.full([32, 32], value, np.uint16) for value in (truth, prediction)]
    image = np.zeros([32, 32, 1], np.uint8)
    draw_comparison(tmp_path / "x.png", image, *masks, {0: "a", 1: "b"}, "title", overlapping=True)
    picture = panels_of(tmp_path / "x.png")
    for candidate in (AGREED, MISSED, INVENTED):
        assert (share_of(picture, np.array(candidate) * 0.75) > 0.1) == (candidate == colour)


def test_overlapping_classes_are_tinted_over_each_other_and_outlined_each_in_its_colour(tmp_path):
    mask = np.zeros([32, 32], np.uint16)
    mask[4:28, 4:20] |= 0b01
    mask[4:28, 12:28] |= 0b10
    draw_comparison(tmp_path / "x.png", np.zeros([32, 32, 3], np.uint8), None, mask, {0: "a", 1: "b"}, "t", True)
    picture = panels_of(tmp_path / "x.png")
    first, second = np.array(PALETTE[0]), np.array(PALETTE[1])
    shares = [share_of(picture, colour) for colour in (first * 0.3, second * 0.3, first * 0.21 + second * 0.3)]
    # Inside of all outlines 7, 7 and 6 columns are left; pixels on the borders of drawing mix.
    assert min(shares) > 0.02
    np.testing.assert_allclose(shares[2] / shares[0], 6 / 7, rtol=0.25)
    assert share_of(picture, first) > 0.02
    assert share_of(picture, second) > 0.02


@pytest.mark.parametrize("overlapping", [False, True])
def test_the_legend_names_the_classes_that_are_there_where_there_are_several(tmp_path, monkeypatch, overlapping):
    legends = []
    monkeypatch.setattr(
        "matplotlib.figure.Figure.legend",
        lambda figure, handles, **how: legends.append([handle.get_label() for handle in handles]),
    )
    mask = np.full([8, 8], 2, np.uint16 if overlapping else np.uint8)
    several = {1: "liver", 2: "tumour"} if not overlapping else {0: "liver", 1: "tumour"}
    image = np.zeros([8, 8, 1], np.uint8)
    draw_comparison(tmp_path / "x.png", image, mask, mask, several, "t", overlapping)
    assert legends == [["tumour"], ["agreed", "missed", "invented, or of another class"]]
    legends.clear()
    draw_comparison(tmp_path / "x.png", image, None, mask * 0, several, "t", overlapping)
    draw_comparison(tmp_path / "x.png", image, None, mask, {1: "tumour"}, "t", overlapping)
    assert legends == []


def test_an_image_is_shown_in_the_models_window():
    image = np.array([0, 31768, 32468, 33168, 65535], np.uint16).reshape(1, 5, 1)
    found = display_image(image, (31768.0, 33168.0))
    np.testing.assert_array_equal(found[0, :, 0], [0, 0, 127, 255, 255])
    # Where values fall as stored pixels rise, the highest value is white all the same.
    np.testing.assert_array_equal(display_image(image, (33168.0, 31768.0))[0, :, 0], [255, 255, 127, 0, 0])
