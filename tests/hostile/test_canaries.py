"""Planted secrets are in nothing that a program keeps or shows, whatever kind of error it meets."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import socket
import traceback
from typing import TYPE_CHECKING, Any

import pytest
from subscribing import until
from telemetry_sdk import owner_fixture, sdk_fixture, session_of  # noqa: F401 -- the fixtures

from graphql_prod import (
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    SubscriptionPolicy,
    TimeoutPolicy,
    headers_from_files,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable
    from pathlib import Path

    from subscribing import Backend
    from telemetry_sdk import Owner, Sdk

# One for each place where a program keeps a secret; each is found at once in a text.
CANARIES = {
    place: f"c4n4ry-{place}-0123456789abcdef"
    for place in (
        *("client", "view", "call", "provider", "file"),
        *("password", "query", "variable", "literal", "payload"),
    )
}
ECHO = (
    "query Echo($value: String) { echo(value: $value) other: echo(value: "
    + json.dumps(CANARIES["literal"])
    + ") }"
)
COUNT = "subscription Count($to: Int) { count(to: $to) }"
SAID = ("variable", "literal", "payload")
VARIABLES = {"value": CANARIES["variable"]}


class FailingError(Exception):
    """A program's own error, with everything in it."""


def everything() -> str:
    """What a careless server, or a careless function, repeats."""
    return " ".join(CANARIES.values())


class Records(logging.Handler):
    """Keeps what a program's log would show, the facts beside the text included."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.shown: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        facts = {
            name: value for name, value in vars(record).items() if name not in ("msg", "args", "exc_info")
        }
        self.shown.append(f"{logging.Formatter().format(record)} {record.args!r} {facts!r}")


@pytest.fixture
def records() -> Any:
    """All records of the package, at DEBUG."""
    logger, handler = logging.getLogger("graphql_prod"), Records()
    before = logger.level
    logger.setLevel(logging.DEBUG)
    logger.addHandler(handler)
    yield handler
    logger.removeHandler(handler)
    logger.setLevel(before)


@contextlib.asynccontextmanager
async def client_at(
    url: str, backend: Backend, owner: Owner, folder: Path, **settings: Any
) -> AsyncIterator[ProductionClient]:
    """A client with a secret in every place that takes one."""
    secret = folder / "token"
    secret.write_text(CANARIES["file"] + "\n", encoding="utf-8")
    from_files = headers_from_files({"X-File": secret})
    refused = settings.pop("refused", False)

    async def provide(refresh: bool = False) -> dict[str, str]:
        if refused and refresh:
            raise FailingError(everything())
        return {**from_files(), "X-Provider": CANARIES["provider"]}

    config = ProductionConfig(
        backend=None if owner == "given" else backend,
        retry=settings.pop("retry", RetryPolicy(attempts=2, wait_initial=0, wait_max=0)),
        timeout=settings.pop("timeout", TimeoutPolicy(total=3, read=1, connect=1)),
        subscriptions=SubscriptionPolicy(connect_attempts=1, ack_timeout=0.5, wait_initial=0, wait_max=0),
        headers={"X-Client": CANARIES["client"]},
        **settings,
    )
    scheme, _, rest = url.partition("://")
    secretly = f"{scheme}://user:{CANARIES['password']}@{rest}?key={CANARIES['query']}"
    async with session_of(backend, owner) as session:
        client = ProductionClient(
            secretly, session=session, validate=False, config=config, headers_provider=provide
        )
        async with client.with_options(headers={"X-View": CANARIES["view"]}) as view:
            yield view


async def ask(client: ProductionClient, **options: Any) -> Any:
    """A call with secrets of its own."""
    return await client.query(ECHO, variables=VARIABLES, headers={"X-Call": CANARIES["call"]}, **options)


async def follow(client: ProductionClient, **options: Any) -> None:
    """A subscription with secrets of its own, to its end."""
    options.setdefault("connection_init_payload", {"token": CANARIES["payload"]})
    stream = client.stream(COUNT, variables={"to": 3}, headers={"X-Call": CANARIES["call"]}, **options)
    async with contextlib.aclosing(stream) as events:
        async for _ in events:
            pass


def page(status: int, body: str, media_type: str = "text/html") -> Answer:
    """An answer that repeats whatever it was sent."""
    return Answer(status=status, body=body, media_type=media_type)


GRAPHQL = "application/graphql-response+json"
ERRORS = json.dumps({"errors": [{"message": everything(), "extensions": {"code": everything()}}]})
REFUSED = json.dumps({"errors": [{"message": everything(), "extensions": {"code": "UNAUTHENTICATED"}}]})
ANSWERS: dict[str, Answer] = {
    "server error": page(503, everything()),
    "server error in GraphQL": page(503, ERRORS, GRAPHQL),
    "bad request": page(400, everything()),
    "bad request in JSON": page(400, ERRORS, "application/json"),
    "errors": page(200, ERRORS, GRAPHQL),
    "refused": page(401, REFUSED, "application/json"),
    "refused in an answer": page(200, REFUSED, GRAPHQL),
    "login page": page(200, f"<html>{everything()}</html>"),
    "no JSON": page(200, "{" + everything(), "application/json"),
    "no GraphQL": page(200, json.dumps([everything()]), "application/json"),
    "problem": page(
        500, json.dumps({"message": everything(), "error": everything()}), "application/problem+json"
    ),
    "cut short": Answer.truncated(body={"data": {"echo": everything()}}),
    "reset": Answer.reset("body", body={"data": {"echo": everything()}}),
    "redirect": Answer.redirect(
        f"https://user:{CANARIES['password']}@other.test/{CANARIES['query']}?q={CANARIES['call']}"
    ),
    "broken gzip": Answer(
        body=everything(), headers={"Content-Encoding": "gzip"}, media_type="application/json"
    ),
    "odd encoding": Answer(body=everything(), headers={"Content-Encoding": everything()}),
    "odd media type": Answer(body=everything(), media_type=f"text/{everything()}"),
    "odd wait": Answer(status=429, body=everything(), headers={"Retry-After": everything()}),
    "silence": Answer.hang(),
    "no HTTP": Answer.garbage(),
}
CALLS: dict[str, tuple[Callable[[ProductionClient], Awaitable[Any]], dict[str, Any]]] = {
    "attempt's limit": (ask, {"timeout": TimeoutPolicy(total=3, attempt=0.2)}),
    "total": (ask, {"timeout": TimeoutPolicy(total=0.3)}),
    "provider": (ask, {"refused": True}),
    "answer too large": (ask, {"max_response_bytes": 10}),
    "unwritable variable": (lambda client: ask(client, extensions={"secret": {CANARIES["variable"]}}), {}),
    "unsendable header": (
        lambda client: client.query(ECHO, headers={"X-Call": f"{CANARIES['call']}\n"}),
        {},
    ),
    "mutation over GET": (
        lambda client: client.query(
            "mutation { increment }", method="get", headers={"X-Call": CANARIES["call"]}
        ),
        {},
    ),
    "subscription as a query": (lambda client: client.query(COUNT, variables={"to": 1}), {}),
    "introspection": (lambda client: client.introspect(headers={"X-Call": CANARIES["call"]}), {}),
}
SOCKETS = {
    "refused with a status": 401,
    "refused with a page": page(503, everything()),
    "redirected": Answer.redirect(f"https://other.test/{CANARIES['query']}"),
    "closed at once": 4400,
    "credentials refused": 4403,
}


async def failure_of(doing: Awaitable[Any]) -> BaseException | None:
    """What comes out, if anything does."""
    try:
        await doing
    except Exception as error:  # noqa: BLE001 -- whatever it is, it shall hold no secret
        return error
    return None


def found_in(text: str, *, but: tuple[str, ...] = ()) -> set[str]:
    """The places whose secrets a text shows."""
    return {place for place, canary in CANARIES.items() if canary in text and place not in but}


def check(
    client: ProductionClient,
    error: BaseException | None,
    records: Records,
    sdk: Sdk,
    *,
    but: tuple[str, ...] = (),
) -> None:
    """None of it is in what a program logs, exports, prints or keeps.

    :param but: what the text of this error may show: what a server says of a document and its variables helps
        who wrote them.
    """
    if error is not None:
        shown = "".join(
            line
            for line in traceback.TracebackException.from_exception(error, capture_locals=False).format()
            if not line.lstrip().startswith("File ")
        )
        assert found_in(shown, but=but) == set(), shown
        assert found_in(repr(error), but=but) == set(), repr(error)
        response = getattr(error, "response", None)
        assert found_in(repr(response)) == set(), repr(response)
    for record in records.shown:
        assert found_in(record) == set(), record
    for span in sdk.spans() + sdk.spans(http=True):
        text = f"{span.name} {dict(span.attributes or {})} {span.status.description}"
        text += "".join(f"{event.name} {dict(event.attributes or {})}" for event in span.events)
        # The code of an error is a server's own word, and is shown as one.
        text = text.replace(str(dict(span.attributes or {}).get("error.type")), "")
        assert found_in(text) == set(), text
    assert found_in(repr(sdk.collect())) == set()
    known = [client, client.config, client.stats(), client.transport, client.config.headers]
    for each in known:
        assert found_in(repr(each)) == set(), repr(each)
        assert found_in(str(each)) == set(), str(each)
    assert found_in(client.config.model_dump_json()) == set()


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
async def test_answers(
    server: ScriptedServer,
    backend: Backend,
    owner: Owner,
    answer: Answer,
    records: Records,
    sdk: Sdk,
    tmp_path: Path,
) -> None:
    """A server that repeats all that it was sent, in every shape of an answer."""
    server.always(answer)
    async with client_at(server.url, backend, owner, tmp_path) as client:
        error = await failure_of(ask(client))
        ready = await client.ready()
        check(client, error, records, sdk, but=SAID)
        assert found_in(f"{ready!r} {ready.reason}") == set()
        await server.stop()
        report = await client.shutdown(1)
        assert found_in(f"{report!r} {report}") == set()
    check(client, error, records, sdk, but=SAID)


@pytest.mark.parametrize("kind", CALLS)
async def test_calls(
    server: ScriptedServer,
    backend: Backend,
    owner: Owner,
    kind: str,
    records: Records,
    sdk: Sdk,
    tmp_path: Path,
) -> None:
    """Limits, providers, and arguments that are refused."""
    call, settings = CALLS[kind]
    if kind in ("attempt's limit", "total"):
        server.always(Answer.hang())
    elif kind == "provider":
        server.always(page(401, REFUSED, "application/json"))
    elif kind == "introspection":
        server.always(page(200, ERRORS, GRAPHQL), "IntrospectionQuery")
    async with client_at(server.url, backend, owner, tmp_path, **settings) as client:
        error = await failure_of(call(client))
        check(client, error, records, sdk, but=SAID if kind == "introspection" else ())
        await server.stop()
    check(client, error, records, sdk, but=SAID if kind == "introspection" else ())
    assert error is not None or (kind, owner) == ("answer too large", "given")


async def test_nobody_there(
    backend: Backend, owner: Owner, records: Records, sdk: Sdk, tmp_path: Path
) -> None:
    """A port that is refused, and a proxy with a password."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port = listener.getsockname()[1]
    url = f"http://127.0.0.1:{port}/graphql"
    proxy = f"http://user:{CANARIES['password']}@127.0.0.1:{port}" if owner == "owned" else None
    for settings in ({}, {"proxy": proxy}):
        async with client_at(url, backend, owner, tmp_path, **settings) as client:
            for doing in (ask(client), follow(client)):
                error = await failure_of(doing)
                assert error is not None
                check(client, error, records, sdk)


async def test_a_connection_that_breaks(
    server: ScriptedServer, backend: Backend, owner: Owner, records: Records, sdk: Sdk, tmp_path: Path
) -> None:
    """In the middle of an answer, and in the middle of a subscription."""
    async with (
        FaultyProxy(server.port) as proxy,
        client_at(proxy.url_for(server.path), backend, owner, tmp_path) as client,
    ):
        following = asyncio.create_task(failure_of(follow(client)))
        await until(lambda: len(server.events_sent) > 0 or following.done())
        await proxy.down()
        error = await failure_of(ask(client))
        check(client, error, records, sdk)
        await client.shutdown(0)
        check(client, await following, records, sdk)


@pytest.mark.parametrize("verdict", SOCKETS.values(), ids=SOCKETS)
async def test_upgrades(
    server: ScriptedServer,
    backend: Backend,
    owner: Owner,
    verdict: int | Answer,
    records: Records,
    sdk: Sdk,
    tmp_path: Path,
) -> None:
    """Subscriptions that are refused before they begin."""
    server.on_connect = lambda _: verdict
    async with client_at(server.url, backend, owner, tmp_path) as client:
        error = await failure_of(follow(client))
        assert error is not None
        check(client, error, records, sdk)
    check(client, error, records, sdk)


@pytest.mark.parametrize("kind", ["payload", "text", "close", "error", "complete", "no JSON", "binary"])
async def test_sockets_that_repeat(
    server: ScriptedServer,
    backend: Backend,
    owner: Owner,
    kind: str,
    records: Records,
    sdk: Sdk,
    tmp_path: Path,
) -> None:
    """Messages, close reasons and errors that repeat all that was sent."""

    async def act() -> None:
        message = (await server.subscribed(1))[-1].message
        errors = [{"message": everything(), "extensions": {"code": everything()}}]
        match kind:
            case "payload":
                await server.send_to_sockets({"type": "next", "id": message["id"], "payload": everything()})
            case "text":
                await server.send_to_sockets(
                    {"type": everything(), "id": everything(), "payload": everything()}
                )
                await server.close_sockets(4400, CANARIES["payload"])
            case "close":
                await server.close_sockets(4400, everything()[:120])
            case "error":
                await server.send_to_sockets({"type": "error", "id": message["id"], "payload": errors})
            case "complete":
                await server.send_to_sockets(
                    {"type": "next", "id": message["id"], "payload": {"data": None, "errors": errors}}
                )
                await server.send_to_sockets({"type": "complete", "id": message["id"]})
            case "no JSON":
                await server.send_to_sockets("{" + everything())
            case _:
                await server.send_to_sockets(everything().encode())

    server.tick = 60.0
    async with client_at(server.url, backend, owner, tmp_path) as client:
        following = asyncio.create_task(failure_of(follow(client)))
        await act()
        if kind in ("no JSON", "binary"):  # another connection follows
            await asyncio.wait({following}, timeout=0.2)
            await client.shutdown(0)
        error = await following
        check(client, error, records, sdk, but=SAID)
    check(client, error, records, sdk, but=SAID)


@pytest.mark.parametrize("kind", ["resume", "payload"])
async def test_functions_of_the_program_that_fail(
    server: ScriptedServer,
    backend: Backend,
    owner: Owner,
    kind: str,
    records: Records,
    sdk: Sdk,
    tmp_path: Path,
) -> None:
    """What they say of their failure is theirs to show; nothing of it is in our own words."""

    async def fail(*_: Any, **__: Any) -> Any:
        raise FailingError(everything())

    options: dict[str, Any] = {"resume": {"resume": fail}, "payload": {"connection_init_payload": fail}}.get(
        kind, {}
    )
    async with client_at(server.url, backend, owner, tmp_path) as client:
        following = asyncio.create_task(failure_of(follow(client, **options)))
        if kind == "resume":
            await server.subscribed(1)
            server.reset_sockets()
        error = await following
        assert error is not None
        check(client, error, records, sdk, but=SAID)
