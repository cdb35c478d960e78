"""One connection through the faulty proxy: two directions under one weather."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import Callable
from typing import Literal

from .delivery import reset

CHUNK = 65536
Direction = Literal["up", "down"]
Parcel = tuple[float, bytes]
"""When it is due, and what: no bytes stand for the end."""


class Weather:
    """What all connections of a proxy meet now."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.latency: float = 0.0
        self.slicing: tuple[int, float] | None = None
        self.limit_bytes: int | None = None
        self.slow_close: float = 0.0
        self.passed: Counter[Direction] = Counter()
        self.changed = changed
        self._clear = asyncio.Event()
        self._clear.set()

    @property
    def blackhole(self) -> bool:
        return not self._clear.is_set()

    @blackhole.setter
    def blackhole(self, on: bool) -> None:
        if on:
            self._clear.clear()
        else:
            self._clear.set()

    async def clear(self) -> None:
        """Wait until there is no black hole."""
        await self._clear.wait()


class Spent(Exception):  # noqa: N818 - an event, not a failure
    """The connection has carried all the bytes it may."""


class Pipe:
    """A client's connection and ours to the target."""

    def __init__(self, weather: Weather, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._weather = weather
        self._client = (reader, writer)
        self._writers = [writer]
        self._answered = 0
        self._finished: set[asyncio.StreamWriter] = set()

    def reset(self) -> None:
        """Break both connections with a TCP reset."""
        for writer in self._writers:
            reset(writer.transport)

    def half_close(self) -> None:
        """Send the client a FIN; nothing if it has just gone."""
        with contextlib.suppress(OSError):
            self._finish(self._client[1])

    def inject(self, data: bytes) -> None:
        """Send the client bytes of nobody's; nothing if it has gone, or was told the end."""
        writer = self._client[1]
        if writer not in self._finished and not writer.is_closing():
            writer.write(data)

    async def run(self, host: str, port: int) -> None:
        """Carry both directions until both have ended or one is broken."""
        try:
            await self._carry(host, port)
        except* (OSError, Spent):
            self.reset()
        except* asyncio.CancelledError:
            self.reset()
        finally:
            await self._close()

    async def _carry(self, host: str, port: int) -> None:
        try:
            target = await asyncio.open_connection(host, port)
        except OSError:
            await self._weather.clear()
            raise
        self._writers.append(target[1])
        async with asyncio.TaskGroup() as group:
            up, down = asyncio.Queue[Parcel](64), asyncio.Queue[Parcel](64)
            group.create_task(self._collect(self._client[0], up))
            group.create_task(self._collect(target[0], down))
            group.create_task(self._deliver("up", up, target[1]))
            group.create_task(self._deliver("down", down, self._client[1]))

    async def _close(self) -> None:
        for writer in self._writers:
            writer.close()
        for writer in self._writers:
            with contextlib.suppress(OSError):
                await writer.wait_closed()

    async def _collect(self, source: asyncio.StreamReader, parcels: asyncio.Queue[Parcel]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            data = await self._read(source)
            await parcels.put((loop.time() + self._weather.latency, data))
            if not data:
                return

    async def _read(self, source: asyncio.StreamReader) -> bytes:
        try:
            return await source.read(CHUNK)
        except OSError:
            await self._weather.clear()
            raise

    async def _deliver(
        self, direction: Direction, parcels: asyncio.Queue[Parcel], sink: asyncio.StreamWriter
    ) -> None:
        loop = asyncio.get_running_loop()
        while True:
            due, data = await parcels.get()
            if (wait := due - loop.time()) > 0:
                await asyncio.sleep(wait)
            if not data:
                break
            await self._pass(direction, data, sink)
        await self._weather.clear()
        if self._weather.slow_close > 0:
            await asyncio.sleep(self._weather.slow_close)
        self._finish(sink)

    async def _pass(self, direction: Direction, data: bytes, sink: asyncio.StreamWriter) -> None:
        while data:
            size, pause = self._weather.slicing or (len(data), 0.0)
            if not self._weather.blackhole and sink not in self._finished:
                self._write(direction, data[:size], sink)
                await sink.drain()
            data = data[size:]
            if data and pause > 0:
                await asyncio.sleep(pause)

    def _write(self, direction: Direction, data: bytes, sink: asyncio.StreamWriter) -> None:
        limit = self._weather.limit_bytes
        if direction == "down" and limit is not None:
            data = data[: max(0, limit - self._answered)]
        sink.write(data)
        self._weather.passed[direction] += len(data)
        self._weather.changed()
        if direction == "down":
            self._answered += len(data)
            if limit is not None and self._answered >= limit:
                raise Spent

    def _finish(self, sink: asyncio.StreamWriter) -> None:
        self._finished.add(sink)
        if not sink.is_closing() and sink.can_write_eof():
            sink.write_eof()
