"""What people do with the page, and what they see."""

import base64
import io
import shutil

import httpx
import numpy as np
from PIL import Image
from playwright.sync_api import Page, expect

from imaging.codec import decode_mask
from tests.serving.served import post

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


def upload(page: Page, data: bytes, name: str = "cells.png") -> None:
    """Chooses a file, once the page knows its model."""
    expect(page.locator("#about")).not_to_be_empty()
    page.locator("#file").set_input_files({"name": name, "mimeType": "application/octet-stream", "buffer": data})


def drawn(page: Page) -> None:
    """Waits until the browser has drawn what was asked for."""
    page.evaluate("() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))")


def ready(page: Page) -> None:
    expect(page.locator("#panel")).to_be_visible(timeout=20_000)
    expect(page.locator("#busy")).to_be_hidden(timeout=20_000)
    drawn(page)


def painted(page: Page) -> np.ndarray:
    """The mask's layer, uint8 [height, width, 4]."""
    url = page.locator("#mask").evaluate("(canvas) => canvas.toDataURL()")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(url.partition(",")[2]))).convert("RGBA"))


def mask_of(address: str, data: bytes, **query) -> np.ndarray:
    with httpx.Client(base_url=address, timeout=20) as client:
        return decode_mask(post(client, data, "image/png", **query).content)


def transform(page: Page) -> list[float]:
    """Scale, x and y of the picture in its view."""
    return page.locator(".layers").evaluate(
        "(layers) => { const m = new DOMMatrix(getComputedStyle(layers).transform); return [m.a, m.e, m.f]; }"
    )


def set_slider(page: Page, name: str, value: int) -> None:
    page.locator(f"#{name}").evaluate(
        "(input, value) => { input.value = value; input.dispatchEvent(new Event('input')); }", value
    )
    drawn(page)
