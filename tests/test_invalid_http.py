"""An answer that is no valid HTTP is no lost connection: it is named, and it is not asked for again."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from raw_http import KINDS, MUTATION, QUERY, RawServer, answer, client_of

from graphql_prod import RetryPolicy, TransportError
from graphql_prod.testing import no_waiting

if TYPE_CHECKING:
    from raw_http import Asked, Kind

SECRET = b"s3cr3t"
DATA = b'{"data": {"hello": 1, "increment": 1}}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
INVALID = {
    "two lengths": HEAD + b"Content-Length: 38\r\nContent-Length: 20\r\n\r\n" + DATA,
    "negative length": HEAD + b"Content-Length: -1\r\n\r\n" + DATA,
    "header without a colon": HEAD + b"X-Bad\r\nContent-Length: 38\r\n\r\n" + DATA,
    "chunk without a size": HEAD + b"Transfer-Encoding: chunked\r\n\r\nzz\r\n" + DATA,
    "TLS": b"\x15\x03\x01\x00\x02\x02\x28\r\n\r\n",
    "HTTP/2": b"\0\0\x12\x04\0\0\0\0\0\0\x03\0\0\0\x80\0\x04\0\1\0\0\r\n\r\n",
    "another protocol": b"220 smtp.example.com ESMTP ready\r\n\r\n",
}
AIOHTTP: tuple[Kind, ...] = ("owned-aiohttp", "owned-httpx", "given-aiohttp")


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> Kind:
    """Each test runs with all four kinds of session."""
    return request.param  # type: ignore[no-any-return]


def is_query(document: str) -> bool:
    """Whether it changes nothing."""
    return document == QUERY


@pytest.mark.parametrize("document", [QUERY, MUTATION], ids=["query", "mutation"])
@pytest.mark.parametrize("said", INVALID.values(), ids=INVALID)
async def test_not_asked_again(kind: Kind, said: bytes, document: str) -> None:
    """One attempt, an error that names what was refused; a mutation was sent and may have been executed."""
    with no_waiting(), RawServer(lambda _: said) as server:
        async with client_of(kind, server.url) as client:
            with pytest.raises(TransportError, match="sent an answer that is no valid HTTP: ") as caught:
                await client.query(document)
        assert len(server.asked) == 1
    assert caught.value.attempts == 1
    assert caught.value.may_have_executed is not is_query(document)
    assert "closed the connection" not in str(caught.value)


@pytest.mark.parametrize("idempotent", [False, True])
async def test_marked_mutation(kind: Kind, idempotent: bool) -> None:
    """Not even where a repetition would do no harm."""
    with no_waiting(), RawServer(lambda _: INVALID["two lengths"]) as server:
        async with client_of(kind, server.url) as client:
            with pytest.raises(TransportError, match="no valid HTTP"):
                await client.with_options(idempotent=idempotent).query(MUTATION)
        assert server.mutations == 1


@pytest.mark.parametrize("document", [QUERY, MUTATION], ids=["query", "mutation"])
@pytest.mark.parametrize("size", [9_000, 60_000])
async def test_long_header_line(kind: Kind, size: int, document: str) -> None:
    """Our own sessions take header lines of 64 KiB; a caller's keeps its limit, and the error names that."""
    long = answer({"hello": 1, "increment": 1}, headers=(f"Content-Security-Policy: {'a' * size}",))
    with no_waiting(), RawServer(lambda _: long) as server:
        async with client_of(kind, server.url) as client:
            if kind == "given-aiohttp":
                with pytest.raises(TransportError, match="a header line over 8190 bytes") as caught:
                    await client.query(document)
                assert caught.value.may_have_executed is not is_query(document)
            else:
                assert (await client.query(document)).data == {"hello": 1, "increment": 1}
        assert len(server.asked) == 1


async def test_header_line_over_our_limit(backend: Any) -> None:
    """Over 64 KiB is refused, by name, and without what stands in it."""
    long = answer({"hello": 1}, headers=(f"X-Long: {SECRET.decode() * 20_000}",))
    with no_waiting(), RawServer(lambda _: long) as server:
        async with client_of(f"owned-{backend}", server.url) as client:  # type: ignore[arg-type]
            with pytest.raises(TransportError, match="a header line over 65536 bytes") as caught:
                await client.query(QUERY)
        assert len(server.asked) == 1
    assert SECRET.decode() not in str(caught.value)


async def test_long_header_line_of_an_upgrade(backend: Any) -> None:
    """An upgrade is read by the same limit: its refusal is seen, and not called something else."""
    refusal = answer(status="404 Not Found", headers=(f"X-Long: {'a' * 9_000}",))
    if backend == "httpx":
        pytest.skip("websockets has a limit of its own")
    with RawServer(lambda _: refusal) as server:
        async with client_of("owned-aiohttp", server.url) as client:
            with pytest.raises(Exception, match="404"):
                await client.subscribe("subscription { count }", on_data=print)


@pytest.mark.parametrize("document", [QUERY, MUTATION], ids=["query", "mutation"])
@pytest.mark.parametrize("cut", ["before", "head", "body", "chunk"])
async def test_closed_connection(kind: Kind, cut: str, document: str) -> None:
    """A connection that closes in mid-answer stays what it was: a query is asked again, a mutation is not."""
    whole = answer({"hello": 1, "increment": 1})
    chunked = HEAD + b"Transfer-Encoding: chunked\r\n\r\n5\r\n" + DATA[:5] + b"\r\n"
    part = {"before": b"", "head": whole[:30], "body": whole[:-5], "chunk": chunked}[cut]

    def reply(asked: Asked) -> bytes:
        asked.writer.write(part)
        asyncio.get_running_loop().call_soon(asked.writer.close)
        return b""

    with no_waiting(), RawServer(reply) as server:
        async with client_of(kind, server.url) as client:
            attempts = RetryPolicy().attempts if document == QUERY else 1
            with pytest.raises(TransportError, match="closed the connection") as caught:
                await client.query(document)
        assert len(server.asked) == attempts
    assert caught.value.may_have_executed is not is_query(document)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("phrase", ["Tr\u00e8s bien", "\x80\xff", ""])
async def test_a_phrase_beyond_ascii(kind: Kind, phrase: str) -> None:
    """The words beside a status mean nothing: in Latin-1, as some servers write them, they do no harm."""
    with RawServer(lambda _: answer({"increment": 1}, status=f"200 {phrase}")) as server:
        async with client_of(kind, server.url) as client:
            for _ in range(2):
                assert (await client.query(MUTATION)).data["increment"] == 1
    assert (server.mutations, server.connections) == (2, 1)
