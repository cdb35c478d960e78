"""A TCP proxy that makes the network behave badly while a test runs."""

import asyncio
from types import TracebackType
from typing import Self

from .delivery import stop_listening
from .facts import Facts
from .pipe import Pipe, Weather


class FaultyProxy(Facts):
    """A raw TCP proxy before `target_host:target_port`, for plain and encrypted traffic alike.

    All of its behaviours can be set at any time. `port` 0 takes a free port and keeps it. When
    the target refuses, the client gets a reset.

        async with FaultyProxy(server.port) as proxy:
            proxy.latency = 0.05
            ...  # a client calls proxy.url_for("/graphql")
            await proxy.down()
    """

    def __init__(
        self,
        target_port: int,
        *,
        target_host: str = "127.0.0.1",
        host: str = "127.0.0.1",
        port: int = 0,
    ) -> None:
        super().__init__()
        self.host = host
        self.port: int = port
        self.target: tuple[str, int] = (target_host, target_port)
        self.accepted: int = 0
        """Connections accepted so far, refused ones too."""
        self.refuse = False
        """Whether new connections are accepted and reset at once."""
        self._weather = Weather(self._changed)
        self._pipes: dict[Pipe, asyncio.Task[None]] = {}
        self._listener: asyncio.Server | None = None

    @property
    def latency(self) -> float:
        """Seconds that each direction delays what arrives from now on. 0: none."""
        return self._weather.latency

    @latency.setter
    def latency(self, seconds: float) -> None:
        self._weather.latency = seconds

    @property
    def blackhole(self) -> bool:
        """Whether both directions swallow everything, closes included, without a sign.

        What was swallowed is gone; a close is passed on once this is False again.
        """
        return self._weather.blackhole

    @blackhole.setter
    def blackhole(self, on: bool) -> None:
        self._weather.blackhole = on

    @property
    def slicing(self) -> tuple[int, float] | None:
        """(bytes, seconds): the size of the pieces passed on, and the pause after each.

        None: as it comes. Raises ValueError for pieces below one byte.
        """
        return self._weather.slicing

    @slicing.setter
    def slicing(self, pieces: tuple[int, float] | None) -> None:
        if pieces is not None and pieces[0] < 1:
            raise ValueError(f"a piece has at least 1 byte, not {pieces[0]}")
        self._weather.slicing = pieces

    @property
    def limit_bytes(self) -> int | None:
        """Bytes of answers that may pass on a connection; then it is reset. None: no limit."""
        return self._weather.limit_bytes

    @limit_bytes.setter
    def limit_bytes(self, limit: int | None) -> None:
        self._weather.limit_bytes = limit

    @property
    def slow_close(self) -> float:
        """Seconds by which the passing on of a clean close (FIN) is delayed."""
        return self._weather.slow_close

    @slow_close.setter
    def slow_close(self, seconds: float) -> None:
        self._weather.slow_close = seconds

    @property
    def bytes_up(self) -> int:
        """Bytes passed on to the target."""
        return self._weather.passed["up"]

    @property
    def bytes_down(self) -> int:
        """Bytes passed on to clients."""
        return self._weather.passed["down"]

    @property
    def open(self) -> int:
        """Connections that are open."""
        return len(self._pipes)

    @property
    def listening(self) -> bool:
        """Whether it listens."""
        return self._listener is not None

    def url_for(self, path: str = "/graphql", scheme: str = "http") -> str:
        """A URL through the proxy."""
        return f"{scheme}://{self.host}:{self.port}{path}"

    async def up(self) -> None:
        """Listen, on the same port as before if there was one; nothing if it does already.

        Raises OSError when the port is taken.
        """
        if self._listener is None:
            self._listener = await asyncio.start_server(self._accept, self.host, self.port)
            self.port = self._listener.sockets[0].getsockname()[1]

    async def down(self) -> None:
        """Stop listening, so that connecting is refused, and reset every open connection."""
        listener, self._listener = self._listener, None
        if listener is not None:
            await stop_listening(listener)
        tasks = list(self._pipes.values())
        self.reset_connections()
        if tasks:
            await asyncio.wait(tasks)
        if listener is not None:
            await listener.wait_closed()

    def reset_connections(self) -> None:
        """Break every open connection, on both sides, with a TCP reset."""
        for pipe, task in self._pipes.items():
            pipe.reset()
            task.cancel()

    def half_close(self) -> None:
        """Send each client a FIN, and go on carrying what it sends."""
        for pipe in self._pipes:
            pipe.half_close()

    def inject(self, data: bytes) -> None:
        """Send each client these bytes, as if the target had sent them unasked.

        A client that reads its socket next finds them there; one that has just gone gets nothing.
        """
        for pipe in self._pipes:
            pipe.inject(data)

    async def connections(self, n: int, timeout: float | None = 10.0) -> None:
        """Wait until `n` connections have been accepted in all.

        `timeout` is in seconds, None waits for ever. Raises AssertionError.
        """
        await self.until(
            lambda: self.accepted >= n,
            lambda: f"{n} connections, came {self.accepted}",
            timeout,
        )

    async def __aenter__(self) -> Self:
        await self.up()
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self.down()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.accepted += 1
        pipe = Pipe(self._weather, reader, writer)
        if self.refuse or self._listener is None:
            pipe.reset()
        else:
            task = asyncio.create_task(pipe.run(*self.target))
            self._pipes[pipe] = task
            task.add_done_callback(lambda _: self._forget(pipe))
        self._changed()

    def _forget(self, pipe: Pipe) -> None:
        del self._pipes[pipe]
        self._changed()
