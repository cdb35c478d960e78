"""One connection for many subscriptions: who shares, who does not, and what one member does to the others."""

from __future__ import annotations

import asyncio
import gc
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import (
    COUNT,
    PROTOCOLS,
    STARTS,
    STOPS,
    Backend,
    Follower,
    Mode,
    Protocol,
    client_of,
    onward,
    sent,
    until,
)

from graphql_prod import (
    PoolPolicy,
    SubscriptionClosedError,
    SubscriptionLimitError,
    TransportError,
)
from graphql_prod.testing import FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

MODES: tuple[Mode, ...] = ("subscribe", "stream")


@pytest.fixture(autouse=True)
def nothing_goes_unseen(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """No exception of a task of ours is left for asyncio to complain about."""
    yield
    gc.collect()
    assert [each.getMessage() for each in caplog.records if each.name == "asyncio"] == []


def shared(url: str, backend: Backend, **options: Any) -> Any:
    """A client whose subscriptions share; the socket stays for no time without one."""
    return client_of(url, backend, **{"share_connection": True, "linger": 0.0, **options})


async def stop_all(followers: list[Follower]) -> None:
    await asyncio.gather(*(each.stop() for each in followers))


async def stops(server: ScriptedServer, n: int) -> None:
    """Wait until ``n`` subscriptions have been completed by their owners in all."""
    await server.until(lambda: len(sent(server, STOPS)) == n)


class TestWhoShares:
    async def test_one_socket_for_many(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Begun at the same moment, of both kinds: one upgrade, one init, an id each, each its own events."""
        async with shared(counting.url, backend) as client:
            followers = [
                Follower(client, MODES[n % 2], protocol, variables={"from": n * 1000}) for n in range(6)
            ]
            for n, each in enumerate(followers):
                await each.began(5)
                assert each.values == list(range(n * 1000, n * 1000 + len(each.values)))
            ids = sent(counting, STARTS)
            assert (len(counting.upgrades), len(ids), len(set(ids))) == (1, 6, 6)
            assert [m.message["type"] for m in counting.messages].count("connection_init") == 1
            assert (client.stats().subscriptions, client.stats().sockets) == (6, 1)
            wanted = {each.subscription.id for each in followers if each.subscription is not None}
            assert wanted <= set(ids)
            await stop_all(followers)
            await counting.socket_count(0)
            await until(lambda: client.stats().sockets == 0)
            assert sorted(sent(counting, STOPS)) == sorted(ids)
            assert (client.stats().subscriptions, client.stats().sockets) == (0, 0)
            assert counting.close_codes == {1: 1000}

    async def test_one_that_comes_later_joins(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """An acknowledged socket takes it at once."""
        async with (
            shared(counting.url, backend) as client,
            Follower(client, "stream", protocol) as one,
        ):
            await one.came()
            async with Follower(client, mode, protocol) as two:
                await two.came()
            assert len(counting.upgrades) == 1
            await one.came(2)

    @pytest.mark.parametrize(
        "other",
        [
            {"connection_init_payload": {"tenant": "b"}},
            {"connection_init_payload": None},
            {"headers": {"authorization": "b"}},
            {"headers": None},
        ],
        ids=["payload", "no payload", "headers", "no headers"],
    )
    async def test_another_identity_is_another_socket(
        self,
        counting: ScriptedServer,
        backend: Backend,
        protocol: Protocol,
        mode: Mode,
        other: dict[str, Any],
    ) -> None:
        """A different init payload or different headers: nobody rides on another's credentials."""
        mine: dict[str, Any] = {
            "headers": {"authorization": "a"},
            "connection_init_payload": {"tenant": "a"},
        }
        async with shared(counting.url, backend) as client:
            one, same = Follower(client, mode, protocol, **mine), Follower(client, mode, protocol, **mine)
            two = Follower(client, mode, protocol, **{**mine, **other})
            for each in (one, same, two):
                await each.began()
            assert len(counting.upgrades) == client.stats().sockets == 2
            await stop_all([one, same, two])

    async def test_another_protocol_is_another_socket(
        self, counting: ScriptedServer, backend: Backend
    ) -> None:
        """Each is spoken to in its own."""
        async with shared(counting.url, backend) as client:
            followers = [Follower(client, "stream", protocol) for protocol in (*PROTOCOLS, *PROTOCOLS)]
            for each in followers:
                await each.began()
            assert sorted(str(socket.subprotocol) for socket in counting.sockets) == sorted(PROTOCOLS)
            await stop_all(followers)

    async def test_views_share_with_their_client(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Unless their headers differ."""
        async with shared(counting.url, backend) as client:
            views = [
                client,
                client.with_options(timeout=5),
                client.with_options(headers={"x-tenant": "b"}),
                client.with_options(headers={"x-tenant": "b"}),
            ]
            followers = [Follower(view, "stream", protocol) for view in views]
            for each in followers:
                await each.began()
            assert len(counting.upgrades) == 2
            await stop_all(followers)

    async def test_an_async_provider_is_one_identity_whatever_it_says(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Its headers change with time; the socket is shared all the same. It knows no caller."""
        tokens = iter(range(1000))

        async def provider() -> dict[str, str]:
            return {"authorization": str(next(tokens))}

        async with shared(counting.url, backend, objects={"headers_provider": provider}) as client:
            one = Follower(client, "stream", protocol)
            await one.came()
            two = Follower(client, "subscribe", protocol)
            await two.came()
            assert len(counting.upgrades) == 1
            await stop_all([one, two])

    async def test_without_the_setting_each_has_its_own(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """As stock."""
        async with client_of(counting.url, backend) as client:
            followers = [Follower(client, mode, protocol) for mode in MODES]
            for each in followers:
                await each.came()
            assert len(counting.upgrades) == client.stats().sockets == 2
            await stop_all(followers)

    async def test_the_limit_counts_sockets(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Any number of subscriptions on the one; a second one is one too many."""
        async with shared(counting.url, backend, settings={"pool": PoolPolicy(subscriptions=1)}) as client:
            followers = [Follower(client, mode, protocol) for _ in range(5)]
            for each in followers:
                await each.began()
            error = await Follower(client, mode, protocol, headers={"x-other": "1"}).end()
            assert isinstance(error, SubscriptionLimitError)
            assert "pool.subscriptions" in str(error)
            assert len(counting.upgrades) == 1
            await stop_all(followers)
            await until(lambda: client.stats().sockets == 0)
            async with Follower(client, mode, protocol, headers={"x-other": "1"}) as other:
                await other.came()


class TestLinger:
    async def test_the_socket_is_kept_for_the_next_one(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Within linger; the client's close ends it before its time."""
        async with shared(counting.url, backend, linger=600.0) as client:
            for number in (1, 2, 3):
                async with Follower(client, mode, protocol) as follower:
                    await follower.came()
                await stops(counting, number)
            assert (len(counting.upgrades), len(counting.sockets)) == (1, 1)
            assert (client.stats().subscriptions, client.stats().sockets) == (0, 1)
            await asyncio.wait_for(client.close(), 10)
            await counting.socket_count(0)
            assert counting.close_codes == {1: 1000}

    async def test_it_is_closed_after_that(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Its place is free again, and the next one opens another."""
        async with shared(counting.url, backend, linger=0.02) as client:
            for number in (1, 2):
                async with Follower(client, mode, protocol) as follower:
                    await follower.came()
                await counting.socket_count(0)
                await until(lambda: client.stats().sockets == 0)
                assert len(counting.upgrades) == number

    async def test_lost_while_nobody_is_there_it_is_not_opened_again(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """There is nobody to reconnect for; the next one opens its own."""
        async with shared(counting.url, backend, linger=600.0) as client:
            async with Follower(client, mode, protocol) as follower:
                await follower.came()
            counting.reset_sockets()
            await until(lambda: client.stats().sockets == 0)
            assert len(counting.upgrades) == 1
            async with Follower(client, mode, protocol) as follower:
                await follower.came()
                assert follower.gaps == []
            assert len(counting.upgrades) == 2


class TestTogether:
    @pytest.mark.parametrize("code", [None, 1012])
    async def test_a_loss_resubscribes_all(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, code: int | None
    ) -> None:
        """One new socket; each has its own cursor, its own gap in its own order, its own id as before."""
        async with shared(counting.url, backend) as client:
            followers = [
                Follower(client, MODES[n % 2], protocol, variables={"from": n * 1000}, resume=onward)
                for n in range(4)
            ]
            for each in followers:
                await each.began(2)
            if code is None:
                counting.reset_sockets()
            else:
                await counting.close_sockets(code)
            for n, each in enumerate(followers):
                await each.went_on()
                assert each.values == list(range(n * 1000, n * 1000 + len(each.values)))
                assert [gap.close_code for gap in each.gaps] == [code]
            assert len(counting.upgrades) == 2
            assert sorted(sent(counting, STARTS, 1)) == sorted(sent(counting, STARTS, 2))
            await stop_all(followers)

    async def test_one_that_joins_during_an_outage_waits_for_its_end(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """It has lost nothing, so it is told of no gap; or it hears that the server is away."""
        async with (
            FaultyProxy(counting.port) as proxy,
            shared(proxy.url_for(), backend) as client,
            Follower(client, "stream", protocol, resume=onward) as one,
        ):
            await one.came()
            taken = proxy.accepted
            proxy.refuse = True
            proxy.reset_connections()
            await proxy.connections(taken + 2)
            two = Follower(client, mode, protocol)
            await proxy.connections(taken + 4)
            proxy.refuse = False
            await one.until(lambda: one.resumed)
            await until(lambda: two.values or two.task.done())
            if two.task.done():
                assert isinstance(two.task.exception(), TransportError)
            else:
                assert two.gaps == []
                assert len(counting.upgrades) == 2
            await two.stop()

    async def test_one_that_leaves_completes_itself_only(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Its id and no other; the others go on undisturbed."""
        async with shared(counting.url, backend) as client:
            one, two = (Follower(client, each, protocol) for each in MODES)
            leaver = Follower(client, mode, protocol, variables={"from": 1000})
            for each in (one, two, leaver):
                await each.came()
            await leaver.stop()
            await counting.until(lambda: bool(sent(counting, STOPS)))
            for each in (one, two):
                await each.came(3)
                assert (each.gaps, each.values) == ([], list(range(len(each.values))))
            [stopped] = sent(counting, STOPS)
            if leaver.subscription is not None:
                assert stopped == leaver.subscription.id
            [socket] = counting.sockets
            assert stopped not in socket.subscriptions
            assert len(socket.subscriptions) == 2
            await stop_all([one, two])

    async def test_one_that_the_server_completes(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Ends alone, and sends no complete of its own; so does one that the server refuses."""
        async with (
            shared(counting.url, backend) as client,
            Follower(client, "stream", protocol) as other,
        ):
            await other.came()
            done = Follower(client, mode, protocol, variables={"to": 3})
            assert await done.end() is None
            assert done.values == [0, 1, 2, 3]
            await Follower(client, mode, protocol, "subscription { nothing }").end()
            await other.came(3)
            assert other.gaps == []
            assert sent(counting, STOPS) == []
            assert len(counting.upgrades) == 1

    async def test_a_slow_consumer_stalls_only_itself(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Its queue full, it ends with an error after what was queued; the others never notice."""
        async with (
            shared(counting.url, backend, max_queue=5) as client,
            Follower(client, "stream", protocol) as other,
            Follower(client, mode, protocol, variables={"from": 1000}) as slow,
        ):
            await other.came()
            await slow.came()
            slow.gate.clear()
            await counting.until(lambda: bool(sent(counting, STOPS)))
            await other.came(10)
            slow.gate.set()
            error = await slow.end()
            assert isinstance(error, SubscriptionClosedError)
            assert slow.values == list(range(1000, 1000 + len(slow.values)))
            assert len(slow.values) >= 6
            assert slow.gaps == []
            await other.came(3)
            assert (other.gaps, other.values) == ([], list(range(len(other.values))))
            assert len(sent(counting, STOPS)) == len(counting.upgrades) == 1

    async def test_a_slow_consumer_may_drop_instead(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """drop_oldest stays what it is."""
        async with (
            shared(counting.url, backend, max_queue=5, overflow="drop_oldest") as client,
            Follower(client, "stream", protocol) as other,
            Follower(client, mode, protocol) as slow,
        ):
            await slow.came()
            slow.gate.clear()
            await other.came(30)
            slow.gate.set()
            await slow.until(lambda: slow.resumed)
            [gap, *_] = slow.gaps
            assert gap.dropped > 0
            assert (gap.attempts, gap.down_for, gap.close_code) == (0, 0.0, None)
            assert other.gaps == []

    async def test_a_fatal_code_ends_all(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Each with its own error, told in its own way."""
        async with shared(counting.url, backend) as client:
            followers = [Follower(client, MODES[n % 2], protocol) for n in range(4)]
            for each in followers:
                await each.began()
            await counting.close_sockets(4403, "out")
            for each in followers:
                error = await each.end()
                assert isinstance(error, SubscriptionClosedError)
                assert (error.close_code, error.close_reason) == (4403, "out")
                if each.subscription is not None:
                    assert [event.exception for event in each.errors] == [error]  # type: ignore[attr-defined]
            assert len(counting.upgrades) == 1
            assert (client.stats().subscriptions, client.stats().sockets) == (0, 0)
            async with Follower(client, "stream", protocol) as fresh:
                await fresh.came()

    async def test_a_renewal_is_one_for_all(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """4401 on a shared socket: the provider is asked once more, not once a subscription."""
        asked: list[bool] = []
        good = "0"

        def provider(refresh: bool = False) -> dict[str, str]:
            asked.append(refresh)
            return {"authorization": str(sum(asked))}

        counting.on_init = lambda payload: None if payload["headers"]["authorization"] == good else 4401
        async with shared(counting.url, backend, objects={"headers_provider": provider}) as client:
            followers = [Follower(client, MODES[n % 2], protocol, resume=onward) for n in range(4)]
            for each in followers:
                await each.began()
            good = "1"
            await counting.close_sockets(4401)
            for each in followers:
                await each.went_on()
            assert sum(asked) == 1
            assert len(counting.upgrades) == 2
            await stop_all(followers)

    async def test_a_first_connect_that_fails_fails_for_all(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """Each caller gets an error; the attempts are not multiplied by their number."""
        server.on_connect = lambda _: 502
        async with shared(server.url, backend, connect_attempts=2) as client:
            followers = [Follower(client, MODES[n % 2], protocol) for n in range(4)]
            errors = [await each.end() for each in followers]
            assert {type(each).__name__ for each in errors} == {"HTTPStatusError"}
            assert len(server.upgrades) == 2
            assert (client.stats().subscriptions, client.stats().sockets) == (0, 0)
            server.on_connect = None
            async with Follower(client, "stream", protocol, variables={"to": 0}) as fresh:
                assert await fresh.end() is None

    @pytest.mark.parametrize("victim", [0, 1, 2])
    async def test_a_cancel_while_connecting_takes_nobody_else_along(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode, victim: int
    ) -> None:
        """Whoever began the connection may leave it; the last one to leave closes it."""
        counting.ack_delay = 0.05
        async with shared(counting.url, backend) as client:
            followers = [Follower(client, mode, protocol) for _ in range(3)]
            await counting.until(lambda: bool(counting.messages))
            followers[victim].task.cancel()
            await asyncio.wait({followers[victim].task}, timeout=10)
            assert followers[victim].task.cancelled()
            for each in followers:
                if each is not followers[victim]:
                    await each.began()
            assert (len(counting.upgrades), len(sent(counting, STARTS))) == (1, 2)
            await stop_all(followers)
            counting.never_ack = True
            await counting.socket_count(0)
            followers = [Follower(client, mode, protocol) for _ in range(3)]
            await counting.until(lambda: len(counting.upgrades) == 2)
            for each in followers:
                each.task.cancel()
            await asyncio.wait({each.task for each in followers}, timeout=10)
            assert all(each.task.cancelled() for each in followers)
            await counting.socket_count(0)
            await until(lambda: (client.stats().subscriptions, client.stats().sockets) == (0, 0))

    async def test_a_cancel_at_every_step_of_joining(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """One that is cut off while it joins leaves no subscription behind at the server."""
        server.tick = 600
        async with shared(server.url, backend) as client, Follower(client, "stream", protocol) as host:
            await host.came()
            steps = reached = 0
            while reached < 3:
                follower = Follower(client, mode, protocol)
                for _ in range(steps):
                    await asyncio.sleep(0)
                reached += bool(follower.values)
                follower.task.cancel()
                await asyncio.wait({follower.task}, timeout=10)
                if follower.subscription is not None:
                    await follower.stop()
                steps += 1
                assert steps < 1000
            await server.until(lambda: [len(each.subscriptions) for each in server.sockets] == [1])
            assert len(server.upgrades) == 1
            assert client.stats().subscriptions == 1
            assert (host.gaps, host.values) == ([], [0])

    async def test_unsubscribing_in_an_outage_is_not_resubscribed(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Who left before the new acknowledgement is not subscribed on the new socket."""
        async with (
            FaultyProxy(counting.port) as proxy,
            shared(proxy.url_for(), backend) as client,
            Follower(client, "stream", protocol, resume=onward) as stays,
        ):
            leaves = Follower(client, mode, protocol)
            await stays.came()
            await leaves.came()
            proxy.refuse = True
            proxy.reset_connections()
            await proxy.connections(3)
            await leaves.stop()
            proxy.refuse = False
            await stays.until(lambda: stays.resumed)
            assert len(sent(counting, STARTS, 1)) == 2
            assert len(sent(counting, STARTS)) == 3
            assert sent(counting, STOPS) == []

    async def test_closing_the_client_completes_each(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """One message each, then one clean close; all of them end normally."""
        async with shared(counting.url, backend) as client:
            followers = [Follower(client, MODES[n % 2], protocol) for n in range(4)]
            for each in followers:
                await each.began()
        assert [await each.end() for each in followers] == [None] * 4
        await counting.socket_count(0)
        assert sorted(sent(counting, STOPS)) == sorted(sent(counting, STARTS))
        assert counting.close_codes == {1: 1000}

    async def test_callbacks_that_unsubscribe_their_own(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """From inside, several at once, on one socket."""
        left: list[str] = []
        subscriptions: dict[str, Any] = {}

        async def on_data(event: Any) -> None:
            await begun.wait()
            await subscriptions[event.subscription_id].unsubscribe_and_wait()
            left.append(event.subscription_id)

        begun = asyncio.Event()
        async with shared(counting.url, backend) as client:
            for _ in range(3):
                subscription = await client.subscribe(COUNT, on_data=on_data, protocols=protocol)
                subscriptions[subscription.id] = subscription
            begun.set()
            await until(lambda: len(left) == 3)
            await counting.socket_count(0)
            assert sorted(left) == sorted(subscriptions) == sorted(sent(counting, STOPS))
