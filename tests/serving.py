"""What the tests of the scripted server share."""

import aiohttp

from graphql_prod.testing import ScriptedServer

MODERN = "graphql-transport-ws"
INCREMENT = "mutation Add { increment }"


async def send(http: aiohttp.ClientSession, server: ScriptedServer, query: str) -> bytes:
    async with http.post(server.url, json={"query": query}) as answer:
        return await answer.read()
