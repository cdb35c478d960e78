"""Servers that send without end and read nothing: what waits to be sent is bounded, and the loss is told.

The client runs in a process of its own, so that its memory can be measured.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from raw_sockets import PING, Peer, RawServer, frame
from subscribing import COUNT, Follower, client_of, until

from graphql_prod.subscriptions.send_queue import MOST_UNREAD

if TYPE_CHECKING:
    from conftest import Backend

    from graphql_prod import SubscriptionGap

PROGRAM = Path(__file__).parents[1] / "programs" / "flooded.py"
MOST_MIB = 64
MOST_SECONDS = 40
UNREAD = "closed by us: did not read our answers to its pings, and went on sending"


def a_message(size: int) -> bytes:
    return frame(json.dumps({"type": "ping", "payload": {"x": "a" * size}}))


FLOODS = {
    "short ping messages": a_message(2000) * 20,
    "long ping messages": a_message(100_000),
    "empty ping frames": frame("", PING) * 2000,
    "full ping frames": frame("a" * 125, PING) * 500,
}


async def flooded(url: str, backend: Backend, whose: str, seconds: float) -> dict[str, Any]:
    """What the subscriber says of it, within the limit."""
    command = [sys.executable, "-B", str(PROGRAM), url, backend, whose, str(seconds)]
    process = await asyncio.create_subprocess_exec(*command, stdout=asyncio.subprocess.PIPE)
    try:
        async with asyncio.timeout(MOST_SECONDS):
            out, _ = await process.communicate()
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    report: dict[str, Any] = json.loads(out)
    return report


@pytest.mark.parametrize("whose", ["own", "given"])
@pytest.mark.parametrize("flood", FLOODS)
async def test_pings_whose_answers_nobody_reads(backend: Backend, flood: str, whose: str) -> None:
    """Past the bound the connection is lost, and told; the next one serves. Memory stays what it was."""

    async def script(peer: Peer) -> None:
        key = await peer.subscribed()
        if peer.number > 1:
            await peer.write(peer.event(key, 1))
            await peer.read_on()
            return
        while True:
            await peer.write(FLOODS[flood])

    async with RawServer(script, unread=4096) as server:
        endless = flood == "empty ping frames"  # a system's buffers take a million of their answers
        report = await flooded(server.url, backend, whose, 3 if endless else 25)
    if not endless:
        assert report["told"] == [UNREAD]
    assert report["grown"] < MOST_MIB, report


@pytest.mark.parametrize("flood", FLOODS)
async def test_a_server_that_reads_may_ping_as_it_likes(backend: Backend, flood: str) -> None:
    """Thousands of pings, or a hundred long ones, are answered where that is read; nothing is lost."""
    answered = 0

    async def script(peer: Peer) -> None:
        nonlocal answered
        key = await peer.subscribed()
        reading = asyncio.create_task(read(peer))
        try:
            for _ in range(100 if "messages" in flood else 5):
                await peer.write(FLOODS[flood])
                await asyncio.sleep(0)
            await peer.write(peer.event(key, 1))
            await reading
        finally:
            reading.cancel()

    async def read(peer: Peer) -> None:
        nonlocal answered
        while data := await peer.reader.read(65536):
            answered += len(data)

    async with (
        RawServer(script) as server,
        client_of(server.url, backend) as client,
        Follower(client, "stream") as follower,
    ):
        await follower.came()
        assert not follower.gaps
        await until(lambda: answered > 10_000)
        assert len(server.peers) == 1


async def test_farewells_that_nobody_reads(backend: Backend) -> None:
    """On a shared connection whose server reads nothing, those that come and go pile up to a bound."""
    kept: list[str] = []

    async def script(peer: Peer) -> None:
        kept.append(await peer.subscribed())
        if peer.number > 1:
            await peer.write(peer.event(kept[-1], 1))
            await peer.read_on()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    async with (
        RawServer(script, unread=4096) as server,
        client_of(server.url, backend, share_connection=True) as client,
    ):
        gaps: list[SubscriptionGap] = []
        staying = await client.subscribe(COUNT, on_data=lambda _: None, on_gap=gaps.append)
        variables = {"from": 0, "pad": "x" * 5000}
        while not gaps:
            other = await client.subscribe(COUNT, variables=variables, on_data=lambda _: None)
            for _ in range(3):  # until it is asked for
                await asyncio.sleep(0)
            other.unsubscribe()
            assert len(asyncio.all_tasks()) < 4 * MOST_UNREAD
        assert gaps[0].close_reason == UNREAD
        assert len(server.peers) == 2
        await staying.unsubscribe_and_wait()


async def test_many_farewells_at_once(backend: Backend) -> None:
    """More subscriptions than the bound leave a shared connection together, and nothing is lost."""
    many = MOST_UNREAD + 200
    kinds: Counter[str] = Counter()

    async def script(peer: Peer) -> None:
        kinds["subscribe"] += bool(await peer.subscribed())
        while True:
            kinds[(await peer.message())["type"]] += 1

    async with (
        RawServer(script) as server,
        client_of(server.url, backend, share_connection=True) as client,
    ):
        gaps: list[SubscriptionGap] = []
        staying = await client.subscribe(COUNT, on_data=lambda _: None, on_gap=gaps.append)
        others = [await client.subscribe(COUNT, on_data=lambda _: None) for _ in range(many)]
        await until(lambda: kinds["subscribe"] == many + 1)
        for each in others:
            each.unsubscribe()
        await until(lambda: kinds["complete"] == many)
        assert not gaps
        assert len(server.peers) == 1
        await staying.unsubscribe_and_wait()
