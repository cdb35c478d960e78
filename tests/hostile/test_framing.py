"""Oddities of HTTP itself: what never ends, what is cut into a million pieces, what is no answer yet.

Whoever owns the session, a call comes to its end within its limits. How much a caller's session reads is its
owner's affair; memory is asserted there too where a peer cannot send much in the time that it is given.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest
from bombing import (
    ALL,
    CHUNKED,
    GIVEN,
    GOOD,
    HEAD,
    LIMIT,
    MIB,
    OWNED,
    Victim,
    answer,
    without_end,
)

if TYPE_CHECKING:
    from collections.abc import Iterator

    from bombing import Say
    from raw_http import Kind

SMALL: dict[str, Any] = {"config": {"max_response_bytes": LIMIT}}
# Seconds for a call that does not end by itself.
TOTAL = 1.0
BRIEF: dict[str, Any] = {"timeout": TOTAL}


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    """The client."""
    with Victim() as running:
        yield running


def chunk(data: bytes, extension: bytes = b"") -> bytes:
    return b"%x%s\r\n%s\r\n" % (len(data), extension, data)


def text_of(size: int) -> bytes:
    return b'{"data":{"hello":"%s"}}' % (b"x" * size)


def ends(piece: bytes, first: bytes) -> Say:
    """Never."""

    async def say(writer: asyncio.StreamWriter) -> None:
        await without_end(writer, piece, first)

    return say


def drips(first: bytes, piece: bytes) -> Say:
    """A piece every hundredth of a second: nobody is silent for long."""

    async def say(writer: asyncio.StreamWriter) -> None:
        writer.write(first)
        while True:
            writer.write(piece)
            await writer.drain()
            await asyncio.sleep(0.01)

    return say


ENDLESS_BODIES = {
    "chunks": (CHUNKED, chunk(b" " * 65536)),
    "tiny chunks": (CHUNKED, chunk(b" ") * 1000),
    "until the end of the connection": (HEAD + b"\r\n", b" " * 65536),
    "a length without end": (HEAD + b"Content-Length: 999999999999999999\r\n\r\n", b" " * 65536),
    "a length and chunks": (
        HEAD + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunk(b" " * 65536),
    ),
    "an error page": (
        b"HTTP/1.1 500 Oops\r\nTransfer-Encoding: chunked\r\n\r\n",
        chunk(b"x" * 65536),
    ),
    "trailers": (CHUNKED + chunk(GOOD) + b"0\r\n", b"X-Trailer: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 100),
    "an extension": (CHUNKED + b"1;x=", b"a" * 65536),
}


@pytest.mark.parametrize("kind", OWNED)
@pytest.mark.parametrize("name", ENDLESS_BODIES)
async def test_a_body_without_end(victim: Victim, kind: Kind, name: str) -> None:
    """It is left at ``max_response_bytes``, refused as no HTTP, or left at the end of the call's time."""
    first, piece = ENDLESS_BODIES[name]
    ends_by_itself = name != "an extension"
    told = await victim.calls(kind, ends(piece, first), **SMALL, timeout=30 if ends_by_itself else 1.5)
    told.refused()
    assert (told.error == "RequestTimeoutError") != ends_by_itself, told
    if name not in ("trailers", "an extension", "a length and chunks"):
        assert "max_response_bytes" in told.text, told
    told.within(64)


ENDLESS_HEADS = {
    "header lines": (HEAD, b"X-Header: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\r\n" * 1000),
    "the same header": (HEAD, b"Content-Encoding: gzip\r\n" * 1000),
    "one header line": (HEAD + b"X-Header: ", b"a" * 65536),
    "one name": (HEAD, b"X" * 65536),
    "a reason": (b"HTTP/1.1 200 ", b"O" * 65536),
    "a status": (b"HTTP/1.1 ", b"2" * 65536),
    "a length": (HEAD + b"Content-Length: ", b"9" * 65536),
    "the length of a chunk": (CHUNKED, b"0" * 65536),
    "interim answers": (b"", b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 1000),
    "empty lines": (b"", b"\r\n" * 10_000),
    "no HTTP": (b"", b"\x00" * 65536),
}


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("name", ENDLESS_HEADS)
async def test_a_head_without_end(victim: Victim, kind: Kind, name: str) -> None:
    """It is refused, or left at the end of the call's time; what was sent of it is not kept."""
    first, piece = ENDLESS_HEADS[name]
    told = await victim.calls(kind, ends(piece, first), timeout=1.5)
    told.refused()
    told.within(128)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize(
    ("first", "piece"),
    [
        (b"", b"\r\n"),
        (b"", b"HTTP/1.1 102 Wait\r\n\r\n"),
        (b"HTTP/1.1 200 OK\r\n", b"X: y\r\n"),
        (b"HTTP/1.1 200 OK\r\nX-Long: ", b"a"),
        (CHUNKED, chunk(b" ")),
        (HEAD + b"Content-Length: 1000000\r\n\r\n", b" "),
        (HEAD + b"\r\n", b" "),
        (CHUNKED + b"1", b"0"),
    ],
    ids=["nothing", "interim", "headers", "a header", "chunks", "a body", "until the end", "a length"],
)
async def test_a_drip_ends_with_the_calls_time(
    victim: Victim, kind: Kind, first: bytes, piece: bytes
) -> None:
    """Somebody who is never silent does not hold a call for longer than its total."""
    told = await victim.calls(kind, drips(first, piece), **BRIEF)
    told.refused()
    told.within(32)
    assert told.seconds < 20 * TOTAL


@pytest.mark.parametrize("kind", ALL)
async def test_interim_answers(victim: Victim, kind: Kind) -> None:
    """A hundred thousand of them come before an answer, which is read or left, and none of them is kept."""
    told = await victim.calls(kind, b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" * 100_000 + answer(GOOD))
    told.within(128)
    assert told.error is not None or told.size == len("world")


@pytest.mark.parametrize("kind", ALL)
async def test_tiny_chunks(victim: Victim, kind: Kind) -> None:
    """A body in chunks of one byte each comes to what it is."""
    count = 1_000_000 if kind in OWNED else 50_000  # what reads them there is written in Python
    body = text_of(count)
    told = await victim.calls(kind, CHUNKED + b"".join(chunk(b"%c" % byte) for byte in body) + b"0\r\n\r\n")
    assert told.size == count, told
    told.within(256)


@pytest.mark.parametrize("kind", ALL)
@pytest.mark.parametrize("size", [1000, 8 * MIB])
async def test_extensions_of_chunks(victim: Victim, kind: Kind, size: int) -> None:
    """Nobody needs them; they are passed over or refused, and not kept."""
    body = chunk(GOOD, b";x=" + b"a" * size) + b"0;y=" + b"b" * size + b"\r\n\r\n"
    told = await victim.calls(kind, CHUNKED + body)
    assert told.size == len("world") or told.error is not None, told
    told.within(64)


@pytest.mark.parametrize("kind", GIVEN)
async def test_a_callers_session_reads_what_it_likes_within_the_calls_time(
    victim: Victim, kind: Kind
) -> None:
    """No limit of ours is on it, and an endless body ends with the total."""
    told = await victim.calls(kind, drips(CHUNKED, chunk(b" " * 65536)), **BRIEF)
    told.refused("total" if kind == "given-aiohttp" else "")
    told.within(256)
