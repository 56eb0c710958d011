"""`vladkit localize`: where images were taken, in a reconstruction."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json, Trust
from vladkit.cli.output import counted, print_json, say, show
from vladkit.errors import ImageError

if TYPE_CHECKING:
    from vladkit.collection.localize import Localization

__all__: list[str] = []


@app.command()
def localize(
    file: File,
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="Folder of a model by COLMAP, such as sparse/0, of images of the collection.",
            show_default=False,
        ),
    ],
    image: Annotated[
        list[str], typer.Argument(metavar="IMAGE", help="Image files.", show_default=False)
    ],
    top: Annotated[
        int, typer.Option("--top", "-n", min=1, help="Most similar images to match with.")
    ] = 20,
    camera: Annotated[
        str | None,
        typer.Option(
            "--camera",
            metavar="MODEL,PARAMS",
            help="Camera of the images, as COLMAP has it, such as SIMPLE_RADIAL,1380,768,512,0. "
            "[default: that of the model's images of the same size, else EXIF's, else estimated]",
        ),
    ] = None,
    root: Annotated[
        str | None,
        typer.Option(
            "--root", metavar="DIR", help="Folder that the model's names are relative to."
        ),
    ] = None,
    plot: Annotated[
        str | None,
        typer.Option("--plot", metavar="OUT", help="Draw points, cameras and places from above."),
    ] = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Find where images were taken, in a model by COLMAP.

    Prints place, its standard deviation, inliers and the most similar image of each, in units of
    the model. Exits with 1 if an image cannot be used, or no place is found for it; the others are
    located all the same. Needs pycolmap: pip install 'vladkit[sfm]'.
    """
    from vladkit.collection.sfm_model import SfmModel

    if plot is not None:
        from vladkit.viz.figure_file import check_figure_file

        check_figure_file(plot, "--plot", inputs=[file, *image])
    failed = False
    found: dict[str, Localization] = {}
    with opened(file, others=[model, *image], trust=trust, output=plot) as (collection, progress):
        read = SfmModel(model)
        for i, query in enumerate(image):
            try:
                found[query] = collection.localize(query, read, top=top, camera=camera, root=root)
            except ImageError as error:
                failed = True
                say(f"vladkit: {query}: {error}")
                if as_json:
                    print_json({"query": query, "error": str(error)}, indent=None)
                continue
            failed |= found[query].pose is None
            if as_json:
                print_json(_as_json(query, found[query]), indent=None)
            else:
                _show(query, found[query], model)
            progress("localize", i + 1, len(image))
    if plot is not None:
        from vladkit.viz.figure_file import write_figure
        from vladkit.viz.places import draw_places

        places = {query: each.pose for query, each in found.items() if each.pose is not None}
        write_figure(draw_places(read, places), plot, dpi=150)
        say(f"drawn in {plot}")
    if failed:
        raise typer.Exit(1)


def _as_json(query: str, found: Localization) -> dict[str, Any]:
    about = asdict(found)
    pose = about.pop("pose")
    return {"query": query, "found": pose is not None, **(pose or {}), **about}


def _show(query: str, found: Localization, model: str) -> None:
    if found.pose is None and not found.images:
        say(
            f"{query}: not found in {model}: no image of it could be matched: none is among the "
            "most similar, or all are of other sizes than in the model, as where they are rotated "
            "by EXIF, which COLMAP ignores"
        )
        return
    if found.pose is None:
        say(
            f"{query}: not found in {model}: of {counted(found.matches, 'match', 'matches')} with "
            f"{counted(len(found.images), 'image')} too few fit one pose"
        )
        return
    pose = found.pose
    x, y, z = pose.centre
    best = max(found.images, key=lambda each: each.inliers)
    show(
        f"{x:9.3f} {y:9.3f} {z:9.3f}  +- {pose.position_error:.2g}, {pose.angle_error:.2g} deg  "
        f"{found.inliers:5} of {found.matches} inliers  {query}  (most with {best.path}; "
        f"camera {found.camera['source']})"
    )
