"""`vladkit pairs`: which images of a reconstruction to match with which."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Fundamental, Json, Threads, model_of
from vladkit.cli.output import counted, print_json, say, write_lines
from vladkit.errors import NothingToIndexError

if TYPE_CHECKING:
    from vladkit.collection.collection import Collection, Progress
    from vladkit.collection.pair_list import Names, Pairs

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
            help="Least similarity of those of --top (cosine, -1 to 1).",
        ),
    ] = None,
    sequential: Annotated[
        int,
        typer.Option("--sequential", min=0, help="Also the N images that follow in the folder."),
    ] = 0,
    quadratic: Annotated[
        bool,
        typer.Option("--quadratic", help="With --sequential: also images later by powers of two."),
    ] = False,
    rigs: Annotated[
        bool,
        typer.Option(
            "--rigs",
            help="With --sequential: folders beside each other are cameras of a rig, images of one "
            "name in them one moment.",
        ),
    ] = False,
    gps: Annotated[
        int, typer.Option("--gps", min=0, help="Also the N images that are nearest in space.")
    ] = 0,
    positions: Annotated[
        str | None,
        typer.Option(
            "--positions",
            metavar="DATABASE",
            help="COLMAP database whose pose priors say where images are, for --gps.",
        ),
    ] = None,
    connected: Annotated[
        bool, typer.Option("--connected", help="Add the best pairs between unconnected groups.")
    ] = False,
    rotated: Annotated[
        bool, typer.Option("--rotated", help="Compare images in all quarter turns.")
    ] = False,
    queries: Annotated[
        str | None,
        typer.Option(
            "--queries",
            metavar="PREFIX|LIST",
            help="Query images, which alone ask for others: the beginning of their names, or a "
            "file with a name a line.",
        ),
    ] = None,
    database: Annotated[
        str | None,
        typer.Option(
            "--database",
            metavar="PREFIX|LIST|MODEL",
            help="Database images, which alone are paired with a query; given like --queries, or "
            "the folder of a model by COLMAP.",
        ),
    ] = None,
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
    from vladkit.core.files import check_writable

    some: dict[str, Any] = {"queries": _names(queries), "database": _names(database)}
    if output is not None:
        check_writable(output, _read(file, queries, database, positions))
    with opened(file, output=output) as (collection, progress):
        found = collection.pairs(
            top,
            rerank=rerank,
            model=model_of(fundamental),
            min_score=min_score,
            sequential=sequential,
            quadratic=quadratic,
            rigs=rigs,
            gps=gps,
            positions=positions,
            connected=connected,
            rotated=rotated,
            **some,
            root=root,
            n_jobs=n_jobs,
            progress=progress,
        )
        if not len(found):
            some |= {"root": root, "rotated": rotated}
            raise NothingToIndexError(_no_pairs(collection, min_score, top, some, progress))
    n = len(found.names)
    about = {"file": file, "root": found.root, "images": n, "groups": found.n_components}
    value = about | {"pairs": [asdict(pair) for pair in found]} if as_json else None
    if output is None:
        if as_json:
            print_json(value)
            return
        write_lines(found.lines())
    else:
        from vladkit.core.files import replace_file

        lines = [f"{json.dumps(value, indent=1)}\n"] if as_json else found.lines()
        with replace_file(output) as target:
            target.writelines(map(os.fsencode, lines))
    _say(found, output, joins=queries is None and database is None)
    if (left_out := found.unlisted()) and not as_json:
        say(
            f"pairs of {counted(len(left_out), 'image')} are left out, as hloc and COLMAP would "
            f"misread a name with white space or a # at its beginning: {left_out[0]!r}"
            f"{', ...' * (len(left_out) > 1)}; rename them and index again"
        )


def _say(found: Pairs, output: str | None, *, joins: bool) -> None:
    n = len(found.names)
    written = f"{output}: " if output is not None else ""
    names = "relative to" if os.path.isdir(found.root) else "as in"
    say(
        f"{written}{len(found)} of {counted(n * (n - 1) // 2, 'pair')} of {counted(n, 'image')}, "
        f"similarity {_range(found)}; names are {names} {found.root}"
    )
    if found.n_components > 1 and joins:
        say(f"they leave {found.n_components} groups unconnected; --connected joins them")


def _range(found: Pairs) -> str:
    return f"{found.similarity_p.min():.3f} to {found.similarity_p.max():.3f}"


def _read(*given: str | None) -> Iterator[str]:
    """Files that options name, and those of models."""
    from vladkit.collection.sfm_model import is_model

    for each in filter(None, given):
        yield each
        if is_model(each):
            yield from (entry.path for entry in os.scandir(each))


def _names(given: str | None) -> Names:
    if given is None:
        return None
    from vladkit.collection.sfm_model import is_model

    return Path(given) if os.path.isfile(given) or is_model(given) else given


def _no_pairs(
    collection: Collection,
    min_score: float | None,
    top: int,
    some: dict[str, Any],
    progress: Progress,
) -> str:
    """Why there is no pair."""
    n = len(collection)
    no_pair = f"{counted(n, 'image')} of {collection.path} make no pair: nothing is written"
    if min_score is None or n < 2:
        return no_pair
    nearest = collection.pairs(top or 1, **some, progress=progress)
    if not len(nearest):
        return no_pair
    return (
        f"no pair has a similarity of {min_score} or more: the most similar others have "
        f"{_range(nearest)}: lower --min-score; nothing is written"
    )
