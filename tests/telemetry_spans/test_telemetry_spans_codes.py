"""The code of a server's first error says what went wrong, and cannot flood anybody."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest
from observing import HI
from subscribing import Follower
from telemetry_sdk import client_of, owner_fixture, sdk_fixture  # noqa: F401 -- the fixtures

from graphql_prod import HTTPStatusError, RetryPolicy
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from subscribing import Backend, Mode
    from telemetry_sdk import Owner, Sdk

WILD = "x\r\n\x1b[31m\x9b\u202e" + "A" * 100


def failing(code: object, *further: object, data: bool = False) -> dict[str, Any]:
    """An answer whose errors carry these codes."""
    errors = [{"message": "secret", "extensions": {"code": each}} for each in (code, *further)]
    return {"errors": errors, **({"data": None} if data else {})}


def answer(content: dict[str, Any], status: int = 200) -> Answer:
    """As a server sends it that does not know of GraphQL's own media type."""
    return Answer(
        status=status, body=json.dumps(content).encode(), headers={"Content-Type": "application/json"}
    )


def types_of(sdk: Sdk) -> set[str]:
    """The error types in metrics."""
    return {dict(each).get("error.type", "") for each in sdk.metric("request.duration")}


@pytest.mark.parametrize(
    ("code", "in_span", "in_metric"),
    [
        ("NOT_FOUND", "NOT_FOUND", "NOT_FOUND"),
        ("graphql.v1-x", "graphql.v1-x", "graphql.v1-x"),
        (WILD, "x\\r\\n\\x1b[31m\\x9b\\u202e" + "A" * 54 + "…", "_OTHER"),
        ("two words", "two words", "_OTHER"),
        ("", "GraphQLError", "GraphQLError"),
        (42, "GraphQLError", "GraphQLError"),
        ({"a": 1}, "GraphQLError", "GraphQLError"),
        (None, "GraphQLError", "GraphQLError"),
    ],
)
async def test_the_code_of_the_first_error(
    sdk: Sdk,
    server: ScriptedServer,
    backend: Backend,
    owner: Owner,
    code: object,
    in_span: str,
    in_metric: str,
) -> None:
    """Spans show it escaped and short; metrics take it only if it has the form of a code."""
    server.always(answer(failing(code, "SECOND", data=True)))
    async with client_of(server.url, backend, owner) as client:
        assert (await client.query(HI)).errors
    [call] = [span for span in sdk.spans() if span.name == "query"]
    assert dict(call.attributes or {})["error.type"] == in_span
    assert types_of(sdk) == {in_metric}


async def test_the_code_of_an_answer_that_is_raised(
    sdk: Sdk, server: ScriptedServer, backend: Backend, owner: Owner
) -> None:
    """It says more than the status that it came with; without one the status stays."""
    server.script(answer(failing("BAD_INPUT"), 400), answer({"errors": [{"message": "x"}]}, 400))
    async with client_of(server.url, backend, owner, retry=RetryPolicy(attempts=1)) as client:
        for _ in range(2):
            with pytest.raises(HTTPStatusError):
                await client.query(HI)
    calls = [span for span in sdk.spans() if span.name == "query"]
    assert [dict(span.attributes or {})["error.type"] for span in calls] == ["BAD_INPUT", "400"]
    assert types_of(sdk) == {"BAD_INPUT", "400"}


async def test_a_server_that_makes_codes_up(sdk: Sdk, server: ScriptedServer) -> None:
    """The first hundred make time series, and all others together make one more."""
    server.script(*(answer(failing(f"CODE{number}", data=True)) for number in range(150)))
    async with client_of(server.url) as client:
        for _ in range(150):
            await client.query(HI)
    assert types_of(sdk) == {*(f"CODE{number}" for number in range(100)), "_OTHER"}


async def test_a_subscription_that_is_refused(sdk: Sdk, server: ScriptedServer, mode: Mode) -> None:
    """Its span carries the code of the error that ended it."""
    async with client_of(server.url) as client:
        follower = Follower(client, mode, request="subscription Count { count }")
        await follower.began()
        [message] = await server.subscribed(1)
        await server.send_to_sockets(
            {"type": "error", "id": message.message["id"], "payload": failing(WILD)["errors"]}
        )
        await follower.end()
        await follower.stop()
    (span,) = sdk.spans()
    assert str(dict(span.attributes or {})["error.type"]).startswith("x\\r\\n\\x1b[31m")
