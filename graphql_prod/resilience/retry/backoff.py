"""How long to wait before a retry: a policy's own numbers, or a caller's tenacity object."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import tenacity

from graphql_prod.errors import ConfigurationError, HTTPStatusError
from graphql_prod.resilience.retry.policy import Retry, RetryPolicy

if TYPE_CHECKING:
    from graphql_prod.resilience.retry.decision import AttemptOutcome


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

    async def allows(self, state: tenacity.RetryCallState, attempt: AttemptOutcome) -> bool:
        """Whether the caller's tenacity object lets a call go on that the server has refused.

        Such an attempt is no failure: ``attempt_number`` stays, and ``wait`` is not asked.
        """
        if not self.narrows:
            return True
        if not await self._agrees(state, attempt):
            return False
        return not await _result(self.retrying.stop, state)

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
