"""Sessions of other libraries, and the stock's own transports: refused by name, or used and seen through."""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import httpx
import pytest
from aiographql.client.transport import AiohttpTransport, HttpxTransport
from raw_http import MUTATION, QUERY, RawServer, answer

from graphql_prod import ConfigurationError, HTTPStatusError, ProductionClient, RetryPolicy, TransportError
from graphql_prod.testing import no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from aiographql.client import GraphQLTransport
    from raw_http import Asked

Library = Literal["aiohttp", "httpx"]


class Replies:
    """Answers in turn, and then the good one."""

    def __init__(self) -> None:
        self.next: list[bytes] = []

    def __call__(self, asked: Asked) -> bytes:
        return self.next.pop(0) if self.next else answer({"hello": asked.number, "increment": asked.number})


@pytest.fixture
def replies() -> Replies:
    """What the server answers."""
    return Replies()


@pytest.fixture
def server(replies: Replies) -> Iterator[RawServer]:
    """The server that answers so."""
    with RawServer(replies) as server:
        yield server


class Wrapper:
    """Another library's session around one of aiohttp's, as of those that retry or cache."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self.session = session
        self.options: list[dict[str, Any]] = []

    def request(self, **options: Any) -> Any:
        self.options.append(options)
        return self.session.request(**options)


class TestOtherSessions:
    @pytest.mark.parametrize("module", ["httpx2", "httpx2._client", "niquests"])
    def test_looks_like_httpx(self, module: str) -> None:
        """What only looks like httpx is refused when the client is made, by name."""
        lookalike = type("AsyncClient", (), {"__module__": module, "request": lambda self: None})
        derived = type("Mine", (lookalike,), {"__module__": "mine"})
        for kind, name in ((lookalike, f"{module.partition('.')[0]}.AsyncClient"), (derived, "mine.Mine")):
            with pytest.raises(ConfigurationError, match=r"looks like an httpx\.AsyncClient") as caught:
                ProductionClient("http://h/graphql", session=kind())
            assert name in str(caught.value)

    def test_not_asynchronous(self) -> None:
        """httpx's other client answers without being awaited."""
        with httpx.Client() as session, pytest.raises(ConfigurationError, match="give an httpx"):
            ProductionClient("http://h/graphql", session=session)  # type: ignore[arg-type]

    @pytest.mark.parametrize("session", [object(), "session", 5, {}], ids=lambda each: type(each).__name__)
    def test_no_request(self, session: Any) -> None:
        """Without ``request()`` nothing can be asked of it."""
        with pytest.raises(ConfigurationError, match=r"has no request\(\)"):
            ProductionClient("http://h/graphql", session=session)

    async def test_of_a_call(self, server: RawServer) -> None:
        """A session given with a call is held to the same."""
        async with ProductionClient(server.url, validate=False) as client:
            with pytest.raises(ConfigurationError, match=r"has no request\(\)"):
                await client.query(QUERY, session=object())  # type: ignore[arg-type]

    async def test_used_as_the_stock_uses_it(
        self, server: RawServer, caplog: pytest.LogCaptureFixture
    ) -> None:
        """No argument of ours reaches it, one warning names it, and answers are what they are."""
        async with aiohttp.ClientSession() as native:
            wrapper: Any = Wrapper(native)
            async with ProductionClient(server.url, session=wrapper, validate=False) as client:
                for number in (1, 2, 3):
                    response = await client.query(MUTATION)
                    assert response.data["increment"] == number
                    assert response.status == 200
        assert all(set(options) == {"method", "url", "headers", "data"} for options in wrapper.options)
        warnings = [record for record in caplog.records if record.levelname == "WARNING"]
        assert len(warnings) == 1
        assert "Wrapper" in warnings[0].getMessage()

    async def test_nobody_can_tell_whether_it_was_sent(self, server: RawServer, replies: Replies) -> None:
        """A mutation that failed in it may have been executed; a query is repeated."""
        async with aiohttp.ClientSession() as native:
            wrapper: Any = Wrapper(native)
            with no_waiting():
                async with ProductionClient(server.url, session=wrapper, validate=False) as client:
                    replies.next = [b""]
                    assert (await client.query(QUERY)).data["hello"] == 2
                    replies.next = [b""]
                    with pytest.raises(TransportError) as caught:
                        await client.query(MUTATION)
        assert caught.value.may_have_executed
        assert server.mutations == 1


@contextlib.asynccontextmanager
async def transport_of(library: Library, url: str, *, own: bool) -> AsyncIterator[GraphQLTransport]:
    """A stock transport, with a session in it or without."""
    if library == "aiohttp":
        async with aiohttp.ClientSession() as session:
            yield AiohttpTransport(url, session=session if own else None)
    else:
        async with httpx.AsyncClient(trust_env=False, follow_redirects=True) as client:
            yield HttpxTransport(url, client=client if own else None)


@pytest.fixture(params=["aiohttp", "httpx"])
def library(request: pytest.FixtureRequest) -> Library:
    """Each test runs with both stock transports."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture(params=[True, False], ids=["with session", "without"])
def own(request: pytest.FixtureRequest) -> bool:
    """Each test runs with a session in the transport, and without."""
    return request.param  # type: ignore[no-any-return]


class TestStockTransports:
    async def test_status_and_headers(
        self, server: RawServer, replies: Replies, library: Library, own: bool
    ) -> None:
        """They are seen, so that the retry table holds, and ``Retry-After`` with it."""
        page = answer(
            status="503 Service Unavailable",
            content_type="text/html",
            headers=("Retry-After: 7",),
            body=b"<html>no</html>",
        )
        with no_waiting():
            async with (
                transport_of(library, server.url, own=own) as transport,
                ProductionClient(server.url, transport=transport, validate=False) as client,
            ):
                replies.next = [page, page]
                response = await client.query(QUERY)
                assert response.data["hello"] == 3
                assert response.status == 200
                assert response.response_headers is not None
                assert response.response_headers["content-type"] == "application/json"
                replies.next = [page]
                with pytest.raises(HTTPStatusError) as caught:
                    await client.query(MUTATION)
        assert (caught.value.status, caught.value.retry_after) == (503, 7)
        assert caught.value.may_have_executed
        assert caught.value.attempts == 1
        assert len(server.asked) == 4

    async def test_redirects(self, server: RawServer, replies: Replies, library: Library, own: bool) -> None:
        """A redirect is not followed: neither the mutation nor its credentials go elsewhere."""
        replies.next = [
            answer(status="307 Temporary Redirect", headers=(f"Location: {server.url}/elsewhere",))
        ]
        async with (
            transport_of(library, server.url, own=own) as transport,
            ProductionClient(server.url, transport=transport, validate=False) as client,
        ):
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(MUTATION, headers={"Authorization": "Bearer x"})
        assert caught.value.status == 307
        assert len(server.asked) == 1

    async def test_renewal(self, server: RawServer, replies: Replies, library: Library, own: bool) -> None:
        """A 401 is seen as one: the provider is asked for new credentials."""
        asked: list[bool] = []

        def provider(refresh: bool = False) -> dict[str, str]:
            asked.append(refresh)
            return {"Authorization": f"Bearer {len(asked)}"}

        replies.next = [answer(status="401 Unauthorized", content_type="text/plain", body=b"no")]
        async with (
            transport_of(library, server.url, own=own) as transport,
            ProductionClient(
                server.url, transport=transport, validate=False, headers_provider=provider
            ) as client,
        ):
            assert (await client.query(QUERY)).data["hello"] == 2
        assert asked == [False, True]

    async def test_unsent(self, library: Library, own: bool, unused_tcp_port: int) -> None:
        """What was not sent is known not to have been."""
        url = f"http://127.0.0.1:{unused_tcp_port}/graphql"
        with no_waiting():
            async with (
                transport_of(library, url, own=own) as transport,
                ProductionClient(url, transport=transport, validate=False) as client,
            ):
                with pytest.raises(TransportError) as caught:
                    await client.query(MUTATION)
        assert caught.value.attempts == RetryPolicy().attempts
        assert not caught.value.may_have_executed

    async def test_stray_answer(self, server: RawServer, library: Library) -> None:
        """An answer belongs to its request here, too."""
        stray = answer({"hello": -1, "increment": -1})
        with no_waiting():
            async with (
                transport_of(library, server.url, own=True) as transport,
                ProductionClient(server.url, transport=transport, validate=False) as client,
            ):
                await client.query(MUTATION)
                server.push(stray)
                assert (await client.query(MUTATION)).data["increment"] == 2
                server.hang_up()
                assert (await client.query(MUTATION)).data["increment"] == 3
        assert server.mutations == 3

    async def test_subclass_that_looks_at_requests(self, server: RawServer, library: Library) -> None:
        """A subclass's own ``request()`` gets what the stock would give it, and its changes count."""
        base: type[Any] = AiohttpTransport if library == "aiohttp" else HttpxTransport
        seen: list[set[str]] = []

        class Signing(base):  # type: ignore[misc]
            async def request(self, method: str, request: Any, serializer: Any, **kwargs: Any) -> Any:
                seen.append(set(kwargs))
                signed = request.copy(headers={"X-Signature": "1"}, variables={"signed": True})
                return await super().request(method, signed, serializer, **kwargs)

        async with ProductionClient(server.url, transport=Signing(server.url), validate=False) as client:
            await client.query(MUTATION)
        assert seen == [{"session"}]
        assert b'"signed":true' in server.asked[0].body
        assert "x-signature" in {name.lower() for name, _ in server.asked[0].headers}

    async def test_get(self, server: RawServer, library: Library) -> None:
        """A query over GET is seen through like any other."""
        make: Callable[[str], GraphQLTransport] = AiohttpTransport if library == "aiohttp" else HttpxTransport
        async with ProductionClient(server.url, transport=make(server.url), validate=False) as client:
            assert (await client.query(QUERY, method="get")).data["hello"] == 1
        assert server.asked[0].line.startswith("GET ")
