"""Arguments and options that several commands share."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any, TypeVar, get_type_hints

import typer

from vladkit.collection.recipe import Recipe

if TYPE_CHECKING:
    from vladkit.geometry.verification import Model

__all__ = [
    "After",
    "Batch",
    "Before",
    "Cluster",
    "Device",
    "File",
    "FileOrUrl",
    "Force",
    "Fundamental",
    "Images",
    "Json",
    "Mirrored",
    "NearBy",
    "Prune",
    "Region",
    "Rerank",
    "Schema",
    "Sources",
    "Threads",
    "Top",
    "Trust",
    "Under",
    "Vectors",
    "Workers",
    "model_of",
    "recipe_option",
    "with_recipe",
]

_Command = TypeVar("_Command", bound=Callable[..., Any])

Json = Annotated[bool, typer.Option("--json", help="Print JSON, for scripts.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="The collection.", show_default=False)]
FileOrUrl = Annotated[
    str,
    typer.Argument(
        metavar="FILE",
        help="The collection: a file, or postgresql://USER@HOST/DATABASE that export wrote.",
        show_default=False,
    ),
]
Schema = Annotated[
    str | None,
    typer.Option("--schema", metavar="NAME", help="PostgreSQL's schema.", show_default="vladkit"),
]
Threads = Annotated[
    int | None, typer.Option("--n-jobs", "-j", help="Threads. [default: one for each core]")
]
Workers = Annotated[
    int | None,
    typer.Option(
        "--workers",
        min=1,
        metavar="N",
        help="Read and describe images by N processes of this machine.",
    ),
]
Cluster = Annotated[
    str | None,
    typer.Option(
        "--cluster",
        metavar="ADDRESS",
        help="Read and describe images by the workers of a Dask cluster: tcp://HOST:PORT.",
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="Device that networks run on: cpu, cuda, coreml, directml, openvino or auto.",
        show_default="cpu",
    ),
]
Batch = Annotated[
    int | None,
    typer.Option(
        "--batch",
        min=1,
        metavar="N",
        help="Images that a network is given at a time.",
        show_default="1 on the CPU, 8 elsewhere",
    ),
]
Vectors = Annotated[
    str | None,
    typer.Option(
        "--vectors",
        metavar="hloc:FILE",
        help="Vectors of the images, where the collection has such beside local features.",
    ),
]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE",
        help="Folders and images, also s3://, gs:// and https://; or features that another "
        "program found: colmap:database.db, hloc:features.h5, npz:PATH, parquet:PATH, "
        "fvecs:PATH, bvecs:PATH, siftgeo:PATH (docs/how-to/features.md).",
        show_default=False,
    ),
]
Images = Annotated[
    str | None,
    typer.Option("--images", metavar="DIR", help="Folder of the images that features belong to."),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Forget images of these folders whose file is gone.")
]
Force = Annotated[
    bool,
    typer.Option(
        "--force", help="Also forget most images of a folder, or index a folder that has moved."
    ),
]
Top = Annotated[int, typer.Option("--top", "-n", min=0, help="Number of results; 0 ranks all.")]
Region = Annotated[
    str | None,
    typer.Option("--region", metavar="X,Y,W,H", help="Only this part of the image, in px."),
]
Rerank = Annotated[
    int | None,
    typer.Option(
        "--rerank",
        "-r",
        min=0,
        help="Re-rank the top N by local feature matching; 0 does not.",
        show_default="100 where features are kept",
    ),
]
Under = Annotated[
    str | None,
    typer.Option("--under", metavar="FOLDER", help="Only images of this folder, as indexed."),
]
After = Annotated[
    str | None,
    typer.Option("--after", metavar="DATE", help="Only photos taken from this date on: 2024-05."),
]
Before = Annotated[
    str | None, typer.Option("--before", metavar="DATE", help="Only photos taken before this date.")
]
NearBy = Annotated[
    str | None,
    typer.Option("--near", metavar="LAT,LON,KM", help="Only photos taken within KM of a place."),
]
Fundamental = Annotated[
    bool,
    typer.Option(
        "--fundamental", help="Verify matches by epipolar geometry instead of a homography."
    ),
]


Mirrored = Annotated[
    bool, typer.Option("--mirrored", help="Find mirror images of it, too: twice the time.")
]
Trust = Annotated[
    bool,
    typer.Option(
        "--trust", help="Show images and run the network that FILE names, whoever indexed them."
    ),
]


def model_of(fundamental: bool) -> Model:
    """The geometry that ``--fundamental`` chooses."""
    return "fundamental" if fundamental else "homography"


def recipe_option(name: str) -> Any:
    """The type of an option for a field of `Recipe`; None, its default, is the recipe's own."""
    field = next(each for each in fields(Recipe) if each.name == name)
    kind = get_type_hints(Recipe)[name]
    kind = kind if kind in (bool, int, float) else str
    default = ",".join(field.default) if isinstance(field.default, tuple) else field.default
    text = field.metadata["help"]
    if kind is bool:
        return Annotated[bool | None, typer.Option(field.metadata["flag"], help=text)]
    if default != "":
        text += f" [default: {default}]"
    return Annotated[kind | None, typer.Option(field.metadata["flag"], help=text)]


def with_recipe(command: _Command) -> _Command:
    """The command with an option for each field of `Recipe` that has a flag, for its ``**recipe``.

    What is not given is None.
    """
    own = inspect.signature(command, eval_str=True)
    options = [
        inspect.Parameter(
            field.name,
            inspect.Parameter.KEYWORD_ONLY,
            default=None,
            annotation=recipe_option(field.name),
        )
        for field in fields(Recipe)
        if field.metadata["flag"]
    ]
    kept = [p for p in own.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    command.__signature__ = own.replace(parameters=[*kept, *options])  # type: ignore[attr-defined]
    return command
