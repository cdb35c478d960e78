"""A cancel may come at any moment: it comes out, and leaves a client that works and nothing behind."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any, ClassVar

import pytest
from cancelling import Operation, sweep
from subscribing import COUNT, onward, until, value_of

from graphql_prod import ClientClosedError, SchemaPolicy, SubscriptionGap, SubscriptionPolicy
from graphql_prod.testing import Answer

if TYPE_CHECKING:
    from aiographql.client import GraphQLSubscription, GraphQLSubscriptionEvent
    from cancelling import Moment
    from subscribing import Backend, Protocol

    from graphql_prod import ProductionClient
    from graphql_prod.testing import ScriptedServer

FEW = {"from": 0, "to": 2}
HELLO = {"hello": "Hello, world!"}


class Joined(Operation):
    """Another one joins what it has begun, and gets what it came for."""

    other: asyncio.Task[None] | None = None

    async def run(self) -> None:
        asyncio.get_running_loop().call_soon(self.join)
        await super().run()

    def join(self) -> None:
        self.other = asyncio.create_task(super().run())

    async def release(self) -> None:
        if self.other is not None:
            await asyncio.wait_for(self.other, 10)


class FirstQuery(Operation):
    """Opens the session and a connection."""

    async def run(self) -> None:
        assert (await self.client.query("{ hello }")).data == HELLO


class NextQuery(FirstQuery):
    """Over a connection that was kept alive."""

    async def prepare(self) -> None:
        await self.run()


class RetriedQuery(Operation):
    """Answered at the third attempt; the second one ends in a reset."""

    async def prepare(self) -> None:
        self.server.on("Retried", Answer.page(503), Answer.reset("body"))

    async def run(self) -> None:
        assert (await self.client.query("query Retried { hello }")).data == HELLO

    async def release(self) -> None:
        await self.run()  # takes what was meant for attempts that never were
        assert not self.server.unused


class DrippingQuery(Operation):
    """Its answer comes in pieces."""

    async def run(self) -> None:
        self.server.on("Dripping", Answer.drip(chunk=5, pause=0.001))
        assert (await self.client.query("query Dripping { hello }")).data == HELLO

    async def release(self) -> None:
        while self.server.unused:  # for a call that was never sent
            assert (await self.client.query("query Dripping { hello }")).data == HELLO


class QueuedQuery(FirstQuery):
    """Waits for the only slot, which another call holds."""

    async def prepare(self) -> None:
        self.gate = asyncio.Event()
        self.server.on("Holding", Answer(gate=self.gate))
        self.holding = asyncio.create_task(self.client.query("query Holding { hello }"))
        await until(lambda: self.client.stats().pool.in_use)

    async def run(self) -> None:
        asyncio.get_running_loop().call_soon(self.gate.set)
        await super().run()

    async def release(self) -> None:
        self.gate.set()
        assert (await asyncio.wait_for(self.holding, 10)).data == HELLO


class GivenSession(FirstQuery):
    """Over a caller's session with a single connection, which a cancel must not cost it."""

    given = True


class Provider:
    """Credentials that take a moment, and are refused until they are renewed."""

    def __init__(self) -> None:
        self.token = 0

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        await asyncio.sleep(0)
        self.token += refresh
        await asyncio.sleep(0)
        return {"Authorization": f"token {self.token}"}


class AuthorizedQuery(FirstQuery):
    """Waits for credentials that another call, refused once, has renewed."""

    provided = Provider

    def __init__(self, server: ScriptedServer, client: ProductionClient) -> None:
        super().__init__(server, client)
        server.on("Refused", Answer.graphql(401, errors=["who?"]))

    async def prepare(self) -> None:
        self.other = asyncio.create_task(self.client.query("query Refused { hello }"))

    async def release(self) -> None:
        assert (await asyncio.wait_for(self.other, 10)).data == HELLO


class JoinedCredentials(Joined, FirstQuery):
    """Asks for credentials that another call waits for too."""

    provided = Provider


class Mutation(Operation):
    """Runs at most once, and once if nobody cancels it."""

    def __init__(self, server: ScriptedServer, client: ProductionClient) -> None:
        super().__init__(server, client)
        self.before = server.executions["increment"]

    async def run(self) -> None:
        assert (await self.client.query("mutation { increment }")).data

    async def check(self, *, whole: bool) -> None:
        ran = self.server.executions["increment"] - self.before
        assert ran == 1 if whole else ran <= 1


class NextMutation(Mutation):
    """Over a connection that was kept alive."""

    async def prepare(self) -> None:
        assert (await self.client.query("{ hello }")).data == HELLO


class Ready(Operation):
    """A probe; the next one is answered all the same."""

    async def run(self) -> None:
        assert await self.client.ready()

    async def release(self) -> None:
        assert await asyncio.wait_for(self.client.ready(), 10)


class SharedReady(Ready):
    """A probe that another one has begun; that one is answered all the same."""

    async def prepare(self) -> None:
        self.other = asyncio.create_task(self.client.ready())

    async def release(self) -> None:
        assert await asyncio.wait_for(self.other, 10)
        await super().release()


class JoinedReady(Joined, Ready):
    """A probe that another one joins."""


class ValidatedQuery(FirstQuery):
    """The first one: introspects the server, and validates in a thread."""

    validate = True


class SharedValidation(ValidatedQuery):
    """Waits for an introspection that another call has begun; that one gets its answer."""

    async def prepare(self) -> None:
        self.other = asyncio.create_task(self.client.query("{ hello }"))

    async def release(self) -> None:
        assert (await asyncio.wait_for(self.other, 10)).data == HELLO


class JoinedValidation(Joined, ValidatedQuery):
    """Begins an introspection that another call waits for too."""


class Introspection(Operation):
    """An introspection that nobody shares."""

    async def run(self) -> None:
        assert "Query" in (await self.client.introspect()).type_map


class GetSchema(Operation):
    """A new schema in the place of the known one."""

    validate = True

    async def prepare(self) -> None:
        await self.client.get_schema()

    async def run(self) -> None:
        assert "Query" in (await self.client.get_schema(refresh=True)).type_map


class BackgroundRefresh(FirstQuery):
    """Begins the refresh of a schema that has grown old; the refresh is no part of the call."""

    settings: ClassVar[dict[str, Any]] = {"schema": SchemaPolicy(ttl=0)}
    validate = True

    async def prepare(self) -> None:
        await self.client.get_schema()
        self.asked = len(self.server.requests)

    async def check(self, *, whole: bool) -> None:
        assert not whole or len(self.server.requests) >= self.asked + 2


class Subscription(Operation):
    """Events for callbacks, in order; the end asked for, and waited for."""

    protocol: Protocol = "graphql-transport-ws"
    policy: ClassVar[dict[str, Any]] = {}
    subscription: GraphQLSubscription | None = None

    def __init__(self, server: ScriptedServer, client: ProductionClient) -> None:
        super().__init__(server, client)
        server.tick = 0.001
        self.seen: list[int] = []
        self.enough = asyncio.Event()

    async def take(self, event: GraphQLSubscriptionEvent) -> None:
        await asyncio.sleep(0)
        self.seen.append(value_of(event))
        if len(self.seen) == 3:
            self.enough.set()

    async def run(self) -> None:
        subscription = await self.client.subscribe(COUNT, on_data=self.take, protocols=self.protocol)
        try:
            await self.enough.wait()
        finally:
            subscription.unsubscribe()
        await subscription.unsubscribe_and_wait()

    async def check(self, *, whole: bool) -> None:
        assert self.seen == list(range(len(self.seen)))
        assert len(self.seen) >= 3 or not whole


class LegacySubscription(Subscription):
    """The older protocol."""

    protocol = "graphql-ws"


class WaitedSubscription(Subscription):
    """Cancelling whoever waits for its end ends it."""

    async def run(self) -> None:
        await self.client.subscribe(COUNT, on_data=self.take, variables=FEW, wait=True)


class AwaitedTask(Subscription):
    """Awaiting the subscription's own task hands the cancel on to that, and gets it back."""

    async def run(self) -> None:
        subscription = await self.client.subscribe(COUNT, on_data=self.take, variables=FEW)
        assert subscription.task is not None
        try:
            await subscription.task
        finally:
            subscription.unsubscribe()


class Stream(Subscription):
    """To the server's end."""

    variables: ClassVar[dict[str, Any]] = FEW

    async def run(self) -> None:
        events = self.client.stream(COUNT, variables=self.variables, protocols=self.protocol)
        async with contextlib.aclosing(events):
            async for event in events:
                await self.take(event)
                if len(self.seen) == 3:
                    break


class EndlessStream(Stream):
    """Left in the middle, by whoever reads it."""

    variables: ClassVar[dict[str, Any]] = {}


class ReconnectedStream(Subscription):
    """Goes on where it stopped after the connection was lost, with a cursor that takes its time to tell."""

    async def resume(
        self, last: GraphQLSubscriptionEvent | None, variables: dict[str, Any]
    ) -> dict[str, Any]:
        await asyncio.sleep(0)
        return onward(last, variables)

    async def run(self) -> None:
        stream = self.client.stream(COUNT, gaps=True, resume=self.resume, protocols=self.protocol)
        async with contextlib.aclosing(stream) as events:
            async for event in events:
                if isinstance(event, SubscriptionGap):
                    continue
                await self.take(event)
                if len(self.seen) == 1:
                    self.server.reset_sockets()
                if len(self.seen) == 3:
                    break


class LegacyReconnect(ReconnectedStream):
    """The older protocol."""

    protocol = "graphql-ws"


class ReconnectedSubscription(ReconnectedStream):
    """The same with callbacks."""

    async def lose(self, event: GraphQLSubscriptionEvent) -> None:
        await self.take(event)
        if len(self.seen) == 1:
            self.server.reset_sockets()

    async def run(self) -> None:
        subscription = await self.client.subscribe(COUNT, on_data=self.lose, resume=self.resume)
        try:
            await self.enough.wait()
        finally:
            await subscription.unsubscribe_and_wait()


class SharedStream(Stream):
    """On the socket of another stream, which goes on."""

    settings: ClassVar[dict[str, Any]] = {
        "subscriptions": SubscriptionPolicy(share_connection=True, linger=0),
    }

    async def prepare(self) -> None:
        self.came = 0
        self.other = asyncio.create_task(self.read())

    async def read(self) -> None:
        async for _ in self.client.stream(COUNT, protocols=self.protocol):
            self.came += 1

    async def take(self, event: GraphQLSubscriptionEvent) -> None:
        assert self.client.stats().sockets == 1
        await super().take(event)

    async def release(self) -> None:
        more = self.came + 3
        await until(lambda: self.came >= more or self.other.done())
        assert not self.other.done()
        self.other.cancel()
        await asyncio.wait({self.other})


class Shutdown(Operation):
    """With a call and a stream under way: both are finished, whoever waits for that."""

    async def prepare(self) -> None:
        self.server.tick = 0.001
        self.gate = asyncio.Event()
        self.server.on("Holding", Answer(gate=self.gate))
        self.call = asyncio.create_task(self.client.query("query Holding { hello }"))
        self.seen: list[int] = []
        self.stream = asyncio.create_task(self.read())
        await until(lambda: self.client.stats().pool.in_use and self.seen)

    async def read(self) -> None:
        async for event in self.client.stream(COUNT):
            self.seen.append(value_of(event))

    async def run(self) -> None:
        asyncio.get_running_loop().call_soon(self.gate.set)
        await self.client.shutdown()

    async def release(self) -> None:
        self.gate.set()
        assert (await self.client.shutdown()).clean
        assert (await self.call).data == HELLO
        await self.stream
        with pytest.raises(ClientClosedError):
            await self.client.query("{ hello }")


class Leaving(Shutdown):
    """The end of ``async with``."""

    async def run(self) -> None:
        asyncio.get_running_loop().call_soon(self.gate.set)
        async with self.client:
            pass


OPERATIONS = [
    FirstQuery,
    NextQuery,
    RetriedQuery,
    DrippingQuery,
    QueuedQuery,
    GivenSession,
    AuthorizedQuery,
    JoinedCredentials,
    Mutation,
    NextMutation,
    Ready,
    SharedReady,
    JoinedReady,
    ValidatedQuery,
    SharedValidation,
    JoinedValidation,
    Introspection,
    GetSchema,
    BackgroundRefresh,
    Subscription,
    LegacySubscription,
    WaitedSubscription,
    AwaitedTask,
    Stream,
    EndlessStream,
    ReconnectedStream,
    LegacyReconnect,
    ReconnectedSubscription,
    SharedStream,
    Shutdown,
    Leaving,
]


@pytest.mark.timeout(180)  # some hundred trials, each of them with a client of its own
@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda kind: kind.__name__)
def test_a_cancel_at_any_step_comes_out_and_leaves_a_whole_client(
    backend: Backend, operation: type[Operation], moment: Moment
) -> None:
    """It is not swallowed, the next call is answered, and no task, socket or count stays behind."""
    assert sweep(backend, operation, moment) > 3
