"""The images of docs/how-to/looking.md, made from photographs that scikit-image ships.

``python examples/looking.py docs/images`` makes them again.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import cv2
import numpy as np
from demo import NAMES, read

from vladkit import Collection
from vladkit.viz import draw_matches, draw_ranking, draw_words
from vladkit.viz.figure_file import write_figure

DPI = 85
"""850 px across, as wide as a page shows; each file stays under 150 kB."""


def make_photographs(folder: Path) -> None:
    """The photographs, and two of them altered: as seen from the side, and closer."""
    folder.mkdir()
    for name in NAMES:
        cv2.imwrite(str(folder / f"{name}.jpg"), read(name))
    coffee, rocket = read("coffee"), read("rocket")
    from_the_side = np.array([[0.8, -0.25, 100], [0.15, 0.75, 5], [2e-4, -1e-4, 1]])
    side = cv2.warpPerspective(coffee, from_the_side, (520, 360), borderValue=(60, 70, 90))
    cv2.imwrite(str(folder / "coffee, from the side.jpg"), side)
    cv2.imwrite(str(folder / "rocket, closer.jpg"), rocket[40:360, 200:460])


def main(target: Path) -> None:
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        photos, query = home / "photos", home / "query.jpg"
        make_photographs(photos)
        cv2.imwrite(str(query), read("coffee")[60:380, 90:560])
        with Collection.create(home / "photos.vlad") as collection:
            collection.add([photos])
            hits = collection.search(query, top=5, rerank=5)
            matches = draw_matches(query, hits[1].file, hits[1].verification, max_lines=100)
            right = {"coffee.jpg", "coffee, from the side.jpg"}
            ranking = draw_ranking(query, hits, relevant=right)
            features, label_l = collection.words(query)
            frequent = np.bincount(label_l).argsort()[::-1][:6]
            words = draw_words(query, features, label_l, words=frequent.tolist())
    for name, figure in {"matches": matches, "ranking": ranking, "words": words}.items():
        write_figure(figure, target / f"{name}.jpg", dpi=DPI)
        print(target / f"{name}.jpg", (target / f"{name}.jpg").stat().st_size)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
