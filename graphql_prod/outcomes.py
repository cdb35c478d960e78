"""What an attempt came to: a record for the retry table, and an error for people."""

from __future__ import annotations

from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLRequestException, GraphQLResponse
from aiographql.client.exceptions import GraphQLTransportException
from multidict import CIMultiDict

from graphql_prod import faults, renewals
from graphql_prod.config import target_of
from graphql_prod.documents import Operation
from graphql_prod.errors import (
    HTTPStatusError,
    InvalidResponseError,
    RequestTimeoutError,
    TransportError,
)
from graphql_prod.retry import Attempt, Reach, retry_after

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphql_prod.call import Call
    from graphql_prod.exchange import Exchange
    from graphql_prod.renewals import Refusal

EXCERPT = 200

_HINTS = {
    401: "Check the credentials.",
    403: "Check the credentials and what they allow.",
    404: "Check the endpoint's path.",
    405: "Check the endpoint's path and the method.",
    407: "Check the proxy's credentials.",
    413: "Send less, or raise the limit of the proxy in between.",
    415: "Check the Content-Type header.",
    429: "Call less often, or put 429 into retry.statuses.",
}


def is_unauthenticated(attempt: Attempt | None, response: GraphQLResponse | None, call: Call) -> bool:
    """True when the server refused the credentials: with 401, or with an error code that says so.

    A mutation that gave data may have done a part of its work: it is not taken for refused.
    """
    if attempt is not None and attempt.status == 401:
        return True
    answer = response or (attempt and attempt.response)
    if not answer or not is_answer(answer.json) or not answer.json.get("errors"):
        return False
    if answer.json.get("data") is not None and call.operation is not Operation.QUERY:
        return False
    codes = (_code(error) for error in answer.json["errors"])
    return any(isinstance(code, str) and code in call.settings.auth_error_codes for code in codes)


def refusal_of(attempt: Attempt | None, response: GraphQLResponse | None, call: Call) -> Refusal:
    """What an answer refuses that is :func:`is_unauthenticated`."""
    request, answer = call.request, response or (attempt and attempt.response)
    query, name = ("", None) if request is None else (request.query, request.operationName)
    if not answer or (attempt is not None and attempt.status == 401):
        return renewals.of_status(query, name)
    codes = call.settings.auth_error_codes
    errors = (
        error for error in answer.json["errors"] if isinstance(code := _code(error), str) and code in codes
    )
    return renewals.of_errors(errors, query, name)


def is_answer(json: Any) -> bool:
    """True for an object with ``data`` (an object or null) or ``errors`` (a list of objects)."""
    if not isinstance(json, dict) or not ("data" in json or "errors" in json):
        return False
    data, errors = json.get("data"), json.get("errors")
    return (data is None or isinstance(data, dict)) and (
        errors is None or (isinstance(errors, list) and all(isinstance(error, dict) for error in errors))
    )


def of_exception(error: Exception, exchange: Exchange, call: Call, host: str) -> Attempt:
    """The record of an attempt that raised. Marks the call as sent where it may have been."""
    if isinstance(error, GraphQLRequestException):
        call.sent = True
        return _of_refusal(error, exchange, call, host)
    status = faults.status_of(error)
    if status is not None:
        return _of_raised_status(error, *status, exchange, call, host)
    fault = faults.classify(error, sent=exchange.sent)
    exchange.sent = fault.sent
    call.sent = call.sent or fault.sent
    return Attempt(reach=fault.reach, reason=fault.reason, error=_translated(error, fault, call, host))


def of_answer(response: GraphQLResponse, exchange: Exchange, call: Call, host: str) -> Attempt | None:
    """The record of an attempt that was answered, or None if the answer is as good as any."""
    call.sent = True
    status = exchange.status
    if not is_answer(response.json):
        return Attempt(
            Reach.INVALID,
            "no GraphQL answer",
            status,
            error=_invalid(response, exchange, call, host),
        )
    codes = _codes(response.json)
    if codes is None and (status is None or status < 300):
        return None
    return Attempt(
        Reach.ANSWERED,
        reason_of(status) if status is not None and status >= 300 else "error code",
        status,
        codes,
        retry_after(exchange.headers),
        response=response,
    )


def _codes(json: dict[str, Any]) -> frozenset[str] | None:
    errors = json.get("errors")
    if not errors or json.get("data") is not None:
        return None
    codes = [code for error in errors if isinstance(code := _code(error), str)]
    return frozenset(codes) if len(codes) == len(errors) else None


def _code(error: dict[str, Any]) -> object:
    extensions = error.get("extensions")
    return extensions.get("code") if isinstance(extensions, dict) else None


def _of_refusal(error: GraphQLRequestException, exchange: Exchange, call: Call, host: str) -> Attempt:
    status = exchange.status
    if status is None or type(error) is not GraphQLRequestException:
        # A custom transport's: it alone knows what happened, and its exception says it.
        return Attempt(Reach.FINAL, "refused", status, error=error)
    return _of_status(error, status, error.response, exchange, call, host)


def _of_raised_status(
    error: Exception,
    status: int,
    headers: Mapping[str, str],
    exchange: Exchange,
    call: Call,
    host: str,
) -> Attempt:
    """A caller's session raised for the status (``raise_for_status``, an event hook), and read no body."""
    call.sent = True
    exchange.headers = headers
    response = GraphQLResponse(request=call.request or "", json={})
    return _of_status(error, status, response, exchange, call, host)


def _of_status(
    error: Exception,
    status: int,
    response: GraphQLResponse,
    exchange: Exchange,
    call: Call,
    host: str,
) -> Attempt:
    wait = retry_after(exchange.headers)
    translated = HTTPStatusError(
        _status_text(status, exchange, call, host),
        response=response,
        status=status,
        headers=CIMultiDict(exchange.headers.items()),
        retry_after=wait,
    )
    translated.__cause__ = error
    return Attempt(Reach.ANSWERED, reason_of(status), status, retry_after=wait, error=translated)


def _status_text(status: int, exchange: Exchange, call: Call, host: str) -> str:
    if 300 <= status < 400:
        target = target_of(exchange.headers.get("Location", "")) or host
        return (
            f"{host} answered {reason_of(status)} {call.spent}: a redirect to {target}, "
            f"which is not followed. {call.consequence} If {target} is right, make it the endpoint."
        )
    hint = _HINTS.get(status, "Look into the log of the server, or of the proxy before it.")
    return (
        f"{host} answered {reason_of(status)} {call.spent}, without a GraphQL answer. "
        f"{call.consequence} {hint}"
    )


def reason_of(status: int | None) -> str:
    """The status with its phrase, for texts."""
    try:
        return f"{status} {HTTPStatus(status or 0).phrase}"
    except ValueError:
        return str(status)


def _invalid(response: GraphQLResponse, exchange: Exchange, call: Call, host: str) -> InvalidResponseError:
    content_type = exchange.headers.get("Content-Type")
    excerpt = exchange.body[: EXCERPT * 4].decode("utf-8", "replace")[:EXCERPT]
    shown = f" The body begins: {excerpt!r}" if excerpt else ""
    return InvalidResponseError(
        f"{host} answered {exchange.status or 'a success'} {call.spent} with a body "
        f"({content_type or 'no content type'}) that is no GraphQL answer. {call.consequence} "
        f"Look for a login page or a proxy in between.{shown}",
        response=response,
        status=exchange.status,
        content_type=content_type,
        excerpt=excerpt,
    )


def _translated(error: Exception, fault: faults.Fault, call: Call, host: str) -> Exception:
    if not faults.is_plain(error):
        return error
    text = f"{host} {fault.what}, {call.spent}. {call.consequence} {fault.hint}"
    translated: Exception = (
        RequestTimeoutError(text, phase=fault.phase) if fault.phase else TransportError(text)
    )
    wrapper = type(error) is GraphQLTransportException
    translated.__cause__ = (error.__cause__ if wrapper else None) or error
    return translated
