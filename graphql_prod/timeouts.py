"""Time limits: the policy, its presets, and what a preset's name means."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.policy import Policy

Seconds = Annotated[float, Field(gt=0)]


class TimeoutPolicy(Policy):
    """Time limits of one call, in seconds. None means no limit.

    A limit that is not named has the value of ``STANDARD``, moved where a named one leaves it no room
    (``total=2`` lowers connect to 2, ``attempt=60`` raises the total to 60).
    Named numbers that contradict one another are refused. The defaults are those of .NET's standard
    resilience handler (total 30 s, attempt 10 s: here as ``read``), and httpx's 5 s for a connection.

    :param total: the whole call: validation, every attempt, every wait between attempts.
    :param attempt: one attempt, from waiting for the pool to the last byte of the answer.
    :param connect: name look-up, TCP and TLS.
    :param read: silence while an answer is awaited or read.
    :param write: silence while the request is sent; best effort on aiohttp, which has no such limit.
    :param pool: waiting for a free connection; on a caller's aiohttp session it counts as connect.
    """

    total: Seconds | None = 30.0
    attempt: Seconds | None = None
    connect: Seconds | None = 5.0
    read: Seconds | None = 10.0
    write: Seconds | None = 10.0
    pool: Seconds | None = 5.0

    @model_validator(mode="after")
    def _fits(self) -> TimeoutPolicy:
        problems = [
            Problem(f"{inner}, {outer}", f"{inner}={a} is longer than {outer}={b}; lower one of them")
            for inner, outer in _NESTED
            if {inner, outer} <= self.model_fields_set
            and (a := getattr(self, inner)) is not None
            and (b := getattr(self, outer)) is not None
            and a > b
        ]
        if problems:
            raise ConfigurationError(problems)
        for inner, outer in _NESTED:
            self._fit(inner, outer)
        return self

    def _fit(self, inner: str, outer: str) -> None:
        limit, value = getattr(self, outer), getattr(self, inner)
        if limit is None or value is None or value <= limit:
            return
        if inner in self.model_fields_set:
            self.clamp(**{outer: value})
        else:
            self.clamp(**{inner: limit})

    @property
    def named(self) -> frozenset[str]:
        """The limits that somebody asked for; the others are defaults."""
        return frozenset(self.model_fields_set)


# From the outside in: what is inside an attempt is fitted to an attempt that fits the total.
_NESTED = (
    ("attempt", "total"),
    *((phase, outer) for outer in ("total", "attempt") for phase in ("connect", "read", "write", "pool")),
)

INTERACTIVE = TimeoutPolicy(total=5, attempt=2, connect=1, read=2)
STANDARD = TimeoutPolicy(total=30, attempt=None, connect=5, read=10)
BATCH = TimeoutPolicy(total=300, attempt=120, connect=10, read=60)
PROBE = TimeoutPolicy(total=2, attempt=None, connect=1, read=2)

PRESETS = {
    "interactive": INTERACTIVE,
    "standard": STANDARD,
    "batch": BATCH,
    "probe": PROBE,
}


def timeout_policy(value: object) -> object:
    """A preset's name or a number of seconds in all, made a policy; anything else is left as it is."""
    if isinstance(value, str):
        preset = PRESETS.get(value.lower())
        if preset is None:
            raise ConfigurationError(
                f"no preset is called {value!r}; there are {', '.join(PRESETS)}, "
                "or give the limits one by one"
            )
        return preset
    return value


def override(base: TimeoutPolicy, value: TimeoutPolicy | float | str | None) -> TimeoutPolicy:
    """What holds after ``value`` was asked for: a number is a new total, None changes nothing."""
    if value is None:
        return base
    if isinstance(value, TimeoutPolicy):
        return value
    if isinstance(value, str):
        return TimeoutPolicy.model_validate(timeout_policy(value))
    kept = {
        key: limit
        for key in base.model_fields_set - {"total"}
        if (limit := getattr(base, key)) is None or limit <= value
    }
    return TimeoutPolicy(**{**kept, "total": value})
