"""A collection that lasts: changed, checked, repaired, compacted, exported, converted."""

from __future__ import annotations

import json
import lzma
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from contextlib import closing, suppress
from pathlib import Path

import cv2
import faiss
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from commands import run
from images import textured
from paths import TESTS
from photos import write_photos
from vladkit import Collection, cli
from vladkit.errors import FileFormatError, NothingToIndexError, ParameterError, StorageError
from vladkit.features.pool import extract
from vladkit.store import blocks, database
from vladkit.store.migrate import migrate
from vladkit.store.rows import ImageRow, Record
from vladkit.store.store import Store

HERE = TESTS


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """(collection file, folder) of a dozen images; copy before changing."""
    home = tmp_path_factory.mktemp("keeping")
    (home / "images").mkdir()
    for i in range(12):
        cv2.imwrite(str(home / "images" / f"{i:02}.png"), textured(120, 90, seed=i))
    with Collection.create(home / "c", n_clusters=8, keep_features=50) as collection:
        collection.add([home / "images"])
    return home / "c", home / "images"


@pytest.fixture
def own(ready, tmp_path):
    """A copy of that file that may be changed."""
    return Path(shutil.copy(ready[0], tmp_path / "c"))


def sql(path, *statements):
    with closing(sqlite3.connect(path)) as connection:
        for statement in statements:
            connection.execute(*statement if isinstance(statement, tuple) else (statement,))
        connection.commit()


def everything(path):
    """Path and vector of each image."""
    with Collection.open(path) as collection:
        names = {row.image_id: row.path for row in collection.images()}
        ids, vector_nD = collection.vectors()
    return {names[i]: v.tobytes() for i, v in zip(ids.tolist(), vector_nD, strict=True)}


D = 3
STEPS = st.lists(
    st.tuples(st.sampled_from(["put", "skip", "delete", "pack"]), st.integers(0, 9)), max_size=30
)


class TestBlocks:
    @settings(max_examples=30, suppress_health_check=[HealthCheck.function_scoped_fixture])
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

    def test_revision_counts_changes_of_vectors_alone(self, tmp_path):
        def revision():
            return store.about()["revision"]

        with Store.create(tmp_path / "c") as store:
            with store.writing():
                source = store.add_source("/x", "x").source_id
                store.put([Record(ImageRow(source, "bad", 0, 0, skipped="blank"))])
            assert revision() == 0
            with store.writing():
                store.put([Record(ImageRow(source, "a", 0, 0), np.ones(D, "f4"))])
            assert revision() == 1
            with suppress(ZeroDivisionError), store.writing():
                store.put([Record(ImageRow(source, "b", 0, 0), np.ones(D, "f4"))])
                _ = 1 / 0
            assert revision() == 1
            assert store.count() == (1, 1)
            with store.writing():
                store.delete([r.image_id for r in store.images() if r.path == "a"])
            assert revision() == 2


class TestFeatures:
    def test_the_strongest_are_kept(self, ready):
        file, folder = ready
        with Collection.open(file, read_only=True) as collection:
            rows = list(collection.images())
            kept = collection.index.store.features([row.image_id for row in rows])
            for row in rows:
                features = extract(collection.extractor, str(folder / row.path)).strongest(50)
                assert len(features) == 50
                mine = kept[row.image_id]
                np.testing.assert_array_equal(mine.descriptor_lf, features.descriptor_lf)
                np.testing.assert_array_equal(mine.geometry_l5[:, :2], features.xy_l2)
                np.testing.assert_array_equal(mine.geometry_l5[:, 2], features.size_l)
                np.testing.assert_array_equal(mine.geometry_l5[:, 3], features.angle_l)
                np.testing.assert_array_equal(mine.geometry_l5[:, 4], features.score_l)

    def test_none_if_not_wanted_and_gone_with_the_image(self, ready, own, tmp_path):
        with Collection.create(tmp_path / "none", n_clusters=8, keep_features=0) as collection:
            collection.add([ready[1]])
            assert collection.index.store.features(range(1, 20)) == {}
        with Collection.open(own) as collection:
            collection.remove(["03.png"])
            assert set(collection.index.store.features(range(1, 20))) == {1, 2, 3, *range(5, 13)}


class TestFormat:
    """docs/file-format.md, with sqlite3 and numpy alone."""

    text = (HERE.parent / "docs" / "file-format.md").read_text()

    def test_says_how_to_read_vectors_and_how_they_are_made(self, photos, tmp_path, monkeypatch):
        shutil.copytree(photos, tmp_path / "photos")
        with Collection.create(tmp_path / "photos.vlad", max_features=400) as collection:
            collection.add([tmp_path / "photos"])
        monkeypatch.chdir(tmp_path)
        found: dict = {}
        for code in re.findall(r"```python\n(.*?)```", self.text, re.DOTALL):
            assert "vladkit" not in code
            exec(code, found)
        assert found["ranking"][0] == "astronaut.jpg"
        assert sorted(found["ranking"]) == sorted(p.name for p in (tmp_path / "photos").iterdir())
        assert found["score_n"][0] == pytest.approx(1, abs=1e-3)
        place = [found["path_of"][i] for i in found["ids"]].index("moon.jpg")
        np.testing.assert_allclose(found["vector_D"], found["vector_nD"][place], atol=2e-4)
        found["db"].close()

    def test_names_every_table_and_column(self, own):
        with closing(sqlite3.connect(own)) as connection:
            tables = [n for (n,) in connection.execute("SELECT name FROM sqlite_schema") if n]
            for table in tables:
                if table.startswith("sqlite_"):
                    continue
                assert f"**`{table}`**" in self.text
                section = self.text.split(f"**`{table}`**")[1].split("\n**`")[0]
                for column in connection.execute(f"PRAGMA table_info({table})"):
                    assert f"`{column[1]}`" in section, (table, column[1])
            for (name,) in connection.execute("SELECT name FROM about"):
                assert f"`{name}`" in self.text
        header = own.read_bytes()[:100]
        assert header[68:72] == b"VLAD"
        assert int.from_bytes(header[60:64], "big") == 2


class TestMigration:
    @pytest.fixture
    def old(self, tmp_path):
        """A file that version 0.1.0 wrote in format 1, and the photographs it was made of."""
        write_photos(tmp_path / "photos")
        (tmp_path / "old").write_bytes(
            lzma.decompress((HERE / "data" / "format-1.vlad.xz").read_bytes())
        )
        return tmp_path / "old"

    def test_is_refused_with_the_command_that_converts(self, old):
        before = old.read_bytes()
        for method in (Collection.open, Collection.create):
            with pytest.raises(FileFormatError, match=r"convert it with vladkit migrate .*old"):
                method(old)
        assert old.read_bytes() == before

    def test_vectors_are_the_same(self, old, tmp_path):
        with closing(sqlite3.connect(old)) as db:
            sql = "SELECT path, data FROM vector JOIN picture USING (picture_id)"
            before = dict(db.execute(sql).fetchall())
        assert len(before) == 15
        assert migrate(old) == 1
        assert everything(old) == before
        with Collection.open(old) as collection:
            assert collection.check() == []
            assert collection.recipe.keep_features == 0
            assert [row.path for row in collection.skipped()] == ["broken.jpg"]
            hits = collection.search(tmp_path / "photos" / "moon.jpg")
            assert hits[0].path == "moon.jpg"
            assert hits[0].score == pytest.approx(1, abs=1e-3)
        assert [p.name for p in tmp_path.iterdir() if p.name.startswith("old")] == ["old"]

    def test_goes_on_as_if_it_had_been_made_now(self, old, tmp_path):
        migrate(old)
        cv2.imwrite(str(tmp_path / "photos" / "new.png"), textured(120, 90))
        with Collection.open(old) as collection:
            report = collection.add([tmp_path / "photos"])
            assert report.indexed == 16  # from another folder: all are new
            assert collection.check() == []

    def test_again_does_nothing(self, old):
        migrate(old)
        before = old.read_bytes()
        assert migrate(old) == 2
        assert old.read_bytes() == before

    def test_fails_whole(self, old, monkeypatch):
        before = everything_raw(old)
        real = blocks.Blocks.append
        monkeypatch.setattr(blocks.Blocks, "append", lambda *a: real(*a) and 1 / 0)
        with pytest.raises(ZeroDivisionError):
            migrate(old)
        assert everything_raw(old) == before

    def test_other_files(self, tmp_path):
        with pytest.raises(FileFormatError, match="does not exist"):
            migrate(tmp_path / "nothing")
        (tmp_path / "text").write_text("text" * 50)
        with pytest.raises(FileFormatError, match="another kind of file"):
            migrate(tmp_path / "text")

    def test_command(self, old):
        done = run("migrate", old)
        assert done.stdout == ""
        assert "converted from format 1 to 2" in done.stderr
        assert json.loads(run("migrate", old, "--json").stdout)["from"] == 2


def everything_raw(path):
    with closing(sqlite3.connect(path)) as connection:
        return list(connection.iterdump())


NAN = np.full(8 * 128, np.nan, "<f2").tobytes()

DAMAGE = {
    "a vector with NaN": (
        [("UPDATE block SET data = CAST(? || substr(data, 2049) AS BLOB)", (NAN,))],
        [("00.png", "has a vector of length nan")],
    ),
    "a vector of the wrong length": (
        [
            (
                "UPDATE block SET data = CAST(? || substr(data, 2049) AS BLOB)",
                (np.full(8 * 128, 0.5, "<f2").tobytes(),),
            )
        ],
        [("00.png", "has a vector of length 16")],
    ),
    "a block of the wrong size": (
        ["UPDATE block SET data = substr(data, 2)"],
        [(None, "block 1 has 24575 bytes, wanted 24576")]
        + [(f"{i:02}.png", "has no vector") for i in range(12)],
    ),
    "a block of nobody": (
        ["INSERT INTO block SELECT 7, picture_ids, data FROM block"],
        [(None, "block 7 holds 12 vectors of no image")],
    ),
    "an image without vector": (
        ["UPDATE picture SET block_id = NULL WHERE path = '03.png'"],
        [(None, "block 1 holds 1 vectors of no image"), ("03.png", "has no vector")],
    ),
    "a lost block": (
        ["DELETE FROM block"],
        [(f"{i:02}.png", "has no vector") for i in range(12)],
    ),
    "a skipped image with a vector": (
        ["UPDATE picture SET skipped = 'x' WHERE path = '05.png'"],
        [("05.png", "is skipped and has a vector all the same")],
    ),
    "features of the wrong size": (
        ["UPDATE feature SET geometry = x'00' WHERE picture_id = 2"],
        [("01.png", "its features have the wrong size")],
    ),
    "features that are not finite": (
        [("UPDATE feature SET geometry = ? WHERE picture_id = 2", (b"\xff" * 1000,))],
        [("01.png", "its features are not finite")],
    ),
    "features of nobody": (
        ["INSERT INTO feature SELECT 99, n, dtype, descriptor, geometry FROM feature LIMIT 1"],
        [(None, "row 99 of feature belongs to no image")],
    ),
    "an image of no source": (
        ["UPDATE picture SET source_id = 9 WHERE path = '11.png'"],
        [(None, "row 12 of image belongs to no source")],
    ),
}


class TestCheck:
    def test_nothing_to_find(self, ready, tmp_path):
        steps = []
        with Collection.open(ready[0], read_only=True) as collection:
            assert collection.check(progress=lambda *step: steps.append(step)) == []
        assert steps == [("check", 1, 1)]
        with Collection.create(tmp_path / "new") as collection:
            assert collection.check() == []

    @pytest.mark.parametrize("damage", DAMAGE)
    def test_finds_and_repairs(self, ready, own, damage):
        statements, wanted = DAMAGE[damage]
        sql(own, *statements)
        with Collection.open(own) as collection:
            problems = collection.check()
            assert [(p.image, p.text) for p in problems] == wanted
            assert not any(p.repaired for p in problems)
            assert collection.check() == problems, "looking changed something"
            repaired = collection.check(repair=True)
            assert [(p.image, p.text) for p in repaired] == wanted
            assert all(p.repaired for p in repaired)
            assert collection.check() == []
            collection.add([ready[1]])
            assert collection.check() == []
        assert everything(own) == everything(ready[0])

    def test_damaged_pages(self, own):
        data = bytearray(own.read_bytes())
        with closing(sqlite3.connect(own)) as connection:
            (page,) = connection.execute(
                "SELECT rootpage FROM sqlite_schema WHERE name = 'feature'"
            ).fetchone()
        data[(page - 1) * 16384 :][:16384] = bytes(16384)
        data[(page - 1) * 16384 : page * 16384] = bytes(16384)
        own.write_bytes(data)
        with Collection.open(own) as collection:
            problems = collection.check(repair=True)
        assert problems
        assert all(p.text.startswith("damaged pages") and not p.repaired for p in problems)

    def test_command(self, own):
        done = run("check", own)
        assert done.stdout == ""
        assert "12 images, no problems" in done.stderr
        sql(own, "UPDATE picture SET block_id = NULL WHERE path = '03.png'")
        done = run("check", own, code=1)
        assert "03.png: has no vector\n" in done.stdout
        assert "2 problems; --repair drops what is damaged" in done.stderr
        done = run("check", own, "--repair", "--json")
        assert [p["repaired"] for p in json.loads(done.stdout)["problems"]] == [True, True]
        run("check", own)


class TestCompact:
    def test_gives_space_back_and_changes_nothing_else(self, tmp_path, monkeypatch):
        monkeypatch.setattr(blocks, "BLOCK_BYTES", 4 * 8 * 128 * 2)  # 4 vectors
        folder = tmp_path / "images"
        folder.mkdir()
        for i in range(24):
            cv2.imwrite(str(folder / f"{i:02}.png"), textured(120, 90, seed=i))
        with Collection.create(tmp_path / "c", n_clusters=8) as collection:
            collection.add([folder])
            collection.remove([f"{i:02}.png" for i in range(24) if i % 3])
            left = everything(tmp_path / "c")
            held = [len(i) for i, _ in collection.index.store.vector_blocks()]
            assert held == [2, 1, 1, 2, 1, 1]
            assert collection.compact() > 16 * 50_000  # features and vectors of 16 images
            held = [len(i) for i, _ in collection.index.store.vector_blocks()]
            assert held == [4, 4]
            assert collection.check() == []
            assert collection.compact() == 0
        assert everything(tmp_path / "c") == left

    def test_an_empty_one_forgets_its_sources(self, own):
        with Collection.open(own) as collection:
            collection.remove([f"{i:02}.png" for i in range(12)])
            collection.compact()
            assert collection.info()["sources"] == []
            assert collection.check() == []
            with pytest.raises(NothingToIndexError):
                collection.add([own.parent / "nothing"])

    def test_command(self, own):
        done = run("compact", own, "--json")
        assert json.loads(done.stdout) == {"file": str(own), "freed": 0}


class TestExport:
    def test_npz(self, ready, tmp_path):
        with Collection.open(ready[0], read_only=True) as collection:
            assert collection.export(tmp_path / "out.npz") == [tmp_path / "out.npz"]
        with np.load(tmp_path / "out.npz", allow_pickle=False) as archive:
            vector_nD, path_n = archive["vectors"], archive["paths"]
        assert vector_nD.dtype == np.float16
        found = {p: v.tobytes() for p, v in zip(path_n.tolist(), vector_nD, strict=True)}
        assert found == everything(ready[0])

    def test_fvecs(self, ready, tmp_path):
        with Collection.open(ready[0], read_only=True) as collection:
            collection.export(tmp_path / "out.fvecs")
        raw = np.fromfile(tmp_path / "out.fvecs", "<i4").reshape(12, -1)
        assert (raw[:, 0] == raw.shape[1] - 1).all()
        paths = json.loads((tmp_path / "out.fvecs.json").read_text())
        rows = raw[:, 1:].copy().view("<f4").astype("f2")
        assert {p: v.tobytes() for p, v in zip(paths, rows, strict=True)} == everything(ready[0])

    @pytest.mark.parametrize("dtype", ["float16", "float32"])
    def test_faiss(self, ready, tmp_path, dtype):
        with Collection.create(tmp_path / "c", n_clusters=8, dtype=dtype) as collection:
            collection.add([ready[1]])
            collection.export(tmp_path / "out.faiss")
            hits = collection.search(ready[1] / "07.png", 0)
            query = extract(collection.extractor, str(ready[1] / "07.png"))
            query_vD = collection.index.describer.query_vectors([query])[0]
        index = faiss.read_index(str(tmp_path / "out.faiss"))
        paths = json.loads((tmp_path / "out.faiss.json").read_text())
        score_vn, place_vn = index.search(query_vD[:1], 12)
        assert paths[place_vn[0, 0]] == hits[0].path == "07.png"
        assert score_vn[0, 0] == pytest.approx(1, abs=2e-3)
        assert sorted(paths) == [f"{i:02}.png" for i in range(12)]

    def test_names_of_all_kinds_and_removed_ones(self, tmp_path, ready):
        names = ["a\nb.png", "ä €.png", "x" * 200 + ".png", "-o.png"]
        for name, source in zip(names, sorted(ready[1].iterdir())[:4], strict=True):
            (tmp_path / "p").mkdir(exist_ok=True)
            shutil.copy(source, tmp_path / "p" / name)
        with Collection.create(tmp_path / "c", n_clusters=8) as collection:
            collection.add([tmp_path / "p"])
            collection.remove([names[1]])
            collection.export(tmp_path / "out.npz")
            collection.export(tmp_path / "out.fvecs")
        with np.load(tmp_path / "out.npz") as archive:
            assert sorted(archive["paths"].tolist()) == sorted([names[0], *names[2:]])
        paths = json.loads((tmp_path / "out.fvecs.json").read_text())
        assert sorted(paths) == sorted([names[0], *names[2:]])

    def test_errors(self, ready, tmp_path):
        with Collection.open(ready[0], read_only=True) as collection:
            with pytest.raises(ParameterError, match=r"ends in \.npz, \.fvecs, \.faiss, \.h5"):
                collection.export(tmp_path / "out.txt")
            with pytest.raises(StorageError, match="cannot write"):
                collection.export(tmp_path / "nowhere" / "out.npz")
        with (
            Collection.create(tmp_path / "empty") as collection,
            pytest.raises(NothingToIndexError),
        ):
            collection.export(tmp_path / "out.npz")
        assert not list(tmp_path.glob("*out*"))

    def test_command(self, ready, tmp_path):
        done = run("export", ready[0], "-o", tmp_path / "v.faiss", "--json")
        assert json.loads(done.stdout)["written"] == [
            str(tmp_path / "v.faiss"), str(tmp_path / "v.faiss.json"),
        ]  # fmt: skip
        run("export", ready[0], "-o", tmp_path / "v.bin", code=2)


class TestCommands:
    def test_add_and_remove(self, own, ready, tmp_path):
        cv2.imwrite(str(tmp_path / "new.png"), textured(120, 90, seed=99))
        done = run("add", own, tmp_path / "new.png")
        assert "13 images; 1 indexed" in done.stderr
        done = run("remove", own, tmp_path / "new.png", "03.png", "--json")
        assert json.loads(done.stdout) == {"file": str(own), "removed": 2, "images": 11}
        done = run("remove", own, "03.png", code=2)
        assert "not in" in done.stderr
        assert "03.png" in done.stderr
        run("add", tmp_path / "nothing", ready[1], code=1)
        assert not (tmp_path / "nothing").exists()

    def test_every_command_is_in_the_docs(self):
        pages = [HERE.parent / "README.md", *(HERE.parent / "docs").glob("*.md")]
        text = "".join(page.read_text() for page in pages)
        app = cli.load()
        names = [c.name or c.callback.__name__ for c in app.registered_commands]
        groups = app.registered_groups
        names += [group.name for group in groups]
        names += [f"{g.name} {c.callback.__name__}" for g in groups
                  for c in g.typer_instance.registered_commands]  # fmt: skip
        assert len(names) >= 18
        assert [name for name in names if f"vladkit {name}" not in text] == []


CHANGES = {
    "add": lambda c, folder: c.add([folder]),
    "remove": lambda c, folder: c.remove(["00.png"]),
    "compact": lambda c, folder: c.compact(),
    "whiten": lambda c, folder: c.whiten(4),
    "augment": lambda c, folder: c.augment(2),
    "repair": lambda c, folder: c.check(repair=True),
}


class TestNothingIsLost:
    @pytest.mark.parametrize("change", CHANGES)
    def test_the_second_writer_waits_and_is_told(self, own, tmp_path, monkeypatch, change):
        monkeypatch.setattr(database, "BUSY_SECONDS", 0.05)
        cv2.imwrite(str(tmp_path / "new.png"), textured(100, 90, seed=77))
        before = everything(own)
        with closing(sqlite3.connect(own, isolation_level=None)) as other:
            other.execute("BEGIN IMMEDIATE")
            with (
                Collection.open(own) as collection,
                pytest.raises(StorageError, match=r"another process has been writing .* try again"),
            ):
                CHANGES[change](collection, tmp_path)
            assert everything(own) == before  # reading goes on meanwhile
            other.execute("ROLLBACK")

    @pytest.mark.parametrize("change", [c for c in CHANGES if c != "repair"])
    def test_a_file_that_may_not_grow(self, own, tmp_path, change):
        """A quota, as far as SQLite can tell: writing fails half-way."""
        resource = pytest.importorskip("resource", reason="limits of POSIX")
        cv2.imwrite(str(tmp_path / "new.png"), textured(300, 200, seed=77))
        before = everything(own)
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            with Collection.open(own) as collection:
                resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
                with pytest.raises(StorageError, match=re.escape(str(own))):
                    CHANGES[change](collection, tmp_path)
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                assert collection.check() == []
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, handler)
        assert everything(own) == before

    @pytest.mark.parametrize("change", [c for c in CHANGES if c != "repair"])
    def test_a_collection_opened_for_reading_cannot_be_changed(self, own, tmp_path, change):
        cv2.imwrite(str(tmp_path / "new.png"), textured(100, 90, seed=77))
        before = own.read_bytes()
        with (
            Collection.open(own, read_only=True) as collection,
            pytest.raises(StorageError, match="may not be written"),
        ):
            CHANGES[change](collection, tmp_path)
        assert own.read_bytes() == before

    def test_faults(self):
        """A few rounds of benchmarks/faults.py, which does fifty."""
        script = HERE.parent / "benchmarks" / "faults.py"
        done = subprocess.run(
            [sys.executable, script, "--kills", "6", "--images", "60", "--seed", "1"],
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert "vectors as if nothing had happened" in done.stdout
