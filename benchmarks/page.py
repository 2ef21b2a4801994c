"""The page in a browser, with a server and without: until it shows an object, and how it follows a hand that drags.

    python -m benchmarks.page
    python -m benchmarks.page --model runs/mine/saved_model --seconds 20

Debian's Chromium, headless, on the same machine as the server. "shell" is the browser's first contentful paint, "object" the time
from the address to the first object on the canvas, medians of visits with an empty cache. The hand goes left and right over views
that nobody has seen yet, a move each 16 ms, or as often as the browser takes them ("moves/s"). "views/s" are the different ones
that were shown; the latency is from a move to the canvas that shows it. It asks for pip install 'holotf[serve,web]', playwright
and chromium.
"""

import contextlib
import itertools
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks import measure
from benchmarks.serving import serving
from configs import base
from holotf import static_page

MOVE_S = 0.016
PATIENCE_S = 120.0  # for what the page is to show
SWEEP = 60  # moves, each to the next view of the page's grid
PIXELS = {"azimuth": 4, "elevation": 2}  # of the hand, a view
COLUMNS = ["page", "shell ms", "object ms", "moves/s", "views/s", "p50 ms", "p95 ms", "MB"]


def main() -> None:
    """Runs the benchmark."""
    parser = measure.parser(__doc__.partition("\n")[0])
    parser.add_argument("--model", default="demo/chairs", help="an export of a model that turns (default demo/chairs)")
    parser.add_argument("--seconds", type=float, default=10.0, help="for which the hand drags (default 10)")
    parser.add_argument("--visits", type=int, default=5, help="of which the medians are taken (default 5)")
    args = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as scratch, chromium() as browser:
        folder = Path(scratch, "page")
        static_page.write(args.model, str(folder), base.get_config().export)
        megabytes = sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) / 1e6
        with serving(args.model, {}) as address:
            rows.append({"page": "with the server", **seen(browser, address.partition("/v1/")[0], args), "MB": ""})
        with published(folder) as address:
            rows.append({"page": "static", **seen(browser, address, args), "MB": f"{megabytes:.1f}"})
        version = browser.version
    measure.report("page", rows, COLUMNS, args.out, model=args.model, chromium=version, seconds=args.seconds)


@contextlib.contextmanager
def chromium() -> Iterator[Any]:
    """Debian's Chromium, headless: Playwright's `Browser`.

    Raises:
      SystemExit: Playwright, or Chromium, is not installed.
    """
    try:
        from playwright import sync_api
    except ModuleNotFoundError:
        raise SystemExit("error: playwright is not installed: pip install 'holotf[test]'") from None
    path = shutil.which("chromium")
    if path is None:
        raise SystemExit("error: there is no chromium: apt install chromium")
    with sync_api.sync_playwright() as started, started.chromium.launch(executable_path=path) as browser:
        yield browser


@contextlib.contextmanager
def published(folder: Path) -> Iterator[str]:
    """The address of a folder, by Python's http.server in a process of its own."""
    command = [sys.executable, "-u", "-m", "http.server", "--bind", "127.0.0.1", "-d", str(folder), "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as server:
        try:
            port = re.search(r"port (\d+)", server.stdout.readline())
            yield f"http://127.0.0.1:{port[1]}"
        finally:
            server.terminate()


def seen(browser: Any, address: str, args: Any) -> dict[str, str]:
    """The columns of one page.

    Args:
      browser: of Playwright.
      address: of the page.
      args: with `visits` and `seconds`.
    """
    visits = [visit(browser, address, args.seconds if last else 0.0) for last in [False] * (args.visits - 1) + [True]]
    told = {f"{name} ms": f"{statistics.median(v[name] for v in visits):.0f}" for name in ("shell", "object")}
    latencies = visits[-1]["latencies"]
    p50, p95 = (statistics.quantiles(latencies, n=100, method="inclusive")[p - 1] for p in (50, 95))
    rates = {f"{name}/s": f"{visits[-1][name] / visits[-1]['seconds']:.0f}" for name in ("moves", "views")}
    return {**told, **rates, "p50 ms": f"{p50:.0f}", "p95 ms": f"{p95:.0f}"}


def check(page: Any, begun: float) -> None:
    """Ends the benchmark where the page says that something is wrong, or has not come so long after `time.perf_counter()` was so.

    Raises:
      SystemExit: so.
    """
    said = page.evaluate("document.querySelector('#status.trouble')?.textContent ?? ''")
    if said or time.perf_counter() - begun > PATIENCE_S:
        raise SystemExit(f"error: the page says {said!r}, and shows nothing")


def visit(browser: Any, address: str, seconds: float) -> dict[str, Any]:
    """One visit with an empty cache, and so many seconds of dragging.

    Returns:
      {"shell", "object": ms}, and where it dragged "moves", "views" (different ones shown), "seconds" and "latencies" (ms).
    """
    context = browser.new_context(reduced_motion="reduce")
    page = context.new_page()
    page.goto(f"{address}/#seed=5&azimuth_deg=0&elevation_deg=16")
    begun = time.perf_counter()
    while not (shown := page.evaluate("window.holotf?.shown.length ? performance.now() : 0")):
        check(page, begun)
        page.wait_for_timeout(1)
    shell = page.evaluate("performance.getEntriesByName('first-contentful-paint')[0]?.startTime ?? NaN")
    told = {"shell": shell, "object": shown}
    if seconds:
        told |= _dragged(page, seconds)
    context.close()
    return told


def _dragged(page, seconds):
    box = page.locator("canvas").bounding_box()
    x, y = box["x"] + box["width"] / 2 - SWEEP / 2 * PIXELS["azimuth"], box["y"] + 20
    page.mouse.move(x, y)
    page.mouse.down()
    page.evaluate("window.holotf.shown.splice(0)")
    start, frames, way, moves = time.perf_counter(), [], 1, 0
    while time.perf_counter() - start < seconds:
        y += PIXELS["elevation"]
        for _ in range(SWEEP):
            x += way * PIXELS["azimuth"]
            moved = time.perf_counter()
            page.mouse.move(x, y)
            page.wait_for_timeout(max(0.0, 1e3 * (MOVE_S - (time.perf_counter() - moved))))
        way, moves = -way, moves + SWEEP
        frames += page.evaluate("window.holotf.shown.splice(0)")
    spent = time.perf_counter() - start
    page.mouse.up()
    views = [(frame["azimuth_deg"], frame["elevation_deg"]) for frame in frames]
    changes = 1 + sum(a != b for a, b in itertools.pairwise(views))
    return {"moves": moves, "views": changes, "seconds": spent, "latencies": [frame["latency_ms"] for frame in frames]}


if __name__ == "__main__":
    main()
