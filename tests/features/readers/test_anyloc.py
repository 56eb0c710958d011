"""AnyLoc's centroids, without running the code of their file."""

from __future__ import annotations

import os

import numpy as np
import pytest

from vladkit import VLAD
from vladkit.errors import (
    FileFormatError,
    StorageError,
)
from vladkit.features.readers import read_anyloc_centroids


class TestAnyLoc:
    torch = pytest.importorskip("torch", reason="the test extra has it")

    def test_reads_a_tensor(self, tmp_path):
        centroid_kf = self.torch.randn(32, 64, generator=self.torch.Generator().manual_seed(0))
        self.torch.save(centroid_kf, tmp_path / "c_centers.pt")
        read_kf = read_anyloc_centroids(tmp_path / "c_centers.pt")
        np.testing.assert_array_equal(read_kf, centroid_kf.numpy())
        vlad = VLAD.from_centroids(read_kf, metric="cosine", norm="anyloc")
        image_lf = np.random.default_rng(0).normal(size=(100, 64)).astype(np.float32)
        # AnyLoc's VLAD.generate, hard assignment: unit descriptors, labels by cosine, intra, L2
        unit_lf = self.torch.nn.functional.normalize(self.torch.from_numpy(image_lf))
        unit_kf = self.torch.nn.functional.normalize(centroid_kf)
        label_l = (unit_lf @ unit_kf.T).argmax(dim=1)
        rows = [
            (unit_lf[label_l == i] - centroid_kf[i]).sum(dim=0) for i in range(len(centroid_kf))
        ]
        wanted_kf = self.torch.nn.functional.normalize(self.torch.stack(rows))
        wanted_D = self.torch.nn.functional.normalize(wanted_kf.ravel(), dim=0)
        np.testing.assert_allclose(vlad.transform([image_lf])[0], wanted_D.numpy(), atol=1e-5)

    def test_code_is_not_run(self, tmp_path):
        class Evil:
            def __reduce__(self):
                return os.mkdir, (str(tmp_path / "pwned"),)

        self.torch.save(Evil(), tmp_path / "c.pt")
        with pytest.raises(FileFormatError, match="it is not loaded"):
            read_anyloc_centroids(tmp_path / "c.pt")
        assert not (tmp_path / "pwned").exists()

    def test_other_files(self, tmp_path):
        (tmp_path / "text.pt").write_text("text")
        self.torch.save(self.torch.ones(3), tmp_path / "flat.pt")
        self.torch.save({"a": 1}, tmp_path / "dict.pt")
        for name in ("text", "flat", "dict"):
            with pytest.raises(FileFormatError):
                read_anyloc_centroids(tmp_path / f"{name}.pt")
        with pytest.raises(StorageError):
            read_anyloc_centroids(tmp_path / "none.pt")
        self.torch.save({"c": self.torch.ones(2, 3)}, tmp_path / "one.pt")
        assert read_anyloc_centroids(tmp_path / "one.pt").shape == (2, 3)
