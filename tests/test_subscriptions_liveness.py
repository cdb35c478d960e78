"""Liveness is judged by bytes, and never by a loop that stood still."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from raw_sockets import PING, TEXT, Peer, RawServer, frame
from subscribing import Follower, client_of, until

from graphql_prod import SubscriptionPolicy
from graphql_prod.sessions.byte_clock import seconds_since_data
from graphql_prod.subscriptions.keep_alive import KeepAlive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from subscribing import Protocol

    from graphql_prod import ProductionClient

KINDS = ["aiohttp", "httpx", "a given aiohttp session"]
SHARED = [*((kind, False) for kind in KINDS), ("aiohttp", True), ("httpx", True)]


@contextlib.asynccontextmanager
async def _client(url: str, kind: str, **policy: Any) -> AsyncIterator[ProductionClient]:
    """A client of ours, over one of the sockets that there are."""
    async with contextlib.AsyncExitStack() as stack:
        objects: dict[str, Any] = {}
        if kind not in ("aiohttp", "httpx"):
            objects["session"] = await stack.enter_async_context(aiohttp.ClientSession())
        backend: Any = kind if not objects else None
        yield await stack.enter_async_context(client_of(url, backend, objects=objects, **policy))


@pytest.mark.parametrize(("kind", "share"), SHARED)
async def test_a_large_event_on_a_slow_link_arrives(kind: str, protocol: Protocol, share: bool) -> None:
    """No whole message and no pong in three times the limits, but bytes: the connection stays."""

    async def script(peer: Peer) -> None:
        key = await peer.subscribed()
        await peer.write(peer.event(key, 1))
        whole = peer.event(key, 2, pad=1500)
        for at in range(0, len(whole), 100):
            await peer.write(whole[at : at + 100])
            await asyncio.sleep(0.05)
        await peer.read_on()

    async with (
        RawServer(script) as server,
        _client(server.url, kind, ping_interval=0.25, pong_timeout=0.25, share_connection=share) as client,
        Follower(client, "stream", protocol) as follower,
    ):
        await follower.began(2)
        assert not follower.gaps
        assert len(server.peers) == 1


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("what", ["fragments", "pings"])
async def test_any_bytes_are_life(kind: str, protocol: Protocol, what: str) -> None:
    """Fragments of a message that does not end, pings of the server's: whoever sends is alive."""
    beat = {"fragments": frame(b"", 0, first=0), "pings": frame(b"x", PING)}[what]

    async def script(peer: Peer) -> None:
        key = await peer.subscribed()
        await peer.write(peer.event(key, 1))
        if what == "fragments":
            await peer.write(frame(b"", TEXT, first=0))
        for _ in range(15):
            await peer.write(beat)
            await asyncio.sleep(0.05)
        if what == "fragments":
            whole = peer.event(key, 2)
            await peer.write(frame(whole[2:], 0))  # the end of the message that began
        else:
            await peer.write(peer.event(key, 2))
        await peer.read_on()

    async with (
        RawServer(script) as server,
        _client(server.url, kind, ping_interval=0.25, pong_timeout=0.25) as client,
        Follower(client, "stream", protocol) as follower,
    ):
        await follower.began(2)
        assert not follower.gaps
        assert len(server.peers) == 1


@pytest.mark.parametrize(("kind", "share"), SHARED)
async def test_a_dead_peer_is_found_in_time(kind: str, protocol: Protocol, share: bool) -> None:
    """It takes ping_interval and pong_timeout, measured from the last byte, and not much more."""
    last: list[float] = []

    async def script(peer: Peer) -> None:
        key = await peer.subscribed()
        if peer.number > 1:
            last.append(asyncio.get_running_loop().time())
        await peer.write(peer.event(key, peer.number))
        if peer.number == 1:
            await asyncio.sleep(0.1)
            await peer.write(frame(b"x", PING))  # not a message, but the last that is heard
            last.append(asyncio.get_running_loop().time())
        await peer.read_on()

    async with (
        RawServer(script) as server,
        _client(server.url, kind, ping_interval=0.5, pong_timeout=0.5, share_connection=share) as client,
        Follower(client, "stream", protocol) as follower,
    ):
        await follower.went_on()
        assert "ping" in (follower.gaps[0].close_reason or "")
    took = last[1] - last[0]
    assert 0.9 <= took < 3  # two more intervals would be 2; the rest is for a machine under load


class _Elsewhere:
    """A server that runs whatever becomes of the loop of the test."""

    def __enter__(self) -> str:
        self._loop = asyncio.new_event_loop()
        self._url: list[str] = []
        self._ready = threading.Event()
        self._thread = threading.Thread(target=self._loop.run_until_complete, args=(self._serve(),))
        self._thread.start()
        assert self._ready.wait(10)
        return self._url[0]

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(10)
        self._loop.close()

    async def _serve(self) -> None:
        self._over = asyncio.Event()
        async with RawServer(self._script) as server:
            self._url.append(server.url)
            self._ready.set()
            await self._over.wait()

    async def _script(self, peer: Peer) -> None:
        key = await peer.subscribed()
        await peer.write(peer.event(key, peer.number))
        while True:
            opcode, data = await peer.frame()
            if opcode == TEXT and b'"ping"' in data:
                await peer.send(type="pong")
            elif opcode == PING:
                await peer.write(frame(data, 10))


@pytest.fixture
def elsewhere() -> Iterator[str]:
    with _Elsewhere() as url:
        yield url


@pytest.mark.parametrize(("kind", "share"), SHARED)
async def test_a_loop_that_stands_still_loses_nothing(
    elsewhere: str, kind: str, protocol: Protocol, share: bool
) -> None:
    """Blocked again and again for longer than the pong timeout, with one turn between: no gap."""
    async with (
        _client(
            elsewhere, kind, ping_interval=0.1, pong_timeout=0.15, share_connection=share, ack_timeout=30
        ) as client,
        Follower(client, "stream", protocol) as follower,
    ):
        await follower.began(1)
        for _ in range(5):
            time.sleep(0.2)  # noqa: ASYNC251 -- that is the point
            await asyncio.sleep(0)
        await asyncio.sleep(0.2)
        assert not follower.gaps
        assert follower.values == [1]


async def test_a_callers_session_is_told_by_the_system() -> None:
    """Linux knows when bytes last came, which no message shows; elsewhere nobody says."""

    async def script(peer: Peer) -> None:
        await peer.upgrade("x")
        await peer.write(frame(b"", TEXT, first=0))
        await peer.read_on()

    async with RawServer(script) as server, aiohttp.ClientSession() as session:
        limit = aiohttp.ClientWSTimeout(ws_close=0.1)
        async with session.ws_connect(server.url, protocols=["x"], timeout=limit) as ws:
            since = seconds_since_data(ws.get_extra_info("socket"))
            assert since is not None
            assert 0 <= since < 10
    assert seconds_since_data(None) is None


class TestPulse:
    """The clock itself, on bytes that a test makes up."""

    def _pulse(self, data_at: Callable[[], float | None], **policy: Any) -> tuple[KeepAlive, list[str]]:
        told: list[str] = []
        tasks: set[asyncio.Task[None]] = set()

        async def ping() -> None:
            told.append("ping")

        def post(coroutine: Any) -> None:
            tasks.add(asyncio.create_task(coroutine))

        settings = SubscriptionPolicy(**policy)
        return KeepAlive(settings, post, ping, lambda: told.append("dead"), data_at), told

    async def test_bytes_put_the_ping_off(self) -> None:
        """While bytes come nobody is asked; after them it is, and found dead."""
        loop, quiet = asyncio.get_running_loop(), False
        pulse, told = self._pulse(
            lambda: None if quiet else loop.time(), ping_interval=0.02, pong_timeout=0.02
        )
        await asyncio.sleep(0.1)
        assert told == []
        quiet = True
        await until(lambda: told == ["ping", "dead"])
        pulse.stop()

    async def test_bytes_that_come_at_the_last_moment_count(self) -> None:
        """What is read in the round after the limit is an answer."""
        loop = asyncio.get_running_loop()
        heard = loop.time()

        async def ping_seen() -> None:
            await until(lambda: "ping" in told)

        pulse, told = self._pulse(lambda: heard, ping_interval=0.02, pong_timeout=0.05)
        await ping_seen()
        time.sleep(0.1)  # noqa: ASYNC251 -- the limit passes while nothing can be read
        loop.call_soon(lambda: None)
        heard = loop.time()
        await asyncio.sleep(0.001)
        assert "dead" not in told
        pulse.stop()

    async def test_the_clock_begins_with_the_ping_that_is_sent(self) -> None:
        """A ping that a busy loop has not sent yet cannot be answered."""
        sent = asyncio.Event()
        told: list[str] = []
        waiting: list[Any] = []

        async def ping() -> None:
            sent.set()

        policy = SubscriptionPolicy(ping_interval=0.02, pong_timeout=0.05)
        pulse = KeepAlive(policy, waiting.append, ping, lambda: told.append("dead"), lambda: None)
        await until(lambda: waiting)
        await waiting.pop()
        assert sent.is_set()
        await until(lambda: told == ["dead"])
        pulse.stop()
        for coroutine in waiting:
            coroutine.close()
