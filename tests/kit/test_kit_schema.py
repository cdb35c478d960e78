"""A server of the tests with an app's own schema: its resolvers run, and scripts are held against it."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLClientValidationException, GraphQLRequestException, GraphQLResponse
from graphql import GraphQLError, build_schema
from shop import KINDS, ORDER, PAY, RESOLVERS, SDL, SHIPPED, TICKS, options
from subscribing import client_of

from graphql_prod import ProductionClient
from graphql_prod.testing import Answer, RateLimitedServer, ScriptedServer
from graphql_prod.testing.limits import FixedWindow

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from aiographql.client import GraphQLSubscriptionEvent
    from subscribing import Backend, Protocol


def answer_of(event: GraphQLSubscriptionEvent) -> GraphQLResponse:
    """What an event brought."""
    assert isinstance(event.payload, GraphQLResponse)
    return event.payload


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    """Each test that asks for it runs with a schema of each library."""
    return request.param  # type: ignore[no-any-return]


@pytest.fixture
async def shop() -> AsyncIterator[ScriptedServer]:
    """A server of the shop. Its complaints are the test's affair: it is not left as a block is."""
    server = ScriptedServer(schema=SDL, resolvers=RESOLVERS)
    await server.start()
    yield server
    await server.stop()


# --- resolvers --------------------------------------------------------------------------------------


async def test_resolvers_run(kind: str, tmp_path: Path, backend: Backend) -> None:
    """Queries, mutations and subscriptions run, see the request, and are counted by field and operation."""
    async with (
        ScriptedServer(**options(kind, tmp_path)) as server,
        client_of(server.url, backend, objects={"headers": {"X-App": "till"}}) as client,
    ):
        answer = await client.query(ORDER, variables={"id": "5"})
        assert answer.data == {
            "order": {"id": "5", "total": 1.5, "status": "OPEN", "items": [{"name": "till"}]}
        }
        paid = await client.query(PAY, variables={"id": "5"})
        assert paid.data == {"pay": {"id": "5", "status": "PAID"}}
        events = [answer_of(e).data async for e in client.stream(TICKS, variables={"to": 3})]
        assert events == [{"ticks": number} for number in range(3)]
        assert [server.executed(name) for name in ("Order", "Pay", "Ticks", "Other")] == [1, 1, 1, 0]
        assert [server.executed(name) for name in ("order", "pay", "ticks")] == [1, 1, 1]
        assert server.executions == {"order": 1, "pay": 1, "ticks": 1}


async def test_a_client_validates_against_it(kind: str, tmp_path: Path) -> None:
    """The introspection is that of the app's own schema."""
    async with ScriptedServer(**options(kind, tmp_path)) as server, ProductionClient(server.url) as client:
        with pytest.raises(GraphQLClientValidationException, match="Cannot query field 'orders'"):
            await client.query("{ orders }")
        assert (await client.query(ORDER, variables={"id": "5"})).data["order"]["id"] == "5"


class Root:
    """Resolves top-level fields by its attributes."""

    version = "2.0"

    def order(self, _info: Any, id: str) -> dict[str, Any]:  # noqa: A002 -- the argument's name
        """One without items."""
        return {"id": id, "total": 2.5, "status": "PAID", "items": []}


@pytest.mark.parametrize(
    "root", [Root(), {"version": "2.0", "order": Root().order}], ids=["object", "mapping"]
)
async def test_a_root(root: Any) -> None:
    """An object, or a mapping, resolves top-level fields."""
    async with ScriptedServer(schema=SDL, root=root) as server, client_of(server.url) as client:
        answer = await client.query("{ version order(id: 7) { id total } }")
        assert answer.data == {"version": "2.0", "order": {"id": "7", "total": 2.5}}


async def test_the_given_schema_stays_as_it_is() -> None:
    """A program's own schema object does not change because a test gave resolvers for it."""
    schema = build_schema(SDL)
    resolvers = {"Query": {"version": "9"}}
    async with ScriptedServer(schema=schema, resolvers=resolvers) as server, client_of(server.url) as client:
        assert (await client.query("{ version }")).data == {"version": "9"}
    assert schema.query_type is not None
    assert schema.query_type.fields["version"].resolve is None


async def test_a_resolver_that_fails(shop: ScriptedServer, caplog: pytest.LogCaptureFixture) -> None:
    """Its error goes to the client, and its traceback to the log of the test."""
    async with client_of(shop.url) as client:
        answer = await client.query("{ fails version }")
        assert answer.data == {"fails": None, "version": "1.0"}
        assert answer.errors[0].message == "no luck"
        with pytest.raises(GraphQLRequestException, match="the resolver broke"):
            _ = [e async for e in client.stream("subscription { breaks }")]
    logged = [each for each in caplog.records if each.name == "graphql_prod.testing"]
    assert [each.exc_info is not None for each in logged] == [True, True]
    assert {each.levelno for each in logged} == {logging.WARNING}


@pytest.mark.parametrize(
    ("arguments", "error", "text"),
    [
        ({"schema": 5}, TypeError, "not int"),
        ({"schema": "type Query {"}, GraphQLError, "Syntax Error"),
        ({"schema": SDL, "resolvers": {"Qury": {}}}, ValueError, "did you mean 'Query'"),
        ({"schema": SDL, "resolvers": {"Query": {"oder": 1}}}, ValueError, "did you mean 'order'"),
        ({"schema": SDL, "resolvers": {"Query": {"zzz": 1}}}, ValueError, "it has fails, order"),
        ({"resolvers": {"Query": {}}}, ValueError, "belong to a schema="),
        ({"root": {}}, ValueError, "belong to a schema="),
    ],
)
def test_bad_arguments(arguments: dict[str, Any], error: type[Exception], text: str) -> None:
    """What cannot be served is refused at once, with what is probably meant."""
    with pytest.raises(error, match=text):
        ScriptedServer(**arguments)


def test_resolvers_of_a_schema_that_has_its_own(tmp_path: Path) -> None:
    """Strawberry's resolvers are in its classes."""
    with pytest.raises(ValueError, match="brings its own resolvers"):
        ScriptedServer(**options("Strawberry", tmp_path), resolvers={"Query": {}})


# --- scripts ----------------------------------------------------------------------------------------


async def test_the_most_special_script_goes_first(shop: ScriptedServer) -> None:
    """One for these variables, then one for this operation, then one for all."""

    def named(name: str) -> dict[str, Any]:
        return {"order": {"id": name, "total": 1, "status": "OPEN", "items": []}}

    async with client_of(shop.url) as client:

        async def ask(id: str) -> str:  # noqa: A002 -- the variable's name
            return (await client.query(ORDER, variables={"id": id})).data["order"]["id"]  # type: ignore[no-any-return]

        shop.script(named("for all"))
        shop.script("Order", named("for Order"))
        shop.script("Order", named("for 7"), variables={"id": "7"})
        shop.script("Order", named("for 9"), variables=lambda given: given["id"] == "9")
        asked = [await ask(each) for each in ("7", "7", "9", "8", "8")]
        assert asked == ["for 7", "for Order", "for 9", "for all", "8"]
        shop.assert_used_up()


async def test_a_function_answers(shop: ScriptedServer) -> None:
    """It is given the request, and returns an answer or data."""
    asked = []

    def answer(request: Any) -> Any:
        asked.append(request.variables)
        return {"order": None} if len(asked) > 1 else Answer.page(503)

    shop.script("Order", answer, answer)
    async with client_of(shop.url) as client:
        assert (await client.query(ORDER, variables={"id": "7"})).data == {"order": None}
    assert asked == [{"id": "7"}, {"id": "7"}]


async def test_a_standing_answer_of_an_operation(shop: ScriptedServer) -> None:
    """It answers all of its requests, and no other ones."""
    shop.always({"order": None}, "Order")
    async with client_of(shop.url) as client:
        for _ in range(2):
            assert (await client.query(ORDER, variables={"id": "7"})).data == {"order": None}
        assert (await client.query("{ version }")).data == {"version": "1.0"}
        shop.always(None, "Order")
        assert (await client.query(ORDER, variables={"id": "7"})).data["order"]["id"] == "7"
    assert len(shop.requests_for("Order")) == 3


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"order": {"id": "1", "total": 1, "status": "OPEN"}}, "order.items is missing"),
        ({"order": {"id": "1", "total": 1, "status": "GONE", "items": []}}, "GONE"),
        ({"order": {"id": "1", "total": "x", "status": "OPEN", "items": []}}, "order.total"),
        (
            {"order": {"id": "1", "total": 1, "status": "OPEN", "items": [{}]}},
            "order.items.0.name is missing",
        ),
        ({"order": None, "more": 1}, "more was not asked for"),
        ({}, "order is missing"),
    ],
)
async def test_a_script_that_breaks_the_schema(shop: ScriptedServer, data: dict[str, Any], text: str) -> None:
    """No server would answer so: the client hears of it, and leaving the block raises."""
    shop.script("Order", data)
    async with client_of(shop.url) as client:
        answer = await client.query(ORDER, variables={"id": "7"})
        assert text in str(answer.errors[0])
    with pytest.raises(AssertionError, match=r"(?s)broke the schema.*" + text.replace(".", r"\.")):
        shop.assert_used_up()
    with pytest.raises(AssertionError, match="broke the schema"):
        await shop.__aexit__(None, None, None)


PETS = """
interface Node { id: ID! }
type Cat implements Node { id: ID! name: String! }
type Dog implements Node { id: ID! barks: Boolean! }
union Pet = Cat | Dog
type Query { pet: Pet node: Node }
type Subscription { pet: Pet! }
"""
PET = """
query Pet($barks: Boolean = true) { pet { ...Named ... on Dog { id barks @include(if: $barks) } } }
fragment Named on Cat { id nick: name }
"""


@pytest.mark.parametrize(
    ("pet", "text"),
    [
        ({"id": "1", "nick": "Tom"}, None),
        ({"id": "2", "barks": True}, None),
        (None, None),
        ({"id": "1"}, "pet.barks is missing"),
        ({"id": "1", "name": "Tom"}, "pet"),
        ({"__typename": "Bird", "id": "1"}, "Bird"),
        ({"__typename": "Dog", "id": "1", "nick": "Tom"}, "pet.barks is missing"),
        (5, "pet"),
    ],
)
async def test_unions(pet: Any, text: str | None) -> None:
    """An object is of the type whose selection it fits; ``__typename`` says which where several do."""
    server = ScriptedServer(schema=PETS)
    server.script("Pet", {"pet": pet})
    await server.start()
    async with client_of(server.url) as client:
        answer = await client.query(PET)
    await server.stop()
    assert [text in problem for problem in server.problems if text] == [True] * (text is not None)
    assert (answer.data == {"pet": pet}) is (text is None)


async def test_an_interface_whose_type_needs_not_be_said() -> None:
    """What every type has is enough where nothing else is asked for."""
    async with ScriptedServer(schema=PETS) as server, client_of(server.url) as client:
        server.script("Node", {"node": {"id": "1"}})
        assert (await client.query("query Node { node { id } }")).data == {"node": {"id": "1"}}
        events = client.stream("subscription { pet { ... on Cat { nick: name } } }")
        reading = asyncio.create_task(anext(events))
        await server.send({"pet": {"id": "1", "name": "Tom"}})
        assert answer_of(await reading).data == {"pet": {"nick": "Tom"}}
        await events.aclose()


async def test_a_script_that_breaks_the_schema_on_purpose(shop: ScriptedServer) -> None:
    """A test of what a program does with such an answer says so."""
    shop.script("Order", Answer.graphql(data={"order": 5}, breaks_schema=True))
    async with client_of(shop.url) as client:
        assert (await client.query(ORDER, variables={"id": "7"})).data == {"order": 5}
    shop.assert_used_up()


async def test_what_was_not_used_is_named(shop: ScriptedServer) -> None:
    """With the operations that came in its place."""
    shop.script("Ordr", {"order": None}, variables={"id": "7"})
    async with client_of(shop.url) as client:
        await client.query(ORDER, variables={"id": "7"})
        _ = [e async for e in client.stream(TICKS, variables={"to": 1})]
    with pytest.raises(AssertionError) as caught:
        shop.assert_used_up()
    text = str(caught.value)
    assert "script(\"Ordr\") with the variables {'id': '7'}" in text
    assert "Order with {'id': '7'}" in text
    assert "connection 1: Ticks with {'to': 1}" in text


async def test_waiting_for_an_execution_in_vain(shop: ScriptedServer) -> None:
    """The error names what did run."""
    async with client_of(shop.url) as client:
        await client.query("query Version { version }")
    with pytest.raises(AssertionError, match=r"1 executions of Order; what ran: .*'Version': 1"):
        await shop.executed("Order", 1, timeout=0.01)


@pytest.mark.parametrize("answer", [5, "text", None, [{"order": None}]])
def test_what_is_no_answer(answer: Any) -> None:
    """Refused where it is scripted, not where it would be sent."""
    with pytest.raises((TypeError, ValueError)):
        ScriptedServer(schema=SDL).script("Order", answer)
    with pytest.raises(ValueError, match="no answers"):
        ScriptedServer(schema=SDL).script("Order")


# --- subscriptions by hand --------------------------------------------------------------------------


async def test_events_by_hand(shop: ScriptedServer, backend: Backend, protocol: Protocol) -> None:
    """Each subscription gets what it asked for of an event, also after a restart in mid-stream."""
    seen: list[Any] = []
    async with client_of(shop.url, backend) as client:

        async def read() -> None:
            async for event in client.stream(SHIPPED, protocols=protocol):
                seen.append((answer_of(event).data, answer_of(event).errors))  # noqa: PERF401 -- until it ends

        reading = asyncio.create_task(read())
        order = {"id": "1", "status": "PAID", "total": 9, "items": []}
        assert await shop.send({"shipped": order}) == 1
        await shop.close_subscriptions(1012)
        await shop.subscribed(2)
        assert await shop.send({"shipped": {**order, "id": "2"}}, "Shipped", errors=["late"]) == 1
        await shop.stop()
        await shop.start()
        await shop.subscribed(3)
        await shop.send({"shipped": {**order, "id": "3"}})
        await shop.complete_subscriptions("Shipped")
        await reading
    assert [data["shipped"] for data, _ in seen] == [{"id": each, "status": "PAID"} for each in "123"]
    assert [len(errors or ()) for _, errors in seen] == [0, 1, 0]
    assert shop.executed("Shipped") == 3


async def test_scripted_events(shop: ScriptedServer, backend: Backend) -> None:
    """Answers for a subscription's name are its first events; its resolver does not run then."""
    shop.script("Ticks", {"ticks": 7}, Answer.graphql(data={"ticks": 8}))
    shop.script("Ticks", Answer.graphql(errors=["no more"]))
    async with client_of(shop.url, backend) as client:
        events = client.stream(TICKS, variables={"to": 1})
        assert [answer_of(await anext(events)).data for _ in range(2)] == [{"ticks": 7}, {"ticks": 8}]
        with pytest.raises(GraphQLRequestException, match="no more"):
            await anext(events)
        assert shop.executions["ticks"] == 0
    shop.assert_used_up()


async def test_held_for_the_test(shop: ScriptedServer) -> None:
    """A subscription that has a resolver can be scripted by hand instead."""
    shop.hold("Ticks")
    async with client_of(shop.url) as client:
        events = client.stream(TICKS, variables={"to": 3})
        reading = asyncio.create_task(anext(events))
        await shop.send({"ticks": 42})
        assert answer_of(await reading).data == {"ticks": 42}
        await events.aclose()


async def test_an_event_that_breaks_the_schema(shop: ScriptedServer) -> None:
    """It is not sent, and the test that sends it hears why."""
    async with client_of(shop.url) as client:
        events = client.stream(SHIPPED)
        reading = asyncio.create_task(anext(events))
        with pytest.raises(AssertionError, match=r"(?s)breaks the schema of Shipped.*shipped.status"):
            await shop.send({"shipped": {"id": "1", "status": "GONE"}})
        await shop.send({"shipped": {"id": "1", "status": "PAID"}})
        await reading
        await events.aclose()
    with pytest.raises(AssertionError, match=r"an open subscription Shipped; open are:"):
        await shop.send({"shipped": None}, "Shipped", timeout=0.01)


async def test_a_scripted_event_that_breaks_the_schema(shop: ScriptedServer) -> None:
    """The subscription ends with an error that says so, and so does the test."""
    shop.script("Ticks", {"ticks": "many"})
    async with client_of(shop.url) as client:
        with pytest.raises(GraphQLRequestException, match="breaks the schema"):
            await anext(client.stream(TICKS, variables={"to": 1}))
    with pytest.raises(AssertionError, match="an event of Ticks"):
        shop.assert_used_up()


async def test_other_fields_of_a_schema_that_goes_on(shop: ScriptedServer) -> None:
    """Another schema from the next request on; the resolvers that it still has a place for stay."""
    async with client_of(shop.url) as client:
        shop.sdl = "type Query { version: String! more: Int }"
        assert (await client.query("{ version more }")).data == {"version": "1.0", "more": None}


async def test_a_server_that_throttles_has_it_too() -> None:
    """All of its arguments are those of a scripted server."""
    limit = FixedWindow(limit=1, window=60, style="github")
    async with (
        RateLimitedServer(limit, schema=SDL, resolvers=RESOLVERS) as server,
        client_of(server.url) as client,
    ):
        assert (await client.query("{ version }")).data == {"version": "1.0"}
