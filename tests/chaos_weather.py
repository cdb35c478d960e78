"""What goes wrong between the clients of the chaos test and their server."""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import TYPE_CHECKING

from aiographql.client import GraphQLClientException
from chaos_books import (
    EXPIRED,
    LARGE,
    PONG,
    REST,
    SLOW_LINK,
    STRAY,
    TICK,
    Findings,
    Lag,
    Mutations,
    bad_answer,
    listening,
)
from chaos_endings import Endings, token_of
from subscribing import COUNT, PROTOCOLS, value_of

from graphql_prod import (
    ProductionClient,
    SubscriptionGap,
)
from graphql_prod.testing import FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections import Counter
    from collections.abc import Awaitable, Callable
    from random import Random

    from subscribing import Backend, Protocol


class Weather:
    """Trouble of all kinds, one after another."""

    backend: Backend
    done: Counter[str]
    over: bool
    mutations: Mutations
    _server: ScriptedServer
    _proxy: FaultyProxy
    _endings: Endings
    _loop: asyncio.AbstractEventLoop
    _token: int
    _used: int
    _turned_away: set[int]
    _held: int
    _go: asyncio.Event
    _under_way: int
    _lasting: list[ProductionClient]
    findings: Findings
    lag: Lag

    def chance(self, name: str) -> Random:
        """Of its own for each who draws."""
        raise NotImplementedError

    async def _start_server(self) -> None:
        raise NotImplementedError

    def _client(self, *, share: bool) -> ProductionClient:
        raise NotImplementedError

    # The weather.

    async def _weather(self) -> None:
        chance = self.chance("weather")
        kinds = [
            self._latency,
            self._slices,
            self._large,
            self._blackhole,
            self._limit,
            self._refuses,
            self._down,
            self._resets,
            self._half_closes,
            self._restart,
            self._closes,
            self._errors,
            self._errors,
            self._errors,
            self._silent,
            self._expires,
            self._expires,
            self._blocks,
            self._steers,
            self._steers,
            self._second_answer,
            self._second_answer,
            self._answers,
            self._answers,
            self._answers,
        ]
        # It takes a while, so that a short run would perhaps never come to it.
        trouble: Callable[[Random, float], Awaitable[None]] = self._large
        while not self.over:
            await trouble(chance, chance.uniform(0.05, 1))
            trouble = chance.choice(kinds)
            self.done["troubles"] += 1
            await asyncio.sleep(chance.uniform(0.05, 0.6))

    async def _latency(self, chance: Random, seconds: float) -> None:
        self._proxy.latency = chance.uniform(0.005, 0.2)
        await asyncio.sleep(seconds)
        self._proxy.latency = 0.0

    async def _slices(self, chance: Random, seconds: float) -> None:
        self._proxy.slicing = chance.randint(5, 60), chance.uniform(0.0005, 0.003)
        await asyncio.sleep(seconds)
        self._proxy.slicing = None

    async def _large(self, chance: Random, _: float) -> None:
        """Large events over a slow link: who begins now gets them all, and no connection is given up."""
        self._server.padding, self._server.tick, self._proxy.slicing = LARGE, 0.3, SLOW_LINK
        try:
            async with self._client(share=chance.random() < 0.5) as client:
                await self._takes_large(client, chance.choice(PROTOCOLS))
        finally:
            self._server.padding, self._server.tick, self._proxy.slicing = 0, TICK, None

    async def _takes_large(self, client: ProductionClient, protocol: Protocol) -> None:
        begun = self._loop.time()
        seen: list[object] = []
        try:
            async with (
                asyncio.timeout(REST),
                contextlib.aclosing(
                    client.stream(COUNT, variables={"from": 0, "to": 1}, protocols=protocol, gaps=True)
                ) as items,
            ):
                async for item in items:
                    if isinstance(item, SubscriptionGap):
                        seen.append(item)
                        break
                    seen.append(value_of(item))
                    self.done["large events"] += 1
        except (GraphQLClientException, TimeoutError) as error:
            seen.append(error)
        took = self._loop.time() - begun
        self.findings.check(
            seen == [0, 1] or self.lag.since(begun) > PONG / 2,
            f"{self.backend}: of large events over a slow link came {seen} in {took:.1f} s",
        )

    async def _blackhole(self, _: Random, seconds: float) -> None:
        self._proxy.blackhole = True
        await asyncio.sleep(2 * seconds)
        self._proxy.reset_connections()  # TCP never delivers what comes after a hole
        self._proxy.blackhole = False

    async def _limit(self, chance: Random, seconds: float) -> None:
        self._proxy.limit_bytes = chance.randint(0, 3000)
        await asyncio.sleep(seconds)
        self._proxy.limit_bytes = None

    async def _refuses(self, _: Random, seconds: float) -> None:
        self._proxy.refuse = True
        await asyncio.sleep(seconds)
        self._proxy.refuse = False

    async def _down(self, _: Random, seconds: float) -> None:
        await self._proxy.down()
        await asyncio.sleep(seconds)
        await listening(self._proxy.up)

    async def _resets(self, chance: Random, _: float) -> None:
        chance.choice([self._proxy.reset_connections, self._server.reset_sockets])()

    async def _half_closes(self, _: Random, seconds: float) -> None:
        self._proxy.half_close()
        await asyncio.sleep(seconds)
        self._proxy.reset_connections()  # what it carries on would be carried for ever

    async def _restart(self, _: Random, seconds: float) -> None:
        """Another server in its place: it knows of nothing that was before but the counter."""
        await self._server.stop()
        self.mutations.arrived(self._server, self._turned_away)
        await asyncio.sleep(seconds)
        before, self._server = self._server, ScriptedServer(port=self._server.port)
        self._server.counter = before.counter
        await self._start_server()

    async def _closes(self, chance: Random, _: float) -> None:
        await self._server.close_sockets(chance.choice([1000, 1001, 1011, 1012, 1013, 4408, 4499, 4500]))

    async def _errors(self, chance: Random, _: float) -> None:
        await self._endings.end(self._server, chance)

    async def _silent(self, _: Random, seconds: float) -> None:
        self._server.never_ack = True
        self._server.reset_sockets()
        await asyncio.sleep(2 * seconds)
        self._server.never_ack = False
        self._server.reset_sockets()

    async def _expires(self, chance: Random, seconds: float) -> None:
        """A token's time is up, twice in a short while: calls see it, sockets hear of it or do not."""
        for _ in range(2):
            self._token += 1
            luck = chance.random()
            if luck < 0.5:
                await self._server.close_sockets(EXPIRED, "token expired")
            elif luck < 0.75:
                good = f"Bearer {self._token}"
                sockets = self._server.sockets
                stale = [each for each in sockets if token_of(self._server, each) not in (None, good)]
                await self._endings.refuse(self._server, stale, chance)
            await asyncio.sleep(seconds / 2)
            await self._is_used()
        # A renewal that did not help is not asked for again for 30 s: the provider has heard of it by itself.
        self._held = self._token

    async def _is_used(self) -> None:
        """Wait until the token has let a call in; a second at most, since nobody may get through."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(1):
                while self._used != self._token:
                    await asyncio.sleep(0.01)

    async def _blocks(self, chance: Random, seconds: float) -> None:
        """Somebody's code holds the loop while connections are closed: their ends wait to be read."""
        self._proxy.half_close()
        time.sleep(seconds / 4)  # noqa: ASYNC251 -- it is what happens to programs
        await asyncio.sleep(seconds)
        self._proxy.reset_connections()  # what it carries on would be carried for ever

    async def _steers(self, chance: Random, seconds: float) -> None:
        """An operator has all subscriptions connect anew, and does not wait for ever."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await chance.choice(self._lasting).reconnect_subscriptions()
        self.done["steered"] += 1

    async def _second_answer(self, _: Random, __: float) -> None:
        """While no call is under way, kept connections get one answer more: it is nobody's."""
        self._go.clear()
        while (self._under_way or self._on_their_way()) and not self.over:
            await asyncio.sleep(0.01)
        if not self.over:
            self._proxy.inject(STRAY)
        self._go.set()

    def _on_their_way(self) -> bool:
        """Whether clients ask by themselves: a probe outlives those who asked for it, as a refresh does."""
        return any(stats.in_flight or stats.pool.in_use for stats in (each.stats() for each in self._lasting))

    async def _answers(self, chance: Random, _: float) -> None:
        self._server.script(*(bad_answer(chance) for _ in range(chance.randint(1, 6))))
