"""uvicorn's HTTP connection, with limits that uvicorn has no settings for."""

from __future__ import annotations

import asyncio
from typing import Any

import h11
from uvicorn.protocols.http.h11_impl import H11Protocol

from vladkit.web.limits import Limits
from vladkit.web.problems import Problem

__all__ = ["impatient"]


def impatient(limits: Limits) -> type[asyncio.Protocol]:
    """A connection class for uvicorn that closes slow connections, and keeps to their limit.

    uvicorn waits forever for the end of a request's header, and for a client to take its answer:
    some hundred sockets that do nothing would keep everybody else out. So where there are too many,
    the one whose client has been silent for the longest time makes room for a new one; a connection
    that is being worked for never does.

    Nor does uvicorn tell an app that works that its client is gone: searches that nobody waits for
    any more would keep those out that somebody does.
    """

    class Impatient(H11Protocol):
        _deadline: asyncio.TimerHandle | None = None
        _last_heard = 0.0
        _work: asyncio.Task[Any] | None = None

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            self._answer, self.app = self.app, self._answer_unless_cancelled
            self._last_heard = self.loop.time()
            if not self._find_room():
                self._refuse(Problem(503, "too many connections", retry_after=5))
                return
            self._expect(limits.header_seconds)

        def _find_room(self) -> bool:
            others = [
                other
                for other in self.connections
                if isinstance(other, Impatient)
                and other is not self
                and not other.transport.is_closing()
            ]
            if len(others) < limits.connections:
                return True
            waiting = [other for other in others if other._waits_for_its_client()]
            if waiting:
                min(waiting, key=lambda other: other._last_heard).give_way()
            return bool(waiting)

        def _waits_for_its_client(self) -> bool:
            cycle = self.cycle
            return (
                cycle is None  # for a request
                or cycle.response_complete  # for the next one
                or cycle.more_body  # for the rest of an image
                or self.flow.write_paused  # until it takes the answer
                or bool(self.conn.trailing_data[0])  # asks for more before it has its answer
            )

        def give_way(self) -> None:
            self._cancel()
            if self.conn.our_state is h11.IDLE:
                self._refuse(Problem(503, "closed for others: too many connections", retry_after=5))
            else:
                self.transport.abort()

        def data_received(self, data: bytes) -> None:
            self._last_heard = self.loop.time()
            before = self.cycle
            if before is not None and before.response_complete and self._deadline is None:
                self._expect(limits.header_seconds)  # the next request of a kept connection
            super().data_received(data)
            if self.cycle is not before:
                self._expect(limits.request_seconds)

        def on_response_complete(self) -> None:
            self._cancel()  # from here on uvicorn's own keep-alive timer runs
            super().on_response_complete()

        def connection_lost(self, exc: Exception | None) -> None:
            self._cancel()
            super().connection_lost(exc)
            if self._work is not None and not self.cycle.response_complete:
                self._work.cancel()

        async def _answer_unless_cancelled(self, scope: Any, receive: Any, send: Any) -> None:
            """Answer a request; uvicorn would print a traceback for one that is cancelled."""
            self._work = asyncio.current_task()
            try:
                await self._answer(scope, receive, send)
            except asyncio.CancelledError:  # the client is gone, or the server ends
                if not self.cycle.response_started:
                    problem = Problem(503, "the server ends", retry_after=5)
                    start = {"status": problem.status, "headers": problem.headers()}
                    await send({"type": "http.response.start", **start})
                    await send({"type": "http.response.body", "body": problem.body()})

        def _expect(self, seconds: float) -> None:
            self._cancel()
            self._deadline = self.loop.call_later(seconds, self._too_slow)

        def _cancel(self) -> None:
            if self._deadline is not None:
                self._deadline.cancel()
                self._deadline = None

        def _too_slow(self) -> None:
            self._deadline = None
            if self.conn.our_state is h11.IDLE:  # nothing has been answered yet
                seconds = f"{limits.header_seconds:g}"
                self._refuse(Problem(408, f"no whole request within {seconds} s"))
            else:
                self.transport.abort()

        def _refuse(self, problem: Problem) -> None:
            headers: list[Any] = [*problem.headers(), (b"connection", b"close")]
            events = [
                h11.Response(status_code=problem.status, headers=headers),
                h11.Data(data=problem.body()),
                h11.EndOfMessage(),
            ]
            for event in events:
                self.transport.write(self.conn.send(event) or b"")
            self.transport.close()

    return Impatient
