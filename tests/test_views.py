"""with_options(): another way to call the same client, sharing all but what is named."""

from __future__ import annotations

import asyncio
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import graphql
import httpx
import pytest
import tenacity
from aiographql.client import (
    GraphQLClientValidationException,
    GraphQLRequest,
    GraphQLRequestException,
    GraphQLResponse,
    GraphQLTransport,
)

from graphql_prod import (
    ClientClosedError,
    ConfigurationError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

URL = "http://api.example.com/graphql"
GREET = "query Greet { hello }"
ADD = "mutation Add { increment }"


@pytest.fixture
async def client(server: ScriptedServer, backend: Any) -> AsyncIterator[ProductionClient]:
    """A client whose waits between attempts are taken out."""
    with no_waiting():
        async with ProductionClient(
            server.url, {"Authorization": "client"}, validate=False, backend=backend
        ) as client:
            yield client


def sent(server: ScriptedServer, name: str) -> list[list[str]]:
    """The values of a header, request by request; more than one in a list would be two on the wire."""
    return [seen.headers.getall(name, []) for seen in server.requests]  # type: ignore[attr-defined]


class TestShared:
    def test_class(self) -> None:
        """A view is of the client's class, and so is a view of a view."""

        class Mine(ProductionClient):
            pass

        for kind in (ProductionClient, Mine):
            client = kind(URL)
            assert type(client.with_options()) is kind
            assert type(client.with_options(timeout=1).with_options(idempotent=True)) is kind

    def test_same_things(self) -> None:
        """Transport, counts and state are the client's own."""
        client = ProductionClient(URL)
        view = client.with_options(
            timeout=1, retry=RetryPolicy(attempts=1), headers={"A": "b"}, validate=False
        )
        assert view is not client
        assert view.transport is client.transport
        assert view.stats() == client.stats()
        assert view.state == client.state
        assert view.endpoint == client.endpoint

    async def test_no_input_or_output(self) -> None:
        """Making a view opens nothing and starts nothing, and needs no event loop."""
        client = ProductionClient(URL)
        tasks = asyncio.all_tasks()
        await asyncio.to_thread(client.with_options, timeout=1)
        assert asyncio.all_tasks() == tasks
        assert client.stats().pool.limit == 0

    def test_cheap(self) -> None:
        """A view costs microseconds: one may be made for each call."""
        client = ProductionClient(URL, {"Authorization": "x"})
        policy = TimeoutPolicy(total=1)

        def seconds() -> float:
            started = time.perf_counter()
            for _ in range(1000):
                client.with_options(timeout=policy, headers={"X-Tenant": "1"}, idempotent=True)
            return time.perf_counter() - started

        assert min(seconds() for _ in range(3)) < 0.2

    async def test_connections(self, server: ScriptedServer, client: ProductionClient) -> None:
        """Client and views use the same kept-alive connection."""
        for caller in (client, client.with_options(timeout=9), client.with_options(idempotent=True)):
            await caller.query(GREET)
        assert server.connections == 1

    async def test_budget(self, server: ScriptedServer, backend: Any) -> None:
        """The retry budget is one for all, also under a view's own retry policy."""
        server.always(Answer.page(503))
        config = ProductionConfig(retry=RetryPolicy(budget=RetryBudget(ratio=0, reserve=3)))
        with no_waiting():
            async with ProductionClient(server.url, validate=False, backend=backend, config=config) as client:
                view = client.with_options(retry=RetryPolicy(attempts=10, budget=None))
                for caller in (client, view):
                    with pytest.raises(GraphQLRequestException):
                        await caller.query(GREET)
                assert client.stats().retries == view.stats().retries == 3
                assert client.stats().budget_rejections == 1
        assert len(server.requests) == 5

    async def test_schema(self, server: ScriptedServer, backend: Any) -> None:
        """A schema that one of them asked for is known to all; a refresh is, too."""
        async with ProductionClient(server.url, backend=backend) as client:
            view = client.with_options(timeout=9)
            await view.with_options(idempotent=True).query(GREET)
            await client.query(GREET)
            assert await view.get_schema() is await client.get_schema()
            assert view.stats().schema_age == pytest.approx(client.stats().schema_age, abs=1)
            refreshed = await view.get_schema(refresh=True)
            assert await client.get_schema() is refreshed
        assert sum("__schema" in (seen.query or "") for seen in server.requests) == 2

    @pytest.mark.parametrize("closer", ["client", "view"])
    async def test_close(self, server: ScriptedServer, backend: Any, closer: str) -> None:
        """Closing either closes both."""
        client = ProductionClient(server.url, validate=False, backend=backend)
        view = client.with_options(timeout=9)
        await view.query(GREET)
        await (client if closer == "client" else view).close()
        assert client.state == view.state == "closed"
        for caller in (client, view, client.with_options(timeout=1)):
            with pytest.raises(ClientClosedError):
                await caller.query(GREET)

    async def test_callers_session(self, server: ScriptedServer) -> None:
        """A caller's session is used by views too, and left open."""
        async with aiohttp.ClientSession(headers={"Mark": "mine"}) as session:
            async with ProductionClient(server.url, session=session, validate=False) as client:
                await client.with_options(timeout=5).query(GREET)
            assert not session.closed
        assert sent(server, "Mark") == [["mine"]]

    async def test_in_flight(self, server: ScriptedServer, client: ProductionClient) -> None:
        """Calls of views are counted with the client's."""
        gate = asyncio.Event()
        server.always(Answer(gate=gate))
        calls = [asyncio.create_task(each.query(GREET)) for each in (client, client.with_options(timeout=9))]
        await server.received(2)
        assert client.stats().in_flight == 2
        gate.set()
        await asyncio.gather(*calls)
        assert client.stats().in_flight == 0

    async def test_custom_transport(self) -> None:
        """A custom transport and its serializer serve views too."""

        class Transport(GraphQLTransport):
            async def request(
                self, method: str, request: GraphQLRequest, serializer: Any, **kwargs: Any
            ) -> GraphQLResponse:
                return GraphQLResponse(request=request, json={"data": {"via": request.headers["X-V"]}})

            async def close(self) -> None:
                pass

        async with ProductionClient(URL, validate=False, transport=Transport()) as client:
            response = await client.with_options(headers={"X-V": "1"}).query(GREET)
        assert response.data == {"via": "1"}


class TestOptions:
    async def test_parent_unchanged(self, server: ScriptedServer, client: ProductionClient) -> None:
        """What a view does differently, the client goes on doing as before."""
        server.on("Greet", *[Answer.page(503)] * 3)
        client.with_options(
            timeout=0.001, retry=RetryPolicy(attempts=1), headers={"X-V": "1"}, idempotent=True, validate=True
        )
        assert (await client.query(GREET)).data == {"hello": "Hello, world!"}
        assert len(server.requests) == 4
        assert sent(server, "X-V") == [[]] * 4

    async def test_only_what_is_named(self, server: ScriptedServer, client: ProductionClient) -> None:
        """A view of a view keeps what it does not name."""
        view = client.with_options(retry=RetryPolicy(attempts=2), headers={"X-V": "1"}, idempotent=True)
        view = view.with_options(timeout=9).with_options().with_options(headers={"X-W": "2"})
        server.script(Answer.page(503), Answer.page(503))
        with pytest.raises(GraphQLRequestException):
            await view.query(ADD)
        assert len(server.requests) == 2
        assert (sent(server, "X-V"), sent(server, "X-W")) == ([["1"]] * 2, [["2"]] * 2)

    async def test_taken_back(self, server: ScriptedServer, client: ProductionClient) -> None:
        """False is a value, and not "as before"."""
        view = client.with_options(idempotent=True).with_options(idempotent=False)
        server.script(Answer.page(503))
        with pytest.raises(GraphQLRequestException):
            await view.query(ADD)
        assert len(server.requests) == 1

    @pytest.mark.parametrize("idempotent", [True, False, None])
    async def test_idempotent(
        self, server: ScriptedServer, client: ProductionClient, idempotent: bool | None
    ) -> None:
        """A mutation is repeated only if its view says that it may be."""
        server.script(Answer.page(503), Answer.disconnect())
        view = client.with_options(idempotent=idempotent)
        if idempotent:
            assert (await view.query(ADD)).data == {"increment": 1}
        else:
            with pytest.raises(GraphQLRequestException):
                await view.query(ADD)
        assert len(server.requests) == (3 if idempotent else 1)

    @pytest.mark.parametrize("attempts", [1, 2])
    async def test_retry(self, server: ScriptedServer, client: ProductionClient, attempts: int) -> None:
        """A view's retry policy replaces the client's."""
        server.always(Answer.page(503))
        with pytest.raises(GraphQLRequestException):
            await client.with_options(retry=RetryPolicy(attempts=attempts)).query(GREET)
        assert len(server.requests) == attempts

    async def test_tenacity(self, server: ScriptedServer, client: ProductionClient) -> None:
        """So does a tenacity object."""
        server.always(Answer.page(503))
        retrying = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3))
        with pytest.raises(GraphQLRequestException):
            await client.with_options(retry=retrying).query(GREET)
        assert len(server.requests) == 3

    async def test_first_call_of_all(self, server: ScriptedServer, backend: Any) -> None:
        """A view's options hold for the very first call too, which fetches the schema on its way."""
        server.on("Greet", *[Answer.page(503)] * 9)
        with no_waiting():
            async with ProductionClient(server.url, backend=backend) as client:
                with pytest.raises(GraphQLRequestException) as caught:
                    await client.with_options(retry=RetryPolicy(attempts=2)).query(GREET)
        error: Any = caught.value
        assert [seen.operation_name or seen.query for seen in server.requests].count(GREET) == 2
        assert error.attempts == 2

    async def test_first_mutation_of_all(self, server: ScriptedServer, backend: Any) -> None:
        """So does the mark of a mutation that is the first call."""
        server.on("Add", Answer.page(503))
        with no_waiting():
            async with ProductionClient(server.url, backend=backend) as client:
                assert (await client.with_options(idempotent=True).query(ADD)).data == {"increment": 1}

    @pytest.mark.parametrize("timeout", [0.05, TimeoutPolicy(total=0.05)])
    async def test_timeout(self, server: ScriptedServer, client: ProductionClient, timeout: Any) -> None:
        """A number is the total in seconds; a policy replaces all limits."""
        server.always(Answer.hang())
        with pytest.raises(RequestTimeoutError) as caught:
            await client.with_options(timeout=timeout).query(GREET)
        assert caught.value.phase in ("total", "read")

    async def test_number_keeps_the_rest(self, server: ScriptedServer, backend: Any) -> None:
        """A number changes the total alone: a shorter limit that the client names still holds."""
        server.always(Answer.hang())
        config = ProductionConfig(timeout=TimeoutPolicy(total=5, attempt=0.05), retry=RetryPolicy(attempts=1))
        async with ProductionClient(server.url, validate=False, backend=backend, config=config) as client:
            with pytest.raises(RequestTimeoutError) as caught:
                await client.with_options(timeout=30).query(GREET)
        assert caught.value.phase == "attempt"

    @pytest.mark.parametrize(("name", "connect", "read"), [("interactive", 1, 2), ("BATCH", 10, 60)])
    async def test_preset(self, server: ScriptedServer, name: str, connect: float, read: float) -> None:
        """A preset is known by its name, in any case; its limits reach the session."""
        asked: list[httpx.Timeout] = []

        class Watched(httpx.AsyncClient):
            async def request(self, *args: Any, **options: Any) -> httpx.Response:
                asked.append(options["timeout"])
                return await super().request(*args, **options)

        session = Watched(verify=False, trust_env=False)
        async with session, ProductionClient(server.url, session=session, validate=False) as client:
            await client.with_options(timeout=name).query(GREET)  # type: ignore[arg-type]
        assert (asked[0].connect, asked[0].read) == (connect, read)

    @pytest.mark.parametrize(
        "options",
        [
            {"timeout": "sometimes"},
            {"timeout": 0},
            {"timeout": -1},
            {"timeout": float("nan")},
            {"timeout": float("inf")},
            {"timeout": {"total": 5}},
            {"retry": {"attempts": 1}},
            {"retry": 3},
            {"retry": "never"},
            {"headers": {"X-V": 1}},
            {"headers": "X-V: 1"},
        ],
        ids=str,
    )
    def test_wrong(self, options: dict[str, Any]) -> None:
        """A wrong option is refused here, and not when it is needed: in the middle of an outage."""
        with pytest.raises(ConfigurationError):
            ProductionClient(URL).with_options(**options)


class TestHeaders:
    async def test_ranks(self, server: ScriptedServer, backend: Any) -> None:
        """The call's over the request's over the view's over the client's."""
        ranks = ["client", "view", "request", "method"]
        headers = [{f"X-{n}": rank for n in range(4) if n >= level} for level, rank in enumerate(ranks)]
        async with ProductionClient(server.url, headers[0], validate=False, backend=backend) as client:
            view = client.with_options(headers=headers[1])
            await view.query(GraphQLRequest(GREET, headers=headers[2]), headers=headers[3])
        seen = server.requests[0].headers
        assert [seen[f"X-{n}"] for n in range(4)] == ranks

    async def test_text(self, server: ScriptedServer, client: ProductionClient) -> None:
        """Of a text, which has no headers of its own, the view's count under the call's."""
        view = client.with_options(headers={"X-1": "view", "X-2": "view"})
        await view.query(GREET, headers={"X-2": "method"})
        assert (sent(server, "X-1"), sent(server, "X-2")) == ([["view"]], [["method"]])

    async def test_view_of_view(self, server: ScriptedServer, client: ProductionClient) -> None:
        """Headers of a later view come over those of an earlier one, in whatever spelling."""
        view = client.with_options(headers={"X-1": "a", "X-2": "a"}).with_options(headers={"x-2": "b"})
        await view.query(GREET)
        assert (sent(server, "X-1"), sent(server, "X-2")) == ([["a"]], [["b"]])

    @pytest.mark.parametrize("name", ["authorization", "AUTHORIZATION", "Authorization"])
    @pytest.mark.parametrize("where", ["view", "request", "method", "view of a text", "method of a text"])
    async def test_one_on_the_wire(
        self, server: ScriptedServer, client: ProductionClient, where: str, name: str
    ) -> None:
        """A header of the client's replaced under another spelling is sent once."""
        level, _, text = where.partition(" of a ")
        given = {level: {name: "new"}}
        request = GREET if text else GraphQLRequest(GREET, headers=given.get("request", {}))
        await client.with_options(headers=given.get("view")).query(request, headers=given.get("method"))
        assert sent(server, "Authorization") == [["new"]]

    @pytest.mark.parametrize(
        ("view", "request_", "method", "result"),
        [
            ({"X-T": "view"}, {"x-t": "request"}, None, "request"),
            ({"X-T": "view"}, None, {"x-t": "method"}, "method"),
            ({"X-T": "view"}, {"X-T": "request"}, {"x-t": "method"}, "method"),
            (None, {"X-T": "request"}, {"x-t": "method"}, "method"),
            ({"x-t": "view"}, {"X-T": "request"}, {"X-t": "method"}, "method"),
        ],
    )
    async def test_unknown_to_the_client(
        self,
        server: ScriptedServer,
        client: ProductionClient,
        view: Any,
        request_: Any,
        method: Any,
        result: str,
    ) -> None:
        """So is one that the client itself does not have, on whichever levels it is named."""
        caller = client.with_options(headers=view)
        await caller.query(GraphQLRequest(GREET, headers=request_ or {}), headers=method)
        assert sent(server, "X-T") == [[result]]

    @pytest.mark.parametrize("where", ["view", "request", "method"])
    async def test_two_spellings_on_one_level(
        self, server: ScriptedServer, client: ProductionClient, where: str
    ) -> None:
        """Two spellings in one mapping are one header, and the last one counts."""
        given = {where: {"x-t": "old", "X-T": "new"}}
        request = GraphQLRequest(GREET, headers=given.get("request", {}))
        await client.with_options(headers=given.get("view")).query(request, headers=given.get("method"))
        assert sent(server, "X-T") == [["new"]]

    async def test_stock_headers(self, server: ScriptedServer, client: ProductionClient) -> None:
        """The stock's own headers are replaced under another spelling, too."""
        view = client.with_options(headers={"accept": "application/json", "content-type": "application/json"})
        await view.query(GREET)
        assert sent(server, "Accept") == [["application/json"]]
        assert sent(server, "Content-Type") == [["application/json"]]

    async def test_request_unchanged(self, server: ScriptedServer, client: ProductionClient) -> None:
        """The caller's request and mappings stay as they were, whatever is laid over them."""
        request = GraphQLRequest("query A { hello } query B { counter }", "B", headers={"authorization": "r"})
        options = {"X-V": "1"}
        view = client.with_options(headers=options)
        options["X-V"] = "changed later"
        response = await view.query(request, headers={"AUTHORIZATION": "m"})
        assert response.data == {"counter": 0}
        assert request.headers == {"authorization": "r"}
        assert sent(server, "X-V") == [["1"]]

    async def test_retries_send_them_again(self, server: ScriptedServer, client: ProductionClient) -> None:
        """Every attempt carries them."""
        server.script(Answer.page(503), Answer.disconnect())
        await client.with_options(headers={"X-V": "1"}).query(GREET)
        assert sent(server, "X-V") == [["1"]] * 3

    async def test_subscription(self, server: ScriptedServer, client: ProductionClient) -> None:
        """A subscription made through a view carries them, in the upgrade and in connection_init."""
        view = client.with_options(headers={"X-V": "1", "authorization": "view"})
        await view.subscribe("subscription { count(to: 0) }", wait=True)
        upgrade: Any = server.upgrades[0].headers
        assert (upgrade.getall("X-V"), upgrade.getall("Authorization")) == (["1"], ["view"])
        init = server.messages[0].message["payload"]["headers"]
        assert [value for name, value in init.items() if name.lower() == "authorization"] == ["view"]

    async def test_introspection(self, server: ScriptedServer, backend: Any) -> None:
        """The introspection that a view's call needs is sent with the call's headers."""
        async with ProductionClient(server.url, backend=backend) as client:
            await client.with_options(headers={"X-V": "1"}).query(GREET)
        assert sent(server, "X-V") == [["1"]] * 2


class TestValidate:
    async def test_off(self, server: ScriptedServer, backend: Any) -> None:
        """validate=False sends what the client would refuse, and asks for no schema."""
        async with ProductionClient(server.url, backend=backend) as client:
            response = await client.with_options(validate=False).query("{ nothing }")
        assert response.errors
        assert len(server.requests) == 1

    async def test_on(self, server: ScriptedServer, backend: Any) -> None:
        """validate=True refuses what the client would send."""
        schema = graphql.build_schema(SDL)
        async with ProductionClient(server.url, validate=False, schema=schema, backend=backend) as client:
            view = client.with_options(validate=True)
            with pytest.raises(GraphQLClientValidationException):
                await view.query("{ nothing }")
            with pytest.raises(GraphQLClientValidationException):
                await view.query_data_as("{ nothing }", dict)
            assert server.requests == []
            assert (await view.query(GREET)).data == {"hello": "Hello, world!"}
            assert (await client.query("{ nothing }")).errors

    async def test_on_introspects(self, server: ScriptedServer, backend: Any) -> None:
        """Without a schema it asks for one, once."""
        async with ProductionClient(server.url, validate=False, backend=backend) as client:
            view = client.with_options(validate=True)
            await view.query(GREET)
            await view.query(GREET)
        assert len(server.requests) == 3

    async def test_request_decides(self, server: ScriptedServer, backend: Any) -> None:
        """A request that says validate=False is not validated by any view; force validates all the same."""
        schema = graphql.build_schema(SDL)
        request = GraphQLRequest("{ nothing }", validate=False)
        async with ProductionClient(server.url, schema=schema, backend=backend) as client:
            view = client.with_options(validate=True)
            assert (await view.query(request)).errors
            await view.validate(request)
            with pytest.raises(GraphQLClientValidationException):
                await view.validate(request, force=True)
            with pytest.raises(GraphQLClientValidationException):
                await client.with_options(validate=False).validate(request, force=True)


class TestConfig:
    async def test_effective_settings(self, server: ScriptedServer) -> None:
        """A view's configuration is what its calls go by; the client's stays as it is."""
        config = ProductionConfig(headers={"X-A": "a", "X-B": "b"}, retry=RetryPolicy(attempts=3))
        async with ProductionClient(server.url, config=config) as client:
            view = client.with_options(timeout=0.3, headers={"x-b": "view"}).with_options(
                retry=RetryPolicy(attempts=2)
            )
            assert view.config.timeout.total == 0.3
            assert view.config.retry == RetryPolicy(attempts=2)
            assert {name: value.get_secret_value() for name, value in view.config.headers.items()} == {
                "X-A": "a",
                "X-B": "view",
            }
            assert view.config.pool == client.config.pool
            assert client.config.timeout.total == 30
            assert client.config.retry == RetryPolicy(attempts=3)
            assert client.with_options(idempotent=True).config is client.config


class Reduced(ProductionClient):
    """A program's own client, which is pickled without what cannot travel."""

    __slots__ = ("tenant",)

    def __init__(self, *args: Any, tenant: str = "t1", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.tenant = tenant

    def __getstate__(self) -> dict[str, Any]:
        return {"endpoint": self.endpoint}


async def test_views_of_a_subclass_have_all_of_it(server: ScriptedServer) -> None:
    """Slots too, and what its ``__getstate__`` leaves out: a view is no copy that travels."""
    async with Reduced(server.url, validate=False, tenant="t2") as client:
        view = client.with_options(timeout=3.0).with_options(idempotent=True)
        assert type(view) is Reduced
        assert view.tenant == "t2"
        assert (await view.query(GREET)).data == {"hello": "Hello, world!"}
        assert await client.ready()
        view.tenant = "t3"
        assert client.tenant == "t2"
