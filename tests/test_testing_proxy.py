"""The faulty proxy, between a real aiohttp client and the scripted server."""

import asyncio
import contextlib
import errno
import socket
import struct
from collections.abc import AsyncIterator

import aiohttp
import pytest

from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

INCREMENT = "mutation { increment }"
MODERN = "graphql-transport-ws"


@pytest.fixture
async def server() -> AsyncIterator[ScriptedServer]:
    async with ScriptedServer() as server:
        yield server


@pytest.fixture
async def proxy(server: ScriptedServer) -> AsyncIterator[FaultyProxy]:
    async with FaultyProxy(server.port) as proxy:
        yield proxy


@pytest.fixture
async def http() -> AsyncIterator[aiohttp.ClientSession]:
    timeout = aiohttp.ClientTimeout(total=10)
    async with aiohttp.ClientSession(timeout=timeout) as session:
        yield session


async def send(http: aiohttp.ClientSession, proxy: FaultyProxy, query: str = "{ hello }") -> bytes:
    async with http.post(proxy.url_for(), json={"query": query}) as answer:
        return await answer.read()


async def drain(raw: socket.socket, into: bytearray) -> None:
    while data := await asyncio.get_running_loop().sock_recv(raw, 65536):
        into += data


def now() -> float:
    return asyncio.get_running_loop().time()


class TestPassing:
    async def test_transparent(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """Left alone it passes everything on and counts it."""
        assert proxy.url_for("/x", "ws") == f"ws://127.0.0.1:{proxy.port}/x"
        assert await send(http, proxy) == b'{"data": {"hello": "Hello, world!"}}'
        await send(http, proxy)
        assert (proxy.accepted, proxy.open, server.connections) == (1, 1, 1)
        assert (proxy.bytes_up > 200, proxy.bytes_down > 200) == (True, True)

    async def test_large(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """Megabytes pass unharmed in both directions."""
        big = bytes(range(256)) * 16384
        server.script(Answer(body=big))
        query = '{ echo(value: "' + "x" * 900_000 + '") }'
        assert await send(http, proxy, query) == big
        assert len(server.requests[0].body) > 900_000
        assert proxy.bytes_down > len(big)

    async def test_sockets(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """WebSockets pass, and end cleanly on both sides."""
        url = proxy.url_for(scheme="ws")
        async with http.ws_connect(url, protocols=[MODERN]) as ws:
            await ws.send_json({"type": "connection_init"})
            assert await ws.receive_json() == {"type": "connection_ack"}
        await server.socket_count(0)
        await proxy.until(lambda: proxy.open == 0)
        assert server.close_codes == {1: 1000}

    async def test_client_leaves(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """The server learns when the client leaves."""
        server.script(Answer.hang())
        call = asyncio.create_task(send(http, proxy))
        await server.received(1)
        call.cancel()
        await server.abandoned(1)
        await proxy.until(lambda: proxy.open == 0)

    async def test_server_resets(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """The client sees a reset of the server's as a reset."""
        server.script(Answer.reset())
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await send(http, proxy)
        assert caught.value.errno == errno.ECONNRESET


class TestWeather:
    async def test_latency(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """Each direction waits, on connections that are open already."""
        await send(http, proxy)
        proxy.latency = 0.05
        start = now()
        await send(http, proxy)
        assert now() - start >= 0.1
        assert (server.connections, proxy.latency) == (1, 0.05)

    async def test_latency_on_a_stream(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """Latency longer than the pauses of a stream loses nothing of it."""
        server.script(Answer.drip(1, 0.005, body="abcdefghij"))
        proxy.latency = 0.05
        start = now()
        assert await send(http, proxy) == b"abcdefghij"
        assert now() - start >= 0.1 + 9 * 0.005

    async def test_blackhole(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """A black hole swallows in silence; the execution happened, the answer is gone."""
        gate = asyncio.Event()
        server.script(Answer(gate=gate))
        call = asyncio.create_task(send(http, proxy, INCREMENT))
        await server.executed("increment", 1)
        passed = proxy.bytes_down
        proxy.blackhole = True
        gate.set()
        async with contextlib.AsyncExitStack() as stack:
            stack.callback(call.cancel)
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(asyncio.shield(call), 0.1)
        assert (proxy.blackhole, proxy.bytes_down) == (True, passed)

    async def test_blackhole_hides_closes(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """A black hole hides that the client left, until it is lifted."""
        server.script(Answer.hang())
        call = asyncio.create_task(send(http, proxy))
        await server.received(1)
        proxy.blackhole = True
        call.cancel()
        with pytest.raises(AssertionError, match="in vain for 1 abandoned"):
            await server.abandoned(1, timeout=0.1)
        proxy.blackhole = False
        await server.abandoned(1)

    async def test_new_connection_in_a_blackhole(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """Connecting works in a black hole, even before a dead server; answers do not come."""
        await server.stop()
        proxy.blackhole = True
        timeout = aiohttp.ClientTimeout(total=0.1)
        with pytest.raises(asyncio.TimeoutError):
            await http.post(proxy.url_for(), json={}, timeout=timeout)
        assert (proxy.accepted, len(server.requests)) == (1, 0)

    async def test_slicing(self, proxy: FaultyProxy, http: aiohttp.ClientSession) -> None:
        """Slices arrive one by one with their pause, and lose nothing."""
        proxy.slicing = (64, 0.002)
        start = now()
        assert await send(http, proxy) == b'{"data": {"hello": "Hello, world!"}}'
        slices = proxy.bytes_up // 64 + proxy.bytes_down // 64
        assert slices >= 6
        assert now() - start >= (slices - 2) * 0.002
        with pytest.raises(ValueError, match="at least 1 byte"):
            proxy.slicing = (0, 1.0)

    @pytest.mark.parametrize("limit", [0, 100])
    async def test_limit(self, server: ScriptedServer, proxy: FaultyProxy, limit: int) -> None:
        """The client gets so many bytes of answers and then a reset; the server a loss."""
        proxy.limit_bytes = limit
        got = bytearray()
        loop = asyncio.get_running_loop()
        with socket.create_connection((proxy.host, proxy.port)) as raw:
            raw.setblocking(False)
            await loop.sock_sendall(raw, b"GET /graphql HTTP/1.1\r\nHost: x\r\n\r\n")
            with pytest.raises(ConnectionResetError):
                await drain(raw, got)
        assert len(got) == proxy.bytes_down == limit
        assert len(server.requests) == 1
        await proxy.until(lambda: proxy.open == 0)

    async def test_slow_close(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """The end of a connection can be late."""
        server.script(Answer.disconnect())
        proxy.slow_close = 0.1
        start = now()
        with pytest.raises(aiohttp.ServerDisconnectedError):
            await send(http, proxy)
        assert now() - start >= 0.1

    async def test_refuse(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """Refusing resets new connections and spares the open ones."""
        await send(http, proxy)
        proxy.refuse = True
        await send(http, proxy)
        async with aiohttp.ClientSession() as other:
            with pytest.raises(aiohttp.ClientConnectionError):
                await send(other, proxy)
        assert (proxy.accepted, server.connections) == (2, 1)


class TestCuts:
    async def test_reset_connections(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """A reset of all reaches both sides, and new connections work at once."""
        server.script(Answer.hang(), Answer())
        call = asyncio.create_task(send(http, proxy))
        await server.received(1)
        proxy.reset_connections()
        with pytest.raises(aiohttp.ClientOSError) as caught:
            await call
        assert caught.value.errno == errno.ECONNRESET
        await server.abandoned(1)
        await send(http, proxy)
        await proxy.connections(2)

    async def test_half_close_of_a_client_that_has_just_gone(
        self, server: ScriptedServer, proxy: FaultyProxy
    ) -> None:
        """It is not asked to hear of it."""
        raw = socket.create_connection((proxy.host, proxy.port))
        await server.until(lambda: server.connections == 1)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.close()  # a reset, which the proxy has had no turn to notice
        proxy.half_close()
        await proxy.until(lambda: proxy.open == 0)

    async def test_half_close(self, server: ScriptedServer, proxy: FaultyProxy) -> None:
        """A half-close is a FIN to the client, whose own bytes still arrive."""
        reader, writer = await asyncio.open_connection(proxy.host, proxy.port)
        await proxy.connections(1)
        await server.until(lambda: server.connections == 1)
        proxy.half_close()
        assert await reader.read() == b""
        writer.write(b"GET /graphql?query={hello} HTTP/1.1\r\nHost: x\r\n\r\n")
        await server.executed("hello", 1)
        writer.close()
        await writer.wait_closed()

    async def test_inject(self, server: ScriptedServer, proxy: FaultyProxy) -> None:
        """Every open client gets bytes that nobody asked for; one that was told the end gets none."""
        first, second = [await asyncio.open_connection(proxy.host, proxy.port) for _ in range(2)]
        await server.until(lambda: server.connections == 2)
        proxy.inject(b"stray")
        assert [await reader.readexactly(5) for reader, _ in (first, second)] == [b"stray", b"stray"]
        proxy.half_close()
        proxy.inject(b"late")
        assert await first[0].read() == b""
        for _, writer in (first, second):
            writer.close()
            await writer.wait_closed()

    async def test_no_connection_is_lost_that_is_half_accepted(self, server: ScriptedServer) -> None:
        """Whoever stops listens no more, and has ended every connection: none is left open and forgotten."""
        for turns in range(6):
            for listening in (FaultyProxy(server.port), ScriptedServer()):
                async with listening:
                    with socket.create_connection((listening.host, listening.port)) as raw:
                        for _ in range(turns):
                            await asyncio.sleep(0)
                        await (listening.down() if isinstance(listening, FaultyProxy) else listening.stop())
                        raw.setblocking(False)
                        with contextlib.suppress(ConnectionResetError):
                            await asyncio.wait_for(drain(raw, bytearray()), 5)

    async def test_down_and_up(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """Down is refused and resets what is open; up is the same port again."""
        server.script(Answer.hang(), Answer())
        port = proxy.port
        call = asyncio.create_task(send(http, proxy))
        await server.received(1)
        await proxy.down()
        await proxy.down()
        assert (proxy.open, proxy.listening) == (0, False)
        with pytest.raises(aiohttp.ClientOSError):
            await call
        with pytest.raises(aiohttp.ClientConnectorError):
            await send(http, proxy)
        await proxy.up()
        await proxy.up()
        assert await send(http, proxy)
        assert proxy.port == port

    async def test_dead_target(
        self, server: ScriptedServer, proxy: FaultyProxy, http: aiohttp.ClientSession
    ) -> None:
        """A client whose target refuses gets a reset."""
        await server.stop()
        with pytest.raises(aiohttp.ClientConnectionError):
            await send(http, proxy)
        await proxy.until(lambda: proxy.open == 0)

    async def test_late(self, proxy: FaultyProxy) -> None:
        """Connections that do not come fail with the number of those that did."""
        with pytest.raises(AssertionError, match="2 connections, came 0"):
            await proxy.connections(2, timeout=0.01)

    async def test_no_leaks(self, server: ScriptedServer) -> None:
        """Whatever the weather, nothing is left when it is over."""
        before = asyncio.all_tasks()
        proxy = FaultyProxy(server.port)
        await proxy.up()
        server.always(Answer.hang())
        async with aiohttp.ClientSession() as http:
            calls = [asyncio.create_task(send(http, proxy)) for _ in range(4)]
            await server.received(4)
            proxy.blackhole, proxy.latency, proxy.slow_close = True, 60.0, 60.0
            calls.append(asyncio.create_task(send(http, proxy)))
            await proxy.connections(5)
            async with asyncio.timeout(1):
                await proxy.down()
            outcomes = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(o, aiohttp.ClientConnectionError) for o in outcomes)
        await server.abandoned(4)
        await server.stop()
        assert asyncio.all_tasks() <= before
