"""What a program logs of a failure: the chain of causes, without the secrets that the client knows."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import copy
import pickle
import traceback
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest

from graphql_prod import (
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    RetryPolicy,
    SubscriptionClosedError,
    SubscriptionPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.texts.redaction import RedactedError, conceal, safe_cause, secrets_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from subscribing import Backend

Owner = Literal["owned", "given"]
SECRETS = (
    "s3cret-header",
    "s3cret-view",
    "s3cret-call",
    "s3cret-provided",
    "s3cret-password",
    "s3cret-query",
)
GARBAGE = b"NOT HTTP AT ALL\r\n\r\n"
REFUSED = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n"


@contextlib.asynccontextmanager
async def raw(answer: bytes) -> AsyncIterator[int]:
    """A server that answers everything with the same bytes, and closes."""

    async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            await reader.readuntil(b"\r\n\r\n")
            writer.write(answer)
            await writer.drain()
        writer.close()

    listener = await asyncio.start_server(answered, "127.0.0.1", 0)
    async with listener:
        yield listener.sockets[0].getsockname()[1]


@contextlib.asynccontextmanager
async def client_of(
    url: str, backend: Backend, owner: Owner, *, strict: bool = False, **arguments: Any
) -> AsyncIterator[ProductionClient]:
    settings = arguments.pop("settings", {})
    config = ProductionConfig(
        retry=RetryPolicy(attempts=1), subscriptions=SubscriptionPolicy(connect_attempts=1), **settings
    )
    async with contextlib.AsyncExitStack() as stack:
        if owner == "owned":
            arguments["backend"] = backend
        elif backend == "aiohttp":
            session = aiohttp.ClientSession(raise_for_status=strict, headers={"X-Session": "s3cret-session"})
            arguments["session"] = await stack.enter_async_context(session)
        else:
            arguments["session"] = await stack.enter_async_context(httpx.AsyncClient(trust_env=False))
        headers = {"Authorization": "Bearer s3cret-header"}
        if "@" in url:
            headers = {"X-Api-Key": "s3cret-header"}
        client = ProductionClient(
            url,
            validate=False,
            config=config,
            headers=headers,
            headers_provider=arguments.pop("headers_provider", lambda: {"X-P": "s3cret-provided"}),
            **arguments,
        )
        yield await stack.enter_async_context(client)


async def failure_of(client: ProductionClient, method: str | None = None) -> BaseException:
    view = client.with_options(headers={"X-V": "s3cret-view"})
    with pytest.raises(Exception) as caught:  # noqa: PT011 -- which one is the caller's question
        await view.query("{ hello }", method=method, headers={"X-C": "s3cret-call"})
    return caught.value


def chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: list[BaseException] = []
    while error is not None and error not in seen:
        seen.append(error)
        yield error
        error = error.__cause__ or error.__context__


def told(error: BaseException) -> str:
    """All that a log may hold of it, but for the lines of source code."""
    lines = traceback.TracebackException.from_exception(error).format()
    shown = [line for line in lines if not line.startswith("  File")]
    for link in chain(error):
        shown += [str(link), repr(link), repr(link.args)]
    return "\n".join(shown)


def names(error: BaseException) -> str:
    return " ".join(type(link).__name__ + str(link) for link in chain(error))


@pytest.mark.parametrize("method", ["post", "get"])
async def test_what_is_no_http(backend: Backend, owner: Owner, method: str) -> None:
    """aiohttp's exception shows the whole URL, and has all headers among its arguments."""
    async with raw(GARBAGE) as port:
        url = f"http://user:s3cret-password@127.0.0.1:{port}/g?token=s3cret-query&v=2"
        async with client_of(url, backend, owner) as client:
            error = await failure_of(client, method)
    assert type(error) is TransportError
    assert "s3cret" not in told(error)
    assert error.__cause__ is not None
    assert "hello" not in told(error)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses(backend: Backend, scheme: str) -> None:
    """Its password is not told, nor in the form that goes over the wire; the type of the exception is."""
    async with raw(REFUSED) as port:
        settings = {"proxy": f"http://who:s3cret-password@127.0.0.1:{port}"}
        async with client_of(f"{scheme}://nowhere.example/g", backend, "owned", settings=settings) as client:
            error = await failure_of(client)
    assert "s3cret" not in told(error)
    assert base64.b64encode(b"who:s3cret-password").decode() not in told(error)
    if scheme == "https":
        assert "ClientHttpProxyError" in names(error)
        assert any(isinstance(link, RedactedError) for link in chain(error))


async def test_a_session_that_raises_for_the_status(server: ScriptedServer) -> None:
    """raise_for_status puts every header that was sent into the exception, those of the session too."""
    server.always(Answer.page(503))
    async with client_of(server.url, "aiohttp", "given", strict=True) as client:
        error = await failure_of(client)
    assert type(error) is HTTPStatusError
    assert "s3cret" not in told(error)
    assert "aiohttp.client_exceptions.ClientResponseError: its text" in names(error)


@pytest.mark.parametrize("status", [401, 403, 503])
async def test_an_upgrade_that_is_refused(backend: Backend, owner: Owner, status: int) -> None:
    """aiohttp's handshake error holds the headers of the upgrade."""
    answer = f"HTTP/1.1 {status} X\r\nContent-Length: 0\r\n\r\n".encode()
    async with (
        raw(answer) as port,
        client_of(f"http://127.0.0.1:{port}/g?t=s3cret-query", backend, owner) as c,
    ):
        with pytest.raises((SubscriptionClosedError, HTTPStatusError)) as caught:
            await c.subscribe(
                "subscription { count }",
                headers={"X-C": "s3cret-call"},
                connection_init_payload={"token": "s3cret-payload"},
            )
    assert "s3cret" not in told(caught.value)
    assert str(status) in str(caught.value)


async def test_a_provider_that_quotes_its_token(server: ScriptedServer, backend: Backend) -> None:
    """A renewal that fails tells of the token that was refused: its type is enough."""

    def provider(refresh: bool = False) -> dict[str, str]:
        if refresh:
            raise LookupError("the token s3cret-provided has expired")
        return {"Authorization": "Bearer s3cret-provided"}

    server.always(Answer.page(401))
    async with client_of(server.url, backend, "owned", headers_provider=provider) as client:
        error = await failure_of(client)
    assert type(error) is TransportError
    assert "LookupError" in str(error)
    assert type(error.__cause__) is RedactedError
    assert "s3cret" not in told(error)


async def test_a_provider_that_quotes_nothing(server: ScriptedServer) -> None:
    """Its own exception is the cause, as it is."""
    raised = LookupError("no token today")

    def provider() -> dict[str, str]:
        raise raised

    async with client_of(server.url, "aiohttp", "owned", headers_provider=provider) as client:
        error = await failure_of(client)
    assert error.__cause__ is raised


async def test_a_clean_cause_stays(backend: Backend, owner: Owner) -> None:
    """The library's own exception, with its type and its traceback, wherever it holds no secret."""
    async with raw(b"") as port:
        pass
    async with client_of(f"http://127.0.0.1:{port}/g", backend, owner) as client:
        error = await failure_of(client)
    cause = error.__cause__
    assert isinstance(cause, aiohttp.ClientConnectorError | httpx.TransportError)
    assert cause.__traceback__ is not None
    assert not any(isinstance(link, RedactedError) for link in chain(error))


@pytest.mark.parametrize("kind", ["page", "garbage"])
async def test_locals_of_ours(backend: Backend, kind: str) -> None:
    """A traceback with locals: no object of ours shows a secret; texts and mappings do."""
    page = b"HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"
    async with raw(page if kind == "page" else GARBAGE) as port:
        url = f"http://user:s3cret-password@127.0.0.1:{port}/g?token=s3cret-query"
        async with client_of(url, backend, "owned") as client:
            errors = [await failure_of(client)]
            with pytest.raises(Exception) as caught:  # noqa: PT011 -- any
                await client.subscribe(
                    "subscription { count }", connection_init_payload={"t": "s3cret-payload"}
                )
            errors.append(caught.value)
    looked = 0
    for link in (link for error in errors for link in chain(error)):
        for frame, _ in traceback.walk_tb(link.__traceback__):
            if not frame.f_globals["__name__"].startswith("graphql_prod"):
                continue
            for name, value in frame.f_locals.items():
                if not isinstance(value, str | dict | tuple):
                    looked += 1
                    assert "s3cret" not in repr(value), (frame.f_code.co_qualname, name)
    assert looked > 20


def raised(error: BaseException, cause: BaseException | None = None) -> BaseException:
    try:
        raise error from cause  # noqa: TRY301 -- for its traceback
    except BaseException as caught:  # noqa: BLE001
        return caught


def test_the_first_that_holds_one_is_replaced() -> None:
    """What lies around it is kept, in its order."""
    inner = raised(OSError(104, "reset"))
    middle = raised(ValueError("Bearer s3cret-header"), inner)
    outer = raised(KeyError("x"), middle)
    safe = safe_cause(outer, secrets_of(headers=[{"Authorization": "Bearer s3cret-header"}]))
    assert safe is outer
    assert type(safe.__cause__) is RedactedError
    assert str(safe.__cause__) == "ValueError: its text holds credentials and is not shown"
    assert safe.__cause__.__cause__ is inner
    back = pickle.loads(pickle.dumps(safe.__cause__))
    assert str(back) == str(copy.copy(safe.__cause__)) == str(safe.__cause__)


@pytest.mark.parametrize(
    "text",
    [
        "token s3cret-header.",
        "b's3cret-header'",
        "http://user:s3cret-password@h/",
        "proxy http://who:ever@proxy:3128 refused",
        "/g?t=s3cret%2Fquery",
        "/g?t=s3cret/query",
        base64.b64encode(b"user:s3cret-password").decode(),
        "sid=s3cret-cookie",
        "s3cret-basic",
        r"bad value 'line\nfeed'",
    ],
)
def test_forms_of_a_secret(text: str) -> None:
    """As it was given, as it is sent, as Python shows it; in arguments and in notes too."""
    known = secrets_of(
        urls=["http://user:s3cret-password@h/g?t=s3cret%2Fquery"],
        headers=[
            {
                "Authorization": "Bearer s3cret-header",
                "Cookie": "theme=dark; sid=s3cret-cookie",
                "X": "line\nfeed",
            },
            {"Proxy-Authorization": "Basic " + base64.b64encode(b"a:s3cret-basic").decode()},
        ],
    )
    noted = ValueError("no")
    noted.add_note(text)
    for error in (
        ValueError(text),
        ValueError("no", {"a": [text]}),
        noted,
        ExceptionGroup("no", [OSError(text)]),
    ):
        assert type(safe_cause(error, known)) is RedactedError
    clean = ValueError("Connect call failed ('127.0.0.1', 80)", "application/json", "gzip")
    assert safe_cause(clean, known) is clean


def test_what_is_in_the_address_is_no_secret() -> None:
    """A tenant's name in a header and in the host hides no cause."""
    known = secrets_of(urls=["https://acme.example.com/graphql?k=acme-key"], headers=[{"X-Tenant": "acme"}])
    clean = OSError("Cannot connect to host acme.example.com:443")
    assert safe_cause(clean, known) is clean
    assert type(safe_cause(OSError("acme-key"), known)) is RedactedError


def test_a_callers_own_exception_is_left_alone() -> None:
    """Who calls while handling an exception finds it as it was."""
    own = raised(LookupError("mine"), ValueError("Bearer s3cret-header"))
    ours = TransportError("no")
    ours.__context__ = own
    conceal(ours, frozenset({"s3cret-header"}))
    assert "s3cret" not in told(ours)
    assert str(own.__cause__) == "Bearer s3cret-header"


def test_a_chain_without_end() -> None:
    """Circles and endless chains come to an end."""
    one, two = ValueError("a"), ValueError("b")
    one.__cause__, two.__cause__ = two, one
    assert safe_cause(one, frozenset({"s3cret"})) is one
    link: BaseException = ValueError("s3cret")
    for _ in range(500):
        link = raised(ValueError("x"), link)
    conceal(link, frozenset({"s3cret"}))
    assert "s3cret" not in told(link)


def test_an_exception_that_cannot_be_looked_at() -> None:
    """Is not shown."""

    class BrokenError(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no")

    assert type(safe_cause(BrokenError(), frozenset({"s3cret"}))) is RedactedError


def test_the_text_of_ours_is_scrubbed_and_nobody_elses() -> None:
    """A server's words in an error of ours lose our secrets; a program's own exception keeps its text."""
    secrets = secrets_of(headers=[{"Authorization": "Bearer s3cret-header", "X-Env": "prod"}])
    ours, own = TransportError("says s3cret-header in prod"), KeyError("s3cret-header")
    conceal(ours, secrets)
    conceal(own, secrets)
    assert str(ours) == "says … in prod"
    assert own.args == ("s3cret-header",)
