"""What servers put into errors and events: their words, and what is no GraphQL answer. No I/O."""

from __future__ import annotations

import json
import keyword
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLResponse

from graphql_prod.calls.outcomes import EXCERPT, is_answer
from graphql_prod.errors import InvalidResponseError
from graphql_prod.texts.quoting import quoted

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiographql.client import GraphQLRequest

NO_WORDS = "The server ended the subscription with an error, and gave no reason."

# Where an error that has no message has its words, the best first.
_WORDS = ("message", "error", "reason", "detail", "description", "error_message", "errorType", "code")
_DEEPEST = 4


def errors_in(payload: object) -> list[dict[str, Any]]:
    """The errors in a payload of any shape, each with a message; none where it says nothing."""
    return [_error(each) for each in _single(payload, _DEEPEST)]


def words_of(payload: object) -> str:
    """What a payload of any shape says, in at most 200 characters; empty where it says nothing."""
    return "; ".join(filter(None, (error["message"] for error in errors_in(payload))))[:EXCERPT]


def _single(payload: object, depth: int) -> list[object]:
    """The errors one by one: of a list, of a list within an object under ``errors``, of one alone."""
    if payload is None or payload in ({}, [], ""):
        return []
    if isinstance(payload, list) and depth:
        return [error for each in payload for error in _single(each, depth - 1)]
    if isinstance(payload, dict) and depth and "errors" in payload and "message" not in payload:
        return _single(payload["errors"], depth - 1)
    return [payload]


def _error(given: object) -> dict[str, Any]:
    if not isinstance(given, dict):
        return {"message": given if isinstance(given, str) else _text(given)}
    error = given if all(map(_is_name, given)) else _renamed(given)
    return error if isinstance(error.get("message"), str) else {**error, "message": _message(error)}


def _message(error: Mapping[str, Any]) -> str:
    said = (error[name] for name in _WORDS if error.get(name))
    found = next(said, None) or error
    return found if isinstance(found, str) else _text(found)


def _is_name(key: str) -> bool:
    return key.isidentifier() and not keyword.iskeyword(key)


def _renamed(error: Mapping[str, Any]) -> dict[str, Any]:
    """Without the names that the stock client's errors cannot have: those go to ``extensions``."""
    named = {key: value for key, value in error.items() if _is_name(key)}
    others = {key: value for key, value in error.items() if not _is_name(key)}
    extensions = named.get("extensions")
    return {**named, "extensions": {**others, **(extensions if isinstance(extensions, dict) else {})}}


def _text(value: object) -> str:
    return json.dumps(value, ensure_ascii=False, default=str)


def is_event(payload: object) -> bool:
    """Whether the payload of an event is a GraphQL answer, as over HTTP."""
    return is_answer(payload) and payload != {"errors": []}


def invalid_event(host: str, request: GraphQLRequest, payload: object) -> InvalidResponseError:
    """What a subscription ends with whose event is no GraphQL answer."""
    excerpt = quoted(_text(payload), EXCERPT)
    return InvalidResponseError(
        f"{host} sent an event that is no GraphQL answer, and the subscription was ended. Look at what the "
        f"server, or a gateway before it, sends. The event's payload begins: {excerpt}",
        response=GraphQLResponse(request=request, json={}),
        status=None,
        content_type=None,
        excerpt=excerpt,
    )
