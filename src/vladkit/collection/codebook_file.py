"""Codebook file: a recipe and what was learned for it, for any number of collections."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, Self

from vladkit.collection.describer import Describer
from vladkit.collection.recipe import Recipe
from vladkit.core.array_file import read_arrays, write_arrays
from vladkit.core.arrays import AnyArray
from vladkit.errors import RecipeMismatchError
from vladkit.store.database import damaged

__all__ = ["CodebookFile"]

_KIND: Final = "codebook of collections"


@dataclass(frozen=True, slots=True, eq=False)
class CodebookFile:
    """Content of a codebook file.

    ``about`` and ``arrays`` are what `vladkit.collection.describer.Describer.restore` takes, and
    what a collection keeps; ``path`` is for messages.
    """

    path: str
    recipe: Recipe
    about: dict[str, Any]
    arrays: dict[str, AnyArray]

    def write(self) -> None:
        """Write the file, whole or not at all; StorageError if that is not possible."""
        about = self.about | {"recipe": self.recipe.as_json()}
        write_arrays(self.path, _KIND, about, self.arrays)

    @classmethod
    def read(cls, path: str | os.PathLike[str]) -> Self:
        """Read a file that `write` wrote.

        Raises
        ------
        FileFormatError
            If it is another kind of file, is of another version, or is damaged.
        StorageError
            If it cannot be read.
        """
        name = os.fspath(path)
        about, arrays = read_arrays(name, _KIND, "make one with vladkit codebook SOURCE... -o FILE")
        with damaged(Path(name), "what was learned"):
            recipe = Recipe.stored(about.pop("recipe"))
            describer = Describer(recipe, name)
            describer.restore(about, arrays)
            if not describer.is_given:
                raise ValueError("it is not marked as given")
            describer.check_ready()
        return cls(name, recipe, about, arrays)

    def check_is_of(self, path: Path, kept: dict[str, Any]) -> None:
        """Raise RecipeMismatchError unless a collection has learned from this file alone."""
        if kept.get("learned") != self.about["learned"]:
            raise RecipeMismatchError(
                f"{path} has another codebook than {self.path}: give the one that it was made "
                "with, or index into another file"
            )
