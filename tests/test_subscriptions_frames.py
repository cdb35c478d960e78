"""Whose close it was: the server's, or ours, because the server broke the WebSocket protocol."""

from __future__ import annotations

import socket
import struct
from typing import TYPE_CHECKING, Any

import pytest
from raw_sockets import BINARY, CLOSE, PING, TEXT, Peer, RawServer, frame
from subscribing import Follower, client_of, until

from graphql_prod import SubscriptionClosedError

if TYPE_CHECKING:
    from conftest import Backend
    from subscribing import Mode, Protocol

# What the server sends: the code that we close with, and a word of the reason.
BREACHES: dict[str, tuple[bytes, int]] = {
    "text that is no UTF-8": (frame(b'{"type":"\xff"}'), 1007),
    "a fragmented text that is no UTF-8": (frame(b"\xff", TEXT, first=0) + frame(b"\xff", 0), 1007),
    "a reserved bit": (frame("{}", first=0xC0), 1002),
    "another reserved bit": (frame("{}", first=0x90), 1002),
    "a reserved opcode": (frame("x", 3), 1002),
    "a reserved control opcode": (frame("x", 11), 1002),
    "a long control frame": (frame("x" * 200, PING), 1002),
    "a fragmented control frame": (frame("x", PING, first=0), 1002),
    "the middle of nothing": (frame("x", 0), 1002),
    "a beginning in the middle": (frame("x", TEXT, first=0) + frame("y"), 1002),
    "a close of one byte": (frame(b"\x03", CLOSE), 1002),
    "a close code that nobody may send": (frame(struct.pack(">H", 1005), CLOSE), 1002),
    "a close code for a lost connection": (frame(struct.pack(">H", 1006), CLOSE), 1002),
    "a close code for failed TLS": (frame(struct.pack(">H", 1015), CLOSE), 1002),
    "a close code too low": (frame(struct.pack(">H", 999), CLOSE), 1002),
    "a close code too high": (frame(struct.pack(">H", 5000), CLOSE), 1002),
    "a close reason that is no UTF-8": (frame(struct.pack(">H", 1011) + b"\xff", CLOSE), 1007),
    "a message over the limit": (frame("x" * 5000), 1009),
    "a binary message over the limit": (frame("x" * 5000, BINARY), 1009),
    "fragments over the limit": (frame("x" * 3000, TEXT, first=0) + frame("x" * 3000, 0), 1009),
}


def _server(sent: bytes, seen: list[Any]) -> RawServer:
    async def script(peer: Peer) -> None:
        key = await peer.subscribed()
        if peer.number > 1:
            await peer.write(peer.event(key, 2))
            await peer.read_on()
            return
        await peer.write(peer.event(key, 1))
        await peer.write(sent)
        while True:
            opcode, data = await peer.frame()
            if opcode == CLOSE:
                seen.append(struct.unpack(">H", data[:2])[0])
                return

    return RawServer(script)


@pytest.mark.parametrize("breach", BREACHES)
@pytest.mark.parametrize("share", [False, True])
async def test_our_close_says_that_it_is_ours(backend: Backend, breach: str, share: bool) -> None:
    """The error names our close and why; its code is the one that the server gets, on both libraries."""
    sent, code = BREACHES[breach]
    seen: list[Any] = []
    async with (
        _server(sent, seen) as server,
        client_of(
            server.url, backend, settings={"max_response_bytes": 4000}, share_connection=share
        ) as client,
        Follower(client, "stream") as follower,
    ):
        error = await follower.end()
    assert isinstance(error, SubscriptionClosedError)
    assert error.close_code == code
    assert f"so that we closed the connection with {code}" in str(error)
    assert (error.close_reason or "").startswith("closed by us: ")
    assert ("over our limit" in str(error)) == (code == 1009)
    assert ("max_response_bytes" in str(error)) == (code == 1009)
    assert ("broke the WebSocket protocol" in str(error)) == (code != 1009)
    assert str(error).isprintable()
    assert follower.values == [1]
    if "close" not in breach:  # aiohttp answers a close that it finds odd with that code, too
        assert seen == [code]


@pytest.mark.parametrize("code", [1002, 1007])
async def test_a_gap_after_our_close_says_so(
    backend: Backend, protocol: Protocol, mode: Mode, code: int
) -> None:
    """Where the codes are not fatal it reconnects, and the gap says that we closed."""
    sent = next(sent for sent, its in BREACHES.values() if its == code)
    async with (
        _server(sent, []) as server,
        client_of(server.url, backend, fatal_close_codes=()) as client,
        Follower(client, mode, protocol) as follower,
    ):
        await follower.went_on()
    (gap,) = follower.gaps
    assert gap.close_code == code
    assert (gap.close_reason or "").startswith("closed by us: ")
    assert follower.values == [1, 2]


@pytest.mark.parametrize("code", [1002, 1003, 1007, 1009, 4400])
async def test_a_close_of_the_servers_is_the_servers(
    backend: Backend, protocol: Protocol, mode: Mode, code: int
) -> None:
    """A close frame with the same codes is told as the server's doing."""
    sent = frame(struct.pack(">H", code) + b"so there", CLOSE)
    async with (
        _server(sent, []) as server,
        client_of(server.url, backend) as client,
        Follower(client, mode, protocol) as follower,
    ):
        error = await follower.end()
    assert isinstance(error, SubscriptionClosedError)
    assert (error.close_code, error.close_reason) == (code, "so there")
    assert f"closed the connection with {code} (so there)" in str(error)
    assert "by us" not in str(error)
    assert "we closed" not in str(error)


async def test_a_close_without_a_code_has_none(backend: Backend, protocol: Protocol) -> None:
    """None on both libraries, and not a code that was never sent."""
    async with (
        _server(frame(b"", CLOSE), []) as server,
        client_of(server.url, backend) as client,
        Follower(client, "stream", protocol) as follower,
    ):
        await follower.went_on()
    assert follower.gaps[0].close_code is None


@pytest.mark.parametrize("sent", [CLOSE, "our close", None])
@pytest.mark.parametrize("share", [False, True])
async def test_a_server_that_leaves_the_connection_open_is_left(
    backend: Backend, sent: int | str | None, share: bool
) -> None:
    """A close frame is the end, the server's as ours, though TCP stays open and nobody pings."""
    code = struct.pack(">H", 1001) if sent is CLOSE else b""
    last = frame("x" * 5000) if sent == "our close" else frame(code, CLOSE)
    gone: list[int] = []

    async def script(peer: Peer) -> None:
        key = await peer.subscribed()
        await peer.write(peer.event(key, peer.number))
        if peer.number == 1:
            await peer.write(last)
            await peer.read_on()
            gone.append(peer.number)
        else:
            await peer.complete(key)

    policy: dict[str, Any] = {"ping_interval": None, "share_connection": share, "fatal_close_codes": ()}
    async with (
        RawServer(script) as server,
        client_of(server.url, backend, settings={"max_response_bytes": 4000}, **policy) as client,
        Follower(client, "stream") as follower,
    ):
        assert await follower.end() is None
        assert follower.values == [1, 2]
        [gap] = follower.gaps
        assert gap.close_code == {CLOSE: 1001, "our close": 1009, None: None}[sent]
        await until(lambda: gone)


@pytest.mark.parametrize("rest", [b"", frame("x" * 100)[:50]])
@pytest.mark.parametrize("reset", [False, True])
@pytest.mark.parametrize("share", [False, True])
async def test_a_connection_that_breaks_is_nobodys_close(
    backend: Backend, mode: Mode, share: bool, rest: bytes, reset: bool
) -> None:
    """Without a close frame the gap has no code, and blames nobody: the connection was lost."""

    async def script(peer: Peer) -> None:
        key = await peer.subscribed()
        await peer.write(peer.event(key, peer.number) + rest * (peer.number == 1))
        if peer.number > 1:
            await peer.read_on()
        elif reset:
            await until(lambda: follower.values == [1])
            no_fin = struct.pack("ii", 1, 0)
            peer.writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_fin)

    async with (
        RawServer(script) as server,
        client_of(server.url, backend, share_connection=share) as client,
        Follower(client, mode) as follower,
    ):
        await follower.went_on()
    [gap] = follower.gaps
    assert (gap.close_code, gap.close_reason) == (None, "connection lost")


@pytest.mark.parametrize("why", ["a redirect", "a provider"])
async def test_what_keeps_it_down_is_told(
    backend: Backend, mode: Mode, caplog: pytest.LogCaptureFixture, why: str
) -> None:
    """In mid-stream too the log and the last error say in words what kept it from connecting again."""
    asked: list[int] = []

    def provider() -> dict[str, str]:
        asked.append(1)
        if why == "a provider" and len(asked) > 1:
            raise OSError("vault")
        return {}

    async def script(peer: Peer) -> None:
        if peer.number > 1:
            await peer.write(
                b"HTTP/1.1 302 Found\r\nLocation: https://x:y@else.test/\r\nContent-Length: 0\r\n\r\n"
            )
            return
        await peer.write(peer.event(await peer.subscribed(), 1))

    objects = {"headers_provider": provider}
    async with (
        RawServer(script) as server,
        client_of(server.url, backend, objects=objects, max_reconnects=2) as client,
        Follower(client, mode) as follower,
    ):
        error = await follower.end()
    words = {"a redirect": "a redirect to https://else.test", "a provider": "headers_provider failed"}[why]
    assert isinstance(error, SubscriptionClosedError)
    assert words in str(error)
    assert words in (error.close_reason or "")
    assert words in caplog.text
