"""Executes operations, and counts what ran."""

from __future__ import annotations

import functools
import inspect
import logging
from collections import Counter
from collections.abc import AsyncGenerator, Mapping
from typing import TYPE_CHECKING, Any, cast

from graphql import (
    DocumentNode,
    ExecutionResult,
    GraphQLError,
    GraphQLSchema,
    MiddlewareManager,
    OperationType,
    build_schema,
    default_field_resolver,
    execute,
    parse,
    print_ast,
    print_schema,
    subscribe,
    validate,
)

from . import checking
from .documents import kind_of, name_in, top_fields
from .resolvers import Resolvers, is_foreign, schema_of, with_resolvers
from .schema import SDL, Toy

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql import GraphQLResolveInfo

    Started = AsyncGenerator[ExecutionResult, None] | ExecutionResult

logger: logging.Logger = logging.getLogger("graphql_prod.testing")

# Kept for all servers of a program, which most often have the same few: both cost far more than executing.
SCHEMAS = 10
DOCUMENTS = 100
VALUES = (str, bytes, int, float, list, tuple)
"""What has attributes of Python's, and no fields."""


@functools.lru_cache(maxsize=SCHEMAS)
def _built(sdl: str) -> GraphQLSchema:
    return build_schema(sdl)


@functools.lru_cache(maxsize=DOCUMENTS)
def _judged(sdl: str, query: str) -> DocumentNode | list[GraphQLError]:
    return _judge(_built(sdl), query)


def _judge(schema: GraphQLSchema, query: str) -> DocumentNode | list[GraphQLError]:
    try:
        document = parse(query)
    except GraphQLError as error:
        return [error]
    return validate(schema, document) or document


class Executor:
    """Executes operations of the toy schema, or of a user's own.

    :ivar own: whether the schema is the user's.
    :ivar executions: how often each top-level field ran.
    :ivar operations: how often each operation ran, by its name.
    """

    def __init__(
        self,
        changed: Callable[[], None],
        schema: Any = None,
        resolvers: Resolvers | None = None,
        root: Any = None,
    ) -> None:
        if schema is None and (resolvers is not None or root is not None):
            raise ValueError("resolvers= and root= belong to a schema=, which is missing")
        self.executions: Counter[str] = Counter()
        self.operations: Counter[str] = Counter()
        self.toy: Toy = Toy()
        self.own: bool = schema is not None
        self._changed = changed
        self._resolvers = resolvers or {}
        # graphql-core calls functions only, and no bound methods.
        self._middleware = MiddlewareManager(lambda *given, **named: self._ran(*given, **named))
        if schema is None:
            self._foreign: Any = None
            self._root: Any = {name: self._counted(name, each) for name, each in self.toy.fields().items()}
            self.define(SDL)
            return
        self._root = root
        self._foreign = schema if is_foreign(schema) else None
        if self._foreign is not None and (resolvers is not None or root is not None):
            raise ValueError(f"a schema of {type(schema).__module__} brings its own resolvers")
        found = schema_of(schema)
        self._adopt(with_resolvers(found, self._resolvers) if self._resolvers else found)

    def define(self, sdl: str) -> None:
        """Execute this schema from now on; fields that nothing resolves are null."""
        if not self.own:
            self._schema = _built(sdl)
            self.sdl: str = sdl
            return
        self._foreign = None
        self._adopt(with_resolvers(build_schema(sdl), self._resolvers, lenient=True))

    def _adopt(self, schema: GraphQLSchema) -> None:
        self._schema = schema
        self.sdl = print_schema(schema)
        self._judge = functools.lru_cache(maxsize=DOCUMENTS)(functools.partial(_judge, schema))

    def checked(self, query: str) -> DocumentNode | list[GraphQLError]:
        """The document, or the reasons why it is none of this schema's."""
        return self._judge(query) if self.own else _judged(self.sdl, query)

    async def execute(
        self,
        document: DocumentNode,
        variables: dict[str, Any] | None,
        operation: str | None,
        context: Mapping[str, Any] | None = None,
    ) -> ExecutionResult:
        """Run a query or a mutation."""
        self._count(document, operation)
        if self._foreign is not None:
            found = await self._foreign.execute(
                print_ast(document), **_foreign(variables, operation, context)
            )
            return _result(found)
        result = execute(
            self._schema,
            document,
            self._root,
            context,
            variable_values=variables,
            operation_name=operation,
            **self._own_ways(),
        )
        outcome = await result if inspect.isawaitable(result) else result
        self._log(outcome)
        return outcome

    async def subscribe(
        self,
        document: DocumentNode,
        variables: dict[str, Any] | None,
        operation: str | None,
        context: Mapping[str, Any] | None = None,
    ) -> Started:
        """Start a subscription: its events, or the result that says why there are none."""
        self._count(document, operation)
        if self.own:
            self.executions.update(top_fields(document, operation))
        if self._foreign is not None:
            found = await self._foreign.subscribe(
                print_ast(document), **_foreign(variables, operation, context)
            )
            return _results(found) if hasattr(found, "__aiter__") else _result(found)
        started = subscribe(
            self._schema,
            document,
            self._root,
            context,
            variable_values=variables,
            operation_name=operation,
            field_resolver=_default if self.own else None,
        )
        outcome = await started if inspect.isawaitable(started) else started
        return cast("Started", outcome)

    def resolves(self, document: DocumentNode, operation: str | None) -> bool:
        """Whether something makes the events of this subscription."""
        if self._foreign is not None or not self.own:
            return True
        kind = self._schema.subscription_type
        names = [name for name in top_fields(document, operation) if kind is not None and name in kind.fields]
        return kind is None or any(
            kind.fields[name].subscribe is not None or _has(self._root, name) for name in names
        )

    def counted(self, document: DocumentNode, operation: str | None) -> None:
        """A script has answered an operation: as far as its client knows, it ran."""
        self._count(document, operation)

    def problems(
        self,
        document: DocumentNode,
        operation: str | None,
        variables: dict[str, Any] | None,
        data: Mapping[str, Any],
    ) -> list[str]:
        """Why this schema's server would not answer so."""
        return checking.problems(_built(self.sdl), document, operation, variables, data)

    def event(
        self,
        document: DocumentNode,
        operation: str | None,
        variables: dict[str, Any] | None,
        data: Mapping[str, Any],
    ) -> ExecutionResult:
        """What a subscription asks for of an event that a test has written."""
        return checking.selected(_built(self.sdl), document, operation, variables, data)

    def _own_ways(self) -> dict[str, Any]:
        if not self.own:
            return {}
        return {"field_resolver": _default, "middleware": self._middleware}

    def _count(self, document: DocumentNode, operation: str | None) -> None:
        if name := name_in(document, operation):
            self.operations[name] += 1
        if self._foreign is not None and kind_of(document, operation) is not OperationType.SUBSCRIPTION:
            self.executions.update(top_fields(document, operation))
        self._changed()

    def _ran(
        self, resolve: Callable[..., Any], source: Any, info: GraphQLResolveInfo[Any], **arguments: Any
    ) -> Any:
        if info.path.prev is None and not info.field_name.startswith("__"):
            self.executions[info.field_name] += 1
            self._changed()
        return resolve(source, info, **arguments)

    def _counted(self, name: str, resolve: Callable[..., Any]) -> Callable[..., Any]:
        def run(_info: object, **arguments: Any) -> Any:
            self.executions[name] += 1
            self._changed()
            return resolve(**arguments)

        return run

    def _log(self, result: ExecutionResult) -> None:
        for error in result.errors or () if self.own else ():
            log_failure(error)


def log_failure(error: GraphQLError) -> None:
    """A resolver that failed by accident: its traceback is in the test's log."""
    cause = error.original_error
    if cause is not None and not isinstance(cause, GraphQLError):
        place = ".".join(str(key) for key in error.path or ()) or "a subscription"
        logger.warning("the resolver of %s raised", place, exc_info=cause)


def _default(source: Any, info: GraphQLResolveInfo[Any], **arguments: Any) -> Any:
    if info.path.prev is not None or info.field_name.startswith("__"):
        return default_field_resolver(source, info, **arguments)
    if _has(source, info.field_name):
        return default_field_resolver(source, info, **arguments)
    if info.operation.operation is OperationType.SUBSCRIPTION:
        return source  # the event itself is the field's value
    place = f"{info.parent_type.name}.{info.field_name}"
    raise GraphQLError(f"nothing resolves {place}: give it in resolvers= or root=, or script the operation")


def _has(source: Any, name: str) -> bool:
    if isinstance(source, Mapping):
        return name in source
    return not isinstance(source, VALUES) and hasattr(source, name)


def _foreign(
    variables: dict[str, Any] | None, operation: str | None, context: Mapping[str, Any] | None
) -> dict[str, Any]:
    return {"variable_values": variables, "operation_name": operation, "context_value": dict(context or {})}


def _result(found: Any) -> ExecutionResult:
    return ExecutionResult(found.data, found.errors, found.extensions or None)


async def _results(found: Any) -> AsyncGenerator[ExecutionResult, None]:
    async for each in found:
        yield _result(each)
