"""Workers that ``--workers`` and ``--cluster`` choose."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

from vladkit.errors import MissingDependencyError, ParameterError, WorkerError

__all__ = ["workers_of"]

_SECONDS: Final = 10.0
"""Longest time in s for which a cluster may be silent before it is taken for absent."""


@contextmanager
def workers_of(n: int | None, cluster: str | None, n_jobs: int | None) -> Iterator[Any]:
    """The executor for `vladkit.Collection.add` until the block ends; None to use threads.

    Raises
    ------
    ParameterError
        If both are given, or the address is none.
    MissingDependencyError
        If Dask is needed and not installed.
    WorkerError
        If there is no cluster at the address.
    """
    if n is not None and cluster is not None:
        raise ParameterError("give --workers or --cluster, not both")
    if n is not None:
        from vladkit.collection.processes import Processes

        with Processes(n, n_jobs) as processes:
            yield processes
    elif cluster is not None:
        with _client(cluster) as client:
            yield client
    else:
        yield None


def _client(address: str) -> Any:
    try:
        from distributed import Client, Security, comm
    except ImportError as error:
        raise MissingDependencyError("--cluster needs Dask: pip install 'vladkit[dask]'") from error
    try:
        # before the client, which tries for long and leaves threads behind, and waits for ever for
        # another program's answer (the scheduler's page has a port of its own)
        where = comm.get_address_host_port(address)
        socket.create_connection(where, timeout=_SECONDS).close()
        asyncio.run(_greet(address, Security().get_connection_args("client")))
        return Client(address, timeout=_SECONDS, set_as_default=False)
    except (ValueError, NotImplementedError) as error:
        raise ParameterError(f"cluster={address!r} is no address: give tcp://HOST:PORT") from error
    except OSError as error:  # a timeout, too
        raise WorkerError(
            f"no scheduler of Dask answers at {address}: start one (dask scheduler), or give its "
            "address"
        ) from error


async def _greet(address: str, arguments: dict[str, Any]) -> None:
    """Exchange the first words with a scheduler; OSError if there is another program."""
    from distributed.comm import connect

    greeting = connect(address, timeout=_SECONDS, **arguments)
    connection = await asyncio.wait_for(greeting, _SECONDS)
    await connection.close()
