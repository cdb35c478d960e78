"""Which limit ended a call, and which setting moves it: said of the one that did, and of no other."""

from __future__ import annotations

from typing import TYPE_CHECKING

from graphql_prod.errors import CallError

if TYPE_CHECKING:
    from graphql_prod.errors import Phase
    from graphql_prod.resilience.retry.backoff import Backoff
    from graphql_prod.resilience.retry.decision import AttemptOutcome
    from graphql_prod.resilience.timeouts import TimeoutPolicy

_SESSION = "the session's own limit"


def advice_of(phase: Phase | None, limits: TimeoutPolicy, *, given: bool) -> str:
    """Which setting leaves an attempt more time; continues a hint, empty where there is none.

    :param given: whether the session is the caller's, whose own limits hold where none is named.
    """
    if phase is None or phase == "total":
        return ""
    if phase == "pool":
        return f", or raise pool.requests{f' or {_SESSION}' if given else ''}"
    value: float | None = getattr(limits, phase)
    if given and (value is None or phase not in limits.named):
        return f", or raise {_SESSION}"
    if value is None:
        return ""
    return f", or raise timeout.{phase} (now {value:g} s){f' or {_SESSION}' if given else ''}"


def explain(attempt: AttemptOutcome, why: str | None, note: str | None = None) -> None:
    """Let the error say what ended the attempts.

    :param note: the details, for tracebacks; where there are any, a limit of the call ended the attempts, and
        the advice to give the last of them more time is taken back.
    """
    error = attempt.error
    if why is None or error is None:
        return
    if isinstance(error, CallError) and len(error.args) == 1 and isinstance(error.args[0], str):
        text = error.args[0]
        if note is not None and attempt.advice:
            text = text.replace(attempt.advice, "")
        error.args = (f"{text} {why}",)
    if note is not None:
        error.add_note(note)


def corrected(error: Exception | None, said: str, true: str) -> None:
    """Let the error say something else of a mutation than it did."""
    if isinstance(error, CallError) and len(error.args) == 1 and isinstance(error.args[0], str):
        error.args = (error.args[0].replace(said, true),)


def used_up(backoff: Backoff) -> str | None:
    """What to say when no further attempt is due; None for who asked for one attempt only."""
    if backoff.narrows:
        return "The given tenacity object allows no further attempt."
    allowed = backoff.policy.attempts
    return None if allowed == 1 else f"The {allowed} attempts that retry.attempts allows are used up."


def no_room(total: float | None) -> str:
    """What to say when the next wait is longer than the time that is left."""
    limit = "timeout.total" if total is None else f"timeout.total ({total:g} s)"
    return f"{limit} leaves no time for a retry."


def too_long(most: float) -> str:
    """What to say when the server asks to wait longer than a call may."""
    return f"The server asks to wait longer than throttling.max_wait ({most:g} s)."


BUDGET_SPENT = "The retry budget (retry.budget) leaves no further attempt."
NOT_ADMITTED = "Admission holds further attempts back, because the upstream is ill."
CLOSING = "The client is closing and retries nothing."
