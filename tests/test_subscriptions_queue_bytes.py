"""``max_queue_bytes``: what waits for a slow reader is bounded in bytes too, as the policy says."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import Backend, Follower, Mode, Protocol, client_of, until
from talking import HungUpError, Talk, talking

from graphql_prod import SubscriptionClosedError, SubscriptionGap

if TYPE_CHECKING:
    from collections.abc import Callable

SIZE = 10_000
SHARE = pytest.mark.parametrize("share", [False, True], ids=["own", "shared"])


def of_size(talk: Talk, key: str, value: int, size: int, letter: str = "x") -> str:
    """An event that is so many bytes long, in UTF-8."""
    message = {"type": talk.event, "id": key, "payload": {"data": {"count": value, "pad": ""}}}
    frame = json.dumps(message, ensure_ascii=False)
    left = size - len(frame.encode())
    pad = letter * (left // len(letter.encode())) + "." * (left % len(letter.encode()))
    return frame.replace('"pad": ""', f'"pad": "{pad}"')


def events(sizes: Callable[[int], int], count: int, letter: str = "x") -> Any:
    """A server that tells so many events at once, and then waits for the end."""

    async def script(talk: Talk) -> None:
        await talk.hello()
        await talk.ack()
        key = await talk.asked()
        for value in range(count):
            await talk._ws.send_str(of_size(talk, key, value, sizes(value), letter))
        await talk.send(type="complete", id=key)
        await talk.quiet()

    return script


@pytest.mark.parametrize("letter", ["x", "é", "🙂"])
async def test_block_reads_no_further(backend: Backend, protocol: Protocol, mode: Mode, letter: str) -> None:
    """Ten events fit in, one is in the reader's hands and one waits for room: nothing is lost, in order.

    What counts is the size of the text on the wire, not that of the characters.
    """
    most = 0
    async with (
        talking(events(lambda _: SIZE, 200, letter)) as server,
        client_of(server.url, backend, max_queue_bytes=10 * SIZE) as client,
        Follower(client, mode, protocol) as follower,
    ):
        follower.gate.clear()
        await until(lambda: client.stats().events >= 12)
        for _ in range(50):
            await follower.lasts(0.002)
            assert client.stats().events == 12
        follower.gate.set()
        while not follower.task.done():
            most = max(most, client.stats().events - len(follower.values))
            await asyncio.sleep(0)
    assert follower.values == list(range(200))
    assert most <= 13


async def test_a_bound_in_events_holds_as_well(backend: Backend, mode: Mode) -> None:
    """Whichever is reached first."""
    async with (
        talking(events(lambda _: SIZE, 50)) as server,
        client_of(server.url, backend, max_queue=3, max_queue_bytes=100 * SIZE) as client,
        Follower(client, mode) as follower,
    ):
        follower.gate.clear()
        await until(lambda: client.stats().events >= 5)
        for _ in range(20):
            await follower.lasts(0.002)
            assert client.stats().events == 5


@SHARE
async def test_an_event_larger_than_the_bound_goes_through_alone(
    backend: Backend, protocol: Protocol, mode: Mode, share: bool
) -> None:
    """When none waits it is let through: a bound is no limit for an event."""
    gate: list[int] = []

    async def script(talk: Talk) -> None:
        await talk.hello()
        await talk.ack()
        key = await talk.asked()
        for value in range(5):
            await until(lambda value=value: len(gate) >= value)  # type: ignore[misc]
            await talk._ws.send_str(of_size(talk, key, value, 20 * SIZE))
        await talk.quiet()

    async with (
        talking(script) as server,
        client_of(server.url, backend, max_queue_bytes=SIZE, share_connection=share) as client,
        Follower(client, mode, protocol) as follower,
    ):
        for value in range(1, 6):
            await follower.began(value)
            gate.append(value)
    assert follower.values == list(range(5))


@pytest.mark.parametrize("share", [False, True], ids=["own", "shared"])
async def test_drop_oldest_makes_room(backend: Backend, protocol: Protocol, mode: Mode, share: bool) -> None:
    """A large event drops as many small ones as it takes; the gap counts them."""
    sizes = {40: 9 * SIZE}
    async with (
        talking(events(lambda value: sizes.get(value, SIZE), 41)) as server,
        client_of(
            server.url, backend, max_queue_bytes=10 * SIZE, overflow="drop_oldest", share_connection=share
        ) as client,
        Follower(client, mode, protocol) as follower,
    ):
        follower.gate.clear()
        await until(lambda: client.stats().events == 41)
        await follower.lasts(0.01)
        follower.gate.set()
        await until(follower.task.done)
        dropped = client.stats().dropped
    assert follower.values == [0, 39, 40]
    assert dropped == 38
    gaps = [each for each in follower.seen if isinstance(each, SubscriptionGap)]
    assert sum(gap.dropped for gap in gaps) == 38


@SHARE
async def test_error_ends_it_after_what_waits(
    backend: Backend, protocol: Protocol, mode: Mode, share: bool
) -> None:
    """The text names the setting; on a shared socket ``block`` does the same."""
    overflow = "block" if share else "error"
    async with (
        talking(events(lambda _: SIZE, 100)) as server,
        client_of(
            server.url, backend, max_queue_bytes=10 * SIZE, overflow=overflow, share_connection=share
        ) as client,
        Follower(client, mode, protocol) as follower,
    ):
        follower.gate.clear()
        await until(lambda: server.of("complete", "stop"))
        follower.gate.set()
        error = await follower.end()
    assert isinstance(error, SubscriptionClosedError)
    assert "subscriptions.max_queue_bytes" in str(error)
    assert "100,000 bytes" in str(error)
    assert follower.values == list(range(11))


async def test_none_is_no_limit(backend: Backend, mode: Mode) -> None:
    """Then only the number of events counts."""
    async with (
        talking(events(lambda _: 200_000, 100)) as server,
        client_of(server.url, backend, max_queue_bytes=None) as client,
        Follower(client, mode) as follower,
    ):
        follower.gate.clear()
        await until(lambda: client.stats().events == 100)


async def test_the_default_bounds_what_a_slow_callback_keeps(backend: Backend, mode: Mode) -> None:
    """16 MiB: of a thousand events of 1 MB no more than about sixteen wait."""
    async with (
        talking(events(lambda _: 1_000_000, 60)) as server,
        client_of(server.url, backend) as client,
        Follower(client, mode) as follower,
    ):
        follower.gate.clear()
        await until(lambda: client.stats().events >= 18)
        for _ in range(20):
            await follower.lasts(0.005)
            assert client.stats().events == 18  # one in hand, sixteen in the queue, one that waits for room


async def test_large_pings_do_not_pile_up(backend: Backend) -> None:
    """What callbacks for messages of the connection wait for counts too: what is too much is passed over."""
    seen: list[Any] = []
    answered: list[int] = []

    async def script(talk: Talk) -> None:
        await talk.hello()
        await talk.ack()
        key = await talk.asked()
        await talk.tell(key, 0)
        for number in range(100):
            await talk.send(type="ping", payload={"pad": "x" * SIZE, "number": number})
            if (await talk.receive())["type"] != "pong":
                raise HungUpError
            answered.append(number)
        await talk.tell(key, 1)
        await talk.quiet()

    async with (
        talking(script) as server,
        client_of(server.url, backend, max_queue_bytes=10 * SIZE) as client,
        Follower(client, "subscribe", callbacks={None: [seen.append]}) as follower,
    ):
        follower.gate.clear()
        await until(lambda: len(answered) == 100)
        follower.gate.set()
        await follower.began(2)
    pings = {each.json["payload"]["number"] for each in seen if each.json["type"] == "ping"}
    assert 0 < len(pings) <= 10
