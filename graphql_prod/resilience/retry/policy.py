"""What is retried, how often, after how long, and on what budget: the settings."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, ClassVar, Literal

import tenacity
from pydantic import Field

from graphql_prod.settings.base import Listed, Number, Policy, Seconds

if TYPE_CHECKING:
    from collections.abc import Iterable


# 501 and 505 say "never"; everything below 500 says that the request is at fault.
TRANSIENT_STATUSES = frozenset({500, 502, 503, 504, 507, 508, 509, *range(520, 600)})


class RetryBudget(Policy):
    """How many retries all calls of a client may make together.

    It begins with ``reserve`` retries. Each successful call adds ``ratio`` of one, up to the larger of
    ``reserve`` and ``ratio`` times the calls of ``window``. So in an outage a client sends its calls and at
    most what is saved up, whatever its rate: a fleet of quiet clients does not multiply an outage either.

    :param ratio: retries that a successful call earns; Finagle's and Linkerd's 0.2.
    :param reserve: retries that there are at the beginning, and that may be saved up without traffic.
    :param min_per_second: retries a second that come without any success. 0: none. Finagle's 10 lets a quiet
        client repeat every call, and so a fleet of them multiply an outage by ``retry.attempts``.
    :param window: seconds whose calls say how much may be saved up.
    """

    ratio: Annotated[float, Number, Field(ge=0)] = 0.2
    reserve: Annotated[float, Number, Field(ge=0)] = 10.0
    min_per_second: Annotated[float, Number, Field(ge=0)] = 0.0
    window: Seconds = 10.0


class RetryPolicy(Policy):
    """What is retried, how often and after how long.

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
