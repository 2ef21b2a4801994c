"""A real browser, and what a test does with the page in it."""

import base64
import contextlib
import io
import shutil
import time

import numpy as np
import pytest
from PIL import Image


@contextlib.contextmanager
def launched():
    """Debian's Chromium, headless; skips where it or Playwright is not installed."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install -e '.[test]'")
    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium: apt install chromium")
    with playwright.sync_playwright() as started:
        yield started.chromium.launch(executable_path=path)


def seen(page):
    """The canvas: uint8 [H, W, 3]."""
    told = page.evaluate("document.querySelector('canvas').toDataURL('image/png')")
    return opened(base64.b64decode(told.partition(",")[2]))


def opened(data):
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def until(page, condition, argument=None):
    """Waits for a condition. Playwright's own wait compiles text in the page, which its Content-Security-Policy forbids."""
    deadline = time.monotonic() + 120
    while not page.evaluate(condition, argument):
        assert time.monotonic() < deadline, (condition, argument, page.evaluate("window.holotf.shown.at(-1)"))
        page.wait_for_timeout(20)


def wait(page, **wanted):
    """Waits until the frame that is shown is of this object and view."""
    until(page, "wanted => Object.entries(wanted).every(([key, value]) => window.holotf.shown.at(-1)[key] === value)", wanted)


def drag(page, x, y=0):
    box = page.locator("canvas").bounding_box()
    start = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
    page.mouse.move(*start)
    page.mouse.down()
    page.mouse.move(start[0] + x, start[1] + y, steps=4)
    page.mouse.up()


def button(page, name):
    return page.get_by_role("button", name=name, exact=True)
