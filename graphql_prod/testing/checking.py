"""Whether data that a test has written by hand is what a server of that schema could have sent."""

from __future__ import annotations

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, cast

from graphql import FieldNode, GraphQLError, InlineFragmentNode, execute, is_abstract_type

if TYPE_CHECKING:
    from graphql import (
        DocumentNode,
        ExecutionResult,
        GraphQLAbstractType,
        GraphQLObjectType,
        GraphQLResolveInfo,
        GraphQLSchema,
        SelectionSetNode,
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


def _type_of(
    schema: GraphQLSchema, value: Any, info: GraphQLResolveInfo[Any], kind: GraphQLAbstractType
) -> str:
    """The type that an object is of: the one that it names, else the one whose selection it fits."""
    possible = sorted(schema.get_possible_types(kind), key=lambda each: each.name)
    named = value.get("__typename") if isinstance(value, Mapping) else None
    if named is not None:
        return str(named)
    if not isinstance(value, Mapping):
        return possible[0].name
    distances = {each.name: _distance(schema, value, info, each) for each in possible}
    least = min(distances.values())
    nearest = [name for name, distance in distances.items() if distance == least]
    if len(nearest) > 1 and least > 0:
        raise GraphQLError(f'may be {", ".join(distances)}: say which by "__typename"')
    return nearest[0]


def _distance(
    schema: GraphQLSchema, value: Mapping[str, Any], info: GraphQLResolveInfo[Any], kind: GraphQLObjectType
) -> int:
    """How many fields an object has too few, or too many, to be what is asked of a type."""
    due: dict[str, str] = {}
    may: set[str] = {"__typename", *kind.fields}
    for node in info.field_nodes:
        if node.selection_set is not None:
            _collect(schema, node.selection_set, info, kind, due, may)
    missing = [key for key, field in due.items() if field != "__typename" and not {key, field} & value.keys()]
    return len(missing) + len(value.keys() - may)


def _collect(
    schema: GraphQLSchema,
    selections: SelectionSetNode,
    info: GraphQLResolveInfo[Any],
    kind: GraphQLObjectType,
    due: dict[str, str],
    may: set[str],
) -> None:
    """The names under which fields of a type are asked for; those with a directive need not be there."""
    for node in selections.selections:
        if isinstance(node, FieldNode):
            key = node.alias.value if node.alias is not None else node.name.value
            may.add(key)
            if not node.directives:
                due[key] = node.name.value
            continue
        fragment: Any = node if isinstance(node, InlineFragmentNode) else info.fragments.get(node.name.value)  # type: ignore[attr-defined]
        condition = None if fragment is None else fragment.type_condition
        if fragment is None or (condition is not None and not _includes(schema, condition.name.value, kind)):
            continue
        _collect(schema, fragment.selection_set, info, kind, {} if node.directives else due, may)


def _includes(schema: GraphQLSchema, name: str, kind: GraphQLObjectType) -> bool:
    found = schema.get_type(name)
    return found is kind or (is_abstract_type(found) and schema.is_sub_type(found, kind))


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
