"""Where a scene is played: a server of its own behind a bad network, and one of the two clients."""

from __future__ import annotations

import asyncio
import contextlib
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLClient
from aiographql.client.transport import AiohttpTransport, HttpxTransport

from graphql_prod.client import ProductionClient
from graphql_prod.config import ProductionConfig
from graphql_prod.demo.process import Cast, waiting
from graphql_prod.resilience.retry.policy import RetryPolicy
from graphql_prod.subscriptions.policy import SubscriptionPolicy
from graphql_prod.testing import FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiographql.client import GraphQLRequest

    from graphql_prod.credentials import HeadersProvider
    from graphql_prod.demo.process import Program, Work
    from graphql_prod.sessions.policy import Backend
    from graphql_prod.testing import ReceivedRequest

SUBSCRIPTIONS = SubscriptionPolicy(wait_initial=0.25, wait_max=0.25)
"""The default policy with shorter waits; those cannot do without chance."""


def retry(**more: Any) -> RetryPolicy:
    """The default policy with shorter waits, not drawn by chance: a show should be short, and repeatable."""
    return RetryPolicy(wait_initial=0.25, jitter="none", **more)


@dataclass(slots=True)
class Stage:
    """What a scene has at hand; one for all the scenes of a client."""

    cast: Cast
    client: GraphQLClient
    server: ScriptedServer
    proxy: FaultyProxy
    program: Program
    """The same client in a process of its own, which waits to be needed."""
    tell: Callable[[str], None] = lambda _: None
    """Puts a line about the network or the server into the timeline."""
    quote: Callable[[str], None] = lambda _: None
    """Puts what the program printed under it."""

    @property
    def arrivals(self) -> list[ReceivedRequest]:
        """All that reached the server in the order of its coming, upgrades to a WebSocket too."""
        return sorted([*self.server.requests, *self.server.upgrades], key=lambda request: request.at)

    @contextlib.asynccontextmanager
    async def made_of(self, settings: str) -> AsyncIterator[GraphQLClient]:
        """Our client, made of a settings file; the stock client, which reads none, as it is."""
        if not isinstance(self.client, ProductionClient):
            yield self.client
            return
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "client.toml"
            file.write_text(f'endpoint = "{self.client.endpoint}"\n{settings}', encoding="utf-8")
            self.tell("the client is made of client.toml")
            async with ProductionClient.from_config(file, validate=False) as client:
                yield client

    def tuned(self, **options: Any) -> GraphQLClient:
        """Our client with these options of ``with_options``; the stock client, which has none, as it is."""
        client = self.client
        return client.with_options(**options) if isinstance(client, ProductionClient) else client

    async def subscribe(self, request: GraphQLRequest, on_data: Callable[[Any], Any], **options: Any) -> None:
        """Subscribe, and wait for the end; ``options`` are for our client, the stock one has none such."""
        ours = options if isinstance(self.client, ProductionClient) else {}
        await self.client.subscribe(request, on_data=on_data, wait=True, **ours)

    @contextlib.asynccontextmanager
    async def restart(self, begin: asyncio.Event, seconds: float) -> AsyncIterator[None]:
        """At ``begin`` the server stops, for so long or until the block is left."""
        restarting = asyncio.create_task(self._restart(begin, seconds))
        try:
            yield
        finally:
            restarting.cancel()
            await asyncio.wait({restarting})
            await self.server.start()

    async def _restart(self, begin: asyncio.Event, seconds: float) -> None:
        await begin.wait()
        self.tell(f"the server stops for {seconds:g} s")
        await self.server.stop()
        await asyncio.sleep(seconds)
        await self.server.start()
        self.tell("the server is back, on its port")

    @contextlib.asynccontextmanager
    async def at_work(self, work: Work) -> AsyncIterator[asyncio.Task[None]]:
        """The program in the middle of its work, or at an early end; the task is done when it has ended."""
        ended = asyncio.create_task(self.program.run(self.client.endpoint, work))
        busy = asyncio.create_task(self._busy(work))
        try:
            await asyncio.wait({ended, busy}, return_when=asyncio.FIRST_COMPLETED)
            yield ended
        finally:
            ended.cancel()
            busy.cancel()
            await asyncio.wait({ended, busy})

    async def _busy(self, work: Work) -> None:
        """Its calls have arrived, and it has been sent events more quickly than it works."""
        calls, events = len(self.server.requests) + work.calls, len(self.server.events_sent)
        self.server.tick = 0.01
        await self.server.received(calls)
        await self.server.until(lambda: len(self.server.events_sent) >= events + 10, "10 events")
        self.server.tick = 60.0
        await work.begun.wait()
        work.sent = len(self.server.events_sent) - events

    @contextlib.asynccontextmanager
    async def outage(self, seconds: float) -> AsyncIterator[None]:
        """The network is down for so long, or until the block is left."""
        over = asyncio.Event()
        await self.proxy.down()
        self.tell(f"the network goes down for {seconds:g} s")
        restored = asyncio.create_task(self._restore(over, seconds))
        try:
            yield
        finally:
            over.set()
            await restored

    async def _restore(self, over: asyncio.Event, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await over.wait()
        await self.proxy.up()
        if not over.is_set():
            self.tell("the network is back")


@contextlib.asynccontextmanager
async def staged(cast: Cast, backend: Backend) -> AsyncIterator[Stage]:
    """A stage; all of it is closed at the end."""
    async with (
        ScriptedServer() as server,
        FaultyProxy(server.port) as proxy,
        make(cast, proxy.url_for(server.path), backend, headers_provider=Tokens()) as client,
        waiting(cast, backend) as program,
    ):
        yield Stage(cast, client, server, proxy, program)


class Tokens:
    """Hands out a token, and a new one when the old one was refused."""

    def __init__(self) -> None:
        self._issued = 1

    def __call__(self, refresh: bool = False) -> dict[str, str]:
        self._issued += refresh
        return {"Authorization": f"Bearer token-{self._issued}"}


def make(
    cast: Cast,
    url: str,
    backend: Backend,
    config: ProductionConfig | None = None,
    headers_provider: HeadersProvider | None = None,
) -> GraphQLClient:
    """A client. Neither validates, so that the requests counted are the scenes' own.

    ``config`` is for ours; None takes the show's shorter waits. The stock client takes no provider.
    """
    if cast == "graphql_prod":
        config = config or ProductionConfig(retry=retry(), subscriptions=SUBSCRIPTIONS)
        return ProductionClient(
            url, validate=False, backend=backend, config=config, headers_provider=headers_provider
        )
    transport = AiohttpTransport(url) if backend == "aiohttp" else HttpxTransport(url)
    return GraphQLClient(url, validate=False, transport=transport)
