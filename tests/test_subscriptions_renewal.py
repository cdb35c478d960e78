"""Credentials that a server refuses: what says so, how often they are renewed, and on whose connection."""

from __future__ import annotations

import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import Backend, Follower, Mode, Protocol, Provider, client_of, until
from talking import Talk, talking

from graphql_prod import ConfigurationError, SubscriptionClosedError, SubscriptionPolicy
from graphql_prod.subscriptions.policy import REFUSED_CLOSE_CODES, REFUSED_WORDS
from graphql_prod.subscriptions.refusals import Refusals

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    Refuse = Callable[[Talk], Awaitable[None]]

CODES = frozenset({"UNAUTHENTICATED", "invalid-jwt"})


def closes(code: int, reason: str, *, acknowledged: bool = False) -> Refuse:
    async def refuse(talk: Talk) -> None:
        if acknowledged:
            await talk.ack()
        await talk.close(code, reason)

    return refuse


def rejects(payload: object) -> Refuse:
    """Mercurius: connection_error, then a close without a code."""

    async def refuse(talk: Talk) -> None:
        await talk.send(type="connection_error", payload=payload)
        await talk.quiet()

    return refuse


def answers(**message: Any) -> Refuse:
    """In-band, to each subscription."""

    async def refuse(talk: Talk) -> None:
        await talk.ack()
        while True:
            key = await talk.asked()
            await talk.send(**{"type": "error", "id": key, **message})
            if message.get("type") in ("next", "data"):
                await talk.send(type="complete", id=key)

    return refuse


JWT_EXPIRED = '{"server_error_msg":"4400: Could not verify JWT: JWTExpired"}'
REFUSALS: dict[str, Refuse] = {
    "4401": closes(4401, ""),
    "4403": closes(4403, "Forbidden"),
    "Hasura 4400": closes(4400, JWT_EXPIRED),
    "Hasura 1000": closes(1000, JWT_EXPIRED),
    "FastAPI 1008": closes(1008, "Invalid or expired token"),
    "Ariadne 1000": closes(1000, "Unauthorized"),
    "graphql-ws 4500": closes(4500, "UNAUTHENTICATED: who are you"),
    "PostGraphile 4500": closes(4500, "jwt expired", acknowledged=True),
    "Mercurius": rejects("Forbidden"),
    "Apollo": rejects({"message": "Missing auth token!"}),
    "AppSync": rejects({"errors": [{"errorType": "UnauthorizedException", "message": "Token has expired."}]}),
    "error code": answers(payload=[{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]),
    "Hasura error": answers(payload={"errors": [{"message": "x", "extensions": {"code": "invalid-jwt"}}]}),
    "error prose": answers(payload={"message": "jwt expired"}),
    "error text": answers(payload="UNAUTHENTICATED"),
}
FIRST_ANSWER = {"data": None, "errors": [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]}


def guarded(refuse: Refuse, good: list[str]) -> Refuse:
    """A server that refuses every token but one."""

    async def serve(talk: Talk) -> None:
        if await talk.hello() != good[0]:
            await refuse(talk)
            await talk.quiet()
        await talk.ack()
        while True:
            await talk.tell(await talk.asked(), talk.number)

    return serve


@pytest.fixture(params=[False, True], ids=["own", "shared"])
def share(request: pytest.FixtureRequest) -> bool:
    """Each test that asks for it runs on a socket of its own, and on a shared one."""
    return bool(request.param)


def with_provider(
    url: str, backend: Backend, provider: object, share: bool, **policy: Any
) -> contextlib.AbstractAsyncContextManager[Any]:
    return client_of(
        url, backend, objects={"headers_provider": provider}, share_connection=share, linger=0.0, **policy
    )


class TestWhatRefuses:
    async def test_is_renewed_once_at_first(self, backend: Backend, protocol: Protocol, share: bool) -> None:
        """Whatever says so, the credentials are renewed at once, and it begins with new ones."""
        for how in REFUSALS:
            provider = Provider()
            async with (
                talking(guarded(REFUSALS[how], ["token-1"])) as server,
                with_provider(server.url, backend, provider, share, wait_initial=60, wait_max=60) as client,
                Follower(client, "subscribe", protocol) as follower,
            ):
                await follower.began()
                assert follower.values == [2]
                assert provider.asked == [False, True]
                assert not follower.errors

    async def test_ends_when_it_is_refused_again(
        self, backend: Backend, protocol: Protocol, share: bool
    ) -> None:
        """One renewal, then the end, with the server's own words where there are any."""
        for how in REFUSALS:
            provider = Provider()
            async with (
                talking(guarded(REFUSALS[how], ["never"])) as server,
                with_provider(server.url, backend, provider, share) as client,
            ):
                error = await Follower(client, "stream", protocol).end()
                assert error is not None
                assert provider.asked == [False, True]
                assert server.connections == 2

    async def test_ends_at_once_without_other_credentials(
        self, backend: Backend, protocol: Protocol, share: bool
    ) -> None:
        """Without a provider there is nothing to renew: no reconnect shall knock at that door."""
        for how in REFUSALS:
            async with (
                talking(guarded(REFUSALS[how], ["never"])) as server,
                client_of(server.url, backend, share_connection=share, linger=0.0) as client,
            ):
                error = await Follower(client, "stream", protocol).end()
                assert error is not None
                assert server.connections == 1

    async def test_a_first_answer_with_an_error_code(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool
    ) -> None:
        """An event without data whose errors say so is no event; refused again it is delivered."""
        provider, good = Provider(), ["token-1"]
        kind = "data" if protocol == "graphql-ws" else "next"
        async with (
            talking(guarded(answers(type=kind, payload=FIRST_ANSWER), good)) as server,
            with_provider(server.url, backend, provider, share) as client,
        ):
            async with Follower(client, mode, protocol) as follower:
                await follower.began()
                assert (follower.values, follower.gaps, provider.asked) == ([2], [], [False, True])
            good[0] = "never"
            async with contextlib.aclosing(client.stream("subscription { count }")) as events:
                [event] = [event async for event in events]
            assert event.payload.errors[0].message == "no"

    @pytest.mark.parametrize(
        ("code", "reason", "connections"),
        [(1000, "", 3), (1008, "policy", 3), (4400, "Invalid message received", 1), (4500, "Internal", 1)],
    )
    async def test_other_ends_mean_what_they_meant(
        self, backend: Backend, protocol: Protocol, share: bool, code: int, reason: str, connections: int
    ) -> None:
        """Without such words no credentials are renewed."""
        provider = Provider()
        async with (
            talking(guarded(closes(code, reason), ["never"])) as server,
            with_provider(server.url, backend, provider, share, connect_attempts=3) as client,
        ):
            error = await Follower(client, "stream", protocol).end()
            assert isinstance(error, SubscriptionClosedError)
            assert error.close_code == code
            assert provider.asked == [False] * connections

    async def test_the_log_says_why_in_our_words(
        self, backend: Backend, share: bool, caplog: pytest.LogCaptureFixture
    ) -> None:
        """A server's words may quote a token; ours name what said so."""
        caplog.set_level(logging.INFO, "graphql_prod")
        async with (
            talking(guarded(closes(1008, "token expired: s3cr3t"), ["token-1"])) as server,
            with_provider(server.url, backend, Provider(), share) as client,
            Follower(client, "stream") as follower,
        ):
            await follower.began()
            assert "refused the credentials (the reason of the close says so)" in caplog.text
            assert "s3cr3t" not in caplog.text


class TestSettings:
    async def test_other_codes(self, backend: Backend, share: bool) -> None:
        """A set replaces the codes: one put in is renewed once and then ends, although it is not fatal."""
        provider = Provider()
        async with (
            talking(guarded(closes(4003, ""), ["never"])) as server,
            with_provider(server.url, backend, provider, share, refused_close_codes={4003}) as client,
        ):
            error = await Follower(client, "stream").end()
            assert isinstance(error, SubscriptionClosedError)
            assert (error.close_code, provider.asked) == (4003, [False, True])

    async def test_a_predicate(self, backend: Backend, share: bool) -> None:
        """In code a callable is asked for code and reason; one that fails is as good as none."""
        provider, asked = Provider(), []

        def refuses(code: int | None, reason: str | None) -> bool:
            asked.append((code, reason))
            return reason == "Geh weg"

        async with (
            talking(guarded(closes(1013, "Geh weg"), ["token-1"])) as server,
            with_provider(server.url, backend, provider, share, refused_close_codes=refuses) as client,
            Follower(client, "stream") as follower,
        ):
            await follower.began()
            assert (asked, provider.asked) == ([(1013, "Geh weg")], [False, True])

    async def test_other_words(self, backend: Backend) -> None:
        """A set of phrases replaces ours; an empty one looks at no prose."""
        for words, connections in (({"geh weg"}, 2), (frozenset(), 1)):
            async with (
                talking(guarded(closes(4500, "So geh weg!"), ["never"])) as server,
                with_provider(server.url, backend, Provider(), False, refused_words=words) as client,
            ):
                await Follower(client, "stream").end()
                assert server.connections == connections

    def test_bad_settings_are_refused(self) -> None:
        """By name, once."""
        with pytest.raises(ConfigurationError, match="refused_close_codes") as info:
            SubscriptionPolicy(refused_close_codes={12})  # type: ignore[arg-type]
        assert len(info.value.problems) == 1
        codes: object = SubscriptionPolicy(refused_close_codes="4401, 4003").refused_close_codes  # type: ignore[arg-type]
        assert codes == {4401, 4003}
        predicate = SubscriptionPolicy(refused_close_codes=lambda code, reason: False)
        assert callable(predicate.model_dump()["refused_close_codes"])

    @pytest.mark.parametrize(
        ("text", "refused"),
        [
            ("JWTExpired", True),
            ("JWT is expired", True),
            ("The token has expired", True),
            ("TOKEN_EXPIRED", True),
            ("unauthorised.", True),
            ("UnauthorizedException", True),
            ("User is not authenticated", True),
            ("Signature has expired", True),
            ("invalid-jwt", True),
            ("Forbidden", True),
            ("unforbidden", False),
            ("Unexpected token < in JSON", False),
            ("Invalid message received", False),
            ("Going away", False),
            ("the lease expired", False),
            ("", False),
        ],
    )
    def test_words_are_compared_as_words(self, text: str, refused: bool) -> None:
        """Without case, with camel case and underlines taken apart, never inside another word."""
        refusals = Refusals(REFUSED_CLOSE_CODES, REFUSED_WORDS, CODES)
        assert (refusals.in_close(1008, text) is not None) is refused
        assert refusals.in_payload([{"message": text}]) is refused

    @pytest.mark.parametrize(
        ("payload", "refused"),
        [
            ([{"message": "x", "extensions": {"code": "UNAUTHENTICATED"}}], True),
            ({"message": "x", "code": "invalid-jwt"}, True),
            ({"errors": {"errorType": "UNAUTHENTICATED"}}, True),
            ("UNAUTHENTICATED", True),
            ([{"message": "no such row", "extensions": {"code": "FORBIDDEN"}}], False),
            ([{"message": "x", "path": ["forbidden"], "extensions": {"exception": "jwt expired"}}], False),
            (None, False),
            (7, False),
        ],
    )
    def test_where_codes_and_words_are_looked_for(self, payload: object, refused: bool) -> None:
        """Codes where errors have theirs, words in what they say; not in paths, nor in stack traces."""
        assert Refusals(REFUSED_CLOSE_CODES, REFUSED_WORDS, CODES).in_payload(payload) is refused


class TestLater:
    @pytest.mark.parametrize("how", ["Hasura 4400", "Mercurius", "error code", "error prose"])
    async def test_it_is_told_as_a_gap(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool, how: str
    ) -> None:
        """A token that expires under a subscription that is established: renewed, a gap, and on."""
        provider = Provider()

        async def serve(talk: Talk) -> None:
            token = await talk.hello()
            await talk.ack()
            key = await talk.asked()
            await talk.tell(key, talk.number)
            if token == "token-0":
                if how == "Mercurius":
                    await talk.send(type="connection_error", payload="Forbidden")
                elif how == "Hasura 4400":
                    await talk.close(4400, JWT_EXPIRED)
                elif how == "error code":
                    errors = [{"message": "no", "extensions": {"code": "UNAUTHENTICATED"}}]
                    await talk.send(type="error", id=key, payload=errors)
                else:
                    await talk.send(type="error", id=key, payload={"message": "token expired"})
            await talk.quiet()

        async with (
            talking(serve) as server,
            with_provider(server.url, backend, provider, share) as client,
            Follower(client, mode, protocol) as follower,
        ):
            await follower.went_on()
            assert follower.values == [1, 2]
            assert follower.gaps[0].attempts == 1
            assert provider.asked == [False, True]

    async def test_the_right_to_a_renewal_comes_back(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool
    ) -> None:
        """A subscription whose token ends in-band every hour is renewed every hour."""
        provider = Provider()

        gates: list[Talk] = []

        async def expiring(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            key = await talk.asked()
            await talk.tell(key, talk.number)
            gates.append(talk)
            await talk.quiet()

        async def expire(follower: Follower) -> None:
            talk = gates.pop()
            [key] = [key for number, key in server.of("subscribe", "start") if number == talk.number]
            await follower.lasts(0.03)
            await talk.send(type="error", id=key, payload=[{"message": "token expired"}])

        async with (
            talking(expiring) as server,
            with_provider(server.url, backend, provider, share, stable_after=0.02) as client,
            Follower(client, mode, protocol) as follower,
        ):
            for number in (1, 2, 3):
                await until(lambda: gates)
                await expire(follower)
                await follower.went_on(number)
            assert sum(provider.asked) == 3


def checking_each(good: set[str]) -> Refuse:
    """A server that looks at the connection's token at each subscription, and lets those that run run."""

    async def serve(talk: Talk) -> None:
        token = await talk.hello()
        await talk.ack()
        while True:
            key = await talk.asked()
            if token in good:
                await talk.tell(key, talk.number)
            else:
                await talk.send(type="error", id=key, payload=[{"message": "token expired"}])

    return serve


class TestOnASharedSocket:
    async def test_a_newcomer_gets_a_connection_with_fresh_credentials(
        self, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """The socket's token is old: only the newcomer moves, and those after it come to where it is."""
        provider, good = Provider(), {"token-0"}
        async with (
            talking(checking_each(good)) as server,
            with_provider(server.url, backend, provider, True) as client,
            Follower(client, "stream", protocol) as old,
        ):
            await old.began()
            good.clear()
            good.add("token-1")
            async with (
                Follower(client, mode, protocol) as newcomer,
                Follower(client, mode, protocol) as another,
            ):
                await newcomer.began()
                await another.began()
                assert (newcomer.values, another.values) == ([2], [2])
                assert newcomer.gaps == another.gaps == []
                async with Follower(client, mode, protocol) as last:
                    await last.began()
                    assert last.values == [2]
                assert (server.connections, provider.asked) == (2, [False, True])
                assert client.stats().sockets == 2
                assert not old.gaps
            await until(lambda: client.stats().sockets == 1)

    async def test_one_that_is_always_refused_leaves_the_others_alone(
        self, backend: Backend, protocol: Protocol, mode: Mode
    ) -> None:
        """Renewed once; the next asks for no other token, and all share as before."""
        provider = Provider()

        async def serve(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            while True:
                message = await talk.receive()
                if message["type"] not in ("subscribe", "start"):
                    continue
                if "forbidden" in message["payload"]["query"]:
                    await talk.send(type="error", id=message["id"], payload=[{"message": "Forbidden"}])
                else:
                    await talk.tell(message["id"], talk.number)

        async with (
            talking(serve) as server,
            with_provider(server.url, backend, provider, True) as client,
            Follower(client, "stream", protocol) as good,
        ):
            await good.began()
            for _ in range(3):
                refused = Follower(client, mode, protocol, "subscription { forbidden }")
                error = await refused.end()
                assert "Forbidden" in f"{error} {[each.json for each in refused.errors]}"
            async with Follower(client, mode, protocol) as another:
                await another.began()
                assert another.values == [1]
            assert sum(provider.asked) == 1

    async def test_what_is_always_refused_does_not_storm_the_token_service(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool
    ) -> None:
        """A renewal that did not help is not asked for again soon, however often a program subscribes."""
        provider = Provider()
        async with (
            talking(guarded(REFUSALS["error prose"], ["never"])) as server,
            with_provider(server.url, backend, provider, share) as client,
        ):
            for _ in range(3):
                follower = Follower(client, mode, protocol)
                error = await follower.end()
                assert "jwt expired" in f"{error} {[each.json for each in follower.errors]}"
            assert sum(provider.asked) == 1

    async def test_without_room_for_another_connection_it_is_refused(
        self, backend: Backend, protocol: Protocol
    ) -> None:
        """The limit holds; the error is the server's."""
        provider, good = Provider(), {"token-0"}
        settings = {"pool": {"subscriptions": 1}}
        async with (
            talking(checking_each(good)) as server,
            client_of(
                server.url,
                backend,
                objects={"headers_provider": provider},
                settings=settings,
                share_connection=True,
            ) as client,
            Follower(client, "stream", protocol) as old,
        ):
            await old.began()
            good.clear()
            error = await Follower(client, "stream", protocol).end()
            assert "token expired" in str(error)
            assert (server.connections, provider.asked) == (1, [False])


class TestCallablePayload:
    @pytest.mark.parametrize("kind", ["sync", "async", "plain"])
    async def test_it_is_asked_at_each_connect(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool, kind: str
    ) -> None:
        """With refresh=True after a refusal, if it takes that; no headers_provider is needed."""
        asked: list[bool] = []

        def payload(refresh: bool = False) -> dict[str, str]:
            asked.append(refresh)
            return {"authToken": f"token-{len(asked)}"}

        async def slowly(refresh: bool = False) -> dict[str, str]:
            return payload(refresh)

        def plainly() -> dict[str, str]:
            return payload()

        given: Any = {"sync": payload, "async": slowly, "plain": plainly}[kind]

        async def serve(talk: Talk) -> None:
            await talk.hello()
            if talk.init["authToken"] == "token-1":
                await talk.close(4403, "Forbidden")
            await talk.ack()
            await talk.tell(await talk.asked(), talk.number)
            if talk.number == 2:
                await talk.close(1012)
            await talk.quiet()

        async with (
            talking(serve) as server,
            client_of(server.url, backend, share_connection=share, linger=0.0) as client,
            Follower(client, mode, protocol, connection_init_payload=given) as follower,
        ):
            await follower.went_on()
            assert follower.values == [2, 3]
            assert asked == [False, kind != "plain", False]

    @pytest.mark.parametrize("bad", ["raises", "a list"])
    async def test_its_failure_is_told_as_a_providers(self, backend: Backend, mode: Mode, bad: str) -> None:
        """Nothing was sent; its own exception is the cause."""

        def payload() -> Any:
            if bad == "raises":
                raise LookupError("s3cr3t")
            return ["x"]

        async with (
            talking(lambda talk: talk.quiet()) as server,
            client_of(server.url, backend, connect_attempts=1) as client,
        ):
            error = await Follower(client, mode, connection_init_payload=payload).end()
            assert "its connection_init_payload failed with a" in str(error)
            assert "s3cr3t" not in str(error)
            assert type(error.__cause__) is (LookupError if bad == "raises" else TypeError)  # type: ignore[union-attr]

    async def test_sockets_are_shared_by_the_object(self, backend: Backend, protocol: Protocol) -> None:
        """The same function or method is one socket, another is another."""

        class Tenant:
            def payload(self) -> dict[str, str]:
                return {"tenant": "same"}

        async def serve(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            while True:
                await talk.tell(await talk.asked(), talk.number)

        a, b = Tenant(), Tenant()
        async with (
            talking(serve) as server,
            client_of(server.url, backend, share_connection=True, linger=0.0) as client,
        ):
            followers = [
                Follower(client, "stream", protocol, connection_init_payload=each)
                for each in (a.payload, a.payload, b.payload, dict, {"tenant": "same"})
            ]
            for each in followers:
                await each.began()
            assert server.connections == 4
            assert followers[0].values == followers[1].values
            for each in followers:
                await each.stop()

    async def test_what_is_neither_is_refused(self, backend: Backend) -> None:
        """At once, by name."""
        async with client_of("http://127.0.0.1:9/graphql", backend) as client:
            with pytest.raises(ConfigurationError, match="connection_init_payload must be a mapping"):
                await client.subscribe("subscription { count }", connection_init_payload="token")  # type: ignore[arg-type]
