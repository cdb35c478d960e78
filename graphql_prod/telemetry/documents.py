"""What telemetry may say of a document: the type and name of its operation, and its text without literals."""

from __future__ import annotations

import hashlib
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from graphql import (
    GraphQLSyntaxError,
    Node,
    StringValueNode,
    ValueNode,
    VariableNode,
    Visitor,
    parse,
    print_ast,
    visit,
)
from graphql.language import ListValueNode, ObjectValueNode

from graphql_prod.documents import LONGEST_PARSED, operations, remembered

if TYPE_CHECKING:
    from collections.abc import Callable

NAME_LIMIT = 100
"""Characters of an operation's name; a longer one was made by a machine."""
NAMES = 1000
"""Operation names a client, the contract's figure; time series cost memory wherever they are kept."""
OTHER = "_OTHER"

# A name that is known costs nothing the second time; of so many short documents the text is kept.
_REMEMBERED, _SHORT = 1024, 1000


def operation_of(document: str, name: str | None) -> tuple[str | None, str | None]:
    """Type and name of the operation that would run; None for what cannot be told."""
    if len(document) + len(name or "") > _SHORT:
        return _operation_of(document, name)
    return _of_short(document, name)


def _operation_of(document: str, name: str | None) -> tuple[str | None, str | None]:
    found = [each for each in operations(document) or () if name is None or (each[1] and each[1] == name)]
    return found[0] if len(found) == 1 else (None, name)


_of_short = lru_cache(maxsize=_REMEMBERED)(_operation_of)


def _hash_of(document: str) -> str:
    return "sha256:" + hashlib.sha256(document.encode("utf-8", "surrogatepass")).hexdigest()


_of_short_text = lru_cache(maxsize=_REMEMBERED)(_hash_of)


def hash_of(document: str) -> str:
    """What stands for a document where its text is not shown, as the conventions write it."""
    return _hash_of(document) if len(document) > _SHORT else _of_short_text(document)


class _Literals(Visitor):
    """Replaces values that are no variables; lists and objects keep their shape, and fields their names."""

    def enter(self, node: Node, *_: Any) -> Node | None:
        kept = isinstance(node, VariableNode | ListValueNode | ObjectValueNode)
        return StringValueNode(value="*", block=False) if isinstance(node, ValueNode) and not kept else None


def _sanitized(document: str) -> str | None:
    if len(document) > LONGEST_PARSED:
        return None
    try:
        return print_ast(visit(parse(document, no_location=True), _Literals()))
    except (GraphQLSyntaxError, RecursionError):
        return None


sanitized: Callable[[str], str | None] = remembered(_sanitized, lambda text: len(text or ""))
"""The document with ``"*"`` in place of every literal, without comments; None if it is none, or is long."""


class CardinalityLimiter:
    """Words that somebody else makes up, of which there may be only so many in metrics: names, codes."""

    def __init__(self, limit: int = NAMES) -> None:
        self._limit = limit
        self._known: set[str] = set()

    def bounded(self, name: str) -> str:
        """The word, or ``_OTHER`` for one that is too long, or one too many."""
        if name in self._known:
            return name
        if len(name) > NAME_LIMIT or len(self._known) >= self._limit:
            return OTHER
        self._known.add(name)
        return name
