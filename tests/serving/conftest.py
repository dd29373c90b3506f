"""A browser, and a page in it."""

import pytest
from playwright.sync_api import sync_playwright

from tests.serving.browsing import CHROMIUM


@pytest.fixture(scope="module")
def browser():
    if CHROMIUM is None:
        pytest.skip("no Chromium on this machine")
    with sync_playwright() as playwright:
        # Volumes need WebGL, which here is computed.
        flags = ["--use-gl=angle", "--use-angle=swiftshader", "--enable-unsafe-swiftshader"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=flags)
        yield browser
        browser.close()


@pytest.fixture
def page(browser):
    """A page that must not complain, nor ask anybody but its own server."""
    context = browser.new_context(accept_downloads=True)
    page = context.new_page()
    complaints, asked = [], []
    page.on("console", lambda message: message.type in ("error", "warning") and complaints.append(message.text))
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.on("request", lambda request: asked.append(request.url))
    yield page
    origin = "/".join(page.url.split("/")[:3])
    context.close()
    # Chromium itself tells of every answer that is an error, and of its computed WebGL.
    allowed = ("the server responded with a status of", "net::ERR_CONNECTION_REFUSED", "GPU stall", "GL Driver Message")
    assert [text for text in complaints if not any(words in text for words in allowed)] == []
    assert [url for url in asked if not url.startswith((origin, "data:", "blob:"))] == []
