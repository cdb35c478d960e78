"""What telemetry may say of a document: the type and name of its operation, and its text without literals."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from graphql import (
    GraphQLSyntaxError,
    Node,
    OperationDefinitionNode,
    StringValueNode,
    ValueNode,
    VariableNode,
    Visitor,
    parse,
    print_ast,
    visit,
)
from graphql.language import ListValueNode, ObjectValueNode

NAME_LIMIT = 100
"""Characters of an operation's name; a longer one was made by a machine."""
NAMES = 1000
"""Operation names a client, the contract's figure; time series cost memory wherever they are kept."""
OTHER = "_other"

# A parsed name costs nothing the second time; documents of a thousand operations are more than most have.
_REMEMBERED = 1024


@lru_cache(maxsize=_REMEMBERED)
def operation_of(document: str, name: str | None) -> tuple[str | None, str | None]:
    """Type and name of the operation that would run; None for what cannot be told."""
    try:
        definitions = parse(document, no_location=True).definitions
    except (GraphQLSyntaxError, RecursionError):
        return None, name
    operations = [
        node
        for node in definitions
        if isinstance(node, OperationDefinitionNode)
        and (name is None or (node.name is not None and node.name.value == name))
    ]
    if len(operations) != 1:
        return None, name
    found = operations[0]
    return found.operation.value, found.name.value if found.name else None


class _Literals(Visitor):
    """Replaces values that are no variables; lists and objects keep their shape, and fields their names."""

    def enter(self, node: Node, *_: Any) -> Node | None:
        kept = isinstance(node, VariableNode | ListValueNode | ObjectValueNode)
        return StringValueNode(value="*", block=False) if isinstance(node, ValueNode) and not kept else None


@lru_cache(maxsize=_REMEMBERED)
def sanitized(document: str) -> str | None:
    """The document with ``"*"`` in place of every literal, without comments; None if it is none."""
    try:
        return print_ast(visit(parse(document, no_location=True), _Literals()))
    except (GraphQLSyntaxError, RecursionError):
        return None


class Names:
    """Operation names, of which there may be only so many in metrics."""

    def __init__(self, limit: int = NAMES) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def bounded(self, name: str) -> str:
        """The name, or ``_other`` for one that is too long, or one too many."""
        if name in self._known:
            return name
        if len(name) > NAME_LIMIT or len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name
