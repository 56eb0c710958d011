"""A folder with one file for each image."""

from __future__ import annotations

import os

from vladkit.core.files import is_special_file
from vladkit.errors import FileFormatError, ImageError
from vladkit.features.readers.reader import Reader, SourceInfo, status_of_file
from vladkit.features.types import Features

__all__ = ["FolderReader"]


class FolderReader(Reader):
    """One file for each image, in a folder and its subfolders; names are without the suffix."""

    ends: tuple[str, ...]

    def __init__(self, path: str | os.PathLike[str]) -> None:
        super().__init__(path)
        self._files: dict[str, str] = {}
        self._others: dict[str, str] = {}
        if not os.path.isdir(self.path):
            raise FileFormatError(
                f"{self.path} is a file, wanted a folder of {' or '.join(self.ends)} files"
            )
        for folder, subfolders, files in os.walk(self.path):
            subfolders[:] = sorted(name for name in subfolders if not name.startswith("."))
            for file in sorted(files):
                stem, end = os.path.splitext(os.path.join(folder, file))
                if end.lower() in self.ends and not file.startswith("."):
                    name = os.path.relpath(stem, self.path).replace(os.sep, "/")
                    first = self._files.setdefault(name, stem + end)
                    if first != stem + end:
                        self._others[name] = stem + end
        if not self._files:
            raise FileFormatError(f"{self.path} holds no {' or '.join(self.ends)} files")

    def info(self) -> SourceInfo:
        """Kind and contents of the source, told from its first image that has features."""
        reason = ""
        for name in self.names():
            try:
                return self.describe(self.read(name))
            except ImageError as error:
                reason = reason or f"{name}: {error}"
        raise FileFormatError(f"none of the files of {self.path} has features: {reason}")

    def describe(self, features: Features) -> SourceInfo:
        """Contents of the folder, told from the features of one image."""
        return SourceInfo(self.kind, features.descriptor_lf.shape[1], "as-is", places=False)

    def names(self) -> list[str]:
        """Names of all images, sorted."""
        return sorted(self._files)

    def file(self, name: str) -> str:
        """Path of an image's file; ImageError if it has two, or it is a FIFO or a device."""
        if name in self._others:
            pair = (os.path.basename(each) for each in (self._files[name], self._others[name]))
            raise ImageError(f"has two files, {' and '.join(pair)}: keep one", transient=True)
        if is_special_file(self._files[name]):
            raise ImageError("not a regular file")
        return self._files[name]

    def status(self, name: str) -> tuple[int, int]:
        """Size and time of change of the file."""
        return status_of_file(self._files[name])
