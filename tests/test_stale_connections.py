"""An answer belongs to its request: what happens on a kept connection between two calls answers neither."""

from __future__ import annotations

import asyncio
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import trustme
from raw_http import KINDS, MUTATION, QUERY, RawServer, answer, client_of

from graphql_prod import PoolPolicy, ProductionClient, ProductionConfig, RetryPolicy, TransportError
from graphql_prod.testing import no_waiting

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from raw_http import Asked, Kind

STRAY = answer({"hello": "somebody else's", "increment": -1})
TIMED_OUT = answer(status="408 Request Time-out", content_type="text/html", body=b"<html>408</html>")
STRAYS = {
    "answer": STRAY,
    "408": TIMED_OUT,
    "408 and close announced": TIMED_OUT.replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n", 1),
    "head without body": STRAY[: STRAY.index(b"\r\n\r\n") + 4],
    "garbage": b"\x00\x01\x02 no HTTP at all\r\n",
}


def reply(asked: Asked) -> bytes:
    """Each answer names the request it belongs to."""
    return answer({"hello": asked.number, "increment": asked.number})


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each test runs with all four kinds of session."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[QUERY, MUTATION], ids=["query", "mutation"])
def document(request: pytest.FixtureRequest) -> str:
    """Queries and mutations alike."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
def server() -> Iterator[RawServer]:
    """A server that answers and keeps its connections."""
    with RawServer(reply) as server:
        yield server


async def rounds() -> None:
    """The loop goes on: it reads what has come, and closes what is to be closed."""
    for _ in range(6):
        await asyncio.sleep(0)


def of(response: Any) -> object:
    """The number of the request that was answered."""
    return next(iter(response.data.values()))


@pytest.mark.parametrize("stood_still", [True, False], ids=["stood still", "ran on"])
@pytest.mark.parametrize("stray", STRAYS.values(), ids=STRAYS)
async def test_stray_answer(
    server: RawServer, kind: Kind, document: str, stray: bytes, stood_still: bool
) -> None:
    """Bytes that came before the request was written are never its answer; the call is sent anew, once."""
    with no_waiting():
        async with client_of(kind, server.url) as client:
            assert of(await client.query(document)) == 1
            server.push(stray)  # the client's loop stands still for so long
            if not stood_still:
                await rounds()
            assert of(await client.query(document)) == 2
            assert of(await client.query(document)) == 3
    assert len(server.asked) == 3
    assert server.connections == 2
    assert [asked.connection for asked in server.asked] == [1, 2, 2]


@pytest.mark.parametrize("kind", ["owned-aiohttp", "owned-httpx", "given-httpx"])
async def test_begin_of_a_stray_answer(server: RawServer, kind: Kind, document: str) -> None:
    """Half a head is enough; of a caller's aiohttp session nothing public tells it."""
    async with client_of(kind, server.url) as client:
        assert of(await client.query(document)) == 1
        server.push(STRAY[:20])
        assert of(await client.query(document)) == 2
    assert [asked.connection for asked in server.asked] == [1, 2]


@pytest.mark.parametrize("half", [False, True], ids=["closed", "half closed"])
async def test_loop_that_stood_still(server: RawServer, kind: Kind, document: str, half: bool) -> None:
    """The first call after a handler that blocked the loop, while the server closed the connection, works."""
    async with client_of(kind, server.url, config=ProductionConfig(retry=RetryPolicy(attempts=1))) as client:
        assert of(await client.query(document)) == 1
        server.hang_up(half=half)
        assert of(await client.query(document)) == 2
    assert len(server.asked) == 2


async def test_frozen_loop(server: RawServer, kind: Kind) -> None:
    """Calls begin together on a loop that stood still while all connections closed: each works, once."""
    async with client_of(kind, server.url, config=ProductionConfig(retry=RetryPolicy(attempts=1))) as client:
        await asyncio.gather(*(client.query(MUTATION) for _ in range(5)))
        server.hang_up()
        answers = await asyncio.gather(*(client.query(MUTATION) for _ in range(5)))
    assert sorted(str(of(each)) for each in answers) == ["10", "6", "7", "8", "9"]
    assert server.mutations == 10


async def test_blocked_while_a_call_begins(server: RawServer, kind: Kind) -> None:
    """Somebody else blocks the loop after the call has begun, and before it was written."""
    async with client_of(kind, server.url) as client:
        with no_waiting():
            await client.query(MUTATION)
            call = asyncio.create_task(client.query(MUTATION))
            await asyncio.sleep(0)
            server.hang_up()
            assert of(await call) == 2
    assert server.mutations == 2


@pytest.mark.parametrize("kind", ["owned-aiohttp", "owned-httpx"])
async def test_get(server: RawServer, kind: Kind) -> None:
    """On our own sessions a GET is held to the same."""
    async with client_of(kind, server.url) as client:
        assert of(await client.query(QUERY, method="get")) == 1
        server.push(STRAY)
        assert of(await client.query(QUERY, method="get")) == 2
    assert [asked.connection for asked in server.asked] == [1, 2]


async def test_every_connection_is_stale(server: RawServer, kind: Kind) -> None:
    """A stray answer on each of several connections costs those connections, and no call."""
    with no_waiting():
        async with client_of(kind, server.url) as client:
            await asyncio.gather(*(client.query(MUTATION) for _ in range(3)))
            before = server.connections
            server.push(STRAY)
            for number in range(3):
                assert of(await client.query(MUTATION)) == 4 + number
    assert server.mutations == 6
    assert server.connections > before


async def test_unsent_says_so(server: RawServer) -> None:
    """Without another attempt the error says that nothing was sent, and the mutation was not executed."""
    async with client_of(
        "given-aiohttp", server.url, config=ProductionConfig(retry=RetryPolicy(attempts=1))
    ) as client:
        await client.query(MUTATION)
        server.push(STRAY)
        with pytest.raises(TransportError, match="before the request was written") as caught:
            await client.query(MUTATION)
    assert caught.value.may_have_executed is False
    assert "was not sent" in str(caught.value)
    assert server.mutations == 1


async def test_session_that_raises_for_a_status(server: RawServer) -> None:
    """A caller's session that raises for a status does not do so for a stray answer's."""
    with no_waiting():
        async with (
            aiohttp.ClientSession(raise_for_status=True) as session,
            ProductionClient(server.url, session=session, validate=False) as client,
        ):
            await client.query(MUTATION)
            server.push(TIMED_OUT)
            assert of(await client.query(MUTATION)) == 2


async def test_answers_of_a_middleware(server: RawServer) -> None:
    """A caller's middleware may answer without sending the request: that is no stray answer."""

    async def elsewhere(
        request: aiohttp.ClientRequest, handler: aiohttp.ClientHandlerType
    ) -> aiohttp.ClientResponse:
        response = await other.get(server.url)
        await response.read()
        return response

    async with (
        aiohttp.ClientSession() as other,
        aiohttp.ClientSession(middlewares=[elsewhere]) as session,
        ProductionClient(server.url, session=session, validate=False) as client,
    ):
        assert of(await client.query(MUTATION)) == 1
        assert of(await client.query(MUTATION)) == 2
    assert server.mutations == 0


async def test_no_connections_kept(server: RawServer, backend: Any) -> None:
    """``pool.keepalive=0``: each call has a connection of its own, and needs nothing of this."""
    config = ProductionConfig(pool=PoolPolicy(keepalive=0))
    async with client_of(f"owned-{backend}", server.url, config=config) as client:  # type: ignore[arg-type]
        for number in (1, 2, 3):
            assert of(await client.query(MUTATION)) == number
    assert server.connections == 3


async def test_connections_are_kept(server: RawServer, kind: Kind) -> None:
    """A connection on which nothing happened serves the next call, however long the loop stood still."""
    async with client_of(kind, server.url) as client:
        for number in range(20):
            assert of(await client.query(MUTATION)) == number + 1
    assert server.connections == 1


async def test_over_tls(kind: Kind, document: str, tmp_path: Path) -> None:
    """Over TLS too, whose own messages after the handshake are no stray answers."""
    authority = trustme.CA(key_type=trustme.KeyType.ECDSA)
    issued = authority.issue_cert("127.0.0.1", key_type=trustme.KeyType.ECDSA)
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    issued.configure_cert(serving)
    ca = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(ca)
    trusting = ssl.create_default_context(cafile=str(ca))
    config = ProductionConfig(tls={"ca_file": ca})
    options: dict[str, Any] = {"config": config} if kind.startswith("owned") else {"verify": trusting}
    with no_waiting(), RawServer(reply, serving) as server:
        async with client_of(kind, server.url, **options) as client:
            for number in (1, 2, 3):
                assert of(await client.query(document)) == number
            assert server.connections == 1
            server.push(STRAY)
            assert of(await client.query(document)) == 4
            server.hang_up()
            assert of(await client.query(document)) == 5
        assert len(server.asked) == 5
        assert server.connections == 3


async def test_cancelled_while_it_looks(server: RawServer, backend: Any) -> None:
    """A call that is cancelled before it was written gives its connection back: it serves the next one."""
    async with client_of(f"owned-{backend}", server.url) as client:  # type: ignore[arg-type]
        assert of(await client.query(QUERY)) == 1
        for turns in range(4):
            call = asyncio.create_task(client.query(QUERY))
            for _ in range(turns):
                await asyncio.sleep(0)
            call.cancel()
            with pytest.raises(asyncio.CancelledError):
                await call
        assert client.stats().pool.in_use == 0
        await client.query(QUERY)


async def test_httpx_without_a_pool_of_its_own() -> None:
    """Nothing of this is asked of what is no pool: a transport that answers by itself."""

    def handle(request: httpx.Request) -> httpx.Response:
        return httpx.Response(200, json={"data": {"hello": 1}})

    async with (
        httpx.AsyncClient(transport=httpx.MockTransport(handle)) as http,
        ProductionClient("http://mocked/graphql", session=http, validate=False) as client,
    ):
        assert of(await client.query(QUERY)) == 1
