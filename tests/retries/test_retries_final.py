"""What can never succeed is raised at once."""

from __future__ import annotations

import contextlib
import gzip
import ssl
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
import pytest
import trustme
from aiographql.client import GraphQLClientException
from aiographql.client.exceptions import GraphQLTransportException
from retrying import (
    ALL_ATTEMPTS,
    AS_QUERY,
    KINDS,
    QUERY,
    UNMARKED,
    Backend,
    Connect,
    Kind,
    assert_told,
    failure_of,
    forget,
    host_of,
)

from graphql_prod import (
    HTTPStatusError,
    ProductionClient,
    TransportError,
)
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from aiographql.client.transport import GraphQLSession


# --- what can never succeed -----------------------------------------------------------------------


async def test_a_redirect_is_never_followed(client: ProductionClient, server: ScriptedServer) -> None:
    """A redirect is an error that names its target's host, once."""
    async with ScriptedServer(host="localhost") as elsewhere:
        target = f"http://user:s3cret-query@localhost:{elsewhere.port}/graphql?token=s3cret-query"
        for status in (301, 302, 303, 307, 308):
            for kind in KINDS:
                forget(server)
                server.always(Answer.redirect(target, status))
                error = await failure_of(kind.view(client), kind.document)
                assert type(error) is HTTPStatusError, (status, kind)
                assert error.status == status
                assert "localhost" in str(error)
                assert_told(error, host_of(server), 1, may_have_executed=kind is not AS_QUERY)
                assert len(server.requests) == 1, (status, kind)
        assert elsewhere.connections == 0


async def test_a_redirect_is_not_followed_by_a_session_that_would(
    backend: Backend, server: ScriptedServer
) -> None:
    """A caller's httpx client that follows redirects does not follow ours."""
    if backend == "aiohttp":
        pytest.skip("aiohttp has no such setting on its session")
    server.always(Answer.redirect(server.url, 307))
    async with httpx.AsyncClient(follow_redirects=True, verify=False) as session:
        error = await failure_of(ProductionClient(server.url, session=session, validate=False))
    assert error.status == 307
    assert len(server.requests) == 1


BAD_LOCATIONS = ("http://[::1/x", "http://x:y/", "javascript:alert(1)", "http://exa mple/", "//", "", "/x")


async def test_a_redirect_to_nowhere_is_raised_at_once(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """Whatever a Location says: an error of ours, at once, and no surprise of a parser."""
    outcomes = {}
    for location in BAD_LOCATIONS:
        forget(server)
        server.always(Answer.redirect(location, 302))
        with pytest.raises(Exception) as caught:  # noqa: PT011 -- told below, for all of them at once
            await client.query(QUERY)
        error: Any = caught.value
        outcomes[location] = (isinstance(error, GraphQLClientException), error.attempts)
    assert outcomes == dict.fromkeys(BAD_LOCATIONS, (True, 1))


async def test_a_body_that_does_not_decode_is_raised_at_once(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """A codec error will be the same the next time."""
    for kind in KINDS:
        forget(server)
        server.always(Answer(body=b"this is not gzip", headers={"Content-Encoding": "gzip"}, execute=True))
        error = await failure_of(kind.view(client), kind.document)
        assert type(error) is TransportError, kind
        assert_told(error, host_of(server), 1, may_have_executed=kind is not AS_QUERY)
        assert server.executions == {kind.field: 1}, kind


async def test_a_gzip_body_that_decodes_is_an_answer(
    client: ProductionClient, server: ScriptedServer
) -> None:
    """The row above is about broken gzip, not about gzip."""
    body = gzip.compress(b'{"data": {"counter": 7}}')
    server.always(Answer(body=body, media_type="application/json", headers={"Content-Encoding": "gzip"}))
    assert (await client.query(QUERY)).data == {"counter": 7}


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@contextlib.asynccontextmanager
async def encrypted(authority: trustme.CA, name: str) -> AsyncIterator[ScriptedServer]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert(name).configure_cert(context)
    async with ScriptedServer(ssl_context=context) as server:
        yield server


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_an_untrusted_certificate_is_raised_at_once(
    connect: Connect, authority: trustme.CA, kind: Kind
) -> None:
    """Nobody trusts this authority: there is nothing to hope for, and nothing was sent."""
    async with encrypted(authority, "127.0.0.1") as server:
        client = await connect(server.url, verify=ssl.create_default_context())
        error = await failure_of(kind.view(client), kind.document)
        assert server.connections == 1
    assert type(error) is TransportError
    assert "certificate" in str(error)
    assert_told(error, host_of(server), 1, may_have_executed=False)


async def test_a_certificate_of_another_host_is_raised_at_once(
    backend: Backend, authority: trustme.CA
) -> None:
    """A trusted authority, but the wrong name: once."""
    trust = ssl.create_default_context()
    authority.configure_trust(trust)
    async with encrypted(authority, "other.example") as server, contextlib.AsyncExitStack() as stack:
        session: GraphQLSession = (
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(ssl=trust))
            if backend == "aiohttp"
            else httpx.AsyncClient(verify=trust)
        )
        await stack.enter_async_context(session)
        error = await failure_of(ProductionClient(server.url, session=session, validate=False))
        assert server.connections == 1
    assert "certificate" in str(error)
    assert_told(error, host_of(server), 1, may_have_executed=False)


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_plain_http_where_tls_is_expected_is_raised_at_once(
    connect: Connect, server: ScriptedServer, kind: Kind
) -> None:
    """A port that speaks no TLS will speak none the next time."""
    client = await connect(f"https://{host_of(server)}/graphql")
    error = await failure_of(kind.view(client), kind.document)
    assert type(error) is TransportError
    assert "TLS" in str(error)
    assert_told(error, host_of(server), 1, may_have_executed=False)
    assert server.connections == 1


@pytest.mark.parametrize("kind", [AS_QUERY, UNMARKED], ids=lambda kind: kind.name)
async def test_a_handshake_that_breaks_off_is_unsent(
    connect: Connect, server: ScriptedServer, kind: Kind
) -> None:
    """A connection lost in mid-handshake is a lost connection, and nothing was sent on it."""

    async with FaultyProxy(server.port) as proxy:
        proxy.refuse = True
        client = await connect(proxy.url_for(scheme="https"))
        error = await failure_of(kind.view(client), kind.document)
        assert proxy.accepted == ALL_ATTEMPTS
    assert type(error) is TransportError
    assert_told(error, f"{proxy.host}:{proxy.port}", ALL_ATTEMPTS, may_have_executed=False)


@pytest.mark.parametrize("url", ["http://exa mple/?token=s3cret-query", "http://a..b/?token=s3cret-query"])
async def test_a_url_that_no_library_can_use_is_raised_at_once(connect: Connect, url: str) -> None:
    """An invalid URL is an error of the stock's family: when the client is made, or when it is called."""
    try:
        client = await connect(url)
    except GraphQLClientException as refused:
        assert "s3cret" not in str(refused)  # noqa: PT017 -- refused earlier is as good
        return
    error = await failure_of(client)
    assert issubclass(type(error), GraphQLTransportException)
    assert error.may_have_executed is False
    assert "s3cret" not in str(error)
