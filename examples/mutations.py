"""A mutation whose answer is lost: not sent twice, unless you say that twice is the same as once."""

from __future__ import annotations

import asyncio

from graphql_prod import ProductionClient, ProductionConfig, RetryPolicy, TransportError
from graphql_prod.testing import Answer, ScriptedServer

MUTATION = "mutation { increment }"
LOST = Answer.reset("before", execute=True)  # executed on the server, and then the connection breaks
RETRY = RetryPolicy(wait_initial=0.01, wait_max=0.05)
# One fresh key a mutation, the same on each attempt: the server can tell.
KEYED = RetryPolicy(wait_initial=0.01, wait_max=0.05, idempotency_header="Idempotency-Key")


async def main() -> None:
    config = ProductionConfig(retry=RETRY)
    async with (
        ScriptedServer() as server,
        ProductionClient(server.url, validate=False, config=config) as client,
    ):
        server.script(LOST)
        try:
            await client.query(MUTATION)
        except TransportError as error:
            print(f"attempts={error.attempts} may_have_executed={error.may_have_executed}")
        print(f"executed on the server: {server.executions['increment']}")

        server.script(LOST)
        await client.with_options(retry=KEYED).query(MUTATION)
        keys = [request.headers["Idempotency-Key"] for request in server.requests[-2:]]
        print(f"sent twice with one key: {keys[0] == keys[1]}")


if __name__ == "__main__":
    asyncio.run(main())
