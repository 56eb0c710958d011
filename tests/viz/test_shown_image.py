"""Names of files as text in figures."""

from __future__ import annotations

import os

import cv2
import pytest

from figures import GRAY, nothing, pixels
from vladkit.collection.ranked import Hit
from vladkit.viz import draw_matches, draw_ranking
from vladkit.viz.shown_image import printable, shorten

NAMES = ["$x_1$ and $.png", "b\udcff\udc80.png", "a\nb.png", "%d {} _ ^.png", "x" * 200 + ".png"]


@pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))
def test_any_file_name_is_drawn_as_it_is(name, tmp_path):
    path = os.path.join(tmp_path, name)
    with open(path, "wb") as file:
        file.write(cv2.imencode(".png", GRAY)[1].tobytes())
    one = draw_matches(path, path, nothing())
    two = draw_ranking(path, [Hit(1, 0.5, 0.5, path=name, file=path)])
    for figure in (one, two):
        pixels(figure)
        text = " ".join(t.get_text() for ax in figure.axes for t in ax.texts)
        assert printable(name)[:4] in text
        assert "\n" not in text
        assert not any(t.get_parse_math() or t.get_usetex() for ax in figure.axes for t in ax.texts)


def test_printable():
    assert printable("1.00\u202fPM\n\udcff\x07 日本.jpg") == "1.00 PM \ufffd\ufffd 日本.jpg"


def test_shorten():
    assert shorten("abcdefgh.jpg", 12) == "abcdefgh.jpg"
    assert shorten("abcdefghi.jpg", 12) == "abcdef\u2026i.jpg"
    assert shorten("abcdefghi.jpg", -3) == "ab\u2026pg"
