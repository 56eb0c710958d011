"""`vladkit duplicates`: groups of images that show the same shot, and what is done with copies."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import File, Json, Threads
from vladkit.cli.output import cosine, counted, emit, say, shown
from vladkit.core.names import quoted
from vladkit.errors import ParameterError, VladkitError

if TYPE_CHECKING:
    from vladkit.collection.collection import Collection, Progress
    from vladkit.collection.duplicate_files import Left, Outcome, Plan
    from vladkit.collection.duplicates import DuplicateGroup

__all__: list[str] = []


@app.command()
def duplicates(
    file: File,
    flips: Annotated[bool, typer.Option("--flips", help="Find mirrored copies, too.")] = False,
    candidates: Annotated[
        int,
        typer.Option(
            "--candidates", min=1, help="Most similar images that each one is compared with."
        ),
    ] = 30,
    against: Annotated[
        str | None,
        typer.Option(
            "--against", metavar="FILE", help="List copies of the images of this collection alone."
        ),
    ] = None,
    keep: Annotated[
        str,
        typer.Option(
            "--keep", metavar="RULE", help="First of each group: largest, oldest or first by path."
        ),
    ] = "largest",
    hardlink: Annotated[
        bool, typer.Option("--hardlink", help="Put links in the place of copies of equal bytes.")
    ] = False,
    move: Annotated[
        str | None, typer.Option("--move", metavar="DIR", help="Move copies into this folder.")
    ] = None,
    kind: Annotated[
        list[str] | None,
        typer.Option(
            "--kind", metavar="KIND", help="Move copies that differ in this alone; repeatable."
        ),
    ] = None,
    do_it: Annotated[
        bool, typer.Option("--apply", help="Do it; without, say what would be done.")
    ] = False,
    undo_file: Annotated[
        str | None,
        typer.Option(
            "--undo", metavar="UNDO", help="Bring back what the run that wrote UNDO has done."
        ),
    ] = None,
    not_same: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--not-same", metavar="A B", help="Remember that two images are not the same shot."
        ),
    ] = None,
    n_jobs: Threads = None,
    as_json: Json = False,
) -> None:
    """List images that show the same shot; act on copies if told.

    The first of each group is the one to keep; the others follow with how they differ. With
    --hardlink or --move, and --apply, an undo file is written beside the collection.
    """
    _check(hardlink, move, kind, do_it, undo_file, not_same)
    if undo_file is not None:
        _undo(file, undo_file, as_json)
        return
    if not_same is not None:
        with opened(file, write=True) as (collection, _):
            n = collection.tell_apart(*not_same)
        text = f"{not_same[0]} and {not_same[1]} are not the same"
        emit(as_json, {"file": file, "new": n}, f"{file}: {text}" + ("" if n else ", as before"))
        return
    acts = hardlink or move is not None
    reference = nullcontext((None, None)) if against is None else opened(against)
    with opened(file, write=do_it) as (collection, progress), reference as (other, _):
        groups = collection.duplicates(
            flips=flips,
            candidates=candidates,
            keep=keep,
            against=other,
            n_jobs=n_jobs,
            progress=progress,
        )
        n_all = len(collection)
        lines, listed = _listed(groups)
        n_copies = sum(len(group.others) for group in groups)
        copies = f"{counted(len(groups), 'shot')} with {counted(n_copies, 'copy', 'copies')}"
        text = f"{file}: {counted(n_all, 'image')}, {copies if groups else 'no copies'}"
        value: dict[str, Any] = {"file": file, "images": n_all, "groups": listed}
        failed = False
        if acts:
            acted = _acted(collection, groups, move, kind or [], other, do_it, progress)
            value |= acted[0]
            lines += acted[1]
            text += f"; {acted[2]}"
            failed = acted[3]
    emit(as_json, value, text, lines=lines)
    if failed:
        raise typer.Exit(1)


def _check(
    hardlink: bool,
    move: str | None,
    kind: Sequence[str] | None,
    do_it: bool,
    undo_file: str | None,
    not_same: tuple[str, str] | None,
) -> None:
    """Refuse options that do not go together."""
    alone = {"--undo": undo_file, "--not-same": not_same}
    given = [name for name, value in alone.items() if value is not None]
    if len(given) > 1 or (given and (hardlink or move is not None or kind or do_it)):
        raise ParameterError(f"{given[0]} does nothing else: leave the other options out")
    if hardlink and move is not None:
        raise ParameterError("--hardlink and --move: give one of them")
    if do_it and not hardlink and move is None:
        raise ParameterError("--apply: give --hardlink or --move DIR, which is to be done")
    if kind and move is None:
        raise ParameterError("--kind is for --move")


def _listed(groups: Sequence[DuplicateGroup]) -> tuple[list[str], list[dict[str, Any]]]:
    """Groups as lines for people, and for JSON."""
    lines, listed = [], []
    for group in groups:
        lines.append(shown(group.path, group.file))
        lines += [
            f"  {shown(each.path, each.file)}  ({', '.join(each.kinds)})" for each in group.others
        ]
        others = [asdict(each) | {"similarity": cosine(each.similarity)} for each in group.others]
        listed.append(asdict(group) | {"others": others})
    return lines, listed


def _acted(
    collection: Collection,
    groups: Sequence[DuplicateGroup],
    move: str | None,
    kinds: Sequence[str],
    against: Collection | None,
    do_it: bool,
    progress: Progress,
) -> tuple[dict[str, Any], list[str], str, bool]:
    """Plan, and with `do_it` carry out, what is to be done with copies.

    Returns
    -------
    value : dict
        For JSON.
    lines, text : list of str, str
        For people.
    failed : bool
        Whether most of it could not be done.
    """
    from vladkit.collection import duplicate_files

    plan: Plan
    if move is None:
        plan = duplicate_files.plan_hardlinks(collection, groups)
    else:
        plan = duplicate_files.plan_moves(collection, groups, move, kinds, against)
    what = "replaced by hard links" if move is None else f"moved to {move}"
    if not do_it:
        lines = [
            f"would {'move' if s.target else 'link'} {shown(s.file, s.file)}"
            + (f" to {shown(s.target, s.target)}" if s.target else f" to {shown(s.kept, s.kept)}")
            for s in plan.steps
        ]
        n = counted(len(plan.steps), "copy", "copies")
        text = f"{n} would be {what}{_left_text(plan.left)}; nothing was changed: --apply does it"
        value = duplicate_files.as_json(plan) | {"applied": False, "undo": None}
        return value, lines + _left_lines(plan.left), text, False
    log = f"{collection.path}.undo-{time.strftime('%Y%m%d-%H%M%S')}-{os.getpid()}.jsonl"
    back = f"vladkit duplicates {quoted(collection.path)} --undo {quoted(log)}"
    outcome: Outcome
    try:
        outcome = duplicate_files.apply(plan, log, lambda *done: progress("apply", *done))
        if move is not None and outcome.done:
            collection.remove(outcome.done)
    except (KeyboardInterrupt, VladkitError):
        if os.path.exists(log):
            say(f"what was done until now: {back} brings it back")
        raise
    if not outcome.done and os.path.exists(log):
        duplicate_files.undo(log)  # of steps that failed; with nothing to bring back, it goes
    is_kept = os.path.exists(log)
    left = [*plan.left, *outcome.left]
    n = counted(len(outcome.done), "copy", "copies")
    text = f"{n} {what}{_left_text(left)}"
    if outcome.freed:
        text += f", {outcome.freed / 1e6:.1f} MB freed"
    if is_kept:
        text += f"; {back} brings them back"
    value = duplicate_files.as_json(plan) | {
        "left": [asdict(each) for each in left],
        "done": outcome.done,
        "freed": outcome.freed,
        "applied": True,
        "undo": log if is_kept else None,
    }
    return value, _left_lines(left), text, len(outcome.left) > len(outcome.done)


def _left_text(left: Sequence[Left]) -> str:
    return f", {len(left)} left as they are" if left else ""


def _left_lines(left: Sequence[Left]) -> list[str]:
    return [f"left {shown(each.file, each.file)}: {each.reason}" for each in left]


def _undo(file: str, log: str, as_json: bool) -> None:
    from vladkit.collection.duplicate_files import undo

    outcome = undo(log)
    n = counted(len(outcome.done), "file")
    end = (
        f"; {log} is kept"
        if outcome.left
        else "; the next vladkit index or add finds those that were moved"
    )
    emit(
        as_json,
        {"file": file, "done": outcome.done, "left": [asdict(each) for each in outcome.left]},
        f"{n} as before{_left_text(outcome.left)}{end}",
        lines=_left_lines(outcome.left),
    )
    if outcome.left:
        raise typer.Exit(1)
