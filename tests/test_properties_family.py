"""What holds for every error of a call: it is of the family, tells no secret, and advises nothing in vain."""

from __future__ import annotations

import asyncio
import json
import string
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import DefaultGraphQLCodec, GraphQLClientException, GraphQLRequest
from graphql import GraphQLSyntaxError
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from raw_http import KINDS, MUTATION, QUERY, RawServer, answer, client_of

from graphql_prod import ProductionConfig, RetryPolicy, TimeoutPolicy

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator

    from raw_http import Asked, Kind

    from graphql_prod import ProductionClient

SECRET = "s3cr3tS3cr3t"
POLICIES = [
    RetryPolicy(attempts=1),
    RetryPolicy(attempts=2, wait_initial=0, wait_max=0),
    RetryPolicy(attempts=2, wait_initial=0, wait_max=0, statuses={429, 503}, mutations="always"),
    RetryPolicy(attempts=2, wait_initial=0, wait_max=0, mutations="never", budget=None),
    RetryPolicy(attempts=2, wait_initial=0, wait_max=0, idempotency_header="Idempotency-Key"),
]
LIMITS = [
    TimeoutPolicy(total=5),
    TimeoutPolicy(total=5, attempt=2, read=1),
    TimeoutPolicy(total=None, read=2),
]


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: looking for it around each test would cost more than they do."""


class Reply:
    """Whatever the test has put in, and then the end of the connection."""

    def __init__(self) -> None:
        self.raw = b""

    def __call__(self, asked: Asked) -> bytes:
        asked.writer.write(self.raw)
        return b""


@pytest.fixture(scope="module")
def reply() -> Reply:
    """What the server says."""
    return Reply()


@pytest.fixture(scope="module")
def server(reply: Reply) -> Iterator[RawServer]:
    """One server for all the examples."""
    with RawServer(reply) as server:
        yield server


def ends(error: BaseException, config: ProductionConfig, *, sent: bool) -> None:
    """The rules."""
    if isinstance(error, GraphQLSyntaxError):
        event("syntax")
        return
    assert isinstance(error, GraphQLClientException), repr(error)
    event(type(error).__name__)
    text = str(error)
    policy, limits = config.retry, config.timeout
    assert isinstance(policy, RetryPolicy)
    assert SECRET not in "".join(traceback.format_exception(error))
    assert text.replace("\n", "").isprintable()
    assert getattr(error, "may_have_executed", False) <= sent
    assert policy.attempts > 1 or "retry.attempts" not in text
    assert policy.budget is not None or "retry.budget" not in text
    for name in ("total", "attempt", "read", "connect"):
        if getattr(limits, name) is None:
            assert f"timeout.{name}" not in text
    assert "If an address" not in text
    assert "not marked idempotent" not in text or policy.mutations != "always"


async def _asked(
    kind: Kind, url: str, ask: Callable[[ProductionClient], Awaitable[Any]], **arguments: Any
) -> tuple[BaseException, ProductionConfig] | None:
    config = arguments["config"]
    try:
        async with client_of(kind, url, **arguments) as client:
            await ask(client)
    except Exception as error:  # noqa: BLE001 -- that it is of the family is the question
        return error, config
    return None


def hold(
    kind: Kind, server: RawServer, ask: Callable[[ProductionClient], Awaitable[Any]], **arguments: Any
) -> None:
    """Ask, and look at what ends the call."""
    before = len(server.asked)
    arguments.setdefault("url", server.url)
    found = asyncio.run(_asked(kind, ask=ask, **arguments))
    if found is None:
        event("answered")
    else:
        ends(*found, sent=len(server.asked) > before)


bounded = settings(
    max_examples=40,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
every_kind = pytest.mark.parametrize("kind", KINDS)
documents = st.sampled_from([QUERY, MUTATION, "{ a b", "", "query A { a } query B { b }", "mutation {"])
methods = st.sampled_from(["post", "get"])


# --- headers --------------------------------------------------------------------------------------

names = (
    st.sampled_from(["Authorization", "content-type", "Host", "Content-Length", "X-A", ""])
    | st.text("Xx-: \n\0é\ud800", max_size=4)
    | st.none()
    | st.integers()
    | st.binary(max_size=3)
)
values = (
    st.text(max_size=5).map(lambda text: SECRET + text)
    | st.text(max_size=5)
    | st.sampled_from([None, 5, b"x", [SECRET], f"{SECRET}\n", f"{SECRET}\r\nX: y", f"{SECRET}\ud800"])
)
mappings = st.dictionaries(names, values, max_size=3) | st.sampled_from([5, "text", [("X", SECRET)], {1}])


@every_kind
@bounded
@given(
    headers=mappings,
    place=st.sampled_from(["call", "request", "view", "client", "provider", "schema"]),
    method=methods,
)
def test_headers(kind: Kind, server: RawServer, reply: Reply, headers: Any, place: str, method: str) -> None:
    """Whatever is given as headers, and wherever."""
    reply.raw = answer()
    arguments: dict[str, Any] = {
        "client": {"headers": headers},
        "provider": {"headers_provider": lambda: headers},
    }
    asks: dict[str, Callable[[ProductionClient], Awaitable[Any]]] = {
        "call": lambda client: client.query(QUERY, method=method, headers=headers),
        "request": lambda client: client.query(GraphQLRequest(QUERY, headers=headers), method=method),
        "view": lambda client: client.with_options(headers=headers).query(QUERY, method=method),
        "schema": lambda client: client.get_schema(headers=headers),
    }
    ask = asks.get(place, lambda client: client.query(QUERY, method=method))
    config = ProductionConfig(retry=RetryPolicy(attempts=1), timeout=TimeoutPolicy(total=5))
    hold(kind, server, ask, config=config, **arguments.get(place, {}))


# --- variables ------------------------------------------------------------------------------------

leaves = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=4)
    | st.text("\ud800a", max_size=2)
    | st.binary(max_size=3)
    | st.dates()
    | st.uuids()
    | st.decimals()
    | st.complex_numbers()
    | st.builds(object)
    | st.just(len)
    | st.sampled_from([str, ValueError, Ellipsis])
)
anything = st.recursive(
    leaves,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner)
        | st.dictionaries(st.text(max_size=2) | st.integers() | st.none(), inner, max_size=2)
        | st.frozensets(st.integers(), max_size=2)
    ),
    max_leaves=6,
)


@every_kind
@bounded
@given(
    variables=st.dictionaries(st.text(max_size=3), anything, max_size=3), method=methods, plain=st.booleans()
)
def test_variables(
    kind: Kind, server: RawServer, reply: Reply, variables: Any, method: str, plain: bool
) -> None:
    """Whatever is given as variables, with the default codec and with the stock's, which knows more types."""
    reply.raw = answer()
    hold(
        kind,
        server,
        lambda client: client.query(QUERY, method=method, variables=variables),
        config=ProductionConfig(retry=RetryPolicy(attempts=1), timeout=TimeoutPolicy(total=5)),
        codec=None if plain else DefaultGraphQLCodec(),
    )


# --- endpoints ------------------------------------------------------------------------------------

hosts = st.sampled_from(
    [
        "127.0.0.1:1",
        "xn--",
        "ä" * 60 + ".invalid",
        "a" * 64 + ".invalid",
        "[::1]:1",
        "[::1",
        "a..b",
        ".",
        "",
        "%",
    ]
) | st.text(string.ascii_letters + "-.:%äß。_@/\\ \t[]\ud800", max_size=6)
endpoints = st.builds(
    "{}://{}{}".format,
    st.sampled_from(["http", "https", "ws", "wss", "ftp", "HTTP", ""]),
    hosts,
    st.sampled_from(["/graphql", "", "/?a=b", "/%zz", "/ü", "/#x", "/a b", "/\x7f", "?"]),
)


@every_kind
@bounded
@given(url=endpoints, document=documents, method=methods)
def test_endpoints(kind: Kind, server: RawServer, url: str, document: str, method: str) -> None:
    """Whatever is given as an endpoint. None of them is one that answers."""
    config = ProductionConfig(retry=RetryPolicy(attempts=1), timeout=TimeoutPolicy(total=1))
    hold(kind, server, lambda client: client.query(document, method=method), url=url, config=config)


# --- answers --------------------------------------------------------------------------------------

bodies = st.one_of(
    st.binary(max_size=20),
    st.sampled_from(
        [
            b"",
            b"<html>",
            b"\xef\xbb\xbf{}",
            b'{"data": NaN}',
            b'{"data": {"a": "\\ud83d"}}',
            b'{"errors": [{"message": "\\ud83d", "extensions": {"code": "UNAUTHENTICATED"}}]}',
            b"[" * 5000,
            b'{"data":' + b"9" * 5000 + b"}",
            b'{"errors": {"a": 1}}',
        ]
    ),
    st.dictionaries(
        st.sampled_from(["data", "errors", "message", "error"]),
        st.recursive(
            st.none() | st.booleans() | st.integers() | st.text(max_size=3),
            lambda inner: (
                st.lists(inner, max_size=2)
                | st.dictionaries(
                    st.sampled_from(["message", "path", "extensions", "code"]), inner, max_size=3
                )
            ),
            max_leaves=5,
        ),
    ).map(lambda value: json.dumps(value).encode()),
)
fields = st.lists(
    st.sampled_from(
        [
            "Content-Type: application/json",
            "Content-Type: application/graphql-response+json; charset=utf-8",
            "Content-Type: text/html",
            "Content-Type: \x1b[31m",
            "Content-Encoding: gzip",
            "Content-Encoding: br",
            "Retry-After: 0",
            "Retry-After: soon",
            "Retry-After: 0.0, 0",
            "Location: http://[",
            "Location: /elsewhere",
            "Location: \x80\x81",
            "Transfer-Encoding: chunked",
            "Content-Length: 3",
            "Content-Length: x",
            "Content-Length: 99999",
            "Connection: close",
            "Connection: upgrade",
            "Upgrade: websocket",
            "X: " + "a" * 9000,
            "no header",
            "Set-Cookie: a=b",
        ]
    ),
    max_size=4,
)
heads = st.builds(
    lambda version, status, phrase, lines: "\r\n".join(
        [f"{version} {status} {phrase}", *lines, "", ""]
    ).encode("latin-1"),
    st.sampled_from(["HTTP/1.1", "HTTP/1.0", "HTTP/2", "HTTP/1.1"]),
    st.sampled_from(
        [100, 103, 200, 204, 206, 299, 301, 304, 307, 400, 401, 403, 407, 408, 429, 500, 501, 503, 599, 999]
    ),
    st.sampled_from(["OK", "", "\x80"]),
    fields,
)
raws = st.builds(bytes.__add__, heads, bodies) | bodies | st.builds(bytes.__add__, heads, heads)


@every_kind
@bounded
@given(
    raw=raws,
    document=documents,
    method=methods,
    policy=st.sampled_from(POLICIES),
    limits=st.sampled_from(LIMITS),
    renewed=st.booleans(),
)
@example(b"HTTP/1.1 429 No\r\nContent-Length: 0\r\n\r\n", MUTATION, "post", POLICIES[2], LIMITS[0], False)
@example(
    b"HTTP/1.1 101 No\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
    MUTATION,
    "post",
    POLICIES[0],
    LIMITS[0],
    False,
)
def test_answers(
    kind: Kind,
    server: RawServer,
    reply: Reply,
    raw: bytes,
    document: str,
    method: str,
    policy: RetryPolicy,
    limits: TimeoutPolicy,
    renewed: bool,
) -> None:
    """Whatever the server answers, and whatever the settings are."""
    reply.raw = raw
    provider = (lambda: {"Authorization": f"Bearer {SECRET}"}) if renewed else None
    hold(
        kind,
        server,
        lambda client: client.query(document, method=method, headers={"X-Key": SECRET}),
        config=ProductionConfig(retry=policy, timeout=limits),
        headers_provider=provider,
    )
