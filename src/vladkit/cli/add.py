"""`vladkit add`: more images into a collection; and the report on what became of them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from vladkit.cli.app import app, opened
from vladkit.cli.options import (
    Batch,
    Cluster,
    Device,
    File,
    Force,
    Images,
    Json,
    Prune,
    Sources,
    Threads,
    Trust,
    Vectors,
    Workers,
)
from vladkit.cli.output import counted, emit, say
from vladkit.cli.workers import workers_of

if TYPE_CHECKING:
    from vladkit.collection.indexing import AddReport

__all__ = ["check_arguments", "emit_report"]


@app.command()
def add(
    file: File,
    source: Sources,
    prune: Prune = False,
    force: Force = False,
    images: Images = None,
    n_jobs: Threads = None,
    workers: Workers = None,
    cluster: Cluster = None,
    vectors: Vectors = None,
    device: Device = None,
    batch: Batch = None,
    trust: Trust = False,
    as_json: Json = False,
) -> None:
    """Add new and changed images to an existing collection."""
    with (
        opened(file, write=True, others=source, trust=trust, device=device, batch=batch) as (
            collection,
            progress,
        ),
        workers_of(workers, cluster, n_jobs) as executor,
    ):
        check_arguments(source, n_jobs)
        report = collection.add(
            source,
            prune=prune,
            images=images,
            force=force,
            n_jobs=n_jobs,
            executor=executor,
            vectors=vectors,
            progress=progress,
        )
        n_all = len(collection)
    emit_report(file, n_all, report, as_json)


def check_arguments(source: list[str], n_jobs: int | None) -> None:
    """Raise what can be known to be wrong before a file is made or changed."""
    from vladkit.cli.hints import check_prefixes
    from vladkit.collection.discover import check_sources
    from vladkit.core.remote import check_there, is_url
    from vladkit.core.threads import resolve_n_jobs

    resolve_n_jobs(n_jobs)
    check_sources(source)
    check_prefixes(source)
    for url in filter(is_url, source):
        check_there(url)


def emit_report(file: str, n_all: int, report: AddReport, as_json: bool) -> None:
    """Say how many images were indexed, and which were skipped and why."""
    rate = f" ({report.indexed / report.seconds:.1f}/s)" if report.indexed else ""
    pruned = f", {report.pruned} forgotten" if report.pruned else ""
    emit(
        as_json,
        {
            "file": file,
            "images": n_all,
            "indexed": report.indexed,
            "unchanged": report.unchanged,
            "pruned": report.pruned,
            "skipped": [{"path": path, "reason": reason} for path, reason in report.skipped],
            "linked": [{"path": link, "image": path} for link, path in report.linked],
            "left_out": dict(report.left_out.most_common()),
            "unreadable": [{"folder": f, "reason": r} for f, r in report.unreadable],
            "outgrown": report.outgrown,
            "learned_once": report.learned_once,
            "seconds": round(report.seconds, 3),
        },
        f"{file}: {counted(n_all, 'image')}; {report.indexed} indexed in "
        f"{report.seconds:.1f} s{rate}, {report.unchanged} unchanged{pruned}, "
        f"{len(report.skipped)} skipped",
    )
    if as_json:
        return
    for reason, n in report.reasons():
        say(f"  skipped {n}: {reason}: {_some([p for p, why in report.skipped if why == reason])}")
    if report.linked:
        links = _some([f"{link} ({path})" for link, path in report.linked])
        say(f"  {counted(len(report.linked), 'link')} to images, not indexed again: {links}")
    if report.left_out:
        say(f"  left out {report.left_out_text()}")
    if report.outgrown:
        k, now = report.outgrown
        say(
            f"  note: the codebook of {k} words was learned from few descriptors; from these "
            f"images it would have {now}, and rank better: index them again, into another file"
        )
    if n := report.learned_once:
        say(
            f"  note: it has learned from {counted(n, 'image')}, and a collection of Lance learns "
            "once: if many more will come, learn from some of them first (vladkit codebook)"
        )
    for folder, reason in report.unreadable:
        say(f"  cannot list {folder}: {reason}")


def _some(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return ", ".join(names[:3]) + more
