"""`vladkit draw-matches`: what two images have in common."""

from __future__ import annotations

import warnings
from dataclasses import astuple
from typing import TYPE_CHECKING, Annotated, Final

import typer

from vladkit.cli.app import app
from vladkit.cli.options import Fundamental, Json, Region, model_of, recipe_option
from vladkit.cli.output import print_json, say, show
from vladkit.cli.process import leave_cores_to_threads
from vladkit.collection.recipe import Recipe
from vladkit.errors import ImageError

if TYPE_CHECKING:
    from vladkit.features import Extractor, Features
    from vladkit.geometry.verification import Verification
    from vladkit.images import Region as Part

__all__: list[str] = []

_DPI: Final = 150
"""Resolution of the drawing, which is 10 inches wide: 1,500 px across."""

_RC: Final = {"svg.fonttype": "none", "svg.hashsalt": "vladkit"}


@app.command("draw-matches")
def draw_matches(
    query: Annotated[str, typer.Argument(metavar="A", help="An image.", show_default=False)],
    match: Annotated[
        str, typer.Argument(metavar="B", help="The image to find it in.", show_default=False)
    ],
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="OUT", help="NAME.png, .jpg, .svg or .pdf."),
    ],
    region: Region = None,
    fundamental: Fundamental = False,
    mirrored: Annotated[
        bool, typer.Option("--mirrored", help="Match the mirror image of A.")
    ] = False,
    max_features: recipe_option("max_features") = None,  # type: ignore[valid-type]
    max_lines: Annotated[
        int, typer.Option("--max-lines", min=0, help="Draw the N clearest matches as lines.")
    ] = 200,
    as_json: Json = False,
) -> None:
    """Match two images feature by feature and draw the matches.

    Those that fit one geometry are drawn; --region is a part of A.
    """
    leave_cores_to_threads()
    import numpy as np

    from vladkit.geometry.mirrored import mirrored_part, unmirrored
    from vladkit.geometry.verification import verify_all
    from vladkit.images import Region as Part
    from vladkit.viz.figure_file import check_figure_file
    from vladkit.viz.matches import verdict

    recipe = Recipe.make({} if max_features is None else {"max_features": max_features})
    part = None if region is None else Part.parse(region)
    check_figure_file(output, "draw-matches", inputs=[query, match])  # before any work is done
    extractor = recipe.extractor()
    query_features = _features(extractor, query, part)
    match_features = _features(extractor, match, None)
    if query_features is None or match_features is None:
        raise typer.Exit(1)
    model = model_of(fundamental)
    asked = query_features
    if mirrored:
        asked = extractor.mirrored(query_features)  # type: ignore[attr-defined]
    (found,) = verify_all(asked, [match_features], extractor.metric, model=model, n_jobs=1)
    if mirrored:
        found = unmirrored(found, mirrored_part(query_features))
    shown = query_features.region  # of a reduced JPEG it has grown to whole blocks
    _draw(query, match, found, shown, max_lines, output)
    if not as_json:
        show(f"{query} in {match}: {verdict(found)}")
        say(f"drawn in {output}")
        return
    whole = Part(0, 0, query_features.width, query_features.height)
    outline_42 = found.outline_42(shown or whole)
    points_m4 = np.hstack([found.query_xy_m2, found.match_xy_m2]).astype(float).round(2)
    print_json(
        {
            "query": query,
            "match": match,
            "region": None if shown is None else list(astuple(shown)),
            "model": model,
            "mirrored": mirrored,
            "inliers": found.n_inliers,
            "verified": found.verified,
            "transform": None if found.transform_33 is None else found.transform_33.tolist(),
            "outline": None if outline_42 is None else outline_42.round(2).tolist(),
            "points": points_m4.tolist(),
            "output": output,
        },
        indent=None,
    )


def _features(extractor: Extractor, image: str, region: Part | None) -> Features | None:
    """Extract the features of a file; say why, and return None, if it cannot be used."""
    from vladkit.core.remote import without_query
    from vladkit.features.pool import extract

    try:
        return extract(extractor, image, region)
    except ImageError as error:
        say(f"vladkit: {without_query(image)}: {error}")
        return None


def _draw(
    query: str,
    match: str,
    found: Verification,
    region: Part | None,
    max_lines: int,
    output: str,
) -> None:
    import matplotlib

    from vladkit.viz.figure_file import write_figure
    from vladkit.viz.matches import draw_matches as draw

    with matplotlib.rc_context(_RC), warnings.catch_warnings():
        # names in a script that the font does not have are boxes in the image: no harm
        warnings.filterwarnings("ignore", r"Glyph \d+")
        figure = draw(query, match, found, region=region, max_lines=max_lines)
        write_figure(figure, output, dpi=_DPI)
