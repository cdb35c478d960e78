"""Time limits: the policy, its presets, and what a preset's name means."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from graphql_prod.errors import ConfigurationError
from graphql_prod.settings.base import Policy, Seconds


class TimeoutPolicy(Policy):
    """Time limits of one call, in seconds. None means no limit.

    A limit that is not named has the value of ``STANDARD``, moved where a named one leaves it no room
    (``total=2`` lowers connect to 2, ``attempt=60`` raises the total to 60). Where a number of seconds is
    named for the total and nothing for ``read``, there is no limit for ``read``: the user said how long a
    call may take. ``total=None`` says nothing of the kind, and ``read`` keeps its default: else nothing would
    end a call to a server that is silent.
    Named numbers that contradict one another are refused. The defaults are those of .NET's standard
    resilience handler (total 30 s, attempt 10 s: here as ``read``), and httpx's 5 s for a connection.

    :param total: the whole call: validation, every attempt, every wait between attempts.
    :param attempt: one attempt, from waiting for the pool to the last byte of the answer.
    :param connect: name look-up, TCP and TLS.
    :param read: silence while an answer is awaited or read.
    :param write: silence while the request is sent; best effort on aiohttp, which has no such limit.
    :param pool: waiting for a free connection; on a caller's aiohttp session it counts as connect.
    """

    # From the outside in: what is inside an attempt is fitted to an attempt that fits the total.
    nested: ClassVar[tuple[tuple[str, str], ...]] = (
        ("attempt", "total"),
        *((part, outer) for outer in ("total", "attempt") for part in ("connect", "read", "write", "pool")),
    )

    total: Seconds | None = 30.0
    attempt: Seconds | None = None
    connect: Seconds | None = 5.0
    read: Seconds | None = 10.0
    write: Seconds | None = 10.0
    pool: Seconds | None = 5.0

    def _settle(self) -> None:
        if (
            self.total is not None
            and "total" in self.model_fields_set
            and "read" not in self.model_fields_set
        ):
            self.__dict__["read"] = None
        super()._settle()

    def merged_over(self, base: Self) -> Self:
        """What holds where an operation names these limits and its client those of ``base``.

        What this group names counts, and what ``base`` names stays, ``read`` too; one that is left no room
        moves as far as it must. A preset replaces ``base``: it says all that it wants to say. Where the total
        is named, here or there, and ``read`` nowhere, ``read`` has no limit.
        """
        if any(self == preset and self.named == preset.named for preset in PRESETS.values()):
            return self
        return super().merged_over(base)

    @property
    def named(self) -> frozenset[str]:
        """The limits that somebody asked for; the others are defaults."""
        return frozenset(self.model_fields_set)


INTERACTIVE = TimeoutPolicy(total=5, attempt=2, connect=1, read=2)
STANDARD = TimeoutPolicy(total=30, attempt=None, connect=5, read=10)
BATCH = TimeoutPolicy(total=300, attempt=120, connect=10, read=60)
PROBE = TimeoutPolicy(total=2, attempt=None, connect=1, read=2)

TimeoutPreset = Literal["interactive", "standard", "batch", "probe"]
"""The names of the presets, as settings have them."""

PRESETS = {
    "interactive": INTERACTIVE,
    "standard": STANDARD,
    "batch": BATCH,
    "probe": PROBE,
}


def timeout_policy(value: object) -> object:
    """A preset's name, made its policy; anything else is left as it is."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        raise ConfigurationError(
            f"a number alone does not say which limit it is: name it (total={value}), "
            f"or a preset: {', '.join(PRESETS)}"
        )
    if isinstance(value, str):
        preset = PRESETS.get(value.lower())
        if preset is None:
            raise ConfigurationError(
                f"no preset is called {value!r}; there are {', '.join(PRESETS)}, "
                "or give the limits one by one"
            )
        return preset
    return value


def override(base: TimeoutPolicy, value: TimeoutPolicy | float | TimeoutPreset | None) -> TimeoutPolicy:
    """What holds after ``value`` was asked for: a number is a new total, None changes nothing.

    Of what was named before stays what fits into the new total.
    """
    if value is None:
        return base
    if isinstance(value, TimeoutPolicy):
        return value
    if isinstance(value, str):
        return TimeoutPolicy.model_validate(timeout_policy(value))
    plain = type(value) in (int, float)
    known = _totals.get((id(base), value)) if plain else None
    if known is not None and known[0] is base:
        return known[1]
    kept = {
        key: limit
        for key in base.model_fields_set - {"total"}
        if (limit := getattr(base, key)) is None or limit <= value
    }
    made = TimeoutPolicy(**{**kept, "total": value})
    if plain:
        if len(_totals) >= TOTALS:
            _totals.clear()
        _totals[id(base), value] = base, made
    return made


TOTALS = 64
"""Policies that are remembered: a view is made for a call, and most programs name the same few numbers."""
_totals: dict[tuple[int, float], tuple[TimeoutPolicy, TimeoutPolicy]] = {}
"""By the policy beneath, which is kept so that its id is nobody else's, and the total."""
