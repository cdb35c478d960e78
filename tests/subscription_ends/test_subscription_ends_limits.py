"""The limit of sockets, and bad input."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import graphql
import pytest
from aiographql.client import GraphQLClientException
from ending import idle, idles
from subscribing import (
    Backend,
    Follower,
    Mode,
    Protocol,
    client_of,
    onward,
    until,
)

from graphql_prod import (
    ConfigurationError,
    PoolPolicy,
    ProductionClient,
    SubscriptionClosedError,
    SubscriptionLimitError,
    SubscriptionPolicy,
    TransportError,
)
from graphql_prod.subscriptions.policy import REFUSED_WORDS

if TYPE_CHECKING:
    from graphql_prod.testing import ScriptedServer


class TestLimit:
    async def test_one_socket_too_many_is_refused_at_once(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Nothing is sent for it, nobody waits, and the error names the setting."""
        pool = PoolPolicy(subscriptions=2)
        async with client_of(counting.url, backend, settings={"pool": pool}) as client:
            async with Follower(client, "subscribe", protocol) as one, Follower(client, "stream") as two:
                await one.came()
                await two.came()
                error = await Follower(client, mode, protocol).end()
                assert isinstance(error, SubscriptionLimitError)
                assert isinstance(error, GraphQLClientException)
                assert "pool.subscriptions" in str(error)
                assert "2" in str(error)
                assert counting.connections == 2
                await one.came(2)
                await two.came(2)
                assert client.stats().sockets == 2
            async with Follower(client, mode, protocol) as three:
                await three.came()

    async def test_a_limit_of_none(self, counting: ScriptedServer, backend: Backend, mode: Mode) -> None:
        """0 refuses every subscription, and no query."""
        async with client_of(counting.url, backend, settings={"pool": PoolPolicy(subscriptions=0)}) as client:
            assert isinstance(await Follower(client, mode).end(), SubscriptionLimitError)
            await client.query("{ hello }")
        assert counting.upgrades == []

    async def test_connecting_counts(self, server: ScriptedServer, backend: Backend, mode: Mode) -> None:
        """A socket on its way holds its place already: no race gets one in too many."""
        server.tick = 600
        pool = PoolPolicy(subscriptions=3)
        async with client_of(server.url, backend, settings={"pool": pool}) as client:
            followers = [Follower(client, mode) for _ in range(10)]
            await until(lambda: sum(bool(each.values) or each.task.done() for each in followers) == 10)
            ended = [each.task.exception() for each in followers if each.task.done()]
            assert [type(each) for each in ended] == [SubscriptionLimitError] * 7
            assert len(server.upgrades) == 3
            for each in followers:
                await each.stop()

    @pytest.mark.parametrize(
        "ending",
        [
            "unsubscribe",
            "complete",
            "error",
            "fatal",
            "refused",
            "cancelled",
            "cancelled while waiting",
            "spent",
            "overflow",
            "syntax",
        ],
    )
    async def test_the_place_is_given_back(
        self, counting: ScriptedServer, backend: Backend, mode: Mode, ending: str
    ) -> None:
        """On every way of ending: the next one gets in."""
        pool = PoolPolicy(subscriptions=1)
        policy: dict[str, Any] = {"max_reconnects": 0} if ending == "spent" else {}
        if ending == "overflow":
            policy = {"overflow": "error", "max_queue": 2}
            counting.tick = 0
        async with client_of(counting.url, backend, settings={"pool": pool}, **policy) as client:
            for _ in range(3):
                await self._end_one(counting, client, mode, ending)
                await idles(client)
            counting.on_init, counting.on_connect, counting.never_ack = None, None, False
            async with Follower(client, mode, variables={"to": 1}) as follower:
                assert await follower.end() is None
                assert follower.values == [0, 1]

    async def _end_one(
        self, server: ScriptedServer, client: ProductionClient, mode: Mode, ending: str
    ) -> None:
        if ending == "complete":
            assert await Follower(client, mode, variables={"to": 1}).end() is None
        elif ending == "error":
            await Follower(client, mode, request="subscription { nothing }").end()
        elif ending == "syntax":
            assert isinstance(await Follower(client, mode, request="{").end(), graphql.GraphQLError)
        elif ending == "refused":
            server.on_connect = lambda _: 404
            assert await Follower(client, mode).end() is not None
        elif ending.startswith("cancelled"):
            server.never_ack = ending == "cancelled"
            server.on_connect = None if ending == "cancelled" else lambda _: 503
            messages, upgrades = len(server.messages), len(server.upgrades)
            follower = Follower(client, mode)
            await server.until(
                lambda: (
                    len(server.messages) > messages
                    if ending == "cancelled"
                    else len(server.upgrades) > upgrades
                )
            )
            follower.task.cancel()
            await asyncio.wait({follower.task}, timeout=10)
        else:
            async with Follower(client, mode) as follower:
                await follower.came()
                if ending == "overflow":
                    follower.gate.clear()
                    await server.until(lambda: not server.sockets)
                    follower.gate.set()
                    assert isinstance(await follower.end(), SubscriptionClosedError)
                elif ending != "unsubscribe":
                    await server.close_sockets(4500 if ending == "fatal" else 1012)
                    assert isinstance(await follower.end(), SubscriptionClosedError)

    async def test_a_subscription_in_an_outage_comes_back(
        self, counting: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """The limit never keeps a subscription that was let in from reconnecting."""
        pool = PoolPolicy(subscriptions=1)
        async with (
            client_of(counting.url, backend, settings={"pool": pool}) as client,
            Follower(client, mode, resume=onward) as follower,
        ):
            for number in range(1, 4):
                await follower.came()
                counting.reset_sockets()
                await follower.went_on(number)

    async def test_queries_are_not_starved(self, server: ScriptedServer, backend: Backend) -> None:
        """Sockets and calls have places of their own."""
        server.tick = 600
        pool = PoolPolicy(requests=1, retry_headroom=0, subscriptions=5)
        async with client_of(server.url, backend, settings={"pool": pool}) as client:
            followers = [Follower(client, "stream") for _ in range(5)]
            for each in followers:
                await each.began()
            await asyncio.wait_for(client.query("{ hello }"), 10)
            for each in followers:
                await each.stop()


async def began(server: ScriptedServer, n: int) -> None:
    """Wait until ``n`` connections have been initialised in all."""
    await server.until(
        lambda: [each.message.get("type") for each in server.messages].count("connection_init") == n
    )


class TestBadInput:
    @pytest.mark.parametrize(
        ("request_", "match"),
        [
            ("query Q { hello }", r"query\(\)"),
            ("{ hello }", r"query\(\)"),
            ("mutation M { increment }", r"query\(\)"),
            ("fragment F on Query { hello }", "operation"),
            ("subscription A { count } subscription B { count }", "operation"),
        ],
    )
    async def test_what_is_no_subscription_is_refused_before_anything_is_sent(
        self, server: ScriptedServer, backend: Backend, mode: Mode, request_: str, match: str
    ) -> None:
        """With an error that says what to call instead."""
        async with client_of(server.url, backend) as client:
            error = await Follower(client, mode, request=request_).end()
            assert isinstance(error, GraphQLClientException)
            assert not isinstance(error, TransportError)
            with pytest.raises(type(error), match=match):
                raise error
            idle(client)
        assert server.connections == 0

    async def test_the_named_one_of_several_is_judged(
        self, server: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """A document may hold a query beside it."""
        document = "query Q { hello } subscription S { count(to: 1) }"
        async with client_of(server.url, backend) as client:
            follower = Follower(client, mode, protocol, request=document, operation="S")
            assert await follower.end() is None
            assert follower.values == [0, 1]
            error = await Follower(client, mode, protocol, request=document, operation="Q").end()
            assert isinstance(error, GraphQLClientException)
            unknown = await Follower(client, mode, protocol, request=document, operation="X").end()
            assert isinstance(unknown, GraphQLClientException)
        assert len(server.upgrades) == 1

    async def test_a_syntax_error_stays_one(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """graphql-core's own, as in every other call."""
        async with client_of(server.url, backend) as client:
            error = await Follower(client, mode, request="subscription {").end()
            assert isinstance(error, graphql.GraphQLSyntaxError)
        assert server.connections == 0

    @pytest.mark.parametrize("when", ["before", "after"])
    async def test_what_is_no_message_ends_it(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, when: str
    ) -> None:
        """The server does not speak the protocol: closed with 4400, and told so."""
        counting.never_ack = when == "before"
        bad = ("{not json", '"text"', "[]", "17", "null", "{}", '{"type": 7}', '{"type": null}')
        async with client_of(counting.url, backend) as client:
            for number, message in enumerate(bad, 1):
                async with Follower(client, "stream", protocol) as follower:
                    if when == "after":
                        await follower.came()
                    else:
                        await began(counting, number)
                    await counting.send_to_sockets(message)
                    error = await follower.end()
                    assert isinstance(error, SubscriptionClosedError)
                    assert error.close_code == 4400
                await counting.socket_count(0)
                await idles(client)
                assert len(counting.upgrades) == number
            assert set(counting.close_codes.values()) == {4400}

    async def test_an_unknown_message_is_ignored_with_one_warning(
        self,
        counting: ScriptedServer,
        backend: Backend,
        protocol: Protocol,
        mode: Mode,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """An extension of the server's is no reason to leave; one line a connection."""
        with caplog.at_level(logging.WARNING, "graphql_prod"):
            async with (
                client_of(counting.url, backend) as client,
                Follower(client, mode, protocol) as follower,
            ):
                await follower.came()
                for _ in range(3):
                    await counting.send_to_sockets({"type": "gossip", "payload": {"a": 1}})
                await follower.came(3)
                assert follower.gaps == []
                warned = [each for each in caplog.records if each.name.startswith("graphql_prod")]
                assert [each.levelname for each in warned] == ["WARNING"]
                assert "unknown type" in warned[0].getMessage()
                counting.reset_sockets()
                await follower.went_on()
                await counting.send_to_sockets({"type": "gossip"})
                await follower.came(3)
                warned = [each for each in caplog.records if "unknown type" in each.getMessage()]
                assert len(warned) == 2

    @pytest.mark.parametrize("kind", ["event", "error", "complete"])
    async def test_a_message_for_an_unknown_id_is_ignored(
        self,
        counting: ScriptedServer,
        backend: Backend,
        protocol: Protocol,
        mode: Mode,
        kind: str,
        caplog: pytest.LogCaptureFixture,
    ) -> None:
        """A late one of a subscription that is over; nothing to warn of."""
        name = kind if kind != "event" else "next" if protocol == "graphql-transport-ws" else "data"
        payload: Any = {"data": {"count": -1}} if kind == "event" else [{"message": "no"}]
        with caplog.at_level(logging.WARNING, "graphql_prod"):
            async with (
                client_of(counting.url, backend) as client,
                Follower(client, mode, protocol) as follower,
            ):
                await follower.came()
                await counting.send_to_sockets({"type": name, "id": "nobody", "payload": payload})
                await follower.came(5)
                assert follower.seen == list(range(len(follower.seen)))
                assert follower.errors == []
        assert [each for each in caplog.records if each.name.startswith("graphql_prod")] == []

    @pytest.mark.parametrize("id_", [[1], {"a": 1}, 7, None, ""], ids=str)
    async def test_an_id_that_is_none_of_ours_does_no_harm(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, id_: Any
    ) -> None:
        """Ignored, or the end with 4400; no endless reconnecting, and no crash.

        But for an error without one: that is the only subscription's.
        """
        async with (
            client_of(counting.url, backend) as client,
            Follower(client, "stream", protocol) as follower,
        ):
            await follower.came()
            names = ("next", "data", "complete", "error")
            for name in names if id_ is not None else names[:-1]:
                await counting.send_to_sockets({"type": name, "id": id_, "payload": {"data": {"count": -1}}})
            seen = len(follower.values)
            await until(lambda: follower.task.done() or follower.gaps or len(follower.values) > seen + 20)
            assert follower.gaps == []
            if follower.task.done():
                error = follower.task.exception()
                assert isinstance(error, SubscriptionClosedError)
                assert error.close_code == 4400

    async def test_an_oversized_message_ends_it(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """max_response_bytes holds for messages too: no memory for whatever is sent."""
        async with client_of(counting.url, backend, settings={"max_response_bytes": 2000}) as client:
            async with Follower(client, mode, protocol) as follower:
                await follower.came()
                with contextlib.suppress(ConnectionError):
                    await counting.send_to_sockets({"type": "ka", "payload": "x" * 3000})
                error = await follower.end()
                assert isinstance(error, SubscriptionClosedError)
                assert error.close_code == 1009
                assert "max_response_bytes" in str(error)
            await counting.socket_count(0)
            assert len(counting.upgrades) == 1
            await idles(client)

    async def test_a_message_that_just_fits_is_taken(
        self, counting: ScriptedServer, backend: Backend, protocol: Protocol
    ) -> None:
        """The limit is the limit."""
        async with (
            client_of(counting.url, backend, settings={"max_response_bytes": 2000}) as client,
            Follower(client, "stream", protocol) as follower,
        ):
            await follower.came()
            message = '{"type": "ka", "payload": "%s"}'
            await counting.send_to_sockets(message % ("x" * (2000 - len(message) + 2)))
            await follower.came(3)
            assert follower.gaps == []

    async def test_a_protocol_that_the_server_does_not_have(
        self, server: ScriptedServer, backend: Backend, mode: Mode
    ) -> None:
        """The server says 4406: fatal at once."""
        async with client_of(server.url, backend) as client:
            server.on_connect = lambda _: 4406
            error = await Follower(client, mode).end()
            assert isinstance(error, SubscriptionClosedError)
            assert error.close_code == 4406
            assert len(server.upgrades) == 1

    @pytest.mark.parametrize(
        "settings",
        [
            {"connect_attempts": 0},
            {"ack_timeout": -1},
            {"ping_interval": -1},
            {"pong_timeout": -1},
            {"wait_initial": -0.1},
            {"wait_initial": 5, "wait_max": 1},
            {"max_reconnects": -1},
            {"stable_after": -1},
            {"fatal_close_codes": ["abc"]},
            {"fatal_close_codes": 4400},
            {"max_queue": 0},
            {"max_queue": True},
            {"overflow": "explode"},
            {"linger": -1},
            {"nonsense": 1},
        ],
        ids=str,
    )
    def test_settings_that_cannot_work(self, settings: dict[str, Any]) -> None:
        """Refused when the policy is made, naming the setting."""
        with pytest.raises(ConfigurationError, match=next(iter(settings))):
            SubscriptionPolicy(**settings)

    def test_the_defaults_are_the_promised_ones(self) -> None:
        """As the contract lists them."""
        assert SubscriptionPolicy().model_dump() == {
            "connect_attempts": 4,
            "ack_timeout": 10.0,
            "ping_interval": 20.0,
            "pong_timeout": 10.0,
            "wait_initial": 0.5,
            "wait_max": 30.0,
            "max_reconnects": None,
            "stable_after": 10.0,
            "fatal_close_codes": frozenset(
                {4400, 4401, 4403, 4406, 4409, 4429, 4500, 1002, 1003, 1007, 1009, 1010, 1015}
            ),
            "refused_close_codes": {4401, 4403},
            "refused_words": REFUSED_WORDS,
            "max_queue": 1000,
            "max_queue_bytes": 16 * 1024 * 1024,
            "overflow": "block",
            "callback_executor": False,
            "share_connection": False,
            "idle_timeout": None,
            "endpoint": None,
            "compression": False,
            "linger": 1.0,
        }

    @pytest.mark.parametrize("what", ["raises", "answers nonsense"])
    async def test_a_resume_that_fails_does_not_hang(
        self, counting: ScriptedServer, backend: Backend, mode: Mode, what: str
    ) -> None:
        """Either it goes on or it ends with an error; never silence."""

        def resume(*_: object) -> Any:
            if what == "raises":
                raise LookupError("no cursor")
            return 17

        async with (
            client_of(counting.url, backend) as client,
            Follower(client, mode, resume=resume) as follower,
        ):
            await follower.came()
            counting.reset_sockets()
            await until(lambda: follower.resumed or follower.task.done())
