"""Facts put into words; whatever is printed of an attempt or an outcome is worded here."""

from __future__ import annotations

import signal
import textwrap
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl, quote, unquote, urlsplit

from aiographql.client import GraphQLRequestException, GraphQLResponse

from graphql_prod.demo.events import Events
from graphql_prod.demo.process import Work
from graphql_prod.errors import HTTPStatusError, InvalidResponseError, RequestTimeoutError
from graphql_prod.texts.quoting import quoted
from graphql_prod.urls import redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.demo.journal import Failed
    from graphql_prod.demo.outcome import Outcome

_REASONS = {
    "connect": "could not connect",
    "dns": "name not resolved",
    "attempt timeout": "attempt timed out",
    "read timeout": "no answer in time",
}
_FATES = {
    "silent empty data": "answered, not GraphQL",
    "silent end": "connection lost",
    "work lost": "connection lost",
}
_REACHES = {"unsent": "never sent", "ambiguous": "sent", "final": "given up"}


def arrival(requests: int, executions: int) -> str:
    """How far an attempt got, by what the server recorded of it."""
    if not requests:
        return "never arrived"
    return "ran on server" if executions else "reached server"


def reach(failed: Failed) -> str:
    """How far an attempt got, by what the client says of it."""
    return _REACHES.get(failed.reach, "answered")


def fate(failed: Failed) -> str:
    """What came back."""
    if failed.reason == "no GraphQL answer":
        return f"{failed.status}, not GraphQL"
    return _REASONS.get(failed.reason, failed.reason)


def last_fate(outcome: Outcome) -> str:
    """What came back on the last attempt, for which the client leaves no log record."""
    match outcome.error:
        case None:
            return _FATES.get(outcome.kind, "answered")
        case InvalidResponseError(status=status) | HTTPStatusError(status=status):
            return f"{status}, not GraphQL"
        case GraphQLRequestException():
            return "an error, not GraphQL"
        case RequestTimeoutError(phase=phase):
            return f"{phase} timed out"
    return "connection lost" if outcome.requests else "could not connect"


def decision(failed: Failed) -> str:
    """What the client does about it."""
    if failed.status == 401:
        return "asks for a new token, tries again"
    return (
        "gives up: retry budget spent" if failed.wait is None else f"waits {failed.wait:.2f} s, tries again"
    )


def ending(outcome: Outcome) -> str:
    """What the caller gets, in a few words."""
    if outcome.error is None:
        return f"{_verb(outcome)} {shown(outcome.result)}"
    flag = ", may_have_executed=True" if outcome.may_have_executed else ""
    return f"raises {type(outcome.error).__name__}{flag}"


def _verb(outcome: Outcome) -> str:
    if isinstance(outcome.result, Work):
        return f"{_exit(outcome.result)}:"
    if outcome.kind == "silent end":
        return "ends silently:"
    return "ends:" if isinstance(outcome.result, Events) else "returns"


def ended(outcome: Outcome, clean: Callable[[str], str] = str, limit: int = 110) -> str:
    """What the caller got, in a sentence, for the summary."""
    if outcome.kind == "silent empty data":
        return "SILENT EMPTY DATA: data is {}, no error"
    if outcome.kind == "silent end":
        return f"SILENT END: {shown(outcome.result)} of {outcome.result.end}, no error"
    if isinstance(outcome.result, Work):
        mark = "answer" if outcome.kind == "answer" else "WORK LOST"
        return f"{mark}: {shown(outcome.result)}; {_exit(outcome.result)}"
    if outcome.error is None:
        return shortened(clean(f"answer: {shown(outcome.result)}"), limit)
    return shortened(clean(f"{ending(outcome).removeprefix('raises ')}: {outcome.error}"), limit)


def shown(result: Any) -> str:
    """What a client returned."""
    if isinstance(result, Events):
        return _counted(result)
    if isinstance(result, Work):
        return f"{result.answered} of {result.calls} calls, {len(result.numbers)} of {result.sent} events"
    if not isinstance(result, GraphQLResponse):
        return str(result)
    if result.errors:
        return f"GraphQL errors: {result.errors[0].message}"
    return ", ".join(f"{key}={value!r}" for key, value in result.data.items()) or "{} (empty data)"


def _counted(events: Events) -> str:
    numbers = events.numbers
    text = ", ".join(map(str, numbers)) or "none"
    if len(numbers) > 2 and numbers == list(range(numbers[0], numbers[-1] + 1)):
        text = f"{numbers[0]} to {numbers[-1]}"
    gaps = len(events.gaps)
    return f"events {text}" + (f", {gaps} gap{'s'[: gaps > 1]} told" if gaps else "")


def _exit(work: Work) -> str:
    status = work.status or 0
    return f"killed by {signal.Signals(-status).name}" if status < 0 else f"exits with status {status}"


def shortened(text: str, limit: int) -> str:
    """The text on one line of at most so many characters."""
    return textwrap.shorten(text, limit, placeholder=" ...")


def cleaner(url: str) -> Callable[[str], str]:
    """Takes the URL's credentials, query and fragment out of a text, however it quotes them.

    What a terminal would obey is escaped: the text may be a server's.
    """
    secrets = sorted(_secrets(url), key=len, reverse=True)

    def clean(text: str) -> str:
        text = text.replace(url, redacted(url))
        for secret in secrets:
            text = text.replace(secret, "***")
        return quoted(text, len(text))

    return clean


def _secrets(url: str) -> set[str]:
    parts = urlsplit(url)
    found = {parts.netloc.rpartition("@")[0], parts.username, parts.password, parts.query, parts.fragment}
    found |= {value for _, value in parse_qsl(parts.query)}
    # What is shorter is no secret, but part of any text.
    texts = {unquote(text) for text in found if text and len(text) > 3}
    return texts | {quote(text, safe=safe) for text in texts for safe in ("", "=&+:@/")}
