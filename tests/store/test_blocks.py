"""Blocks of vectors, whatever is put, skipped, deleted and packed."""

from __future__ import annotations

import shutil
from contextlib import suppress

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from vladkit.store import blocks
from vladkit.store.blocks import Layout
from vladkit.store.rows import ImageRow, Record
from vladkit.store.store import Store

D = 3
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "skip", "delete", "pack"]), st.integers(0, 9)), max_size=30
)


class TestBlocks:
    @settings(
        max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
    )
    @given(STEPS, st.integers(1, 4))
    def test_any_changes_leave_what_a_dictionary_would(self, tmp_path_factory, steps, capacity):
        path = tmp_path_factory.mktemp("blocks") / "c"
        wanted = {}
        with (
            pytest.MonkeyPatch.context() as patch,
            Store.create(path) as store,
        ):
            patch.setattr(blocks, "BLOCK_BYTES", capacity * D * 4)
            store.layout = blocks.Layout(np.dtype("f4"), D)
            with store.writing():
                source = store.add_source(str(path.parent), "x").source_id
            for i, (step, name) in enumerate(steps):
                row = ImageRow(source, str(name), i, i)
                with store.writing():
                    if step == "put":
                        wanted[str(name)] = np.arange(D, dtype="f4") + i
                        store.put([Record(row, wanted[str(name)])])
                    elif step == "skip":
                        wanted.pop(str(name), None)
                        store.put([Record(row)])
                    elif step == "delete":
                        wanted.pop(str(name), None)
                        ids = [r.image_id for r in store.images() if r.path == str(name)]
                        store.delete(ids)
                    else:
                        store.blocks.pack(store.layout)
                        held = [len(ids) for ids, _ in store.vector_blocks()]
                        assert all(n == capacity for n in held[:-1])
            names = {row.image_id: row.path for row in store.images()}
            found = {}
            for ids, vector_nD in store.vector_blocks():
                assert 0 < len(ids) <= capacity
                for i, vector_D in zip(ids.tolist(), vector_nD, strict=True):
                    assert names[i] not in found
                    found[names[i]] = vector_D.tolist()
            assert found == {name: vector_D.tolist() for name, vector_D in wanted.items()}
            some = store.vectors(list(names))
            assert {names[i]: v.tolist() for i, v in some.items()} == found

    def test_revision_changes_with_vectors_alone(self, tmp_path):
        def revision():
            return store.about()["revision"]

        with Store.create(tmp_path / "c") as store:
            with store.writing():
                source = store.add_source("/x", "x").source_id
                store.put([Record(ImageRow(source, "bad", 0, 0, skipped="blank"))])
            assert revision() == 0
            with store.writing():
                store.put([Record(ImageRow(source, "a", 0, 0), np.ones(D, "f4"))])
            first = revision()
            assert first > 0
            with suppress(ZeroDivisionError), store.writing():
                store.put([Record(ImageRow(source, "b", 0, 0), np.ones(D, "f4"))])
                _ = 1 / 0
            assert revision() == first
            assert store.count() == (1, 1)
            with store.writing():
                store.delete([r.image_id for r in store.images() if r.path == "a"])
            assert revision() not in (0, first)

    def test_no_image_gets_the_id_of_one_that_was_removed(self, tmp_path):
        """Tables of others may refer to ids."""
        with Store.create(tmp_path / "c") as store:
            with store.writing():
                source = store.add_source("/x", "x").source_id

            def put(*names):
                with store.writing():
                    vector_D = np.ones(D, "f4")
                    return store.put([Record(ImageRow(source, n, 0, 0), vector_D) for n in names])

            a, b, c = put("a", "b", "c")
            with store.writing():
                store.delete([b, c])
            assert put("a", "d", "e") == [a, c + 1, c + 2]
            with store.writing():
                store.delete([c + 1])
            assert put("f") == [c + 3]
            with store.writing():
                store.delete([a, c + 2, c + 3])
        with Store.open(tmp_path / "c") as store:
            store.layout = Layout(np.dtype("f4"), D)
            with store.writing():
                source = store.add_source("/x", "x").source_id
            assert put("g") == [c + 4]

    def test_two_futures_of_one_file_have_two_stamps(self, tmp_path):
        """A copy is put back, and other images are added: no cache of the first is its own."""
        with Store.create(tmp_path / "a") as store, store.writing():
            source = store.add_source("/x", "x").source_id
        shutil.copy(tmp_path / "a", tmp_path / "b")
        stamps = set()
        for name in "ab":
            with Store.open(tmp_path / name) as store:
                store.layout = Layout(np.dtype("f4"), D)
                stamps.add(store.stamp())
                with store.writing():
                    store.put([Record(ImageRow(source, name, 0, 0), np.ones(D, "f4"))])
                stamps.add(store.stamp())
        assert len(stamps) == 3
