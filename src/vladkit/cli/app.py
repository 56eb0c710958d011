"""The command's root, and the arguments that several commands share."""

from __future__ import annotations

from typing import Annotated

import typer

__all__ = ["File", "Fundamental", "Images", "Json", "Prune", "Rerank", "Sources", "Threads", "app"]

app = typer.Typer(
    name="vladkit",
    help="Find images with an image: VLAD vectors of a photo collection in one file.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
    rich_markup_mode=None,
)

Json = Annotated[bool, typer.Option("--json", help="Machine-readable output.")]
File = Annotated[str, typer.Argument(metavar="FILE", help="The collection.", show_default=False)]
Threads = Annotated[
    int | None, typer.Option("--n-jobs", "-j", help="Threads; default: one for each core.")
]
Sources = Annotated[
    list[str],
    typer.Argument(
        metavar="SOURCE...",
        help="Folders and images; or features of others: colmap:database.db, hloc:features.h5, "
        "npz:, parquet:, fvecs:, bvecs:, siftgeo:PATH (docs/features.md).",
        show_default=False,
    ),
]
Images = Annotated[
    str | None,
    typer.Option("--images", metavar="DIR", help="Folder of the images whose features are given."),
]
Prune = Annotated[
    bool, typer.Option("--prune", help="Forget images of these folders that are gone.")
]

Rerank = Annotated[
    int,
    typer.Option("--rerank", "-r", min=0, help="Match so many of the first feature by feature."),
]
Fundamental = Annotated[
    bool,
    typer.Option("--fundamental", help="Re-rank by epipolar geometry, not by a homography."),
]


@app.callback(invoke_without_command=True)
def _main(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if version:
        from vladkit.core.version import __version__

        typer.echo(f"vladkit {__version__}")
        raise typer.Exit
