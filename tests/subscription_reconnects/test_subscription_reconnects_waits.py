"""How long a reconnect waits, and what is fatal."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLSubscriptionEvent
from subscribing import (
    COUNT,
    Backend,
    Follower,
    InstantWaits,
    Mode,
    Protocol,
    client_of,
    onward,
    until,
)

from graphql_prod import (
    HTTPStatusError,
    SubscriptionClosedError,
    clock,
)
from graphql_prod.testing import ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping


# 1015 is fatal too, but no close frame may carry it.
FATAL = (4400, 4401, 4403, 4406, 4409, 4429, 4500, 1002, 1003, 1007, 1009, 1010)


class TestWaits:
    async def test_a_server_that_accepts_and_closes_is_not_hammered(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """The waits go on growing although each connection succeeds: it did not stay up."""
        closings = 0

        async def close_each() -> None:
            nonlocal closings
            for number in range(1, 26):
                await counting.subscribed(number)
                await counting.close_sockets(1012)
                closings = number

        with clock.using(InstantWaits()) as recorded:
            async with (
                client_of(counting.url, backend, wait_initial=0.001, wait_max=1000) as client,
                Follower(client, "stream", protocol) as follower,
            ):
                await asyncio.wait_for(close_each(), 20)
                await follower.until(lambda: len(follower.gaps) == closings)
        assert isinstance(recorded, InstantWaits)
        # The n-th wait is drawn from 0 to wait_initial * 2 ** n: forgotten each time, it never exceeds that.
        assert len(recorded.waits) >= 24
        assert max(recorded.waits) > 1
        assert max(recorded.waits) <= 1000

    async def test_waits_are_drawn_between_nothing_and_a_bound_that_doubles_up_to_wait_max(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """Full jitter: a fleet that lost the same server does not come back in step."""
        with clock.using(InstantWaits()) as recorded:
            async with (
                client_of(counting.url, backend, wait_initial=1, wait_max=8) as client,
                Follower(client, "stream") as follower,
            ):
                await follower.came()
                counting.on_connect = lambda _: 503
                counting.reset_sockets()
                await counting.until(lambda: len(counting.upgrades) > 150)
        assert isinstance(recorded, InstantWaits)
        waits = recorded.waits
        assert all(0 <= wait <= min(8, 2**n) for n, wait in enumerate(waits))
        later = waits[5:]
        assert min(later) < 2 < 6 < max(later)
        assert len(set(later)) > 100

    async def test_the_backoff_is_forgotten_after_the_connection_stayed_up(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """stable_after: then the next loss is answered as the first one was."""
        with clock.using(InstantWaits()) as recorded:
            async with (
                client_of(
                    counting.url, backend, wait_initial=0.001, wait_max=1000, stable_after=0.05
                ) as client,
                Follower(client, "stream") as follower,
            ):
                await follower.came()
                counting.on_connect = lambda _: 503 if len(counting.upgrades) < 25 else None
                counting.reset_sockets()
                await follower.went_on()
                await follower.lasts(0.1)
                await follower.came()
                assert isinstance(recorded, InstantWaits)
                assert max(recorded.waits) > 1
                recorded.waits.clear()
                counting.reset_sockets()
                await follower.until(lambda: len(follower.gaps) == 2)
                assert recorded.waits
                assert max(recorded.waits) <= 0.01

    async def test_no_waiting_takes_the_waits_out(
        self, counting: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """As testing.no_waiting() promises for every client."""
        with no_waiting():
            async with (
                client_of(counting.url, backend, wait_initial=3600, wait_max=3600) as client,
                Follower(client, mode, resume=onward) as follower,
            ):
                await follower.came()
                counting.on_connect = lambda _: 503 if len(counting.upgrades) < 4 else None
                counting.reset_sockets()
                await follower.went_on()

    async def test_max_reconnects_is_a_number_of_attempts_in_a_row(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Spent, the subscription ends with an error that says so."""
        async with (
            client_of(counting.url, backend, max_reconnects=3) as client,
            Follower(client, mode, protocol) as follower,
        ):
            await follower.came()
            counting.on_connect = lambda _: 503
            counting.reset_sockets()
            error = await follower.end()
            assert isinstance(error, SubscriptionClosedError)
            assert "max_reconnects" in str(error)
            assert len(counting.upgrades) == 4
            assert (client.stats().subscriptions, client.stats().sockets) == (0, 0)
            if mode == "subscribe":
                assert [event.exception for event in follower.errors] == [error]  # type: ignore[attr-defined]

    async def test_reconnects_that_did_not_last_count_on(
        self, counting: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """A success is no success before stable_after."""
        async with (
            client_of(counting.url, backend, max_reconnects=2, stable_after=1000) as client,
            Follower(client, mode) as follower,
        ):
            for number in (1, 2, 3):
                await counting.subscribed(number)
                await follower.came()
                await counting.close_sockets(1012, "restart")
            error = await follower.end()
            assert isinstance(error, SubscriptionClosedError)
            assert len(counting.upgrades) == 3

    async def test_no_reconnects_at_all(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """max_reconnects=0: the first loss is the end."""
        async with (
            client_of(counting.url, backend, max_reconnects=0) as client,
            Follower(client, mode, protocol) as follower,
        ):
            await follower.came()
            await counting.close_sockets(1012, "restart")
            error = await follower.end()
            assert isinstance(error, SubscriptionClosedError)
            assert (error.close_code, error.close_reason) == (1012, "restart")
            assert len(counting.upgrades) == 1


def _always(code: int) -> Callable[[Mapping[str, Any]], int]:
    return lambda _: code


class TestFatal:
    async def test_a_fatal_code_before_the_acknowledgement_is_raised_at_once(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """From subscribe(), or from the first step of stream(), after one attempt."""
        async with client_of(server.url, backend) as client:
            for attempts, code in enumerate(FATAL, 1):
                server.on_init = _always(code)
                error = await Follower(client, mode, protocol).end()
                assert isinstance(error, SubscriptionClosedError)
                assert error.close_code == code
                if code == 4403:
                    assert error.close_reason == "Forbidden"
                assert str(code) in str(error)
                assert server.host in str(error)
                assert len(server.upgrades) == attempts
                assert (client.stats().subscriptions, client.stats().sockets) == (0, 0)

    async def test_a_fatal_code_later_ends_it_with_an_error(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Out of stream(); out of the task, and to on_error, once, after the events before it."""
        async with client_of(counting.url, backend) as client:
            for attempts, code in enumerate(FATAL, 1):
                async with Follower(client, mode, protocol) as follower:
                    await follower.came(2)
                    await counting.close_sockets(code, "enough")
                    error = await follower.end()
                assert isinstance(error, SubscriptionClosedError)
                assert (error.close_code, error.close_reason) == (code, "enough")
                assert len(counting.upgrades) == attempts
                assert follower.gaps == []
                if mode == "subscribe":
                    [event] = follower.errors
                    assert isinstance(event, GraphQLSubscriptionEvent)
                    assert event.exception is error  # type: ignore[attr-defined]
                    assert follower.subscription is not None
                    assert not follower.subscription.active()

    async def test_a_fatal_code_on_a_reconnect_ends_it(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """The third place: after a loss, before the new acknowledgement."""
        async with (
            client_of(counting.url, backend) as client,
            Follower(client, mode, protocol) as follower,
        ):
            await follower.came(2)
            counting.on_init = lambda _: 4403
            counting.reset_sockets()
            error = await follower.end()
            assert isinstance(error, SubscriptionClosedError)
            assert (error.close_code, error.close_reason) == (4403, "Forbidden")
            assert len(counting.upgrades) == 2
            if mode == "subscribe":
                assert [event.exception for event in follower.errors] == [error]  # type: ignore[attr-defined]

    async def test_a_fatal_end_that_nobody_asks_for_is_no_complaint_of_asyncio(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """We retrieve the exception; the fixture looks for "was never retrieved"."""
        async with client_of(counting.url, backend) as client:
            subscription = await client.subscribe(COUNT)
            await counting.subscribed(1)
            await counting.close_sockets(4500)
            await until(lambda: not subscription.active())
            subscription.unsubscribe()  # forgets the task, as stock
        gc.collect()

    async def test_the_table_is_a_setting(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """What is in it ends, what is not reconnects; the default is replaced."""
        async with (
            client_of(counting.url, backend, fatal_close_codes={4999}) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            await follower.came()
            await counting.close_sockets(4500, "nearly")
            await follower.went_on()
            assert follower.gaps[0].close_code == 4500
            await counting.close_sockets(4999, "enough")
            error = await follower.end()
            assert isinstance(error, SubscriptionClosedError)
            assert error.close_code == 4999

    @pytest.mark.parametrize("status", [401, 403])
    async def test_an_upgrade_refused_for_its_credentials_is_fatal(
        self, counting: ScriptedServer, backend: Backend, mode: Mode, status: int
    ) -> None:
        """At first and on a reconnect; the status is in the cause."""
        async with client_of(counting.url, backend) as client:
            counting.on_connect = lambda _: status
            first = await Follower(client, mode).end()
            assert len(counting.upgrades) == 1
            counting.on_connect = None
            async with Follower(client, mode) as follower:
                await follower.came()
                counting.on_connect = lambda _: status
                counting.reset_sockets()
                later = await follower.end()
            assert len(counting.upgrades) == 3
            for error in (first, later):
                assert isinstance(error, SubscriptionClosedError)
                assert error.close_code is None
                assert isinstance(error.__cause__, HTTPStatusError)
                assert error.__cause__.status == status
