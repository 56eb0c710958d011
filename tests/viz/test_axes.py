"""Figures for notebooks: nothing else is touched."""

from __future__ import annotations

import os
import subprocess
import sys

import matplotlib
import numpy as np
import pytest

from figures import GRAY, nothing, pixels, some_features
from photos import photo
from vladkit.errors import MissingDependencyError
from vladkit.viz import draw_matches, draw_ranking, draw_words


def test_no_setting_no_backend_no_pyplot():
    code = (
        "import sys, numpy as np, matplotlib\n"
        "before = matplotlib.rcParams.copy()\n"  # dict() would choose a backend
        "import vladkit.viz as p\n"
        "from figures import GRAY, found, some_features\n"
        "from vladkit.collection.ranked import Hit\n"
        "figures = [p.draw_matches(GRAY, GRAY, found([[9, 9]])),\n"
        "  p.draw_ranking(GRAY, [Hit(1, 1, 1, path='a', file='a')], relevant=['a']),\n"
        "  p.draw_words(GRAY, some_features(5), range(5))]\n"
        "assert all(f._repr_png_()[:4] == b'\\x89PNG' for f in figures)\n"
        "print(dict.__eq__(before, matplotlib.rcParams), 'matplotlib.pyplot' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True,
        cwd=os.path.dirname(__file__),
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )  # fmt: skip
    assert done.stdout.split() == ["True", "False"]


def test_importing_it_imports_no_matplotlib():
    heavy = ["matplotlib", "cv2", "faiss", "numba", "scipy"]
    code = f"import vladkit.viz, sys; print([n for n in {heavy} if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize(
    "settings",
    [{"axes.grid": True, "image.origin": "lower", "image.aspect": "auto", "font.size": 20},
     {"image.interpolation": "none", "lines.marker": "x", "axes.facecolor": "black"}],
)  # fmt: skip
def test_settings_of_the_user_move_nothing(settings):
    moon = photo("moon")
    plain, _ = pixels(draw_matches(moon, GRAY, nothing()))
    with matplotlib.rc_context(settings):
        other, _ = pixels(draw_matches(moon, GRAY, nothing()))
    np.testing.assert_array_equal(plain, other)


def test_without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    calls = [
        lambda: draw_matches(GRAY, GRAY, nothing()),
        lambda: draw_ranking(GRAY, []),
        lambda: draw_words(GRAY, some_features(1), [0]),
    ]
    for call in calls:
        with pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[plot\]'"):
            call()
