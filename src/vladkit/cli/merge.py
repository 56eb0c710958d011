"""`vladkit merge`: collections of several machines into one."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from vladkit.cli.app import app
from vladkit.cli.options import Json
from vladkit.cli.output import counted, emit

__all__: list[str] = []


@app.command()
def merge(
    output: Annotated[
        str, typer.Argument(metavar="OUT", help="Collection to make.", show_default=False)
    ],
    file: Annotated[
        list[str],
        typer.Argument(metavar="FILE...", help="Collections of one codebook.", show_default=False),
    ],
    as_json: Json = False,
) -> None:
    """Merge collections of one codebook into a new file.

    An image that several of them have is kept once.
    """
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.merge import merge as merge_files

    with progress_bar() as progress:
        report = merge_files(output, file, progress=progress)
    twice = f", {counted(report.twice, 'row')} of images that others have left out"
    emit(
        as_json,
        {"file": output} | asdict(report) | {"seconds": round(report.seconds, 3)},
        f"{output}: {counted(report.images, 'image')} and {report.skipped} skipped, of "
        f"{counted(report.files, 'file')} in {report.seconds:.1f} s{twice if report.twice else ''}",
    )
