"""Tokens that expire: a provider hands them out, and is asked for a new one when the server refuses the old.

The server here accepts one token at a time, and changes it while twenty calls are under way. Then two users
call, each with a provider of their own, and at last a token is read from a file that is exchanged meanwhile.
"""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

from graphql_prod import ProductionClient, headers_from_files
from graphql_prod.testing import Answer, ScriptedServer


class Tokens:
    """Where the tokens come from; with yours, this asks an identity provider."""

    def __init__(self) -> None:
        self.issued = 1

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        await asyncio.sleep(0.01)
        self.issued += refresh
        return {"Authorization": f"Bearer token-{self.issued}"}


def write(folder: str, token: str) -> None:
    """What Kubernetes does when a secret has changed."""
    Path(folder, "token").write_text(token)


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

        for user in ("alice", "bob"):
            view = client.with_options(headers_provider=lambda user=user: {"Authorization": user})
            await view.query("{ hello }")
            print(f"sent for {user}: {server.requests[-1].headers['Authorization']}")

        with tempfile.TemporaryDirectory() as folder:
            write(folder, "first\n")
            provider = headers_from_files({"Authorization": f"{folder}/token"}, format="Bearer {}")
            mounted = client.with_options(headers_provider=provider)
            await mounted.query("{ hello }")
            write(folder, "second\n")
            server.script(Answer.page(401))  # the first one is refused: the file is read at once
            await mounted.query("{ hello }")
            print(f"from the file: {server.requests[-1].headers['Authorization']}")


if __name__ == "__main__":
    asyncio.run(main())
