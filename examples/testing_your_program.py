"""How a program of yours can be tested against trouble: your own schema, a script, a faulty proxy."""

from __future__ import annotations

import asyncio

from graphql_prod import ProductionClient, RequestTimeoutError, TransportError
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer, no_waiting

SDL = """
type Order { id: ID! total: Float! }
type Query { order(id: ID!): Order }
type Mutation { pay(id: ID!): Boolean! }
"""
RESOLVERS = {
    "Query": {"order": lambda _source, _info, **asked: {**asked, "total": 12.5}},
    "Mutation": {"pay": True},
}


async def total(client: ProductionClient, number: str) -> float:
    """The program under test."""
    response = await client.query(
        "query Order($id: ID!) { order(id: $id) { total } }", variables={"id": number}
    )
    return float(response.data["order"]["total"])


async def pay(client: ProductionClient, number: str) -> None:
    """It changes something, too."""
    await client.query("mutation Pay($id: ID!) { pay(id: $id) }", variables={"id": number})


async def comes_through_an_overload() -> None:
    """Three 503s with a long Retry-After: four attempts reach the server, and the test waits for nothing."""
    async with (
        ScriptedServer(schema=SDL, resolvers=RESOLVERS) as server,
        ProductionClient(server.url, validate=False) as client,
    ):
        server.script("Order", *[Answer.page(503, headers={"Retry-After": "5"})] * 3)
        with no_waiting():
            assert await total(client, "7") == 12.5
        assert len(await server.received(4)) == 4


async def pays_once() -> None:
    """The mutation runs, and its answer is cut off: nobody sends it again."""
    async with (
        ScriptedServer(schema=SDL, resolvers=RESOLVERS) as server,
        ProductionClient(server.url, validate=False) as client,
    ):
        server.script("Pay", Answer.reset("body", execute=True))
        try:
            await pay(client, "7")
        except TransportError as error:
            assert error.may_have_executed
        assert server.executed("Pay") == 1


async def gives_up_in_time() -> None:
    """A network that swallows everything: the deadline holds."""
    async with (
        ScriptedServer(schema=SDL, resolvers=RESOLVERS) as server,
        FaultyProxy(server.port) as proxy,
        ProductionClient(proxy.url_for("/graphql"), validate=False) as client,
    ):
        proxy.blackhole = True
        try:
            await total(client.with_options(timeout=0.2), "7")
        except RequestTimeoutError as error:
            assert error.phase == "total"
        assert server.requests == []


async def main() -> None:
    for test in (comes_through_an_overload, pays_once, gives_up_in_time):
        await test()
        print(f"{test.__name__}: ok")


if __name__ == "__main__":
    asyncio.run(main())
