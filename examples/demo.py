"""The main job, end to end: a folder of photographs becomes one file that an image searches.

    python examples/demo.py FOLDER

The photographs are those that scikit-image ships. The queries are what happens to images:
cropped, rotated, darkened, shrunk, stretched, and compressed hard; and one that is not there.
Everything is done by the command, as you would; at the end FOLDER/result.png shows it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
import skimage

SHIPPED = Path(skimage.__file__).parent / "data"
# All in the public domain or CC0, says their documentation.
NAMES = ["astronaut", "brick", "camera", "chelsea", "coffee", "coins", "grass", "gravel"]
NAMES += ["hubble_deep_field", "moon", "rocket"]


def read(name: str) -> np.ndarray:
    image = cv2.imread(str(next(SHIPPED.glob(f"{name}.*"))))
    if image is None:
        raise SystemExit(f"scikit-image ships no {name}")
    return image


def queries() -> dict[str, tuple[np.ndarray, str | None]]:
    """Name of a query -> its pixels, and the photograph that should come first, if one should."""
    astronaut, coffee, rocket, cat = map(read, ("astronaut", "coffee", "rocket", "chelsea"))
    turn = cv2.getRotationMatrix2D((256, 256), 20, 1.0)
    return {
        "astronaut, cropped and rotated by 20 degrees": (
            cv2.warpAffine(astronaut, turn, (512, 512))[100:420, 80:420],
            "astronaut.jpg",
        ),
        "coffee, dark and shrunk to 240 px": (
            cv2.resize((coffee * 0.4).astype(np.uint8), (240, 160), interpolation=cv2.INTER_AREA),
            "coffee.jpg",
        ),
        "rocket, the right half, on its side": (
            cv2.rotate(rocket[:, 260:], cv2.ROTATE_90_CLOCKWISE),
            "rocket.jpg",
        ),
        "cat, a third of the image, stretched": (
            cv2.resize(cat[20:220, 90:300], (400, 300), interpolation=cv2.INTER_CUBIC),
            "chelsea.jpg",
        ),
        "retina of an eye, which was not indexed": (read("retina"), None),
    }


def vladkit(*arguments: object) -> str:
    command = [sys.executable, "-m", "vladkit", *map(str, arguments)]
    print("$ vladkit", *arguments, flush=True)
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


def panel(image: np.ndarray, title: str, colour: tuple[int, int, int]) -> np.ndarray:
    """An image of 220 x 190 px with a frame and a line of text below."""
    height, width = image.shape[:2]
    scale = min(204 / width, 150 / height)
    small = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    out = np.full((190, 220, 3), 255, np.uint8)
    y, x = 8 + (150 - small.shape[0]) // 2, (220 - small.shape[1]) // 2
    out[y : y + small.shape[0], x : x + small.shape[1]] = small
    corner, opposite = (x - 3, y - 3), (x + small.shape[1] + 2, y + small.shape[0] + 2)
    cv2.rectangle(out, corner, opposite, colour, 2)
    cv2.putText(out, title, (8, 182), cv2.FONT_HERSHEY_SIMPLEX, 0.42, (60, 60, 60), 1, cv2.LINE_AA)
    return out


def main(folder: Path) -> int:
    photos, asked = folder / "photos", folder / "queries"
    photos.mkdir(parents=True, exist_ok=True)
    asked.mkdir(exist_ok=True)
    for name in NAMES:
        if not (photos / f"{name}.jpg").exists():
            cv2.imwrite(str(photos / f"{name}.jpg"), read(name))
    print(f"{len(NAMES)} photographs are in {photos}\n")

    collection = folder / "photos.vlad"
    vladkit("index", photos, "-o", collection)
    print()
    rows, right = [], 0
    for i, (title, (image, wanted)) in enumerate(queries().items(), start=1):
        query = asked / f"{i}.jpg"
        cv2.imwrite(str(query), image, [cv2.IMWRITE_JPEG_QUALITY, 40])
        answer = json.loads(vladkit("search", collection, query, "--top", 3, "--json"))
        hits = answer["results"]
        first = hits[0]["path"] if answer["verified"] else None
        right += first == wanted
        print(f"  {title}:")
        for hit in hits:
            verified = "verified" if hit["verified"] else ""
            print(f"    {hit['inliers']:4} matches  {verified:8}  {hit['path']}")
        verdict = "the right one comes first" if wanted else "probably not in there"
        print(f"  {verdict if first == wanted else f'WRONG: wanted {wanted}'}\n")
        row = [panel(image, f"query {i}", (160, 160, 160))]
        for hit in hits:
            good = hit["path"] == wanted
            text = f"{hit['inliers']} {hit['path'].removesuffix('.jpg')}"
            colour = (70, 160, 60) if good else (200, 200, 200)
            row.append(panel(cv2.imread(hit["file"]), text, colour))
        rows.append(np.hstack(row))
    cv2.imwrite(str(folder / "result.png"), np.vstack(rows))
    print(f"{right} of {len(rows)} right; {folder / 'result.png'} shows them")
    return 0 if right == len(rows) else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1] if len(sys.argv) > 1 else "demo")))
