"""Bodies that are small on the wire and large in memory."""

from __future__ import annotations

import functools
import gzip
import importlib
import random
import zlib
from typing import TYPE_CHECKING, Any

import pytest
from bombing import LIMIT, MIB, OWNED, Victim, answer, zeros, zipped

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from raw_http import Kind

SIZE = 256  # MiB that a bomb comes to


@functools.cache
def once() -> bytes:
    """A bomb of one gzip stream."""
    return zeros(SIZE)


def nothing() -> bytes:
    """20 MB of gzip that come to nothing."""
    return b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x00\x03" + b"\x00\x00\x00\xff\xff" * 4_000_000


BOMBS: dict[str, tuple[Callable[[], bytes], str]] = {
    "gzip": (once, "gzip"),
    "gzip, gzip": (lambda: zipped(once()), "gzip, gzip"),
    "gzip, gzip, gzip": (lambda: zipped(zipped(once())), "gzip, gzip, gzip"),
    "x-gzip": (once, "x-gzip"),
    "capitals": (lambda: zipped(once()), "GZIP,  Gzip"),
    "two lines": (lambda: zipped(once()), "gzip\r\nContent-Encoding: gzip"),
    "one after another": (lambda: gzip.compress(bytes(900_000)) * 900, "gzip"),
    "what comes to nothing": (nothing, "gzip"),
    "what comes to nothing, twice": (lambda: zipped(nothing()), "gzip, gzip"),
}
SMALL: dict[str, Any] = {"config": {"max_response_bytes": LIMIT}}


@pytest.fixture(scope="module")
def victim() -> Iterator[Victim]:
    """The client."""
    with Victim() as running:
        yield running


@pytest.fixture(params=OWNED)
def kind(request: pytest.FixtureRequest) -> Kind:
    """What is bounded is what our own sessions read."""
    return request.param  # type: ignore[no-any-return]


@pytest.mark.parametrize("bomb", BOMBS)
@pytest.mark.parametrize("status", ["200 OK", "500 Internal Server Error"])
async def test_the_limit_holds_while_a_body_is_inflated(
    victim: Victim, kind: Kind, bomb: str, status: str
) -> None:
    """Whatever the encodings and the status, memory grows by a few times the limit and not by the body."""
    body, encoding = BOMBS[bomb]
    said = answer(body(), f"Content-Encoding: {encoding}", status=status)
    told = await victim.calls(kind, said, **SMALL)
    told.refused("max_response_bytes")
    assert told.error == "TransportError"
    told.within(24)


async def test_streams_of_nothing_are_counted(victim: Victim, kind: Kind) -> None:
    """A body of a million empty gzip streams is given up early: each costs memory and time."""
    told = await victim.calls(kind, answer(gzip.compress(b"") * 1_000_000, "Content-Encoding: gzip"))
    told.refused("does not decode")
    told.within(24)


async def test_a_stack_of_encodings_is_bounded(victim: Victim, kind: Kind) -> None:
    """Ten thousand encodings in a header are refused before anything is read."""
    told = await victim.calls(kind, answer(zipped(once()), "Content-Encoding: " + "gzip," * 10_000 + "gzip"))
    told.refused("encoding gzip", "10001")
    told.within(24)


@pytest.mark.parametrize("encoding", ["br", "zstd", "deflate", "compress", "gzip, br", "snappy\t2", "é"])
async def test_an_encoding_that_was_not_asked_for_is_refused(
    victim: Victim, kind: Kind, encoding: str
) -> None:
    """By name, whether or not a library for it is installed: we send ``Accept-Encoding: gzip``."""
    told = await victim.calls(kind, answer(b"anything", f"Content-Encoding: {encoding}"))
    told.refused("encoding", "which was not asked for")
    assert told.error == "TransportError"
    if encoding.isascii() and "\t" not in encoding:
        assert encoding.removeprefix("gzip, ") in told.text


async def test_an_encoding_that_was_asked_for_is_bounded_too(victim: Victim, kind: Kind) -> None:
    """What a caller's headers add is read, with a limit."""
    asked: dict[str, Any] = {**SMALL, "headers": {"Accept-Encoding": "gzip, deflate"}}
    told = await victim.calls(kind, answer(zeros(SIZE, 15), "Content-Encoding: deflate"), **asked)
    told.refused("max_response_bytes")
    told.within(24)
    said = answer(zlib.compress(b'{"data":{"hello":"world"}}'), "Content-Encoding: deflate")
    assert (await victim.calls(kind, said, **asked)).size == len("world")


def brotli_bomb() -> bytes:
    compressor: Any = importlib.import_module("brotli").Compressor(quality=5, lgwin=24)
    return b"".join(compressor.process(bytes(MIB)) for _ in range(SIZE)) + bytes(compressor.finish())


def zstd_bomb() -> bytes:
    compressor: Any = importlib.import_module("backports.zstd").ZstdCompressor()
    return b"".join(compressor.compress(bytes(MIB)) for _ in range(SIZE)) + bytes(compressor.flush())


@pytest.mark.parametrize(("name", "module"), [("br", "brotli"), ("zstd", "backports.zstd")])
async def test_encodings_of_other_libraries(victim: Victim, kind: Kind, name: str, module: str) -> None:
    """Where one is installed and asked for, its bombs are bounded; where none is, the text says so."""
    asked: dict[str, Any] = {**SMALL, "headers": {"Accept-Encoding": f"gzip, {name};q=0.5"}}
    try:
        importlib.import_module(module)
    except ImportError:
        told = await victim.calls(kind, answer(b"anything", f"Content-Encoding: {name}"), **asked)
        told.refused(f"encoding {name}", "Install")
        return
    bomb = brotli_bomb() if name == "br" else zstd_bomb()
    told = await victim.calls(kind, answer(bomb, f"Content-Encoding: {name}"), **asked)
    told.refused("max_response_bytes")
    told.within(24)


@pytest.mark.parametrize("encoding", ["gzip", "gzip, gzip", "identity", "", "UTF-8", "identity, gzip"])
async def test_what_is_whole_is_read(victim: Victim, kind: Kind, encoding: str) -> None:
    """Encodings that hold an answer give it; a charset where an encoding belongs encodes nothing."""
    text = "".join(random.Random(1).choices("abcdefgh", k=LIMIT // 2))
    body = b'{"data":{"hello":"%s"}}' % text.encode()
    for _ in range(encoding.count("gzip")):
        body = zipped(body)
    told = await victim.calls(kind, answer(body, f"Content-Encoding: {encoding}"), **SMALL)
    assert told.error is None, told
    assert told.size == LIMIT // 2


async def test_several_streams_and_what_comes_after_them(victim: Victim, kind: Kind) -> None:
    """gzip may come in several streams, one after another; what is none after them is passed over."""
    text = b'{"data":{"hello":"%s"}}' % (b"x" * 100_000)
    body = b"".join(zipped(text[at : at + 10_000]) for at in range(0, len(text), 10_000)) + bytes(512)
    told = await victim.calls(kind, answer(body, "Content-Encoding: gzip"), **SMALL)
    assert told.size == 100_000, told
