"""Small decisions of the attempt loop: what an attempt that has ended is, and what it says."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus
from graphql_prod.sessions.exchange import Exchange

if TYPE_CHECKING:
    from aiographql.client import GraphQLResponse as StockResponse

    from graphql_prod.calls.call import AskedAdmission, Call
    from graphql_prod.credentials import Credentials, Given


def tell_of_health(asked: AskedAdmission, attempt: AttemptOutcome | None, ill: bool) -> bool:
    """What an attempt that was no clean success says of the upstream; whether the call has failed so far."""
    if attempt is None or attempt.send_status is SendStatus.INVALID:
        asked.succeeded()
        return ill
    if attempt.send_status is SendStatus.FINAL or attempt.reason == "pool timeout":
        asked.abandoned()
        return ill
    if attempt.send_status is SendStatus.ANSWERED and (attempt.status or 0) < 500:
        asked.succeeded()
        return ill
    asked.failed(first=not ill)
    return True


def note_answer(call: Call, credentials: Credentials, given: Given) -> None:
    """Credentials were good: what was refused before may be refused anew."""
    request = call.request
    if request is not None:
        scope = credentials.scope(given)
        credentials.renewals.answered(request.query, request.operationName, given.generation, scope)


def is_clean(response: StockResponse, call: Call) -> bool:
    """The short way out, for data without errors under a success status."""
    json, exchange = response.json, call.exchange
    return (
        type(json) is dict  # a transport of the caller's may give anything
        and type(json.get("data")) is dict
        and "errors" not in json
        and (exchange is None or exchange.status is None or exchange.status < 300)
    )


def exchange_of(call: Call) -> Exchange:
    """The attempt that is under way, or an empty one."""
    return call.exchange or Exchange()


def end_of(attempt: AttemptOutcome) -> StockResponse:
    """What the stock client would give: the answer if there is one, else the error."""
    error = attempt.error
    if error is not None:
        try:
            raise error
        finally:
            del error, attempt  # the traceback of the error holds this frame
    assert attempt.response is not None  # noqa: S101 -- a record without an error has an answer
    return attempt.response
