"""What a document would do: read from its text, remembered by its text."""

from __future__ import annotations

import enum
from functools import lru_cache

from graphql import GraphQLSyntaxError, OperationDefinitionNode, OperationType, parse


class Operation(enum.Enum):
    """What may be repeated: the question behind every retry."""

    QUERY = "query"
    MUTATION = "mutation"
    REPEATABLE = "mutation marked idempotent"


# A thousand documents are more than most services have; texts of that many stay in memory.
@lru_cache(maxsize=1024)
def is_query(document: str, operation_name: str | None) -> bool:
    """True when the operation that would run is a query.

    What cannot be judged (a syntax error, several operations and no name, a name that is not there,
    a subscription) is no query: it is not repeated after it may have been sent.
    """
    operations = [
        node
        for node in _operations(document)
        if operation_name is None or (node.name and node.name.value == operation_name)
    ]
    return len(operations) == 1 and operations[0].operation is OperationType.QUERY


@lru_cache(maxsize=1024)
def runs_nothing(document: str, operation_name: str | None) -> str | None:
    """Why no server that follows the specification runs any part of a document; None where one may.

    A document that we cannot read may be one that the server can.
    """
    operations = _operations(document)
    named = [node for node in operations if node.name and node.name.value == operation_name]
    if not operations or named:
        return None
    if operation_name is not None:
        return f"the document has no operation named {operation_name[:100]!r}. Correct the name."
    if len(operations) == 1:
        return None
    return "the document has several operations, and the call names none. Name one (operation=…)."


@lru_cache(maxsize=1024)
def kind_of(document: str, operation_name: str | None) -> str | None:
    """``"query"``, ``"mutation"`` or ``"subscription"``; None where nothing, or no one thing, would run.

    :raises graphql.GraphQLSyntaxError: it is no document.
    """
    operations = [
        node
        for node in parse(document, no_location=True).definitions
        if isinstance(node, OperationDefinitionNode)
        and (operation_name is None or (node.name and node.name.value == operation_name))
    ]
    return operations[0].operation.value if len(operations) == 1 else None


@lru_cache(maxsize=1024)
def operation_name(document: str) -> str | None:
    """The name of a document's only operation; None if it has none, or there are several."""
    operations = _operations(document)
    return operations[0].name.value if len(operations) == 1 and operations[0].name else None


def _operations(document: str) -> list[OperationDefinitionNode]:
    try:
        definitions = parse(document, no_location=True).definitions
    except (GraphQLSyntaxError, RecursionError):
        return []
    return [node for node in definitions if isinstance(node, OperationDefinitionNode)]
