"""A collection may be anybody's: what it names on this machine is not handed out."""

from __future__ import annotations

import json
import os
import shutil

import pytest

from cloud import put_folder
from photos import write_photos
from serving import problem, search, serving
from stored import sql
from vladkit import Collection
from vladkit.images import read_bytes


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with photos/, photos.vlad of them, and private/ beside."""
    home = tmp_path_factory.mktemp("trust")
    write_photos(home / "photos", ["chelsea", "coffee", "moon", "page", "rocket"])
    with Collection.create(home / "photos.vlad", n_clusters=16, max_features=200) as collection:
        collection.add([home / "photos"])
    (home / "private").mkdir()
    shutil.copy(home / "photos" / "coffee.jpg", home / "private" / "coffee.jpg")
    (home / "private" / "p4.jpg").write_bytes(b"P4\npassword=secret\n" * 20)
    return home


@pytest.fixture
def own(made, tmp_path):
    shutil.copy(made / "photos.vlad", tmp_path / "c.vlad")
    return tmp_path / "c.vlad"


@pytest.fixture
def elsewhere(monkeypatch, tmp_path):
    """From here on this is another machine: it has a key of its own, or none yet."""
    monkeypatch.setenv("VLADKIT_STATE", str(tmp_path / "elsewhere"))


def id_of(path, name):
    with Collection.open(path, read_only=True) as collection:
        return collection.find(name).image_id


def answers(client, image_id):
    kinds = ("file", "thumbnail", "preview")
    return [client.get(f"/api/images/{image_id}/{kind}") for kind in kinds]


class TestServe:
    def test_its_own(self, own, made):
        with serving(own) as (client, _):
            file, thumbnail, preview = answers(client, id_of(own, "coffee.jpg"))
            assert file.content == (made / "photos" / "coffee.jpg").read_bytes()
            assert (thumbnail.status_code, preview.status_code) == (200, 200)

    def test_of_another_machine(self, own, made, elsewhere):
        number = id_of(own, "coffee.jpg")
        with serving(own) as (client, _):
            for answer in answers(client, number):
                assert "not in a folder that was indexed here" in problem(answer, 404)["detail"]
            # it is searched all the same, and with its own images, by what it keeps of them
            data = (made / "photos" / "coffee.jpg").read_bytes()
            assert search(client, data)["results"][0]["path"] == "coffee.jpg"
            found = client.get(f"/api/images/{number}/similar")
            assert found.status_code in (200, 404)
        with serving(own, trust=True) as (client, _):
            assert [a.status_code for a in answers(client, number)] == [200] * 3

    def test_urls(self, s3, made, tmp_path, monkeypatch):
        put_folder(made / "photos", "s3://served")
        with Collection.create(tmp_path / "c.vlad", n_clusters=16, max_features=200) as collection:
            collection.add("s3://served/coffee.jpg")
        number = id_of(tmp_path / "c.vlad", "s3://served/coffee.jpg")
        with serving(tmp_path / "c.vlad", n_jobs=1) as (client, _):
            file, thumbnail, preview = answers(client, number)
            assert file.content == (made / "photos" / "coffee.jpg").read_bytes()
            assert "coffee.jpg" in file.headers["content-disposition"]
            assert (thumbnail.status_code, preview.status_code) == (200, 200)
            s3.asked.clear()
            assert answers(client, number)[1].content == thumbnail.content
            assert len(s3.gets()) == 1, "of the file; the small ones are kept"
        inside = f"{s3.address}/served"
        sql(tmp_path / "c.vlad", ("UPDATE source SET root = ?", (inside,)))
        s3.asked.clear()
        with serving(tmp_path / "c.vlad", n_jobs=1) as (client, _):
            for answer in answers(client, number):
                assert "not in a folder that was indexed here" in problem(answer, 404)["detail"]
        sql(tmp_path / "c.vlad", "UPDATE source SET root = 's3://served'")
        monkeypatch.setenv("VLADKIT_STATE", str(tmp_path / "elsewhere"))
        with serving(tmp_path / "c.vlad", n_jobs=1) as (client, _):
            for answer in answers(client, number):
                assert "not in a folder that was indexed here" in problem(answer, 404)["detail"]
        assert s3.asked == [], "nothing that somebody else's collection names is fetched"

    @pytest.mark.parametrize("root", ["{}/private", "/etc", "/proc/self", "/dev", "relative"])
    def test_other_folders(self, own, made, root):
        """Its marks are of folders: another one in the file has none."""
        number = id_of(own, "coffee.jpg")
        relative = os.path.relpath(made / "private", own.parent)
        change = ("UPDATE source SET root = ?, relative = NULL", (root.format(made),))
        if root == "relative":
            change = ("UPDATE source SET root = '/nowhere', relative = ?", (relative,))
        sql(own, change)
        with serving(own) as (client, _):
            for answer in answers(client, number):
                problem(answer, 404)

    @pytest.mark.parametrize("path", ["../private/coffee.jpg", "{}/private/coffee.jpg", "link"])
    def test_other_paths_of_its_folder(self, own, made, path):
        number = id_of(own, "coffee.jpg")
        if path == "link":
            (made / "photos" / "link").unlink(missing_ok=True)
            (made / "photos" / "link").symlink_to(made / "private" / "coffee.jpg")
        sql(own, ("UPDATE picture SET path = ? WHERE picture_id = ?", (path.format(made), number)))
        with serving(own) as (client, _):
            for answer in answers(client, number):
                assert "not in a folder that was indexed here" in problem(answer, 404)["detail"]
        with serving(own, trust=True) as (client, _):
            assert [a.status_code for a in answers(client, number)] == [200] * 3

    def test_a_link_inside_of_its_folder(self, own, made):
        number = id_of(own, "coffee.jpg")
        (made / "photos" / "inside").unlink(missing_ok=True)
        (made / "photos" / "inside").symlink_to("coffee.jpg")
        sql(own, ("UPDATE picture SET path = 'inside' WHERE picture_id = ?", (number,)))
        with serving(own) as (client, _):
            assert [a.status_code for a in answers(client, number)] == [200] * 3

    @pytest.mark.parametrize("text", [b"P4\npassword=secret\n" * 20, b"BM" + b"-" * 60 + b"secret"])
    def test_a_text_that_begins_as_an_image(self, own, made, text):
        shutil.copytree(made / "photos", own.parent / "photos")
        with Collection.open(own) as collection:
            collection.add([own.parent / "photos"])
            row = collection.find(own.parent / "photos" / "coffee.jpg")
        with serving(own) as (client, _):
            assert answers(client, row.image_id)[0].status_code == 200
            (own.parent / "photos" / "coffee.jpg").write_bytes(text)
            for answer in answers(client, row.image_id):
                assert b"secret" not in answer.content
                problem(answer, 404)

    def test_indexed_again_it_is_ones_own(self, own, made, elsewhere):
        number = id_of(own, "coffee.jpg")
        with Collection.open(own) as collection:
            assert collection.strangers() == [str(made / "photos")]
            assert collection.add([made / "photos"]).indexed == 0
            assert collection.strangers() == []
            assert collection.check() == []
        with serving(own) as (client, _):
            assert [a.status_code for a in answers(client, number)] == [200] * 3

    def test_where_no_key_can_be_kept(self, made, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("VLADKIT_STATE", str(tmp_path / "file" / "below"))
        with Collection.create(tmp_path / "c", n_clusters=16, max_features=200) as collection:
            collection.add([made / "photos" / "coffee.jpg"])
            assert collection.strangers() == [os.getcwd()]
            assert collection.check() == []


class TestFiles:
    def test_a_file_that_is_swapped_for_a_link(self, tmp_path, monkeypatch):
        """The link may come between the look at the path and the opening, or after it."""
        (tmp_path / "in").mkdir()
        (tmp_path / "in" / "a").write_bytes(b"mine")
        (tmp_path / "secret").write_bytes(b"secret")
        real, path = os.path.realpath, tmp_path / "in" / "a"

        def swapped(name):
            found = real(name)
            if path.is_symlink():
                path.unlink()
                path.write_bytes(b"mine")
            return found if found != real(tmp_path / "secret") else real(path)

        assert read_bytes(path, within=[real(tmp_path / "in")]) == b"mine"
        path.unlink()
        path.symlink_to(tmp_path / "secret")
        monkeypatch.setattr(os.path, "realpath", swapped)
        with pytest.raises(OSError, match="not in a folder that was indexed here"):
            read_bytes(path, within=[real(tmp_path / "in")])


class TestRecords:
    def test_of_marks(self, own):
        """Nobody else can make them, and they say nothing."""
        with Collection.open(own, read_only=True) as collection:
            ((mark,),) = collection.index.store._rows("SELECT mark FROM source")
            assert len(mark) == 64
            assert json.dumps(collection.info()).count(mark) == 0
