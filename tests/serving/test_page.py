"""The web page in a browser: a picture, its mask, its objects."""

import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from playwright.sync_api import expect

from imaging.codec import decode_mask
from model.labels import Labels
from tests.serving.browsing import drawn, mask_of, painted, ready, set_slider, transform, upload
from tests.serving.served import address_of, png, post


@pytest.fixture(scope="module")
def small():
    with address_of("small") as address:
        yield address


def test_the_overlay_is_the_mask_of_the_server_to_the_last_pixel(small, page):
    data = png()
    page.goto(small)
    upload(page, data)
    ready(page)
    wanted = mask_of(small, data)
    found = painted(page)
    assert 0 < wanted.mean() < 1
    np.testing.assert_array_equal(found[..., 3] == 255, wanted == 1)
    assert {tuple(pixel) for pixel in found[wanted == 1]} == {(255, 80, 20, 255)}
    assert not found[wanted == 0].any()
    set_slider(page, "opacity", 30)
    assert page.locator("#mask").evaluate("(canvas) => getComputedStyle(canvas).opacity") == "0.3"


@pytest.mark.parametrize("level", [1, 77, 128, 200, 255])
def test_the_threshold_acts_as_that_of_the_server(small, page, level):
    data = png(seed=3)
    page.goto(small)
    upload(page, data)
    ready(page)
    before = painted(page)
    set_slider(page, "threshold", level)
    wanted = mask_of(small, data, threshold=level / 256)
    np.testing.assert_array_equal(painted(page)[..., 3] == 255, wanted == 1)
    with httpx.Client(base_url=small, timeout=20) as client:
        objects = post(client, data, threshold=level / 256).json()["objects"]
    expect(page.locator("#count")).to_have_text(f"({len(objects)})")
    expect(page.locator("#objects.old")).to_have_count(0)
    expect(page.locator("#objects button")).to_have_count(len(objects))
    page.get_by_role("button", name="As the model was tuned").click()
    drawn(page)
    np.testing.assert_array_equal(painted(page), before)


def test_an_object_is_found_from_the_list_and_from_the_picture(small, page):
    data = png()
    page.goto(small)
    upload(page, data)
    ready(page)
    with httpx.Client(base_url=small, timeout=20) as client:
        largest = max(post(client, data).json()["objects"], key=lambda one: one["pixels"])
    first = page.locator("#objects button").first
    expect(first).to_contain_text(f"{largest['pixels']} px")
    first.focus()
    page.keyboard.press("Enter")
    expect(first).to_have_attribute("aria-pressed", "true")
    path = page.locator("svg path.edge").get_attribute("d")
    rings = [ring for polygon in largest["polygon"] for ring in polygon]
    assert path == "".join("M" + "L".join(f"{x:g} {y:g}" for x, y in ring) + "Z" for ring in rings)
    first.click()
    expect(page.locator("svg path")).to_have_count(0)
    # A pixel of it, where it is on the screen.
    left, top, width, height = largest["bbox"]
    inside = mask_of(small, data)[top : top + height, left : left + width]
    y, x = np.argwhere(inside)[0] + (top, left)
    box = page.locator(".picture").bounding_box()
    scale, left, top = transform(page)
    page.mouse.click(box["x"] + left + (x + 0.5) * scale, box["y"] + top + (y + 0.5) * scale)
    expect(page.locator("#objects button[aria-pressed=true]")).to_have_count(1)
    expect(page.locator("svg path.edge")).to_have_count(1)


def test_it_zooms_and_pans_by_wheel_mouse_and_keys(small, page):
    page.goto(small)
    upload(page, png())
    ready(page)

    fitted = transform(page)
    page.locator(".picture").focus()
    page.keyboard.press("+")
    assert transform(page)[0] == pytest.approx(1.4 * fitted[0], rel=1e-3)
    page.keyboard.press("ArrowLeft")
    moved = transform(page)
    box = page.locator(".picture").bounding_box()
    middle = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*middle)
    page.mouse.down()
    page.mouse.move(middle[0] + 40, middle[1] - 25, steps=4)
    page.mouse.up()
    assert np.subtract(transform(page), moved) == pytest.approx([0, 40, -25], abs=0.01)
    page.mouse.wheel(0, -200)
    assert transform(page)[0] > moved[0]
    page.get_by_role("button", name="Whole image").click()
    assert transform(page) == pytest.approx(fitted)


def test_classes_are_shown_and_hidden(page):
    data = png()
    with address_of("overlapping") as address:
        page.goto(address)
        upload(page, data)
        ready(page)
        red, green = (mask_of(address, data, **{"class": name}) > 0 for name in ("red", "green"))
        np.testing.assert_array_equal(painted(page)[..., 3] == 255, red | green)
        page.get_by_label("red").uncheck()
        drawn(page)
        np.testing.assert_array_equal(painted(page)[..., 3] == 255, green)
        assert not page.locator("#objects button", has_text="red").count()
        page.get_by_label("green").uncheck()
        drawn(page)
        assert not painted(page).any()


def test_exclusive_classes_share_the_pixels(page):
    data = png()
    with address_of("exclusive") as address:
        page.goto(address)
        upload(page, data)
        ready(page)
        mask = mask_of(address, data)
        assert set(np.unique(mask)) == {0, 1, 2}
        for number, colour in ((1, (255, 80, 20)), (2, (86, 180, 233))):
            np.testing.assert_array_equal((painted(page)[..., :3] == colour).all(-1), mask == number)
        set_slider(page, "threshold", 60)
        wanted = mask_of(address, data, threshold=60 / 256)
        found = painted(page)[..., 3] == 255
        assert (wanted > 0).sum() > (mask > 0).sum()
        assert np.mean(found != (wanted > 0)) < 0.01  # 8 bits instead of 32


def test_the_last_of_two_files_is_shown(small, page):
    page.goto(small)
    for seed, name in ((1, "first.png"), (2, "second.png")):
        upload(page, png(seed=seed), name)
    expect(page.locator("#name")).to_have_text("second.png")
    ready(page)
    np.testing.assert_array_equal(painted(page)[..., 3] == 255, mask_of(small, png(seed=2)) == 1)


def test_masks_of_exclusive_classes_follow_the_models_rule(small, page):
    page.goto(small)
    generator = np.random.default_rng(0)
    shares = generator.integers(0, 256, (500, 4))
    levels = np.floor(256 * shares / np.maximum(shares.sum(1, keepdims=True), 1)).clip(0, 255).astype(int)
    rest = 255 - levels[:, 1:].sum(1)
    for level in (30, 128, 220):
        script = """async ([levels, level]) => (await import("./page/masks.js"))
            .decide(levels.map((one) => Uint8Array.from(one)), level, true).map((area) => [...area])"""
        found = np.array(page.evaluate(script, [levels[:, 1:].T.tolist(), level]))
        probabilities = np.column_stack([rest, levels[:, 1:]]).astype(np.float32) / 255
        threshold = level / 256
        wanted = Labels(4, False).classify(probabilities, [0.5, threshold, threshold, threshold]).numpy()
        np.testing.assert_array_equal(found.T, wanted[:, np.newaxis] == [1, 2, 3])


def test_downloads_are_what_is_shown(small, page):
    data = png()
    page.goto(small)
    upload(page, data, "my cells.v2.png")
    ready(page)
    set_slider(page, "threshold", 180)
    with page.expect_download() as download:
        page.get_by_role("button", name="Mask").click()
    assert download.value.suggested_filename == "my cells.v2.mask.png"
    saved = decode_mask(Path(download.value.path()).read_bytes())
    np.testing.assert_array_equal(saved, mask_of(small, data, threshold=180 / 256))
    with page.expect_download() as download:
        page.get_by_role("button", name="Numbers").click()
    assert json.loads(Path(download.value.path()).read_text())["image"] == {"height": 40, "width": 30}
