"""The command that serves the page: serve."""

from __future__ import annotations

import signal
from contextlib import suppress
from typing import Annotated

import typer

from vladkit.cli.app import File, Threads, app
from vladkit.cli.output import say

__all__: list[str] = []


@app.command()
def serve(
    file: File,
    host: Annotated[
        str, typer.Option("--host", help="Address to listen on; 0.0.0.0 is every network.")
    ] = "127.0.0.1",
    port: Annotated[int, typer.Option("--port", "-p", help="0 takes a free one.")] = 8000,
    token: Annotated[
        str | None,
        typer.Option(
            "--token",
            envvar="VLADKIT_TOKEN",
            help="What clients have to know; 'auto' makes one up.",
            show_default=False,
        ),
    ] = None,
    allow_host: Annotated[
        list[str] | None,
        typer.Option("--allow-host", metavar="NAME", help="A name that the server is called by."),
    ] = None,
    max_upload: Annotated[
        int, typer.Option("--max-upload", min=1, metavar="MB", help="Largest image to be sent.")
    ] = 32,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    n_jobs: Threads = None,
) -> None:
    """Open a page to search the collection: drop an image, see what matches and why."""
    from vladkit.cli.process import leave_cores_to_threads

    leave_cores_to_threads()
    from vladkit.collection.collection import Collection
    from vladkit.web.server import check_token, is_loopback
    from vladkit.web.server import serve as run

    # A shell starts a job in the background with SIGINT ignored; this one has no other end.
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    token = check_token(token)
    with Collection.open(file, read_only=True) as collection:
        about = collection.info()
    what = f"{file}: {about['images']} images, {about['bytes'] / 1e6:.1f} MB"

    def ready(url: str) -> None:
        say(what)
        if not is_loopback(host) and token is None:
            say(
                f"warning: everybody who can reach this machine's port sees all "
                f"{about['images']} images and can search them; --token auto asks for a word"
            )
        typer.echo(url)
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
            ready=ready,
        )
    say("stopped")
