"""What telemetry never says: secrets, literals, and more names than a metric can bear."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequest, GraphQLResponse, GraphQLTransport
from graphql import DocumentNode, StringValueNode, ValueNode, VariableNode, parse
from graphql.language import ListValueNode, ObjectValueNode
from subscribing import COUNT, Follower, sent, until
from telemetry_sdk import client_of, owner_fixture, sdk_fixture, texts_of  # noqa: F401 -- the fixtures

from graphql_prod import ClientClosedError, ProductionClient, TimeoutPolicy
from graphql_prod.telemetry.documents import operation_of, sanitized
from graphql_prod.testing import Answer, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import Iterator

    from telemetry_sdk import Backend, Owner, Sdk

NAME = "graphql.operation.name"

# --- names ----------------------------------------------------------------------------------------


class Answering(GraphQLTransport):
    """Answers without a network."""

    async def request(
        self, method: str, request: GraphQLRequest, *_: object, **__: object
    ) -> GraphQLResponse:
        return GraphQLResponse(request=request, json={"data": {"hello": "you"}})

    async def close(self) -> None:
        return


@pytest.mark.parametrize(("names", "traces"), [(10_000, False), (1010, True)], ids=["many", "in spans"])
async def test_names_are_bounded(sdk: Sdk, names: int, traces: bool) -> None:
    """Of any number of names a client tells the first thousand; overlong ones never, and none for none."""
    objects, telemetry = {"transport": Answering()}, {"traces": traces}
    async with client_of("http://127.0.0.1:9/", objects=objects, telemetry=telemetry) as client:
        await client.query("{ hello }")
        await client.query(f"query {'x' * 101} {{ hello }}")
        await client.query(f"query {'y' * 100} {{ hello }}")
        for number in range(names):
            await client.query(f"query Q{number} {{ hello }}")
        await client.query("query Q5 { hello }")
    found = {dict(each).get(NAME): n for each, n in sdk.metric("request.duration").items()}
    assert len(found) == 1002
    assert (found[None], found["y" * 100], found["Q0"], found["Q998"], found["Q5"]) == (1, 1, 1, 1, 2)
    assert found["_OTHER"] == names - 999 + 1
    assert len(sdk.metric("active_requests")) == 1002
    if traces:
        assert {(span.attributes or {}).get(NAME) for span in sdk.spans()} == set(found)


# --- documents ------------------------------------------------------------------------------------

LITERALS = [
    ("4711471", "4711471"),
    ("-47.11471e3", "47.11471"),
    ('"geheim"', "geheim"),
    ('"ge\\"heim\\u0041"', "heim"),
    ('"""\n  geheim\n  auch\n"""', "geheim"),
    ("true", "true"),
    ("false", "false"),
    ("null", "null"),
    ("GEHEIM", "GEHEIM"),
    ("[4711471, GEHEIM, [true]]", "4711471"),
    ("[]", "4711471"),
    ("{}", "4711471"),
    ('{field: {deep: ["geheim", 1]}, other: 4711471}', "geheim"),
]
PLACES = [
    "query Q($v: Int) {{ field(argument: {0}, other: $v) }}",
    "query Q($v: In = {0}) {{ field(a: $v) }}",
    "query Q($v: Int) @directive(of: {0}) {{ field(a: $v) }}",
    "query Q($v: Int @directive(of: {0})) {{ field(a: $v) }}",
    "query Q($v: Int) {{ alias: field(a: $v) @include(if: {0}) {{ ...F ... on T @skip(if: {0}) {{ x }} }} }}"
    " fragment F on T @on(a: {0}) {{ deep(b: {0}) }}",
    "# geheim 4711471\nmutation M($v: [Int!]!) {{ do(a: $v, b: {0}) # GEHEIM null true false\n }}",
    "subscription S($v: Int) {{ field(a: {{b: [{0}, $v], c: $v}}) }}",
]


def values_in(node: Any) -> Iterator[ValueNode]:
    """Every value of a document, parts of lists and objects included."""
    if isinstance(node, ValueNode):
        yield node
    for name in getattr(node, "keys", ()):
        part = getattr(node, name, None)
        for each in part if isinstance(part, list | tuple) else (part,):
            yield from values_in(each)


def skeleton(node: Any) -> Any:
    """A document without its literals."""
    if isinstance(node, list | tuple):
        return [skeleton(each) for each in node]
    if isinstance(node, ValueNode) and not isinstance(node, VariableNode | ListValueNode | ObjectValueNode):
        return "literal"
    if not hasattr(node, "keys"):
        return node
    return (node.kind, [skeleton(getattr(node, name)) for name in node.keys if name != "loc"])


def parsed(document: str) -> DocumentNode:
    return parse(document, no_location=True)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize(("literal", "trace"), LITERALS)
def test_no_literal_survives(place: str, literal: str, trace: str) -> None:
    """Of a document its structure and its variables are told, and none of its literals or comments."""
    document = place.format(literal)
    told = sanitized(document)
    assert told is not None
    assert "#" not in told
    assert not [word for word in (trace, "geheim", "GEHEIM", "4711471") if word in told]
    found = [each for each in values_in(parsed(told)) if not hasattr(each, "fields")]
    plain = [each for each in found if not isinstance(each, VariableNode | ListValueNode)]
    assert all(isinstance(each, StringValueNode) and each.value == "*" for each in plain)
    assert skeleton(parsed(told)) == skeleton(parsed(document))
    assert sanitized(document) is told
    assert sanitized(told) == told


@pytest.mark.parametrize(
    "document", ['query { field(a: "geheim" }', "geheim", "", " ", "{ a" * 5000, '{ a(b: "', "\ud800"]
)
def test_a_document_that_cannot_be_read(document: str) -> None:
    """What is no document is not told, and breaks nothing."""
    assert sanitized(document) is None
    assert operation_of(document, None) == (None, None)


@pytest.mark.parametrize(
    ("mode", "told"),
    [
        ("off", [None, None]),
        ("sanitized", ['query Hi {\n  hello(name: "*")\n}', None]),
        ("full", ['query Hi { hello(name: "geheim") } # so', "query {"]),
    ],
)
async def test_documents_in_spans(
    sdk: Sdk, server: ScriptedServer, mode: str, told: list[str | None]
) -> None:
    """Off by default; without its literals, or as it was written, if that is asked for."""
    async with client_of(server.url, telemetry={"document": mode}) as client:
        await client.query('query Hi { hello(name: "geheim") } # so')
        await client.query("query {")
    assert [(span.attributes or {}).get("graphql.document") for span in sdk.spans()] == told


async def test_the_document_of_a_subscription(sdk: Sdk, counting: ScriptedServer) -> None:
    """A subscription's document is told like a call's."""
    request = "subscription S { count(from: 4711471) }"
    async with (
        client_of(counting.url, telemetry={"document": "sanitized"}) as client,
        Follower(client, "stream", request=request) as follower,
    ):
        await follower.began()
    (span,) = sdk.spans()
    assert (span.attributes or {})["graphql.document"] == 'subscription S {\n  count(from: "*")\n}'


# --- secrets --------------------------------------------------------------------------------------


def secret(name: str) -> str:
    """A text that can only have come from where it was planted; also legible inside other texts."""
    return f"xq7v{name}"


async def failing(client: ProductionClient, request: Any, **options: Any) -> None:
    """A call that may fail however it likes."""
    with contextlib.suppress(Exception):
        await client.query(request, **options)


def document(kind: str = "query", *, field: str = "hello(name: $name)") -> GraphQLRequest:
    """A request with a secret wherever a caller can put one."""
    literal, default = secret("Literal"), secret("Default")
    text = f'{kind} Hi($name: String = "{default}") {{ {field} echo(value: "{literal}") }}'
    return GraphQLRequest(
        f"{text} # {secret('Comment')}",
        variables={"name": secret("Variable")},
        headers={"X-Request": secret("RequestHeader")},
        extensions={"x": secret("Extension")},
    )


async def fail_everywhere(client: ProductionClient, server: ScriptedServer, method: str) -> None:
    """Every way in which a call can fail."""
    page, headers = f"<html>{secret('Body')}</html>", {"X-Answer": secret("AnswerHeader")}
    error = {"message": secret("Message"), "extensions": {"code": "UNAUTHENTICATED", "x": secret("Code")}}
    tried = [
        *(Answer.page(503, page, headers=headers),) * 2,
        *(Answer.page(401, page),) * 2,
        *(Answer.graphql(200, errors=[error]),) * 2,
        Answer.page(200, page),
        Answer(status=200, body=f'{{"data": {secret("Body")}'),
        Answer.redirect(f"http://{secret('user')}:{secret('Password')}@other.test/?q={secret('Redirect')}"),
        Answer.graphql(400, errors=[secret("Message")]),
        Answer.reset("body", body=secret("Body")),
        Answer.truncated(body=secret("Body") * 10),
        Answer.garbage(),
        Answer.page(404, page),
    ]
    server.script(*tried)
    while server.unused:
        await failing(client, document(), method=method)
    server.always(Answer.hang())
    view = client.with_options(headers={"X-View": secret("ViewHeader")})
    for phase in ("total", "attempt", "read"):
        timeout = TimeoutPolicy(**{phase: 0.03})
        await failing(view.with_options(timeout=timeout), document(), method=method)
    task = asyncio.create_task(client.query(document(), method=method))
    before = len(server.requests)
    await server.received(before + 1)
    task.cancel()
    await asyncio.wait({task})
    server.always(None)
    await failing(client, document(field="fail(message: $name)"), method=method)
    await failing(
        client.with_options(validate=True), document(field=f'no(a: "{secret("Literal")}")'), method=method
    )
    await failing(client, f'query {{ "{secret("Literal")}"', method=method)
    await failing(client, document("mutation"), method=method)


async def subscribe_everywhere(client: ProductionClient, server: ScriptedServer) -> None:
    """Every way in which a subscription can fail, seen from the server's side."""
    options: dict[str, Any] = {"connection_init_payload": {"token": secret("Payload")}}
    request = GraphQLRequest(
        COUNT, variables={"from": 0, "x": secret("Variable")}, headers={"X-Request": secret("RequestHeader")}
    )
    for end in ("again", "fatal"):
        async with Follower(client, "subscribe", request=request, **options) as follower:
            await follower.began()
            await server.send_to_sockets({"type": "next", "id": "gone", "payload": secret("Event")})
            await server.close_sockets(1012 if end == "again" else 4403, secret("CloseReason"))
            if end == "again":
                await follower.went_on()
    server.on_connect = lambda _: Answer.page(401, secret("Body"))
    await Follower(client, "stream", request=request).end()
    server.on_connect = None
    bad = GraphQLRequest(f'subscription S {{ count(from: "{secret("Literal")}") }}')
    await Follower(client, "stream", request=bad).end()


def told_of(sdk: Sdk, records: list[logging.LogRecord], *more: object) -> str:
    """Everything that spans, metrics, logs and our own objects say; tracebacks apart."""
    sdk.collect()
    ours = [record for record in records if record.name.startswith(("graphql_prod", "asyncio"))]
    facts = [{**vars(record), "exc_info": None} for record in ours]
    said = [f"{record.getMessage()} {fact!r}" for record, fact in zip(ours, facts, strict=True)]
    spans = [texts_of(span) for span in sdk.exporter.get_finished_spans()]
    return "\n".join([*spans, *sdk.raw, *said, *(f"{each!r} {each}" for each in more)])


def found_in(text: str) -> list[str]:
    """The lines with a secret."""
    return [line[:400] for line in text.splitlines() if secret("").lower() in line.lower()]


@pytest.mark.parametrize("method", ["post", "get"])
async def test_no_secret_leaves_a_call(
    sdk: Sdk,
    counting: ScriptedServer,
    backend: Backend,
    owner: Owner,
    method: str,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """No header, variable, literal, credential, URL query or text of a server, in whatever way calls fail."""
    caplog.set_level(logging.DEBUG)
    for name in ("REQUEST", "RESPONSE"):
        monkeypatch.setenv(f"OTEL_INSTRUMENTATION_HTTP_CAPTURE_HEADERS_CLIENT_{name}", ".*")
    place = f"{secret('user')}:{secret('Password')}@127.0.0.1"
    url = counting.url.replace("127.0.0.1", place) + f"?key={secret('Query')}"
    objects = {"headers_provider": lambda: {"X-Provided": secret("Provided")}}
    settings: dict[str, Any] = {
        "headers": {"X-Config": secret("ConfigHeader")},
        "telemetry": {"document": "sanitized", "operation_name_in_span": True},
        "retry": {"attempts": 2, "wait_initial": 0},
    }
    async with client_of(url, backend, owner, objects=objects, **settings) as client:
        await fail_everywhere(client, counting, method)
        said = [await client.ready(), client.config]
        await counting.stop()
        await failing(client, document(), method=method)
        said += [client, client.stats(), await client.ready(), await client.shutdown(1), client]
        with pytest.raises(ClientClosedError):
            await client.query(document())
    assert counting.requests[0].headers["X-Provided"] == secret("Provided")
    assert len(sdk.spans()) >= 20
    assert len(sdk.spans(http=True)) >= 20 or owner == "given"
    assert found_in(told_of(sdk, caplog.records, *said)) == []


async def test_no_secret_leaves_a_subscription(
    sdk: Sdk, counting: ScriptedServer, backend: Backend, caplog: pytest.LogCaptureFixture
) -> None:
    """No header, payload, variable or text of a server, in whatever way subscriptions fail."""
    caplog.set_level(logging.DEBUG)
    url = counting.url.replace("127.0.0.1", f"{secret('user')}:{secret('Password')}@127.0.0.1")
    objects = {"headers_provider": lambda: {"X-Provided": secret("Provided")}}
    settings: dict[str, Any] = {
        "headers": {"X-Config": secret("ConfigHeader")},
        "telemetry": {"document": "sanitized"},
        "subscriptions": {"wait_initial": 0.001, "wait_max": 0.01, "connect_attempts": 2},
    }
    async with client_of(url, backend, objects=objects, **settings) as client:
        await subscribe_everywhere(client, counting)
        said = [client, client.stats(), await client.shutdown(1)]
    assert len(sent(counting, ("subscribe", "start"))) >= 4
    assert len(sdk.spans()) == 4
    assert found_in(told_of(sdk, caplog.records, *said)) == []


@pytest.mark.parametrize(
    "words",
    [
        {"type": "connection_error", "payload": {"message": f"{secret('Token')} has expired"}},
        {"type": secret("Type")},
        secret("Garbage"),
    ],
    ids=["refusal", "unknown", "garbage"],
)
async def test_words_of_a_server_in_the_log(
    sdk: Sdk, counting: ScriptedServer, caplog: pytest.LogCaptureFixture, words: Any
) -> None:
    """What a server says on a socket may quote the credentials: it is not logged."""
    caplog.set_level(logging.DEBUG)
    objects = {"headers_provider": lambda: {"Authorization": secret("Token")}}
    async with client_of(counting.url, objects=objects, subscriptions={"wait_initial": 0.001}) as client:
        async with Follower(client, "stream") as follower:
            await follower.began()
            await counting.send_to_sockets(words)
            await until(lambda: follower.gaps or follower.task.done() or "unknown type" in caplog.text)
        said = [client, client.stats()]
    assert found_in(told_of(sdk, caplog.records, *said)) == []
