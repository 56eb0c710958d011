"""The images of docs/how-to/serve.md: the page of `vladkit serve`, in Chromium without a window.

    python examples/screenshots.py FOLDER

The photographs are those of demo.py, with some copies that were darkened, cut and shrunk; the query
is one of them, cut and rotated. Needs playwright and a Chromium of the system.
"""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import numpy as np
from demo import NAMES, queries, read
from playwright.sync_api import Page, sync_playwright

WIDTH, HEIGHT = 1400, 920
COPIED = ["astronaut", "coffee", "chelsea", "rocket", "coins"]


def write_photos(folder: Path) -> None:
    folder.mkdir()
    for name in NAMES:
        cv2.imwrite(str(folder / f"{name}.jpg"), read(name))
    for name in COPIED:
        image = read(name)
        h, w = image.shape[:2]
        half = cv2.resize(image, (w // 2, h // 2), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / f"{name}, half.jpg"), half)
        cv2.imwrite(str(folder / f"{name}, cut.jpg"), image[h // 5 :, : w - w // 4])
        cv2.imwrite(str(folder / f"{name}, dark.jpg"), (image * 0.5).astype(np.uint8))


@contextmanager
def serving(collection: Path) -> Iterator[str]:
    """The address of the page."""
    command = [sys.executable, "-m", "vladkit", "serve", str(collection), "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            yield next(found[0] for line in server.stdout if (found := re.search(r"http\S+", line)))
        finally:
            server.terminate()


def take(page: Page, address: str, query: Path, folder: Path) -> None:
    def shot(name: str) -> None:
        page.wait_for_load_state("networkidle")
        page.mouse.move(0, 0)
        page.wait_for_timeout(400)  # cards have moved, focus is drawn
        page.screenshot(path=folder / f"page-{name}.jpg", type="jpeg", quality=72)
        print(folder / f"page-{name}.jpg")

    page.goto(address)
    page.set_input_files("#file", query)
    page.locator("#activity[data-state=done]").wait_for()
    shot("gallery")
    page.locator("#results .card-image[href]").first.click()
    page.locator("#overlay line").first.wait_for(state="attached")
    shot("compare")


def main(folder: Path) -> int:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        raise SystemExit("there is no Chromium on this machine")
    with tempfile.TemporaryDirectory() as temporary, sync_playwright() as playwright:
        home = Path(temporary)
        write_photos(home / "photos")
        index = ["index", str(home / "photos"), "-o", str(home / "photos.vlad")]
        subprocess.run([sys.executable, "-m", "vladkit", *index], check=True, capture_output=True)
        query = home / "astronaut, rotated.jpg"
        cv2.imwrite(str(query), next(iter(queries().values()))[0])
        browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        with serving(home / "photos.vlad") as address:
            take(page, address, query, folder)
        browser.close()
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "docs/images")))
