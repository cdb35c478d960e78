"""The schema that the scripted server really executes."""

import asyncio
import functools
import inspect
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any, cast

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    OperationType,
    build_schema,
    execute,
    get_operation_ast,
    parse,
    subscribe,
    validate,
)

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


# Kept for all servers of a program, which most often have the same few: both cost far more than executing.
SCHEMAS = 10
DOCUMENTS = 100


@functools.lru_cache(maxsize=SCHEMAS)
def _built(sdl: str) -> GraphQLSchema:
    return build_schema(sdl)


@functools.lru_cache(maxsize=DOCUMENTS)
def _judged(sdl: str, query: str) -> DocumentNode | list[GraphQLError]:
    try:
        document = parse(query)
    except GraphQLError as error:
        return [error]
    return validate(_built(sdl), document) or document


class Executor:
    """Executes operations, and counts how often each top-level field really ran."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self.executions: Counter[str] = Counter()
        self.counter = 0
        self.tick = 0.0
        self._changed = changed
        self.define(SDL)
        fields: dict[str, Callable[..., Any]] = {
            "hello": lambda name: f"Hello, {name or 'world'}!",
            "counter": lambda: self.counter,
            "echo": lambda value=None: value,
            "slow": _slow,
            "fail": _fail,
            "failHard": _fail,
            "increment": self._increment,
            "count": self._count,
        }
        self._root = {name: self._counted(name, resolve) for name, resolve in fields.items()}

    def define(self, sdl: str) -> None:
        """Execute this schema from now on; fields that nothing resolves are null."""
        self._schema = _built(sdl)
        self.sdl = sdl

    def checked(self, query: str) -> DocumentNode | list[GraphQLError]:
        """The document, or the reasons why it is none of this schema's."""
        return _judged(self.sdl, query)

    async def execute(
        self, document: DocumentNode, variables: dict[str, Any] | None, operation: str | None
    ) -> ExecutionResult:
        """Run a query or a mutation."""
        result = execute(
            self._schema,
            document,
            self._root,
            variable_values=variables,
            operation_name=operation,
        )
        return await result if inspect.isawaitable(result) else result

    async def subscribe(
        self, document: DocumentNode, variables: dict[str, Any] | None, operation: str | None
    ) -> AsyncGenerator[ExecutionResult, None] | ExecutionResult:
        """Start a subscription: its events, or the result that says why there are none."""
        started = subscribe(
            self._schema,
            document,
            self._root,
            variable_values=variables,
            operation_name=operation,
        )
        outcome = await started if inspect.isawaitable(started) else started
        return cast("AsyncGenerator[ExecutionResult, None] | ExecutionResult", outcome)

    def _counted(self, name: str, resolve: Callable[..., Any]) -> Callable[..., Any]:
        def run(_info: object, **arguments: Any) -> Any:
            self.executions[name] += 1
            self._changed()
            return resolve(**arguments)

        return run

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


def kind_of(document: DocumentNode, operation: str | None) -> OperationType | None:
    """Query, mutation or subscription; None when the operation cannot be told."""
    node = get_operation_ast(document, operation)
    return None if node is None else node.operation


def name_of(query: str | None, operation: str | None) -> str | None:
    """The operation's name: as asked for, else that of the document's only operation."""
    if operation or not query:
        return operation
    try:
        node = get_operation_ast(parse(query))
    except GraphQLError:
        return None
    return node.name.value if node is not None and node.name is not None else None
