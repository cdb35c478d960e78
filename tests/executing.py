"""A GraphQL server that really executes, counts what ran, and says afterwards what a test wants it to say."""

from __future__ import annotations

import contextlib
import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Literal

import aiohttp
import graphql
import httpx
from aiohttp import web

from graphql_prod import ProductionClient, ProductionConfig, RetryPolicy

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from aiographql.client.transport import GraphQLSession

    Info = graphql.GraphQLResolveInfo[Any]

Kind = Literal["owned aiohttp", "owned httpx", "given aiohttp", "given httpx"]
KINDS: tuple[Kind, ...] = ("owned aiohttp", "owned httpx", "given aiohttp", "given httpx")

JSON, RESPONSE = "application/json", "application/graphql-response+json"

SCHEMA = graphql.build_schema("""
    type Receipt { id: ID! }
    type Query { me: String!  greeting: String }
    type Mutation { charge(amount: Int!): Receipt!  notify: Int!  both: Int!  log: Int }
""")
AT_ONCE = RetryPolicy(wait_initial=0, wait_max=0, budget=None)


class Executing:
    """Takes ``Bearer new`` and refuses ``Bearer old``, in the resolvers that ask for credentials.

    :ivar ran: how often each resolver did its work.
    :ivar says: what is answered to a call with the old token, in place of the result: status, media type,
        body. None: the result.
    :ivar executes: False answers a call with the old token without executing it.
    """

    def __init__(self) -> None:
        self.ran: Counter[str] = Counter()
        self.tokens: list[str] = []
        self.queries: list[Any] = []
        self.says: tuple[int, str, str] | None = None
        self.executes = True
        self.url = ""
        self._sites: list[web.TCPSite] = []

    # The resolvers.

    def me(self, info: Info) -> str:
        self.ran["me"] += 1
        return self._who(info)

    def greeting(self, _: Info) -> str:
        self.ran["greeting"] += 1
        return "hello"

    def charge(self, _: Info, amount: int) -> dict[str, str]:
        self.ran["charge"] += 1
        return {"id": str(amount)}

    def notify(self, info: Info) -> int:
        self._who(info)
        self.ran["notify"] += 1
        return 1

    def both(self, info: Info) -> int:
        """Does its work; then a service behind it refuses the token."""
        self.ran["both"] += 1
        return self.notify(info)

    def log(self, info: Info) -> int:
        self.ran["log"] += 1
        return self.notify(info)

    def _who(self, info: Info) -> str:
        if info.context != "Bearer new":
            raise graphql.GraphQLError("token expired", extensions={"code": "UNAUTHENTICATED"})
        return "Ada"

    async def stop(self) -> None:
        """Let nobody connect from here on."""
        for site in self._sites:
            await site.stop()
        self._sites.clear()

    async def _answer(self, request: web.Request) -> web.Response:
        token = request.headers.get("Authorization", "")
        self.tokens.append(token)
        payload = dict(request.query) if request.method == "GET" else await request.json()
        self.queries.append(payload)
        stale = token == "Bearer old"
        body = "{}"
        if self.executes or not stale:
            result = await graphql.graphql(
                SCHEMA,
                payload.get("query") or "mutation { charge(amount: 5) { id } }",
                root_value=self,
                context_value=token,
                operation_name=payload.get("operationName"),
            )
            body = json.dumps(result.formatted)
        status, media, text = self.says if stale and self.says else (200, RESPONSE, body)
        return web.Response(
            status=status, body=text.encode(), headers={"Content-Type": media, "Connection": "close"}
        )

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[Executing]:
        app = web.Application()
        app.router.add_route("*", "/graphql", self._answer)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        site = web.TCPSite(runner, "127.0.0.1", 0)
        await site.start()
        self._sites.append(site)
        host, port = runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/graphql"
        try:
            yield self
        finally:
            await runner.cleanup()


class Tokens:
    """A provider: ``Bearer old`` until it is asked to renew.

    :ivar before_renewal: awaited before a renewal is answered.
    """

    def __init__(self, before_renewal: Callable[[], Any] | None = None) -> None:
        self.asked: list[bool] = []
        self._before_renewal = before_renewal

    async def __call__(self, refresh: bool = False) -> dict[str, str]:
        self.asked.append(refresh)
        if refresh and self._before_renewal is not None:
            await self._before_renewal()
        return {"Authorization": "Bearer new" if refresh else "Bearer old"}


@contextlib.asynccontextmanager
async def client_of(
    kind: Kind,
    url: str,
    provider: Any = None,
    *,
    session: GraphQLSession | None = None,
    settings: dict[str, Any] | None = None,
    **objects: Any,
) -> AsyncIterator[ProductionClient]:
    """A client that repeats at once, over a session of that kind."""
    config = ProductionConfig(**{"retry": AT_ONCE, **(settings or {})})
    async with contextlib.AsyncExitStack() as stack:
        if kind.startswith("given") and session is None:
            session = (
                aiohttp.ClientSession() if kind.endswith("aiohttp") else httpx.AsyncClient(trust_env=False)
            )
            await stack.enter_async_context(session)
        backend: Any = None if session is not None or "transport" in objects else kind.split()[1]
        client = ProductionClient(
            url,
            **{
                "validate": False,
                "session": session,
                "config": config,
                "backend": backend,
                "headers_provider": provider,
                **objects,
            },
        )
        yield await stack.enter_async_context(client)
