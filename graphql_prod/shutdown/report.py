"""What a shutdown came to, in numbers and in one line."""

from __future__ import annotations

import logging
import time
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Literal, get_args

from graphql_prod.runtime import logs
from graphql_prod.shutdown.records import log_safely

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Phase = Literal["before", "subscriptions", "requests", "close", "after"]


@dataclass(frozen=True, slots=True)
class ShutdownReport:
    """How a shutdown went; ``str()`` of it is one line for a log.

    :ivar host: whose client it was; of several clients, all their hosts.
    :ivar duration: seconds from the first word to the last hook.
    :ivar requests_completed: calls that were under way and came to an end of their own, an answer or an
        error. One that its own caller cancelled meanwhile is counted nowhere.
    :ivar requests_cancelled: calls cut at the deadline; their callers got ``ClientClosedError``.
    :ivar subscriptions_drained: subscriptions that ended in order, after all events that waited.
    :ivar subscriptions_cancelled: subscriptions cut at the deadline, and those whose first connection was
        still being made; who waited for them got ``ClientClosedError``.
    :ivar hooks_failed: names of the hooks that raised, or outlived the deadline.
    :ivar errors: what failed while the session and transports were closed.
    :ivar phases: seconds by phase: ``before`` (hooks), ``subscriptions``, ``requests`` (the cut included),
        ``close``, ``after`` (hooks).
    """

    host: str
    duration: float
    requests_completed: int = 0
    requests_cancelled: int = 0
    subscriptions_drained: int = 0
    subscriptions_cancelled: int = 0
    hooks_failed: tuple[str, ...] = ()
    errors: tuple[str, ...] = ()
    phases: Mapping[Phase, float] = field(default_factory=dict)

    @property
    def clean(self) -> bool:
        """True when nothing was cancelled and nothing failed."""
        lost = self.requests_cancelled or self.subscriptions_cancelled
        return not (lost or self.hooks_failed or self.errors)

    def __str__(self) -> str:
        phases = ", ".join(f"{name} {seconds:.2f}" for name, seconds in self.phases.items())
        return "; ".join(
            (
                f"shutdown of {self.host}: {'clean' if self.clean else 'not clean'} in {self.duration:.2f} s",
                f"requests: {self.requests_completed} completed, {self.requests_cancelled} cancelled",
                f"subscriptions: {self.subscriptions_drained} drained, "
                f"{self.subscriptions_cancelled} cancelled",
                f"hooks failed: {', '.join(self.hooks_failed) or 'none'}",
                *(f"error: {error}" for error in self.errors),
                f"seconds a phase: {phases}",
            )
        )


def summed_up(
    reports: Iterable[ShutdownReport],
    duration: float,
    phases: Mapping[Phase, float],
    hooks_failed: tuple[str, ...],
    errors: tuple[str, ...],
) -> ShutdownReport:
    """One report of several, which ran at the same time: of a phase the longest counts."""
    reports = list(reports)
    return ShutdownReport(
        host=", ".join(dict.fromkeys(report.host for report in reports)) or "no client",
        duration=duration,
        requests_completed=sum(report.requests_completed for report in reports),
        requests_cancelled=sum(report.requests_cancelled for report in reports),
        subscriptions_drained=sum(report.subscriptions_drained for report in reports),
        subscriptions_cancelled=sum(report.subscriptions_cancelled for report in reports),
        hooks_failed=(*(name for report in reports for name in report.hooks_failed), *hooks_failed),
        errors=(*(error for report in reports for error in report.errors), *errors),
        phases=_longest([*(report.phases for report in reports)], phases),
    )


def _longest(members: list[Mapping[Phase, float]], own: Mapping[Phase, float]) -> Mapping[Phase, float]:
    longest: dict[Phase, float] = {}
    for phases in members:
        for name, seconds in phases.items():
            longest[name] = max(seconds, longest.get(name, 0.0))
    for name, seconds in own.items():
        # The clients have waited for the hooks that come before theirs, and not for those that come after.
        before = 0.0 if name == "before" else longest.get(name, 0.0)
        longest[name] = max(longest.get(name, 0.0), before + seconds)
    return longest


def log(report: ShutdownReport, whose: str = "") -> None:
    """The report as one line, its facts beside it; a warning unless it is clean."""
    facts = {each.name: getattr(report, each.name) for each in fields(report)}
    level = logging.INFO if report.clean else logging.WARNING
    log_safely(level, "%s%s", whose, report, extra=logs.facts(**facts, clean=report.clean))


class Stopwatch:
    """Takes the time of a shutdown and of its phases."""

    def __init__(self) -> None:
        self._started = time.monotonic()
        self.phases: dict[Phase, float] = dict.fromkeys(get_args(Phase), 0.0)

    @property
    def elapsed(self) -> float:
        """Seconds since it was made."""
        return time.monotonic() - self._started

    @contextmanager
    def phase(self, name: Phase) -> Iterator[None]:
        """Take the time of what is done inside."""
        started = time.monotonic()
        try:
            yield
        finally:
            self.phases[name] += time.monotonic() - started
