"""Refused upgrades read alike on both socket libraries: status, words, and whether it tries again."""

from __future__ import annotations

import asyncio
import importlib
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

import pytest
from raw_sockets import RawServer, answering
from subscribing import COUNT, client_of

from graphql_prod import (
    ConfigurationError,
    HTTPStatusError,
    SubscriptionClosedError,
    TransportError,
)
from graphql_prod.sessions.upgrade_heads import AnswerHead
from graphql_prod.subscriptions.handshake import translated
from graphql_prod.subscriptions.losses import loss_of

if TYPE_CHECKING:
    from conftest import Backend
    from subscribing import Protocol

    from graphql_prod.testing import ScriptedServer

# A refusal's head, and what comes after it.
REFUSALS = {
    "HTTP/1.0": b"HTTP/1.0 %d Nope\r\nX-Id: 7\r\n\r\n",
    "HTTP/1.1": b"HTTP/1.1 %d Nope\r\nX-Id: 7\r\nContent-Length: 0\r\n\r\n",
    "no reason": b"HTTP/1.1 %d\r\nX-Id: 7\r\nContent-Length: 0\r\n\r\n",
    "an interim answer first": (
        b"HTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 %d Nope\r\nX-Id: 7\r\nContent-Length: 0\r\n\r\n"
    ),
    "a chunked body": (
        b"HTTP/1.1 %d Nope\r\nX-Id: 7\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n"
    ),
    "a body cut short": b"HTTP/1.1 %d Nope\r\nX-Id: 7\r\nContent-Length: 100\r\n\r\nno",
    "a huge body": b"HTTP/1.1 %d Nope\r\nX-Id: 7\r\nContent-Length: 2000000\r\n\r\n" + b"x" * 20000,
}


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize("share", [False, True])
async def test_refused_credentials_are_renewed(backend: Backend, how: str, share: bool) -> None:
    """A 401 to an upgrade asks for new credentials once, however it is written down."""
    asked: list[bool] = []

    async def tokens(refresh: bool = False) -> dict[str, str]:
        asked.append(refresh)
        return {"Authorization": "x"}

    async with (
        RawServer(answering(REFUSALS[how] % 401)) as server,
        client_of(
            server.url, backend, objects={"headers_provider": tokens}, share_connection=share
        ) as client,
    ):
        with pytest.raises(SubscriptionClosedError, match="401 Unauthorized, after 2 attempts") as caught:
            await client.subscribe(COUNT)
    assert asked == [False, True]
    cause = caught.value.__cause__
    assert isinstance(cause, HTTPStatusError)
    assert (cause.status, cause.headers["x-id"]) == (401, "7")


@pytest.mark.parametrize("how", REFUSALS)
@pytest.mark.parametrize(("status", "attempts"), [(404, 1), (400, 1), (503, 3), (429, 3)])
async def test_a_status_decides(
    backend: Backend, protocol: Protocol, how: str, status: int, attempts: int
) -> None:
    """404 is final and 503 is tried again, with status and headers, however it is written down."""
    async with (
        RawServer(answering(REFUSALS[how] % status)) as server,
        client_of(server.url, backend, connect_attempts=3) as client,
    ):
        with pytest.raises(HTTPStatusError, match=f"the WebSocket upgrade with {status}") as caught:
            await client.subscribe(COUNT, protocols=protocol)
        assert len(server.peers) == attempts
    assert (caught.value.status, caught.value.headers["x-id"]) == (status, "7")
    assert caught.value.attempts == attempts


async def test_a_redirect_in_http_1_0_names_its_target(backend: Backend) -> None:
    """A redirect is told by its target's host, whatever the version, and not followed."""
    answer = b"HTTP/1.0 302 Found\r\nLocation: http://elsewhere.example/graphql?token=s3cret\r\n\r\n"
    async with RawServer(answering(answer)) as server, client_of(server.url, backend) as client:
        with pytest.raises(TransportError, match=r"redirect to elsewhere\.example") as caught:
            await client.subscribe(COUNT)
        assert len(server.peers) == 1
    assert "s3cret" not in str(caught.value)


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: bm8=\r\n\r\n",
    ],
    ids=["no Upgrade", "no Connection", "no key", "a wrong key"],
)
async def test_a_broken_101_is_final(backend: Backend, answer: bytes) -> None:
    """What accepts the upgrade and is no WebSocket server is told in words, and not asked again."""
    async with RawServer(answering(answer)) as server, client_of(server.url, backend) as client:
        with pytest.raises(TransportError, match="101 that breaks the protocol") as caught:
            await client.subscribe(COUNT)
        assert len(server.peers) == 1
    assert "endpoint's path" in str(caught.value)


@pytest.mark.parametrize(
    "answer", [b"SSH-2.0-OpenSSH_9\r\n", b"HTTP/1.1 abc\r\n\r\n", b"\0" * 40 + b"\r\n\r\n"]
)
async def test_what_is_no_http_is_tried_again(backend: Backend, answer: bytes) -> None:
    """Bytes of who knows whom: told in words, after the attempts."""
    async with (
        RawServer(answering(answer)) as server,
        client_of(server.url, backend, connect_attempts=2) as client,
    ):
        with pytest.raises(TransportError, match="after 2 attempts"):
            await client.subscribe(COUNT)
        assert len(server.peers) == 2


@pytest.mark.parametrize(
    ("status", "attempts"), [(500, 3), (502, 3), (503, 3), (429, 3), (403, 1), (407, 1), (400, 1)]
)
@pytest.mark.parametrize("minor", [0, 1])
async def test_a_proxy_that_refuses(backend: Backend, minor: int, status: int, attempts: int) -> None:
    """A proxy that is ill is asked again; one that forbids is not. Both are told by their status."""
    if backend == "httpx" and minor == 0 and int(version("websockets").partition(".")[0]) < 16:
        pytest.skip("websockets below 16 reads HTTP/1.1 only")
    answer = b"HTTP/1.%d %d No\r\nContent-Length: 0\r\n\r\n" % (minor, status)
    async with RawServer(answering(answer)) as proxy:
        settings = {"proxy": f"http://user:s3cret@127.0.0.1:{proxy.port}"}
        async with client_of(
            "https://upstream.example/graphql", backend, connect_attempts=3, settings=settings
        ) as client:
            with pytest.raises(
                TransportError, match=f"the proxy, which answered CONNECT with {status}"
            ) as caught:
                await client.subscribe(COUNT)
        assert len(proxy.peers) == attempts
        assert all(peer.line.startswith("CONNECT upstream.example:443") for peer in proxy.peers)
    assert str(caught.value).startswith("upstream.example ")
    _shows_no(caught.value, "s3cret")


async def test_a_proxy_that_speaks_something_else(backend: Backend) -> None:
    """It is the proxy whose answer cannot be read, and the error says so."""
    async with RawServer(answering(b"SSH-2.0-OpenSSH_9\r\n\r\n")) as proxy:
        settings = {"proxy": f"http://user:s3cret@127.0.0.1:{proxy.port}"}
        async with client_of(
            "https://upstream.example/graphql", backend, connect_attempts=2, settings=settings
        ) as client:
            # aiohttp does not tell whose answer it was.
            words = "no HTTP" if backend == "aiohttp" else "the proxy answered CONNECT with cannot be read"
            with pytest.raises(TransportError, match=f"{words}, after 2 attempts") as caught:
                await client.subscribe(COUNT)
    _shows_no(caught.value, "s3cret")


async def test_a_proxy_that_is_down(backend: Backend) -> None:
    """It is the proxy that could not be reached, and the error says so."""
    async with RawServer(answering(b"")) as proxy:
        port = proxy.port
    settings = {"proxy": f"http://user:s3cret@127.0.0.1:{port}"}
    async with client_of(
        "https://upstream.example/graphql", backend, connect_attempts=2, settings=settings
    ) as client:
        with pytest.raises(TransportError, match="through the proxy, after 2 attempts") as caught:
            await client.subscribe(COUNT)
    _shows_no(caught.value, "s3cret")


async def test_a_proxy_that_hangs_up(backend: Backend) -> None:
    """A proxy that dies in the middle of CONNECT is asked again."""
    async with RawServer(answering(b"")) as proxy:
        settings = {"proxy": f"http://127.0.0.1:{proxy.port}"}
        async with client_of(
            "https://upstream.example/graphql", backend, connect_attempts=2, settings=settings
        ) as client:
            with pytest.raises(TransportError, match="after 2 attempts"):
                await client.subscribe(COUNT)
        assert len(proxy.peers) == 2


def _every_kind() -> list[type[Exception]]:
    exceptions = importlib.import_module("websockets.exceptions")
    return [getattr(exceptions, name) for name in exceptions.__all__]


@pytest.mark.parametrize("kind", _every_kind(), ids=lambda kind: kind.__name__)
def test_every_exception_of_websockets_has_words(kind: type[Exception]) -> None:
    """None of them comes out as it is: each is told in our words, by an error of our family."""
    error = kind.__new__(kind)
    made = {"uri": "ws://x/?s3cret", "proxy": "http://u:s3cret@x", "msg": "", "name": "X", "value": "y"}
    error.__dict__.update(
        made, method="GET", protocol="HTTP/2", response=_Response(), size=1, max_size=1, cur_size=1
    )
    error.__dict__.update(current_size=None, message=None, rcvd=None, sent=None, rcvd_then_sent=None)
    loss = loss_of(translated(error))
    told = loss.error("host", "after 1 attempt in 0.00 s", established=False)
    assert isinstance(told, TransportError | HTTPStatusError | SubscriptionClosedError)
    _shows_no(told, "s3cret")


class _Response:
    status_code = 418
    headers: dict[str, str] = {}  # noqa: RUF012 -- empty


def test_a_socks_proxy_without_its_library() -> None:
    """It says what to install."""
    error = translated(ImportError("connecting through a SOCKS proxy requires python-socks"))
    assert isinstance(error, ConfigurationError)
    assert "python-socks" in str(error)


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_head_may_come_in_pieces(size: int) -> None:
    """Byte by byte it is the same refusal; a 101 goes through as it is, with all that follows."""
    refused = b"HTTP/1.0 401 Unauthorized\r\nX-Id: 7\r\nContent-Length: 4\r\n\r\nbody and more"
    head = AnswerHead()
    pieces = [head.feed(refused[at : at + size]) for at in range(0, len(refused), size)]
    assert b"".join(pieces) == b"HTTP/1.1 401 refused\r\nX-Id: 7\r\nContent-Length: 0\r\n\r\n"
    interim = b"HTTP/1.1 100 Continue\r\n\r\n"
    accepted = interim + b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\n\r\n\x81\x02{}"
    head = AnswerHead()
    pieces = []
    for at in range(0, len(accepted), size):
        piece = accepted[at : at + size]
        pieces.append(piece if head.through else head.feed(piece))
    assert b"".join(pieces) == accepted[len(interim) :]
    assert head.through


def test_a_head_without_end_is_not_kept() -> None:
    """64 KiB without an end go on to the library, which refuses them."""
    head = AnswerHead()
    line = b"HTTP/1.1 200 OK\r\n" + b"X: " + b"y" * 1000 + b"\r\n"
    total = 0
    while not head.through and total < 10**6:
        head.feed(line)
        total += len(line)
    assert total < 70_000


async def test_a_server_that_is_there_is_untouched(server: ScriptedServer, backend: Backend) -> None:
    """The head of an answer that accepts is passed on."""
    async with client_of(server.url, backend) as client:
        subscription = await client.subscribe(COUNT)
        await asyncio.wait_for(subscription.unsubscribe_and_wait(), 10)


def _shows_no(error: BaseException | None, secret: str) -> None:
    seen: list[Any] = []
    while error is not None and error not in seen:
        seen.append(error)
        assert secret not in f"{error} {error.args!r}"
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
