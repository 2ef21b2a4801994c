"""One's own picture in the page: is the object found again, and the side from which it was seen?

    python -m benchmarks.photos --data data/blocks32
    python -m benchmarks.photos --data data/blocks32 --model runs/hologan_blocks/saved_model --count 24

Test images, of objects the model has not seen, are given to the page in Chromium, headless, as a visitor would. One sense
and one zero of the azimuth are fitted to all of them together, since a model has its own. It asks for pip install
'holotf[serve]', playwright and chromium.
"""

import io
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow_datasets as tfds
from PIL import Image

from benchmarks import measure
from benchmarks.page import check, chromium
from benchmarks.serving import serving
from holotf.evaluators import regressor
from holotf.evaluators.angles import fitted

POSE = ("azimuth_deg", "elevation_deg")


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, required=True, help="images with poses, of the model's size, that data_prep wrote")
    parser.add_argument("--model", default="demo/chairs", help="an export of a model that turns (default demo/chairs)")
    parser.add_argument("--count", type=int, default=48, help="of test images (default 48)")
    args = parser.parse_args()
    builder = tfds.builder_from_directory(str(args.data))
    images, *truth = regressor.labelled(builder, "test", *POSE, count=args.count)
    with serving(args.model, {}) as address, chromium() as browser:
        page = browser.new_page()
        page.goto(address.partition("/v1/")[0])
        page.locator("#photo").wait_for()  # it can be pressed: the page listens
        found = [sought(page, image) for image in images]
    rows = [row(found, *truth)]
    measure.report("photos", rows, list(rows[0]), args.out, model=args.model, data=str(args.data), found=found)


def sought(page: Any, image: np.ndarray) -> dict[str, float]:
    """What the page finds of an image, uint8 [H, W, 3]: `azimuth_deg`, `elevation_deg`, `rmse` of 255, and `seconds` until then."""
    file = io.BytesIO()
    Image.fromarray(image).save(file, "png")
    page.locator("#alike").evaluate("element => { element.textContent = '' }")
    begun = time.perf_counter()
    page.set_input_files("#file", {"name": "photo.png", "mimeType": "image/png", "buffer": file.getvalue()})
    while not (said := page.locator("#alike").text_content()):
        check(page, begun)
        page.wait_for_timeout(10)
    seconds = time.perf_counter() - begun
    told = {name: float(page.locator(f"#{name}").input_value()) for name in POSE}
    return told | {"rmse": float(said.split()[-3]), "seconds": seconds}


def row(found: list[dict[str, float]], azimuth_deg: np.ndarray, elevation_deg: np.ndarray) -> dict[str, str | int]:
    """The table's line: of what was found [n], beside the truth [n]."""
    read = np.array([one["azimuth_deg"] for one in found], np.float64)
    errors = fitted(read, azimuth_deg).error_deg(read, azimuth_deg)
    return {
        "photos": len(found),
        "azimuth, mean": f"{errors.mean():.1f}",
        "median": f"{np.median(errors):.1f}",
        "off by over 90": int(np.sum(errors > 90)),
        "elevation, mean": f"{np.mean(np.abs([one['elevation_deg'] for one in found] - elevation_deg)):.1f}",
        "pixels of 255": f"{np.mean([one['rmse'] for one in found]):.1f}",
        "seconds": f"{statistics.median(one['seconds'] for one in found):.1f}",
    }


if __name__ == "__main__":
    main()
