"""The same program on the stock client and on ours: only the class differs.

The server here is an embedded one, so that this runs offline; it fails the first attempt of each client.
"""

from __future__ import annotations

import asyncio

from aiographql.client import GraphQLClient, GraphQLClientException

from graphql_prod import ProductionClient
from graphql_prod.testing import Answer, ScriptedServer


async def program(kind: type[GraphQLClient], url: str) -> str:
    """What a user has today."""
    async with kind(url, validate=False) as client:
        try:
            response = await client.query(
                "query Hi($who: String) { hello(name: $who) }", variables={"who": "Ada"}
            )
        except GraphQLClientException as error:
            return f"failed: {error}"
        return str(response.data["hello"])


async def main() -> None:
    async with ScriptedServer() as server:
        for kind in (GraphQLClient, ProductionClient):
            server.script(Answer.page(502))
            print(f"{kind.__name__:16} {await program(kind, server.url)}")


if __name__ == "__main__":
    asyncio.run(main())
