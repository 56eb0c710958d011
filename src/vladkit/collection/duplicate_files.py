"""Files of duplicates: copies replaced by hard links, or moved away, and all of that undone.

Each step is written to an undo file, and flushed to the disk, before it is done; a kill at any
moment leaves files that `undo` brings back. A step is left out where its file is not the one that
was indexed, or where what is to be kept is not there: the last file of a shot is never touched.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, BinaryIO, Final

from vladkit.collection.collection import Collection
from vladkit.collection.duplicates import INDIRECT, KINDS, Duplicate, DuplicateGroup
from vladkit.core.files import is_special_file, time_of_change
from vladkit.core.names import real
from vladkit.core.params import StrOptions, check_parameter
from vladkit.core.remote import is_url
from vladkit.errors import FileFormatError, ParameterError, StorageError

__all__ = ["Left", "Outcome", "Plan", "Step", "apply", "plan_hardlinks", "plan_moves", "undo"]

_TEMPORARY: Final = ".vladkit-part"
"""End of the names of files that are being made."""

_FORMAT: Final = {"vladkit": "undo", "format": 1}
"""First line of an undo file."""


@dataclass(frozen=True, slots=True)
class Step:
    """One copy, and what is to be done with it.

    Parameters
    ----------
    file : str
        The copy.
    kept : str
        The file of the same shot that stays.
    target : str
        Where the copy is moved; "" if a hard link to `kept` takes its place.
    n_bytes, mtime_ns : int
        Size of the copy, and its time of change, when it was indexed.
    kept_bytes : int
        Size of the file that stays.
    kept_mtime_ns : int or None
        Its time of change when it was indexed; None where bytes are compared.
    """

    file: str
    kept: str
    target: str
    n_bytes: int
    mtime_ns: int
    kept_bytes: int
    kept_mtime_ns: int | None


@dataclass(frozen=True, slots=True)
class Left:
    """A copy that is left as it is, and why."""

    file: str
    reason: str


@dataclass(frozen=True, slots=True)
class Plan:
    """Steps that would be done, and copies that would be left as they are."""

    steps: tuple[Step, ...]
    left: tuple[Left, ...]


@dataclass(slots=True)
class Outcome:
    """Steps that were done or undone.

    Parameters
    ----------
    done : list of str
        Files that were replaced or moved; after `undo` those that are as before.
    left : list of Left
        Files that were left as they are, and why.
    freed : int
        Bytes that hard links have freed.
    """

    done: list[str] = field(default_factory=list)
    left: list[Left] = field(default_factory=list)
    freed: int = 0


def plan_hardlinks(collection: Collection, groups: Iterable[DuplicateGroup]) -> Plan:
    """Plan hard links in the place of copies that have the bytes of another file of their group.

    That is the reference, or else the first of them by path. Copies whose bytes no other has are
    left: a link would lose them.

    Parameters
    ----------
    collection : Collection
        The one that `groups` are of.
    groups : iterable of DuplicateGroup
        See `Collection.duplicates`.
    """
    return _plan(collection, groups, "")


def plan_moves(
    collection: Collection,
    groups: Iterable[DuplicateGroup],
    folder: str | os.PathLike[str],
    kinds: Sequence[str] = (),
    against: Collection | None = None,
) -> Plan:
    """Plan to move copies into a folder, under their paths.

    Parameters
    ----------
    collection, groups
        See `plan_hardlinks`.
    folder : path
        Made if it is not there. Neither it nor what is made in it lies in a folder that is indexed.
    kinds : sequence of str
        Move only copies that differ in nothing else (see `Duplicate`); empty moves all but those
        that are "indirect".
    against : Collection or None
        The one that the copies are of, see `Collection.duplicates`: not into its folders, either.

    Raises
    ------
    ParameterError
        If copies would go into a folder that is indexed, no folder is given, or a kind is none.
    """
    for kind in kinds:
        check_parameter("kinds", kind, StrOptions(*KINDS))
    if not os.fspath(folder):
        raise ParameterError("no folder to move copies into: give its path")
    target = os.path.realpath(folder)
    plan = _plan(collection, groups, target, frozenset(kinds))
    stores = [each.index.store for each in (collection, against) if each is not None]
    indexed = {real(source.folder) for store in stores for source in store.sources().values()}
    for path in sorted({target, *(os.path.dirname(step.target) for step in plan.steps)}):
        for inside in sorted(indexed):
            if os.path.join(real(path), "").startswith(os.path.join(inside, "")):
                raise ParameterError(
                    f"copies would be moved to {path}, in {inside}, which is indexed: they would "
                    "be found again: give a folder outside of it"
                )
    return plan


def _plan(
    collection: Collection,
    groups: Iterable[DuplicateGroup],
    folder: str,
    kinds: frozenset[str] = frozenset(),
) -> Plan:
    own = tuple(os.path.join(each, "") for each in collection.index.store.own_folders())
    rows = {row.file: row for row in collection.index.store.images()}
    sources = collection.index.store.sources().values()
    names = {each.source_id: os.path.basename(real(each.folder)) for each in sources}
    linked = _ends_of_links(own) if folder else frozenset()
    steps, left = [], []
    taken: set[str] = set()
    for group in groups:
        kept_of = {} if folder else _equal(group)
        for each in group.others:
            row = rows.get(each.file)
            if each.file in kept_of.values():
                continue
            is_equal = each.file in kept_of
            reason = _reason_against(each, group.file, folder, kinds, own, linked, is_equal)
            if reason or row is None:
                left.append(Left(each.file, reason or "not in the collection any more"))
                continue
            target = ""
            if folder:
                below = os.path.join(folder, names[row.source_id])
                target = os.path.normpath(os.path.join(below, row.path))
                if not target.startswith(os.path.join(below, "")):
                    left.append(Left(each.file, "its path leads out of its folder"))
                    continue
                target = _free(target, taken)
            kept = kept_of.get(each.file, group.file)
            is_kept = (group.n_bytes, group.mtime_ns) if folder else (row.n_bytes, None)
            steps.append(Step(each.file, kept, target, row.n_bytes, row.mtime_ns, *is_kept))
    return Plan(tuple(steps), tuple(left))


def _reason_against(
    copy: Duplicate,
    kept: str,
    folder: str,
    kinds: frozenset[str],
    own: tuple[str, ...],
    linked: frozenset[str],
    is_equal: bool,
) -> str:
    """Why a copy is left as it is, known before anything is done; "" if nothing speaks against."""
    if not folder and not is_equal:
        for file in (copy.file, kept):
            if not is_url(file) and not os.path.isfile(file):
                return f"{file} is gone, or cannot be looked at"
        return f"{', '.join(copy.kinds)}: its bytes differ, and a link would lose them"
    if INDIRECT in copy.kinds and INDIRECT not in kinds:
        return "like another copy, and not like the image that is kept: look at it first"
    if kinds and not kinds.issuperset(copy.kinds):
        return f"{', '.join(copy.kinds)}: not of the kinds asked for"
    if is_url(copy.file):
        return "no file of this machine"
    if os.path.islink(copy.file):
        return "a link to a file elsewhere"
    file = real(copy.file)
    if not file.startswith(own):
        return "in a folder that was not indexed by you on this machine: index it, or add it again"
    if file in linked:
        return "a link in the folder leads to it"
    return ""


def _equal(group: DuplicateGroup) -> dict[str, str]:
    """File of the same bytes that is kept, by each other such file of a group."""
    sizes = {group.file: group.n_bytes} | {each.file: each.n_bytes for each in group.others}
    alike = Counter(sizes.values())
    first_with: dict[str, str] = {}
    kept_of = {}
    for file, n_bytes in sizes.items():  # the reference first
        if alike[n_bytes] > 1 and os.path.isfile(file):
            with suppress(OSError):  # one that cannot be read is left
                first = first_with.setdefault(_digest(file), file)
                if first != file:
                    kept_of[file] = first
    return kept_of


def _ends_of_links(folders: Iterable[str]) -> frozenset[str]:
    """Files to which symbolic links in folders, and in those below, lead."""
    found = set()
    for folder in folders:
        for place, _, files in os.walk(folder):
            paths = (os.path.join(place, name) for name in files)
            found |= {os.path.realpath(path) for path in paths if os.path.islink(path)}
    return frozenset(found)


def _free(target: str, taken: set[str]) -> str:
    """The path, with a number where there is something already; remembered in `taken`."""
    stem, suffix = os.path.splitext(target)
    n = 1
    while target.casefold() in taken or os.path.lexists(target):
        n += 1
        target = f"{stem}-{n}{suffix}"
    taken.add(target.casefold())  # as some file systems compare names
    return target


def apply(
    plan: Plan,
    log: str | os.PathLike[str],
    progress: Callable[[int, int], None] | None = None,
) -> Outcome:
    """Carry out a plan; what cannot be done is left as it is, with the reason.

    Parameters
    ----------
    plan : Plan
    log : path
        Undo file, which must not exist.
    progress : callable or None
        Called as ``progress(done, total)``.

    Raises
    ------
    StorageError
        If the undo file exists or cannot be written.
    """
    outcome = Outcome()
    if not plan.steps:
        return outcome
    try:
        with open(log, "xb") as file:
            _note(file, _FORMAT)
            for i, step in enumerate(plan.steps, 1):
                try:
                    outcome.freed += _do(step, file)
                    outcome.done.append(step.file)
                except _NotDone as reason:
                    outcome.left.append(Left(step.file, str(reason)))
                if progress:
                    progress(i, len(plan.steps))
    except FileExistsError as error:
        raise StorageError(f"{log} exists: give another undo file") from error
    except OSError as error:
        raise StorageError(f"cannot write {log}: {error.strerror or error}") from error
    return outcome


class _NotDone(Exception):  # noqa: N818
    """A step that is left out."""


def _note(file: BinaryIO, entry: dict[str, Any]) -> None:
    """Write a line to the disk."""
    file.write(json.dumps(entry).encode("ascii") + b"\n")
    file.flush()
    os.fsync(file.fileno())


def _do(step: Step, log: BinaryIO) -> int:
    """Do one step; the number of bytes that it has freed."""
    status = _checked(step)
    if status.st_nlink > 1:
        raise _NotDone("it has other names (hard links), by which it would stay where it is")
    return _link(step, status, log) if not step.target else _move(step, log)


def _checked(step: Step) -> os.stat_result:
    """Status of the copy; raises unless both files are those that were indexed."""
    try:
        status, kept = os.lstat(step.file), os.stat(step.kept)
    except OSError as error:
        raise _NotDone(f"{error.filename} is gone, or cannot be looked at") from error
    if not stat.S_ISREG(status.st_mode) or not stat.S_ISREG(kept.st_mode):
        raise _NotDone("no regular file")
    if os.path.samestat(status, kept):
        raise _NotDone("one file with the one that is kept already")
    if (status.st_size, time_of_change(status)) != (step.n_bytes, step.mtime_ns):
        raise _NotDone("changed since it was indexed")
    same_time = step.kept_mtime_ns in (None, time_of_change(kept))
    if kept.st_size != step.kept_bytes or not same_time:
        raise _NotDone(f"{step.kept} has changed since it was indexed")
    return status


def _link(step: Step, status: os.stat_result, log: BinaryIO) -> int:
    kept = os.path.realpath(step.kept)
    kept_status = os.stat(kept)
    digest = _digest(step.file)
    if digest != _digest(kept):
        raise _NotDone("its bytes differ from those of the one that is kept")
    temporary = _beside(step.file)
    entry: dict[str, Any] = {
        "do": "hardlink",
        "file": step.file,
        "kept": kept,
        "inode": [kept_status.st_dev, kept_status.st_ino],
        "sha256": digest,
        "mode": stat.S_IMODE(status.st_mode),
        "owner": [status.st_uid, status.st_gid],
        "times": [status.st_atime_ns, status.st_mtime_ns],
    }
    _note(log, entry)
    try:
        os.link(kept, temporary)
        os.replace(temporary, step.file)
    except OSError as error:
        with suppress(OSError):
            os.unlink(temporary)
        raise _NotDone(f"no hard link can be made here: {error.strerror or error}") from error
    return status.st_size


def _move(step: Step, log: BinaryIO) -> int:
    folder = os.path.dirname(step.target)
    made = list(_missing(folder))
    entry = {"do": "move", "file": step.file, "target": step.target}
    _note(log, entry | {"made": made})
    try:
        os.makedirs(folder, exist_ok=True)
        _rename(step.file, step.target)
    except OSError as error:
        raise _NotDone(f"cannot be moved: {error.strerror or error}") from error
    if not os.path.exists(step.kept):  # somebody has moved that one meanwhile
        _rename(step.target, step.file)
        raise _NotDone(f"{step.kept} is gone")
    return 0


def _missing(folder: str) -> Iterator[str]:
    """Folders that are to be made for one, the lowest first."""
    while not os.path.lexists(folder):
        yield folder
        folder = os.path.dirname(folder)


def _rename(source: str, target: str) -> None:
    """Move a file to a path where nothing is, also to another disk; never replace anything."""
    _put(source, target)
    try:
        os.unlink(source)
    except OSError:  # the folder is read only
        if os.path.lexists(source):
            os.unlink(target)
        raise


def _put(source: str, target: str) -> None:
    """Have a file at a second path, where nothing is: by a link, or a copy on another disk."""
    temporary = _beside(target)
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:  # another disk, or one without hard links
        try:
            shutil.copy2(source, temporary)
            with open(temporary, "rb+") as file:
                os.fsync(file.fileno())
            if _digest(temporary) != _digest(source):
                raise OSError(f"{target} is not what was written") from None
            if os.path.lexists(target):
                raise FileExistsError(f"{target} exists") from None
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                os.unlink(temporary)
            raise


def undo(log: str | os.PathLike[str]) -> Outcome:
    """Bring back, the last one first, what `apply` did; the undo file goes when all is as before.

    May be run again after a kill. A file that somebody has changed since is left as it is.

    Raises
    ------
    FileFormatError
        If the file is no undo file.
    """
    outcome = Outcome()
    for entry in reversed(list(_entries(log))):
        try:
            if entry["do"] == "move":
                _move_back(entry)
            else:
                _unlink(entry)
            outcome.done.append(entry["file"])
        except _NotDone as reason:
            outcome.left.append(Left(entry["file"], str(reason)))
        except OSError as error:
            outcome.left.append(Left(entry["file"], f"{error.strerror or error}"))
    if not outcome.left:
        Path(log).unlink()
    return outcome


def _entries(log: str | os.PathLike[str]) -> Iterator[dict[str, Any]]:
    try:
        first, *lines = Path(log).read_bytes().split(b"\n")
        if json.loads(first) != _FORMAT:
            raise ValueError
        for line in lines[:-1]:  # the last one is empty, or was being written: nothing was done
            entry = json.loads(line)
            _check_entry(entry)
            yield entry
    except OSError as error:
        raise FileFormatError(f"cannot read {log}: {error.strerror or error}") from error
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise FileFormatError(f"{log} is no undo file of vladkit duplicates") from error


def _check_entry(entry: Any) -> None:
    """Raise ValueError unless a line of an undo file is one that `_do` writes."""
    match entry:
        case {"do": "move", "file": str(file), "target": str(target), "made": list(made)}:
            # only folders of the file that was moved go with it
            is_one = {*map(str, made)} <= {*map(str, Path(target).parents)}
        case {
            "do": "hardlink",
            "file": str(file),
            "kept": str(target),
            "inode": [int(), int()],
            "sha256": str(),
            "mode": int(mode),
            "owner": [int(user), int(group)],
            "times": [int(read), int(written)],
        }:
            is_owner = all(0 <= n < 2**32 for n in (user, group))
            is_one = 0 <= mode < 0o10000 and is_owner and max(abs(read), abs(written)) < 2**63
        case _:
            raise ValueError
    if not is_one or not all(map(_is_path, (file, target))):
        raise ValueError


def _is_path(name: str) -> bool:
    return os.path.isabs(name) and b"\0" not in os.fsencode(name)


def _move_back(entry: dict[str, Any]) -> None:
    file, target = entry["file"], entry["target"]
    _remove_temporary(entry)
    is_there, is_moved = os.path.lexists(file), os.path.lexists(target)
    if not is_there and not is_moved:
        raise _NotDone(f"neither there nor at {target}")
    if is_there and is_moved:
        if not os.path.samefile(file, target):
            if _digest(file) != _digest(target):
                raise _NotDone(f"another file is there; it is at {target}")
            shutil.copystat(target, file)
    elif is_moved:
        os.makedirs(os.path.dirname(file), exist_ok=True)
        _put(target, file)
    if is_moved:
        _remove(target)
    for folder in entry["made"]:
        with suppress(OSError):  # others may still be in it
            os.rmdir(folder)


def _remove(target: str) -> None:
    """Remove what was moved away; the file is back, whether or not that can be done."""
    try:
        os.unlink(target)
    except OSError as error:
        reason = f"it is back, and {target} cannot be removed: {error.strerror or error}"
        raise _NotDone(reason) from error


def _unlink(entry: dict[str, Any]) -> None:
    """Make a file of its own again of a hard link."""
    file, kept = entry["file"], entry["kept"]
    _remove_temporary(entry)
    source = file if os.path.lexists(file) else kept
    status = os.lstat(source)
    # a disk may get another number when it is mounted again, and its files, too
    is_linked = status.st_ino == entry["inode"][1] or (
        os.path.exists(kept) and os.path.samefile(source, kept)
    )
    if not is_linked:
        if _digest(file) != entry["sha256"]:
            raise _NotDone("another file is there")
        return
    if _digest(source) != entry["sha256"]:
        raise _NotDone(f"{kept} has changed since")
    temporary = _beside(file)
    try:
        os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600))
        shutil.copyfile(source, temporary)
        with suppress(OSError):  # only root gives files away
            if hasattr(os, "chown"):
                os.chown(temporary, *entry["owner"])
        os.chmod(temporary, entry["mode"])
        os.utime(temporary, ns=tuple(entry["times"]))
        with open(temporary, "rb") as opened:
            os.fsync(opened.fileno())
        os.replace(temporary, file)
    finally:
        with suppress(OSError):
            os.unlink(temporary)


def _remove_temporary(entry: dict[str, Any]) -> None:
    """Remove what a kill has left half done, of doing or of undoing."""
    for name in (entry["file"], entry.get("target", entry["file"])):
        with suppress(OSError):
            os.unlink(_beside(name))


def _beside(file: str) -> str:
    folder, name = os.path.split(file)
    begin = os.fsencode(name)[:100].decode(errors="ignore")  # names are limited in bytes
    return os.path.join(folder, f".{begin}{_TEMPORARY}")


def _digest(file: str) -> str:
    if is_special_file(file):  # to read one may not end
        raise OSError("no regular file")
    with open(file, "rb") as opened:
        return hashlib.file_digest(opened, "sha256").hexdigest()


def as_json(plan: Plan) -> dict[str, Any]:
    """A plan for JSON."""
    return {
        "steps": [{"file": s.file, "kept": s.kept, "target": s.target or None} for s in plan.steps],
        "left": [asdict(each) for each in plan.left],
    }
