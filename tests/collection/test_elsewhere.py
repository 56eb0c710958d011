"""Images of an object store and of web servers: as those of a folder, and nothing is given away."""

from __future__ import annotations

import shutil
import threading
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote

import cv2
import numpy as np
import pytest

import cloud
from cloud import files_of_s3, put_folder
from commands import run
from images import textured
from small import make, paths
from stored import everything
from vladkit import Collection
from vladkit.collection import discover
from vladkit.core import remote
from vladkit.core.files import check_writable, replace_file
from vladkit.errors import (
    FileFormatError,
    ImageError,
    MissingDependencyError,
    NothingToIndexError,
    ParameterError,
    StorageError,
)
from vladkit.images import read_bytes

URL = "s3://photos/a"
DENIED = """<?xml version="1.0"?><Error><Code>InvalidAccessKeyId</Code>
<Message>no such key</Message></Error>"""


@pytest.fixture
def bucket(s3, small):
    """s3://photos/a with the six images of `small`, a letter, and what is hidden."""
    put_folder(small, URL)
    files = files_of_s3()
    for name in ("letter.txt", ".hidden.png", ".trash/1.png", "folder/"):
        files.pipe_file(f"{URL}/{name}", b"")
    s3.asked.clear()
    yield s3
    s3.reset()
    files.rm("photos", recursive=True)


@contextmanager
def web(folder, *, says_length=True):
    """Address of a web server of a folder; /moved leads to its 1.png."""

    class Handler(SimpleHTTPRequestHandler):
        def send_header(self, name, value):
            if says_length or name.lower() != "content-length":
                super().send_header(name, value)

        def send_head(self):
            if self.path == "/moved.png":
                self.send_response(302)
                self.send_header("location", "/1.png")
                self.end_headers()
                return None
            return super().send_head()

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class TestObjectStore:
    def test_equals_a_folder_and_stays(self, bucket, small, tmp_path):
        file = tmp_path / "s3.vlad"
        report = make(file, f"{URL}/")
        make(tmp_path / "local.vlad", small)
        assert everything(file) == everything(tmp_path / "local.vlad")
        assert dict(report.left_out) == {".txt": 1, "hidden": 1}
        assert len(bucket.gets()) == 6, "each is read once"
        bucket.asked.clear()
        with Collection.open(file) as collection:
            before = collection.stamp()
            again = collection.add(URL)
            assert (again.indexed, again.unchanged) == (0, 6)
            assert collection.stamp() == before
            assert next(row.file for row in collection.images()) == f"{URL}/0.png"
            assert collection.search(f"{URL}/2.png")[0].file == f"{URL}/2.png"
            assert collection.find(f"{URL}/2.png").path == "2.png"
            assert collection.lost_folders() == []
        assert bucket.gets() == [], "what is known is not read again"

    def test_changes(self, bucket, small, tmp_path):
        file = tmp_path / "c.vlad"
        make(file, small, URL)  # both, mixed
        files, png = files_of_s3(), cv2.imencode(".png", textured(120, 90, seed=9))[1].tobytes()
        files.pipe_file(f"{URL}/6.png", png)
        files.pipe_file(f"{URL}/1.png", b"no image")
        files.pipe_file(f"{URL}/2.png", (small / "3.png").read_bytes())
        files.rm(f"{URL}/5.png")
        with Collection.open(file) as collection:
            report = collection.add([URL], prune=True)
            assert (report.indexed, report.unchanged, report.pruned) == (2, 9 - 6, 1)
            assert [path for path, _ in report.skipped] == ["1.png"]
            assert len(collection) == 6 + 5
            assert collection.remove([f"{URL}/6.png"]) == 1
            assert collection.remove([URL]) == 5
        with pytest.raises(NothingToIndexError, match="s3://photos/none does not exist"):
            make(tmp_path / "d.vlad", "s3://photos/none")
        with pytest.raises(StorageError, match="s3://none/a: there is no such bucket"):
            make(tmp_path / "d.vlad", "s3://none/a")

    def test_names_of_any_letters(self, bucket, small, tmp_path):
        names = ["b//0.png", "b/odd ?#%41ü.png"]
        for name in names:
            files_of_s3().pipe_file(f"{URL}/{name}", (small / "0.png").read_bytes())
        make(tmp_path / "c.vlad", f"{URL}/b")
        assert paths(tmp_path / "c.vlad") == ["/0.png", "odd ?#%41ü.png"]

    def test_a_first_slash_is_no_part_of_a_prefix(self, bucket, small, tmp_path):
        """s3fs lists other keys by it, whose names would be cut."""
        with pytest.raises(StorageError, match="s3://photos//a: write one / behind the bucket"):
            make(tmp_path / "c.vlad", "s3://photos//a")
        files_of_s3().pipe_file("photos//first/0.png", (small / "0.png").read_bytes())
        make(tmp_path / "d.vlad", "s3://photos//")
        assert paths(tmp_path / "d.vlad")[0] == "/first/0.png"
        files_of_s3().rm_file("photos//first/0.png")  # which `rm` of the bucket does not know

    def test_versions_are_refused(self, bucket, small, tmp_path):
        """s3fs leaves them out, and reads another object than was asked for."""
        url = f"{URL}/0.png?versionId=1"
        with pytest.raises(StorageError, match=r"0\.png\?versionId=1: .* stands for a version"):
            make(tmp_path / "c.vlad", url)
        with pytest.raises(ImageError, match="stands for a version"):
            read_bytes(url)
        with pytest.raises(StorageError, match=r"^cannot write .* stands for a version"):
            remote.check_target(url)

    def test_a_name_that_looks_like_a_version_is_skipped(self, bucket, tmp_path, monkeypatch):
        listed = [("0.png", (5, 1)), ("0.png?versionId=1.png", (5, 1))]
        monkeypatch.setattr(discover, "list_files", lambda url: (URL, listed))
        report = make(tmp_path / "c.vlad", URL)
        assert report.indexed == 1
        ((path, why),) = report.skipped
        assert path == "0.png?versionId=1.png"
        assert "rename an object that has it in its name" in why

    def test_changed_within_a_second_and_of_one_size(self):
        one = {"size": 3, "LastModified": "Fri, 27 Nov 2026 00:00:00 GMT", "ETag": '"a"'}
        assert remote._status(one) != remote._status(one | {"ETag": '"b"'})
        assert remote._status(one)[1] // 10**9 == 1795737600
        assert remote._status({"size": None}) == (0, 0)

    def test_a_server_that_stops_and_comes_again(self, bucket, small, tmp_path):
        words, file = tmp_path / "words.npz", tmp_path / "c.vlad"
        recipe = {"n_clusters": 8, "enlarge_to": 0}
        Collection.learn(words, small, **recipe)
        with Collection.create(tmp_path / "local.vlad", codebook=words) as collection:
            collection.add(small)
        stopping = threading.Thread(target=bucket.stop)
        bucket.on_get = lambda n: stopping.start() if n == 3 else None
        bucket.latency = 0.1  # so that it has stopped before all is read
        with (
            pytest.MonkeyPatch.context() as patch,
            Collection.create(file, codebook=words) as collection,
        ):
            patch.setattr("vladkit.collection.read_ahead._THREADS", 1)
            report = collection.add(URL, n_jobs=1)
        stopping.join()
        bucket.start()
        bucket.reset()
        assert report.indexed < 6
        assert {reason for _, reason in report.skipped} == {"the server cannot be reached"}
        with Collection.open(file) as collection:
            report = collection.add(URL)
            assert (report.skipped, len(collection)) == ([], 6)
        assert everything(file) == everything(tmp_path / "local.vlad")

    def test_large_objects_are_not_fetched(self, bucket, tmp_path, monkeypatch):
        monkeypatch.setattr("vladkit.images.files.MAX_BYTES", 2000)
        with pytest.raises(NothingToIndexError, match="6 images can be used: 6 x file too large"):
            make(tmp_path / "c.vlad", URL)
        with pytest.raises(ImageError, match="file too large"):
            read_bytes(f"{URL}/1.png")
        assert bucket.gets() == []

    def test_read_ahead_keeps_to_its_room(self, bucket, tmp_path, monkeypatch):
        monkeypatch.setattr("vladkit.collection.read_ahead._ROOM", 20_000)
        assert make(tmp_path / "c.vlad", URL).indexed == 6
        assert len(bucket.gets()) == 6


class TestSecrets:
    def test_nowhere(self, bucket, tmp_path):
        file = tmp_path / "c.vlad"
        said = run("index", URL, "-o", file, "--n-clusters", "8").output
        said += run("search", file, f"{URL}/1.png", "--json").output
        bucket.answer = "403 Forbidden", DENIED
        denied = run("index", URL, "-o", file, code=1).output
        assert "s3://photos/a: access denied" in denied
        assert denied.count("\n") == 1, "one sentence"
        said += denied + run("search", file, "s3://photos/b.png", code=1).output
        with Collection.open(file) as collection, pytest.raises(StorageError) as raised:
            collection.add(URL)
        said += repr(raised.value) + repr(raised.value.__cause__)
        for secret in (cloud.KEY, cloud.SECRET):
            assert secret not in said
            for each in tmp_path.iterdir():
                assert each.is_dir() or secret.encode() not in each.read_bytes()

    @pytest.mark.parametrize("url", ["s3://me:word@photos/a", "https://me:word@host/a.jpg"])
    def test_names_and_passwords_in_urls_are_refused(self, url, tmp_path):
        for words in (
            ["index", url, "-o", "c.vlad"],
            ["draw-matches", url, "b.jpg", "-o", "c.png"],
        ):
            said = run(*words, code=2, cwd=tmp_path).output
            assert "a URL with a name or password is refused" in said
            assert "word@" not in said
        assert not list(tmp_path.iterdir())

    @pytest.mark.parametrize(
        "url",
        [
            "S3://me:geheim@b/a.jpg",
            "s3a://me:geheim@b/a.jpg",
            "ftp://me:geheim@h/a.jpg",
            "Https://h/a.jpg?X-Amz-Signature=geheim",
            "postgresql+psycopg://me:geheim@h/db",
            "tcp://me:geheim@h:1",
            "s3://me:geheim@b/c.lance",
        ],
    )
    def test_no_message_repeats_a_password(self, url, tmp_path):
        photos = tmp_path / "photos"
        photos.mkdir()
        Collection.create(tmp_path / "c.vlad").close()
        for words in (
            ["index", url, "-o", "d.vlad"],
            ["index", "photos", "-o", url],
            ["index", "photos", "-o", "d.vlad", "--codebook", url],
            ["index", "photos", "-o", "d.vlad", "--cluster", url],
            ["add", "c.vlad", url],
            ["info", url],
            ["search", "c.vlad", url],
            ["search", url, "a.jpg"],
            ["search", "c.vlad", "a.jpg", "--under", url],
            ["remove", "c.vlad", url],
            ["relocate", "c.vlad", url, "photos"],
            ["export", "c.vlad", "-o", url],
            ["merge", "d.vlad", url],
            ["pairs", "c.vlad", "-o", url],
            ["frames", url, "-o", "d"],
            ["draw-matches", url, "b.jpg", "-o", "d.png"],
        ):
            done = run(*words, code=None, cwd=tmp_path)
            assert done.exit_code in (1, 2), words
            assert "geheim" not in done.output, words

    def test_signatures_of_web_addresses_are_not_stored(self, small, tmp_path):
        with web(small) as address:
            said = run("index", f"{address}/1.png?sig=1", "-o", "c.vlad", code=2, cwd=tmp_path)
            assert "may be a signature" in said.output
            assert "sig=1" not in said.output
            make(tmp_path / "d.vlad", small)
            query = ["search", "d.vlad", f"{address}/1.png?sig=1"]
            said = run(*query, "--html", "c.html", code=2, cwd=tmp_path)
            assert "sig=1" not in said.output
            assert run(*query, "--rerank", "0", cwd=tmp_path).stdout.count("\n") == 6
        assert not (tmp_path / "c.vlad").exists()


class TestWeb:
    def test_single_images(self, small, tmp_path):
        file = tmp_path / "c.vlad"
        with web(small) as address:
            make(file, *[f"{address}/{i}.png" for i in range(4)])
            with Collection.open(file) as collection:
                assert collection.add(f"{address}/1.png").unchanged == 1
                assert [row.file for row in collection.images()][1] == f"{address}/1.png"
                found = collection.search(f"{address}/moved.png", rerank=0)
                assert found[0].path == "1.png"
                assert found[0].similarity > 0.999
                for name in ("", "/"):
                    with pytest.raises(StorageError, match="does not list its files"):
                        collection.add(address + name)
                with pytest.raises(StorageError, match=r"/none\.png: not found"):
                    collection.add(f"{address}/none.png")
            said = run("search", file, f"{address}/4.png?sig=1", f"{address}/n.png?sig=1", code=1)
            assert f"vladkit: {address}/n.png?...: not found" in said.stderr
        with pytest.raises(ImageError, match="the server cannot be reached") as raised:
            read_bytes(f"{address}/1.png")
        assert raised.value.transient

    def test_a_verdict_on_images_of_unsaid_length(self, small, tmp_path):
        with web(small, says_length=False) as address:
            make(tmp_path / "c.vlad", *[f"{address}/{i}.png" for i in range(4)])
            with Collection.open(tmp_path / "c.vlad") as collection:
                assert {row.n_bytes for row in collection.images()} == {0}
                assert collection.tell_apart(f"{address}/1.png", f"{address}/2.png") == 1
                assert collection.tell_apart(f"{address}/1.png", f"{address}/2.png") == 0


class TestTrust:
    def test_only_what_this_user_indexed_is_fetched(self, bucket, tmp_path):
        within = [URL]
        assert read_bytes(f"{URL}/1.png", within=within)
        bucket.asked.clear()
        for url in (
            "s3://photos/b.png",
            "s3://photos/ab/1.png",
            f"{URL}/../b.png",
            f"{URL}/%2e%2E/b.png",
            "http://127.0.0.1:9/a.png",
        ):
            with pytest.raises(ImageError, match="not in a folder that was indexed here"):
                read_bytes(url, within=within)
        assert bucket.asked == []

    def test_an_object_below_the_name_of_another(self, bucket, small, tmp_path):
        files = files_of_s3()
        files.pipe_file(f"{URL}/1.png/2.png", (small / "2.png").read_bytes())
        paths = ["1.png", "1.png/2.png"]
        with Collection.create(tmp_path / "c.vlad", n_clusters=4) as collection:
            assert collection.add(f"{URL}/1.png").indexed == 2
            assert sorted(row.path for row in collection.images()) == paths
            assert sorted(row.file for row in collection.images()) == [f"{URL}/{p}" for p in paths]
            assert collection.add(f"{URL}/1.png").unchanged == 2
            assert collection.add(URL).unchanged == 2
            assert len(collection) == 7

    def test_redirects_are_not_followed_for_others(self, small):
        with web(small) as address:
            assert read_bytes(f"{address}/moved.png") == (small / "1.png").read_bytes()
            with pytest.raises(ImageError, match="sends elsewhere"):
                read_bytes(f"{address}/moved.png", within=[address])

    def test_duplicates_of_another_machine(self, bucket, small, tmp_path, monkeypatch):
        shutil.copy(small / "1.png", small / "7.png")
        put_folder(small, URL)
        make(tmp_path / "c.vlad", URL)
        for elsewhere, most in ((False, 9), (True, 0)):
            bucket.asked.clear()
            if elsewhere:
                monkeypatch.setenv("VLADKIT_STATE", str(tmp_path / "elsewhere"))
            with Collection.open(tmp_path / "c.vlad", read_only=True) as collection:
                (group,) = collection.duplicates()
            assert [group.path, *(each.path for each in group.others)] == ["1.png", "7.png"]
            assert bool(bucket.asked) == bool(most)

    def test_duplicates_of_images_elsewhere(self, bucket, small, tmp_path):
        """Pixels of both collections are compared, where both are this user's."""
        album = tmp_path / "album.vlad"
        make(album, URL)
        image = cv2.imread(str(small / "1.png"))
        (tmp_path / "copies").mkdir()
        cv2.imwrite(str(tmp_path / "copies/1.jpg"), image, [cv2.IMWRITE_JPEG_QUALITY, 80])
        make(tmp_path / "c.vlad", tmp_path / "copies")
        with (
            Collection.open(tmp_path / "c.vlad", read_only=True) as collection,
            Collection.open(album, read_only=True) as reference,
        ):
            (group,) = collection.duplicates(against=reference)
        assert (group.path, group.others[0].kinds) == ("1.png", ("re-compressed",))


class TestWritten:
    def test_what_is_written_elsewhere_is_what_is_written_here(self, bucket, small, tmp_path):
        files, words = files_of_s3(), "s3://photos/words.npz"
        Collection.learn(words, URL, n_clusters=8, enlarge_to=0)
        with pytest.raises(StorageError, match="is there already"):
            Collection.learn(words, URL, n_clusters=8, enlarge_to=0)
        with Collection.create(tmp_path / "c.vlad", codebook=words) as collection:
            collection.add(URL)
            assert collection.export("s3://photos/a.fvecs") == [
                "s3://photos/a.fvecs",
                "s3://photos/a.fvecs.json",
            ]
            here = [*collection.export(tmp_path / "a.fvecs"), tmp_path / "pairs.txt"]
            for target in ("s3://photos/pairs.txt", here[-1]):
                collection.pairs(2, rerank=0).write(target)
        for file in here:
            assert files.cat_file(f"photos/{file.name}") == file.read_bytes()
        page = "s3://photos/found.html"
        run("search", tmp_path / "c.vlad", f"{URL}/1.png", "--html", page, "--rerank", "0")
        assert b"data:image/jpeg" in files.cat_file(page)
        files.pipe_file(words, b"no codebook")
        with pytest.raises(FileFormatError, match=r"s3://photos/words\.npz is not a"):
            Collection.create(tmp_path / "d.vlad", codebook=words)

    def test_whole_or_not_at_all(self, bucket):
        def write_half():
            with replace_file(f"{URL}/new.txt") as file:
                file.write(b"half")
                raise RuntimeError

        with pytest.raises(RuntimeError):
            write_half()
        assert not files_of_s3().exists(f"{URL}/new.txt")
        bucket.answer = "403 Forbidden", DENIED
        match = "cannot write s3://photos/a/new.txt: access denied"
        with pytest.raises(StorageError, match=match), replace_file(f"{URL}/new.txt") as file:
            file.write(b"all")

    @pytest.mark.parametrize(
        ("url", "error", "why"),
        [
            ("s3://none/c.npz", StorageError, "s3://none: not found"),
            ("s3://photos", ParameterError, "give the name of an object"),
            ("https://host/c.npz", ParameterError, "give a file, s3:// or gs://"),
        ],
    )
    def test_what_cannot_be_written_is_refused_before_the_work(self, url, error, why, bucket):
        with pytest.raises(error, match=why):
            check_writable(url)

    def test_images_that_no_folder_holds(self, bucket, small, tmp_path):
        """Those of one path are told apart by all of it."""
        make(tmp_path / "c.vlad", URL, small)
        with Collection.open(tmp_path / "c.vlad") as collection:
            collection.export(tmp_path / "x.npz")
            files = {row.file for row in collection.images()}
            with np.load(tmp_path / "x.npz") as exported:
                assert set(exported["paths"]) == files
                assert len(exported["vectors"]) == len(files) == 12
            with pytest.raises(ParameterError, match="no folder holds all"):
                collection.export(tmp_path / "x.h5")


class TestFormsOfPaths:
    def test_file_urls_are_paths(self, small, tmp_path):
        run("index", small.as_uri(), "-o", (tmp_path / "c d.vlad").as_uri(), "--n-clusters", "8")
        assert len(paths((tmp_path / "c d.vlad").as_uri())) == 6
        assert read_bytes((small / "1.png").as_uri()) == (small / "1.png").read_bytes()
        with Collection.open(tmp_path / "c d.vlad") as collection:
            assert collection.add([small.as_uri()]).unchanged == 6
            assert collection.find((small / "1.png").as_uri()).path == "1.png"

    def test_odd_letters_of_file_urls_and_other_hosts(self, tmp_path):
        """No other file of this machine is taken for what they name."""
        for name in ("a", "a?b", "a#b"):
            (tmp_path / name).write_text(name)
        folder = tmp_path.as_uri()
        for name in ("a?b", "a#b", "a%3Fb", "a%23b"):
            assert read_bytes(f"{folder}/{name}").decode() == unquote(name)
        assert read_bytes(f"file://localhost{tmp_path}/a") == b"a"
        with pytest.raises(ImageError, match="no such file"):
            read_bytes(f"file://host{tmp_path}/a")
        with pytest.raises(NothingToIndexError, match=r"file://host/.* does not exist"):
            make(tmp_path / "c.vlad", f"file://host{tmp_path}/a")

    def test_a_collection_is_a_file_here(self, tmp_path):
        for words in (["index", tmp_path, "-o", "s3://photos/c.vlad"], ["info", "s3://photos/c"]):
            assert "a collection is a file on a disk of this machine" in run(*words, code=2).stderr

    @pytest.mark.parametrize("scheme", ["s3", "gs", "https"])
    def test_the_extra_is_missing(self, scheme, tmp_path, monkeypatch):
        monkeypatch.setattr(remote, "find_spec", lambda name: None)
        said = run("index", f"{scheme}://photos/a", "-o", tmp_path / "c.vlad", code=1).stderr
        assert said == f"vladkit: {scheme}:// needs fsspec: pip install 'vladkit[cloud]'\n"
        with pytest.raises(MissingDependencyError):
            read_bytes(f"{scheme}://photos/a")
        with pytest.raises(ImageError, match="needs fsspec"):
            read_bytes(f"{scheme}://photos/a", within=[f"{scheme}://photos"])

    def test_relocate_is_of_folders_of_this_machine(self, small, tmp_path):
        make(tmp_path / "c.vlad", small)
        with Collection.open(tmp_path / "c.vlad") as collection:
            for old, new in ((small, URL), (URL, small)):
                with pytest.raises(ParameterError, match="s3://photos/a is no folder of this mach"):
                    collection.relocate(old, new)

    def test_other_schemes_and_no_bucket(self, tmp_path):
        with pytest.raises(ParameterError, match="s3://: give s3://NAME"):
            make(tmp_path / "c.vlad", "s3://")
        with pytest.raises(NothingToIndexError, match=r"az://x does not exist.* s3://, gs://"):
            make(tmp_path / "c.vlad", "az://x")

    def test_a_folder_that_holds_all(self):
        from vladkit.store.naming import names_below
        from vladkit.store.rows import ImageRow

        def name(*folders):
            rows = [ImageRow(i, "1.png", 1, 1, image_id=i, folder=f) for i, f in enumerate(folders)]
            return names_below(rows)

        assert name("s3://photos/a/b", "s3://photos/a/c") == (
            "s3://photos/a",
            {0: "b/1.png", 1: "c/1.png"},
        )
        with pytest.raises(ParameterError, match="several buckets"):
            name("s3://photos/a", "s3://others/a")
        with pytest.raises(ParameterError, match="some are in a bucket, others here"):
            name("s3://photos/a", "/photos/a")
