"""`vladkit serve`: a page that searches a collection."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Annotated

import typer

from vladkit.cli.app import app, opened
from vladkit.cli.options import Device, File, Threads, Trust
from vladkit.cli.output import counted, say, show

__all__: list[str] = []


@app.command()
def serve(
    file: File,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0: every network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="Port; 0: any free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="VLADKIT_TOKEN",
            help="Access token; auto: generate one.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="Additional allowed Host header."),
    ] = None,
    max_upload: Annotated[
        int, typer.Option("--max-upload", min=1, metavar="MB", help="Largest image to upload.")
    ] = 32,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    n_jobs: Threads = None,
    device: Device = None,
    trust: Trust = False,
) -> None:
    """Open a page to search the collection in a browser.

    Drop an image there, and see which images match and why.
    """
    # A shell starts a job in the background with SIGINT ignored; this one has no other end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with opened(file, trust=trust, shows=True, device=device) as (collection, _):
        about = collection.info()
        trust = collection.index.trust
    from vladkit.web.server import check_token, is_loopback
    from vladkit.web.server import serve as run

    token = check_token(token)
    n = counted(about["images"], "image")

    def ready(url: str) -> None:
        say(f"{file}: {n}, {about['bytes'] / 1e6:.1f} MB")
        if not is_loopback(host) and token is None:
            say(
                f"warning: everybody who can reach this machine's port sees all {n} and can "
                "search them; --token auto generates an access token"
            )
        show(url)
        say("Ctrl-C stops it")
        if open_page:
            import webbrowser

            webbrowser.open(url)

    with suppress(KeyboardInterrupt):
        run(
            file,
            host=host,
            port=port,
            token=token,
            allowed_hosts=allow_host or (),
            upload_bytes=max_upload << 20,
            n_jobs=n_jobs,
            trust=trust,
            device=device,
            ready=ready,
        )
    say("stopped")
