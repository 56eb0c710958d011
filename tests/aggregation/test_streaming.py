"""Files mapped into memory: the same results, whatever is in memory, and little of it is."""

from __future__ import annotations

import itertools
import mmap
import subprocess
import sys

import numpy as np
import pytest

import sources
from vladkit import VLAD, MultiVLAD, Ragged, encode
from vladkit.core.memmap import BLOCK_BYTES, is_mapped, release
from vladkit.errors import NonFiniteError, ParameterError
from vladkit.features.readers import map_vecs


@pytest.fixture
def batch():
    """100 images of 0 to 60 descriptors, of 24 dimensions."""
    rng = np.random.default_rng(0)
    start_T = np.concatenate([[0], np.cumsum(rng.integers(0, 60, 100))])
    return rng.normal(size=(start_T[-1], 24)).astype(np.float32), start_T


@pytest.fixture
def small_blocks(monkeypatch):
    """Blocks of 4 kB instead of 64 MB, so that small batches have many."""
    monkeypatch.setattr("vladkit.aggregation.encode.BLOCK_BYTES", 2**12)
    blocks = Ragged.blocks
    monkeypatch.setattr(Ragged, "blocks", lambda self, most=2**12: blocks(self, min(most, 2**12)))


class TestMapped:
    def test_which_arrays_are(self, tmp_path):
        np.save(tmp_path / "a.npy", np.arange(40.0).reshape(10, 4))
        sources.write_vecs(tmp_path / "a.fvecs", np.ones((10, 4), "<f4"))
        for mode in ("r", "r+"):
            mapped = np.load(tmp_path / "a.npy", mmap_mode=mode)
            for view in (mapped, mapped[2:5], np.asarray(mapped), mapped.T, mapped.view("i8")):
                assert is_mapped(view)
            assert not is_mapped(mapped.copy())
            assert not is_mapped(mapped + 1)
        assert is_mapped(map_vecs(tmp_path / "a.fvecs"))
        assert not is_mapped(np.load(tmp_path / "a.npy"))
        assert not is_mapped(np.frombuffer(mmap.mmap(-1, 64)))

    def test_what_was_changed_in_memory_alone_stays(self, tmp_path):
        np.save(tmp_path / "a.npy", np.zeros((10, 4)))
        private = np.load(tmp_path / "a.npy", mmap_mode="c")
        private[3] = 7
        assert not is_mapped(private[2:])
        release(private)
        assert private[3].tolist() == [7] * 4
        shared = np.load(tmp_path / "a.npy", mmap_mode="r+")
        shared[3] = 8
        release(shared)
        assert shared[3].tolist() == [8] * 4


def mapped_batch(local_Nf, start_T, folder):
    np.save(folder / "a.npy", local_Nf)
    return Ragged(np.load(folder / "a.npy", mmap_mode="r"), start_T)


@pytest.mark.usefixtures("small_blocks")
class TestInBlocks:
    @pytest.mark.parametrize(
        "options",
        [
            {},
            {"method": "fused"},
            {"method": "reduceat"},
            {"method": "loop"},
            {"assign": "soft", "alpha": 2.0},
            {"residual": "unit"},
            {"metric": "cosine"},
            {"rotation": "cell"},
        ],
        ids=str,
    )
    @pytest.mark.parametrize("dtype", ["f4", "f8", "u1"])
    def test_the_same_as_in_memory(self, batch, tmp_path, options, dtype):
        local_Nf, start_T = batch
        local_Nf = np.abs(40 * local_Nf).astype(dtype)
        mapped = mapped_batch(local_Nf, start_T, tmp_path)
        assert mapped.is_mapped()
        wanted = VLAD(8, **options).fit(Ragged(local_Nf, start_T))
        made = VLAD(8, **options).fit(mapped)
        np.testing.assert_array_equal(made.centroids_, wanted.centroids_)
        wanted_tD = wanted.transform([local_Nf[a:b] for a, b in itertools.pairwise(start_T)])
        np.testing.assert_allclose(made.transform(mapped), wanted_tD, atol=1e-5)

    def test_blocks_cover_all_in_order(self, batch, tmp_path):
        for made in (
            mapped_batch(*batch, tmp_path),
            Ragged(*batch),
            Ragged.from_list([batch[0][a:b] for a, b in zip(batch[1], batch[1][1:], strict=False)]),
        ):
            parts = list(made.blocks())
            assert len(parts) > 20
            assert [begin for begin, _ in parts] == np.cumsum(
                [0, *(len(some) for _, some in parts)]
            )[:-1].tolist()
            together = np.concatenate([some.floats(0, len(some)) for _, some in parts])
            np.testing.assert_array_equal(together, batch[0])

    def test_a_bad_descriptor_is_named_in_the_whole(self, batch, tmp_path):
        local_Nf, start_T = batch
        i = int(np.flatnonzero(np.diff(start_T) > 5)[-1])
        local_Nf[start_T[i] + 2, 7] = np.nan
        mapped = mapped_batch(local_Nf, start_T, tmp_path)
        for method in ("fused", "reduceat", "auto"):
            with pytest.raises(NonFiniteError, match=f"descriptor 2 of image {i} holds nan"):
                encode(mapped, local_Nf[:4], method=method)
        with pytest.raises(NonFiniteError, match=f"descriptor 2 of image {i} "):
            VLAD(4).fit(mapped)


WORK = """
import sys
import numpy as np
from vladkit import VLAD, Ragged

def peak():
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) for line in file if line.startswith("VmHWM")) / 1024

local_Nf = np.load(sys.argv[1], mmap_mode="r")
start_T = np.arange(0, len(local_Nf) + 1, 1000)
few = Ragged(local_Nf[:40_000], start_T[:41])
VLAD(16, method=sys.argv[2]).fit(few).transform(few)  # libraries and compiled code
before = peak()
batch = Ragged(local_Nf, start_T)
VLAD(16, method=sys.argv[2]).fit(batch).transform(batch)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="needs Linux's peak of resident memory")
@pytest.mark.parametrize("method", [pytest.param("auto", marks=pytest.mark.slow), "fused"])
def test_a_large_file_is_not_held_in_memory(tmp_path, method):
    n = 700_000
    target_Nf = np.lib.format.open_memmap(tmp_path / "a.npy", "w+", np.float32, (n, 128))
    rng = np.random.default_rng(0)
    for begin in range(0, n, 50_000):
        target_Nf[begin : begin + 50_000] = rng.random((50_000, 128), np.float32)
    target_Nf.flush()
    assert target_Nf.nbytes > 5 * BLOCK_BYTES
    command = [sys.executable, "-c", WORK, str(tmp_path / "a.npy"), method]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    extra_mb = float(done.stdout)
    assert extra_mb < 200, f"{extra_mb:.0f} MB more, for a file of {target_Nf.nbytes / 2**20:.0f}"


class TestTensors:
    torch = pytest.importorskip("torch", reason="the test extra has it")

    @pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16", "uint8"])
    @pytest.mark.parametrize("grad", [False, True])
    def test_patch_features_of_a_network(self, dtype, grad):
        """(t, l, f), as DINO gives them."""
        torch = self.torch
        if grad and dtype == "uint8":
            pytest.skip("no gradient of integers")
        tensor = (50 * torch.rand(6, 40, 16, generator=torch.Generator().manual_seed(0))).to(
            getattr(torch, dtype)
        )
        array = tensor.float().numpy()
        tensor = (1 * tensor).requires_grad_(grad)
        for kind in (VLAD(8), VLAD.preset("anyloc", n_clusters=8), MultiVLAD(VLAD(4))):
            wanted = kind.fit(array).transform(array)
            made = kind.fit(tensor).transform(tensor)
            assert isinstance(made, np.ndarray)
            np.testing.assert_allclose(made, wanted, atol=2e-3)
            ragged = [tensor[0], tensor[1, :7], tensor[2, :0]]
            rows = kind.transform(ragged)
            np.testing.assert_allclose(rows[0], made[0], atol=1e-6)
            assert not rows[2].any()

    def test_other_devices_and_mixtures(self):
        torch = self.torch
        tensor = torch.ones(2, 3, 4, device="meta")
        with pytest.raises(ParameterError, match=r"tensor\.cpu\(\)"):
            VLAD(2).fit(tensor)
        with pytest.raises(ValueError, match="mixes"):
            VLAD(2).fit([torch.ones(3, 4), np.ones((3, 4))])
