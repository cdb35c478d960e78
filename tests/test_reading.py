"""JSON as servers write it: read where a library can, and else told what is wrong with it and where."""

from __future__ import annotations

import asyncio
import contextlib
import json
import math
from typing import TYPE_CHECKING, Any

import orjson
import pytest
from aiographql.client import GraphQLRequestException
from aiographql.client.serializer import OrjsonSerializer
from hypothesis import given
from hypothesis import strategies as st

from graphql_prod import (
    HTTPStatusError,
    InvalidResponseError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    SubscriptionPolicy,
)
from graphql_prod.calls.reading import TolerantSerializer, flaw_of
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from subscribing import Backend

JSON = "application/json"
MUTATION = "mutation Add { increment }"
READ: dict[str, tuple[bytes, Any]] = {
    "half a surrogate pair": (b'{"data":{"a":"nice \\ud83d"}}', "nice \ud83d"),
    "a byte order mark": (b'\xef\xbb\xbf{"data":{"a":"\xc3\xa9"}}', "é"),
    "infinity": (b'{"data":{"a":-Infinity}}', -math.inf),
    "too large a number": (b'{"data":{"a":1e400}}', math.inf),
    "64 bits and more": (b'{"data":{"a":18446744073709551616}}', 2.0**64),
    "a key given twice": (b'{"data":{"a":1},"data":{"a":2}}', 2),
}
FLAWS: dict[str, tuple[bytes, str]] = {
    "cut short": (b'{"data":{"a":1', "ends in the middle (line 1, column 15)"),
    "cut in a text": (b'{"data":\n{"a":"\xc3\xa9\xc3', "ends in the middle"),
    "cut after what orjson refuses": (b'{"data":{"a":NaN,"b":"x', "ends in the middle"),
    "two answers": (b'{"data":{}}\n{"data":{}}', "is no JSON: Extra data (line 2, column 1)"),
    "a word": (b"OK", "is no JSON: Expecting value (line 1, column 1)"),
    "another encoding": ('{"data":{"a":"é"}}'.encode("latin-1"), "is no UTF-8 (byte 14)"),
    "another, twice as wide": ('{"data":{"a":"é"}}'.encode("utf-16"), "is no UTF-8 (byte 0)"),
    "nested without end": (b'{"data":{"a":' + b"[" * 5000 + b"]" * 5000 + b"}}", "nested too deeply"),
    "a number without end": (b'{"data":{"a":NaN,"b":' + b"9" * 5000 + b"}}", "number that is too long"),
    "nothing": (b"", "is empty"),
    "white space": (b" \r\n ", "is empty"),
    "a list": (b'[{"data":{}}]', "is no GraphQL answer: it is no object"),
    "null": (b"null", "is no GraphQL answer: it is no object"),
    "an empty object": (b"{}", "is no GraphQL answer: it has no data and no errors"),
    "another object": (b'{"extensions":{}}', "is no GraphQL answer: it has no data and no errors"),
    "a list of data": (b'{"data":[]}', "is no GraphQL answer: its data is no object"),
    "errors as texts": (b'{"errors":["x"]}', "is no GraphQL answer: its errors are no list of objects"),
    "no errors": (b'{"errors":[]}', "is no GraphQL answer: it has no data and its errors are empty"),
    "null errors": (b'{"errors":null}', "is no GraphQL answer: it has no data and its errors are empty"),
}


def client_of(url: str, backend: Backend, **arguments: Any) -> ProductionClient:
    config = ProductionConfig(
        retry=RetryPolicy(attempts=1),
        subscriptions=SubscriptionPolicy(connect_attempts=1, wait_initial=0.001),
    )
    return ProductionClient(url, validate=False, backend=backend, config=config, **arguments)


@pytest.mark.parametrize(("body", "value"), READ.values(), ids=READ)
async def test_what_the_standard_library_reads_is_read(
    server: ScriptedServer, backend: Backend, body: bytes, value: Any
) -> None:
    """orjson refuses it, JavaScript and Python servers send it."""
    server.always(Answer(body=body, media_type=JSON))
    async with client_of(server.url, backend) as client:
        for document in ("{ a }", MUTATION):
            assert (await client.query(document)).data == {"a": value}


async def test_no_number_is_read(server: ScriptedServer, backend: Backend) -> None:
    """NaN, which is not even equal to itself."""
    server.always(Answer(body=b'{"data":{"a":NaN}}', media_type=JSON))
    async with client_of(server.url, backend) as client:
        assert math.isnan((await client.query("{ a }")).data["a"])


@pytest.mark.parametrize(("body", "flaw"), FLAWS.values(), ids=FLAWS)
async def test_what_cannot_be_read_says_where(
    server: ScriptedServer, backend: Backend, body: bytes, flaw: str
) -> None:
    """The place and the kind; a login page is looked for where one may be."""
    server.always(Answer(body=body, media_type=JSON))
    async with client_of(server.url, backend) as client:
        with pytest.raises(InvalidResponseError) as caught:
            await client.query(MUTATION)
    assert flaw in str(caught.value)
    assert "login page" not in str(caught.value)
    assert caught.value.may_have_executed


@pytest.mark.parametrize(
    ("body", "media"),
    [(b"<!doctype html>", JSON), (b"  <html>", "text/plain"), (b"please log in", "text/html; charset=utf-8")],
)
async def test_a_page_looks_like_one(
    server: ScriptedServer, backend: Backend, body: bytes, media: str
) -> None:
    """HTML by its media type, or by its looks."""
    server.always(Answer(body=body, media_type=media))
    async with client_of(server.url, backend) as client:
        with pytest.raises(InvalidResponseError, match="Look for a login page"):
            await client.query("{ a }")


@pytest.mark.parametrize("status", [400, 429, 500, 503])
@pytest.mark.parametrize("body", [b'{"errors":[]}', b'{"errors":null}'])
@pytest.mark.parametrize("media", [JSON, "application/graphql-response+json"])
async def test_no_errors_are_no_answer_at_any_status(
    server: ScriptedServer, backend: Backend, status: int, body: bytes, media: str
) -> None:
    """Under a status that is no success it is an error page like any other."""
    server.always(Answer(status=status, body=body, media_type=media))
    async with client_of(server.url, backend) as client:
        with pytest.raises(HTTPStatusError) as caught:
            await client.query("{ a }")
    assert caught.value.status == status
    assert len(server.requests) == 1


@pytest.mark.parametrize(
    "body", [b'{"data":null}', b'{"data":null,"errors":[]}', b'{"data":{},"errors":null}']
)
async def test_data_make_an_answer(server: ScriptedServer, backend: Backend, body: bytes) -> None:
    """With data, be they null, empty errors are what the stock takes them for."""
    server.always(Answer(body=body, media_type=JSON))
    async with client_of(server.url, backend) as client:
        answer = await client.query("{ a }")
    assert (answer.data, answer.errors) == ({}, [])


async def test_a_serializer_of_the_callers_keeps_its_ways(server: ScriptedServer, backend: Backend) -> None:
    """Who asked for orjson gets orjson."""
    server.always(Answer(body=READ["a byte order mark"][0], media_type=JSON))
    async with client_of(server.url, backend, serializer=OrjsonSerializer()) as client:
        with pytest.raises(InvalidResponseError, match="the serializer cannot read it"):
            await client.query("{ a }")


@pytest.mark.parametrize("status", [200, 400, 503])
async def test_what_orjson_cannot_write_can_be_raised(
    server: ScriptedServer, backend: Backend, status: int
) -> None:
    """The stock writes a refusal's JSON into its text by orjson, which fails on what was read beside it."""
    body = (
        b'{"errors":[{"message":"cut \\ud83d"},{"message":"n","extensions":{"n":NaN,"i":99999999999999999}}]}'
    )
    server.always(Answer(status=status, body=body, media_type=JSON))
    async with client_of(server.url, backend) as client:
        if status == 200:
            answer: Any = await client.query("{ a }")
        else:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query("{ a }")
            assert caught.value.status == status
            answer = caught.value.response
    assert answer.errors[0].message == "cut \ud83d"


async def test_a_message_of_a_socket_too(server: ScriptedServer, backend: Backend) -> None:
    """Events are read by the same rules."""
    from websockets.asyncio.server import serve

    async def count(socket: Any) -> None:
        with contextlib.suppress(Exception):
            await socket.recv()
            await socket.send('\ufeff{"type":"connection_ack"}')
            start = json.loads(await socket.recv())
            for rest in ('"next","payload":{"data":{"a":"cut \\ud83d","b":NaN}}', '"complete"'):
                await socket.send(f'{{"id":"{start["id"]}","type":{rest}}}')
            await socket.wait_closed()

    async with (
        serve(count, "127.0.0.1", 0, subprotocols=["graphql-transport-ws"]) as listener,  # type: ignore[list-item]
        client_of(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/g", backend) as client,
    ):
        async with asyncio.timeout(10):
            events: list[Any] = [event async for event in client.stream("subscription { a b }")]
    assert [event.payload.data["a"] for event in events] == ["cut \ud83d"]


async def test_an_error_of_a_socket_too(backend: Backend) -> None:
    """The server's own error ends a stream as such, whatever is in it."""
    from websockets.asyncio.server import serve

    async def refuse(socket: Any) -> None:
        with contextlib.suppress(Exception):
            await socket.recv()
            await socket.send('{"type":"connection_ack"}')
            start = json.loads(await socket.recv())
            payload = '[{"message":"cut \\ud83d"}]'
            await socket.send(f'{{"id":"{start["id"]}","type":"error","payload":{payload}}}')
            await socket.wait_closed()

    seen: list[Any] = []
    async with (
        serve(refuse, "127.0.0.1", 0, subprotocols=["graphql-transport-ws"]) as listener,  # type: ignore[list-item]
        client_of(f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/g", backend) as client,
    ):
        with pytest.raises(GraphQLRequestException, match="cut") as caught:
            seen += [event async for event in client.stream("subscription { a b }")]
        await client.subscribe("subscription { a b }", on_error=seen.append, wait=True)
    assert caught.value.response.errors[0].message == "cut \ud83d"
    assert [event.exception.response.errors[0].message for event in seen] == ["cut \ud83d"]


async def test_keys_that_no_attribute_can_have(server: ScriptedServer, backend: Backend) -> None:
    """The stock's errors fail on them; the standard ones are still there."""
    body = b'{"data":null,"errors":[{"message":"x","class":"E","a-b":2,"path":["a"]}]}'
    server.always(Answer(body=body, media_type=JSON))
    async with client_of(server.url, backend) as client:
        answer = await client.query("{ a }")
    assert [(error.message, error.path) for error in answer.errors] == [("x", ["a"])]


anything = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63) | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=10,
)


@given(value=anything, keep=st.integers(0, 10_000), mark=st.booleans())
def test_every_text(value: Any, keep: int, mark: bool) -> None:
    """What either library reads is read; what neither does is a JSONDecodeError, and has a flaw."""
    body = (b"\xef\xbb\xbf" if mark else b"") + json.dumps(value).encode()[:keep]
    try:
        expected = json.loads(body.decode("utf-8-sig"))
    except ValueError:
        with pytest.raises(orjson.JSONDecodeError):
            TolerantSerializer().loads(body)
        assert flaw_of(body) is not None
    else:
        assert json.dumps(TolerantSerializer().loads(body)) == json.dumps(expected)
        assert flaw_of(body) is None


@given(body=st.binary(max_size=40))
def test_every_bytes(body: bytes) -> None:
    """Nothing but a value or a ValueError comes out of strange bytes."""
    with contextlib.suppress(ValueError):
        TolerantSerializer().loads(body)
        assert flaw_of(body) is None
        return
    assert flaw_of(body) is not None
