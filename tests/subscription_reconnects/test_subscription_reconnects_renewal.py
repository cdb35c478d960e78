"""Refused credentials are renewed; the first connect is tried several times."""

from __future__ import annotations

import asyncio
import contextlib
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client.exceptions import GraphQLTransportException
from subscribing import (
    Backend,
    EndlessWaits,
    Follower,
    InstantWaits,
    Mode,
    Protocol,
    Provider,
    client_of,
    onward,
)

from graphql_prod import (
    HTTPStatusError,
    RequestTimeoutError,
    SubscriptionClosedError,
    TransportError,
    clock,
)
from graphql_prod.testing import Answer, FaultyProxy, ReceivedRequest, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphql_prod import ProductionClient


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
