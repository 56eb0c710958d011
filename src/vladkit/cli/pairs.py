"""`vladkit pairs`: which images of a reconstruction to match with which."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Fundamental, Json, Threads, model_of
from vladkit.cli.output import counted, print_json, say
from vladkit.errors import NothingToIndexError

if TYPE_CHECKING:
    from vladkit.collection.collection import Collection, Progress
    from vladkit.collection.pairs import Pairs

__all__: list[str] = []


@app.command()
def pairs(
    file: File,
    top: Annotated[
        int, typer.Option("--top", "-n", min=0, help="Most similar others of each image.")
    ] = 20,
    rerank: Annotated[
        int,
        typer.Option(
            "--rerank",
            "-r",
            min=0,
            help="Re-rank the top N others by local feature matching, then keep --top.",
        ),
    ] = 0,
    fundamental: Fundamental = False,
    min_score: Annotated[
        float | None,
        typer.Option(
            "--min-score",
            help="Least similarity of a pair (cosine, -1 to 1).",
        ),
    ] = None,
    sequential: Annotated[
        int,
        typer.Option("--sequential", min=0, help="Also the N images that follow in the folder."),
    ] = 0,
    connected: Annotated[
        bool, typer.Option("--connected", help="Add the best pairs between unconnected groups.")
    ] = False,
    rotated: Annotated[
        bool, typer.Option("--rotated", help="Compare images in all quarter turns.")
    ] = False,
    root: Annotated[
        str | None, typer.Option("--root", metavar="DIR", help="Folder that names are relative to.")
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PAIRS", help="Write there instead of to stdout."),
    ] = None,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Choose the pairs of images that a reconstruction should match.

    hloc and COLMAP read the list as it is: two names a line.
    """
    with opened(file) as (collection, progress):
        found = collection.pairs(
            top,
            rerank=rerank,
            model=model_of(fundamental),
            min_score=min_score,
            sequential=sequential,
            connected=connected,
            rotated=rotated,
            root=root,
            n_jobs=n_jobs,
            progress=progress,
        )
        if not len(found):
            raise NothingToIndexError(_no_pairs(collection, min_score, top, progress))
    n = len(found.names)
    about = {"file": file, "root": found.root, "images": n, "groups": found.n_components}
    value = about | {"pairs": [asdict(pair) for pair in found]} if as_json else None
    if output is None:
        if as_json:
            print_json(value)
            return
        sys.stdout.writelines(found.lines())
    elif as_json:
        from vladkit.core.files import replace_file

        with replace_file(output) as target:
            target.write(f"{json.dumps(value, indent=1)}\n".encode())
    else:
        found.write(output)
    _say(found, output)


def _say(found: Pairs, output: str | None) -> None:
    n = len(found.names)
    written = f"{output}: " if output is not None else ""
    names = "relative to" if os.path.isdir(found.root) else "as in"
    say(
        f"{written}{len(found)} of {counted(n * (n - 1) // 2, 'pair')} of {counted(n, 'image')}, "
        f"similarity {_range(found)}; names are {names} {found.root}"
    )
    if found.n_components > 1:
        say(f"they leave {found.n_components} groups unconnected; --connected joins them")


def _range(found: Pairs) -> str:
    return f"{found.similarity_p.min():.3f} to {found.similarity_p.max():.3f}"


def _no_pairs(collection: Collection, min_score: float | None, top: int, progress: Progress) -> str:
    """Why there is no pair."""
    n = len(collection)
    if min_score is None or n < 2:
        return f"{counted(n, 'image')} of {collection.path} make no pair: nothing is written"
    nearest = collection.pairs(top or 1, progress=progress)
    return (
        f"no pair has a similarity of {min_score} or more: the most similar others have "
        f"{_range(nearest)}: lower --min-score; nothing is written"
    )
