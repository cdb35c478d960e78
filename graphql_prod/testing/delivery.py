"""The wire side of an answer: from a finished reply to bytes, or to a broken connection."""

import asyncio
import json
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

from aiohttp import web

from .answers import (
    JSON,
    Answer,
    Delivery,
    Disconnect,
    Drip,
    Garbage,
    Hang,
    Reset,
    Truncated,
    Whole,
)

STAND_IN = b" " * 1024
NO_HTTP = b"\x16\x03\x01 this is not HTTP \xff\xfe\r\n\r\n"
NO_LINGER = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Reply:
    """All that an HTTP answer says."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def head(self) -> bytes:
        """The status line and the headers, as bytes."""
        headers = {**self.headers, "Content-Length": str(len(self.body))}
        lines = [f"HTTP/1.1 {self.status} {phrase(self.status)}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        return "\r\n".join([*lines, "", ""]).encode()


def phrase(status: int) -> str:
    """The reason phrase; empty for a status that has none."""
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


def reply_of(answer: Answer, real: Reply | None) -> Reply:
    """What the answer says, given the real result (None: nothing was executed)."""
    if answer.body is None and real is not None:
        status, media_type, body = real.status, real.headers["Content-Type"], real.body
        if answer.extensions:
            result = json.loads(body)
            result["extensions"] = {**result.get("extensions", {}), **answer.extensions}
            body = json.dumps(result).encode()
        headers = {**real.headers, **answer.headers}
    else:
        stand_in = STAND_IN if isinstance(answer.delivery, Reset) else b""
        media_type, body = encoded(stand_in if answer.body is None else answer.body)
        status, headers = 200, dict(answer.headers)
    headers["Content-Type"] = answer.media_type or headers.get("Content-Type") or media_type
    return Reply(status if answer.status is None else answer.status, headers, body)


def encoded(body: bytes | str | Mapping[str, Any]) -> tuple[str, bytes]:
    """A media type that fits the body, and its bytes."""
    if isinstance(body, bytes):
        return "application/octet-stream", body
    if isinstance(body, str):
        return "text/plain; charset=utf-8", body.encode()
    return JSON, json.dumps(body).encode()


def reset(transport: asyncio.WriteTransport) -> None:
    """End the connection with a TCP reset; what was not yet sent is lost."""
    raw = transport.get_extra_info("socket")
    if raw is not None and raw.fileno() != -1:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, NO_LINGER)
    transport.abort()


async def stop_listening(listener: asyncio.Server) -> None:
    """Close a listener without losing a connection that is half accepted.

    Such a one finds its listener closed, and CPython leaves its socket open and forgets it.
    """
    # A timer comes after all that the selector has found, and what that begins comes before us.
    await asyncio.sleep(1e-6)
    listener.close()
    await asyncio.sleep(0)  # the last of them are known to their protocols now


async def send(request: web.BaseRequest, answer: Answer, real: Reply | None) -> web.StreamResponse:
    """Send the answer when it is time; `real` None means that nothing was executed.

    An answer that breaks the connection ends in CancelledError.
    """
    if answer.gate is not None:
        await answer.gate.wait()
    if answer.delay > 0:
        await asyncio.sleep(answer.delay)
    return await _deliver(request, reply_of(answer, real), answer.delivery)


async def _deliver(request: web.BaseRequest, reply: Reply, how: Delivery) -> web.StreamResponse:
    match how:
        case Whole():
            return await _whole(request, reply)
        case Drip(chunk, pause):
            return await _drip(request, reply, chunk, pause)
        case _:
            _break(request, reply, how)
            return await _gone()


async def _whole(request: web.BaseRequest, reply: Reply) -> web.StreamResponse:
    response = web.Response(status=reply.status, headers=reply.headers, body=reply.body)
    _obey_close(response)
    await response.prepare(request)
    await response.write_eof()
    return response


async def _drip(request: web.BaseRequest, reply: Reply, chunk: int, pause: float) -> web.StreamResponse:
    response = web.StreamResponse(status=reply.status, headers=reply.headers)
    _obey_close(response)
    response.content_length = len(reply.body)
    await response.prepare(request)
    for start in range(0, len(reply.body), chunk):
        if start:
            await asyncio.sleep(pause)
        await response.write(reply.body[start : start + chunk])
    await response.write_eof()
    return response


def _obey_close(response: web.StreamResponse) -> None:
    if response.headers.get("Connection", "").lower() == "close":
        response.force_close()


def _break(request: web.BaseRequest, reply: Reply, how: Delivery) -> None:
    transport = request.transport
    if transport is None:
        raise ConnectionResetError("the client is gone")
    match how:
        case Truncated(keep):
            transport.write(reply.head() + reply.body[:keep])
            transport.close()
        case Reset(when):
            sent = {"before": b"", "headers": reply.head()}
            half = reply.head() + reply.body[: len(reply.body) // 2]
            transport.write(sent.get(when, half))
            reset(transport)
        case Garbage():
            transport.write(NO_HTTP)
            transport.close()
        case Disconnect():
            transport.close()
        case Hang():
            pass


async def _gone() -> web.StreamResponse:
    # aiohttp cancels the handler when its connection is lost, ours or the client's doing.
    gone: asyncio.Future[web.StreamResponse] = asyncio.get_running_loop().create_future()
    return await gone
