"""Recipe of a collection of features that another program found, made from their sources."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

from vladkit.collection.recipe import Recipe
from vladkit.core.files import as_paths
from vladkit.errors import ParameterError
from vladkit.features.readers import SourceInfo, is_source, open_reader
from vladkit.features.vectors import HLOC_GLOBAL

__all__ = ["known_by_name", "recipe_for"]


def known_by_name(recipe: Recipe) -> list[str]:
    """Notes on the networks of a recipe whose description was chosen by the name of their file."""
    from vladkit.features.onnx.load import title_by_name

    notes = []
    for field in recipe.networks() if recipe.vectors_from else ():
        path = getattr(recipe, field).removeprefix("onnx:")
        if title := title_by_name(path):
            notes.append(
                f"{path} is taken for {title}, by its name: if it is another, describe it in a "
                "TOML file beside it"
            )
    return notes


def recipe_for(
    sources: str | os.PathLike[str] | Iterable[str | os.PathLike[str]], **given: Any
) -> tuple[dict[str, Any], list[str]]:
    """Choose the fields of a recipe that fit the sources, with notes on what is left out.

    Parameters
    ----------
    sources : path or iterable of path
        Folders and images, or all of one kind of features (``colmap:database.db``, ...).
    **given
        Fields of `vladkit.collection.recipe.Recipe` that differ from its defaults.

    Returns
    -------
    recipe : dict
        For `vladkit.Collection.create`. For images, `given` as it is.
    notes : list of str
        Fields that are 0 because the sources lack the data.

    Raises
    ------
    ParameterError
        If images and features are mixed, sources hold different features, or a field asks for
        data that they lack.
    VladkitError
        See `vladkit.features.readers.open_reader`.

    Examples
    --------
    >>> import tempfile, numpy as np
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     np.save(f"{folder}/a.npy", np.ones((3, 8), np.float32))
    ...     recipe, notes = recipe_for(f"npz:{folder}", n_clusters=32)
    >>> recipe["features"], recipe["dimensions"], recipe["orientation"], len(notes)
    ('npz', 8, 0, 3)
    """
    listed = as_paths(sources)
    imported = [each for each in listed if is_source(each)]
    if not imported:
        return given, []
    if len(imported) < len(listed):
        other = next(each for each in listed if not is_source(each))
        raise ParameterError(
            f"{imported[0]} holds features and {other} images: index them into a file each"
        )
    held: list[SourceInfo] = []
    for source in imported:
        with open_reader(source) as reader:
            held.append(reader.info())
    first = held[0]
    if given.get("vectors") and first.features == HLOC_GLOBAL:
        raise ParameterError(
            f"{imported[0]} holds one vector for an image, as vectors does: leave vectors out"
        )
    for source, each in zip(imported, held, strict=True):
        theirs, ours = (each.features, each.dimensions), (first.features, first.dimensions)
        if theirs != ours:
            raise ParameterError(
                f"{source} holds {theirs[0]} features of {theirs[1]} dimensions, {imported[0]} "
                f"{ours[0]} of {ours[1]}: index them into a file each"
            )
    recipe = {"features": first.features, "dimensions": first.dimensions}
    if first.features == HLOC_GLOBAL:
        return recipe | given, []
    recipe["compare"] = first.compare
    notes = []
    for name, what, known in (
        ("orientation", "no directions of features", all(h.directions for h in held)),
        (
            "position",
            "no places of features or no sizes of images",
            all(h.places and h.image_sizes for h in held),
        ),
        ("keep_features", "no places of features", all(h.places for h in held)),
    ):
        if known:
            continue
        if given.get(name):
            raise ParameterError(f"{name}={given[name]!r}: {imported[0]} states {what}, leave it 0")
        recipe[name] = 0
        notes.append(f"{imported[0]} states {what}: {name} is 0")
    return recipe | given, notes
