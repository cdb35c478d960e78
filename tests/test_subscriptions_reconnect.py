"""A subscription outlives its connection, tells of it, and ends where going on would be wrong."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import socket
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiographql.client import GraphQLSubscriptionEvent
from aiographql.client.exceptions import GraphQLTransportException
from aiohttp.abc import AbstractResolver, ResolveResult
from subscribing import (
    COUNT,
    STARTS,
    Backend,
    EndlessWaits,
    Follower,
    InstantWaits,
    Mode,
    Protocol,
    client_of,
    onward,
    sent,
    until,
)

from graphql_prod import (
    HTTPStatusError,
    RequestTimeoutError,
    SubscriptionClosedError,
    TransportError,
    clock,
)
from graphql_prod.testing import Answer, FaultyProxy, ReceivedRequest, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator, Mapping

    from graphql_prod import ProductionClient

# 1015 is fatal too, but no close frame may carry it.
FATAL = (4400, 4401, 4403, 4406, 4409, 4429, 4500, 1002, 1003, 1007, 1009, 1010)


@pytest.fixture(autouse=True)
def nothing_goes_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception of a task of ours is left for asyncio to complain about."""
    yield
    gc.collect()
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


async def _reset(server: ScriptedServer, _: FaultyProxy) -> None:
    server.reset_sockets()


async def _fin(_: ScriptedServer, proxy: FaultyProxy) -> None:
    proxy.half_close()


async def _restart(server: ScriptedServer, _: FaultyProxy) -> None:
    await server.stop()
    await server.start()


async def _outage(_: ScriptedServer, proxy: FaultyProxy) -> None:
    await proxy.down()
    await proxy.up()


def _close(code: int) -> Callable[[ScriptedServer, FaultyProxy], Awaitable[None]]:
    async def close(server: ScriptedServer, _: FaultyProxy) -> None:
        await server.close_sockets(code, "maintenance")

    return close


LOSSES = {
    "reset": (_reset, None),
    "fin": (_fin, None),
    "restart": (_restart, None),
    "outage": (_outage, None),
    "closed": (_close(1012), 1012),
}


async def answered(proxy: FaultyProxy) -> None:
    """Wait until something went up, and something came down."""
    up, down = proxy.bytes_up, proxy.bytes_down
    await proxy.until(lambda: proxy.bytes_up > up and proxy.bytes_down > down)


class TestGoingOn:
    @pytest.mark.parametrize("loss", LOSSES)
    async def test_a_lost_connection_is_replaced_and_the_gap_is_told_in_its_place(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, loss: str
    ) -> None:
        """However it was lost: the cursor goes on where it stopped, no event is lost or doubled."""
        lose, code = LOSSES[loss]
        async with (
            FaultyProxy(counting.port) as proxy,
            client_of(proxy.url_for(), backend) as client,
            Follower(client, mode, protocol, variables={"from": 5}, resume=onward) as follower,
        ):
            await follower.came(3)
            await lose(counting, proxy)
            await follower.went_on()
            values, [gap] = follower.values, follower.gaps
            assert values == list(range(5, 5 + len(values)))
            assert (gap.close_code, gap.dropped) == (code, 0)
            assert gap.attempts >= 1
            assert gap.down_for >= 0
            assert gap.close_reason
            assert client.stats().reconnects >= 1
            assert len({*sent(counting, STARTS)}) == 1, "the id stays"

    async def test_each_loss_is_told(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Again and again: as many gaps as losses, in their places, for every code that is not fatal."""
        codes = (1000, None, 1001, 1008, 1011, None, 1012, 1013, 4408, 4499)
        async with (
            client_of(counting.url, backend) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            for number, code in enumerate(codes, 1):
                await follower.came(2)
                if code is None:
                    counting.reset_sockets()
                else:
                    await counting.close_sockets(code, "maintenance")
                await follower.went_on(number)
            assert [gap.close_code for gap in follower.gaps] == list(codes)
            assert {gap.close_reason for gap in follower.gaps if gap.close_code} == {"maintenance"}
            assert follower.values == list(range(len(follower.values)))

    async def test_without_a_cursor_it_is_subscribed_as_at_first(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """The same document, variables and init payload; the server begins anew."""
        async with (
            client_of(counting.url, backend) as client,
            Follower(
                client, mode, protocol, variables={"from": 7}, connection_init_payload={"tenant": "a"}
            ) as follower,
        ):
            await follower.came(2)
            counting.reset_sockets()
            await follower.went_on()
            place = follower.seen.index(follower.gaps[0])
            assert follower.seen[place + 1] == 7
            inits = [m.message for m in counting.messages if m.message["type"] == "connection_init"]
            starts = [m.message for m in counting.messages if m.message["type"] in STARTS]
            assert inits[0] == inits[1]
            assert inits[0]["payload"]["tenant"] == "a"
            assert starts[0] == starts[1]

    async def test_a_connection_that_swallows_everything_is_noticed(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """No reset, no close, no event: the missing answer to a ping is a lost connection."""
        server.tick = 600
        async with (
            FaultyProxy(server.port) as proxy,
            client_of(proxy.url_for(), backend, ping_interval=0.05, pong_timeout=0.2) as client,
            Follower(client, mode, protocol) as follower,
        ):
            await follower.came()
            taken = proxy.accepted
            proxy.blackhole = True
            await proxy.connections(taken + 1)
            proxy.blackhole = False
            await follower.went_on()
            assert follower.gaps[0].close_code is None
            assert follower.gaps[0].close_reason

    async def test_a_silent_connection_that_answers_pings_stays(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Silence alone is no loss."""
        server.tick = 600
        async with (
            FaultyProxy(server.port) as proxy,
            client_of(proxy.url_for(), backend, ping_interval=0.05, pong_timeout=0.5) as client,
            Follower(client, "stream", protocol) as follower,
        ):
            await follower.came()
            for _ in range(2):
                await answered(proxy)
            assert (proxy.accepted, follower.gaps) == (1, [])

    async def test_a_server_that_never_acknowledges_again_is_asked_again_and_again(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """connect_attempts is for the first acknowledgement; after it, there is no end."""
        async with (
            client_of(counting.url, backend, connect_attempts=2, ack_timeout=0.4) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            await follower.came(2)
            counting.never_ack = True
            counting.reset_sockets()
            await counting.until(lambda: len(counting.upgrades) >= 5)
            counting.never_ack = False
            await follower.went_on()
            assert follower.gaps[0].attempts >= 4
            assert follower.values == list(range(len(follower.values)))

    @pytest.mark.parametrize("answer", [502, 503, 404, 400, 429, "redirect", "page", "garbage", "reset"])
    async def test_any_refusal_of_the_upgrade_is_an_outage_after_the_first_acknowledgement(
        self,
        counting: ScriptedServer,
        backend: Backend,
        mode: Mode,
        answer: int | str,
    ) -> None:
        """What would be raised on the first connect is somebody's deployment on a later one."""
        refusals: dict[str, Answer] = {
            "redirect": Answer.redirect("http://elsewhere.example/graphql"),
            "page": Answer.login_page(),
            "garbage": Answer.garbage(),
            "reset": Answer.reset(),
        }
        async with (
            client_of(counting.url, backend, connect_attempts=1) as client,
            Follower(client, mode, resume=onward) as follower,
        ):
            await follower.came(2)
            refusal = refusals[answer] if isinstance(answer, str) else answer
            counting.on_connect = lambda _: refusal if len(counting.upgrades) < 5 else None
            counting.reset_sockets()
            await follower.went_on()
            [gap] = follower.gaps
            assert len(counting.upgrades) == 5
            # aiohttp sends a GET again by itself when the connection breaks.
            assert gap.attempts == 4 or (answer == "reset" and backend == "aiohttp")
            assert follower.values == list(range(len(follower.values)))

    async def test_codes_that_are_not_fatal_are_retried_before_the_acknowledgement_too(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """A server that takes the upgrade and closes, while it comes up."""
        async with (
            client_of(counting.url, backend, connect_attempts=1) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            await follower.came(2)
            counting.on_connect = lambda _: 1013 if len(counting.upgrades) < 4 else None
            counting.reset_sockets()
            await follower.went_on()
            assert [(gap.close_code, gap.attempts) for gap in follower.gaps] == [(None, 3)]

    async def test_the_end_of_a_long_outage_is_met(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """After any number of failures the next attempt is at most wait_max away."""
        async with (
            FaultyProxy(counting.port) as proxy,
            client_of(proxy.url_for(), backend) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            await follower.came(2)
            proxy.refuse = True
            proxy.reset_connections()
            await proxy.connections(40)
            proxy.refuse = False
            await follower.went_on()
            [gap] = follower.gaps
            assert gap.attempts >= 19  # aiohttp makes two connections an attempt
            assert gap.down_for > 0

    async def test_a_name_that_does_not_resolve_for_a_while_is_an_outage(
        self, counting: ScriptedServer, protocol: Protocol, mode: Mode
    ) -> None:
        """DNS fails when a network comes and goes."""

        class Resolver(AbstractResolver):
            gone, asked = False, 0

            async def resolve(
                self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
            ) -> list[ResolveResult]:
                Resolver.asked += 1
                if self.gone:
                    raise OSError("no such host")
                return [
                    ResolveResult(hostname=host, host="127.0.0.1", port=port, family=family, proto=0, flags=0)
                ]

            async def close(self) -> None: ...

        resolver = Resolver()
        connector = aiohttp.TCPConnector(resolver=resolver, use_dns_cache=False, family=socket.AF_INET)
        async with (
            aiohttp.ClientSession(connector=connector) as session,
            client_of(
                f"http://upstream.example:{counting.port}/graphql", objects={"session": session}
            ) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            await follower.came(2)
            resolver.gone, asked = True, resolver.asked
            counting.reset_sockets()
            await until(lambda: resolver.asked >= asked + 5)
            resolver.gone = False
            await follower.went_on()
            assert follower.gaps[0].attempts >= 6
            assert not session.closed


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


class Provider:
    """Hands out token-0, and the next one at each renewal."""

    def __init__(self) -> None:
        self.asked: list[bool] = []

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        return {"authorization": f"token-{sum(self.asked)}"}


class Guard:
    """Refuses every token but one, in a server's own way."""

    def __init__(self, server: ScriptedServer, how: int | str) -> None:
        self.server, self.how = server, how
        self.good: str | None = "token-0"
        if isinstance(how, str):
            server.never_ack = True
        elif how < 1000:
            server.on_connect = self._upgrade
        else:
            server.on_init = self._init

    def _upgrade(self, request: ReceivedRequest) -> int | None:
        return None if request.headers.get("authorization") == self.good else int(self.how)

    def _init(self, payload: Mapping[str, Any]) -> int | None:
        return None if payload["headers"].get("authorization") == self.good else int(self.how)


class TestClosedAtOnce:
    """The close frame comes right after the upgrade's answer, before anything was sent."""

    @pytest.mark.parametrize("code", [4403, 4406, 1002])
    async def test_a_fatal_code_is_fatal(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, code: int
    ) -> None:
        """At first and on a reconnect: the code is read although our init could not be sent."""
        async with client_of(counting.url, backend) as client:
            counting.on_connect = lambda _: code
            first = await Follower(client, mode, protocol).end()
            assert len(counting.upgrades) == 1
            counting.on_connect = None
            async with Follower(client, mode, protocol) as follower:
                await follower.came()
                counting.on_connect = lambda _: code
                counting.reset_sockets()
                later = await follower.end()
            assert len(counting.upgrades) == 3
            for error in (first, later):
                assert isinstance(error, SubscriptionClosedError)
                assert error.close_code == code

    @pytest.mark.parametrize("code", [4401, 4403])
    async def test_a_refused_token_is_renewed(
        self, counting: ScriptedServer, backend: Backend, mode: Mode, code: int
    ) -> None:
        """A server that looks at the upgrade's headers, and says so with a close code."""
        provider = Provider()
        counting.on_connect = lambda request: (
            None if request.headers.get("authorization") == "token-1" else code
        )
        async with (
            client_of(counting.url, backend, objects={"headers_provider": provider}) as client,
            Follower(client, mode) as follower,
        ):
            await follower.came()
            assert provider.asked == [False, True]


class TestRenewal:
    @pytest.mark.parametrize("how", [4401, 4403, 401, 403])
    async def test_a_refused_token_is_renewed_once_before_the_first_acknowledgement(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, how: int
    ) -> None:
        """Asked once more, with refresh=True, without waiting, even if connect_attempts is 1."""
        provider, guard = Provider(), Guard(counting, how)
        guard.good = "token-1"
        async with (
            client_of(
                counting.url,
                backend,
                objects={"headers_provider": provider},
                wait_initial=3600,
                wait_max=3600,
                connect_attempts=1,
            ) as client,
            Follower(client, mode, protocol) as follower,
        ):
            await follower.came()
            assert provider.asked == [False, True]
            assert len(counting.upgrades) == 2
            assert follower.gaps == []

    @pytest.mark.parametrize("how", [4401, 4403, 401, 403])
    async def test_a_token_that_expires_on_a_live_socket_is_renewed(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, how: int
    ) -> None:
        """The socket is closed, or lost and refused; then it goes on with the new token."""
        provider, guard = Provider(), Guard(counting, how)
        async with (
            client_of(counting.url, backend, objects={"headers_provider": provider}) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            await follower.came(2)
            guard.good = "token-1"
            await counting.close_sockets(how if how > 1000 else 1012)
            await follower.went_on()
            [gap] = follower.gaps
            assert gap.close_code == (how if how > 1000 else 1012)
            assert sum(provider.asked) == 1
            assert follower.values == list(range(len(follower.values)))

    @pytest.mark.parametrize("how", [4401, 4403, 401, 403])
    async def test_refused_again_it_is_fatal(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, how: int
    ) -> None:
        """One renewal; and what one did not help with asks for no other within 30 s."""
        provider, guard = Provider(), Guard(counting, how)
        async with client_of(counting.url, backend, objects={"headers_provider": provider}) as client:
            guard.good = None
            first = await Follower(client, mode, protocol).end()
            assert provider.asked == [False, True]
            assert len(counting.upgrades) == 2
            guard.good = "token-1"
            async with Follower(client, mode, protocol) as follower:
                await follower.came()
                guard.good = None
                await counting.close_sockets(how if how > 1000 else 1012)
                later = await follower.end()
            assert sum(provider.asked) == 1
            for error in (first, later):
                assert isinstance(error, SubscriptionClosedError)
                assert error.close_code == (how if how > 1000 else None)
            assert client.stats().sockets == 0

    async def test_the_right_to_a_renewal_comes_back(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """A token that expires every hour is renewed every hour."""
        provider, guard = Provider(), Guard(counting, 4401)
        async with (
            client_of(
                counting.url, backend, objects={"headers_provider": provider}, stable_after=0.02
            ) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            for number in (1, 2, 3):
                await follower.lasts(0.05)
                await follower.came(2)
                guard.good = f"token-{number}"
                await counting.close_sockets(4401)
                await follower.went_on(number)
            assert sum(provider.asked) == 3

    async def test_the_provider_is_asked_at_each_reconnect(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Both the upgrade and connection_init carry what it says now."""
        tokens = iter(range(100))

        def provider() -> dict[str, str]:
            return {"authorization": f"token-{next(tokens)}"}

        async with (
            client_of(counting.url, backend, objects={"headers_provider": provider}) as client,
            Follower(client, mode, protocol, resume=onward) as follower,
        ):
            await follower.came()
            counting.reset_sockets()
            await follower.went_on()
            upgrades = [each.headers["authorization"] for each in counting.upgrades]
            inits = [
                each.message["payload"]["headers"]["authorization"]
                for each in counting.messages
                if each.message["type"] == "connection_init"
            ]
            assert upgrades == inits == ["token-0", "token-1"]

    async def test_a_provider_that_fails_on_a_reconnect_is_an_outage(
        self, counting: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """The token service was redeployed beside the server: tried again, not ended."""
        failing = 0

        def provider() -> dict[str, str]:
            nonlocal failing
            if failing:
                failing -= 1
                raise OSError("the token service is down")
            return {"authorization": "token"}

        async with (
            client_of(counting.url, backend, objects={"headers_provider": provider}) as client,
            Follower(client, mode, resume=onward) as follower,
        ):
            await follower.came()
            failing = 3
            counting.reset_sockets()
            await follower.went_on()
            assert len(counting.upgrades) == 2

    @pytest.mark.parametrize("provided", [True, False])
    async def test_a_connection_error_of_the_older_protocol_before_the_acknowledgement(
        self, counting: ScriptedServer, backend: Backend, mode: Mode, provided: bool
    ) -> None:
        """The older protocol's way to say 4401: renewed once with a provider, else raised at once."""
        provider = Provider()
        counting.never_ack = True

        async def refuse(connection: int) -> None:
            await counting.until(lambda: len(counting.messages) >= connection)
            await counting.send_to_sockets({"type": "connection_error", "payload": {"message": "no"}})

        objects = {"headers_provider": provider} if provided else {}
        async with (
            client_of(
                counting.url, backend, objects=objects, wait_initial=3600, wait_max=3600, connect_attempts=3
            ) as client,
            Follower(client, mode, "graphql-ws") as follower,
        ):
            await refuse(1)
            if provided:
                await counting.until(lambda: len(counting.upgrades) == 2)
                await counting.until(lambda: [each.number for each in counting.sockets] == [2])
                await refuse(2)
                assert provider.asked == [False, True]
            error = await follower.end()
            assert isinstance(error, SubscriptionClosedError)
            assert len(counting.upgrades) == (2 if provided else 1)


class TestFirstConnect:
    @pytest.mark.parametrize(
        ("kind", "expected", "attempts"),
        [
            ("refused", TransportError, 3),
            ("reset", TransportError, 3),
            ("never acknowledged", RequestTimeoutError, 3),
            ("swallowed", GraphQLTransportException, 3),
            ("garbage", TransportError, 3),
            (1012, SubscriptionClosedError, 3),
            (1000, SubscriptionClosedError, 3),
            (500, HTTPStatusError, 3),
            (502, HTTPStatusError, 3),
            (503, HTTPStatusError, 3),
            (429, HTTPStatusError, 3),
            (408, HTTPStatusError, 3),
            (425, HTTPStatusError, 3),
            (404, HTTPStatusError, 1),
            (400, HTTPStatusError, 1),
            ("redirect", TransportError, 1),
            ("tls", TransportError, 1),
        ],
    )
    async def test_what_fails_is_raised_after_its_attempts(
        self,
        server: ScriptedServer,
        backend: Backend,
        mode: Mode,
        kind: int | str,
        expected: type[Exception],
        attempts: int,
    ) -> None:
        """No silent dead task: the last failure, with its facts; and what is left is a client that works."""
        async with FaultyProxy(server.port) as proxy:
            scheme = "http"
            if isinstance(kind, int):
                server.on_connect = lambda _: kind
            elif kind == "refused":
                await proxy.down()
            elif kind == "tls":
                scheme = "https"
            elif kind in ("redirect", "garbage"):
                answers = {
                    "redirect": Answer.redirect("http://elsewhere.example/"),
                    "garbage": Answer.garbage(),
                }
                server.on_connect = lambda _: answers[kind]
            else:
                proxy.refuse = kind == "reset"
                proxy.blackhole = kind == "swallowed"
                server.never_ack = kind == "never acknowledged"
            silent = kind in ("never acknowledged", "swallowed")
            async with client_of(
                proxy.url_for(scheme=scheme), backend, connect_attempts=3, ack_timeout=0.1 if silent else 10
            ) as client:
                error = await Follower(client, mode).end()
                assert isinstance(error, expected)
                assert (error.attempts, error.may_have_executed) == (attempts, False)  # type: ignore[attr-defined]
                assert error.elapsed >= 0  # type: ignore[attr-defined]
                assert "127.0.0.1" in str(error)
                if isinstance(kind, int) or kind in ("redirect", "garbage", "never acknowledged"):
                    assert len(server.upgrades) == attempts
                elif kind in ("swallowed", "tls"):
                    assert proxy.accepted == attempts
                if isinstance(error, SubscriptionClosedError):
                    assert error.close_code == kind
                if isinstance(error, HTTPStatusError):
                    assert error.status == kind
                stats = client.stats()
                assert (stats.subscriptions, stats.sockets, stats.reconnects) == (0, 0, 0)
                proxy.blackhole = False
                if kind != "tls":
                    proxy.refuse, server.never_ack, server.on_connect = False, False, None
                    await proxy.up()
                    async with Follower(client, mode) as follower:
                        await follower.came()
            await proxy.until(lambda: proxy.open == 0)

    async def test_a_name_that_does_not_resolve(self, backend: Backend, mode: Mode) -> None:
        """A name for which there is no address, after the attempts."""
        async with client_of("http://nonexistent.invalid/graphql", backend, connect_attempts=2) as client:
            error = await Follower(client, mode).end()
            assert isinstance(error, TransportError)
            assert error.attempts == 2
            assert "nonexistent.invalid" in str(error)

    async def test_it_may_come_up_meanwhile(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """The last of the attempts may be the one; there is no gap, since nothing was lost."""
        server.on_connect = lambda _: 503 if len(server.upgrades) < 4 else None
        async with (
            client_of(server.url, backend, connect_attempts=4) as client,
            Follower(client, mode, protocol, variables={"to": 2}) as follower,
        ):
            assert await follower.end() is None
            assert follower.seen == [0, 1, 2]
            assert len(server.upgrades) == 4

    async def test_a_failed_start_is_no_report_to_on_error(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """It is raised to the caller, who is there to hear it; callbacks run for what was subscribed."""
        server.on_init = lambda _: 4403
        async with client_of(server.url, backend) as client:
            follower = Follower(client, "subscribe")
            assert isinstance(await follower.end(), SubscriptionClosedError)
            assert follower.seen == []

    async def test_the_acknowledgement_may_take_its_time(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Slower than anything but ack_timeout: one connection, and the subscribe only after it."""
        server.ack_delay = 0.05
        async with (
            client_of(server.url, backend) as client,
            Follower(client, mode, protocol, variables={"to": 1}) as follower,
        ):
            assert await follower.end() is None
            assert follower.seen == [0, 1]
            assert len(server.upgrades) == 1

    async def test_a_server_that_is_down_is_waited_for_between_attempts(self, backend: Backend) -> None:
        """With backoff: one wait between two attempts, none after the last."""
        with clock.using(InstantWaits()) as recorded:
            async with client_of(
                "http://127.0.0.1:1/graphql", backend, wait_initial=5, wait_max=20, connect_attempts=5
            ) as client:
                assert isinstance(await Follower(client, "subscribe").end(), TransportError)
        assert isinstance(recorded, InstantWaits)
        assert len(recorded.waits) == 4
        assert all(0 <= wait <= min(20, 5 * 2**n) for n, wait in enumerate(recorded.waits))

    async def test_a_cancel_between_attempts_propagates(
        self, backend: Backend, mode: Mode, server: ScriptedServer
    ) -> None:
        """While it waits for its second attempt."""
        server.on_connect = lambda _: 503
        with clock.using(EndlessWaits()) as recorded:
            async with client_of(server.url, backend) as client:
                follower = Follower(client, mode)
                assert isinstance(recorded, EndlessWaits)
                await follower.until(lambda: recorded.waits)
                follower.task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await follower.task
                assert follower.task.cancelled()
                assert (client.stats().subscriptions, client.stats().sockets) == (0, 0)


async def test_a_view_subscribes_as_its_client_does(
    counting: ScriptedServer, backend: Backend, mode: Mode
) -> None:
    """with_options() shares the engine: its reconnects are in the client's numbers."""
    async with client_of(counting.url, backend) as client:
        view: ProductionClient = client.with_options(headers={"x-view": "yes"})
        async with Follower(view, mode, resume=onward) as follower:
            await follower.came()
            counting.reset_sockets()
            await follower.went_on()
            assert [each.headers.get("x-view") for each in counting.upgrades] == ["yes", "yes"]
            assert client.stats().reconnects == view.stats().reconnects >= 1
