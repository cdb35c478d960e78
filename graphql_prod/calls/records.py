"""What log records say of an attempt."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from graphql_prod.documents import operation_name
from graphql_prod.runtime import logs
from graphql_prod.telemetry.documents import NAME_LIMIT

if TYPE_CHECKING:
    from graphql_prod.calls.call import Call
    from graphql_prod.resilience.retry.decision import AttemptOutcome


def name_of(call: Call) -> str | None:
    """The name of the operation that a call sends; None where it has none."""
    request = call.request
    return None if request is None else request.operationName or operation_name(request.query)


def named(call: Call) -> str:
    """The operation's name, for the text of a record; empty where it has none."""
    name = name_of(call)
    return f" of {name[:NAME_LIMIT]}" if name else ""


def facts_of(host: str, call: Call, attempt: AttemptOutcome, **more: Any) -> dict[str, dict[str, Any]]:
    """The facts beside the text."""
    return logs.facts(
        host=host,
        operation_name=name_of(call),
        attempt=call.attempts,
        reason=attempt.reason,
        status=attempt.status,
        reach=attempt.send_status.value,
        **more,
    )
