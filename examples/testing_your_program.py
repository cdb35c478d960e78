"""How a program of yours can be tested against trouble: a scripted server, a faulty proxy, no waiting."""

from __future__ import annotations

import asyncio

from graphql_prod import ProductionClient, RequestTimeoutError
from graphql_prod.testing import Answer, FaultyProxy, ScriptedServer, no_waiting


async def greeting(client: ProductionClient) -> str:
    """The program under test."""
    return str((await client.query("{ hello }")).data["hello"])


async def comes_through_an_overload() -> None:
    """Three 503s with a long Retry-After: four attempts reach the server, and the test waits for nothing."""
    async with ScriptedServer() as server, ProductionClient(server.url, validate=False) as client:
        server.script(*[Answer.page(503, headers={"Retry-After": "5"})] * 3)
        with no_waiting():
            assert await greeting(client) == "Hello, world!"
        assert len(await server.received(4)) == 4


async def gives_up_in_time() -> None:
    """A network that swallows everything: the deadline holds."""
    async with (
        ScriptedServer() as server,
        FaultyProxy(server.port) as proxy,
        ProductionClient(proxy.url_for("/graphql"), validate=False) as client,
    ):
        proxy.blackhole = True
        try:
            await greeting(client.with_options(timeout=0.2))
        except RequestTimeoutError as error:
            assert error.phase == "total"
        assert server.requests == []


async def main() -> None:
    for test in (comes_through_an_overload, gives_up_in_time):
        await test()
        print(f"{test.__name__}: ok")


if __name__ == "__main__":
    asyncio.run(main())
