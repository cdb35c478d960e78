"""Validation: a server that refuses introspection, a field that is removed upstream, a schema from a file."""

from __future__ import annotations

import asyncio
import logging
import sys
import tempfile
from pathlib import Path

from aiographql.client import GraphQLClientValidationException

from graphql_prod import PRODUCTION, ProductionClient, ProductionConfig, SchemaPolicy
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.schema import SDL

QUERY = "{ hello counter }"


def what(error: GraphQLClientValidationException) -> str:
    """The first thing that it found; its text goes on with the place in the document."""
    return str(error).splitlines()[2]


async def refused(server: ScriptedServer) -> None:
    """The default with a configuration is `auto`: one warning, and calls go on unvalidated."""
    server.on("IntrospectionQuery", Answer.graphql(400, errors=[{"message": "introspection is disabled"}]))
    async with ProductionClient.from_config({"endpoint": server.url}) as client:
        answers = [await client.query(QUERY) for _ in range(3)]
        print(f"introspection refused: answered {sum(not answer.errors for answer in answers)} of 3")


async def removed(server: ScriptedServer) -> None:
    """Known documents are good until the schema is asked for again: after its `ttl`, or now."""
    async with ProductionClient(server.url, config=ProductionConfig(schema=PRODUCTION)) as client:
        await client.query(QUERY)
        before, server.sdl = server.sdl, server.sdl.replace("counter: Int!", "")
        answer = await client.query(QUERY)
        print(f"field removed, the server says: {answer.errors[0].message}")
        await client.get_schema(refresh=True)
        try:
            await client.query(QUERY)
        except GraphQLClientValidationException as error:
            print(f"field removed, nothing is sent: {what(error)}")
        server.sdl = before


def written(folder: str) -> Path:
    """What `python -m graphql_prod schema -o schema.graphql` writes."""
    file = Path(folder, "schema.graphql")
    file.write_text(SDL, encoding="utf-8")
    return file


async def from_file(server: ScriptedServer, folder: str) -> None:
    """With a file the server is not asked for its schema at all."""
    arrived = len(server.requests)
    policy = SchemaPolicy(mode="strict", file=written(folder))
    async with ProductionClient(server.url, config=ProductionConfig(schema=policy)) as client:
        try:
            await client.query("{ helo }")
        except GraphQLClientValidationException as error:
            print(f"from a file: {what(error)}")
        print(f"requests sent: {len(server.requests) - arrived}")


async def main() -> None:
    logging.basicConfig(stream=sys.stdout, format="%(levelname)s %(name)s: %(message)s")
    with tempfile.TemporaryDirectory() as folder:
        async with ScriptedServer() as server:
            await refused(server)
            await removed(server)
            await from_file(server, folder)


if __name__ == "__main__":
    asyncio.run(main())
