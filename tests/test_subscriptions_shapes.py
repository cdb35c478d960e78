"""What servers put into ``error``, ``connection_error`` and events: no word of theirs is lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequestException, GraphQLResponse
from hypothesis import given
from hypothesis import strategies as st
from subscribing import Backend, Follower, Mode, Protocol, client_of, until, value_of
from talking import Talk, talking

from graphql_prod import InvalidResponseError, SubscriptionClosedError
from graphql_prod.subscriptions.shapes import NO_WORDS, errors_in, words_of

if TYPE_CHECKING:
    from graphql_prod.subscriptions.events import SubscriptionErrorEvent

MISSING = object()
ERRORS: dict[str, tuple[object, list[str]]] = {
    "list": ([{"message": "m1", "extensions": {"code": "X"}}, {"message": "m2"}], ["m1", "m2"]),
    "object": ({"message": "m1"}, ["m1"]),
    "errors list": ({"errors": [{"message": "m1"}, {"message": "m2"}]}, ["m1", "m2"]),
    "errors object": ({"errors": {"errorType": "Limit", "message": "m1"}}, ["m1"]),
    "errors texts": ({"errors": ["m1", "m2"]}, ["m1", "m2"]),
    "an answer": ({"data": None, "errors": [{"message": "m1"}]}, ["m1"]),
    "string": ("boom", ["boom"]),
    "strings": (["boom", "bang"], ["boom", "bang"]),
    "no message": ({"errorType": "LimitExceededError"}, ["LimitExceededError"]),
    "message object": ({"message": {"a": 1}}, ['{"a": 1}']),
    "odd names": ([{"message": "m1", "error-code": 7, "class": "c"}], ["m1"]),
    "number": (5, ["5"]),
    "null": (None, [NO_WORDS]),
    "missing": (MISSING, [NO_WORDS]),
    "empty": ([], [NO_WORDS]),
    "errors empty": ({"errors": []}, [NO_WORDS]),
    "empty object": ({}, [NO_WORDS]),
}


@pytest.fixture(params=[False, True], ids=["own", "shared"])
def share(request: pytest.FixtureRequest) -> bool:
    """Each test that asks for it runs on a socket of its own, and on a shared one."""
    return bool(request.param)


def payload_of(shape: object) -> dict[str, object]:
    return {} if shape is MISSING else {"payload": shape}


class TestError:
    @pytest.mark.parametrize("named", [True, False], ids=["id", "no id"])
    async def test_its_words_are_kept(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool, named: bool
    ) -> None:
        """Of any shape; one that names no subscription is the only one's."""
        for shape in ERRORS:
            await self._its_words_are_kept(backend, protocol, mode, share, shape, named)

    async def _its_words_are_kept(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool, shape: str, named: bool
    ) -> None:
        payload, words = ERRORS[shape]

        async def serve(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            key = await talk.asked()
            await talk.send(type="error", **({"id": key} if named else {}), **payload_of(payload))
            await talk.quiet()

        async with (
            talking(serve) as server,
            client_of(server.url, backend, share_connection=share, linger=0.0) as client,
        ):
            follower = Follower(client, mode, protocol)
            error: Any = await follower.end()
            if mode == "subscribe":
                await until(lambda: follower.errors)
                event: SubscriptionErrorEvent = follower.errors[0]  # type: ignore[assignment]
                error = event.exception
            assert type(error) is GraphQLRequestException
            assert [each.message for each in error.response.errors] == words
            assert all(word in str(error).replace('\\"', '"').replace(":1}", ": 1}") for word in words)
            assert server.connections == 1

    async def test_one_that_names_nobody_among_several_is_nobodys(
        self, backend: Backend, protocol: Protocol, caplog: pytest.LogCaptureFixture
    ) -> None:
        """Which one it ended is not guessed; the log says that it came."""

        async def serve(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            keys = [await talk.asked(), await talk.asked()]
            await talk.send(type="error", payload="s3cr3t")
            for key in keys:
                await talk.tell(key, 1)
            await talk.quiet()

        async with (
            talking(serve) as server,
            client_of(server.url, backend, share_connection=True, linger=0.0) as client,
            Follower(client, "stream", protocol) as one,
            Follower(client, "subscribe", protocol) as two,
        ):
            await one.began()
            await two.began()
            assert "names none of the subscriptions" in caplog.text
            assert "s3cr3t" not in caplog.text

    @pytest.mark.parametrize(
        ("kind", "when"), [("connection_error", "before"), ("connection_error", "after"), ("error", "before")]
    )
    async def test_of_a_connection(self, backend: Backend, protocol: Protocol, kind: str, when: str) -> None:
        """A refusal of the connection keeps its words too, before the acknowledgement and after it."""
        for shape in ERRORS:
            await self._of_a_connection(backend, protocol, shape, kind, when)

    async def _of_a_connection(
        self, backend: Backend, protocol: Protocol, shape: str, kind: str, when: str
    ) -> None:
        payload, words = ERRORS[shape]

        async def serve(talk: Talk) -> None:
            await talk.hello()
            if when == "after":
                await talk.ack()
                await talk.tell(await talk.asked(), 1)
            await talk.send(type=kind, **payload_of(payload))
            await talk.quiet()

        async with talking(serve) as server, client_of(server.url, backend) as client:
            error = await Follower(client, "stream", protocol).end()
            assert isinstance(error, SubscriptionClosedError)
            said = "" if words == [NO_WORDS] else f" ({'; '.join(words)})"
            assert error.close_reason == f"refused the connection{said}"
            assert server.connections == 1


NO_ANSWERS: dict[str, object] = {
    "null": None,
    "missing": MISSING,
    "{}": {},
    "string": "x",
    "double-encoded": '{"data":{"count":1}}',
    "list": [{"data": {"count": 1}}],
    "no errors": {"errors": []},
    "data string": {"data": "x"},
    "errors string": {"data": {"count": 1}, "errors": "bad"},
    "message": {"message": "Internal server error"},
}


class TestEvent:
    async def test_what_is_no_answer_ends_its_subscription(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool
    ) -> None:
        """As over HTTP; after the events before it, with a stop to the server; the others go on."""
        for shape in NO_ANSWERS:
            await self._what_is_no_answer_ends_its_subscription(backend, protocol, mode, share, shape)

    async def _what_is_no_answer_ends_its_subscription(
        self, backend: Backend, protocol: Protocol, mode: Mode, share: bool, shape: str
    ) -> None:

        async def serve(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            keys = [await talk.asked() for _ in range(1 + share)]
            for key in keys:
                await talk.tell(key, 1)
            await talk.send(type=talk.event, id=keys[-1], **payload_of(NO_ANSWERS[shape]))
            for key in keys:
                await talk.tell(key, 2)
            await talk.quiet()

        async with (
            talking(serve) as server,
            client_of(server.url, backend, share_connection=share, linger=0.0) as client,
        ):
            other = Follower(client, "stream", protocol) if share else None
            await until(lambda: other is None or server.of("subscribe", "start"))
            follower = Follower(client, mode, protocol)
            error = await follower.end()
            assert isinstance(error, InvalidResponseError)
            assert error.status is None
            assert error.excerpt in str(error)
            assert follower.values == [1]
            if mode == "subscribe":
                assert [each.exception for each in follower.errors] == [error]  # type: ignore[attr-defined]
            [*_, mine] = server.of("subscribe", "start")
            await until(lambda: mine in server.of("complete", "stop"))
            if other is not None:
                await other.began(2)
                await other.stop()
            assert server.connections == 1

    @pytest.mark.parametrize(
        "payload",
        [
            {"data": None},
            {"data": {"count": 1}, "errors": None},
            {"data": {"count": 1}, "extensions": {}},
            {"errors": [{"message": "x"}]},
            {"data": None, "errors": [{"message": "x"}]},
        ],
    )
    async def test_what_is_one_is_handed_over(
        self, backend: Backend, protocol: Protocol, payload: dict[str, object]
    ) -> None:
        """Errors and null are answers."""

        async def serve(talk: Talk) -> None:
            await talk.hello()
            await talk.ack()
            key = await talk.asked()
            await talk.send(type=talk.event, id=key, payload=payload)
            await talk.tell(key, 2)
            await talk.send(type="complete", id=key)
            await talk.quiet()

        async with talking(serve) as server, client_of(server.url, backend) as client:
            events = [event async for event in client.stream("subscription { count }", protocols=protocol)]
            assert events[0].json["payload"] == payload
            assert value_of(events[1]) == 2


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["errors", "message", "code", "error", "a-b", "if"]), inner, max_size=3
        )
    ),
    max_leaves=10,
)


@given(json_values)
def test_any_payload_can_be_read(payload: object) -> None:
    """Whatever JSON it is: errors that the stock client can read, each with words; a text that is bounded."""
    errors = errors_in(payload)
    assert all(
        isinstance(each.message, str) for each in GraphQLResponse(request="", json={"errors": errors}).errors
    )
    assert len(words_of(payload)) <= 200
