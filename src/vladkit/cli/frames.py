"""`vladkit frames`: the frames of a video that are worth indexing."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from vladkit.cli.app import app
from vladkit.cli.options import Json
from vladkit.cli.output import counted, print_json, say, show
from vladkit.cli.process import leave_cores_to_threads
from vladkit.errors import ImageError

__all__: list[str] = []


@app.command()
def frames(
    video: Annotated[str, typer.Argument(metavar="VIDEO", help="A video.", show_default=False)],
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR", help="Folder to make, of JPEG files.")
    ],
    new: Annotated[
        float,
        typer.Option(
            "--new",
            min=0,
            max=1,
            help="Least share of features that do not match the frame kept before.",
        ),
    ] = 0.6,
    window: Annotated[
        float, typer.Option("--window", help="Seconds of which the sharpest frame is looked at.")
    ] = 0.5,
    as_json: Json = False,
) -> None:
    """Write the sharp frames of a video that show something new.

    Names are the times; DIR/frames.csv has them, too. The folder is there when all is written:
    until then it is DIR.partial, where the same command goes on after an interrupt.
    """
    leave_cores_to_threads()
    from vladkit.cli.progress import progress_bar
    from vladkit.collection.frames import extract_frames

    try:
        with progress_bar() as progress:
            found = extract_frames(video, output, new=new, window=window, progress=progress)
    except ImageError as error:
        say(f"vladkit: {video}: {error}")
        raise typer.Exit(1) from error
    except KeyboardInterrupt:
        raise KeyboardInterrupt(f"run again to go on from {output}.partial") from None
    if as_json:
        about = {"video": video, "output": output, "read": found.read, "plain": found.plain}
        print_json(about | {"frames": [asdict(each) for each in found.frames]})
    else:
        for each in found.frames:
            show(f"{each.name}  sharpness {each.sharpness:8.1f}  new {each.new:.2f}")
    say(f"{output}: {len(found.frames)} of {counted(found.read, 'frame')} of {video}")
    if found.read < 0.95 * found.stated:
        say(
            f"{video}: by its header {counted(found.stated, 'frame')}, {found.read} could be read: "
            "it may be cut off; one that was trimmed, or begins late, may well be whole"
        )
    if found.plain:
        say(f"{counted(found.plain, 'frame')} without features left out, such as black ones")
