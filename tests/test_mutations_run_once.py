"""Refused credentials: a mutation is repeated only if the answer says that nothing of it ran."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
from aiographql.client import (
    GraphQLClientException,
    GraphQLRequest,
    GraphQLRequestException,
    GraphQLResponse,
)
from executing import JSON, KINDS, RESPONSE, Executing, Kind, Tokens, client_of

from graphql_prod import HTTPStatusError, ProductionClient, ProductionConfig, RetryPolicy, TransportError
from graphql_prod.calls.request_errors import is_request_error

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

CHARGE = "mutation Charge { charge(amount: 5) { id } }"
CODE = {"extensions": {"code": "UNAUTHENTICATED"}}

# What says that something may have run, although it refuses.
RAN: dict[str, Any] = {
    "null data, and a path": {"data": None, "errors": [{"message": "no", "path": ["notify"], **CODE}]},
    "null data, no path": {"data": None, "errors": [{"message": "no", **CODE}]},
    "empty data": {"data": {}, "errors": [{"message": "no", **CODE}]},
    "some data": {"data": {"charge": {"id": "5"}}, "errors": [{"message": "no", **CODE}]},
    "a path, no data": {"errors": [{"message": "no", "path": ["notify"], **CODE}]},
    "an empty path": {"errors": [{"message": "no", "path": [], **CODE}]},
    "a path that is a text": {"errors": [{"message": "no", "path": "notify", **CODE}]},
    "the path of another error": {
        "errors": [{"message": "no", **CODE}, {"message": "broken", "path": ["charge"]}]
    },
}
# What says that nothing ran.
REFUSED: dict[str, Any] = {
    "no data, no path": {"errors": [{"message": "no", **CODE}]},
    "a null path": {"errors": [{"message": "no", "path": None, **CODE}]},
    "locations": {"errors": [{"message": "no", "locations": [{"line": 1, "column": 1}], **CODE}]},
    "Hasura's path": {"errors": [{"message": "no", "extensions": {"path": "$", "code": "invalid-jwt"}}]},
    "one of two codes": {"errors": [{"message": "no", **CODE}, {"message": "no"}]},
}
# What refuses under a 401 without being a GraphQL answer: nothing behind it was asked.
REFUSALS: dict[str, tuple[str, str]] = {
    "a page": ("text/html", "<h1>Who are you?</h1>"),
    "nothing": (JSON, ""),
    "an object of somebody's": (JSON, '{"message": "Bad credentials"}'),
    "errors that are texts": (JSON, '{"errors": ["Unauthorized"]}'),
    "a text": (JSON, '"Unauthorized"'),
    "no JSON": (JSON, "Unauthorized"),
}
UNREADABLE = {
    "broken": '\xff{"data": null, "errors": [{"message": "no"}]}',
    "in UTF-16": '{"data": null, "errors": [{"message": "no"}]}'.encode("utf-16").decode("latin-1"),
    "with an escape": '{"d\\u0061ta": null, "errors": [{"message": "no"}]',
}
STATUSES = [(status, media) for status in (200, 400, 401, 403, 500) for media in (JSON, RESPONSE)]

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
async def server() -> AsyncIterator[Executing]:
    async with Executing().running() as running:
        yield running


def _without_codes(body: Any) -> Any:
    errors = [{k: v for k, v in error.items() if k != "extensions"} for error in body["errors"]]
    return {**body, "errors": errors}


@pytest.mark.parametrize(
    ("body", "refuses"),
    [
        *((body, False) for body in RAN.values()),
        *((_without_codes(body), False) for body in RAN.values()),
        *((body, True) for body in REFUSED.values()),
        ({"data": None}, False),
        ({"data": {}}, False),
        ({"data": 5}, False),
        ({"data": None, "errors": ["no"]}, False),
        ({"errors": {"path": ["a"]}}, False),
        ({"errors": [["path"], "path", {"path": 0}]}, False),
        ({}, True),
        ({"errors": []}, True),
        ({"errors": None}, True),
        ({"errors": ["path"]}, True),
        ({"message": "no", "path": "/graphql"}, True),
        ([], True),
        (None, True),
    ],
)
def test_a_request_error(body: Any, refuses: bool) -> None:
    """No ``data`` key at all, and no error with a path: nothing else says that nothing ran."""
    assert is_request_error(body) is refuses


async def outcome(client: ProductionClient, *args: Any, **kwargs: Any) -> Any:
    """The answer, or the error."""
    try:
        return await client.query(*args, **kwargs)
    except GraphQLClientException as error:
        return error


class TestWhatRan:
    @every_kind
    @pytest.mark.parametrize(
        ("document", "ran"),
        [
            ("mutation { charge(amount: 5) { id } notify }", {"charge": 1}),
            ("mutation { both }", {"both": 1}),
            ("mutation { log }", {"log": 1}),
            ("query Q { me } mutation M { both }", {"both": 1}),
        ],
    )
    async def test_refused_in_mid_execution(
        self, server: Executing, kind: Kind, document: str, ran: dict[str, int]
    ) -> None:
        """A resolver that refuses the token takes the data of its siblings along: the mutation ran, and
        its answer is returned as it is."""
        tokens = Tokens()
        name = "M" if "mutation M" in document else None
        async with client_of(kind, server.url, tokens) as client:
            answer = await client.query(document, operation=name)
        assert [error.message for error in answer.errors] == ["token expired"]
        assert server.ran == ran
        assert tokens.asked == [False]

    @every_kind
    async def test_every_shape_under_every_status(self, server: Executing, kind: Kind) -> None:
        """Data or a path says that a part may have run, whatever the status and the media type."""
        async with client_of(kind, server.url, Tokens()) as client:
            for status, media in STATUSES:
                for what, body in RAN.items():
                    server.says = (status, media, json.dumps(body))
                    server.ran.clear()
                    told = await outcome(client, CHARGE)
                    assert server.ran == {"charge": 1}, (what, status, media)
                    if isinstance(told, Exception):
                        assert isinstance(told, HTTPStatusError)
                        assert told.response.json == body
                        assert (told.attempts, told.may_have_executed) == (1, True), (what, status, media)
                    else:
                        assert told.json == body

    @every_kind
    async def test_a_401_with_an_answer_and_without_a_code(self, server: Executing, kind: Kind) -> None:
        """A 401 proves nothing where its body is a GraphQL answer that may have run."""
        async with client_of(kind, server.url, Tokens()) as client:
            for media in (JSON, RESPONSE):
                for what, body in RAN.items():
                    server.says = (401, media, json.dumps(_without_codes(body)))
                    server.ran.clear()
                    await outcome(client, CHARGE)
                    assert server.ran == {"charge": 1}, (what, media)

    @pytest.mark.parametrize("kind", KINDS[2:])
    @pytest.mark.parametrize("media", [JSON, f"{RESPONSE}; charset=utf-8"])
    async def test_a_body_that_nobody_reads(self, server: Executing, kind: Kind, media: str) -> None:
        """A session that raises for a 401 hides an answer in which anything may stand."""

        async def raising(response: httpx.Response) -> None:
            response.raise_for_status()

        server.says = (401, media, json.dumps(RAN["null data, no path"]))
        session: Any = (
            aiohttp.ClientSession(raise_for_status=True)
            if kind == "given aiohttp"
            else httpx.AsyncClient(event_hooks={"response": [raising]}, trust_env=False)
        )
        async with session, client_of(kind, server.url, Tokens(), session=session) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(CHARGE)
            assert caught.value.may_have_executed
            assert server.ran == {"charge": 1}
            assert (await client.query("{ greeting }")).data == {"greeting": "hello"}
            server.says = (401, "text/plain", "no")
            server.executes = False
            server.ran.clear()
            assert (await client.query(CHARGE)).data == {"charge": {"id": "5"}}
            assert server.ran == {"charge": 1}

    @every_kind
    @pytest.mark.parametrize("body", UNREADABLE.values(), ids=UNREADABLE)
    async def test_a_body_that_nobody_can_read(self, server: Executing, kind: Kind, body: str) -> None:
        """An answer under a 401 that cannot be read may have data all the same."""
        server.says = (401, JSON, body)
        async with client_of(kind, server.url, Tokens()) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(CHARGE)
        assert caught.value.may_have_executed
        assert server.ran == {"charge": 1}

    @every_kind
    @pytest.mark.parametrize(
        "request_",
        [
            GraphQLRequest("query Q { greeting } mutation M { charge(amount: 5) { id } }", operation="M"),
            GraphQLRequest("", extensions={"persistedQuery": {"version": 1, "sha256Hash": "0" * 64}}),
        ],
        ids=["one of several", "persisted"],
    )
    async def test_what_is_treated_as_a_mutation(
        self, server: Executing, kind: Kind, request_: GraphQLRequest
    ) -> None:
        """One of several operations, and a persisted one that only the server knows, are held to the rule."""
        server.says = (200, JSON, json.dumps(RAN["null data, no path"]))
        tokens = Tokens()
        async with client_of(kind, server.url, tokens) as client:
            assert (await client.query(request_)).errors
            assert server.ran == {"charge": 1}
            server.says, server.executes = (200, JSON, json.dumps(REFUSED["no data, no path"])), False
            assert (await client.query(request_)).data == {"charge": {"id": "5"}}
        assert server.ran == {"charge": 2}
        assert tokens.asked == [False, False, True]


class TestWhatDidNotRun:
    @every_kind
    async def test_every_shape_under_every_status(self, server: Executing, kind: Kind) -> None:
        """A request error with a code is answered with new credentials and one repetition."""
        server.executes = False
        for status, media in STATUSES:
            for what, body in REFUSED.items():
                server.says = (status, media, json.dumps(body))
                server.ran.clear()
                tokens = Tokens()
                async with client_of(kind, server.url, tokens) as client:
                    answer = await client.query(CHARGE)
                assert answer.data == {"charge": {"id": "5"}}, (what, status, media)
                assert server.ran == {"charge": 1}
                assert tokens.asked == [False, True]

    @every_kind
    @pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
    async def test_a_401_from_before_the_execution(
        self, server: Executing, kind: Kind, refusal: tuple[str, str]
    ) -> None:
        """A 401 that is no GraphQL answer comes from before the execution."""
        server.executes, server.says = False, (401, *refusal)
        tokens = Tokens()
        async with client_of(kind, server.url, tokens) as client:
            assert (await client.query(CHARGE)).data == {"charge": {"id": "5"}}
        assert server.ran == {"charge": 1}
        assert tokens.asked == [False, True]

    @every_kind
    async def test_then_nothing_can_be_sent(self, server: Executing, kind: Kind) -> None:
        """What was refused did not run: with later attempts unsent, nothing was executed."""
        server.executes, server.says = False, (401, "text/plain", "no")
        async with client_of(kind, server.url, Tokens(server.stop)) as client:
            with pytest.raises(TransportError) as caught:
                await client.query(CHARGE)
        assert (caught.value.attempts, caught.value.may_have_executed) == (5, False)

    @every_kind
    async def test_a_stream_of_refusals(self, server: Executing, kind: Kind) -> None:
        """There is one repetition a call, whatever the server says to the new token."""
        server.executes, server.says = False, (401, "text/plain", "no")

        async def stale(refresh: bool = False) -> dict[str, str]:
            return {"Authorization": "Bearer old"}

        async with client_of(kind, server.url, stale) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(CHARGE)
        assert caught.value.attempts == 2
        assert not server.ran


class TestRepeated:
    @every_kind
    async def test_queries(self, server: Executing, kind: Kind) -> None:
        """A query is repeated, whatever ran of it."""
        tokens = Tokens()
        async with client_of(kind, server.url, tokens) as client:
            answer = await client.query("{ greeting me }")
        assert answer.data == {"greeting": "hello", "me": "Ada"}
        assert server.ran == {"greeting": 2, "me": 2}
        assert tokens.asked == [False, True]

    @every_kind
    @pytest.mark.parametrize(
        "settings", [{}, {"mutations": "always"}, {"idempotency_header": "Idempotency-Key"}]
    )
    async def test_marked_mutations(self, server: Executing, kind: Kind, settings: dict[str, Any]) -> None:
        """So is a mutation that is marked idempotent, in whichever way."""
        retry = {"wait_initial": 0, **settings}
        async with client_of(kind, server.url, Tokens(), settings={"retry": retry}) as client:
            client = client if settings else client.with_options(idempotent=True)
            assert (await client.query("mutation { both }")).data == {"both": 1}
        assert server.ran == {"both": 2, "notify": 1}

    @every_kind
    async def test_then_nothing_can_be_sent(self, server: Executing, kind: Kind) -> None:
        """What ran may have executed, although no later attempt was sent."""
        async with client_of(kind, server.url, Tokens(server.stop)) as client:
            with pytest.raises(TransportError) as caught:
                await client.with_options(idempotent=True).query("mutation { both }")
        assert server.ran == {"both": 1}
        assert (caught.value.attempts, caught.value.may_have_executed) == (5, True)
        assert "may have been executed" in str(caught.value)
        assert "not sent" not in str(caught.value)

    @every_kind
    async def test_then_the_provider_fails(self, server: Executing, kind: Kind) -> None:
        """So it may where the renewal fails: the error does not say that nothing was sent."""

        async def fails() -> None:
            raise RuntimeError

        async with client_of(kind, server.url, Tokens(fails)) as client:
            with pytest.raises(TransportError) as caught:
                await client.with_options(idempotent=True).query("mutation { both }")
        assert server.ran == {"both": 1}
        assert (caught.value.attempts, caught.value.may_have_executed) == (1, True)
        assert isinstance(caught.value.__cause__, RuntimeError)
        assert "Nothing was sent" not in str(caught.value)
        assert "may have been executed" in str(caught.value)


class OwnTransport:
    """A transport of the caller's, which shows no status: it returns what it is told, or raises it."""

    def __init__(self, *, raises: bool) -> None:
        self.raises = raises
        self.body: Any = None
        self.tokens: list[str] = []

    async def request(
        self, method: str, request: GraphQLRequest, serializer: Any, **_: Any
    ) -> GraphQLResponse:
        self.tokens.append(request.headers["Authorization"])
        if self.tokens[-1] == "Bearer new":
            return GraphQLResponse(request=request, json={"data": {"charge": {"id": "5"}}})
        response = GraphQLResponse(request=request, json=self.body)
        if self.raises:
            raise GraphQLRequestException(response)
        return response

    async def close(self) -> None: ...


@pytest.mark.parametrize("raises", [False, True])
async def test_a_transport_of_the_callers(raises: bool) -> None:
    """A caller's own transport is held to the same rule, whether it returns a refusal or raises it."""
    for bodies, sent in ((RAN, ["Bearer old"]), (REFUSED, ["Bearer old", "Bearer new"])):
        for what, body in bodies.items():
            transport = OwnTransport(raises=raises)
            transport.body = body
            async with client_of(
                "owned aiohttp", "http://h/graphql", Tokens(), transport=transport
            ) as client:
                told = await outcome(client, CHARGE)
            assert transport.tokens == sent, what
            if raises and bodies is RAN:
                assert told.may_have_executed


class Twice(ProductionClient):
    """Somebody's own retry: a second call where the first was refused."""

    async def query(self, *args: Any, **kwargs: Any) -> Any:
        answer = await super().query(*args, **kwargs)
        if not answer.errors:
            return answer
        return await super().query("query { greeting }")


async def test_a_call_of_several_parts(server: Executing) -> None:
    """Of a call that is made of several, one error tells: what ran in the first is not unsaid by the last."""

    async def provider() -> dict[str, str]:
        if server.tokens:
            await server.stop()
        return {"Authorization": "Bearer old"}

    config = ProductionConfig(retry=RetryPolicy(attempts=1))
    async with Twice(server.url, validate=False, headers_provider=provider, config=config) as client:
        with pytest.raises(TransportError) as caught:
            await client.query_data_as("mutation { both }", dict)
    assert server.ran == {"both": 1}
    assert getattr(caught.value, "may_have_executed", None) is True


class Decoding(ProductionClient):
    """Somebody's own query, which decodes on the way: a part with a part of its own."""

    async def query(self, *args: Any, **kwargs: Any) -> Any:
        if kwargs["request"] != "{ greeting }":
            return await super().query(*args, **kwargs)
        await self.query_data_as("mutation { both }", dict)
        raise LookupError


async def test_a_part_of_a_part(server: Executing) -> None:
    """What ran in a part of a part is known to the whole."""
    async with Decoding(server.url, validate=False, headers={"Authorization": "Bearer new"}) as client:
        with pytest.raises(LookupError) as caught:
            await client.query_data_as("{ greeting }", dict)
    assert server.ran == {"both": 1, "notify": 1}
    assert getattr(caught.value, "may_have_executed", None) is True
