"""What tests of subscriptions share: a consumer of either kind, short waits, clocks that tell of waits."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING, Any, Literal, Self

from graphql_prod import ProductionClient, ProductionConfig, SubscriptionGap, SubscriptionPolicy, clock

if TYPE_CHECKING:
    import logging
    from collections.abc import AsyncIterator, Callable, Mapping
    from types import TracebackType

    import pytest
    from aiographql.client import GraphQLRequest, GraphQLSubscription, GraphQLSubscriptionEvent

    from graphql_prod.testing import ScriptedServer

Backend = Literal["aiohttp", "httpx"]
Protocol = Literal["graphql-transport-ws", "graphql-ws"]
Mode = Literal["subscribe", "stream"]

PROTOCOLS: tuple[Protocol, ...] = ("graphql-transport-ws", "graphql-ws")
COUNT = "subscription Count($from: Int, $to: Int) { count(from: $from, to: $to) }"
STARTS, STOPS = ("subscribe", "start"), ("complete", "stop")


@contextlib.asynccontextmanager
async def client_of(
    url: str,
    backend: Backend | None = None,
    *,
    objects: Mapping[str, Any] | None = None,
    settings: Mapping[str, Any] | None = None,
    **policy: Any,
) -> AsyncIterator[ProductionClient]:
    """A client with hardly any waits; ``policy`` is that of subscriptions.

    ``objects`` go to the constructor, ``settings`` to the config.
    """
    subscriptions = SubscriptionPolicy(**{"wait_initial": 0.001, "wait_max": 0.01, **policy})
    config = ProductionConfig(subscriptions=subscriptions, **(settings or {}))
    client = ProductionClient(url, validate=False, backend=backend, config=config, **(objects or {}))
    async with client:
        yield client


async def until(true: Callable[[], object], what: Callable[[], object] = lambda: "the fact") -> None:
    """Wait until it is true, 10 s at most."""
    try:
        async with asyncio.timeout(10):
            while not true():
                await asyncio.sleep(0.001)
    except TimeoutError:
        raise AssertionError(f"waited in vain for {what()}") from None


def value_of(event: GraphQLSubscriptionEvent) -> int:
    """The number that an event of COUNT carries."""
    payload: Any = event.payload
    return int(payload.data["count"])


def onward(last: GraphQLSubscriptionEvent | None, variables: Mapping[str, Any]) -> dict[str, Any]:
    """Resume where it stopped."""
    return dict(variables) if last is None else {**variables, "from": value_of(last) + 1}


def sent(server: ScriptedServer, kinds: tuple[str, ...], connection: int | None = None) -> list[str]:
    """The ids of the messages of a kind that clients have sent."""
    return [
        each.message["id"]
        for each in server.messages
        if each.message.get("type") in kinds and connection in (None, each.connection)
    ]


class Follower:
    """A subscription, by callbacks or as a stream: what came, in order, and how it ended."""

    def __init__(
        self,
        client: ProductionClient,
        mode: Mode,
        protocol: Protocol | None = None,
        request: str | GraphQLRequest = COUNT,
        **arguments: Any,
    ) -> None:
        self.seen: list[int | SubscriptionGap] = []
        self.errors: list[GraphQLSubscriptionEvent] = []
        self.subscription: GraphQLSubscription | None = None
        self.gate = asyncio.Event()
        """Events are taken, and each is held until the gate opens."""
        self.gate.set()
        if protocol is not None:
            arguments["protocols"] = protocol
        run = self._stream if mode == "stream" else self._subscribe
        self.task = asyncio.create_task(run(client, request, arguments))

    @property
    def values(self) -> list[int]:
        return [each for each in self.seen if isinstance(each, int)]

    @property
    def gaps(self) -> list[SubscriptionGap]:
        return [each for each in self.seen if isinstance(each, SubscriptionGap)]

    @property
    def resumed(self) -> bool:
        """Whether an event came after a gap."""
        return bool(self.gaps) and isinstance(self.seen[-1], int)

    async def _stream(
        self, client: ProductionClient, request: str | GraphQLRequest, arguments: dict[str, Any]
    ) -> None:
        async with contextlib.aclosing(client.stream(request, gaps=True, **arguments)) as events:
            async for event in events:
                await self._take(event)

    async def _subscribe(
        self, client: ProductionClient, request: str | GraphQLRequest, arguments: dict[str, Any]
    ) -> None:
        self.subscription = await client.subscribe(
            request, on_data=self._take, on_gap=self._take, on_error=self._fail, **arguments
        )
        assert self.subscription.task is not None
        await self.subscription.task

    async def _take(self, event: GraphQLSubscriptionEvent | SubscriptionGap) -> None:
        self.seen.append(event if isinstance(event, SubscriptionGap) else value_of(event))
        await self.gate.wait()

    async def _fail(self, event: GraphQLSubscriptionEvent) -> None:
        self.errors.append(event)

    async def until(self, true: Callable[[], object]) -> None:
        """Wait until it is true, while the subscription lasts."""
        await until(lambda: true() or self.task.done(), lambda: f"it; seen: {self.seen[-20:]}")
        if not true():
            self.task.result()
            raise AssertionError(f"the subscription ended before it; seen: {self.seen[-20:]}")

    async def came(self, n: int = 1) -> None:
        """Wait until ``n`` events more than now have come."""
        wanted = len(self.values) + n
        await self.until(lambda: len(self.values) >= wanted)

    async def began(self, n: int = 1) -> None:
        """Wait until ``n`` events have come in all."""
        await self.until(lambda: len(self.values) >= n)

    async def went_on(self, gaps: int = 1) -> None:
        """Wait until so many gaps have been told, and an event after the last of them."""
        await self.until(lambda: len(self.gaps) == gaps and self.resumed)

    async def lasts(self, seconds: float) -> None:
        """Stay subscribed for at least so long."""
        over = time.monotonic() + seconds
        await self.until(lambda: time.monotonic() > over)

    async def end(self) -> BaseException | None:
        """Wait for the end: the exception, or None."""
        await until(self.task.done, lambda: f"the end; seen: {self.seen[-20:]}")
        return self.task.exception()

    async def stop(self) -> None:
        """Unsubscribe, and wait until nothing of it is left."""
        self.gate.set()
        if self.subscription is not None:
            await asyncio.wait_for(self.subscription.unsubscribe_and_wait(), 10)
        else:
            self.task.cancel()
        await until(self.task.done)
        if not self.task.cancelled():
            self.task.exception()  # whoever cares has asked for it

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()


class InstantWaits(clock.Clock):
    """Waits end at once, and are remembered; the time that they would have taken is over."""

    def __init__(self) -> None:
        self.waits: list[float] = []
        self._skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self._skipped

    def wake(self, waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
        self.waits.append(seconds)
        self._skipped += seconds
        return waiter.get_loop().call_soon(clock.end, waiter)


class EndlessWaits(InstantWaits):
    """Waits never end, and are remembered."""

    def wake(self, waiter: asyncio.Future[None], seconds: float) -> asyncio.Handle:
        self.waits.append(seconds)
        return waiter.get_loop().call_later(1e6, clock.end, waiter)


class Provider:
    """Hands out token-0, and the next one at each renewal."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        return {"authorization": f"token-{sum(self.asked)}"}


EVENTS = {"graphql-transport-ws": "next", "graphql-ws": "data"}


async def through(subscription: GraphQLSubscription) -> None:
    """Wait until the subscription has ended by itself; what it raises is raised."""
    assert subscription.task is not None
    await asyncio.wait_for(asyncio.shield(subscription.task), 10)


def of_ours(caplog: pytest.LogCaptureFixture, level: int) -> list[logging.LogRecord]:
    """What the package logged at that level."""
    return [r for r in caplog.records if r.name == "graphql_prod" and r.levelno == level]
