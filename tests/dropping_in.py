"""What the tests of the drop-in share: the variants of a client."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import aiohttp
import httpx
from aiographql.client import (
    GraphQLClient,
)

from graphql_prod import (
    ProductionClient,
)
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from graphql_prod.testing import ScriptedServer


GREET = "query Greet($name: String) { hello(name: $name) }"
BOTH = "query Greet { hello } query Count { counter }"
ADD = "mutation Add($by: Int) { increment(by: $by) }"
STOCK_HEADERS = {
    "Content-Type": "application/json",
    "Accept": "application/graphql-response+json, application/json",
    "Accept-Encoding": "gzip",
}


@dataclass(frozen=True)
class Variant:
    """A client class, over a library, with a session of its own or one of the caller's."""

    kind: type[GraphQLClient]
    library: str
    given: bool

    def __str__(self) -> str:
        return f"{self.kind.__name__}-{self.library}{'-given' if self.given else ''}"

    @property
    def ours(self) -> bool:
        return issubclass(self.kind, ProductionClient)

    @contextlib.asynccontextmanager
    async def client(self, server: ScriptedServer, **arguments: Any) -> AsyncIterator[GraphQLClient]:
        """A client, with the waits between attempts taken out; it leaves nothing open."""
        async with contextlib.AsyncExitStack() as stack:
            if self.given:
                arguments["session"] = await stack.enter_async_context(a_session(self.library))
            elif self.ours:
                arguments["backend"] = self.library
            stack.enter_context(no_waiting())
            arguments = {"endpoint": server.url, "validate": False, **arguments}
            yield await stack.enter_async_context(self.kind(**arguments))


def a_session(library: str, **headers: str) -> Any:
    """A session such as a user would bring."""
    if library == "aiohttp":
        return aiohttp.ClientSession(headers=headers)
    return httpx.AsyncClient(headers=headers, verify=False, trust_env=False)


VARIANTS = [
    Variant(GraphQLClient, "aiohttp", given=False),
    Variant(GraphQLClient, "aiohttp", given=True),
    Variant(GraphQLClient, "httpx", given=True),
    Variant(ProductionClient, "aiohttp", given=False),
    Variant(ProductionClient, "aiohttp", given=True),
    Variant(ProductionClient, "httpx", given=False),
    Variant(ProductionClient, "httpx", given=True),
]


@dataclass
class Wrong:
    nothing: str
