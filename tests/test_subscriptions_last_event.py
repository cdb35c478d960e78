"""A subscription that ends with an event that refuses its credentials: how many servers say `error`."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import COUNT, Backend, Protocol, Provider, client_of, value_of
from talking import Talk, talking

from graphql_prod import SubscriptionGap

if TYPE_CHECKING:
    from aiographql.client import GraphQLSubscriptionEvent

    from graphql_prod import ProductionClient

JUST_ERRORS = {"errors": [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]}
NULL = {"data": None, **JUST_ERRORS}


@pytest.fixture(params=[False, True], ids=["own", "shared"])
def share(request: pytest.FixtureRequest) -> bool:
    """Each test that asks for it runs on a socket of its own, and on a shared one."""
    return bool(request.param)


def with_provider(
    url: str, backend: Backend, provider: Provider, share: bool
) -> contextlib.AbstractAsyncContextManager[ProductionClient]:
    return client_of(url, backend, objects={"headers_provider": provider}, share_connection=share, linger=0.0)


@pytest.mark.parametrize(
    "refusal",
    [NULL, {"data": {"count": None}, **JUST_ERRORS}, JUST_ERRORS],
    ids=["null", "a null field", "no data"],
)
async def test_a_last_event_that_refuses(
    backend: Backend, protocol: Protocol, share: bool, refusal: dict[str, Any]
) -> None:
    """Errors and no data, then `complete`, is how many servers say `error`: a gap, and on.

    What `resume` is given is the last event with data.
    """
    provider, asked = Provider(), []

    async def serve(talk: Talk) -> None:
        token = await talk.hello()
        await talk.ack()
        key = await talk.asked()
        await talk.tell(key, talk.number)
        if token == "token-0":
            await talk.send(type=talk.event, id=key, payload=refusal)
            await talk.send(type=talk.event, id=key, payload=refusal)
            await talk.send(type="complete", id=key)
        await talk.quiet()

    def resume(last: GraphQLSubscriptionEvent | None, variables: dict[str, Any]) -> dict[str, Any]:
        asked.append(None if last is None else value_of(last))
        return variables

    async with (
        talking(serve) as server,
        with_provider(server.url, backend, provider, share) as client,
        contextlib.aclosing(client.stream(COUNT, protocols=protocol, gaps=True, resume=resume)) as events,
    ):
        seen: list[object] = []
        while len(seen) < 5:
            event = await anext(events)
            if isinstance(event, SubscriptionGap):
                seen.append(event.attempts)
            else:
                payload: Any = event.payload
                seen.append("errors" if payload.errors else value_of(event))
    assert seen == [1, "errors", "errors", 1, 2]
    assert provider.asked == [False, True]
    assert asked == [1]


@pytest.mark.parametrize("last", ["data", "other errors", "data and errors"])
async def test_a_last_event_that_refuses_nothing(
    backend: Backend, protocol: Protocol, share: bool, last: str
) -> None:
    """An event that refuses is just an event where others follow it; `complete` is the end then."""
    provider, refusal = Provider(), NULL
    others: dict[str, dict[str, Any]] = {
        "data": {"data": {"count": 7}},
        "other errors": {"data": None, "errors": [{"message": "no such row"}]},
        "data and errors": {"data": {"count": 7}, **JUST_ERRORS},
    }

    async def serve(talk: Talk) -> None:
        await talk.hello()
        await talk.ack()
        key = await talk.asked()
        await talk.tell(key, talk.number)
        for payload in (refusal, others[last]):
            await talk.send(type=talk.event, id=key, payload=payload)
        await talk.send(type="complete", id=key)
        await talk.quiet()

    async with (
        talking(serve) as server,
        with_provider(server.url, backend, provider, share) as client,
        contextlib.aclosing(client.stream(COUNT, protocols=protocol, gaps=True)) as events,
    ):
        assert len([event async for event in events]) == 3
    assert (server.connections, provider.asked) == (1, [False])


async def test_a_renewal_that_does_not_help(backend: Backend, protocol: Protocol, share: bool) -> None:
    """Refused so with new credentials as well, it ends as the server said; nobody is asked again."""
    provider = Provider()

    async def serve(talk: Talk) -> None:
        await talk.hello()
        await talk.ack()
        while True:
            key = await talk.asked()
            await talk.tell(key, talk.number)
            await talk.send(type=talk.event, id=key, payload=NULL)
            await talk.send(type="complete", id=key)

    async with (
        talking(serve) as server,
        with_provider(server.url, backend, provider, share) as client,
        contextlib.aclosing(client.stream(COUNT, protocols=protocol, gaps=True)) as events,
    ):
        kinds = [type(event).__name__ == "SubscriptionGap" async for event in events]
    assert kinds == [False, False, True, False, False]
    assert provider.asked == [False, True]
