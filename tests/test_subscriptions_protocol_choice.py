"""Which of the protocols offered a server chooses: none of them is the end, with words, on both libraries."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import hashlib
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
from subscribing import PROTOCOLS, Backend, Follower, Mode, client_of

from graphql_prod import SubscriptionClosedError
from graphql_prod.subscriptions.losses import loss_of
from graphql_prod.subscriptions.protocol import UnofferedError, dialect_of
from graphql_prod.subscriptions.reconnect import ReconnectDecision, should_reconnect
from graphql_prod.testing.delivery import stop_listening

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

ACK = b'{"type": "connection_ack"}'
_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"


@pytest.fixture(params=[False, True], ids=["own", "given"])
async def session(request: pytest.FixtureRequest, backend: Backend) -> AsyncIterator[Any]:
    """A session of the caller's, or None."""
    if not request.param:
        yield None
    elif backend == "aiohttp":
        async with aiohttp.ClientSession() as given:
            yield given
    else:
        async with httpx.AsyncClient() as client:
            yield client


@contextlib.asynccontextmanager
async def choosing(choices: list[str | None]) -> AsyncIterator[tuple[str, list[str]]]:
    """A server that upgrades with one choice after another, the last one for ever, and then says nothing."""
    offers: list[str] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            head = (await reader.readuntil(b"\r\n\r\n")).decode()
            headers = dict(line.split(": ", 1) for line in head.split("\r\n")[1:-2])
            headers = {name.lower(): value for name, value in headers.items()}
            offers.append(headers["sec-websocket-protocol"])
            accept = hashlib.sha1(f"{headers['sec-websocket-key']}{_GUID}".encode()).digest()
            choice = choices[min(len(offers), len(choices)) - 1]
            lines = [
                "HTTP/1.1 101 Switching Protocols",
                "Upgrade: websocket",
                "Connection: Upgrade",
                f"Sec-WebSocket-Accept: {base64.b64encode(accept).decode()}",
                *([] if choice is None else [f"Sec-WebSocket-Protocol: {choice}"]),
            ]
            writer.write("\r\n".join([*lines, "", ""]).encode())
            if choice in (*PROTOCOLS, None):  # it acknowledges, and is gone
                writer.write(bytes([0x81, len(ACK)]) + ACK)
            else:
                await reader.read()
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/graphql", offers
    finally:
        await stop_listening(listener)
        await listener.wait_closed()


@pytest.mark.parametrize(
    ("offered", "chosen", "words"),
    [
        (PROTOCOLS, "graphql-subscriptions", "not offered: graphql-subscriptions"),
        (PROTOCOLS, "GraphQL-Transport-WS", "not offered: GraphQL-Transport-WS"),
        (PROTOCOLS[:1], "graphql-ws", "Offer it: protocols='graphql-ws'"),
        (PROTOCOLS[1:], "graphql-transport-ws", "Offer it: protocols='graphql-transport-ws'"),
        (PROTOCOLS, "a, b", "not offered: a, b"),
        (PROTOCOLS, "", "not offered: one without a name"),
    ],
)
async def test_one_that_was_not_offered_is_the_end(
    backend: Backend, session: Any, mode: Mode, offered: tuple[str, ...], chosen: str, words: str
) -> None:
    """At once, whatever the session and the library; nobody would understand what is said next."""
    async with (
        choosing([chosen]) as (url, offers),
        client_of(url, backend, objects={} if session is None else {"session": session}) as client,
    ):
        error = await Follower(client, mode, protocols=offered).end()
        assert isinstance(error, SubscriptionClosedError)
        assert error.close_code is None
        assert "chose a WebSocket protocol that was not offered" in str(error)
        assert words in str(error)
        assert offers == [",".join(offered)] or offers == [", ".join(offered)]


async def test_on_a_reconnect_too(backend: Backend, session: Any, mode: Mode) -> None:
    """A server that was replaced by another: the end, and not one reconnect after another."""
    async with (
        choosing([PROTOCOLS[0], None, "x"]) as (url, offers),
        client_of(url, backend, objects={} if session is None else {"session": session}) as client,
    ):
        error = await Follower(client, mode).end()
        assert isinstance(error, SubscriptionClosedError)
        assert "not offered: x" in str(error)
        assert len(offers) == 3


async def test_a_callers_session_is_left_as_it_was(mode: Mode) -> None:
    """The hook that looks at the answer is gone after the upgrade."""
    async with (
        aiohttp.ClientSession() as session,
        choosing(["x"]) as (url, _),
        client_of(url, objects={"session": session}) as client,
    ):
        before = list(session.trace_configs)
        assert isinstance(await Follower(client, mode).end(), SubscriptionClosedError)
        assert list(session.trace_configs) == before


@pytest.mark.parametrize("established", [False, True])
def test_it_is_no_setting(established: bool) -> None:
    """Whatever a caller's own transport or a library reports: no table of close codes makes it reconnect."""
    with pytest.raises(UnofferedError) as caught:
        dialect_of("x\x1b[1m", PROTOCOLS)
    loss = loss_of(caught.value)
    assert (
        should_reconnect(loss, frozenset(), established=established, renewable=True)
        is ReconnectDecision.FATAL
    )
    assert "\x1b" not in str(loss.error("host", "", established=established))
    assert loss.logged == "chose a WebSocket protocol that was not offered"
