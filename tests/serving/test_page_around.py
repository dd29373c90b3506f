"""The web page in a browser: what goes wrong, who may use it, examples, scans."""

import io
import json
from pathlib import Path

import httpx
import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from imaging.codec import encode_png
from tests.serving.browsing import mask_of, painted, ready, set_slider, upload
from tests.serving.served import address_of, picture, png, post, scan

KEY = "0123456789abcdef0123"
EVIL = "<img src=x onerror=alert(1)>"


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    """A RUN folder with what test.py leaves of an evaluation."""
    folder = tmp_path_factory.mktemp("runs") / "blobs"
    for name in ("result-image", "examples"):
        (folder / "eval" / "test" / name).mkdir(parents=True)
        (folder / "eval" / "test" / name / "best-01-a-b.png").write_bytes(png(height=32, width=32, seed=5))
    (folder / "eval" / "test" / "result-image" / "worst-01-c.png").write_bytes(png(height=32, width=32, seed=6))
    metrics = {"num_examples": 12, "dice_per_image": 0.875, "dice_per_image_ci95": [0.8, 0.9], "object_f1@0.50": 0.1}
    (folder / "eval" / "test" / "metrics.json").write_text(json.dumps(metrics))
    return folder


@pytest.fixture(scope="module")
def small(run):
    with address_of("small", run) as address:
        yield address


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"a,b\n1,2\n", "Expected a PNG, JPEG, TIFF, BMP or NIfTI file, found 8 bytes of none of them"),
        (encode_png(picture())[:200], "The PNG is truncated: 200 bytes"),
        (scan(), "Expected a picture"),
    ],
)
def test_errors_are_told_in_words_and_the_last_image_stays(small, page, data, words):
    page.goto(small)
    upload(page, png())
    ready(page)
    before = painted(page)
    upload(page, data, f"{EVIL}.png")
    expect(page.get_by_role("alert")).to_contain_text(words)
    np.testing.assert_array_equal(painted(page), before)
    upload(page, png(seed=1))
    ready(page)
    expect(page.get_by_role("alert")).to_be_hidden()
    np.testing.assert_array_equal(painted(page)[..., 3] == 255, mask_of(small, png(seed=1)) == 1)


def test_a_file_that_is_too_large_is_not_sent(page):
    with address_of("small", max_body_mib=1) as address:
        page.goto(address)
        expect(page.locator("#title")).to_have_text("nowhere")
        upload(page, bytes(2 * 2**20))
        expect(page.get_by_role("alert")).to_contain_text("has 2 MiB, the server takes 1")


def test_a_server_that_has_gone_is_told(page):
    with address_of("small") as address:
        page.goto(address)
        expect(page.locator("#title")).to_have_text("nowhere")
    upload(page, png())
    expect(page.get_by_role("alert")).to_contain_text("The server does not answer")


def test_names_are_text(small, page):
    page.goto(small)
    upload(page, png(), f"{EVIL}.png")
    ready(page)
    expect(page.locator("#name")).to_have_text(f"{EVIL}.png")
    assert page.locator("img[src=x]").count() == 0


def test_examples_and_scores_are_those_of_the_evaluation(small, page):
    page.goto(small)
    expect(page.locator("#examples img")).to_have_count(2)
    expect(page.locator("#examples")).to_contain_text("best 01: a-b")
    expect(page.locator("#judged")).to_have_text("Judged on 12 images (evaluation “test”).")
    expect(page.locator("#scores tr")).to_have_count(1)
    expect(page.locator("#scores tr")).to_contain_text("Dice per image0.8750.800 to 0.900")
    expect(page.get_by_role("button", name="Try")).to_have_count(1)
    page.get_by_role("button", name="Try best 01: a-b").click()
    ready(page)
    wanted = mask_of(small, png(height=32, width=32, seed=5))
    np.testing.assert_array_equal(painted(page)[..., 3] == 255, wanted == 1)


def test_a_key_is_asked_for_and_kept_in_the_tab(page):
    with address_of("small", key=KEY) as address:
        page.goto(address)
        box = page.get_by_label("This server needs its API key")
        box.fill("wrong" + KEY)
        page.keyboard.press("Enter")
        expect(page.get_by_text("This is not its key.")).to_be_visible()
        box.fill(KEY)
        page.keyboard.press("Enter")
        upload(page, png())
        ready(page)
        page.reload()
        expect(page.locator("#title")).to_have_text("nowhere")
        expect(page.locator("#key-box")).to_be_hidden()


def test_it_fits_a_phone_and_goes_with_the_dark(small, browser):
    with browser.new_context(viewport={"width": 360, "height": 740}, color_scheme="dark", has_touch=True) as context:
        page = context.new_page()
        page.goto(small)
        upload(page, png())
        ready(page)
        assert page.evaluate("() => document.documentElement.scrollWidth") <= 360
        assert page.evaluate("() => getComputedStyle(document.body).backgroundColor") == "rgb(20, 23, 26)"


def test_all_that_can_be_used_has_a_name_and_is_reached_by_the_keyboard(small, page):
    page.goto(small)
    upload(page, png())
    ready(page)
    reached = set()
    for _ in range(60):
        page.keyboard.press("Tab")
        reached.add(page.evaluate("() => document.activeElement.id || document.activeElement.textContent.trim()"))
    assert {"file", "opacity", "threshold", "Mask", "Overlay", "Numbers", "Try it"} <= reached
    unnamed = "(all) => all.filter((one) => !(one.labels?.length || one.ariaLabel || one.textContent.trim())).length"
    assert page.locator("button, input, select").evaluate_all(unnamed) == 0


def test_a_scan_is_shown_slice_by_slice(page):
    data = scan(slices=5)
    with address_of("scan") as address:
        page.goto(address)
        upload(page, data, "ct.nii")
        ready(page)
        with httpx.Client(base_url=address, timeout=20) as client:
            answer = post(client, data).json()
        amounts = [one["pixels"]["blob"] for one in answer["slices"]]
        assert page.locator("#slice").input_value() == str(int(np.argmax(amounts)))
        expect(page.locator("#slice-number")).to_have_text(f"{np.argmax(amounts) + 1} / 5")
        page.locator("#slice").focus()
        page.keyboard.press("Home")
        expect(page.locator("#slice-number")).to_have_text("1 / 5")
        shown = _orange(page)
        assert shown > 0
        page.get_by_label("blob").uncheck()
        assert _orange(page) == 0
        page.get_by_label("blob").check()
        set_slider(page, "threshold", 255)
        assert _orange(page) < shown
        drop(page, ".scan canvas", scan(slices=3), "next.nii")
        expect(page.locator("#slice-number")).to_contain_text("/ 3")
        page.get_by_label("Window").select_option("bones")
        page.get_by_label("Planes").select_option("all three")
        expect(page.get_by_role("alert")).to_be_hidden()


def drop(page: Page, selector: str, data: bytes, name: str) -> None:
    """Drops a file onto an element."""
    script = """([data, name]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(data)], name));
        return transfer;
    }"""
    transfer = page.evaluate_handle(script, [list(data), name])
    for event in ("dragenter", "dragover", "drop"):
        page.dispatch_event(selector, event, {"dataTransfer": transfer})


def _orange(page: Page) -> int:
    """Pixels of the scan's picture in the colour of the first class."""
    page.wait_for_timeout(300)
    shown = np.asarray(Image.open(io.BytesIO(page.locator(".scan").screenshot())).convert("RGB")).astype(int)
    return int(np.count_nonzero(shown[..., 0] - shown[..., 2] > 60))
