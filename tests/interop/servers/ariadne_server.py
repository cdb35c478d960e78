"""Ariadne under uvicorn: one path a protocol, as its handlers speak one each."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ariadne import MutationType, QueryType, SubscriptionType, make_executable_schema
from ariadne.asgi import GraphQL
from ariadne.asgi.handlers import GraphQLTransportWSHandler, GraphQLWSHandler
from ariadne.exceptions import WebSocketConnectionError
from control import GATES, TOKENS, authorization_in, serve

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from starlette.websockets import WebSocket

query, mutation, subscription = QueryType(), MutationType(), SubscriptionType()


@query.field("hello")
def hello(_: Any, info: Any, name: str) -> str:
    TOKENS.require("code", info.context["request"].headers.get("Authorization"))
    return f"Hello, {name}!"


@query.field("slow")
async def slow(_: Any, __: Any, key: str) -> str:
    return await GATES.slow(key)


@query.field("broken")
def broken(_: Any, __: Any) -> str:
    raise RuntimeError("broken on purpose")


@mutation.field("increment")
def increment(_: Any, __: Any, key: str) -> int:
    return GATES.increment(key)


@mutation.field("slowIncrement")
async def slow_increment(_: Any, __: Any, key: str) -> int:
    return await GATES.slow_increment(key)


@subscription.source("count")
def source(_: Any, info: Any, to: int | None = None, **arguments: int) -> AsyncGenerator[int, None]:
    authorization = info.context["request"].state.authorization
    TOKENS.require("resolver", authorization)
    return GATES.count(arguments["from"], to, authorization)


@subscription.field("count")
def count(number: int, _: Any, **__: Any) -> int:
    return number


async def on_connect(socket: WebSocket, payload: Any) -> None:
    socket.state.authorization = authorization_in(payload)
    if not await TOKENS.welcome(socket, payload):
        raise WebSocketConnectionError("refused on purpose")


schema = make_executable_schema(
    Path(__file__).with_name("schema.graphql").read_text(encoding="utf-8"), query, mutation, subscription
)


def application(handler: type[GraphQLTransportWSHandler | GraphQLWSHandler]) -> GraphQL:
    return GraphQL(schema, execute_get_queries=True, websocket_handler=handler(on_connect=on_connect))


serve(
    {
        "/graphql": application(GraphQLTransportWSHandler),
        "/legacy": application(GraphQLWSHandler),
    }
)
