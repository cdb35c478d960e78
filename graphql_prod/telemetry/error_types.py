"""What went wrong with a call, in words for spans and metrics."""

from __future__ import annotations

import asyncio
import re
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, NamedTuple

from aiographql.client import GraphQLRequestException
from opentelemetry.trace import Status, StatusCode

from graphql_prod.errors import HTTPStatusError
from graphql_prod.telemetry.documents import NAME_LIMIT, OTHER
from graphql_prod.texts.quoting import quoted

if TYPE_CHECKING:
    from opentelemetry.trace import Span

    from graphql_prod.telemetry.instruments import Instruments

TYPE, NAME, DOCUMENT, HASH, ERROR = (
    "graphql.operation.type",
    "graphql.operation.name",
    "graphql.document",
    "graphql.document.hash",
    "error.type",
)
ADDRESS, PORT = "server.address", "server.port"

ERROR_EVENT, ERROR_COUNT, ERROR_CODE, ERROR_PATH = (
    "graphql.error",
    "graphql.error.count",
    "graphql.error.code",
    "graphql.error.path",
)
SHOWN_ERRORS = 10
"""Errors of an answer that become events: the conventions' figure."""
SHOWN_PATH = 32
"""Segments of an error's path that are shown."""

GRAPHQL_ERROR = "GraphQLError"
"""The server answered, with errors; the first of them carries no code."""
CODE_LIMIT = 64
"""Characters of a code in spans: the contract's figure."""

_STATUSES = frozenset(map(int, HTTPStatus))

_is_name = re.compile(r"[_A-Za-z][_0-9A-Za-z]{0,99}").fullmatch


def end_span(span: Span, kind: ErrorType | None, errors: list[Any]) -> None:
    # The type only: texts of errors may quote what a server or a user wrote.
    if kind is not None and span.is_recording():
        if errors:
            _tell_errors(span, errors)
        span.set_attribute(ERROR, kind.word if kind.fixed else quoted(kind.word, CODE_LIMIT))
        span.set_status(Status(StatusCode.ERROR))
    span.end()


def _tell_errors(span: Span, errors: list[Any]) -> None:
    """The first errors of an answer: their codes and paths. Their messages may quote variables."""
    span.set_attribute(ERROR_COUNT, len(errors))
    for error in errors[:SHOWN_ERRORS]:
        known: dict[str, Any] = {}
        code = _code([error])
        if code is not None:
            known[ERROR_CODE] = quoted(code, CODE_LIMIT)
        path = error.get("path") if isinstance(error, dict) else None
        if isinstance(path, list):
            known[ERROR_PATH] = [_segment(each) for each in path[:SHOWN_PATH]]
        span.add_event(ERROR_EVENT, known)


def _segment(part: object) -> str:
    """A part of an error's path: a name of the document, or an index; a server can write anything."""
    if isinstance(part, int) and not isinstance(part, bool):
        return str(part) if -(10**9) < part < 10**9 else OTHER
    return part if isinstance(part, str) and _is_name(part) else OTHER


def errors_of(error: BaseException | None, answer: Any) -> list[Any]:
    """The errors of the answer that ended a call, returned or raised; none where there is no such answer."""
    if error is not None:
        answer = error.response if isinstance(error, GraphQLRequestException) else None
    json = getattr(answer, "json", None)
    errors = json.get("errors") if isinstance(json, dict) else None
    return errors if isinstance(errors, list) else []


class ErrorType(NamedTuple):
    """A word for what went wrong.

    :ivar fixed: whether there are only so many of it; False for a code that a server made up.
    """

    word: str
    fixed: bool = True


def error_type(error: BaseException | None, answer: Any) -> ErrorType | None:
    """What went wrong; None if nothing did.

    The code of the first error of an answer, also of one that was raised; else a status; else a class's name.
    """
    if error is None:
        json = getattr(answer, "json", None)
        errors = json.get("errors") if isinstance(json, dict) else None
        return of_errors(errors) if errors else None
    if isinstance(error, GraphQLRequestException):
        json = getattr(error.response, "json", None)
        code = _code(json.get("errors")) if isinstance(json, dict) else None
        if code is not None:
            return ErrorType(code, fixed=False)
    if isinstance(error, HTTPStatusError):
        # A server can make up nine hundred of them.
        return ErrorType(str(error.status) if error.status in _STATUSES else OTHER)
    if isinstance(error, asyncio.CancelledError):
        return ErrorType("cancelled")
    return ErrorType(type(error).__name__[:NAME_LIMIT])


def metric_word(instruments: Instruments, kind: ErrorType) -> str:
    """The kind as metrics carry it: of the codes that a server makes up only so many."""
    return kind.word if kind.fixed else instruments.code(kind.word)


def of_errors(errors: object) -> ErrorType:
    """The kind of an answer with errors."""
    code = _code(errors)
    return ErrorType(GRAPHQL_ERROR) if code is None else ErrorType(code, fixed=False)


def _code(errors: object) -> str | None:
    """The code of the first error, if it has one."""
    first = errors[0] if isinstance(errors, list) and errors else None
    extensions = first.get("extensions") if isinstance(first, dict) else None
    code = extensions.get("code") if isinstance(extensions, dict) else None
    return code if isinstance(code, str) and code else None
