"""Discovery of the images of sources: folders, files, and features of other programs."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace

from vladkit.collection.recipe import Recipe
from vladkit.core.names import identity, is_text
from vladkit.core.remote import Status, check_url, is_url, joined, list_files, without_query
from vladkit.errors import ImageError, NothingToIndexError, ParameterError, RecipeMismatchError
from vladkit.features.readers import Reader, is_source, open_reader, open_vectors
from vladkit.features.readers.reader import digest, status_of_file
from vladkit.images import is_image_name
from vladkit.images.forms import FORMS, InMemory, file_data
from vladkit.store.rows import ImageRow

__all__ = [
    "SourceFile",
    "check_fit",
    "check_held",
    "check_kind",
    "check_sources",
    "discover",
    "each_once",
    "in_memory",
    "with_vectors",
]


@dataclass(frozen=True, slots=True)
class SourceFile:
    """File of a source that may be an image.

    ``root`` is the absolute folder that ``path`` is relative to, ``name`` the source as it was
    given; ``path`` has forward slashes. Or, with a ``reader``, an image whose features it has:
    ``root`` is then the file of features. Or a file elsewhere: ``root`` is a URL, and ``listed``
    its status as it was listed there. Or an image in memory: ``held`` is its bytes, or why it has
    none; there need be no such file. ``vectors`` has the vectors of images by their paths, where
    those are given.
    """

    root: str
    path: str
    name: str
    reader: Reader | None = None
    listed: Status | None = None
    vectors: Reader | None = None
    held: bytes | ImageError | None = field(default=None, compare=False, repr=False)

    @property
    def is_text(self) -> bool:
        """Whether the path can be stored as text; names on Unix may be any bytes."""
        return is_text(self.path)

    @property
    def printable(self) -> str:
        """The path, with bytes escaped that are not text."""
        return self.path.encode("utf-8", "backslashreplace").decode()

    @property
    def file(self) -> str:
        """The file's path, absolute; or its URL."""
        return joined(self.root, self.path)

    @property
    def is_on_disk(self) -> bool:
        """Whether it is a file of this machine, whose pixels are read."""
        return self.reader is None and self.listed is None and self.held is None

    def status(self) -> Status:
        """Two numbers, one of which differs when the file has changed: size and mtime of it."""
        if self.listed is not None:
            return self.listed
        if self.held is not None:
            data = self.held if isinstance(self.held, bytes) else b""
            return len(data), digest(data)
        if self.reader is None:
            return status_of_file(self.file)
        n_bytes, mark = self.reader.status(self.path)
        if self.vectors is None:
            return n_bytes, mark
        n, of_vector = self.vectors.status(self.path)
        return n_bytes + n, mark ^ of_vector


def discover(
    sources: Sequence[str | os.PathLike[str]],
    readers: ExitStack,
    unreadable: Callable[[str, str], None] = lambda folder, reason: None,
    left_out: Callable[[str], None] = lambda file: None,
) -> list[SourceFile]:
    """List the files of all sources, each file once, sorted within its source.

    A folder is searched with its subfolders, through symbolic links too (a folder that was
    entered already is not entered again), for names that look like images; hidden names are
    left out. A source that is a file is taken whatever its name. A URL is such a folder or file,
    elsewhere. Features that another program found (``kind:path``) give one entry for each image.

    Parameters
    ----------
    sources : sequence of path
    readers : ExitStack
        Closes the readers of features.
    unreadable : callable (folder, reason)
        Called for each folder that cannot be listed.
    left_out : callable (file)
        Called for each file of a folder whose name is hidden or does not look like an image's.

    Raises
    ------
    NothingToIndexError
        If a source does not exist, or a folder's name is not valid UTF-8.
    StorageError
        If a URL cannot be listed.
    """
    check_sources(sources)
    found: list[SourceFile] = []
    seen: set[str] = set()
    entered: set[tuple[int, int]] = set()
    for source in sources:
        given = os.fspath(source)
        if is_source(given):
            reader = readers.enter_context(open_reader(given))
            candidates = [SourceFile(reader.path, name, given, reader) for name in reader.names()]
        elif is_url(given):
            candidates = _elsewhere(given, left_out)
        elif os.path.isdir(given):
            root = os.path.realpath(given)  # the same folder through a link is the same source
            names = _walk(root, entered, unreadable, left_out)
            candidates = [SourceFile(root, path, given) for path in names]
        else:
            only = SourceFile(os.getcwd(), given.replace(os.sep, "/"), given)
            candidates = [SourceFile(only.root, only.path, only.printable)]
        for candidate in candidates:
            if candidate.file not in seen:
                seen.add(candidate.file)
                found.append(candidate)
    return found


def in_memory(images: Mapping[str, InMemory]) -> list[SourceFile]:
    """Images in memory as files of the present folder, which need not be there.

    Raises
    ------
    ParameterError
        If a name is no relative or absolute path, or an image has none of the forms.
    """
    found = []
    for name, image in images.items():
        if not isinstance(name, str) or not name or "\0" in name or "://" in name:
            raise ParameterError(f"{name!r} is no name of an image: give a path; no file is needed")
        held: bytes | ImageError | None
        try:
            held = file_data(image)
        except ImageError as error:
            held = error
        if held is None:
            raise ParameterError(f"{name} is a {type(image).__name__}: give {FORMS}")
        found.append(SourceFile(os.getcwd(), name.replace(os.sep, "/"), name, held=held))
    return found


def each_once(
    found: Sequence[SourceFile], known: Mapping[str, ImageRow]
) -> tuple[list[SourceFile], list[tuple[str, str]]]:
    """Split files into one name of each, and (link, name) of its further names.

    A file goes by the name that is known, or one that is no symbolic link, or the first. Names
    that are known are all kept.
    """
    names: dict[object, list[SourceFile]] = {}
    for each in found:
        key = identity(each.file) if each.is_on_disk else None
        names.setdefault(key or each.file, []).append(each)
    name_of = {
        each: name
        for some in names.values()
        if len(some) > 1
        for name in [min(some, key=lambda e: (e.file not in known, os.path.islink(e.file)))]
        for each in some
        if each is not name and each.file not in known
    }
    new = [e for e in found if e.is_on_disk and e not in name_of and e.file not in known]
    elsewhere = _names_elsewhere(new, known)
    links = [(each.printable, elsewhere.get(n, n.printable)) for each, n in name_of.items()]
    links += [(each.printable, name) for each, name in elsewhere.items()]
    return [each for each in found if each not in name_of and each not in elsewhere], links


def _names_elsewhere(
    new: Sequence[SourceFile], known: Mapping[str, ImageRow]
) -> dict[SourceFile, str]:
    """Further names of files that were indexed from elsewhere, with the names that these have.

    Only those of one size and time are looked at: each look may be at a network drive.
    """
    if not new or not known:
        return {}
    by_status: dict[Status, list[str]] = {}
    for file, row in known.items():
        by_status.setdefault((row.n_bytes, row.mtime_ns), []).append(file)
    return {
        each: known[file].path
        for each in new
        for file in by_status.get(each.status(), ())
        if (key := identity(file)) and key == identity(each.file)
    }


def check_sources(sources: Sequence[str | os.PathLike[str]]) -> None:
    """Raise NothingToIndexError if a source is not there, or a folder that cannot be stored.

    A URL is checked for its form alone; see `vladkit.core.remote.check_url`.
    """
    for source in sources:
        given = os.fspath(source)
        if is_source(given):
            path = given.partition(":")[2]
            if not os.path.exists(path):
                raise NothingToIndexError(f"{given}: there is no {path}")
            continue
        if is_url(given):
            check_url(given)
            if given.startswith("http") and without_query(given) != given:
                raise ParameterError(
                    f"{without_query(given)}: what follows the ? may be a signature, and is not "
                    "stored: download the image, and index the file"
                )
            continue
        if not os.path.lexists(given):
            known = ", of this machine or s3://, gs:// and https://" if "://" in given else ""
            raise NothingToIndexError(f"{given} does not exist: give folders or images{known}")
        root = os.path.abspath(given) if os.path.isdir(given) else os.getcwd()
        if not SourceFile(root, root, given).is_text:
            shown = SourceFile(root, given, given).printable
            raise NothingToIndexError(f"{shown}: a folder's name must be valid UTF-8: rename it")


def check_kind(
    name: str, recipe: Recipe, sources: Sequence[str | os.PathLike[str]], images: str | None = None
) -> None:
    """Raise unless sources are of the kind that the file `name` is made of: images, or features."""
    is_imported = bool(recipe.dimensions)
    for source in (os.fspath(each) for each in sources):
        if is_source(source) != is_imported:
            holds = f"features of {recipe.features!r}"
            raise RecipeMismatchError(
                f"{name} holds {holds}, {source} does not: index it into another file"
                if is_imported
                else f"{name} is made for {holds} found here, {source} holds those of another "
                "program: index it into another file, by `vladkit index` or with the recipe of "
                "vladkit.collection.import_recipe.recipe_for"
            )
    if images is not None and not is_imported:
        raise ParameterError(
            "images applies only to features of other programs: leave it out, images are read "
            "where they are"
        )
    if images is not None and not os.path.isdir(images):
        raise NothingToIndexError(f"images: {images} is not a folder")


def with_vectors(
    name: str,
    recipe: Recipe,
    found: Sequence[SourceFile],
    source: str | os.PathLike[str] | None,
    readers: ExitStack,
) -> list[SourceFile]:
    """Files with the reader of their vectors, where the recipe takes these from a source.

    Raises
    ------
    ParameterError
        If a source is given and none is asked for, or the other way round.
    RecipeMismatchError
        If the vectors are not of the dimension that the file `name` holds.
    """
    if not recipe.vector_dimensions:
        if source is not None and not recipe.vectors:
            raise ParameterError(f"{name} has no vectors from elsewhere: leave vectors out")
        return list(found)
    if source is None:
        raise ParameterError(
            f"{name} has vectors of hloc: give vectors=hloc:global.h5, the file that has those of "
            "the images (--vectors)"
        )
    reader = readers.enter_context(open_vectors(source))
    n_dimensions = reader.info().dimensions
    if n_dimensions != recipe.vector_dimensions:
        raise RecipeMismatchError(
            f"{name} was made of vectors of {recipe.vector_dimensions} dimensions, "
            f"{os.fspath(source)} holds {n_dimensions}: index it into another file"
        )
    return [replace(each, vectors=reader) for each in found]


def check_held(recipe: Recipe, *, prune: bool, executor: object) -> None:
    """Raise ParameterError unless images in memory can be added."""
    if recipe.dimensions:
        raise ParameterError(
            f"the collection holds features of {recipe.features!r}, which images in memory have "
            "not: index them into another file"
        )
    if prune or executor is not None:
        what = "prune is of folders" if prune else "workers read files"
        raise ParameterError(f"{what}, these images are in memory: leave it out")


def check_fit(name: str, recipe: Recipe, found: Iterable[SourceFile]) -> None:
    """Raise RecipeMismatchError unless features that were found are those of a recipe."""
    for reader, source in {each.reader: each.name for each in found if each.reader}.items():
        held = reader.info()
        if (held.features, held.dimensions) != (recipe.features, recipe.dimensions):
            raise RecipeMismatchError(
                f"{name} was made of {recipe.features} features of {recipe.dimensions} dimensions, "
                f"{source} holds {held.features} of {held.dimensions}: index it into another file"
            )


def _elsewhere(url: str, left_out: Callable[[str], None]) -> list[SourceFile]:
    """The files of a URL, by the rules of a folder."""
    root, files = list_files(url)
    if not files:
        raise NothingToIndexError(f"{url} does not exist: give a bucket, a prefix or an object")
    found = []
    for path, status in files:
        *folders, name = path.split("/")
        if joined(root, path) == url or (is_image_name(name) and not _is_hidden(folders)):
            found.append(SourceFile(root, path, url, listed=status))
        elif not _is_hidden(folders):
            left_out(joined(root, path))
    return found


def _is_hidden(folders: Iterable[str]) -> bool:
    return any(folder.startswith(".") for folder in folders)


def _walk(
    root: str,
    entered: set[tuple[int, int]],
    unreadable: Callable[[str, str], None],
    left_out: Callable[[str], None],
) -> Iterator[str]:
    def failed(error: OSError) -> None:
        unreadable(str(error.filename), error.strerror or str(error))

    names: list[str] = []
    for folder, subfolders, files in os.walk(root, followlinks=True, onerror=failed):
        try:
            status = os.stat(folder)
        except OSError as error:  # gone meanwhile
            failed(error)
            subfolders.clear()
            continue
        if (status.st_dev, status.st_ino) in entered:
            subfolders.clear()
            continue
        entered.add((status.st_dev, status.st_ino))
        # folders before links to them, so that what is found does not hang on the order on disk
        subfolders[:] = sorted(
            (name for name in subfolders if not name.startswith(".")),
            key=lambda name: (os.path.islink(os.path.join(folder, name)), name),
        )
        for name in files:
            file = os.path.join(folder, name)
            if is_image_name(name):
                names.append(file)
            else:
                left_out(file)
    return iter(sorted(os.path.relpath(name, root).replace(os.sep, "/") for name in names))
