"""Tokens that expire: a provider hands them out, and is asked for a new one when the server refuses the old.

The server here accepts one token at a time, and changes it while twenty calls are under way.
"""

from __future__ import annotations

import asyncio

from graphql_prod import ProductionClient
from graphql_prod.testing import Answer, ScriptedServer


class Tokens:
    """Where the tokens come from; with yours, this asks an identity provider."""

    def __init__(self) -> None:
        self.issued = 1

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        await asyncio.sleep(0.01)
        self.issued += refresh
        return {"Authorization": f"Bearer token-{self.issued}"}


async def main() -> None:
    tokens = Tokens()
    async with (
        ScriptedServer() as server,
        ProductionClient(server.url, validate=False, headers_provider=tokens) as client,
    ):
        server.script(*[Answer.page(401)] * 20)  # the first token is revoked: twenty calls are refused
        answers = await asyncio.gather(*(client.query("{ hello }") for _ in range(20)))
        print(f"answered: {sum('hello' in answer.data for answer in answers)} of 20")
        print(f"new tokens asked for: {tokens.issued - 1}")


if __name__ == "__main__":
    asyncio.run(main())
