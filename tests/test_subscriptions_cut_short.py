"""Events that wait for the reader of a stream when its client is closed at once."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING

import pytest
from aiographql.client import GraphQLClientException, GraphQLRequestException
from subscribing import COUNT, Backend, Protocol, client_of, until, value_of
from talking import Talk, talking

from graphql_prod import ClientClosedError, SubscriptionClosedError

if TYPE_CHECKING:
    from graphql_prod import ProductionClient

ENDS: dict[str, type[Exception] | None] = {
    "close": SubscriptionClosedError,
    "error": GraphQLRequestException,
    "complete": None,
}


class Reader:
    """Reads one event, and the others once it may; what came, and how it ended."""

    def __init__(self, client: ProductionClient, protocol: Protocol) -> None:
        self.values: list[int] = []
        self.error: GraphQLClientException | None = None
        self.may_go_on = asyncio.Event()
        self.task = asyncio.create_task(self._read(client, protocol))

    async def _read(self, client: ProductionClient, protocol: Protocol) -> None:
        try:
            async with contextlib.aclosing(client.stream(COUNT, protocols=protocol)) as events:
                async for event in events:
                    self.values.append(value_of(event))
                    await self.may_go_on.wait()
        except GraphQLClientException as error:
            self.error = error


@pytest.mark.parametrize("waiting", [0, 3])
@pytest.mark.parametrize("end", ENDS)
async def test_what_was_thrown_away_is_said(
    backend: Backend, protocol: Protocol, end: str, waiting: int
) -> None:
    """Whatever has ended the subscription: if events are thrown away, the error says that it was the client.

    What had ended it is the cause. Where nothing waits, that is what the reader hears of.
    """

    async def serve(talk: Talk) -> None:
        await talk.hello()
        await talk.ack()
        key = await talk.asked()
        for value in range(1 + waiting):
            await talk.tell(key, value)
        if end == "close":
            await talk.close(4500, "that was all")
        elif end == "error":
            await talk.send(type="error", id=key, payload=[{"message": "that was all"}])
        else:
            await talk.send(type="complete", id=key)
        await talk.quiet()

    async with talking(serve) as server, client_of(server.url, backend) as client:
        reader = Reader(client, protocol)
        await until(lambda: client.stats().events == 1 + waiting and not client.stats().sockets)
        report = await asyncio.wait_for(client.shutdown(0), 10)
        reader.may_go_on.set()
        await asyncio.wait_for(reader.task, 10)
    expected = ENDS[end]
    assert reader.values == [0]
    if not waiting:
        assert (None if reader.error is None else type(reader.error)) is expected
        return
    assert isinstance(reader.error, ClientClosedError)
    assert not report.clean
    if end == "close":
        assert isinstance(reader.error.__cause__, SubscriptionClosedError)
        assert reader.error.__cause__.close_code == 4500
