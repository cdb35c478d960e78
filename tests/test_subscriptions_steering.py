"""An operator steers subscriptions: reconnects by hand, moves the endpoint, watches for silence."""

from __future__ import annotations

import asyncio
import threading
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import Follower, Provider, client_of, onward, until, value_of

from graphql_prod import (
    ConfigurationError,
    SubscriptionClosedError,
    SubscriptionGap,
    SubscriptionPolicy,
    TransportError,
)
from graphql_prod.testing import ScriptedServer

if TYPE_CHECKING:
    from aiographql.client import GraphQLSubscriptionEvent
    from subscribing import Backend, Mode, Protocol

COUNT = "subscription Count($from: Int, $to: Int) { count(from: $from, to: $to) }"


@pytest.fixture(params=[False, True], ids=["alone", "shared"])
def share(request: pytest.FixtureRequest) -> bool:
    """Each test that asks for it runs with a socket of its own, and with a shared one."""
    return request.param  # type: ignore[no-any-return]


# --- by hand ----------------------------------------------------------------------------------------


async def test_reconnect(counting: ScriptedServer, backend: Backend, share: bool) -> None:
    """A new socket, with fresh credentials and payload; a gap; nothing lost or doubled with a cursor."""
    asked: list[int] = []

    def payload() -> dict[str, Any]:
        asked.append(len(asked))
        return {"token": len(asked)}

    objects = {"headers_provider": Provider()}
    async with (
        client_of(counting.url, backend, objects=objects, share_connection=share) as client,
        Follower(client, "subscribe", resume=onward, connection_init_payload=payload) as follower,
    ):
        await follower.came()
        assert follower.subscription is not None
        for times in (1, 2, 3):
            await follower.subscription.reconnect()  # type: ignore[attr-defined]
            assert len(counting.upgrades) == times + 1
            await follower.went_on(times)
        assert len(asked) == 4
        assert {gap.close_reason for gap in follower.gaps} == {"reconnect() was called"}
        assert follower.values == list(range(len(follower.values)))


async def test_reconnect_all(counting: ScriptedServer, backend: Backend, mode: Mode, share: bool) -> None:
    """Every subscription, streams too; on a shared socket one reconnect serves all."""
    async with (
        client_of(counting.url, backend, share_connection=share) as client,
        Follower(client, mode) as one,
        Follower(client, mode) as other,
    ):
        await one.came()
        await other.came()
        before = len(counting.upgrades)
        await client.reconnect_subscriptions()
        assert len(counting.upgrades) == before + (1 if share else 2)
        await one.went_on()
        await other.went_on()


async def test_reconnect_while_it_is_down(counting: ScriptedServer, backend: Backend) -> None:
    """It does not wait for the rest of the backoff."""
    async with client_of(counting.url, backend, wait_initial=60, wait_max=60) as client:
        subscription = await client.subscribe(COUNT)
        await counting.close_sockets(1012, "restart")
        await until(lambda: subscription.state.status == "down")
        await subscription.reconnect()
        assert subscription.state.status == "subscribed"


async def test_reconnect_counts_as_no_loss(counting: ScriptedServer, backend: Backend) -> None:
    """``max_reconnects`` is for connections that were lost."""
    async with (
        client_of(counting.url, backend, max_reconnects=0) as client,
        Follower(client, "subscribe") as follower,
    ):
        await follower.came()
        assert follower.subscription is not None
        await follower.subscription.reconnect()  # type: ignore[attr-defined]
        await follower.went_on()


async def test_reconnect_while_an_event_waits_for_its_turn(
    counting: ScriptedServer, backend: Backend, protocol: Protocol
) -> None:
    """An event that was read and had no room yet is not lost with the socket, or a gap counts it."""
    seen: list[int | SubscriptionGap] = []
    go_on = asyncio.Event()

    async def take(item: GraphQLSubscriptionEvent | SubscriptionGap) -> None:
        seen.append(item if isinstance(item, SubscriptionGap) else value_of(item))
        await go_on.wait()

    async with client_of(
        counting.url, backend, share_connection=True, max_queue=1, overflow="drop_oldest"
    ) as client:
        subscription = await client.subscribe(
            COUNT, variables={"from": 0}, on_data=take, on_gap=take, resume=onward, protocols=protocol
        )
        while client.stats().events < 3:  # one is looked at, one waits, and one more has come
            await asyncio.sleep(0)
        await asyncio.create_task(subscription.reconnect())
        go_on.set()
        await until(lambda: len(seen) > 10)
        await subscription.unsubscribe_and_wait()
    expected = 0
    for item in seen:
        if isinstance(item, SubscriptionGap):
            expected += item.dropped
        else:
            assert item == expected
            expected += 1


async def test_from_a_callback(counting: ScriptedServer, backend: Backend) -> None:
    """It is asked for, and the callback does not wait for itself; a full queue does not stand in the way."""
    done = asyncio.Event()
    async with client_of(counting.url, backend, max_queue=1) as client:

        async def on_data(_: object) -> None:
            if not done.is_set():
                done.set()
                await subscription.reconnect()

        gaps: list[object] = []
        subscription = await client.subscribe(COUNT, on_data=on_data, on_gap=gaps.append)
        await done.wait()
        await until(lambda: gaps)
        await subscription.unsubscribe_and_wait()


async def test_of_one_that_has_ended(counting: ScriptedServer, backend: Backend) -> None:
    """An error with words."""
    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(COUNT)
        await subscription.unsubscribe_and_wait()
        with pytest.raises(SubscriptionClosedError, match="has ended"):
            await subscription.reconnect()
        await client.reconnect_subscriptions()


async def test_from_another_loop(counting: ScriptedServer, backend: Backend) -> None:
    """Another thread's loop may ask."""
    async with client_of(counting.url, backend) as client:
        subscription = await client.subscribe(COUNT)
        failures: list[BaseException] = []

        def elsewhere() -> None:
            try:
                asyncio.run(subscription.reconnect())
            except BaseException as error:  # noqa: BLE001 -- told below
                failures.append(error)

        thread = threading.Thread(target=elsewhere)
        thread.start()
        await until(lambda: not thread.is_alive())
        assert failures == []
        assert len(counting.upgrades) == 2


# --- the endpoint -----------------------------------------------------------------------------------


async def test_an_endpoint_of_their_own(server: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """Subscriptions go to another server than calls."""
    async with ScriptedServer() as sockets:
        async with (
            client_of(server.url, backend, endpoint=sockets.ws_url) as client,
            Follower(client, mode) as follower,
        ):
            await follower.came()
            assert (await client.query("{ hello }")).data
        assert (len(sockets.upgrades), len(server.upgrades)) == (1, 0)
        assert (len(sockets.requests), len(server.requests)) == (0, 1)


@pytest.mark.parametrize("is_async", [False, True], ids=["sync", "async"])
async def test_an_endpoint_that_is_asked_for(
    counting: ScriptedServer, backend: Backend, mode: Mode, share: bool, is_async: bool
) -> None:
    """Asked at each connect: after a reconnect the subscription is at the new one."""
    async with ScriptedServer() as second:
        second.tick = 0.002
        where = [counting.url]

        def sync() -> str:
            return where[0]

        async def coroutine() -> str:
            return where[0]

        endpoint = coroutine if is_async else sync
        async with (
            client_of("http://127.0.0.1:9/", backend, endpoint=endpoint, share_connection=share) as client,
            Follower(client, mode) as follower,
        ):
            await follower.came()
            where[0] = second.url
            await client.reconnect_subscriptions()
            await follower.went_on()
            assert len(second.upgrades) == 1


@pytest.mark.parametrize("rubbish", [None, 3, "", "ftp://x/", "no url"])
async def test_an_endpoint_of_rubbish(backend: Backend, rubbish: object) -> None:
    """A clear error, in the place of the first connection."""
    async with client_of(
        "http://127.0.0.1:9/", backend, endpoint=lambda: rubbish, connect_attempts=1
    ) as client:
        with pytest.raises(TransportError, match=r"subscriptions\.endpoint failed"):
            await client.subscribe(COUNT)


async def test_an_endpoint_that_hangs(backend: Backend) -> None:
    """It is given up after the total."""
    async with client_of(
        "http://127.0.0.1:9/",
        backend,
        endpoint=asyncio.Event().wait,
        connect_attempts=1,
        settings={"timeout": {"total": 0.1}},
    ) as client:
        with pytest.raises(TransportError, match=r"subscriptions\.endpoint failed with a TimeoutError"):
            await client.subscribe(COUNT)


@pytest.mark.parametrize("given", ["ftp://x/", "x", 3])
def test_an_endpoint_that_cannot_be(given: Any) -> None:
    """Refused when it is given."""
    with pytest.raises(ConfigurationError, match="endpoint"):
        SubscriptionPolicy(endpoint=given)


# --- silence ----------------------------------------------------------------------------------------


async def test_silence(server: ScriptedServer, backend: Backend, mode: Mode, share: bool) -> None:
    """No event for so long: subscribed anew, alone on a shared socket, and told as a gap."""
    server.tick = 60.0
    async with (
        client_of(server.url, backend, idle_timeout=0.15, share_connection=share) as client,
        Follower(client, mode) as follower,
    ):
        await until(lambda: len(follower.gaps) >= 1)
        assert "no event came for 0.15 s" in str(follower.gaps[0].close_reason)
        assert len(server.upgrades) >= (1 if share else 2)
        if share:
            assert len(server.upgrades) == 1


async def test_events_are_no_silence(server: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """Whoever hears something in time is left alone."""
    server.tick = 0.02
    async with (
        client_of(server.url, backend, idle_timeout=1.0) as client,
        Follower(client, mode) as follower,
    ):
        await follower.came(60)
        assert follower.gaps == []


async def test_a_full_queue_is_no_silence(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """While the reader is slow nobody can know whether events come: the clock stands still."""
    async with (
        client_of(counting.url, backend, idle_timeout=0.1, max_queue=1) as client,
        Follower(client, mode) as follower,
    ):
        follower.gate.clear()
        await follower.began()
        await follower.lasts(0.4)
        assert follower.gaps == []
        follower.gate.set()
        await follower.came(3)


# --- the server's end -------------------------------------------------------------------------------


async def test_restart(counting: ScriptedServer, backend: Backend, mode: Mode, share: bool) -> None:
    """A ``complete`` that the program takes for a restart of a subgraph: subscribed anew, told as a gap."""
    ends: list[object] = []

    def restart(end: object) -> bool:
        ends.append(end)
        return len(ends) < 3

    async with client_of(counting.url, backend, share_connection=share) as client:
        follower = Follower(client, mode, restart=restart, resume=onward, variables={"from": 0, "to": 2})
        await follower.end()
        await follower.stop()
    assert ends == [None, None, None]
    assert len(follower.gaps) == 2
    assert {"restart asks" in str(gap.close_reason) for gap in follower.gaps} == {True}


async def test_restart_is_bounded(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """Within ``max_reconnects``; then the server's end is the end."""
    async with client_of(counting.url, backend, max_reconnects=2, share_connection=True) as client:
        follower = Follower(client, mode, restart=lambda _: True, variables={"from": 0, "to": 0})
        await follower.end()
        await follower.stop()
    assert len(follower.gaps) == 2


@pytest.mark.parametrize("what", ["raises", "rubbish"])
async def test_a_restart_that_fails(
    counting: ScriptedServer, backend: Backend, mode: Mode, what: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the server's end is the end."""

    def restart(_: object) -> Any:
        if what == "raises":
            raise ZeroDivisionError
        return "yes"

    async with client_of(counting.url, backend) as client:
        follower = Follower(client, mode, restart=restart, variables={"from": 0, "to": 2})
        await follower.end()
        await follower.stop()
    assert follower.gaps == []
    assert "restart of a subscription failed" in caplog.text


# --- compression ------------------------------------------------------------------------------------


async def test_compression(counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """permessage-deflate is offered when it is asked for, and only then."""
    for wanted in (True, False):
        async with (
            client_of(counting.url, backend, compression=wanted) as client,
            Follower(client, mode) as follower,
        ):
            await follower.came(3)
        offered = counting.upgrades[-1].headers.get("Sec-WebSocket-Extensions", "")
        assert ("permessage-deflate" in offered) is wanted


async def test_compression_is_bounded(server: ScriptedServer, backend: Backend, mode: Mode) -> None:
    """An event that inflates to more than ``max_response_bytes`` ends it, as one that is sent so."""
    server.padding = 2_000_000
    async with (
        client_of(server.url, backend, compression=True, settings={"max_response_bytes": 100_000}) as client,
        Follower(client, mode) as follower,
    ):
        failure = await follower.end()
    assert isinstance(failure, SubscriptionClosedError)
    assert failure.close_code == 1009


# --- all of it at once ------------------------------------------------------------------------------


async def test_ten_kills(counting: ScriptedServer, backend: Backend, mode: Mode, share: bool) -> None:
    """Exactly once through ten kills, while the token, the payload and the endpoint change."""
    async with ScriptedServer() as second:
        second.tick = counting.tick
        servers, payloads = [counting, second], list[int]()
        provider = Provider()

        def payload() -> dict[str, Any]:
            payloads.append(len(payloads))
            return {"generation": len(payloads)}

        async with (
            client_of(
                counting.url,
                backend,
                objects={"headers_provider": provider},
                endpoint=lambda: servers[0].url,
                share_connection=share,
            ) as client,
            Follower(client, mode, resume=onward, connection_init_payload=payload) as follower,
        ):
            for kill in range(10):
                await follower.came(3 * (kill + 1))
                before = servers[0]
                servers.reverse()
                if kill % 3 == 0:
                    await client.reconnect_subscriptions()
                elif kill % 3 == 1:
                    await before.close_sockets(1012, "restart")
                else:
                    await before.stop()
                    await before.start()
                await follower.went_on(kill + 1)
            assert follower.values == list(range(len(follower.values)))
        assert len(payloads) >= 11
        assert counting.upgrades
        assert second.upgrades
