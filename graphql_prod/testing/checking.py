"""Whether data that a test has written by hand is what a server of that schema could have sent."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from graphql import GraphQLError, execute

if TYPE_CHECKING:
    from graphql import (
        DocumentNode,
        ExecutionResult,
        GraphQLAbstractType,
        GraphQLObjectType,
        GraphQLResolveInfo,
        GraphQLSchema,
    )

MANY = 10
"""Problems that are named; the rest is counted."""


def selected(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: str | None,
    variables: dict[str, Any] | None,
    data: Mapping[str, Any],
) -> ExecutionResult:
    """What the operation asks for, out of data that may hold more.

    :param schema: one without resolvers.
    :param data: by alias, or by the field's name.
    """
    return cast(
        "ExecutionResult",
        execute(  # nothing here is awaitable
            schema,
            document,
            root_value=data,
            variable_values=variables,
            operation_name=operation,
            field_resolver=_by_key,
            type_resolver=functools.partial(_type_of, schema),
        ),
    )


def problems(
    schema: GraphQLSchema,
    document: DocumentNode,
    operation: str | None,
    variables: dict[str, Any] | None,
    data: Mapping[str, Any],
) -> list[str]:
    """Why no server of this schema answers the operation with just these data; nothing where one could."""
    result = selected(schema, document, operation, variables, data)
    if result.errors:
        return [_told(error) for error in result.errors]
    return list(_differences(dict(data), result.data, ""))


def text_of(found: list[str]) -> str:
    """All of them in one sentence."""
    rest = f"; and {len(found) - MANY} more" if len(found) > MANY else ""
    return "; ".join(found[:MANY]) + rest


def _by_key(source: Any, info: GraphQLResolveInfo[Any], **_: Any) -> Any:
    if not isinstance(source, Mapping):
        raise GraphQLError(f"is {source!r}, where an object is due")
    for key in (info.path.key, info.field_name):
        if key in source:
            return source[key]
    raise GraphQLError("is missing")


def _type_of(schema: GraphQLSchema, value: Any, _: GraphQLResolveInfo[Any], kind: GraphQLAbstractType) -> str:
    possible = schema.get_possible_types(kind)
    named = value.get("__typename") if isinstance(value, Mapping) else None
    if named is not None:
        return str(named)
    if len(possible) == 1:
        return possible[0].name
    fitting = [each.name for each in possible if isinstance(value, Mapping) and _fits(value, each)]
    if len(fitting) == 1:
        return fitting[0]
    names = ", ".join(sorted(each.name for each in possible))
    raise GraphQLError(f'may be {names}: say which by "__typename"')


def _fits(value: Mapping[str, Any], kind: GraphQLObjectType) -> bool:
    return all(key in kind.fields for key in value)


def _told(error: GraphQLError) -> str:
    place = ".".join(str(key) for key in error.path or ())
    text = error.message.rstrip(".")
    return f"{place} {text}" if text.startswith(("is ", "may ")) else f"{place}: {text}" if place else text


def _differences(given: Any, due: Any, place: str) -> Any:
    if isinstance(given, Mapping) and isinstance(due, Mapping):
        for key in sorted(given.keys() - due.keys() - {"__typename"}):
            yield f"{place}{key} was not asked for"
        for key in sorted(due.keys() - given.keys()):
            yield f"{place}{key} is missing"
        for key in sorted(due.keys() & given.keys()):
            yield from _differences(given[key], due[key], f"{place}{key}.")
    elif isinstance(given, list | tuple) and isinstance(due, list):
        for number, (one, other) in enumerate(zip(given, due, strict=False)):
            yield from _differences(one, other, f"{place}{number}.")
    elif given != due or isinstance(given, bool) is not isinstance(due, bool):
        yield f"{place.rstrip('.')} is {given!r}, where a server sends {due!r}"
