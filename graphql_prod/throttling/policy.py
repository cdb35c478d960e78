"""The settings of throttling, and those of public APIs that are known."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal, Self

from pydantic import BeforeValidator, Field

from graphql_prod.errors import ConfigurationError, Problem
from graphql_prod.settings.base import Listed, Number, Policy, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

Mode = Literal["off", "retry", "pace"]
MODES = ("off", "retry", "pace")
Preset = Literal["github", "shopify", "linear", "monday", "hasura", "appsync"]

CODES = frozenset(
    {
        "THROTTLED",
        "RATE_LIMITED",
        "RATE_LIMIT",
        "RATE_LIMIT_EXCEEDED",
        "GRAPHQL_RATE_LIMIT",
        "TOO_MANY_REQUESTS",
        "COMPLEXITY_BUDGET_EXHAUSTED",
        "ComplexityException",
        "ThrottlingException",
        "LimitExceededException",
    }
)
"""Codes of errors that refuse a call which came too soon: Shopify's, GitHub's, monday's, AWS's, DGS's."""

IDENTITY_HEADERS = (
    "authorization",
    "x-api-key",
    "x-shopify-access-token",
    "x-hasura-admin-secret",
    "cookie",
)
"""Headers that say whose quota a call counts against."""

# What a preset adds to the codes. The words of GitHub's secondary limit are in ``recognition``.
_PRESET_CODES: Mapping[str, frozenset[str]] = {
    "github": frozenset(),
    "shopify": frozenset({"MAX_COST_EXCEEDED_RETRY"}),
    "linear": frozenset({"RATELIMITED"}),
    "monday": frozenset(
        {
            "DAILY_LIMIT_EXCEEDED",
            "MINUTE_LIMIT_EXCEEDED",
            "IP_RATE_LIMIT_EXCEEDED",
            "CONCURRENCY_LIMIT_EXCEEDED",
            "maxConcurrencyExceeded",
        }
    ),
    "hasura": frozenset({"rate-limit-exceeded", "concurrent-request-limit-exceeded"}),
    "appsync": frozenset({"TooManyRequestsException", "RequestLimitExceeded", "Throttling"}),
}
PRESETS = tuple(_PRESET_CODES)


class ThrottlingPolicy(Policy):
    """What the client does when the upstream says "slow down". Off by default: the guide retries no 4XX.

    :param mode: ``"retry"`` repeats refused calls, mutations too, as soon as the server allows it and not
        earlier. ``"pace"`` also holds calls back before they are refused, by what answers say of the quota.
        ``"off"`` does neither.
    :param statuses: HTTP statuses that refuse a call.
    :param codes: error codes that refuse a call; compared without case, ``_`` and ``-``.
    :param wait_initial: seconds before the first repetition where the server names no time; doubles with
        each further refusal.
    :param wait_max: seconds that no such wait exceeds. A time that the server names is kept.
    :param max_wait: seconds; a longer wait is not begun. None: what is left of ``timeout.total``.
    :param rate: calls a second that the client sends at most, whatever the server says. None: no such limit.
    :param burst: calls that may go at once under ``rate``. None: those of one second, at least one.
    :param preset: what is known of a public API: ``github``, ``shopify``, ``linear``, ``monday``,
        ``hasura``, ``appsync``. It makes the mode ``retry`` unless one is named. None: none.
    :param identity_headers: headers by which quotas are separated where there is no ``headers_provider``.
    """

    mode: Mode = "off"
    statuses: Listed[Annotated[int, Number, Field(ge=400, le=599)]] = frozenset({429})
    codes: Listed[str] = CODES
    wait_initial: Seconds = 1.0
    wait_max: Seconds = 60.0
    max_wait: Seconds | None = None
    rate: Seconds | None = None
    burst: Annotated[int, Number, Field(ge=1)] | None = None
    preset: Annotated[Preset, BeforeValidator(lambda value: _lower(value))] | None = None
    identity_headers: Annotated[tuple[str, ...], BeforeValidator(lambda value: _names(value))] = (
        IDENTITY_HEADERS
    )

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            mode: Mode = "off",
            statuses: Iterable[int] = frozenset({429}),
            codes: Iterable[str] = CODES,
            wait_initial: float = 1.0,
            wait_max: float = 60.0,
            max_wait: float | None = None,
            rate: float | None = None,
            burst: int | None = None,
            preset: Preset | None = None,
            identity_headers: Iterable[str] = IDENTITY_HEADERS,
        ) -> None: ...

    nested: ClassVar[tuple[tuple[str, str], ...]] = (("wait_initial", "wait_max"),)

    def _settle(self) -> None:
        super()._settle()
        if self.preset is not None and "mode" not in self.model_fields_set:
            self.__dict__["mode"] = "retry"

    @classmethod
    def _contradictions(cls, named: dict[str, Any]) -> Iterator[Problem]:
        yield from super()._contradictions(named)
        off = named.get("mode", "off") == "off" and named.get("preset") is None
        if named.get("mode") == "off" and named.get("preset") is not None:
            yield Problem(
                "mode, preset", "mode=off and a preset contradict each other; leave one of them out"
            )
        if off and named.get("rate") is not None:
            yield Problem(
                "mode, rate", "rate needs mode=retry or mode=pace; with mode=off nothing is held back"
            )
        if named.get("burst") is not None and named.get("rate") is None:
            yield Problem("burst", "burst needs a rate; set rate, or leave burst out")

    @property
    def all_codes(self) -> frozenset[str]:
        """The codes with those of the preset, as they are compared."""
        return frozenset(map(canonical, self.codes | _PRESET_CODES.get(self.preset or "", frozenset())))

    @classmethod
    def of_preset(cls, name: str) -> Self:
        """What a name alone means."""
        return cls(preset=name)  # type: ignore[arg-type]  # unknown names are refused


def canonical(code: str) -> str:
    """A code as codes are compared: without case, ``_`` and ``-``."""
    return code.replace("_", "").replace("-", "").lower()


def throttling_policy(value: object) -> object:
    """A preset's name, or a mode's, made its policy; anything else is left as it is."""
    return throttling_policy_of(value) if isinstance(value, str) else value


def throttling_policy_of(value: str) -> ThrottlingPolicy:
    """What the name of a preset, or of a mode, means.

    :raises ConfigurationError: there is none of that name.
    """
    name = value.strip().lower()
    if name in PRESETS:
        return ThrottlingPolicy(preset=name)  # type: ignore[arg-type]
    if name in MODES:
        return ThrottlingPolicy(mode=name)  # type: ignore[arg-type]
    raise ConfigurationError(
        f"no preset is called {value[:40]!r}; there are {', '.join(PRESETS)}, "
        "or give a mode (off, retry, pace)"
    )


def _lower(value: object) -> object:
    return value.lower() if isinstance(value, str) else value


def _names(value: object) -> object:
    if isinstance(value, str):
        value = [part.strip().strip("\"'") for part in value.strip().strip("[]").split(",")]
    if isinstance(value, list | tuple | set | frozenset) and all(isinstance(each, str) for each in value):
        return tuple(dict.fromkeys(each.lower() for each in value if each not in ("", "-")))
    return value
