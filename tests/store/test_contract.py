"""One contract, two stores: whatever is done to either, it holds what a plain dict would."""

from __future__ import annotations

import shutil
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from vladkit import Codes
from vladkit.errors import StorageError
from vladkit.store.opening import check_store, create_store, open_store
from vladkit.store.rows import ImageRow, KeptFeatures, Record
from writing import LAYOUT

ROOTS = ("/nowhere/a", "/nowhere/b c")
PATHS = (
    "a.png",
    "a/b.png",
    "a/b/c%_.png",
    "a b/it's.png",
    "é.png",
    "a.b/c.png",
    "A.png",
    "ab.png",
    "a0",
)
FOLDERS = ("", "a", "a/b", "a b", "none")
PARTS = ("", "A", "b/", "%", "_", "'", "none")

place = st.tuples(st.sampled_from(ROOTS), st.sampled_from(PATHS))


@dataclass(frozen=True)
class Kept:
    """All that is known of one image."""

    n_bytes: int
    n_local: int | None = None
    skipped: str | None = None
    transient: bool = False
    vector: bytes | None = None
    features: bytes | None = None
    words: bytes | None = None
    lifted: bool = False


kept = st.builds(
    lambda seed, is_skipped, has_features, has_codes, lifted: Kept(
        n_bytes=seed,
        n_local=None if is_skipped else seed % 7,
        skipped="too small" if is_skipped else None,
        vector=None if is_skipped else vector_of(seed).tobytes(),
        features=features_of(seed).descriptor_lf.tobytes()
        if has_features and not is_skipped
        else None,
        words=codes_of(seed).word_N.tobytes() if has_codes and not is_skipped else None,
        lifted=lifted and not is_skipped,
    ),
    st.integers(1, 1000),
    st.sampled_from([False, False, False, True]),
    *[st.booleans()] * 3,
)


def vector_of(seed):
    vector_D = np.random.default_rng(seed).standard_normal(16)
    return (vector_D / np.linalg.norm(vector_D)).astype(np.float16)


def features_of(seed):
    return KeptFeatures(np.full((2, 4), seed, np.float32), np.ones((2, 5), np.float32), 9, 9)


def codes_of(seed):
    word_N = np.unique([seed % 5, seed % 11 + 5]).astype(np.int32)
    return Codes(
        np.array([0, len(word_N)]), word_N, np.zeros((len(word_N), 8), np.uint8), None
    )  # fmt: skip


def record_of(source_id, path, image):
    row = ImageRow(source_id, path, image.n_bytes, image.n_bytes, 9, 9, image.n_local)
    row = replace(row, skipped=image.skipped, transient=image.transient)
    if image.skipped:
        return Record(row)
    features = features_of(image.n_bytes) if image.features else None
    codes = codes_of(image.n_bytes) if image.words else None
    vector_D = np.frombuffer(image.vector, np.float16)
    return Record(row, vector_D, features, None, image.lifted, codes)


class Contract(RuleBasedStateMachine):
    """Steps on a store of one `kind`, beside the dict that says what it must hold."""

    kind = ""

    @initialize()
    def begin(self):
        self.folder = Path(tempfile.mkdtemp())
        self.store = self.opened(create_store(self.folder / f"c{self.kind}", recipe={}))
        self.model: dict[tuple[str, str], Kept] = {}
        self.place_of: dict[int, tuple[str, str]] = {}  # of every id that there has been

    def teardown(self):
        if hasattr(self, "store"):
            self.store.close()
            shutil.rmtree(self.folder)

    def opened(self, store):
        store.layout, store.local_dimensions = LAYOUT, 4
        return store

    def ids(self):
        """Id of each image by its place."""
        root_of = {i: source.root for i, source in self.store.sources().items()}
        return {(root_of[row.source_id], row.path): row.image_id for row in self.store.images()}

    def write(self, images):
        id_of = {root: self.store.add_source(root, root).source_id for root, _ in images}
        self.store.put([record_of(id_of[r], path, image) for (r, path), image in images.items()])

    @rule(images=st.dictionaries(place, kept, min_size=1, max_size=4))
    def add_or_replace(self, images):
        before = self.store.stamp(), self.store.state()
        with self.store.writing():
            self.write(images)
        self.model |= images
        assert self.store.state() != before[1]
        if any(image.vector for image in images.values()):
            assert self.store.stamp() != before[0]

    @rule(images=st.dictionaries(place, kept, min_size=1, max_size=2))
    def fail(self, images):
        def begin_and_fail():
            with self.store.writing():
                self.write(images)
                self.store.delete(list(self.ids().values())[:1])
                raise KeyError

        stamp = self.store.stamp()
        with pytest.raises(KeyError):
            begin_and_fail()
        assert self.store.stamp() == stamp

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def delete(self, data):
        gone = data.draw(st.sets(st.sampled_from(sorted(self.model)), min_size=1, max_size=3))
        ids = self.ids()
        with self.store.writing():
            self.store.delete([ids[each] for each in gone])
        for each in gone:
            del self.model[each]

    @precondition(lambda self: self.model)
    @rule(data=st.data())
    def rename(self, data):
        old = data.draw(st.sampled_from(sorted(self.model)))
        free = [path for path in PATHS if (old[0], path) not in self.model]
        if not free:
            return
        new = old[0], data.draw(st.sampled_from(free))
        image_id = self.ids()[old]
        with self.store.writing():
            self.store.rename(image_id, new[1])
        self.model[new] = self.model.pop(old)
        self.place_of.pop(image_id, None)

    @precondition(lambda self: any(image.vector for image in self.model.values()))
    @rule(data=st.data())
    def drop_vector(self, data):
        indexed = sorted(place for place, image in self.model.items() if image.vector)
        lost = data.draw(st.sampled_from(indexed))
        with self.store.writing():
            self.store.drop_vector(self.ids()[lost], "damaged")
        before = self.model[lost]
        self.model[lost] = Kept(before.n_bytes, before.n_local, "damaged", transient=True)

    @rule(value=st.one_of(st.none(), st.integers(0, 9)))
    def set_value(self, value):
        with self.store.writing():
            self.store.set_about(words={"n": value})
            self.store.set_arrays({"centroids": np.full(3, value or 0)})
        assert self.store.about()["words"] == {"n": value}
        assert self.store.arrays()["centroids"].tolist() == [value or 0] * 3

    @rule()
    def compact(self):
        self.store.compact()

    @rule()
    def open_again(self):
        path = self.store.path
        self.store.close()
        self.store = self.opened(open_store(path))

    @rule()
    def read_while_another_writes(self):
        with self.store.reading():
            before = self.ids()
            with self.opened(open_store(self.store.path)) as other, other.writing():
                other.delete(list(before.values()))
            assert self.ids() == before
        self.model = {}

    @rule()
    def write_where_one_may_not(self):
        with open_store(self.store.path, read_only=True) as store:
            with pytest.raises(StorageError, match="may not be written"), store.writing():
                store.set_about(words={"n": -1})
            assert store.about().get("words") != {"n": -1}

    @invariant()
    def holds_what_the_dict_holds(self):
        if not hasattr(self, "store"):
            return
        store, ids = self.store, self.ids()
        assert ids.keys() == self.model.keys()
        for each, image_id in ids.items():
            assert self.place_of.setdefault(image_id, each) == each, "an id of another image"
        rows = {row.image_id: row for row in store.images()}
        vectors, features = store.vectors(list(rows)), store.features(list(rows))
        with_codes, codes = store.codes(list(rows))
        words = {} if codes is None else {i: codes[[n]].word_N for n, i in enumerate(with_codes)}
        lifted = store.lifted()
        for each, image_id in ids.items():
            row, wanted = rows[image_id], self.model[each]
            found = Kept(
                row.n_bytes,
                row.n_local,
                row.skipped,
                bool(row.transient),
                vectors[image_id].tobytes() if image_id in vectors else None,
                features[image_id].descriptor_lf.tobytes() if image_id in features else None,
                words[image_id].tobytes() if image_id in words else None,
                image_id in lifted,
            )
            assert found == wanted, each

    @invariant()
    def lists_counts_and_finds(self):
        if not hasattr(self, "store"):
            return
        store, ids = self.store, self.ids()
        indexed = {p: image for p, image in self.model.items() if image.skipped is None}
        skipped = self.model.keys() - indexed.keys()
        roots = {i: source.root for i, source in store.sources().items()}
        for rows, wanted in ((store.indexed(), indexed), (store.skipped(), skipped)):
            listed = list(rows)
            assert {(roots[r.source_id], r.path) for r in listed} == set(wanted)
            assert [(r.source_id, r.path.encode()) for r in listed] == sorted(
                (r.source_id, r.path.encode()) for r in listed
            )
        assert store.count() == (len(indexed), len(skipped))
        assert store.count_local() == sum(image.n_local for image in indexed.values())
        by_source = store.count_by_source()
        for i, root in roots.items():
            n = sum(r == root for r, _ in indexed), sum(r == root for r, _ in skipped)
            assert by_source.get(i, (0, 0)) == n
            for folder in FOLDERS:
                assert store.ids_in(i, folder) == {
                    ids[r, path]
                    for r, path in ids
                    if r == root and (not folder or f"{path}/".startswith(f"{folder}/"))
                }
        for path in PATHS:
            found = {(roots[r.source_id], r.path) for r in store.by_path(path)}
            assert found == {p for p in indexed if p[1] == path}
        for text in PARTS:
            total, page = store.page(0, 100, text, skipped=False)
            wanted = sorted(p for _, p in indexed if text.lower() in p.lower())
            assert (total, sorted(row.path for row in page)) == (len(wanted), wanted)
            _, some = store.page(1, 2, text, skipped=False)
            assert some == page[1:3]
        id_n, vector_nD = store.all_vectors()
        assert sorted(id_n.tolist()) == sorted(ids[p] for p in indexed)
        assert vector_nD.shape == (len(indexed), LAYOUT.n_dimensions)
        assert store.images_by_id([*ids.values(), -5]).keys() == set(ids.values())

    @invariant()
    def is_whole(self):
        if hasattr(self, "store"):
            assert check_store(self.store) == []


@pytest.mark.parametrize("kind", [".vlad", ".lance"])
def test_holds_what_a_dict_holds(kind):
    if kind == ".lance":
        pytest.importorskip("lance", reason="the extra `lance`")
    machine = type("Contract", (Contract,), {"kind": kind})
    run_state_machine_as_test(
        machine,
        settings=settings(
            max_examples=16,
            stateful_step_count=12,
            deadline=None,
            derandomize=True,
            phases=[Phase.generate],  # to make a failing case smaller takes minutes
            suppress_health_check=list(HealthCheck),
        ),
    )
