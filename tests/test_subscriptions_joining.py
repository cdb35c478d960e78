"""Who joins a shared connection that is down does not wait for what the others have to wait for."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from aiohttp import web
from subscribing import Backend, Follower, Mode, Protocol, client_of, until
from talking import Server, Talk, talking

from graphql_prod import HTTPStatusError, SubscriptionPolicy
from graphql_prod.subscriptions.backoff import ReconnectBackoff

if TYPE_CHECKING:
    from collections.abc import Callable

    import pytest

HOURS: dict[str, Any] = {"wait_initial": 36000.0, "wait_max": 36000.0}


async def serve(talk: Talk) -> None:
    """Answers each subscription; the first connection is closed when its first subscription has an event."""
    await talk.hello()
    await talk.ack()
    while True:
        await talk.tell(await talk.asked(), talk.number)
        if talk.number == 1:
            await talk.close(1012)


def down(**headers: str) -> Callable[[], web.Response]:
    return lambda: web.Response(status=503, headers=headers)


async def waiting(caplog: pytest.LogCaptureFixture, n: int) -> None:
    """Wait until the connection has gone into its n-th wait."""
    await until(lambda: sum("the next attempt follows" in each for each in caplog.messages) == n)


class TestJoining:
    async def test_wakes_the_wait(
        self, backend: Backend, protocol: Protocol, mode: Mode, caplog: pytest.LogCaptureFixture
    ) -> None:
        """The server is back: who joins connects at once, and takes the others along."""
        async with (
            talking(serve) as server,
            client_of(server.url, backend, share_connection=True, linger=0.0, **HOURS) as client,
            Follower(client, "stream", protocol) as one,
        ):
            await waiting(caplog, 1)
            async with Follower(client, mode, protocol) as two:
                await two.began()
                await one.went_on()
                assert (one.values, two.values, two.gaps) == ([1, 2], [2], [])
                assert len(server.upgrades) == 2

    async def test_in_an_outage_fails_as_soon_as_on_its_own(
        self, backend: Backend, protocol: Protocol, mode: Mode, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Its attempts are its own: the others wait on."""
        async with (
            talking(serve) as server,
            client_of(
                server.url, backend, share_connection=True, linger=0.0, connect_attempts=1, **HOURS
            ) as client,
            Follower(client, "stream", protocol) as one,
        ):
            await waiting(caplog, 1)
            server.refuse = down()
            for n in (2, 3):
                assert isinstance(await Follower(client, mode, protocol).end(), HTTPStatusError)
                assert len(server.upgrades) == n
                await waiting(caplog, n)
            assert not one.task.done()

    async def test_no_earlier_than_the_server_allows(
        self, backend: Backend, protocol: Protocol, mode: Mode, caplog: pytest.LogCaptureFixture
    ) -> None:
        """``Retry-After`` holds for who joins, too."""
        async with (
            talking(serve) as server,
            client_of(server.url, backend, share_connection=True, linger=0.0, **HOURS) as client,
            Follower(client, "stream", protocol) as one,
        ):
            await waiting(caplog, 1)
            server.refuse = down(**{"Retry-After": "1"})
            async with Follower(client, "stream", protocol) as two:
                await waiting(caplog, 2)
                server.refuse = lambda: None
                async with Follower(client, mode, protocol) as three:
                    await three.began()
                    await two.began()
                    await one.went_on()
            assert len(server.upgrades) == 3
            assert server.upgrades[2] - server.upgrades[1] >= 1.0

    async def test_at_most_ten_connections_a_second(
        self, backend: Backend, protocol: Protocol, caplog: pytest.LogCaptureFixture
    ) -> None:
        """However many join one after another."""
        caplog.set_level(logging.CRITICAL, "graphql_prod")
        async with (
            talking(serve) as server,
            client_of(
                server.url, backend, share_connection=True, linger=0.0, connect_attempts=1, **HOURS
            ) as client,
            Follower(client, "stream", protocol) as one,
        ):
            await one.began()
            server.refuse = down()
            for _ in range(15):
                assert isinstance(await Follower(client, "stream", protocol).end(), HTTPStatusError)
            assert_spaced(server)


def assert_spaced(server: Server) -> None:
    """No eleven upgrades within a second."""
    times = server.upgrades
    assert len(times) > 11
    assert min(later - earlier for earlier, later in zip(times, times[10:], strict=False)) >= 1.0


def test_who_came_later_waits_no_longer_than_alone() -> None:
    """An old outage has made the wait long; that of a newcomer begins at the beginning."""
    backoff = ReconnectBackoff(SubscriptionPolicy(wait_initial=1, wait_max=1000))
    for _ in range(30):
        backoff.wait()
    assert all(backoff.wait(0.0, n) <= 2 ** (n - 1) for n in (1, 2, 3) for _ in range(20))
    assert max(backoff.wait() for _ in range(100)) > 100
