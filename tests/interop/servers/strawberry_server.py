"""Strawberry under uvicorn: both protocols on one path."""

from __future__ import annotations

from collections.abc import AsyncGenerator  # noqa: TC003 -- strawberry reads annotations at run time
from typing import Annotated, Any

import strawberry
from control import GATES, serve
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError


@strawberry.type
class Query:
    @strawberry.field
    def hello(self, name: str = "world") -> str:
        return f"Hello, {name}!"

    @strawberry.field
    async def slow(self, key: str) -> str:
        return await GATES.slow(key)

    @strawberry.field
    def broken(self) -> str | None:
        raise RuntimeError("broken on purpose")


@strawberry.type
class Mutation:
    @strawberry.mutation
    def increment(self, key: str) -> int:
        return GATES.increment(key)

    @strawberry.mutation
    async def slow_increment(self, key: str) -> int:
        return await GATES.slow_increment(key)


@strawberry.type
class Subscription:
    @strawberry.subscription
    async def count(
        self, start: Annotated[int, strawberry.argument(name="from")] = 0, to: int | None = None
    ) -> AsyncGenerator[int, None]:
        async for number in GATES.count(start, to):
            yield number


class Application(GraphQL[Any, Any]):
    async def on_ws_connect(self, context: Any) -> Any:
        if (context.get("connection_params") or {}).get("refuse"):
            raise ConnectionRejectionError({"message": "refused on purpose"})
        return await super().on_ws_connect(context)


serve({"/graphql": Application(strawberry.Schema(Query, Mutation, Subscription))})
