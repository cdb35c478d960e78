"""What sessions, transports, serializers and task factories of a user's do to subscriptions."""

from __future__ import annotations

import asyncio
import json
import sys
from collections import OrderedDict
from typing import Any

import aiohttp
import pytest
from aiographql.client.transport import AiohttpSubscriptionTransport, WebsocketSubscriptionTransport
from subscribing import until

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    SubscriptionClosedError,
)
from graphql_prod.testing import Answer, ScriptedServer

COUNT = "subscription ($to: Int) { count(to: $to) }"
CONFIG = ProductionConfig(subscriptions={"wait_initial": 0.01, "wait_max": 0.05, "ack_timeout": 5})


class Ordered:
    """A serializer whose objects are a kind of dict, and which keeps texts as they are."""

    def loads(self, data: str | bytes) -> Any:
        return json.loads(data, object_pairs_hook=OrderedDict)

    def dumps(self, value: Any) -> str:
        return json.dumps(value, ensure_ascii=False)


@pytest.mark.parametrize("status", [403, 404, 503])
@pytest.mark.parametrize("how", ["raise_for_status", "stock aiohttp", "stock websockets"])
async def test_the_status_of_a_refused_upgrade_is_known(
    server: ScriptedServer, how: str, status: int
) -> None:
    """Whoever raises for it, and in whichever exception."""
    server.on_connect = lambda _: status
    async with aiohttp.ClientSession(raise_for_status=True) as session:
        given: dict[str, Any] = {"session": session}
        if how == "stock aiohttp":
            given = {"subscription_transport": AiohttpSubscriptionTransport(server.url)}
        elif how == "stock websockets":
            given = {"subscription_transport": WebsocketSubscriptionTransport(server.url)}
        async with ProductionClient(server.url, validate=False, config=CONFIG, **given) as client:
            with pytest.raises((HTTPStatusError, SubscriptionClosedError), match=str(status)) as caught:
                await client.subscribe(COUNT)
    found = caught.value.__cause__ if status == 403 else caught.value
    assert isinstance(found, HTTPStatusError)
    assert found.status == status
    assert len(server.upgrades) == (4 if status == 503 else 1)


async def test_a_session_that_its_owner_closed_is_the_end(server: ScriptedServer) -> None:
    """No endless reconnecting over what will never open again."""
    errors: list[Any] = []
    async with aiohttp.ClientSession() as session:
        client = ProductionClient(server.url, session=session, validate=False, config=CONFIG)
        subscription = await client.subscribe(COUNT, on_error=errors.append)
    task = subscription.task
    assert task is not None
    await asyncio.wait({task}, timeout=10)
    assert isinstance(task.exception(), SubscriptionClosedError)
    assert "closed by its owner" in str(task.exception())
    await until(lambda: len(errors) == 1)
    await client.close()


async def test_objects_of_a_serializer_may_be_a_kind_of_dict(server: ScriptedServer) -> None:
    """As the stock client takes them."""
    async with ProductionClient(server.url, validate=False, serializer=Ordered()) as client:
        events = [event async for event in client.stream(COUNT, variables={"to": 2})]
    assert [event.json["payload"]["data"]["count"] for event in events] == [0, 1, 2]


@pytest.mark.parametrize("where", ["variables", "payload"])
@pytest.mark.parametrize("value", [object(), "\ud800"], ids=["object", "surrogate"])
async def test_what_cannot_be_sent_is_told_at_once(
    server: ScriptedServer, where: str, value: object, caplog: pytest.LogCaptureFixture
) -> None:
    """Not after a timeout, not as a subscription that never begins; and its content is in no log."""
    given: dict[str, Any] = {"variables": {"to": value}}
    if where == "payload":
        given = {"connection_init_payload": {"token": value}}
    async with ProductionClient(server.url, validate=False, serializer=Ordered()) as client:
        async with asyncio.timeout(4):
            with pytest.raises((TypeError, UnicodeError, SubscriptionClosedError)):
                await client.subscribe(COUNT, wait=True, **given)
        await until(lambda: client.stats().sockets == 0)
    assert "token" not in caplog.text


async def test_what_resume_returns_stays_out_of_the_log(
    server: ScriptedServer, caplog: pytest.LogCaptureFixture
) -> None:
    """Variables are the caller's secret, also where the serializer complains of them."""

    class Talkative(Ordered):
        def dumps(self, value: Any) -> str:
            if "s3cret" in str(value):
                raise TypeError(f"cannot encode {value}")
            return super().dumps(value)

    async with ProductionClient(server.url, validate=False, config=CONFIG, serializer=Talkative()) as client:
        subscription = await client.subscribe(COUNT, resume=lambda *_: {"token": "s3cret"})
        task = subscription.task
        assert task is not None
        server.reset_sockets()
        await asyncio.wait({task}, timeout=10)
        assert isinstance(task.exception(), SubscriptionClosedError)
    assert "s3cret" not in caplog.text


async def test_a_stream_that_validates_while_the_client_closes_does_not_begin(server: ScriptedServer) -> None:
    """Nothing is opened by a closed client."""
    gate = asyncio.Event()
    server.on("IntrospectionQuery", Answer(gate=gate))
    client = ProductionClient(server.url)
    first = asyncio.ensure_future(anext(client.stream("subscription { count }")))
    await server.received(1)
    closing = asyncio.create_task(client.close())
    await until(lambda: client.state == "draining")
    gate.set()
    with pytest.raises(ClientClosedError):
        await first
    await closing
    assert server.upgrades == []


async def test_a_stream_whose_reader_died_does_not_hold_up_the_close(server: ScriptedServer) -> None:
    """Its generator may be kept by a traceback: nobody will ever read what waits."""
    client = ProductionClient(server.url, validate=False)

    async def read() -> None:
        events = client.stream("subscription { count }")
        async for _ in events:
            raise LookupError

    reading = asyncio.create_task(read())
    await asyncio.wait({reading})
    await asyncio.wait_for(client.close(), 10)
    assert isinstance(reading.exception(), LookupError)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="there are no eager tasks")
async def test_eager_tasks(server: ScriptedServer) -> None:
    """A task factory that begins tasks at once changes nothing."""
    asyncio.get_running_loop().set_task_factory(getattr(asyncio, "eager_task_factory"))  # noqa: B009
    seen: list[int] = []
    async with ProductionClient(server.url, validate=False, config=CONFIG) as client:
        subscription = await client.subscribe(
            COUNT,
            variables={"to": 20},
            on_data=lambda event: seen.append(event.json["payload"]["data"]["count"]),
        )
        await asyncio.wait_for(until(lambda: len(seen) == 21), 10)
        await subscription.unsubscribe_and_wait()
    assert seen == list(range(21))
