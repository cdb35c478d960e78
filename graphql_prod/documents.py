"""What a document would do: read from its text, remembered by its text.

A long one is not parsed here, which would hold the event loop up, and its text is not kept.
"""

from __future__ import annotations

import enum
import hashlib
import re
from functools import lru_cache
from typing import TYPE_CHECKING, TypeVar

from graphql import GraphQLSyntaxError, OperationDefinitionNode, parse

if TYPE_CHECKING:
    from collections.abc import Callable

T = TypeVar("T")

LONGEST_PARSED = 10_000
"""Characters; a parser takes about a millisecond for a thousand."""
# Documents, and what the text of each that is kept may take: a million characters in all. Of longer ones only
# a digest is kept.
_REMEMBERED, _SHORT = 1024, 1000

Operations = tuple[tuple[str, str | None], ...]
"""Type and name of each operation of a document."""


class Operation(enum.Enum):
    """What may be repeated: the question behind every retry."""

    QUERY = "query"
    MUTATION = "mutation"
    REPEATABLE = "mutation marked idempotent"


class _Text:
    """A text that is known by its digest once it has been looked at."""

    __slots__ = ("digest", "text")

    def __init__(self, text: str) -> None:
        self.text = text
        self.digest = hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()

    def __hash__(self) -> int:
        return hash(self.digest)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Text) and self.digest == other.digest


class _UnrememberedError(Exception):
    """An answer that is too long to be kept."""


def remembered(function: Callable[[str], T], longest: Callable[[T], int] = lambda _: 0) -> Callable[[str], T]:
    """A function of a document that is asked only once for each, as long as there is room.

    :param longest: characters that an answer takes; what is over 10,000 is not kept.
    """
    of_short = lru_cache(maxsize=_REMEMBERED)(function)

    @lru_cache(maxsize=_REMEMBERED // 4)
    def of_long(text: _Text) -> T:
        answer = function(text.text)
        if longest(answer) > LONGEST_PARSED:
            raise _UnrememberedError(answer)
        return answer

    def asked(document: str) -> T:
        if len(document) <= _SHORT:
            return of_short(document)
        text = _Text(document)
        try:
            return of_long(text)
        except _UnrememberedError as error:
            answer: T = error.args[0]
            return answer
        finally:
            text.text = ""

    return asked


def _read(document: str) -> Operations | None:
    if len(document) > LONGEST_PARSED:
        return outline(document)
    try:
        definitions = parse(document, no_location=True).definitions
    except (GraphQLSyntaxError, RecursionError):
        return None
    return tuple(
        (node.operation.value, node.name.value if node.name else None)
        for node in definitions
        if isinstance(node, OperationDefinitionNode)
    )


def _characters(found: Operations | None) -> int:
    return sum(50 + len(name or "") for _, name in found or ())


operations: Callable[[str], Operations | None] = remembered(_read, _characters)
"""The operations of a document; None where it cannot be read."""


def is_query(document: str, operation_name: str | None) -> bool:
    """True when the operation that would run is a query.

    What cannot be judged (a syntax error, several operations and no name, a name that is not there,
    a subscription) is no query: it is not repeated after it may have been sent.
    """
    return [kind for kind, _ in _meant(operations(document), operation_name)] == ["query"]


def runs_nothing(document: str, operation_name: str | None) -> str | None:
    """Why no server that follows the specification runs any part of a document; None where one may.

    A document that we cannot read may be one that the server can.
    """
    found = operations(document)
    if not found or any(name == operation_name for _, name in found if name):
        return None
    if operation_name is not None:
        return f"the document has no operation named {operation_name[:100]!r}. Correct the name."
    if len(found) == 1:
        return None
    return "the document has several operations, and the call names none. Name one (operation=…)."


def kind_of(document: str, operation_name: str | None) -> str | None:
    """``"query"``, ``"mutation"`` or ``"subscription"``; None where nothing, or no one thing, would run.

    :raises graphql.GraphQLSyntaxError: it is no document; not told of a long one.
    """
    found = operations(document)
    if found is None and len(document) <= LONGEST_PARSED:
        parse(document, no_location=True)
    meant = _meant(found, operation_name)
    return meant[0][0] if len(meant) == 1 else None


def operation_name(document: str) -> str | None:
    """The name of a document's only operation; None if it has none, or there are several."""
    found = operations(document)
    return found[0][1] if found and len(found) == 1 else None


def _meant(found: Operations | None, operation_name: str | None) -> list[tuple[str, str | None]]:
    return [each for each in found or () if operation_name is None or (each[1] and each[1] == operation_name)]


# The operations of a long document, found without parsing it: in a twentieth of the time.

# In the order of the alternatives: a quotation mark alone is a string without an end.
_TOKEN = re.compile(
    r'"""(?:[^"\\]|\\"""|\\|"(?!""))*+"""|"(?:[^"\\\n\r]|\\.)*+"|#[^\n\r]*+|[{}()\[\]]|"',
)
_BLANK = r"[ \t\n\r,\ufeff]"
_NAME = r"[_A-Za-z][_0-9A-Za-z]*+"
_HEAD = re.compile(
    rf"{_BLANK}*+(?:(?P<kind>query|mutation|subscription)\b(?:{_BLANK}++(?P<name>{_NAME}))?"
    rf"|fragment{_BLANK}++{_NAME}{_BLANK}++on{_BLANK}++{_NAME})"
    rf"{_BLANK}*+(?:@{_BLANK}*+{_NAME}{_BLANK}*+)*+",
    re.ASCII,
)
_NOTHING = re.compile(rf"{_BLANK}*+")


def outline(document: str) -> tuple[tuple[str, str | None], ...] | None:
    """Type and name of each operation; None where it is no document of operations and fragments alone.

    What stands within the braces is not looked at: a document that a server would refuse may pass.
    """
    found: list[tuple[str, str | None]] = []
    head, depth, last = "", 0, 0
    for token in _TOKEN.finditer(document):
        if not depth:
            head += document[last : token.start()]
        last = token.end()
        match token[0][0]:
            case "#":
                head += "" if depth else "\n"
            case '"':
                if not depth or token[0] == '"':
                    return None  # no text stands between definitions but that of types
            case "{" if not depth:
                operation = _operation(head)
                if operation is None:
                    return None
                found += operation
                head, depth = "", 1
            case "{" | "(" | "[":
                head += " "
                depth += 1
            case _:
                depth -= 1
                if depth < 0:
                    return None
    rest = head + document[last:]
    return tuple(found) if not depth and _NOTHING.fullmatch(rest) else None


def _operation(head: str) -> list[tuple[str, str | None]] | None:
    """What begins here: an operation, or none (a fragment); None if it is neither."""
    if _NOTHING.fullmatch(head):
        return [("query", None)]
    found = _HEAD.fullmatch(head)
    if found is None:
        return None
    return [(found["kind"], found["name"])] if found["kind"] else []
