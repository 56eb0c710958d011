"""An HTML report about a collection: how good it is, and its worst queries first.

    python examples/report.py FOLDER [IMAGE.jpg]

The photographs are those that scikit-image ships; the queries are made from them, some so badly
treated that they are not found. With IMAGE.jpg the report is opened in a Chromium (by playwright)
and photographed: so docs/images/report.jpg was made.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from demo import NAMES, read

CHROMIUM = "/usr/bin/chromium"


def small(image: np.ndarray, width: int) -> np.ndarray:
    height = round(image.shape[0] * width / image.shape[1])
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def queries() -> dict[str, tuple[np.ndarray, list[str]]]:
    """Name of a query -> its pixels, and the photographs that are to be found."""
    found: dict[str, tuple[np.ndarray, list[str]]] = {}
    for name in NAMES:
        image = read(name)
        h, w = image.shape[:2]
        found[f"{name}, a part"] = (image[h // 4 : h, : w - w // 4], [name])
        found[f"{name}, dark and small"] = (small((image * 0.4).astype(np.uint8), 160), [name])
        found[f"{name}, blurred"] = (cv2.GaussianBlur(small(image, 200), (0, 0), 2.5), [name])
    found["coffee, stated to be the cat"] = (small(read("coffee"), 300), ["chelsea"])
    found["noise"] = (np.random.default_rng(0).integers(0, 256, (240, 320, 3), np.uint8), [])
    return found


def main(folder: Path, target: Path | None = None) -> None:
    photos, asked = folder / "photos", folder / "queries"
    photos.mkdir(parents=True, exist_ok=True)
    asked.mkdir(exist_ok=True)
    for name in NAMES:
        cv2.imwrite(str(photos / f"{name}.jpg"), read(name))
    truth = []
    for title, (image, names) in queries().items():
        cv2.imwrite(str(asked / f"{title}.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 60])
        relevant = [f"photos/{name}.jpg" for name in names]
        query = {"query": f"queries/{title}.jpg", "relevant": relevant}
        truth.append(query | ({} if names else {"unknown": True}))
    (folder / "truth.json").write_text(json.dumps({"queries": truth}, indent=1))
    for arguments in (
        ["index", "photos", "-o", "photos.vlad"],
        ["report", "photos.vlad", "truth.json", "-o", "report.html", "--top", "5"],
    ):
        print("$ vladkit", *arguments, flush=True)
        subprocess.run([sys.executable, "-m", "vladkit", *arguments], check=True, cwd=folder)
    if target is not None:
        photograph(folder / "report.html", target)


def photograph(report: Path, target: Path) -> None:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": 1120, "height": 1000}, color_scheme="light")
        view.goto(report.resolve().as_uri())
        figures = view.locator("#figures").bounding_box()
        worst = view.locator("#q2").bounding_box()
        assert figures is not None
        assert worst is not None
        height = worst["y"] + worst["height"] - figures["y"]
        clip = {"x": 0, "y": figures["y"], "width": 1120, "height": height}
        view.screenshot(path=target, type="jpeg", quality=60, full_page=True, clip=clip)
        browser.close()


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:] or ["demo"]))
