"""At most ten connections a second: no number switches the backoff off."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import Follower, client_of

from graphql_prod import SubscriptionPolicy, clock
from graphql_prod.subscriptions.backoff import MOST, SECONDS, ReconnectBackoff

if TYPE_CHECKING:
    from conftest import Backend
    from subscribing import Mode, Protocol

    from graphql_prod.testing import ScriptedServer


class FakeClock(clock.Clock):
    """Stands still until it is told."""

    now = 100.0

    def monotonic(self) -> float:
        return self.now


def test_ten_may_begin_at_once_and_the_next_waits() -> None:
    """The limit slides: another one may begin as soon as the tenth before it is a second old."""
    with clock.using(FakeClock()) as fake:
        assert isinstance(fake, FakeClock)
        backoff = ReconnectBackoff(SubscriptionPolicy(wait_initial=0, wait_max=0))
        for _ in range(MOST):
            assert backoff.early() == 0.0
            backoff.began()
            fake.now += 0.01
        assert backoff.early() == pytest.approx(SECONDS - MOST * 0.01)
        fake.now += 0.5
        assert backoff.early() == pytest.approx(SECONDS - MOST * 0.01 - 0.5)
        fake.now = 100.0 + SECONDS
        assert backoff.early() == 0.0
        backoff.began()
        assert backoff.early() == pytest.approx(0.01)


def test_no_second_has_more_than_ten() -> None:
    """Whatever the waits between are, each window of a second holds ten at most."""
    with clock.using(FakeClock()) as fake:
        assert isinstance(fake, FakeClock)
        backoff = ReconnectBackoff(SubscriptionPolicy(wait_initial=0, wait_max=0))
        begun = []
        for n in range(500):
            fake.now += max(backoff.wait(), backoff.early(), (0.0, 0.03, 0.2)[n % 3])
            backoff.began()
            begun.append(fake.now)
    assert all(later - earlier > 1 for earlier, later in zip(begun, begun[MOST:], strict=False))


def test_a_connection_that_stayed_up_does_not_reset_it() -> None:
    """Being stable forgets the failures, not how many connections there have just been."""
    with clock.using(FakeClock()):
        backoff = ReconnectBackoff(SubscriptionPolicy())
        for _ in range(MOST):
            backoff.began()
            backoff.forget()
        assert backoff.early() > 0


async def _counted(server: ScriptedServer, seconds: float) -> int:
    begun = time.monotonic()
    before = len(server.upgrades)
    while time.monotonic() - begun < seconds:
        await asyncio.sleep(0.01)
    return len(server.upgrades) - before


ZERO: dict[str, Any] = {"wait_initial": 0, "wait_max": 0, "stable_after": 0, "connect_attempts": 10**6}


@pytest.mark.parametrize("share", [False, True])
async def test_a_server_that_accepts_and_closes(
    server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, share: bool
) -> None:
    """Waits of 0 and a server that acknowledges and closes: ten connections a second, not hundreds."""
    server.tick = 0.001

    async def close_them() -> None:
        while True:
            await server.close_sockets(1012)
            await asyncio.sleep(0.002)

    closing = asyncio.create_task(close_them())
    try:
        async with (
            client_of(server.url, backend, share_connection=share, **ZERO) as client,
            Follower(client, mode, protocol),
        ):
            await server.until(lambda: bool(server.upgrades))
            assert await _counted(server, 1.0) <= MOST
            await server.until(lambda: len(server.upgrades) > MOST)
    finally:
        closing.cancel()


@pytest.mark.parametrize("how", ["refused", "closed", "reset"])
async def test_a_server_that_is_down(server: ScriptedServer, backend: Backend, how: str) -> None:
    """The attempts before the first acknowledgement count as well."""
    server.on_connect = lambda _: {"refused": 503, "closed": 1012, "reset": 1011}[how]
    async with (
        client_of(server.url, backend, **ZERO) as client,
        Follower(client, "stream"),
    ):
        await server.until(lambda: bool(server.upgrades))
        assert await _counted(server, 0.9) <= MOST


async def test_renewals_count(server: ScriptedServer, backend: Backend, protocol: Protocol) -> None:
    """Connections with renewed credentials wait for nothing but this."""
    server.on_init = lambda _: 4401 if len(server.upgrades) % 2 else None
    server.tick = 0.001

    async def close_them() -> None:
        for n in range(1, 1000):
            await server.subscribed(n)
            await server.close_sockets(1012)

    async def provider(refresh: bool = False) -> dict[str, str]:
        return {"Authorization": str(refresh)}

    closing = asyncio.create_task(close_them())
    try:
        async with (
            client_of(server.url, backend, objects={"headers_provider": provider}, **ZERO) as client,
            Follower(client, "stream", protocol),
        ):
            await server.until(lambda: bool(server.upgrades))
            assert await _counted(server, 0.9) <= MOST
            await server.until(lambda: len(server.upgrades) > MOST)
    finally:
        closing.cancel()
