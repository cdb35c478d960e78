"""Whatever is under way comes to its end."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import aiohttp
import httpx
import pytest
from shutting_down import HELLO, NOTHING, PATIENT, PHASES, counts_of, outcome_of
from subscribing import STOPS, EndlessWaits, Follower, Mode, client_of, sent, until

from graphql_prod import (
    ClientClosedError,
    HTTPStatusError,
    PoolPolicy,
    ProductionClient,
    ShutdownReport,
    clock,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable


Ending = Literal["in time", "too late"]
Ends = Mapping[Ending, tuple[list[Any], dict[str, int]]]
"""What callers get, and how that is counted."""
Way = Literal["once", "twice at once", "caller cancelled", "signal"]

ENDINGS: tuple[Ending, ...] = ("in time", "too late")


class Situation:
    """Work under way: how it comes about, what whoever waits for it gets, and how it is counted.

    What outlives the deadline waits for the gate; ``limit`` is that deadline. What ends by itself as soon as
    the client does can only outlive one of 0.
    """

    limit = 0.1
    sessions: tuple[str, ...] = ("aiohttp, ours", "httpx, given", "httpx, ours", "aiohttp, given")
    settings: ClassVar[Mapping[str, Any]] = {}
    ends: ClassVar[Ends] = {
        "in time": ([HELLO], {"requests_completed": 1}),
        "too late": ([ClientClosedError], {"requests_cancelled": 1}),
    }

    def __init__(self, server: ScriptedServer, waits: EndlessWaits, ending: Ending) -> None:
        self.server = server
        self.waits = waits
        self.ending = ending
        self.gate = asyncio.Event()
        self.objects: dict[str, Any] = {}
        self.tasks: list[asyncio.Task[Any]] = []
        self.followers: list[Follower] = []

    async def begin(self, client: ProductionClient) -> None:
        """Bring it about."""
        raise NotImplementedError

    def query(self, client: ProductionClient, times: int = 1) -> None:
        self.tasks += [asyncio.create_task(client.query("{ hello }")) for _ in range(times)]

    def follow(self, client: ProductionClient, mode: Mode) -> Follower:
        follower = Follower(client, mode)
        follower.gate = self.gate
        self.followers.append(follower)
        return follower

    async def outcomes(self) -> list[object]:
        tasks = [*self.tasks, *(each.task for each in self.followers)]
        ends = [await outcome_of(task) for task in tasks]
        return [*(value for each in self.followers for value in each.values), *ends]

    async def told(self) -> None:
        """What the server has heard of it."""


class InFlight(Situation):
    async def begin(self, client: ProductionClient) -> None:
        self.server.script(Answer(gate=self.gate))
        self.query(client)
        await self.server.received(1)


class WaitingForARetry(Situation):
    limit = 0.0
    settings = PATIENT
    ends: ClassVar[Ends] = dict.fromkeys(ENDINGS, ([HTTPStatusError], {"requests_completed": 1}))

    async def begin(self, client: ProductionClient) -> None:
        self.server.script(Answer.page(503))
        self.query(client)
        await until(lambda: self.waits.waits)

    async def told(self) -> None:
        assert len(self.server.requests) == 1


class WaitingForThePool(Situation):
    sessions = ("aiohttp, ours", "httpx, ours")  # nobody waits for a pool that is not ours

    settings: ClassVar[Mapping[str, Any]] = {"pool": PoolPolicy(requests=1, retry_headroom=0)}
    ends: ClassVar[Ends] = {
        "in time": ([HELLO, HELLO], {"requests_completed": 2}),
        "too late": ([ClientClosedError, ClientClosedError], {"requests_cancelled": 2}),
    }

    async def begin(self, client: ProductionClient) -> None:
        self.server.script(Answer(gate=self.gate))
        self.query(client, 2)
        await self.server.received(1)

    async def told(self) -> None:
        assert len(self.server.requests) == (2 if self.ending == "in time" else 1)


class Streaming(Situation):
    """The consumer holds the first event; three more wait."""

    mode: Mode = "stream"
    ends: ClassVar[Ends] = {
        "in time": ([0, 1, 2, 3, None], {"subscriptions_drained": 1}),
        "too late": ([0, ClientClosedError], {"subscriptions_cancelled": 1}),
    }

    async def begin(self, client: ProductionClient) -> None:
        self.server.tick = 1e6
        follower = self.follow(client, self.mode)
        await follower.began()
        [start] = await self.server.subscribed(1)
        for value in (1, 2, 3):
            event = {"type": "next", "id": start.message["id"], "payload": {"data": {"count": value}}}
            await self.server.send_to_sockets(event)
        await follower.until(lambda: client.stats().events == 4)

    async def told(self) -> None:
        await until(lambda: sent(self.server, STOPS) == [self.server.messages[1].message["id"]])


class CallingBack(Streaming):
    mode = "subscribe"


class Subscribing(Situation):
    """The server has not acknowledged the connection."""

    mode: Mode = "subscribe"
    limit = 0.0
    ends: ClassVar[Ends] = dict.fromkeys(ENDINGS, ([ClientClosedError], {"subscriptions_cancelled": 1}))

    async def begin(self, client: ProductionClient) -> None:
        self.server.never_ack = True
        self.follow(client, self.mode)
        await until(lambda: self.server.messages)

    async def told(self) -> None:
        assert [each.message["type"] for each in self.server.messages] == ["connection_init"]


class BeginningToStream(Subscribing):
    mode = "stream"


class Reconnecting(Situation):
    """The connection is lost, and the next attempt far away; everything that came has been read."""

    mode: Mode = "subscribe"
    limit = 0.0
    ends: ClassVar[Ends] = dict.fromkeys(ENDINGS, ([0, None], {"subscriptions_drained": 1}))

    async def begin(self, client: ProductionClient) -> None:
        self.server.tick = 1e6
        self.gate.set()
        await self.follow(client, self.mode).began()
        self.server.reset_sockets()
        await until(lambda: self.waits.waits)

    async def told(self) -> None:
        assert sent(self.server, STOPS) == []


class ReconnectingAStream(Reconnecting):
    mode = "stream"


class Refreshing(Situation):
    """The server has refused the credentials; the provider is about to renew them."""

    def __init__(self, server: ScriptedServer, waits: EndlessWaits, ending: Ending) -> None:
        super().__init__(server, waits, ending)
        self.asked: list[bool] = []
        self.objects["headers_provider"] = self._provide

    async def _provide(self, *, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        if refresh:
            await self.gate.wait()
        return {"Authorization": f"Bearer {len(self.asked)}"}

    async def begin(self, client: ProductionClient) -> None:
        self.server.script(Answer.page(401))
        self.query(client)
        await until(lambda: len(self.asked) == 2)

    async def told(self) -> None:
        assert len(self.server.requests) == (2 if self.ending == "in time" else 1)


class Introspecting(Situation):
    """A query that needs the schema first: one call, not two."""

    async def begin(self, client: ProductionClient) -> None:
        self.server.on("IntrospectionQuery", Answer(gate=self.gate))
        self.ask(client.with_options(validate=True))
        await self.server.received(1)

    def ask(self, client: ProductionClient) -> None:
        self.query(client)


class IntrospectingToSubscribe(Introspecting):
    """The introspection is a call and may finish; what it was for has not begun."""

    ends: ClassVar[Ends] = {
        "in time": ([ClientClosedError], {"requests_completed": 1}),
        "too late": ([ClientClosedError], {"requests_cancelled": 1}),
    }

    def ask(self, client: ProductionClient) -> None:
        self.follow(client, "subscribe")

    async def told(self) -> None:
        assert self.server.upgrades == []


SITUATIONS: tuple[type[Situation], ...] = (
    InFlight,
    WaitingForARetry,
    WaitingForThePool,
    Streaming,
    CallingBack,
    Subscribing,
    BeginningToStream,
    Reconnecting,
    ReconnectingAStream,
    Refreshing,
    Introspecting,
    IntrospectingToSubscribe,
)
WAYS: tuple[Way, ...] = ("once", "twice at once", "caller cancelled", "signal")

# Sessions take turns, so that each kind of work, each way and each ending meets each of them.
PRODUCT = [
    pytest.param(
        kind, ending, way, (kind.sessions * 2)[(k + e + w) % 4], id=f"{kind.__name__}-{ending}-{way}"
    )
    for k, kind in enumerate(SITUATIONS)
    for e, ending in enumerate(ENDINGS)
    for w, way in enumerate(WAYS)
]


@contextlib.asynccontextmanager
async def session_of(kind: str, url: str) -> AsyncIterator[dict[str, Any]]:
    """The constructor's arguments; a session that is given must still work at the end."""
    if kind.endswith("ours"):
        yield {"backend": kind.partition(",")[0]}
        return
    body = {"query": "{ hello }"}
    if kind.startswith("aiohttp"):
        async with aiohttp.ClientSession() as given:
            yield {"session": given}
            async with given.post(url, json=body) as response:
                assert (await response.json(content_type=None))["data"] == HELLO
    else:
        async with httpx.AsyncClient(verify=False) as given:
            yield {"session": given}
            assert (await given.post(url, json=body)).json()["data"] == HELLO


async def shut_down(
    client: ProductionClient, way: Way, deadline: float | None, halfway: Callable[[], None]
) -> ShutdownReport:
    """End a client in one of the ways, and do something as soon as that has begun."""
    begun = asyncio.Event()
    client.on_shutdown(begun.set)
    if way == "signal":
        handlers = [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)]
        client.install_signal_handlers()
        os.kill(os.getpid(), signal.SIGTERM)
        await begun.wait()
        halfway()
        report = await client.shutdown()
        assert [signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)] == handlers
        return report
    callers = [asyncio.create_task(client.shutdown(deadline)) for _ in range(1 + (way == "twice at once"))]
    await begun.wait()
    if way == "caller cancelled":
        callers[0].cancel()
        assert await outcome_of(callers.pop()) is asyncio.CancelledError
        callers.append(asyncio.create_task(client.shutdown()))
    halfway()
    reports = await asyncio.gather(*callers)
    assert all(report is reports[0] for report in reports)
    return reports[0]


@pytest.mark.parametrize(("kind", "ending", "way", "session"), PRODUCT)
async def test_whatever_is_under_way_comes_to_its_end(
    server: ScriptedServer, kind: type[Situation], ending: Ending, way: Way, session: str
) -> None:
    """In time it finishes, at the deadline it is cut; its caller learns which, and the report counts it."""
    waits = EndlessWaits()
    server.init_timeout = None
    situation = kind(server, waits, ending)
    deadline = 20.0 if ending == "in time" else situation.limit
    async with FaultyProxy(server.port) as proxy, session_of(session, proxy.url_for()) as arguments:
        backend = arguments.pop("backend", None)
        settings = {**situation.settings, "shutdown": {"deadline": deadline}}
        objects = {**situation.objects, **arguments}
        async with (
            client_of(proxy.url_for(), backend, objects=objects, settings=settings) as client,
            asyncio.timeout(20),
        ):
            with clock.using(waits):
                await situation.begin(client)
                opens = situation.gate.set if ending == "in time" else lambda: None
                report = await shut_down(client, way, deadline, opens)
            assert client.state == "closed"
            if session.endswith("ours"):
                await proxy.until(lambda: proxy.open == 0)
            await server.socket_count(0)
            situation.gate.set()  # whoever was cut off in the middle of something looks up now
            outcomes, counts = situation.ends[ending]
            assert await situation.outcomes() == outcomes
            assert counts_of(report) == NOTHING | counts
            assert (report.hooks_failed, report.errors) == ((), ())
            assert report.clean == (not counts.keys() & {"requests_cancelled", "subscriptions_cancelled"})
            assert list(report.phases) == PHASES
            assert deadline * (ending == "too late") <= report.duration + 0.02 < 15
            assert client.stats().in_flight == client.stats().subscriptions == client.stats().sockets == 0
            await situation.told()
