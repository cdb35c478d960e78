"""Strawberry under uvicorn: both protocols on one path."""

from __future__ import annotations

from collections.abc import AsyncGenerator  # noqa: TC003 -- strawberry reads annotations at run time
from typing import Annotated, Any

import strawberry
from control import GATES, TOKENS, authorization_in, serve
from strawberry.asgi import GraphQL
from strawberry.exceptions import ConnectionRejectionError
from strawberry.permission import BasePermission


class IsAuthenticated(BasePermission):
    message = "who are you"
    error_extensions = {"code": "UNAUTHENTICATED"}  # noqa: RUF012 -- as the base class has it

    def has_permission(self, source: Any, info: strawberry.Info, **_: Any) -> bool:
        if "connection_params" in info.context:
            return not TOKENS.refuses("resolver", authorization_in(info.context["connection_params"]))
        return not TOKENS.refuses("code", info.context["request"].headers.get("Authorization"))


@strawberry.type
class Query:
    @strawberry.field(permission_classes=[IsAuthenticated])  # type: ignore[untyped-decorator]
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
    @strawberry.subscription(permission_classes=[IsAuthenticated])  # type: ignore[untyped-decorator]
    async def count(
        self,
        info: strawberry.Info,
        start: Annotated[int, strawberry.argument(name="from")] = 0,
        to: int | None = None,
    ) -> AsyncGenerator[int, None]:
        authorization = authorization_in(info.context["connection_params"])
        async for number in GATES.count(start, to, authorization):
            yield number


class Application(GraphQL[Any, Any]):
    async def on_ws_connect(self, context: Any) -> Any:
        if not await TOKENS.welcome(context["request"], context["connection_params"]):
            raise ConnectionRejectionError({"message": "refused on purpose"})
        return await super().on_ws_connect(context)


serve({"/graphql": Application(strawberry.Schema(Query, Mutation, Subscription))})
