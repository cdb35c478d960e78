"""What an attempt came to: a record for the retry table, and an error for people."""

from __future__ import annotations

from dataclasses import replace
from http import HTTPStatus
from typing import TYPE_CHECKING, Any

from aiographql.client import GraphQLRequestException
from aiographql.client import GraphQLResponse as StockResponse
from aiographql.client.exceptions import GraphQLTransportException

from graphql_prod import renewals
from graphql_prod.calls import faults
from graphql_prod.calls.advice import advice_of
from graphql_prod.calls.reading import flaw_of, read
from graphql_prod.calls.request_errors import is_request_error
from graphql_prod.calls.response import GraphQLResponse, answered
from graphql_prod.documents import Operation
from graphql_prod.errors import (
    HTTPStatusError,
    InvalidResponseError,
    RequestTimeoutError,
    TransportError,
)
from graphql_prod.headers import copied
from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus
from graphql_prod.resilience.retry.retry_after import retry_after
from graphql_prod.texts.quoting import quoted, words_of
from graphql_prod.urls import UNREADABLE, redirect_of, target_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from graphql_prod.calls.call import Call
    from graphql_prod.calls.fault_table import Fault
    from graphql_prod.renewals import CredentialsRefusal
    from graphql_prod.sessions.exchange import Exchange

EXCERPT = 200

LESS_OFTEN = "Call less often, or set throttling.mode to retry: it waits until the server allows the call."

_HINTS = {
    401: "Check the credentials.",
    403: "Check the credentials and what they allow.",
    404: "Check the endpoint's path.",
    405: "Check the endpoint's path and the method.",
    407: "Check the proxy's credentials.",
    413: "Send less, or raise the limit of the proxy in between.",
    415: "Check the Content-Type header.",
}


def is_unauthenticated(attempt: AttemptOutcome | None, response: StockResponse | None, call: Call) -> bool:
    """True when the server refused the credentials, and the call may be sent again with new ones.

    It refuses with 401, or with an error code that says so, under any status and media type. A mutation
    that is not marked is sent again only if the answer says that nothing of it ran.
    """
    json = body_of(attempt, response)
    refused = attempt is not None and attempt.status == 401
    if not refused and not has_code(json, call.settings.auth_error_codes):
        return False
    return call.operation is not Operation.MUTATION or nothing_ran(attempt, response)


def nothing_ran(attempt: AttemptOutcome | None, response: StockResponse | None) -> bool:
    """True when an answer that refuses says that no part of the operation was executed."""
    return not (attempt and attempt.unread) and is_request_error(body_of(attempt, response))


def body_of(attempt: AttemptOutcome | None, response: StockResponse | None) -> Any:
    """The JSON of an answer, returned or raised; None where there is none."""
    answer = response or (attempt and attempt.response)
    if answer is None and attempt is not None and isinstance(attempt.error, GraphQLRequestException):
        answer = attempt.error.response
    return answer and answer.json


def has_code(json: Any, codes: frozenset[str]) -> bool:
    """True for a GraphQL answer with an error that carries one of these codes."""
    if not is_answer(json):
        return False
    found = (_code(error) for error in json.get("errors") or ())
    return any(isinstance(code, str) and code in codes for code in found)


def refusal_of(
    attempt: AttemptOutcome | None, response: StockResponse | None, call: Call
) -> CredentialsRefusal:
    """What an answer refuses that is :func:`is_unauthenticated`."""
    request, codes = call.request, call.settings.auth_error_codes
    query, name = ("", None) if request is None else (request.query, request.operationName)
    json = body_of(attempt, response)
    if (attempt is not None and attempt.status == 401) or not has_code(json, codes):
        return renewals.of_status(query, name)
    errors = (error for error in json["errors"] if isinstance(code := _code(error), str) and code in codes)
    return renewals.of_errors(errors, query, name)


def is_answer(json: Any) -> bool:
    """True for an object with ``data`` (an object or null) or ``errors`` (a list of objects).

    Without ``data``, errors that are empty or null say nothing.
    """
    return isinstance(json, dict) and _shape_flaw(json) is None


def _shape_flaw(json: dict[str, Any]) -> str | None:
    """What keeps an object from being a GraphQL answer; None if nothing does."""
    data, errors = json.get("data"), json.get("errors")
    if data is not None and not isinstance(data, dict):
        return "its data is no object"
    if errors is not None and not (
        isinstance(errors, list) and all(isinstance(error, dict) for error in errors)
    ):
        return "its errors are no list of objects"
    if "data" in json or errors:
        return None
    return "it has no data and its errors are empty" if "errors" in json else "it has no data and no errors"


def of_exception(
    error: Exception,
    exchange: Exchange,
    call: Call,
    host: str,
    *,
    endpoint: str = "",
    given: bool = False,
    secrets: frozenset[str] = frozenset(),
) -> AttemptOutcome:
    """The record of an attempt that raised. Marks the call as sent where it may have been.

    :param endpoint: the URL that was asked, of which a redirect's target shows what is another.
    :param given: whether the session is the caller's.
    :param secrets: what is left out of a server's words.
    """
    if isinstance(error, GraphQLRequestException):
        call.sent = True
        return _of_refusal(error, exchange, call, host, endpoint, secrets)
    if isinstance(error, TypeError) and (exchange.status or 0) >= 300 and exchange.body:
        # The stock writes a refusal's JSON into its text, and its library cannot write all that is read.
        call.sent = True
        response = GraphQLResponse(request=call.request or "", json=_refused_json(exchange.body))
        return _of_status(error, exchange.status or 0, response, exchange, call, host, endpoint, secrets)
    status = faults.status_of(error)
    if status is not None:
        return _of_raised_status(error, *status, exchange, call, host, endpoint)
    fault = faults.classify(error, sent=exchange.sent)
    exchange.sent = fault.sent
    call.sent = call.sent or fault.sent
    advice = advice_of(fault.phase, call.settings.timeout, given=given)
    translated = _translated(error, fault, advice, call, host)
    return AttemptOutcome(send_status=fault.send_status, reason=fault.reason, error=translated, advice=advice)


def of_answer(response: StockResponse, exchange: Exchange, call: Call, host: str) -> AttemptOutcome | None:
    """The record of an attempt that was answered, or None if the answer is as good as any."""
    call.sent = True
    status = exchange.status
    if not is_answer(response.json):
        if status is not None and status >= 300:
            return _of_status(None, status, response, exchange, call, host)
        return AttemptOutcome(
            SendStatus.INVALID,
            "no GraphQL answer",
            status,
            retry_after=retry_after(exchange.headers),
            error=_invalid(response, exchange, call, host),
        )
    codes = _codes(response.json)
    if codes is None and (status is None or status < 300):
        return None
    return AttemptOutcome(
        SendStatus.ANSWERED,
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


def _of_refusal(
    error: GraphQLRequestException,
    exchange: Exchange,
    call: Call,
    host: str,
    endpoint: str,
    secrets: frozenset[str],
) -> AttemptOutcome:
    status = exchange.status
    if status is None or type(error) is not GraphQLRequestException:
        # A custom transport's: it alone knows what happened, and its exception says it.
        return AttemptOutcome(SendStatus.FINAL, "refused", status, error=error)
    return _of_status(error, status, error.response, exchange, call, host, endpoint, secrets)


def _refused_json(body: bytes) -> dict[str, Any]:
    try:
        found = read(body)
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _of_raised_status(
    error: Exception,
    status: int,
    headers: Mapping[str, str],
    exchange: Exchange,
    call: Call,
    host: str,
    endpoint: str,
) -> AttemptOutcome:
    """A caller's session raised for the status (``raise_for_status``, an event hook), and read no body."""
    call.sent = True
    exchange.headers = headers
    response = GraphQLResponse(request=call.request or "", json={})
    attempt = _of_status(error, status, response, exchange, call, host, endpoint)
    return replace(attempt, unread="json" in headers.get("Content-Type", ""))


def _of_status(
    error: Exception | None,
    status: int,
    response: StockResponse,
    exchange: Exchange,
    call: Call,
    host: str,
    endpoint: str = "",
    secrets: frozenset[str] = frozenset(),
) -> AttemptOutcome:
    wait = retry_after(exchange.headers)
    words = words_of(response.json, secrets)
    translated = HTTPStatusError(
        _status_text(status, words, exchange, call, host, endpoint),
        response=answered(response, status, exchange.headers, call.attempts, call.started),
        status=status,
        headers=copied(exchange.headers),
        retry_after=wait,
    )
    translated.__cause__ = error
    return AttemptOutcome(
        SendStatus.ANSWERED,
        reason_of(status),
        status,
        retry_after=wait,
        error=translated,
        unread=not response.json and _may_hold_data(exchange.body),
    )


def _may_hold_data(body: bytes) -> bool:
    """Whether a body that nobody could read may be an answer with data: in UTF-16 too, or with escapes."""
    text = body.replace(b"\0", b"")
    return b'"data"' in text or b"\\u00" in text


def _status_text(
    status: int, words: str | None, exchange: Exchange, call: Call, host: str, endpoint: str
) -> str:
    if 300 <= status < 400:
        location = exchange.headers.get("Location", "")
        target = redirect_of(endpoint, location) if endpoint else target_of(location)
        if target is None and location and endpoint:
            return (
                f"{host} answered {reason_of(status)} {call.spent}: a redirect to the same address, which is "
                f"not followed. {call.consequence} Look at the proxy before the server: it may want a cookie."
            )
        if not location or target == UNREADABLE:
            return (
                f"{host} answered {reason_of(status)} {call.spent}: a redirect to "
                f"{UNREADABLE if location else 'no address'}, which is not followed. {call.consequence} "
                "Look into the log of the server, or of the proxy before it."
            )
        target = target or host
        return (
            f"{host} answered {reason_of(status)} {call.spent}: a redirect to {target}, "
            f"which is not followed. {call.consequence} If {target} is right, make it the endpoint."
        )
    if words is not None:
        hint = _hint_for(status, call, "See what the server means by it.")
        return (
            f"{host} answered {reason_of(status)} {call.spent} and says: {words}. {call.consequence} {hint}"
        )
    hint = _hint_for(status, call, "Look into the log of the server, or of the proxy before it.")
    return (
        f"{host} answered {reason_of(status)} {call.spent}, without a GraphQL answer. "
        f"{call.consequence} {hint}"
    )


def _hint_for(status: int, call: Call, otherwise: str) -> str:
    return _less_often(call) if status == 429 else _HINTS.get(status, otherwise)


def _less_often(call: Call) -> str:
    if call.operation is not Operation.MUTATION and 429 in call.settings.backoff.policy.statuses:
        return "Call less often."
    return LESS_OFTEN


def reason_of(status: int | None) -> str:
    """The status with its phrase, for texts."""
    try:
        return f"{status} {HTTPStatus(status or 0).phrase}"
    except ValueError:
        return str(status)


def _invalid(response: StockResponse, exchange: Exchange, call: Call, host: str) -> InvalidResponseError:
    content_type = exchange.headers.get("Content-Type")
    excerpt = exchange.body[: EXCERPT * 4].decode("utf-8", "replace")[:EXCERPT]
    shown = f" The body begins: {excerpt!r}" if excerpt else ""
    flaw, hint = _flaw(response.json, exchange.body, content_type)
    return InvalidResponseError(
        f"{host} answered {exchange.status or 'a success'} {call.spent} with a body "
        f"({quoted(content_type or 'no content type')}) {flaw}. {call.consequence} {hint}{shown}",
        response=answered(response, exchange.status, exchange.headers, call.attempts, call.started),
        status=exchange.status,
        content_type=content_type,
        excerpt=excerpt,
        retry_after=retry_after(exchange.headers),
    )


def _flaw(json: object, body: bytes, media: str | None) -> tuple[str, str]:
    """Why a body is no answer, and what to do about it."""
    if json:
        why = _shape_flaw(json) if isinstance(json, dict) else "it is no object"
        return f"that is no GraphQL answer: {why}", "Check that the endpoint speaks GraphQL."
    if "html" in (media or "").lower() or body.lstrip()[:1] == b"<":
        return "that is no GraphQL answer", "Look for a login page or a proxy in between."
    if media is None and not body:
        return "that is no GraphQL answer", "Look at what the transport, or the server, gives."
    flaw = flaw_of(body)
    if flaw is not None:
        return flaw, "Look into the log of the server, or of the proxy before it."
    why = "it is no object"
    if body.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] == b"{":
        why = "the serializer cannot read it" if _refused_json(body) else "it has no data and no errors"
    return f"that is no GraphQL answer: {why}", "Check that the endpoint speaks GraphQL."


def _translated(error: Exception, fault: Fault, advice: str, call: Call, host: str) -> Exception:
    if not faults.is_plain(error):
        return error
    text = f"{host} {fault.what}, {call.spent}. {call.consequence} {fault.hint[:-1]}{advice}."
    translated: Exception = (
        RequestTimeoutError(text, phase=fault.phase) if fault.phase else TransportError(text)
    )
    wrapper = type(error) is GraphQLTransportException
    translated.__cause__ = (error.__cause__ if wrapper else None) or error
    return translated
