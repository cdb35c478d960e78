"""A small schema of a user's own, made with each library that a server of the tests takes."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator  # noqa: TC003 -- Strawberry reads it
from typing import TYPE_CHECKING, Any

import ariadne
import strawberry
from graphql import GraphQLSchema, build_schema

if TYPE_CHECKING:
    from pathlib import Path

SDL = """
scalar Day
enum Status { OPEN PAID }
interface Thing { id: ID! }
type Order implements Thing { id: ID! total: Float! status: Status! day: Day items: [Item!]! }
type Item { name: String! }
type Query { order(id: ID!): Order thing(id: ID!): Thing version: String! fails: Int }
type Mutation { pay(id: ID!): Order! }
type Subscription { shipped: Order! ticks(to: Int!): Int! breaks: Int! }
"""
ORDER = "query Order($id: ID!) { order(id: $id) { id total status items { name } } }"
PAY = "mutation Pay($id: ID!) { pay(id: $id) { id status } }"
TICKS = "subscription Ticks($to: Int!) { ticks(to: $to) }"
SHIPPED = "subscription Shipped { shipped { id status } }"


async def order(_source: Any, info: Any, id: str) -> dict[str, Any]:  # noqa: A002 -- the argument's name
    """One with an item that tells who asked."""
    await asyncio.sleep(0)
    agent = info.context["request"].headers.get("X-App", "nobody")
    return {"__typename": "Order", "id": id, "total": 1.5, "status": "OPEN", "items": [{"name": agent}]}


def pay(_source: Any, _info: Any, id: str) -> dict[str, Any]:  # noqa: A002 -- the argument's name
    """A resolver may be a plain function."""
    return {"id": id, "status": "PAID"}


async def ticks(_source: Any, _info: Any, to: int) -> AsyncGenerator[int, None]:
    """So many numbers."""
    for number in range(to):
        yield number


async def breaks(_source: Any, _info: Any) -> AsyncIterator[int]:
    """One event, and then a failure of the resolver's own."""
    yield 1
    raise RuntimeError("the resolver broke")


def fails(_source: Any, _info: Any) -> int:
    """An error of the resolver's own."""
    raise RuntimeError("no luck")


RESOLVERS: dict[str, dict[str, Any]] = {
    "Query": {"order": order, "version": "1.0", "fails": fails, "thing": order},
    "Mutation": {"pay": pay},
    "Subscription": {"ticks": ticks, "breaks": breaks},
}


def by_ariadne() -> GraphQLSchema:
    """Ariadne makes one of graphql-core's, with resolvers in it."""
    query, mutation = ariadne.QueryType(), ariadne.MutationType()
    query.set_field("order", order)
    mutation.set_field("pay", pay)
    subscription = ariadne.SubscriptionType()
    subscription.set_source("ticks", ticks)
    subscription.set_field("ticks", lambda event, *_, **__: event)
    return ariadne.make_executable_schema(SDL, query, mutation, subscription)


class InGraphene:
    """What a schema of Graphene's looks like from outside."""

    def __init__(self) -> None:
        self.graphql_schema = by_ariadne()


@strawberry.type
class Item:
    """A line of an order."""

    name: str


@strawberry.type
class Order:
    """What somebody buys."""

    id: strawberry.ID
    total: float
    status: str
    items: list[Item]


def _bought(id: strawberry.ID, status: str = "OPEN", name: str = "nobody") -> Order:  # noqa: A002
    return Order(id=id, total=1.5, status=status, items=[Item(name=name)])


@strawberry.type
class Query:
    """What may be asked."""

    @strawberry.field
    async def order(self, info: strawberry.Info, id: strawberry.ID) -> Order | None:  # noqa: A002
        """One order."""
        return _bought(id, name=info.context["request"].headers.get("X-App", "nobody"))


@strawberry.type
class Mutation:
    """What may be changed."""

    @strawberry.mutation
    def pay(self, id: strawberry.ID) -> Order:  # noqa: A002
        """Pay for it."""
        return _bought(id, "PAID")


@strawberry.type
class Subscription:
    """What may be followed."""

    @strawberry.subscription
    async def ticks(self, to: int) -> AsyncIterator[int]:
        """So many numbers."""
        for number in range(to):
            yield number


def options(kind: str, folder: Path) -> dict[str, Any]:
    """The arguments of a server that has this schema."""
    match kind:
        case "SDL":
            return {"schema": SDL, "resolvers": RESOLVERS}
        case "file":
            (folder / "shop.graphql").write_text(SDL)
            return {"schema": folder / "shop.graphql", "resolvers": RESOLVERS}
        case "graphql-core":
            return {"schema": build_schema(SDL), "resolvers": RESOLVERS}
        case "Ariadne":
            return {"schema": by_ariadne()}
        case "Graphene":
            return {"schema": InGraphene()}
        case _:
            return {"schema": strawberry.Schema(Query, Mutation, Subscription)}


KINDS = ("SDL", "file", "graphql-core", "Ariadne", "Graphene", "Strawberry")
