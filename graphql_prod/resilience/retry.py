"""Whether to try again: one pure function over what happened; how long to wait; the budget for it."""

from __future__ import annotations

import enum
import inspect
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

import tenacity
from pydantic import Field

from graphql_prod import clock
from graphql_prod.documents import Operation
from graphql_prod.errors import ConfigurationError, HTTPStatusError
from graphql_prod.resilience.retry_after import retry_after as retry_after
from graphql_prod.resilience.timeouts import Seconds
from graphql_prod.settings.base import Listed, Number, Policy

if TYPE_CHECKING:
    from collections.abc import Iterable

    from aiographql.client import GraphQLResponse

# 501 and 505 say "never"; everything below 500 says that the request is at fault.
TRANSIENT_STATUSES = frozenset({500, 502, 503, 504, 507, 508, 509, *range(520, 600)})


class RetryBudget(Policy):
    """How many retries all calls of a client may make together.

    Finagle's and Linkerd's numbers: in any ``window`` at most ``ratio`` times the calls begun in it,
    plus ``min_per_second`` for each of its seconds.

    :param ratio: retries per call; 0.2 lets an outage see 1.2 times the offered load.
    :param min_per_second: retries a second that are always allowed, so that a quiet client may retry.
    :param window: seconds over which both are counted.
    """

    ratio: Annotated[float, Number, Field(ge=0)] = 0.2
    min_per_second: Annotated[float, Number, Field(ge=0)] = 10.0
    window: Seconds = 10.0


class RetryPolicy(Policy):
    """What is tried again, how often and after how long.

    The numbers are those of the stock client's production guide (4 attempts, 0.5 s to 8 s), with jitter.

    :param attempts: attempts in all; 1 means no retries.
    :param wait_initial: seconds before the second attempt; doubles with each attempt.
    :param wait_max: seconds that no wait exceeds, ``Retry-After`` apart.
    :param jitter: ``"full"`` draws each wait evenly between 0 and the computed one; ``"none"`` does not.
    :param mutations: ``"unsent"`` repeats a mutation only if it was never sent; ``"never"`` not even then;
        ``"always"`` treats every mutation as idempotent.
    :param statuses: HTTP statuses worth another attempt.
    :param error_codes: ``extensions.code`` values; an answer without data all of whose errors carry one
        of them is worth another attempt.
    :param respect_retry_after: wait as long as the server's ``Retry-After`` asks, if that is longer.
    :param idempotency_header: name of a header that carries one fresh key a mutation, the same on each
        attempt; it marks the mutation as idempotent. None sends no key.
    :param budget: None means retries are not limited across calls.
    """

    nested: ClassVar[tuple[tuple[str, str], ...]] = (("wait_initial", "wait_max"),)

    attempts: Annotated[int, Number, Field(ge=1)] = 4
    wait_initial: Annotated[float, Number, Field(ge=0)] = 0.5
    wait_max: Annotated[float, Number, Field(ge=0)] = 8.0
    jitter: Literal["full", "none"] = "full"
    mutations: Literal["unsent", "never", "always"] = "unsent"
    statuses: Listed[Annotated[int, Number, Field(ge=400, le=599)]] = TRANSIENT_STATUSES
    error_codes: Listed[str] = frozenset()
    respect_retry_after: bool = True
    idempotency_header: Annotated[str, Field(pattern=r"^[!#$%&'*+.^_`|~0-9A-Za-z-]+$")] | None = None
    budget: RetryBudget | None = Field(default_factory=RetryBudget)

    if TYPE_CHECKING:

        def __init__(
            self,
            *,
            attempts: int = 4,
            wait_initial: float = 0.5,
            wait_max: float = 8.0,
            jitter: Literal["full", "none"] = "full",
            mutations: Literal["unsent", "never", "always"] = "unsent",
            statuses: Iterable[int] = TRANSIENT_STATUSES,
            error_codes: Iterable[str] = (),
            respect_retry_after: bool = True,
            idempotency_header: str | None = None,
            budget: RetryBudget | None = ...,
        ) -> None: ...


Retry = RetryPolicy | tenacity.BaseRetrying


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

    reach: SendStatus
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
    advice: str = ""
    """The part of the error's text that names a limit of the attempt; not said when another one ends it."""


def should_retry(attempt: AttemptOutcome, operation: Operation, policy: RetryPolicy) -> bool:
    """The retry table. Number of attempts, time, budget and tenacity's predicate come after it."""
    repeatable = operation is not Operation.MUTATION
    match attempt.reach:
        case SendStatus.UNSENT:
            return repeatable or policy.mutations != "never"
        case SendStatus.AMBIGUOUS | SendStatus.INVALID:
            return repeatable
        case SendStatus.ANSWERED:
            refused = attempt.codes is not None and attempt.codes <= policy.error_codes
            return repeatable and (attempt.status in policy.statuses or refused)
        case SendStatus.FINAL:
            return False


@dataclass(slots=True)
class Backoff:
    """When the next attempt begins: a policy's own numbers, or the caller's tenacity object."""

    policy: RetryPolicy
    retrying: tenacity.BaseRetrying
    narrows: bool = False
    """True when the caller gave a tenacity object, whose predicate must agree too."""

    @classmethod
    def of(cls, retry: Retry, beneath: Retry | None = None) -> Backoff:
        """The schedule of a policy, or of a tenacity object.

        :param beneath: what held before. A tenacity object says when to try again, and can only narrow the
            table: what the table goes by (mutations, statuses, codes, the key, the budget) stays.
        """
        if isinstance(retry, RetryPolicy):
            return cls(retry, _retrying(retry))
        if not isinstance(retry, tenacity.BaseRetrying):
            raise ConfigurationError(
                f"retry must be a RetryPolicy or a tenacity object, not {type(retry).__name__}"
            )
        return cls(beneath if isinstance(beneath, RetryPolicy) else RetryPolicy(), retry, narrows=True)

    def with_part(self, part: RetryPolicy) -> Backoff:
        """The schedule of an operation whose group names a part; the rest stays.

        Over a tenacity object, attempts that are named replace its ``stop``, waits that are named its
        ``wait``; its predicate must agree as before.
        """
        policy = part.merged_over(self.policy)
        own, named = _retrying(policy), part.model_fields_set
        if not self.narrows:
            return Backoff(policy, own)
        changed: dict[str, Any] = {}
        if "attempts" in named:
            changed["stop"] = own.stop
        if named & {"wait_initial", "wait_max", "jitter"}:
            changed["wait"] = own.wait
        return Backoff(policy, self.retrying.copy(**changed) if changed else self.retrying, narrows=True)

    def state(self, started: float) -> tenacity.RetryCallState:
        """Tenacity's view of one call; made at its first failure."""
        state = tenacity.RetryCallState(self.retrying, None, (), {})
        state.start_time = started
        return state

    async def next_wait(self, state: tenacity.RetryCallState, attempt: AttemptOutcome) -> float | None:
        """Seconds before the next attempt, or None if there is none to be."""
        if not await self._agrees(state, attempt):
            return None
        wait = float(await _result(self.retrying.wait, state))
        state.upcoming_sleep = wait
        if await _result(self.retrying.stop, state):
            return None
        state.idle_for += wait
        state.attempt_number += 1
        return max(wait, (self.policy.respect_retry_after and attempt.retry_after) or 0.0)

    async def _agrees(self, state: tenacity.RetryCallState, attempt: AttemptOutcome) -> bool:
        if attempt.error is not None:
            state.set_exception((type(attempt.error), attempt.error, None))
        else:
            state.set_result(attempt.response)
        if not self.narrows:
            return True
        if await _result(self.retrying.retry, state):
            return True
        if attempt.error is not None or attempt.response is None:
            return False
        # A returned answer (503 in GraphQL's own media type) is a failure too: to a predicate that
        # looks at exceptions only, it is shown as one.
        failure = HTTPStatusError(
            attempt.reason, response=attempt.response, status=attempt.status or 200, headers={}
        )
        state.set_exception((type(failure), failure, None))
        return bool(await _result(self.retrying.retry, state))


async def _result(decide: Any, state: tenacity.RetryCallState) -> Any:
    answer = decide(state)
    return await answer if inspect.isawaitable(answer) else answer


def _retrying(policy: RetryPolicy) -> tenacity.BaseRetrying:
    exponential = tenacity.wait_random_exponential if policy.jitter == "full" else tenacity.wait_exponential
    return tenacity.AsyncRetrying(
        stop=tenacity.stop_after_attempt(policy.attempts),
        wait=exponential(multiplier=policy.wait_initial, max=policy.wait_max),
    )


_SLOTS = 10


@dataclass(slots=True)
class Budget:
    """A client's account of :class:`RetryBudget`: calls and retries, counted over a sliding window.

    One slot more than the window has, so that what is counted is never less than a window.
    """

    policy: RetryBudget
    rejections: int = 0
    _slot: int = 0
    _calls: list[int] = field(default_factory=lambda: [0] * (_SLOTS + 1))
    _retries: list[int] = field(default_factory=lambda: [0] * (_SLOTS + 1))

    def deposit(self, now: float) -> None:
        """Count a call, among those of now if another thread was faster."""
        self._forget(int(now * _SLOTS / self.policy.window))
        self._calls[self._slot % (_SLOTS + 1)] += 1

    def withdraw(self) -> bool:
        """Count a retry, if one is left; a refusal is counted too."""
        if self.balance() < 1:
            self.rejections += 1
            return False
        self._retries[self._slot % (_SLOTS + 1)] += 1
        return True

    def balance(self) -> float:
        """How many retries are left now; 0 where retries outlive the calls that earned them."""
        self._forget(int(clock.monotonic() * _SLOTS / self.policy.window))
        earned = self.policy.ratio * sum(self._calls) + self.policy.min_per_second * self.policy.window
        return max(0.0, earned - sum(self._retries))

    def _forget(self, slot: int) -> None:
        if slot <= self._slot:
            return
        for passed in range(self._slot + 1, min(slot, self._slot + _SLOTS + 1) + 1):
            self._calls[passed % (_SLOTS + 1)] = self._retries[passed % (_SLOTS + 1)] = 0
        self._slot = slot
