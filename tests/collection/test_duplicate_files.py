"""Acting on duplicates: what is done, what is left, what a kill leaves, and undoing it."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import cv2
import pytest

from commands import run
from images import textured
from paths import SHARED
from small import make
from stored import sql
from vladkit import Collection
from vladkit.collection import duplicate_files as module
from vladkit.collection import duplicates
from vladkit.collection.duplicate_files import apply, plan_hardlinks, plan_moves, undo
from vladkit.collection.duplicates import INDIRECT
from vladkit.errors import FileFormatError, ParameterError, StorageError


@pytest.fixture(scope="module")
def original(tmp_path_factory):
    """Two images, each with a copy of its bytes and one of half the size, and links."""
    home = tmp_path_factory.mktemp("duplicates")
    folder = home / "photos"
    (folder / "sub").mkdir(parents=True)
    for i in range(2):
        image = textured(240, 200, seed=i)
        cv2.imwrite(str(folder / f"{i}.png"), image)
        shutil.copy(folder / f"{i}.png", folder / "sub" / f"copy {i}.png")
        half = cv2.resize(image, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(folder / "sub" / f"half {i}.png"), half)
        os.utime(folder / f"{i}.png", ns=(10**18, 10**18 + i))
    os.chmod(folder / "sub" / "copy 0.png", 0o640)
    make(home / "c.vlad", folder, keep_features=200)
    return home


@pytest.fixture
def home(original, tmp_path):
    """A copy of it, with links, in a folder that this user indexed."""
    home = tmp_path / "home"
    shutil.copytree(original, home)  # with times
    with Collection.open(home / "c.vlad") as collection:
        collection.relocate(original / "photos", home / "photos")
        assert collection.index.store.own_folders() == [str(home / "photos")]
    return home


def state(folder):
    """Bytes, mode, time of change and number of names of each file, and where links lead."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        if path.is_symlink():
            found[str(path)] = os.readlink(path)
        elif path.is_file():
            status = path.stat()
            found[str(path)] = (
                path.read_bytes(),
                status.st_mode,
                status.st_mtime_ns,
                status.st_nlink,
            )
    return found


def planned(home, folder=None, **options):
    with Collection.open(home / "c.vlad") as collection:
        groups = collection.duplicates()
        assert [len(group.others) for group in groups] == [2, 2]
        if folder is None:
            return plan_hardlinks(collection, groups)
        return plan_moves(collection, groups, folder, **options)


class TestHardlinks:
    def test_equal_bytes_become_one_file_and_undo_makes_two(self, home):
        before = state(home / "photos")
        plan = planned(home)
        assert [os.path.basename(step.file) for step in plan.steps] == ["copy 0.png", "copy 1.png"]
        assert [os.path.basename(each.file) for each in plan.left] == ["half 0.png", "half 1.png"]
        assert "a link would lose them" in plan.left[0].reason
        assert state(home / "photos") == before
        done = apply(plan, home / "log")
        assert len(done.done) == 2
        assert done.left == []
        assert done.freed == sum((home / f"photos/{i}.png").stat().st_size for i in range(2))
        for i in range(2):
            assert os.path.samefile(home / f"photos/{i}.png", home / f"photos/sub/copy {i}.png")
        again = undo(home / "log")
        assert (len(again.done), again.left) == (2, [])
        assert state(home / "photos") == before
        assert not (home / "log").exists()

    def test_equal_bytes_that_are_not_the_references(self, home):
        """Of two equal small copies one becomes a link to the other; the large one is another."""
        shutil.copy2(home / "photos/sub/half 0.png", home / "photos/sub/half 0 again.png")
        before = state(home / "photos")
        with Collection.open(home / "c.vlad") as collection:
            collection.add([home / "photos"])
            plan = plan_hardlinks(collection, collection.duplicates())
        links = {os.path.basename(s.file): os.path.basename(s.kept) for s in plan.steps}
        assert links == {
            "copy 0.png": "0.png", "copy 1.png": "1.png", "half 0.png": "half 0 again.png",
        }  # fmt: skip
        assert [os.path.basename(each.file) for each in plan.left] == ["half 1.png"]
        assert len(apply(plan, home / "log").done) == 3
        assert undo(home / "log").left == []
        assert state(home / "photos") == before

    def test_a_file_that_is_not_what_was_indexed_is_left(self, home):
        plan = planned(home)
        (home / "photos/sub/copy 0.png").write_bytes(b"something else")
        (home / "photos/1.png").unlink()
        before = state(home / "photos")
        done = apply(plan, home / "log")
        assert done.done == []
        assert [each.reason for each in done.left] == [
            "changed since it was indexed",
            f"{home / 'photos/1.png'} is gone, or cannot be looked at",
        ]
        assert state(home / "photos") == before

    def test_other_bytes_of_the_same_size_and_time_are_left(self, home):
        """A link would lose them; only reading tells."""
        plan = planned(home)
        file = home / "photos/sub/copy 0.png"
        times = file.stat().st_atime_ns, file.stat().st_mtime_ns
        file.write_bytes(b"x" * file.stat().st_size)
        os.utime(file, ns=times)
        before = file.read_bytes()
        done = apply(plan, home / "log")
        assert len(done.done) == 1
        assert "bytes differ" in done.left[0].reason
        assert file.read_bytes() == before

    def test_a_copy_stays_where_the_kept_file_has_changed(self, home):
        """Emptied in place, of the same size: the copy is the last good one."""
        plan = planned(home, home / "away")
        kept = Path(plan.steps[0].kept)
        kept.write_bytes(bytes(kept.stat().st_size))
        done = apply(plan, home / "log")
        assert {each.reason for each in done.left} == {f"{kept} has changed since it was indexed"}
        assert [step.file for step in plan.steps if step.kept == str(kept)] == [
            each.file for each in done.left
        ]
        with Collection.open(home / "c.vlad", read_only=True) as collection:
            groups = collection.duplicates()  # and a plan that is made only now
            again = plan_moves(collection, groups, home / "away2")
        assert {s.kept for s in again.steps} >= {str(kept)}
        left = apply(again, home / "log2").left
        assert f"{kept} has changed since it was indexed" in {each.reason for each in left}

    def test_names_of_one_file_are_left(self, home):
        plan = planned(home)
        os.unlink(home / "photos/sub/copy 0.png")
        os.link(home / "photos/0.png", home / "photos/sub/copy 0.png")
        os.link(home / "photos/sub/copy 1.png", home / "photos/another name.png")
        done = apply(plan, home / "log")
        assert [each.reason.partition(" (")[0] for each in done.left] == [
            "one file with the one that is kept already", "it has other names",
        ]  # fmt: skip
        assert done.done == []

    @pytest.mark.skipif(os.name == "nt", reason="names are limited in UTF-16 there")
    def test_names_as_long_as_they_may_be(self, home):
        """A name of 255 bytes has 85 letters of three bytes."""
        name = "\u5199" * 83 + ".png"
        os.rename(home / "photos/sub/copy 0.png", home / "photos/sub" / name)
        before = state(home / "photos")
        with Collection.open(home / "c.vlad") as collection:
            collection.add([home / "photos"], prune=True)
        done = apply(planned(home), home / "log")
        assert str(home / "photos/sub" / name) in done.done
        assert (home / "photos/sub" / name).stat().st_nlink == 2
        assert undo(home / "log").left == []
        assert state(home / "photos") == before

    def test_without_the_file_that_is_kept(self, home):
        os.unlink(home / "photos/0.png")
        reasons = {os.path.basename(each.file): each.reason for each in planned(home).left}
        assert reasons["copy 0.png"] == f"{home}/photos/0.png is gone, or cannot be looked at"
        assert "its bytes differ" in reasons["half 1.png"]

    def test_undo_leaves_what_has_changed_since(self, home):
        apply(planned(home), home / "log")
        for i in range(2):
            (home / f"photos/{i}.png").write_bytes(b"edited")  # both names of it
        left = undo(home / "log")
        assert left.done == []
        assert all("has changed since" in each.reason for each in left.left)
        assert (home / "log").exists()

    @pytest.mark.parametrize("inode", ["[99, {}]", "[99, 1]"])
    def test_undo_after_the_disk_was_mounted_again(self, home, inode):
        """Numbers of disks, and on some those of files, are others then."""
        before = state(home / "photos")
        done = apply(planned(home), home / "log")
        assert len(done.done) == 2
        text = (home / "log").read_text()
        text = re.sub(r"\[\d+, (\d+)\], \"sha", lambda m: inode.format(m[1]) + ', "sha', text)
        assert text.count(" [99, ") == 2
        (home / "log").write_text(text)
        assert undo(home / "log").left == []
        assert state(home / "photos") == before

    def test_undo_of_a_copy_that_was_replaced_or_removed(self, home):
        before = state(home / "photos")
        apply(planned(home), home / "log")
        (home / "photos/sub/copy 0.png").unlink()
        (home / "photos/sub/copy 1.png").unlink()
        (home / "photos/sub/copy 1.png").write_bytes(b"new")
        left = undo(home / "log")
        assert [each.reason for each in left.left] == ["another file is there"]
        after, changed = state(home / "photos"), str(home / "photos/sub/copy 1.png")
        assert after | {changed: before[changed]} == before
        assert (home / "photos/sub/copy 1.png").read_bytes() == b"new"
        assert (home / "photos/sub/copy 0.png").stat().st_mode & 0o777 == 0o640


class TestMoves:
    def test_copies_go_under_their_paths_and_come_back(self, home):
        before = state(home / "photos")
        plan = planned(home, home / "away" / "copies")
        assert {os.path.relpath(step.target, home) for step in plan.steps} == {
            f"away/copies/photos/sub/{name} {i}.png" for name in ("copy", "half") for i in (0, 1)
        }
        assert len(apply(plan, home / "log").done) == 4
        assert len(state(home / "away")) == 4
        assert sorted(p.name for p in (home / "photos").rglob("*.png")) == ["0.png", "1.png"]
        assert undo(home / "log").left == []
        assert state(home / "photos") == before
        assert not (home / "away").exists()

    def test_of_some_kinds(self, home):
        plan = planned(home, home / "away", kinds=["resized"])
        assert {os.path.basename(step.file) for step in plan.steps} == {"half 0.png", "half 1.png"}
        assert {each.reason for each in plan.left} == {"identical: not of the kinds asked for"}

    def test_nothing_is_replaced(self, home):
        target = home / "away/photos/sub/copy 0.png"
        target.parent.mkdir(parents=True)
        target.write_bytes(b"here before")
        plan = planned(home, home / "away")
        target.with_name("copy 1.png").write_bytes(b"came later")
        done = apply(plan, home / "log")
        assert len(done.done) == 3
        assert "exists" in done.left[0].reason.lower()
        assert target.read_bytes() == b"here before"
        assert target.with_name("copy 0-2.png").exists()
        assert target.with_name("copy 1.png").read_bytes() == b"came later"

    def test_what_a_link_leads_to_is_left(self, home):
        os.symlink("sub/copy 0.png", home / "photos/link.png")
        plan = planned(home, home / "away")
        assert [each.reason for each in plan.left] == ["a link in the folder leads to it"]

    def test_to_another_disk(self, home, monkeypatch):
        """Where no hard link can be made, the file is copied and compared."""
        before = state(home / "photos")

        def refuse(*paths):
            raise OSError(18, "Invalid cross-device link")

        plan = planned(home, home / "away")
        monkeypatch.setattr(module.os, "link", refuse)
        assert len(apply(plan, home / "log").done) == 4
        assert undo(home / "log").left == []
        assert state(home / "photos") == before

    @pytest.mark.parametrize("disk", ["one", "another"])
    def test_out_of_a_folder_that_is_read_only(self, home, monkeypatch, disk):
        """The copy stays, and does not lie in the other folder as well, once more with each run."""
        before = state(home / "photos")
        plan = planned(home, home / "away")
        link, unlink = os.link, os.unlink

        def refuse(path):
            if str(path).startswith(f"{home}/photos"):
                raise PermissionError(13, "Permission denied", path)
            unlink(path)

        def on_disk(source, target):
            if disk == "another":
                raise OSError(18, "Invalid cross-device link")
            link(source, target)

        monkeypatch.setattr(module.os, "unlink", refuse)
        monkeypatch.setattr(module.os, "link", on_disk)
        done = apply(plan, home / "log")
        assert done.done == []
        assert {each.reason for each in done.left} == {"cannot be moved: Permission denied"}
        assert state(home / "photos") == before
        assert state(home / "away") == {}
        monkeypatch.undo()
        assert undo(home / "log").left == []
        assert not (home / "away").exists()

    def test_back_from_a_folder_that_is_read_only(self, home, monkeypatch):
        before = state(home / "photos")
        assert len(apply(planned(home, home / "away"), home / "log").done) == 4
        unlink = os.unlink

        def refuse(path):
            if str(path).startswith(f"{home}/away"):
                raise PermissionError(13, "Permission denied", path)
            unlink(path)

        monkeypatch.setattr(module.os, "unlink", refuse)
        for _ in range(2):
            left = undo(home / "log").left
            assert len(left) == 4
            assert all(each.reason.startswith(f"it is back, and {home}/away") for each in left)
            assert state(home / "photos").keys() == before.keys()
        monkeypatch.undo()
        assert undo(home / "log").left == []
        assert state(home / "photos") == before
        assert not (home / "away").exists()

    def test_two_people_with_other_rules_keep_one(self, home, monkeypatch):
        """The file that is kept is moved by another process meanwhile: the copy comes back."""
        plan = planned(home, home / "away")
        real = module._rename

        def also(source, target):
            real(source, target)
            if source == plan.steps[0].file:
                os.rename(plan.steps[0].kept, home / "elsewhere.png")

        monkeypatch.setattr(module, "_rename", also)
        done = apply(plan, home / "log")
        assert f"{plan.steps[0].kept} is gone" in {each.reason for each in done.left}
        assert os.path.exists(plan.steps[0].file)

    def test_into_a_folder_that_is_indexed(self, home):
        with pytest.raises(ParameterError, match="which is indexed"):
            planned(home, home / "photos" / "copies")

    def test_to_where_they_are(self, home):
        """Copies go below the name of their folder, which is the folder itself above it."""
        with pytest.raises(ParameterError, match=r"photos/sub, in .*photos, which is indexed"):
            planned(home, home)
        with pytest.raises(ParameterError, match="no folder"):
            planned(home, "")

    def test_into_a_folder_of_the_other_collection(self, home):
        os.makedirs(home / "album")
        shutil.copy(home / "photos/0.png", home / "album/mine.png")
        make(home / "album.vlad", home / "album", keep_features=200, n_clusters=4)
        words = "duplicates", "c.vlad", "--against", "album.vlad", "--move", "album/copies"
        before = state(home / "photos")
        found = run(*words, "--apply", cwd=home, code=2)
        assert f"in {home}/album, which is indexed" in found.stderr
        assert state(home / "photos") == before

    def test_where_nothing_can_be_written(self, home):
        (home / "away").write_text("a file, no folder")
        done = apply(planned(home, home / "away"), home / "log")
        assert done.done == []
        assert "cannot be moved" in done.left[0].reason


class TestOthersCollections:
    def test_folders_of_strangers_are_not_touched(self, home, monkeypatch, tmp_path):
        """A collection may come from anybody, and name any folder."""
        monkeypatch.setenv("VLADKIT_STATE", str(tmp_path / "another user"))
        plan = planned(home)
        assert plan.steps == ()
        assert "not indexed by you" in plan.left[0].reason

    def test_odd_paths(self, home):
        """Folders and paths that a file names may lead anywhere, or be none."""
        sql(home / "c.vlad", "UPDATE picture SET path = '../../home/photos/' || path")
        plan = planned(home, home / "copies")
        assert plan.steps == ()
        assert {each.reason for each in plan.left} == {"its path leads out of its folder"}
        sql(home / "c.vlad", "UPDATE picture SET path = replace(path, '../../home/photos/', '')")
        sql(home / "c.vlad", ("UPDATE source SET root = ?, relative = NULL", ("/nowhere\0",)))
        with pytest.raises(FileFormatError, match="a folder's path has a zero byte"):
            planned(home, home / "copies")


KILLS = '''
import json, os, sys
from vladkit.collection.duplicate_files import Plan, Step, apply, undo

home, kind = sys.argv[1:]
plan = Plan(tuple(Step(**each) for each in json.load(open(home + "/plan.json"))), ())
names = ("link", "replace", "unlink", "fsync", "makedirs", "write")

def counted(limit, step):
    """Do it in a child that ends, without a word, at call `limit`; whether it got to the end."""
    pid = os.fork()
    if pid == 0:
        calls = 0
        for name in names:
            real = getattr(os, name)
            def dying(*args, real=real, **options):
                nonlocal calls
                calls += 1
                if calls == limit:
                    os._exit(9)
                return real(*args, **options)
            setattr(os, name, dying)
        step()
        os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0

def files():
    found = {}
    for place, _, names in os.walk(home):
        for name in names:
            path = os.path.join(place, name)
            if name.endswith((".png", "-part")):
                s = os.stat(path)
                found[path] = open(path, "rb").read(), s.st_mode, s.st_mtime_ns, s.st_nlink
    return found

before, log = files(), home + "/log"
kept = {before[step.kept][0] for step in plan.steps} | {before[s.file][0] for s in plan.steps}
n_kills = 0
for limit in range(1, 200):
    ended = counted(limit, lambda: apply(plan, log))
    now = {value[0] for value in files().values()}
    assert kept <= now, f"lost at call {limit}"
    if os.path.exists(log):
        if not os.path.getsize(log):  # nothing had been done
            os.unlink(log)
        undo_limit = 1
        while os.path.exists(log) and not counted(undo_limit, lambda: undo(log)):
            assert kept <= {value[0] for value in files().values()}, (limit, undo_limit)
            undo_limit += 1
    assert files() == before, f"not as before after a kill at call {limit}"
    n_kills += 1
    if ended:
        break
print(n_kills)
'''


class TestKills:
    @pytest.mark.skipif(not hasattr(os, "fork"), reason="kills children, which Windows has not")
    @pytest.mark.parametrize("kind", ["hardlink", "move"])
    def test_at_every_moment_lose_nothing(self, home, kind):
        """Also those in the middle of undoing; all is as before in the end."""
        plan = planned(home) if kind == "hardlink" else planned(home, home / "away")
        steps = [{name: getattr(s, name) for name in s.__slots__} for s in plan.steps]
        (home / "plan.json").write_text(json.dumps(steps))
        done = subprocess.run(
            [sys.executable, "-c", KILLS, str(home), kind], capture_output=True, text=True
        )
        assert done.returncode == 0, done.stderr
        assert int(done.stdout) >= 4 * len(steps)


MOVED = {"do": "move", "file": "/a/b.jpg", "target": "/c/b.jpg", "made": ["/c"]}
LINKED = {
    "do": "hardlink", "file": "/a/b.jpg", "kept": "/a/c.jpg", "inode": [1, 2], "sha256": "0",
    "mode": 0o644, "owner": [0, 0], "times": [0, 0],
}  # fmt: skip


class TestUndoFiles:
    def test_one_that_exists_is_not_replaced(self, home):
        (home / "log").write_text("mine")
        with pytest.raises(StorageError, match="exists"):
            apply(planned(home), home / "log")
        assert (home / "log").read_text() == "mine"

    @pytest.mark.parametrize("text", [
        "", "{}\n", "[" * 10**5, '{"vladkit": "undo", "format": 2}\n',
        '{"vladkit": "undo", "format": 1}\n{"do": "delete", "file": "/etc/passwd"}\n',
        '{"vladkit": "undo", "format": 1}\n{"do": "move", "file": 3, "target": "x"}\n',
        '{"vladkit": "undo", "format": 1}\n[]\n',
        *('{"vladkit": "undo", "format": 1}\n' + json.dumps(MOVED | change) + "\n" for change in [
            {"made": None}, {"made": 5}, {"made": ["/elsewhere"]}, {"file": "/a\0"},
            {"target": "/\ud800"}, {"file": "relative"},
        ]),
        *('{"vladkit": "undo", "format": 1}\n' + json.dumps(LINKED | change) + "\n" for change in [
            {"inode": [1]}, {"mode": 1e9}, {"mode": -1}, {"owner": ["a", "b"]},
            {"owner": [0, 2**40]}, {"times": [10**40, 0]}, {"times": None}, {"kept": "/a\0"},
        ]),
    ])  # fmt: skip
    def test_other_files_are_refused(self, tmp_path, text):
        (tmp_path / "log").write_text(text)
        with pytest.raises(FileFormatError, match="no undo file"):
            undo(tmp_path / "log")

    def test_what_is_no_file_is_not_read(self, tmp_path):
        """A pipe would be waited for, a device read, for ever."""
        os.mkfifo(tmp_path / "pipe")
        entries = [LINKED | {name: str(tmp_path / "pipe")} for name in ("file", "kept")]
        lines = [{"vladkit": "undo", "format": 1}, *entries]
        (tmp_path / "log").write_text("".join(json.dumps(each) + "\n" for each in lines))
        outcome = undo(tmp_path / "log")
        assert [each.reason for each in outcome.left] == ["no regular file"] * 2

    def test_one_that_is_not_there(self, tmp_path):
        with pytest.raises(FileFormatError, match="cannot read"):
            undo(tmp_path / "log")


class TestCommand:
    def test_says_first_and_does_then(self, home):
        before = state(home / "photos")
        said = run("duplicates", "c.vlad", "--move", "away", cwd=home)
        assert (
            "4 copies would be moved to away; nothing was changed: --apply does it" in said.stderr
        )
        assert said.stdout.count("would move") == 4
        assert state(home / "photos") == before
        found = run("duplicates", "c.vlad", "--move", "away", "--apply", "--json", cwd=home)
        found = json.loads(found.stdout)
        assert found["applied"] is True
        assert len(found["done"]) == 4
        assert json.loads(run("info", "c.vlad", "--json", cwd=home).stdout)["images"] == 2
        done = run("duplicates", "c.vlad", "--undo", found["undo"], cwd=home)
        assert "4 files as before" in done.stderr
        assert state(home / "photos") == before

    def test_the_way_back_can_be_pasted(self, home, tmp_path):
        place = tmp_path / "my pics"
        place.mkdir()
        before = state(home / "photos")
        shutil.copy(home / "c.vlad", place / "my c.vlad")
        done = run("duplicates", place / "my c.vlad", "--move", home / "a", "--apply", cwd=place)
        _, *words = shlex.split(done.stderr.partition("; vladkit ")[2].partition(" brings")[0])
        run("duplicates", *words, cwd=home)
        assert state(home / "photos") == before

    def test_an_interrupt_says_how_to_bring_back_what_was_done(self, home, monkeypatch):
        before, real, done = state(home / "photos"), module._do, []

        def interrupted(*step):
            if done:
                raise KeyboardInterrupt
            done.append(real(*step))
            return 0

        monkeypatch.setattr(module, "_do", interrupted)
        said = run("duplicates", "c.vlad", "--move", "away", "--apply", cwd=home, code=130).stderr
        assert state(home / "photos") != before
        log = said.partition("--undo ")[2].split()[0]
        run("duplicates", "c.vlad", "--undo", log, cwd=home)
        assert state(home / "photos") == before

    def test_an_error_after_it_says_how_to_bring_back_what_was_done(self, home, monkeypatch):
        before = state(home / "photos")

        def busy(self, paths):
            raise StorageError("another process has been writing")

        monkeypatch.setattr(Collection, "remove", busy)
        said = run("duplicates", "c.vlad", "--move", "away", "--apply", cwd=home, code=1).stderr
        assert "another process has been writing" in said
        assert state(home / "photos") != before
        log = said.partition("--undo ")[2].split()[0]
        run("duplicates", "c.vlad", "--undo", log, cwd=home)
        assert state(home / "photos") == before

    def test_nothing_could_be_done(self, home):
        (home / "file").write_text("no folder")
        words = "duplicates", "c.vlad", "--move", "file", "--apply", "--json"
        found = json.loads(run(*words, cwd=home, code=1).stdout)
        assert (found["done"], found["undo"], len(found["left"])) == ([], None, 4)
        assert not list(home.glob("*.jsonl"))

    def test_hardlinks(self, home):
        done = run("duplicates", "c.vlad", "--hardlink", "--apply", "--keep", "first", cwd=home)
        assert "2 copies replaced by hard links, 2 left as they are" in done.stderr
        assert os.path.samefile(home / "photos/0.png", home / "photos/sub/copy 0.png")

    @pytest.mark.parametrize(("words", "message"), [
        (["--hardlink", "--move", "x"], "give one of them"),
        (["--apply"], "give --hardlink or --move"),
        (["--kind", "resized"], "--kind is for --move"),
        (["--keep", "newest"], "keep='newest'"),
        (["--move", "x", "--kind", "resize"], "kinds='resize': wanted 'identical', 'flipped'"),
        (["--not-same", "a", "b", "--move", "x", "--apply"], "--not-same does nothing else"),
        (["--not-same", "a", "b", "--undo", "u"], "--undo does nothing else"),
        (["--undo", "u", "--hardlink", "--apply"], "--undo does nothing else"),
    ])  # fmt: skip
    def test_options_that_do_not_go_together(self, home, words, message):
        assert message in run("duplicates", "c.vlad", *words, cwd=home, code=2).stderr


class TestVerdicts:
    def test_are_remembered(self, home):
        a, b = "0.png", "sub/half 0.png"
        assert "not the same" in run("duplicates", "c.vlad", "--not-same", a, b, cwd=home).stderr
        assert "as before" in run("duplicates", "c.vlad", "--not-same", b, a, cwd=home).stderr
        with Collection.open(home / "c.vlad", read_only=True) as collection:
            groups = collection.duplicates()
        # never in one group, not by way of the copy of the same bytes either
        assert [[each.path for each in group.others] for group in groups] == [
            ["sub/copy 0.png"], ["sub/copy 1.png", "sub/half 1.png"],
        ]  # fmt: skip

    def test_hold_for_what_the_files_hold(self, home):
        with Collection.open(home / "c.vlad") as collection:
            assert collection.tell_apart("0.png", "sub/half 0.png", "1.png") == 3
            assert collection.tell_apart("0.png", "sub/half 0.png") == 0
            os.rename(home / "photos/sub/half 0.png", home / "photos/sub/other name.png")
            collection.add([home / "photos"], prune=True)
            assert len(collection.duplicates()[0].others) == 1
            os.utime(home / "photos/sub/other name.png")  # another file, for all that is known
            assert len(collection.duplicates()[0].others) == 2

    def test_errors(self, home):
        with Collection.open(home / "c.vlad") as collection:
            for images, message in (
                (["0.png"], "two images"),
                (["0.png", "none.png"], "none.png is not in"),
                (["0.png", "sub/copy 0.png"], "the same bytes"),
            ):
                with pytest.raises(ParameterError, match=message):
                    collection.tell_apart(*images)
            (home / "photos/1.png").unlink()
            with pytest.raises(ParameterError, match="cannot be read"):
                collection.tell_apart("0.png", "1.png")


class TestRules:
    def test_which_is_kept(self, home):
        with Collection.open(home / "c.vlad", read_only=True) as collection:
            first = {
                rule: [group.path for group in collection.duplicates(keep=rule)]
                for rule in ("largest", "first", "oldest")
            }
        assert first == {rule: ["0.png", "1.png"] for rule in first}
        os.utime(home / "photos/sub/half 1.png", ns=(1, 1))
        with Collection.open(home / "c.vlad") as collection:
            collection.add([home / "photos"])
            paths = [group.path for group in collection.duplicates(keep="oldest")]
        assert paths == ["0.png", "sub/half 1.png"]

    def test_against_another_collection(self, home):
        """Only its images are references, and only others are copies."""
        os.makedirs(home / "album")
        shutil.copy(home / "photos/sub/half 0.png", home / "album/mine.png")
        cv2.imwrite(str(home / "album/other.png"), textured(240, 200, seed=7))
        os.symlink(home / "photos/1.png", home / "album/1.png")  # no copy of itself
        make(home / "album.vlad", home / "album", keep_features=200, n_clusters=4)
        with (
            Collection.open(home / "c.vlad", read_only=True) as collection,
            Collection.open(home / "album.vlad", read_only=True) as album,
        ):
            groups = collection.duplicates(against=album)
        assert [(g.path, [(o.path, o.kinds) for o in g.others]) for g in groups] == [
            ("1.png", [("sub/copy 1.png", ("identical",)), ("sub/half 1.png", ("resized",))]),
            ("mine.png", [
                ("0.png", ("resized",)), ("sub/copy 0.png", ("resized",)),
                ("sub/half 0.png", ("identical",)),
            ]),
        ]  # fmt: skip
        assert groups[1].file == str(home / "album/mine.png")
        assert all(-1 <= other.similarity <= 1 for group in groups for other in group.others)

    def test_against_other_features(self, home):
        make(home / "none.vlad", home / "photos", keep_features=0)
        with (
            Collection.open(home / "c.vlad", read_only=True) as collection,
            Collection.open(home / "none.vlad", read_only=True) as other,
            pytest.raises(ParameterError, match="keeps no features"),
        ):
            collection.duplicates(against=other)


def test_a_crop_of_a_crop_is_not_moved(tmp_path):
    """It is like its crop, and not like the whole: for a person to look at."""
    folder = tmp_path / "photos"
    folder.mkdir()
    image = textured(1600, 1400, seed=3)
    for i in range(5):
        cv2.imwrite(str(folder / f"{i}.png"), image)
        h, w = image.shape
        image = image[h - int(0.6 * h) :, w - int(0.6 * w) :]
    make(tmp_path / "c.vlad", folder, keep_features=400, enlarge_to=640)
    with Collection.open(tmp_path / "c.vlad") as collection:
        (group,) = collection.duplicates()
        kinds = {each.path: each.kinds for each in group.others}
        assert (group.path, kinds["1.png"]) == ("0.png", ("cropped",))
        assert kinds["4.png"] == ("cropped", INDIRECT)
        plan = plan_moves(collection, [group], tmp_path / "moved")
        moved = {Path(step.file).name for step in plan.steps}
        assert "1.png" in moved
        assert moved == {path for path, each in kinds.items() if INDIRECT not in each}
        assert all("look at it first" in left.reason for left in plan.left)
        asked = plan_moves(collection, [group], tmp_path / "moved", ["cropped", INDIRECT])
        assert len(asked.steps) == 4


def test_what_differs_in_pixels_from_the_image_that_is_kept(home, monkeypatch):
    """It came into the group by another image: its features alone do not decide."""
    described = duplicates._Finder.described

    def when_groups_are_made(finder, *arguments):
        finder._sure.clear()
        monkeypatch.setattr(duplicates, "agrees", lambda *_, **__: False)
        return described(finder, *arguments)

    monkeypatch.setattr(duplicates._Finder, "described", when_groups_are_made)
    with Collection.open(home / "c.vlad") as collection:
        groups = collection.duplicates()
        plan = plan_moves(collection, groups, home / "moved")
    for group in groups:
        kinds = {os.path.basename(each.path)[:4]: each.kinds for each in group.others}
        assert kinds == {"copy": ("identical",), "half": ("resized", INDIRECT)}
    assert {Path(step.file).name[:4] for step in plan.steps} == {"copy"}


def test_a_pair_whose_pixels_have_agreed_is_direct(home, monkeypatch):
    """Whichever of the two is kept: the same pair the other way round may be close to the limit."""
    seen = []
    agrees = duplicates.agrees
    monkeypatch.setattr(
        duplicates, "agrees", lambda *a, **k: not seen.append(a) and agrees(*a, **k)
    )
    with Collection.open(home / "c.vlad") as collection:
        groups = collection.duplicates()
    assert len(seen) == len(groups) == 2


@pytest.mark.skipif(not SHARED.is_dir(), reason="the shared images are not here")
def test_another_photo_of_a_group_is_not_moved(tmp_path):
    """Two photos of a series whose small versions are alike make one group."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("100301", "100302"):
        photo = cv2.imread(str(SHARED / "data" / "holidays100" / "images" / f"{name}.jpg"))
        smaller = cv2.resize(photo, None, fx=0.5, fy=0.5, interpolation=cv2.INTER_AREA)
        for version, image in (("original", photo), ("half", smaller), ("crop", photo[:, 300:])):
            quality = [cv2.IMWRITE_JPEG_QUALITY, 90]
            cv2.imwrite(str(folder / f"{name} {version}.jpg"), image, quality)
    with Collection.create(tmp_path / "c.vlad") as collection:
        collection.add([folder])
        plan = plan_moves(collection, collection.duplicates(), tmp_path / "moved")
    assert plan.steps
    for step in plan.steps:
        assert Path(step.file).name[:6] == Path(step.kept).name[:6]
