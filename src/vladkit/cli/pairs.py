"""The command for reconstruction: which images to match with which."""

from __future__ import annotations

import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated

import typer

from vladkit.cli.app import File, Fundamental, Json, Threads, app
from vladkit.cli.output import print_json, say

if TYPE_CHECKING:
    from vladkit.geometry.verification import Model

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
            "--rerank", "-r", min=0, help="Match so many candidates feature by feature; keep --top."
        ),
    ] = 0,
    fundamental: Fundamental = False,
    min_score: Annotated[
        float | None,
        typer.Option("--min-score", help="Leave out pairs whose vectors are less similar."),
    ] = None,
    sequential: Annotated[
        int,
        typer.Option("--sequential", min=0, help="So many that follow in the folder, too."),
    ] = 0,
    connected: Annotated[
        bool, typer.Option("--connected", help="Add the best pairs between unconnected groups.")
    ] = False,
    rotated: Annotated[
        bool, typer.Option("--rotated", help="Compare images in all quarter turns.")
    ] = False,
    root: Annotated[
        str | None,
        typer.Option("--root", metavar="FOLDER", help="Names are relative to this."),
    ] = None,
    output: Annotated[
        str | None,
        typer.Option("--output", "-o", metavar="PAIRS", help="Write there, not to stdout."),
    ] = None,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """Choose the pairs of images that a reconstruction should match (hloc, COLMAP)."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.collection import Collection

    model: Model = "fundamental" if fundamental else "homography"
    with Collection.open(file, read_only=True) as collection, progress_bar() as progress:
        found = collection.pairs(
            top,
            rerank=rerank,
            model=model,
            min_score=min_score,
            sequential=sequential,
            connected=connected,
            rotated=rotated,
            root=root,
            n_jobs=n_jobs,
            progress=progress,
        )
    if output is not None:
        found.write(output)
    n = len(found.names)
    if as_json:
        about = {"file": file, "root": found.root, "images": n, "groups": found.n_components}
        print_json(about | {"pairs": [asdict(pair) for pair in found]})
        return
    if output is None:
        sys.stdout.writelines(found.lines())
    say(
        f"{len(found)} of {n * (n - 1) // 2} pairs of {n} images; "
        f"names are relative to {found.root}"
    )
    if found.n_components > 1:
        say(f"they leave {found.n_components} groups unconnected; --connected joins them")
