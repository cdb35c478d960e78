"""Variables that are no JSON: named, and refused before anything is sent.

Whatever serializer is used says no in its own words and without a name. orjson even sends NaN as null.
"""

from __future__ import annotations

from math import isfinite
from typing import TYPE_CHECKING, Any

from aiographql.client import DefaultGraphQLCodec, GraphQLClientException
from aiographql.client.exceptions import GraphQLCodecException

if TYPE_CHECKING:
    from collections.abc import Mapping

    from aiographql.client import GraphQLRequest
    from aiographql.client.serializer import GraphQLSerializer


class UnwritableError(GraphQLCodecException, TypeError, ValueError):
    """A request cannot be written as JSON; also what the serializers raise for it."""


_SIMPLE = frozenset({str, int, bool, type(None), bytes})
# A value that is nested deeper than this is for the serializer to refuse.
_DEPTH = 200
_CODEC = DefaultGraphQLCodec()


def refuse_unbounded(variables: Mapping[str, Any], host: str) -> None:
    """Nothing, unless a number among them is NaN or infinite, for which JSON has no word.

    :raises UnwritableError: naming the variable.
    """
    for name, value in variables.items():
        if type(value) not in _SIMPLE and _is_unbounded(value, _DEPTH):
            raise _refused(host, f"variable {name!r}", "it holds NaN or an infinite number")


def _is_unbounded(value: object, depth: int) -> bool:
    if isinstance(value, float):
        return not isfinite(value)
    if not depth:
        return False
    if isinstance(value, dict):
        value = value.values()
    elif not isinstance(value, list | tuple):
        return False
    return any(type(each) not in _SIMPLE and _is_unbounded(each, depth - 1) for each in value)


def unwritable(
    error: Exception, request: GraphQLRequest, serializer: GraphQLSerializer, host: str
) -> UnwritableError | None:
    """The error of a request that cannot be written as JSON; None if that is not what was wrong with it."""
    if isinstance(error, GraphQLClientException) or not isinstance(error, _UNWRITABLE):
        return None
    codec = request.codec or _CODEC
    for what, values in (("variable", request.variables), ("extension", request.extensions)):
        for name, value in values.items():
            if (reason := _wrong(serializer, codec, value)) is not None:
                return _refused(host, f"{what} {name!r}", reason)
    if (reason := _wrong(serializer, codec, request.query)) is not None:
        return _refused(host, "the document", reason)
    return None


_UNWRITABLE = (TypeError, ValueError, RecursionError, OverflowError)


def require_writable(request: GraphQLRequest, serializer: GraphQLSerializer, host: str) -> None:
    """Nothing, unless a request cannot be written as JSON.

    :raises UnwritableError: naming the variable.
    """
    refuse_unbounded(request.variables, host)
    try:
        text = serializer.dumps(request.payload())
        if isinstance(text, str):
            text.encode()
    except _UNWRITABLE as error:
        refused = unwritable(error, request, serializer, host)
        if refused is None:
            raise
    else:
        return
    raise refused


def _wrong(serializer: GraphQLSerializer, codec: Any, value: object) -> str | None:
    try:
        text = serializer.dumps(codec.encode(value, include_primitives=False))
        if isinstance(text, str):
            text.encode()
    except UnicodeError:
        return "it holds a lone surrogate"
    except RecursionError:
        return "it holds itself, or is nested too deeply"
    except _UNWRITABLE as error:
        return _reason(error)
    return None


def _reason(error: Exception) -> str:
    """The serializer's words, but for those that may quote the value."""
    words = str(error)
    lowered = words.lower()
    if "surrogate" in lowered:
        return "it holds a lone surrogate"
    if "circular" in lowered or "recursion" in lowered:
        return "it holds itself, or is nested too deeply"
    if "serializable" in lowered or "key" in lowered or "integer" in lowered or "range" in lowered:
        return words[:100]
    return f"a {type(error).__name__}"


def _refused(host: str, what: str, reason: str) -> UnwritableError:
    return UnwritableError(
        f"Nothing was sent to {host}: {what} cannot be written as JSON: {reason}. "
        "Convert it first, or give the client a codec or serializer that does."
    )
