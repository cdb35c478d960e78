"""A schema of the user's own, and what resolves it."""

from __future__ import annotations

import copy
import difflib
from collections.abc import AsyncIterator, Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

from graphql import GraphQLInterfaceType, GraphQLObjectType, GraphQLSchema, build_schema

Resolvers = Mapping[str, Any]
"""By type and field: a function ``(source, info, **arguments)``, sync or async, or a value. Fields of the
subscription type have an async generator function, or an iterable of events."""


def schema_of(schema: Any) -> GraphQLSchema:
    """A schema as graphql-core has it, for our own use.

    :param schema: SDL, the ``Path`` of a file with SDL, a graphql-core schema, or a schema of Graphene or
        Strawberry.
    :raises TypeError: it is none of these.
    :raises GraphQLError: the SDL cannot be read.
    """
    if isinstance(schema, Path):
        schema = schema.read_text(encoding="utf-8")
    if isinstance(schema, str):
        return build_schema(schema)
    if isinstance(found := getattr(schema, "graphql_schema", schema), GraphQLSchema):
        return found
    if is_foreign(schema):
        return build_schema(schema.as_str())
    raise TypeError(
        "schema= takes SDL, a Path to a file with SDL, a graphql-core schema (Ariadne makes one), or a "
        f"schema of Graphene or Strawberry; not {type(schema).__name__}"
    )


def is_foreign(schema: Any) -> bool:
    """Whether it executes itself, as Strawberry's does."""
    return all(callable(getattr(schema, name, None)) for name in ("as_str", "execute", "subscribe"))


def with_resolvers(schema: GraphQLSchema, resolvers: Resolvers, *, lenient: bool = False) -> GraphQLSchema:
    """A copy of the schema with these resolvers.

    :param lenient: leave out what the schema does not have.
    :raises ValueError: the schema has no such type or field.
    """
    schema = copy.deepcopy(schema)
    for type_name, fields in resolvers.items():
        kind = schema.type_map.get(type_name)
        if not isinstance(kind, GraphQLObjectType | GraphQLInterfaceType):
            if lenient:
                continue
            known = [name for name, each in schema.type_map.items() if isinstance(each, GraphQLObjectType)]
            raise ValueError(_unknown(f"resolvers= names the type {type_name!r}", type_name, known))
        for name, resolver in fields.items():
            field = kind.fields.get(name)
            if field is None:
                if lenient:
                    continue
                title = f"resolvers= names the field {type_name}.{name}"
                raise ValueError(_unknown(title, name, list(kind.fields)))
            if kind is schema.subscription_type:
                field.subscribe = _subscriber(resolver)
            else:
                field.resolve = resolver if callable(resolver) else _constant(resolver)
    return schema


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _subscriber(resolver: Any) -> Callable[..., Any]:
    if callable(resolver):
        return cast("Callable[..., Any]", resolver)
    return lambda *_, **__: _events(resolver)


async def _events(values: Iterable[Any]) -> AsyncIterator[Any]:
    for value in values:
        yield value


def _unknown(title: str, name: str, known: list[str]) -> str:
    visible = [each for each in known if not each.startswith("__")]
    near = difflib.get_close_matches(name, visible, 1)
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(sorted(visible))}"
    return f"{title}, which the schema does not have{hint}"
