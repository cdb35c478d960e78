"""What our own sessions read of an answer: inflated here, so that a limit holds while a body grows.

The libraries inflate without a bound (httpx), or one encoding only and with a bound for each piece that
depends on their version (aiohttp).
"""

from __future__ import annotations

import asyncio
import re
import zlib
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping

LARGE = 1024 * 1024
"""Bytes of an answer, or of an event, over which its values are counted before it is parsed."""

# Bytes that are inflated in one go, and how many such pieces until other tasks get their turn.
_PIECE = 256 * 1024
_PIECES = 16
# Encodings on top of each other, and streams one after another in one encoding, that are taken.
_LAYERS = 4
_STREAMS = 1024
# A window that RFC 9659 allows for zstd, as the logarithm of its bytes.
_WINDOW = 23
_is_token = re.compile(r"[a-z0-9._+-]{1,20}").fullmatch
_UNASKED = "Look for a proxy that encodes whatever was asked for in Accept-Encoding."
_BROKEN = "Look for a proxy that encodes once more what is encoded already."
# What some servers write there though it encodes nothing.
_NO_ENCODINGS = frozenset({"", "identity", "none", "utf-8", "utf8"})


class BodyError(Exception):
    """A body is not taken."""


class ResponseTooLargeError(BodyError):
    """An answer is longer than ``max_response_bytes``, after decompression."""


class TooManyValuesError(BodyError):
    """A text of JSON has more values than ``max_response_values``; the argument is what that allows."""


class RefusedEncodingError(BodyError):
    """A body is in an encoding that is not taken.

    The arguments are its name, the rest of the sentence, and what to do.
    """


class BrokenEncodingError(BodyError):
    """A body does not decode."""


def require_few_values(text: str | bytes, limit: int | None) -> None:
    """Refuse a text of JSON that is small, and huge as objects.

    Counts ``,`` ``[`` and ``{``, those in strings too: all values but the first have one before them.

    :raises TooManyValuesError: there are more of them.
    """
    if limit is None or len(text) <= limit:
        return
    marks: Any = (b",", b"[", b"{") if isinstance(text, bytes) else (",", "[", "{")
    found = 0
    for mark in marks:
        found += text.count(mark)
        if found > limit:
            raise TooManyValuesError(limit)


def fits(headers: Mapping[str, str], limit: int | None) -> bool:
    """True when the announced length is the length that will be read, and is within the limit."""
    if "Content-Encoding" in headers:
        return False
    if limit is None:
        return True
    length = headers.get("Content-Length")
    return length is not None and int(length) <= limit


async def read(
    chunks: Callable[[], AsyncIterator[bytes]],
    headers: Mapping[str, str],
    asked: Mapping[str, str],
    limit: int | None,
) -> bytes:
    """A whole body, inflated.

    :param chunks: gives its bytes as they come.
    :param headers: those of the answer.
    :param asked: those of the request.
    :param limit: how long it may be. None: no limit.
    :raises ResponseTooLargeError: it is longer.
    :raises RefusedEncodingError: it is in an encoding that was not asked for, or cannot be read here.
    :raises BrokenEncodingError: it does not decode.
    """
    layers: list[Layer] = []
    if "Content-Encoding" in headers and headers.get("Content-Length") != "0":
        layers = _layers(_names(headers, "Content-Encoding"), _accepted(asked), limit)
    parts: list[bytes] = []
    size = pieces = 0
    async for chunk in chunks():
        if not layers:
            size += len(chunk)
            if limit is not None and size > limit:
                raise ResponseTooLargeError
            parts.append(chunk)
            continue
        for piece in _through(layers, chunk):
            size += len(piece)
            if limit is not None and size > limit:
                raise ResponseTooLargeError
            parts.append(piece)
            pieces += 1
            if pieces % _PIECES == 0:
                await asyncio.sleep(0)
    return b"".join(parts)


def _shown(name: str) -> str:
    """The name of an encoding for texts; one that is none is the server's own word, and is not repeated."""
    return name if _is_token(name) else "of no known name"


def _names(headers: Any, name: str) -> list[str]:
    """What a header lists, in all its lines."""
    lines = headers.getall(name, ()) if hasattr(headers, "getall") else (headers.get(name, ""),)
    return [each.strip().lower() for each in ",".join(lines).split(",")]


def _accepted(asked: Mapping[str, str]) -> Callable[[str], bool]:
    """Which encodings a request has asked for."""
    weights: dict[str, bool] = {}
    for each in _names(asked, "Accept-Encoding"):
        name, _, parameter = each.partition(";")
        weight = parameter.replace(" ", "").removeprefix("q=")
        weights[name.strip().removeprefix("x-")] = not (weight and not weight.strip("0."))
    return lambda name: weights.get(name, weights.get("*", False))


def _layers(names: list[str], accepted: Callable[[str], bool], limit: int | None) -> list[Layer]:
    """What takes the encodings off, the last one first."""
    names = [name.removeprefix("x-") for name in names if name not in _NO_ENCODINGS]
    for name in names:
        if not accepted(name):
            raise RefusedEncodingError(_shown(name), "which was not asked for", _UNASKED)
    if len(names) > _LAYERS:
        what = f"as one of {len(names)} on top of each other: {_LAYERS} are taken"
        raise RefusedEncodingError(_shown(names[0]), what, _BROKEN)
    return [Layer(_decoder(name), limit) for name in reversed(names)]


def _through(layers: list[Layer], data: bytes) -> Iterator[bytes]:
    """What becomes of a piece of a body; now and then nothing."""
    if not layers:
        yield data
        return
    for piece in layers[0].inflate(data):
        yield from _through(layers[1:], piece)
        if len(layers) > 1:
            yield b""


class Decoder(Protocol):
    """Takes one encoding off a body, a piece at a time."""

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """What the next bytes come to, in pieces of about 256 KiB.

        :raises Exception: they do not decode.
        """


class Layer:
    """One encoding, and how much of it has been read."""

    def __init__(self, decoder: Decoder, limit: int | None) -> None:
        self._decoder = decoder
        # A little longer than what it comes to; else there is something in it that comes to nothing.
        self._left = None if limit is None else limit + limit // 8 + 1024

    def inflate(self, data: bytes) -> Iterator[bytes]:
        """The next bytes, inflated."""
        if self._left is not None:
            self._left -= len(data)
            if self._left < 0:
                raise ResponseTooLargeError
        try:
            yield from self._decoder.inflate(data)
        except BrokenEncodingError:
            raise
        except Exception as error:
            raise BrokenEncodingError from error


class Zlib:
    """gzip, with several streams one after another, and deflate, with its header or without."""

    def __init__(self, *, gzip: bool) -> None:
        self._gzip = gzip
        self._streams = 0
        self._over = False
        self._object: Any = None

    def inflate(self, data: bytes) -> Iterator[bytes]:
        more = bool(data)
        while more and not self._over:
            if self._object is None and not self._begins(data[0]):
                return
            piece = self._object.decompress(data, _PIECE)
            if piece:
                yield piece
            if self._object.eof:
                data = self._object.unused_data
                more = bool(data)
                self._object = None
            else:
                data = self._object.unconsumed_tail
                more = bool(data) or len(piece) == _PIECE

    def _begins(self, first: int) -> bool:
        """Whether a stream begins with this byte; what else comes after one is passed over."""
        self._over = self._streams > 0 and (not self._gzip or first != 0x1F)
        self._streams += 1
        if self._streams > _STREAMS:
            raise BrokenEncodingError
        self._object = zlib.decompressobj(31 if self._gzip else 15 if first & 0xF == 8 else -15)
        return not self._over


class Brotli:
    """br, by a library that bounds what it gives at once."""

    def __init__(self, decompressor: Any) -> None:
        self._object = decompressor
        self._process = getattr(decompressor, "process", None) or decompressor.decompress

    def inflate(self, data: bytes) -> Iterator[bytes]:
        # It says that it takes more, or has finished, while there is still something to come.
        while piece := self._process(data, output_buffer_limit=_PIECE):
            yield piece
            data = b""


class Zstd:
    """zstd, by the standard library from Python 3.14 on, or by its backport."""

    def __init__(self, library: Any) -> None:
        self._new: Callable[[], Any] = lambda: library.ZstdDecompressor(
            options={library.DecompressionParameter.window_log_max: _WINDOW}
        )
        self._object = self._new()
        self._streams = 1

    def inflate(self, data: bytes) -> Iterator[bytes]:
        while data or not self._object.needs_input:
            if self._object.eof:
                self._streams += 1
                if self._streams > _STREAMS:
                    raise BrokenEncodingError
                self._object = self._new()
            piece = self._object.decompress(data, _PIECE)
            if piece:
                yield piece
            data = self._object.unused_data if self._object.eof else b""
            if self._object.eof and not data:
                return


class Zstandard:
    """zstd, by the library that httpx uses: it has no bound, but a few bytes come to a few pieces at most."""

    _BITE = 64

    def __init__(self, library: Any) -> None:
        self._new: Callable[[], Any] = lambda: library.ZstdDecompressor(
            max_window_size=1 << _WINDOW
        ).decompressobj()
        self._object = self._new()
        self._streams = 1

    def inflate(self, data: bytes) -> Iterator[bytes]:
        at = 0
        while at < len(data):
            if self._object.eof:
                self._streams += 1
                if self._streams > _STREAMS:
                    raise BrokenEncodingError
                self._object = self._new()
            bite = data[at : at + self._BITE]
            piece = self._object.decompress(bite)
            if piece:
                yield piece
            at += len(bite) - len(self._object.unused_data if self._object.eof else b"")


def _decoder(name: str) -> Decoder:
    """:raises RefusedEncodingError: there is none."""
    if name in ("gzip", "deflate"):
        return Zlib(gzip=name == "gzip")
    if name == "br":
        for library in _installed("brotlicffi", "brotli"):
            decompressor = library.Decompressor()
            if hasattr(decompressor, "can_accept_more_data"):  # others inflate without a bound
                return Brotli(decompressor)
        raise RefusedEncodingError(name, *_uninstalled("brotli 1.2 or later"))
    if name == "zstd":
        for library in _installed("compression.zstd", "backports.zstd"):
            return Zstd(library)
        for library in _installed("zstandard"):
            return Zstandard(library)
        raise RefusedEncodingError(name, *_uninstalled("backports.zstd"))
    raise RefusedEncodingError(_shown(name), "which this client does not know", _UNASKED)


def _uninstalled(library: str) -> tuple[str, str]:
    return "which cannot be inflated within a limit here", f"Install {library}, or do not ask for it."


def _installed(*names: str) -> Iterator[Any]:
    for name in names:
        try:
            yield import_module(name)
        except ImportError:
            continue
