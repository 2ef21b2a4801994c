"""Draws docs/images/page.png and page_phone.png: the page, with `make demo` behind it and as a static page.

python docs/make_page_pictures.py asks for pip install 'holotf[serve,web]', playwright and chromium.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from benchmarks.page import chromium, published  # noqa: E402
from benchmarks.serving import serving  # noqa: E402
from configs import base  # noqa: E402
from holotf import static_page  # noqa: E402

IMAGES = ROOT / "docs" / "images"
SEEDS = (42, 5, 17, 23)  # kept on the strip; the first is on the stage
VIEW = "azimuth_deg=40&elevation_deg=25"


def main() -> None:
    """Draws both."""
    model = str(ROOT / "demo" / "chairs")
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        with serving(model, {}) as address:
            picture(browser, address.partition("/v1/")[0], "page.png", {"width": 1000, "height": 690}, "light")
        static_page.write(model, f"{scratch}/page", base.get_config().export)
        with published(Path(scratch, "page")) as address:
            picture(browser, address, "page_phone.png", {"width": 390, "height": 844}, "dark")


def picture(browser: Any, address: str, name: str, size: dict[str, int], scheme: str) -> None:
    """A screenshot of a window, some objects kept."""
    page = browser.new_page(viewport=size, color_scheme=scheme, reduced_motion="reduce")
    for seed in (*reversed(SEEDS), SEEDS[0]):
        page.goto(f"{address}/#seed={seed}&{VIEW}")
        shown(page, seed)
        if page.get_by_role("button", name=f"Drop Object {seed}", exact=True).count() == 0:
            page.get_by_role("button", name="Keep", exact=True).click()
    page.wait_for_timeout(1000)  # what the status line says of the object
    page.screenshot(path=IMAGES / name)
    page.close()


def shown(page: Any, seed: int) -> None:
    """Waits for an object."""
    while page.evaluate("window.holotf?.shown.at(-1)?.object") != f"seed={seed}":
        page.wait_for_timeout(20)


if __name__ == "__main__":
    main()
