"""A subscription goes on whatever becomes of its connection."""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from subscribing import (
    STARTS,
    Backend,
    Follower,
    Mode,
    Protocol,
    client_of,
    onward,
    sent,
    until,
)

from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


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
