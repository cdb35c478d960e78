"""The schema that the scripted server executes when it was given none of its own."""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from graphql import GraphQLError

SDL = """
type Query {
  hello(name: String = "world"): String!
  counter: Int!
  echo(value: String): String
  "Answers after so many seconds."
  slow(seconds: Float!): Boolean!
  "A nullable field that fails: the rest of the data survives."
  fail(message: String, code: String): Int
  "A non-null field that fails: the data is null."
  failHard(code: String): Int!
}

type Mutation {
  increment(by: Int = 1): Int!
}

type Subscription {
  "Counts from a cursor up to and including `to`; null never ends."
  count(from: Int = 0, to: Int): Int!
}
"""


class Toy:
    """What resolves `SDL`.

    :ivar counter: what `increment` adds to.
    :ivar tick: seconds between the events of `count`.
    """

    def __init__(self) -> None:
        self.counter: int = 0
        self.tick: float = 0.0

    def fields(self) -> dict[str, Callable[..., Any]]:
        """The top-level fields by their names."""
        return {
            "hello": lambda name: f"Hello, {name or 'world'}!",
            "counter": lambda: self.counter,
            "echo": lambda value=None: value,
            "slow": _slow,
            "fail": _fail,
            "failHard": _fail,
            "increment": self._increment,
            "count": self._count,
        }

    def _increment(self, by: int | None = 1) -> int:
        self.counter += 1 if by is None else by
        return self.counter

    async def _count(self, **cursor: int | None) -> AsyncIterator[dict[str, int]]:
        value, last = cursor.get("from") or 0, cursor.get("to")
        while last is None or value <= last:
            yield {"count": value}
            value += 1
            await asyncio.sleep(self.tick)


async def _slow(seconds: float) -> bool:
    await asyncio.sleep(seconds)
    return True


def _fail(message: str | None = None, code: str | None = None) -> None:
    raise GraphQLError(message or "it failed", extensions={"code": code or "FAILED"})
