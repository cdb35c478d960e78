"""Headers from a provider: when it is asked, what it outranks, and what a refusal costs."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
from typing import TYPE_CHECKING, Any, Literal

import pytest
from aiographql.client import GraphQLRequest
from aiohttp import web

from graphql_prod import (
    ConfigurationError,
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TransportError,
)
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

Backend = Literal["aiohttp", "httpx"]

HELLO = {"hello": "Hello, world!"}
INCREMENT = "mutation Add { increment }"
SECRET = "s3cr3t"


class Issuer:
    """Hands out tokens as an asynchronous provider; a renewal gives the next one."""

    def __init__(self) -> None:
        self.number = 1
        self.asked: list[bool] = []

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        await asyncio.sleep(0)
        self.number += refresh
        return {"Authorization": f"Bearer {self.number}"}

    @property
    def renewals(self) -> int:
        return sum(self.asked)


@contextlib.asynccontextmanager
async def client_of(
    url: str, provider: Any, backend: Backend | None = None, **arguments: Any
) -> AsyncIterator[Any]:
    """A client with a provider, that does not validate unless told to."""
    arguments = {"validate": False, **arguments}
    async with ProductionClient(url, headers_provider=provider, backend=backend, **arguments) as client:
        yield client


def tokens(server: ScriptedServer) -> list[str | None]:
    """The credentials of every request that came."""
    return [request.headers.get("Authorization") for request in server.requests]


def refusal(code: object = "UNAUTHENTICATED", status: int = 200, data: Any = None) -> Answer:
    """A GraphQL answer that refuses the credentials: without data it is a request error."""
    body: dict[str, Any] = {"errors": [{"message": "no", "extensions": {"code": code}}]}
    if data is not None:
        body["data"] = data
    kind = "json" if status == 200 else "graphql-response+json"
    return Answer(status=status, body=body, media_type=f"application/{kind}")


class Sync:
    def __call__(self) -> dict[str, str]:
        return {"Authorization": "Bearer 1"}


class Async:
    async def __call__(self, *, refresh: bool = False) -> dict[str, str]:
        return {"Authorization": f"Bearer {1 + refresh}"}

    async def method(self, **options: bool) -> dict[str, str]:
        return await self(refresh=options.get("refresh", False))


def plain_sync() -> dict[str, str]:
    return {"Authorization": "Bearer 1"}


def refreshing_sync(refresh: bool = False) -> dict[str, str]:
    return {"Authorization": f"Bearer {1 + refresh}"}


async def plain_async() -> dict[str, str]:
    return {"Authorization": "Bearer 1"}


async def with_argument(number: int, refresh: bool = False) -> dict[str, str]:
    return {"Authorization": f"Bearer {number + refresh}"}


class TestProviders:
    @pytest.mark.parametrize(
        ("provider", "renewed"),
        [
            (plain_sync, "Bearer 1"),
            (refreshing_sync, "Bearer 2"),
            (plain_async, "Bearer 1"),
            (Sync(), "Bearer 1"),
            (Async(), "Bearer 2"),
            (Async().method, "Bearer 2"),
            (functools.partial(with_argument, 1), "Bearer 2"),
            (functools.partial(with_argument, 1, refresh=False), "Bearer 2"),
            (lambda: asyncio.ensure_future(plain_async()), "Bearer 1"),
        ],
    )
    async def test_kinds(
        self, server: ScriptedServer, backend: Backend, provider: Callable[..., Any], renewed: str
    ) -> None:
        """Any callable will do, sync or async; ``refresh=True`` is given to those that take it."""
        server.script(Answer.page(401))
        async with client_of(server.url, provider, backend) as client:
            assert (await client.query("{ hello }")).data == HELLO
        assert tokens(server) == ["Bearer 1", renewed]

    @pytest.mark.parametrize("provider", [{"Authorization": SECRET}, "Bearer", 3])
    def test_what_is_none(self, provider: Any) -> None:
        """What cannot be called is refused when the client is made, without its value."""
        with pytest.raises(ConfigurationError, match="headers_provider") as caught:
            ProductionClient("http://h/graphql", headers_provider=provider)
        assert SECRET not in str(caught.value)

    async def test_every_attempt(self, server: ScriptedServer, backend: Backend) -> None:
        """It is asked for each attempt: a token that changes between retries is sent."""
        numbers = iter(range(1, 9))
        server.script(Answer.page(503), Answer.reset("body"))
        with no_waiting():
            async with client_of(
                server.url, lambda: {"Authorization": f"Bearer {next(numbers)}"}, backend
            ) as client:
                await client.query("{ hello }")
                await client.query("{ hello }")
        assert tokens(server) == [f"Bearer {number}" for number in (1, 2, 3, 4)]

    async def test_headers_of_the_last_attempt_are_not_kept(
        self, server: ScriptedServer, backend: Backend
    ) -> None:
        """A header that the provider gave once and not again is not sent again."""
        answers = iter([{"X-Once": "1"}, {}])
        server.script(Answer.page(503))
        with no_waiting():
            async with client_of(server.url, lambda: next(answers), backend) as client:
                await client.query("{ hello }")
        assert [request.headers.get("X-Once") for request in server.requests] == ["1", None]

    async def test_rank(self, server: ScriptedServer, backend: Backend) -> None:
        """Above the client's own headers, below the view's, the request's and the call's, whatever the
        spelling; never two on the wire."""
        given = dict.fromkeys(("X-A", "X-B", "X-C", "X-D", "X-E"), "provider")
        async with client_of(
            server.url, lambda: given, backend, headers={"x-a": "client", "X-Kept": "client"}
        ) as c:
            await c.with_options(headers={"x-b": "view"}).query(
                GraphQLRequest("{ hello }", headers={"x-c": "request"}), headers={"x-d": "call"}
            )
        sent: Any = server.requests[0].headers
        found = {name: sent.getall(name) for name in (*given, "X-Kept")}
        assert found == {
            "X-A": ["provider"],
            "X-B": ["view"],
            "X-C": ["request"],
            "X-D": ["call"],
            "X-E": ["provider"],
            "X-Kept": ["client"],
        }

    async def test_two_spellings(self, server: ScriptedServer, backend: Backend) -> None:
        """Two spellings in the provider's headers are one header on the wire; the last one counts."""
        async with client_of(server.url, lambda: {"x-t": "old", "X-T": "new"}, backend) as client:
            await client.query("{ hello }")
        sent: Any = server.requests[0].headers
        assert sent.getall("X-T") == ["new"]

    async def test_introspection(self, server: ScriptedServer, backend: Backend) -> None:
        """The introspection before a first query carries the provider's headers, and renews them too."""
        server.script(Answer.page(401))
        issuer = Issuer()
        async with client_of(server.url, issuer, backend, validate=True) as client:
            assert (await client.query("{ hello }")).data == HELLO
        assert len(server.requests) == 3
        assert issuer.renewals == 1
        assert tokens(server)[0] == "Bearer 1"
        assert "__schema" in (server.requests[1].query or "")
        assert tokens(server)[1] == "Bearer 2"

    async def test_another_client_for_the_token(self, server: ScriptedServer, backend: Backend) -> None:
        """A provider may ask with a client of its own; its calls are no part of the call that waits."""
        async with ScriptedServer() as issuer, client_of(issuer.url, None, backend) as other:
            issuer.script(Answer.page(503))

            async def provider() -> dict[str, str]:
                answer = await other.query('{ echo(value: "token") }')
                return {"Authorization": answer.data["echo"]}

            server.script(Answer.page(404))
            with no_waiting():
                async with client_of(server.url, provider, backend) as client:
                    with pytest.raises(HTTPStatusError) as caught:
                        await client.query("{ hello }")
            assert len(issuer.requests) == 2
        assert tokens(server) == ["token"]
        assert caught.value.attempts == 1

    async def test_another_client_fails(self, server: ScriptedServer) -> None:
        """What went wrong in a provider's own calls is not told as the failure of the call that waits."""
        async with ScriptedServer() as issuer, client_of(issuer.url, None) as other:
            issuer.script(Answer.page(503), Answer.hang())

            async def provider() -> dict[str, str]:
                await other.query("{ hello }")
                return {}

            with no_waiting():
                async with client_of(server.url, provider) as client:
                    with pytest.raises(RequestTimeoutError) as caught:
                        await client.with_options(timeout=0.1).query("{ hello }")
            assert len(issuer.requests) == 2
        assert not isinstance(caught.value.__cause__, HTTPStatusError)

    async def upgrade(self, server: ScriptedServer, client: Any, **arguments: Any) -> dict[str, str]:
        """What a subscription's connection_init carries; its upgrade carries the same."""
        got: asyncio.Queue[Any] = asyncio.Queue()

        async def on_data(event: Any) -> None:
            got.put_nowait(event.payload.data)

        subscription = await client.subscribe("subscription { count(to: 0) }", on_data=on_data, **arguments)
        assert await asyncio.wait_for(got.get(), 5) == {"count": 0}
        await subscription.unsubscribe_and_wait()
        payload: dict[str, Any] = server.messages[0].message["payload"]
        headers: dict[str, str] = payload.get("headers", payload)
        return headers

    async def test_subscription(self, server: ScriptedServer, backend: Backend) -> None:
        """A subscription's connection_init and upgrade carry the provider's headers, ranked as for calls."""
        given = dict.fromkeys(("X-A", "X-B", "X-C", "X-D"), "provider")
        async with client_of(server.url, lambda: given, backend, headers={"X-A": "client"}) as client:
            view = client.with_options(headers={"X-B": "view"})
            sent = await self.upgrade(server, view, headers={"X-C": "call"})
        ranked = {"X-A": "provider", "X-B": "view", "X-C": "call", "X-D": "provider"}
        assert {name: sent[name] for name in ranked} == ranked
        assert {name: server.upgrades[0].headers[name] for name in ranked} == ranked

    async def test_subscription_sends_one_spelling(self, server: ScriptedServer) -> None:
        """Header names compare without case there too."""
        async with client_of(server.url, lambda: {"X-A": "provider"}) as client:
            sent = await self.upgrade(server, client.with_options(headers={"x-a": "view"}))
        assert [value for name, value in sent.items() if name.lower() == "x-a"] == ["view"]

    async def test_two_loops(self, server: ScriptedServer) -> None:
        """One client used from a second event loop asks again, also when the first ended in mid-flight."""
        started = threading.Event()
        hangs = iter([True, False])

        async def provider() -> dict[str, str]:
            if next(hangs):
                started.set()
                await asyncio.Event().wait()
            return {"Authorization": "Bearer 1"}

        async with client_of(server.url, provider) as client:

            async def leave() -> None:
                call = asyncio.create_task(client.query("{ hello }"))
                await asyncio.to_thread(started.wait)
                call.cancel()

            await asyncio.to_thread(asyncio.run, leave())
            assert (await client.query("{ hello }")).data == HELLO
        assert tokens(server) == ["Bearer 1"]


class TestRefusals:
    @pytest.mark.parametrize(
        "answer",
        [
            Answer.page(401),
            Answer.graphql(401, errors=["no"]),
            refusal(),
            refusal("invalid-jwt", 400),
            refusal(status=500),
        ],
        ids=["page", "answer 401", "unauthenticated", "invalid-jwt", "500"],
    )
    @pytest.mark.parametrize("document", ["query Q { hello }", INCREMENT], ids=["query", "mutation"])
    async def test_renewed_once(
        self, server: ScriptedServer, backend: Backend, answer: Answer, document: str
    ) -> None:
        """A request error is answered with new credentials and one repetition, for mutations too."""
        server.script(answer)
        issuer = Issuer()
        async with client_of(server.url, issuer, backend) as client:
            assert (await client.query(document)).data
            assert client.stats().retries == 0
        assert issuer.asked == [False, True]
        assert tokens(server) == ["Bearer 1", "Bearer 2"]
        assert sum(server.executions.values()) == 1

    async def test_own_codes(self, server: ScriptedServer, backend: Backend) -> None:
        """``auth_error_codes`` replaces the codes that count as a refusal."""
        server.script(refusal("TOKEN_EXPIRED"), Answer(), refusal("UNAUTHENTICATED"))
        issuer = Issuer()
        config = ProductionConfig(auth_error_codes={"TOKEN_EXPIRED"})
        async with client_of(server.url, issuer, backend, config=config) as client:
            assert (await client.query("{ hello }")).data == HELLO
            assert (await client.query("{ hello }")).errors
        assert tokens(server) == ["Bearer 1", "Bearer 2", "Bearer 2"]

    @pytest.mark.parametrize("code", [None, 5, "FORBIDDEN", [], {}])
    async def test_other_codes(self, server: ScriptedServer, code: object) -> None:
        """Other codes, and what is none, are an answer like any other."""
        server.script(refusal(code))
        issuer = Issuer()
        async with client_of(server.url, issuer) as client:
            assert (await client.query("{ hello }")).errors
        assert issuer.asked == [False]

    async def test_data_of_a_mutation(self, server: ScriptedServer, backend: Backend) -> None:
        """A mutation whose answer carries data did something: it is not repeated. A query is."""
        server.always(refusal(data={"increment": 1}), "Add")
        server.on("Q", refusal(data={"hello": None}))
        issuer = Issuer()
        async with client_of(server.url, issuer, backend) as client:
            answer = await client.query(INCREMENT)
            assert (answer.data, len(answer.errors)) == ({"increment": 1}, 1)
            assert len(server.requests) == 1
            assert (await client.query("query Q { hello }")).data == HELLO
        assert issuer.asked == [False, False, True]

    @pytest.mark.parametrize("document", ["query Q { hello }", INCREMENT], ids=["query", "mutation"])
    async def test_second_refusal(self, server: ScriptedServer, backend: Backend, document: str) -> None:
        """A second 401 is raised, after exactly two requests."""
        server.always(Answer.page(401))
        issuer = Issuer()
        async with client_of(server.url, issuer, backend) as client:
            with pytest.raises(HTTPStatusError) as caught:
                await client.query(document)
        assert (caught.value.status, caught.value.attempts) == (401, 2)
        assert len(server.requests) == 2
        assert issuer.asked == [False, True]

    async def test_refusal_between_retries(self, server: ScriptedServer) -> None:
        """The repetition takes nothing from the retries, and there is one a call."""
        server.script(Answer.page(503), Answer.page(401), Answer.page(503), Answer.page(401))
        issuer = Issuer()
        with no_waiting():
            config = ProductionConfig(retry=RetryPolicy(attempts=3))
            async with client_of(server.url, issuer, config=config) as client:
                with pytest.raises(HTTPStatusError) as caught:
                    await client.query("{ hello }")
        assert caught.value.status == 401
        assert issuer.renewals == 1
        assert len(server.requests) == 4

    async def test_no_provider(self, server: ScriptedServer, backend: Backend) -> None:
        """Without a provider a 401 is raised at once and a refusing answer returned."""
        server.script(Answer.page(401), refusal())
        async with client_of(server.url, None, backend) as client:
            with pytest.raises(HTTPStatusError):
                await client.query("{ hello }")
            assert len(server.requests) == 1
            assert (await client.query("{ hello }")).errors
        assert len(server.requests) == 2


class TestTrouble:
    @pytest.mark.parametrize("kind", ["sync", "async", "late"])
    async def test_provider_raises(
        self, server: ScriptedServer, backend: Backend, kind: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        """What it raises is the cause of a TransportError that does not quote it; nothing is sent, and the
        next call asks again."""
        failure = RuntimeError(SECRET)
        fails = True

        def sync() -> dict[str, str]:
            if fails:
                raise failure
            return {}

        async def late() -> dict[str, str]:
            await asyncio.sleep(0)
            return sync()

        async def at_once() -> dict[str, str]:
            return sync()

        provider = {"sync": sync, "async": at_once, "late": late}[kind]
        async with client_of(server.url, provider, backend) as client:
            with caplog.at_level("DEBUG", "graphql_prod"):
                for document in ("{ hello }", INCREMENT):
                    with pytest.raises(TransportError) as caught:
                        await client.query(document)
                    assert caught.value.__cause__ is failure
                    assert not caught.value.may_have_executed
                    assert SECRET not in f"{caught.value} {caught.value!r} {caplog.text}"
            assert server.requests == []
            fails = False
            assert (await client.query("{ hello }")).data == HELLO

    @pytest.mark.parametrize(
        "wrong", [None, SECRET, [("a", "b")], {"A": None}, {"A": 5}, {5: "a"}, {"A": b"x"}]
    )
    @pytest.mark.parametrize("is_async", [False, True])
    async def test_no_headers(self, server: ScriptedServer, wrong: Any, is_async: bool) -> None:
        """What is no mapping of texts to texts is a TransportError before sending, without its value."""

        async def later() -> Any:
            return wrong

        async with client_of(server.url, later if is_async else lambda: wrong) as client:
            with pytest.raises(TransportError) as caught:
                await client.query("{ hello }")
        assert isinstance(caught.value.__cause__, TypeError)
        assert SECRET not in f"{caught.value} {caught.value.__cause__}"
        assert server.requests == []

    async def test_provider_cancelled(self, server: ScriptedServer) -> None:
        """A provider whose own task was cancelled has failed: nobody cancelled the caller."""

        async def provider() -> dict[str, str]:
            raise asyncio.CancelledError

        async with client_of(server.url, provider) as client:
            with pytest.raises(TransportError):
                await client.query("{ hello }")

    async def test_provider_hangs(self, server: ScriptedServer, backend: Backend) -> None:
        """The total holds while the provider is asked; the next caller is not stuck behind it."""
        asked = 0

        async def provider() -> dict[str, str]:
            nonlocal asked
            asked += 1
            if asked == 1:
                await asyncio.Event().wait()
            return {}

        async with client_of(server.url, provider, backend) as client:
            with pytest.raises(RequestTimeoutError) as caught:
                await client.with_options(timeout=0.05).query("{ hello }")
            assert (caught.value.phase, caught.value.attempts) == ("total", 0)
            assert (await client.query("{ hello }")).data == HELLO
        assert (asked, len(server.requests)) == (2, 1)

    async def test_overdue_flight(self, server: ScriptedServer) -> None:
        """Who joined a flight that hangs outlives it: a second after its starter's total it is asked anew."""
        asked = 0

        async def provider() -> dict[str, str]:
            nonlocal asked
            asked += 1
            if asked == 1:
                await asyncio.Event().wait()
            return {}

        async with client_of(server.url, provider) as client:
            first = asyncio.create_task(client.with_options(timeout=0.01).query("{ hello }"))
            await asyncio.sleep(0)
            second = asyncio.create_task(client.query("{ hello }"))
            with pytest.raises(RequestTimeoutError):
                await first
            assert (await second).data == HELLO
        assert asked == 2

    async def test_subscription_with_a_hanging_provider(self, server: ScriptedServer) -> None:
        """A subscription whose provider hangs is an error of ours too, not a private one."""

        async def provider() -> dict[str, str]:
            await asyncio.Event().wait()
            return {}

        config = ProductionConfig(timeout={"total": 0.05})
        async with client_of(server.url, provider, config=config) as client:
            with pytest.raises((RequestTimeoutError, TransportError)):
                await client.subscribe("subscription { count }")
        assert server.upgrades == []

    async def test_one_cancel(self, server: ScriptedServer, backend: Backend) -> None:
        """One flight serves all who wait; a cancel of one, the starter even, fails none of the others."""
        go, asked = asyncio.Event(), 0

        async def provider() -> dict[str, str]:
            nonlocal asked
            asked += 1
            await go.wait()
            return {}

        async with client_of(server.url, provider, backend) as client:
            calls = [asyncio.create_task(client.query("{ hello }")) for _ in range(5)]
            while not asked:
                await asyncio.sleep(0)
            calls[0].cancel()
            with pytest.raises(asyncio.CancelledError):
                await calls[0]
            go.set()
            assert [answer.data for answer in await asyncio.gather(*calls[1:])] == [HELLO] * 4
        assert asked == 1

    async def test_all_cancelled(self, server: ScriptedServer) -> None:
        """When nobody waits any more the provider is cancelled, not left behind."""
        ended = asyncio.Event()

        async def provider() -> dict[str, str]:
            try:
                await asyncio.Event().wait()
            finally:
                ended.set()
            return {}

        async with client_of(server.url, provider) as client:
            calls = [asyncio.create_task(client.query("{ hello }")) for _ in range(2)]
            await asyncio.sleep(0.01)
            for call in calls:
                call.cancel()
            await asyncio.wait(calls)
            await asyncio.wait_for(ended.wait(), 5)


class TestRotation:
    CALLS = 500

    async def test_in_mid_load(self, unused_tcp_port: int, backend: Backend) -> None:
        """The server revokes the token with 500 calls in flight: all are answered, after one renewal."""
        arrived = 0

        async def graphql(request: web.Request) -> web.Response:
            nonlocal arrived
            arrived += 1
            valid = "Bearer 1" if arrived <= self.CALLS // 2 else "Bearer 2"
            if request.headers["Authorization"] != valid:
                return web.Response(status=401, text="no")
            return web.json_response({"data": HELLO})

        app = web.Application()
        app.router.add_post("/graphql", graphql)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", unused_tcp_port).start()
        issuer = Issuer()
        try:
            url = f"http://127.0.0.1:{unused_tcp_port}/graphql"
            async with client_of(url, issuer, backend) as client:
                answers = await asyncio.gather(*(client.query("{ hello }") for _ in range(self.CALLS)))
        finally:
            await runner.cleanup()
        assert [answer.data for answer in answers] == [HELLO] * self.CALLS
        assert issuer.renewals == 1
        assert self.CALLS < arrived <= self.CALLS * 3 // 2
