"""Thumbnails of a page."""

from __future__ import annotations

import base64

import cv2
import numpy as np

from vladkit.viz.report.thumbnails import thumbnails


class TestThumbnails:
    def test_two_names_of_one_file_share_one(self, home, tmp_path):
        link = tmp_path / "link.jpg"
        link.symlink_to(home / "wrong.jpg")
        seen = []
        made = thumbnails(
            {str(link): 50, str(home / "wrong.jpg"): 80, "no": 9},
            progress=lambda done, total: seen.append((done, total)),
        )
        a, b, gone = made.values()
        assert a is b
        assert seen == [(1, 2), (2, 2)]
        assert (gone.data, gone.reason) == ("", "no such file or directory")
        data = np.frombuffer(base64.b64decode(a.data.split(",")[1]), np.uint8)
        assert max(cv2.imdecode(data, cv2.IMREAD_COLOR).shape) == 80
