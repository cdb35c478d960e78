"""Whether to retry: one pure function over what happened."""

from __future__ import annotations

import enum
from dataclasses import dataclass
from typing import TYPE_CHECKING

from graphql_prod.documents import Operation

if TYPE_CHECKING:
    from aiographql.client import GraphQLResponse

    from graphql_prod.resilience.retry.policy import RetryPolicy


class SendStatus(enum.Enum):
    """How far an attempt got."""

    UNSENT = "unsent"
    """The server cannot have seen it."""
    AMBIGUOUS = "ambiguous"
    """It was sent, or may have been, and no whole answer came back."""
    ANSWERED = "answered"
    """An answer came: an HTTP status, perhaps a GraphQL answer with it."""
    INVALID = "invalid"
    """A success status without a GraphQL answer."""
    FINAL = "final"
    """It can never succeed as it is."""


@dataclass(frozen=True, slots=True)
class AttemptOutcome:
    """What is known of a failed attempt; the whole of what :func:`should_retry` looks at."""

    send_status: SendStatus
    reason: str
    """A few fixed words for logs and metrics."""
    status: int | None = None
    codes: frozenset[str] | None = None
    """The codes of an answer without data, at least one; None if it has data or an error has no code."""
    retry_after: float | None = None
    error: Exception | None = None
    """What will be raised if there is no further attempt; None if the answer will be returned."""
    response: GraphQLResponse | None = None
    unread: bool = False
    """True for a body that may be a GraphQL answer, and that nobody read or could read."""
    refused_for: float | None = None
    """Seconds until the server, which says that calls come too fast, allows another one."""
    advice: str = ""
    """The part of the error's text that names a limit of the attempt; not said when another one ends it."""


def should_retry(attempt: AttemptOutcome, operation: Operation, policy: RetryPolicy) -> bool:
    """The retry table. Number of attempts, time, budget and tenacity's predicate come after it."""
    repeatable = operation is not Operation.MUTATION
    match attempt.send_status:
        case SendStatus.UNSENT:
            return repeatable or policy.mutations != "never"
        case SendStatus.AMBIGUOUS | SendStatus.INVALID:
            return repeatable
        case SendStatus.ANSWERED:
            refused = attempt.codes is not None and attempt.codes <= policy.error_codes
            return repeatable and (attempt.status in policy.statuses or refused)
        case SendStatus.FINAL:
            return False
