"""A large answer becomes objects without a full garbage collection in between, whoever reads it."""

from __future__ import annotations

import asyncio
import gc
import json
from typing import TYPE_CHECKING, Any

import pytest
from raw_http import KINDS, QUERY, Kind, RawServer, answer, client_of
from subscribing import Backend, Mode, Protocol, until
from subscribing import client_of as subscribing_client_of
from talking import Talk, talking

from graphql_prod import SubscriptionClosedError
from graphql_prod.calls.reading import TolerantSerializer
from graphql_prod.runtime.garbage import no_full_collection_in_this_step

if TYPE_CHECKING:
    from collections.abc import Iterator

# More objects than the collector lets pass without looking at all of them, in 3 MB and in 300 kB.
LISTS = 1_000_000
LARGE = b'{"data":{"hello":[' + b"[]," * LISTS + b"1]}}"
FEW = b'{"data":{"hello":"world"}}'


class Watching:
    """A serializer of a caller's; counts full collections while it reads."""

    def __init__(self) -> None:
        self.read: list[int] = []
        self.full = 0

    def loads(self, data: str | bytes) -> Any:
        before = self.full
        try:
            return json.loads(data)
        finally:
            if len(data) > len(FEW) + 200:
                self.read.append(self.full - before)

    def dumps(self, value: Any) -> str | bytes:
        return TolerantSerializer().dumps(value)

    def look(self, phase: str, facts: dict[str, int]) -> None:
        self.full += phase == "start" and facts["generation"] == 2


@pytest.fixture
def watching() -> Iterator[Watching]:
    """One that is told of collections."""
    serializer = Watching()
    gc.callbacks.append(serializer.look)
    yield serializer
    gc.callbacks.remove(serializer.look)


@pytest.mark.parametrize("kind", KINDS)
async def test_no_full_collection_while_an_answer_is_parsed(kind: Kind, watching: Watching) -> None:
    """Whatever the session and the serializer; afterwards the collector is as it was."""
    before = gc.get_threshold()
    with RawServer(lambda _: answer(body=LARGE)) as server:
        async with client_of(kind, server.url, serializer=watching) as client:
            response = await client.query(QUERY)
            await asyncio.sleep(0)
            assert gc.get_threshold() == before
    assert watching.read == [0]
    assert len(response.data["hello"]) == LISTS + 1


@pytest.mark.parametrize("kind", KINDS)
async def test_small_answers_leave_the_collector_alone(kind: Kind, watching: Watching) -> None:
    """Nothing is held off for what takes no time."""
    seen: list[tuple[int, int, int]] = []
    read = watching.loads

    def loads(data: str | bytes) -> Any:
        seen.append(gc.get_threshold())
        return read(data)

    watching.loads = loads  # type: ignore[method-assign]
    before = gc.get_threshold()
    with RawServer(lambda _: answer(body=FEW)) as server:
        async with client_of(kind, server.url, serializer=watching) as client:
            await client.query(QUERY)
    assert seen == [before]


def test_a_loop_that_is_closed_first_gives_the_collector_back() -> None:
    """Whatever ends the step, the thresholds do not stay."""
    before = gc.get_threshold()

    async def hold() -> None:
        no_full_collection_in_this_step()
        assert gc.get_threshold() != before
        asyncio.get_running_loop().stop()

    loop = asyncio.new_event_loop()
    try:
        task = loop.create_task(hold())
        loop.run_forever()
    finally:
        loop.close()
    del task
    gc.collect()
    assert gc.get_threshold() == before


def saying(text: str, closed: list[int | None]) -> Any:
    """A server that has one event to tell, and listens until the client goes."""

    async def script(talk: Talk) -> None:
        await talk.hello()
        await talk.ack()
        key = await talk.asked()
        await talk._ws.send_str(text.replace("KEY", key).replace("TYPE", talk.event))
        try:
            await talk.quiet()
        finally:
            closed.append(talk._ws.close_code)

    return script


def event(part: str, count: int) -> str:
    return '{"type":"TYPE","id":"KEY","payload":{"data":{"count":1,"x":[%s1]}}}' % (part * count)


async def test_no_full_collection_while_an_event_is_parsed(
    backend: Backend, protocol: Protocol, watching: Watching
) -> None:
    """The same for WebSocket messages."""
    before = gc.get_threshold()
    async with (
        talking(saying(event("[],", LISTS), [])) as server,
        subscribing_client_of(server.url, backend, objects={"serializer": watching}) as client,
    ):
        stream = client.stream("subscription { count }", protocols=protocol)
        await anext(stream)
        assert gc.get_threshold() == before
        await stream.aclose()
    assert watching.read == [0]


@pytest.mark.parametrize("share", [False, True], ids=["own", "shared"])
async def test_an_event_of_too_many_values_is_not_parsed(
    backend: Backend, protocol: Protocol, mode: Mode, share: bool, watching: Watching
) -> None:
    """As one that is too large: 1009 to the server, the setting in the text, and no second connection."""
    closed: list[int | None] = []
    ends: list[Any] = []
    settings = {"max_response_values": 500_000}
    async with (
        talking(saying(event("1,", LISTS), closed)) as server,
        subscribing_client_of(
            server.url,
            backend,
            settings=settings,
            objects={"serializer": watching},
            share_connection=share,
            linger=0.0,
        ) as client,
    ):
        if mode == "stream":
            with pytest.raises(SubscriptionClosedError) as caught:
                await anext(client.stream("subscription { count }", protocols=protocol))
            error: BaseException = caught.value
        else:
            subscription = await client.subscribe(
                "subscription { count }", protocols=protocol, on_data=ends.append, on_error=ends.append
            )
            assert subscription.task is not None
            with pytest.raises(SubscriptionClosedError) as caught:
                await subscription.task
            error = caught.value
            await until(lambda: ends)
            assert ends[0].exception is error
        await until(lambda: closed)
    assert isinstance(error, SubscriptionClosedError)
    assert error.close_code == 1009
    assert "max_response_values" in str(error)
    assert "500,000" in str(error)
    assert closed == [1009]
    assert server.connections == 1
    assert watching.read == []


@pytest.mark.parametrize(("count", "limit"), [(600_000, 700_000), (600_000, None), (100_000, 1000)])
async def test_an_event_within_the_limit_or_small_is_read(
    backend: Backend, protocol: Protocol, count: int, limit: int | None
) -> None:
    """Up to 1 MiB nothing is counted; None is no limit."""
    async with (
        talking(saying(event("1,", count), [])) as server,
        subscribing_client_of(server.url, backend, settings={"max_response_values": limit}) as client,
    ):
        stream = client.stream("subscription { count }", protocols=protocol)
        got: Any = await anext(stream)
        assert len(got.payload.data["x"]) == count + 1
        await stream.aclose()
