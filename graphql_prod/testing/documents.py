"""What a server of the tests reads out of a document."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphql import FieldNode, FragmentDefinitionNode, GraphQLError, get_operation_ast, parse

if TYPE_CHECKING:
    from collections.abc import Iterator

    from graphql import DocumentNode, OperationType, SelectionSetNode


def kind_of(document: DocumentNode, operation: str | None) -> OperationType | None:
    """Query, mutation or subscription; None when the operation cannot be told."""
    node = get_operation_ast(document, operation)
    return None if node is None else node.operation


def name_of(query: str | None, operation: str | None) -> str | None:
    """The operation's name: as asked for, else that of the document's only operation."""
    if operation or not query:
        return operation
    try:
        return name_in(parse(query), None)
    except GraphQLError:
        return None


def described(query: Any, operation: Any, variables: Any) -> str:
    """An operation in one line, for people: its name or the begin of its document, and its variables."""
    text = query if isinstance(query, str) else ""
    name = name_of(text, operation if isinstance(operation, str) else None)
    what = name or " ".join((text or "no query").split())[:60]
    return f"{what} with {str(variables)[:100]}" if variables else what


def name_in(document: DocumentNode, operation: str | None) -> str | None:
    """The same for a document that is parsed."""
    node = get_operation_ast(document, operation)
    return node.name.value if node is not None and node.name is not None else operation


def top_fields(document: DocumentNode, operation: str | None) -> list[str]:
    """The names of the fields that an operation asks its root type for, those of fragments included."""
    node = get_operation_ast(document, operation)
    if node is None:
        return []
    fragments = {
        each.name.value: each for each in document.definitions if isinstance(each, FragmentDefinitionNode)
    }
    return list(_fields(node.selection_set, fragments, set()))


def _fields(
    selections: SelectionSetNode, fragments: dict[str, FragmentDefinitionNode], seen: set[str]
) -> Iterator[str]:
    for node in selections.selections:
        if isinstance(node, FieldNode):
            yield node.name.value
            continue
        named = getattr(node, "name", None)
        if named is None:  # an inline fragment
            yield from _fields(node.selection_set, fragments, seen)  # type: ignore[attr-defined]
        elif named.value in fragments and named.value not in seen:
            seen.add(named.value)
            yield from _fields(fragments[named.value].selection_set, fragments, seen)
