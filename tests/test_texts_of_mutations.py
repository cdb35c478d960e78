"""What errors say about a mutation: nothing that is not so, and no advice that would not help."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLClientException, GraphQLClientValidationException, GraphQLRequest
from executing import KINDS, Kind, client_of

from graphql_prod import HTTPStatusError, RequestTimeoutError, TransportError
from graphql_prod.documents import runs_nothing
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from graphql_prod import ProductionClient

ONE = "mutation Add { increment }"
QUERIES = "query A { hello } query B { counter }"
BOTH = f"{ONE} query Read {{ hello }}"

every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.mark.parametrize(
    ("document", "name", "words"),
    [
        (ONE, None, None),
        (ONE, "Add", None),
        (ONE, "add", "no operation named 'add'"),
        (ONE, "", "no operation named ''"),
        ("{ hello }", "Read", "no operation named 'Read'"),
        ("query A { hello } fragment F on Query { hello }", "F", "no operation named 'F'"),
        (QUERIES, None, "several operations"),
        (QUERIES, "A", None),
        (BOTH, None, "several operations"),
        ("mutation A { a } mutation A { b }", "A", None),
        ("{ hello", "A", None),
        ("", "A", None),
        ("fragment F on Query { hello }", "A", None),
        ("{a" * 2400 + "}" * 2400, "A", None),
    ],
)
def test_what_runs_nothing(document: str, name: str | None, words: str | None) -> None:
    """A document that is read and has not one operation to run; what cannot be read may run."""
    assert (words or "") in (runs_nothing(document, name) or "")
    assert (runs_nothing(document, name) is None) is (words is None)


def test_a_long_name() -> None:
    """A name is quoted as far as it can be read."""
    assert len(runs_nothing(ONE, "x" * 100_000) or "") < 200


async def failure_of(client: ProductionClient, *args: Any, **kwargs: Any) -> Any:
    with pytest.raises((HTTPStatusError, TransportError, RequestTimeoutError)) as caught:
        await client.query(*args, **kwargs)
    return caught.value


@every_kind
@pytest.mark.parametrize("document", [ONE, QUERIES, "query Read { hello }"])
@pytest.mark.parametrize(
    "answer", [Answer.page(400), Answer.page(503), Answer.reset("body")], ids=["400", "503", "reset"]
)
async def test_an_operation_that_is_not_there(
    server: ScriptedServer, kind: Kind, document: str, answer: Answer
) -> None:
    """The text says that it is not there, and nothing of a mutation that may have run; it is not repeated."""
    server.always(answer)
    async with client_of(kind, server.url) as client:
        for error in (
            await failure_of(client, document, operation="Missing"),
            await failure_of(client, GraphQLRequest(document, operation="Missing")),
        ):
            assert "no operation named 'Missing'" in str(error)
            assert "mutation" not in str(error)
            assert error.attempts == 1
        assert len(server.requests) == 2


async def test_it_is_said_where_it_was_not_sent(unused_tcp_port: int) -> None:
    """Also where no server was there."""
    async with client_of("owned aiohttp", f"http://127.0.0.1:{unused_tcp_port}/graphql") as client:
        error = await failure_of(client, ONE, operation="Missing")
    assert "It was not sent. No part of it can run: the document has no operation named 'Missing'" in str(
        error
    )
    assert not error.may_have_executed


async def test_operations_that_the_call_does_not_name(server: ScriptedServer) -> None:
    """Several operations and no name are told too."""
    server.always(Answer.page(400))
    async with client_of("owned aiohttp", server.url) as client:
        error = await failure_of(client, BOTH)
        assert "several operations, and the call names none" in str(error)
        error = await failure_of(client, BOTH, operation="Add")
        assert "The mutation may have been executed" in str(error)


async def test_the_servers_answer_stays(server: ScriptedServer) -> None:
    """The server is asked, as by the stock: what it says of a name, and what does not fit its schema."""
    async with client_of("owned aiohttp", server.url, validate=True) as client:
        answer = await client.query(ONE, operation="Missing")
        assert "Missing" in str(answer.errors[0].message)
        with pytest.raises(GraphQLClientValidationException):
            await client.query("query Read { nothing }", operation="Missing")


@pytest.mark.parametrize(
    ("document", "name", "words"),
    [
        (ONE, None, "this document is a mutation or cannot be judged. Send it with POST."),
        (BOTH, None, "the document has several operations, and the call names none. Name one"),
        (BOTH, "Missing", "the document has no operation named 'Missing'. Correct the name."),
    ],
)
async def test_what_does_not_go_over_get(
    server: ScriptedServer, document: str, name: str | None, words: str
) -> None:
    """A refusal says what is wrong with the document, and not of every one that it is a mutation."""
    async with client_of("owned aiohttp", server.url, method="get") as client:
        with pytest.raises(GraphQLClientException) as caught:
            await client.query(document, operation=name)
    assert f"only queries may go over GET, and {words}" in str(caught.value)


TOO_MANY = "set throttling.mode to retry"


@every_kind
async def test_too_many_requests(server: ScriptedServer, kind: Kind) -> None:
    """To wait for the server is advised, but where a 429 is repeated already."""
    server.always(Answer.page(429))
    statuses = {"wait_initial": 0, "wait_max": 0, "attempts": 2, "statuses": {429}}
    async with (
        client_of(kind, server.url) as client,
        client_of(kind, server.url, settings={"retry": statuses}) as repeating,
    ):
        marked = client.with_options(idempotent=True)
        for caller, document, advised in (
            (client, "{ hello }", True),
            (client, ONE, True),
            (client.with_options(idempotent=False), ONE, True),
            (marked, ONE, True),
            (repeating, "{ hello }", False),
            (repeating, ONE, True),
        ):
            text = str(await failure_of(caller, document))
            assert (TOO_MANY in text) is advised, text
            assert re.search(r"Call less often\b", text)
