"""The demo against a real server: a question that every GraphQL server can answer, asked by both clients."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from graphql_prod.config import ProductionConfig
from graphql_prod.demo import words
from graphql_prod.demo.journal import listening
from graphql_prod.demo.outcome import measured
from graphql_prod.demo.stage import make
from graphql_prod.errors import ConfigurationError
from graphql_prod.resilience.timeouts import INTERACTIVE
from graphql_prod.urls import host_of, http_url, redacted

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.demo.journal import Failed
    from graphql_prod.demo.outcome import Outcome
    from graphql_prod.demo.process import Cast
    from graphql_prod.demo.screen import Screen
    from graphql_prod.sessions.policy import Backend

QUESTION = "{ __typename }"
CALLS = 3
PATIENCE = 5.0

Asked = tuple["Outcome", str]
"""How a call ended, and after how many attempts, as far as anybody says."""


async def ask(screen: Screen, url: str, backend: Backend) -> int:
    """Ask the server a few times through each client; returns the exit status.

    :raises ConfigurationError: the URL cannot be used.
    """
    url = _usable(url)
    clean = words.cleaner(url)
    screen.say(f"Asking {redacted(url)} {CALLS} times: {QUESTION}", "bold")
    screen.say(f"Limits of a call: {INTERACTIVE.total:g} s in all, {INTERACTIVE.attempt:g} s an attempt.")
    ours = await _ask_all(screen, "graphql_prod", url, backend)
    stock = await _ask_all(screen, "stock", url, backend)
    _summarize(screen, clean, ours, stock)
    return _verdict(host_of(url), clean, ours)


def _usable(url: str) -> str:
    try:
        return http_url(url)
    except ConfigurationError:
        if "@" not in url:
            raise
    # Where a password is not escaped nobody can say which part of the URL it is.
    raise ConfigurationError(
        "the endpoint cannot be used; it is not shown, for it holds credentials. "
        "It must begin with http:// or https://, and its password be percent-encoded."
    )


async def _ask_all(screen: Screen, cast: Cast, url: str, backend: Backend) -> list[Asked]:
    """Calls one after another; the first that gets no good answer is the last."""
    asked: list[Asked] = []
    async with make(cast, url, backend, ProductionConfig(timeout=INTERACTIVE)) as client:
        while len(asked) < CALLS and all(_ready(outcome) for outcome, _ in asked):
            attempts = _Attempts(screen, len(asked) + 1)
            with listening(attempts.failed):
                outcome = await measured(client.query(QUESTION), PATIENCE + 1)
            asked.append((outcome, attempts.of(outcome) if cast == "graphql_prod" else "-"))
    return asked


class _Attempts:
    """Counts the attempts of a call, and shows those that fail."""

    def __init__(self, screen: Screen, call: int) -> None:
        self._screen = screen
        self._call = call
        self._began = time.perf_counter()
        self._failed = 0

    def failed(self, failed: Failed) -> None:
        if not self._failed and self._call == 1:
            self._screen.head("call")
        self._failed = failed.attempt
        seconds = time.perf_counter() - self._began
        wire = f"{words.reach(failed)}: {words.fate(failed)}"
        self._screen.line(seconds, self._call, failed.attempt, wire, words.decision(failed), "yellow")

    def of(self, outcome: Outcome) -> str:
        return str(getattr(outcome.error, "attempts", self._failed + 1))


def _ready(outcome: Outcome) -> bool:
    """What a readiness probe would say: any GraphQL answer without errors is good."""
    return outcome.kind == "answer"


def _summarize(screen: Screen, clean: Callable[[str], str], ours: list[Asked], stock: list[Asked]) -> None:
    screen.say()
    columns = {"call": 0, "client": 0, "the caller gets": 1, "ready": 0, "seconds": 0, "attempts": 0}
    screen.table(columns, [_rows("ours", clean, ours), _rows("stock", clean, stock)])


def _rows(client: str, clean: Callable[[str], str], asked: list[Asked]) -> list[tuple[tuple[str, ...], str]]:
    return [
        (
            (
                str(number),
                client,
                words.ended(outcome, clean, 250),
                "yes" if _ready(outcome) else "no",
                f"{outcome.seconds:.3f}",
                attempts,
            ),
            "green" if _ready(outcome) else "red",
        )
        for number, (outcome, attempts) in enumerate(asked, 1)
    ]


def _verdict(host: str, clean: Callable[[str], str], ours: list[Asked]) -> int:
    outcome, _ = ours[-1]
    if _ready(outcome):
        return 0
    sys.stderr.write(f"graphql_prod demo: {host} is not ready: {words.ended(outcome, clean, 400)}\n")
    return 1
