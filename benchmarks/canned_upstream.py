"""A canned GraphQL server that lets calls and subscriptions wait until it is told to answer."""

from __future__ import annotations

import asyncio
import contextlib
import multiprocessing
import os
import signal
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

from benchmarks.canned import ANSWER
from benchmarks.canned_sockets import Canned, _Connection, _Server

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection

STEP = 0.01
"""Seconds between two batches of answers."""


class _Upstream(_Server):
    """The WebSocket server, and calls that are held."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[asyncio.Transport] = []
        self.last = 0.0
        """When the last answer was sent, by the clock that all processes share."""

    async def listen(self) -> int:
        server = await self.loop.create_server(lambda: _Held(self), "127.0.0.1", 0, backlog=4096)
        return int(server.sockets[0].getsockname()[1])

    def _do_held(self) -> int:
        return len(self.held)

    def _do_last(self) -> float:
        return self.last

    def _do_answer(self, seconds: float) -> None:
        """Answer all calls, spread evenly over so many seconds."""
        steps = max(1, round(seconds / STEP))
        begun = self.loop.time()
        for step in range(steps):
            self.loop.call_at(begun + (step + 1) * STEP, self._batch, self.held[step::steps])
        self.held = []

    def _batch(self, transports: list[asyncio.Transport]) -> None:
        for transport in transports:
            transport.write(ANSWER)
            self.last = time.monotonic()

    def _do_mute(self) -> None:
        """Read nothing more of anybody who is connected, and so answer nothing."""
        for transport in [*self.held, *(sock.transport for sock in self.sockets)]:
            transport.pause_reading()


class _Held(_Connection):
    """A connection whose calls are held."""

    _server: _Upstream

    def data_received(self, data: bytes) -> None:
        if self._buffer[:4] != b"POST" and data[:4] != b"POST":
            super().data_received(data)
            return
        self._buffer += data
        head, found, body = self._buffer.partition(b"\r\n\r\n")
        if found and len(body) >= int(head.lower().partition(b"content-length:")[2].split(b"\r\n", 1)[0]):
            self._buffer = b""
            self._server.held.append(self._transport)


class Upstream(Canned):
    """The way to tell it what to do."""

    def __init__(self, port: int, pid: int) -> None:
        super().__init__(port)
        self._pid = pid

    def tell(self, order: Literal["held", "answer", "last", "mute", "subscribed"], *arguments: float) -> Any:
        """Give an order; what it answers."""
        return self.ask(order, *arguments)  # type: ignore[arg-type]

    def until_busy(self, calls: int, subscriptions: int) -> None:
        """Wait until it has so many of each."""
        limit = time.monotonic() + 60
        while self.tell("held") < calls or self.tell("subscribed") < subscriptions:
            if time.monotonic() > limit:
                raise TimeoutError(f"{self.tell('held')} calls, {self.tell('subscribed')} subscriptions")
            time.sleep(0.01)

    def kill(self) -> None:
        """End it in the middle of whatever it does."""
        os.kill(self._pid, signal.SIGKILL)


async def _serve(ready: Connection) -> None:
    ready.send(await _Upstream().listen())
    await asyncio.Event().wait()


def _run(ready: Connection) -> None:
    asyncio.run(_serve(ready))


@contextmanager
def canned_upstream() -> Iterator[Upstream]:
    """One in a process of its own."""
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_run, args=(there,), daemon=True)
    process.start()
    there.close()  # one that cannot start shall not be waited for
    try:
        assert process.pid is not None
        with contextlib.closing(Upstream(here.recv(), process.pid)) as upstream:
            yield upstream
    finally:
        process.kill()
        process.join()
