"""What holds for every retry: the table, the waits, the budget, a whole call."""

from __future__ import annotations

import asyncio
import itertools
import logging
import random
from dataclasses import dataclass, field
from typing import Any, Literal

import aiohttp
import pytest
from aiographql.client import GraphQLClientException, GraphQLRequest, GraphQLResponse, GraphQLTransport
from aiographql.client.exceptions import GraphQLTransportException
from hypothesis import event, example, given, settings
from hypothesis import strategies as st
from skipping import skipping
from yarl import URL

from graphql_prod import (
    ProductionClient,
    ProductionConfig,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
    TransportError,
    clock,
)
from graphql_prod.calls.call import Call
from graphql_prod.calls.settings import CallSettings
from graphql_prod.resilience.retry.backoff import Backoff
from graphql_prod.resilience.retry.budget import Budget
from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus, should_retry
from graphql_prod.resilience.retry.retry_after import retry_after


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: looking for it around each test would cost more than they do."""


# --- the table ------------------------------------------------------------------------------------

# The contract's, section 2, word by word: what happened, and whether a query, a mutation and a mutation
# marked idempotent are tried again.
CONTRACT = """
unsent     again  again  again
ambiguous  again  raise  again
transient  again  raise  again
lasting    raise  raise  raise
invalid    again  raise  again
codes      again  raise  again
final      raise  raise  raise
"""
ROWS = {name: again for name, *again in map(str.split, CONTRACT.strip().splitlines())}
COLUMNS = ("query", "mutation", "idempotent")

CODES = ("BUSY", "LATER", "OTHER")
DOCUMENTS = {"query": "{ hello }", "mutation": "mutation { increment }"}

codes = st.none() | st.frozensets(st.sampled_from(CODES), min_size=1)


@st.composite
def policies(draw: st.DrawFn) -> RetryPolicy:
    """Policies that differ in all that the table looks at."""
    extra: dict[str, Any] = {}
    if draw(st.booleans()):
        extra["statuses"] = draw(st.frozensets(st.integers(400, 599), max_size=6))
    return RetryPolicy(
        mutations=draw(st.sampled_from(["unsent", "never", "always"])),
        error_codes=draw(st.frozensets(st.sampled_from(CODES))),
        idempotency_header=draw(st.none() | st.just("Idempotency-Key")),
        **extra,
    )


def row_of(
    send_status: SendStatus, status: int | None, found: frozenset[str] | None, policy: RetryPolicy
) -> str:
    """The row of the contract's table that an attempt is in."""
    if send_status is not SendStatus.ANSWERED:
        return str(send_status.value)
    if status in policy.statuses:
        return "transient"
    return "codes" if found and not found - policy.error_codes else "lasting"


def column_of(kind: str, policy: RetryPolicy, *, marked: bool | None) -> str:
    """The column: what marks a mutation is the call; the policy, or a key, where the call says nothing."""
    if kind == "query":
        return kind
    by_policy = policy.mutations == "always" or policy.idempotency_header is not None
    return "idempotent" if (by_policy if marked is None else marked) else kind


@given(
    kind=st.sampled_from(sorted(DOCUMENTS)),
    marked=st.none() | st.booleans(),
    send_status=st.sampled_from(SendStatus),
    status=st.none() | st.integers(100, 599),
    found=codes,
    policy=policies(),
)
def test_the_table(
    kind: str,
    marked: bool | None,
    send_status: SendStatus,
    status: int | None,
    found: frozenset[str] | None,
    policy: RetryPolicy,
) -> None:
    """Whatever meets: the document decides the column, what happened the row, and nothing else counts."""
    own = CallSettings(TimeoutPolicy(), Backoff.of(policy), idempotent=marked)
    operation = asyncio.run(_operation(own, DOCUMENTS[kind]))
    column = column_of(kind, policy, marked=marked)
    expected = ROWS[row_of(send_status, status, found, policy)][COLUMNS.index(column)] == "again"
    if column == "mutation" and policy.mutations == "never":
        expected = False
    event(f"{column}: {'again' if expected else 'raise'}")
    attempt = AttemptOutcome(send_status, "a test", status, found, error=TransportError("no"))
    assert should_retry(attempt, operation, policy) is expected


async def _operation(settings: CallSettings, document: str) -> Any:
    call = Call(settings, None)
    call.request = GraphQLRequest(document)
    return call.operation


# --- waits ----------------------------------------------------------------------------------------

seconds = st.floats(0, 1e6, allow_nan=False)


@st.composite
def waiting(draw: st.DrawFn) -> RetryPolicy:
    """Policies that differ in their waits."""
    initial, longest = sorted((draw(seconds), draw(seconds)))
    return RetryPolicy(
        attempts=draw(st.integers(1, 12)),
        wait_initial=initial,
        wait_max=longest,
        jitter=draw(st.sampled_from(["full", "none"])),
        respect_retry_after=draw(st.booleans()),
    )


@given(
    policy=waiting(),
    asked=st.lists(st.none() | st.floats(0, 1e9), min_size=12, max_size=12),
    seed=st.integers(),
)
def test_waits_stay_within_their_bounds(policy: RetryPolicy, asked: list[float | None], seed: int) -> None:
    """A wait lies between nothing and a cap that doubles up to wait_max; only Retry-After makes it longer.

    There is one wait less than there are attempts.
    """
    random.seed(seed)
    waits = asyncio.run(_waits(policy, asked))
    caps = [min(policy.wait_max, policy.wait_initial * 2**n) for n in range(policy.attempts - 1)]
    assert caps == sorted(caps)
    for wait, cap, wish in itertools.zip_longest(waits, caps, asked[: len(caps)]):
        least = wish if wish is not None and policy.respect_retry_after else 0.0
        computed = cap if policy.jitter == "none" else 0.0
        assert max(least, computed) <= wait <= max(least, cap)


async def _waits(policy: RetryPolicy, asked: list[float | None]) -> list[float]:
    schedule = Backoff.of(policy)
    state, waits = schedule.state(0.0), []
    for wish in asked:
        failure = AttemptOutcome(SendStatus.UNSENT, "a test", retry_after=wish, error=TransportError("no"))
        if (wait := await schedule.next_wait(state, failure)) is None:
            break
        waits.append(wait)
    return waits


@given(wish=st.integers(0, 10**12), pad=st.sampled_from(["", " ", "\t"]))
def test_retry_after_in_seconds(wish: int, pad: str) -> None:
    """A number of seconds is that number."""
    assert retry_after({"Retry-After": f"{pad}{wish}{pad}"}) == wish


texts = st.binary().map(lambda raw: raw.decode("latin-1"))


@given(value=texts, date=st.none() | texts)
def test_retry_after_of_a_stranger(value: str, date: str | None) -> None:
    """Whatever the header says, it is a number of seconds, none of them negative, or no wish."""
    wish = retry_after({"Retry-After": value} | ({} if date is None else {"Date": date}))
    assert wish is None or wish >= 0


# --- the budget -----------------------------------------------------------------------------------


class Hand(clock.Clock):
    """A clock that a test sets."""

    def __init__(self, now: float) -> None:
        self.now = now

    def monotonic(self) -> float:
        return self.now


budgets = st.builds(
    RetryBudget,
    ratio=st.sampled_from([0.0, 0.1, 0.2, 0.5, 1.0, 3.0]) | st.floats(0, 2),
    reserve=st.sampled_from([0.0, 1.0, 10.0]) | st.floats(0, 20),
    min_per_second=st.sampled_from([0.0, 0.05, 0.1, 1.0, 2.0]) | st.floats(0, 3),
    window=st.sampled_from([0.5, 1.0, 10.0, 60.0]) | st.floats(0.1, 100),
)
# How much of a window passes, how many calls begin, and how many failures ask for a retry.
moments = st.lists(
    st.tuples(
        st.sampled_from([0.0, 0.05, 0.1, 0.5, 0.9, 1.0, 1.1, 5.0]) | st.floats(0, 2),
        st.integers(0, 12),
        st.integers(0, 12),
    ),
    max_size=40,
)


@given(policy=budgets, moments=moments, begun=st.floats(0, 1e6))
@example(RetryBudget(ratio=1, reserve=0), [(0.0, 5, 0), (0.9, 0, 5), (0.25, 0, 5)], 5000.0)
def test_the_budget(policy: RetryBudget, moments: list[tuple[float, int, int]], begun: float) -> None:
    """There are never more retries than the reserve, what successes have earned, and the floor if any.

    What is left is never less than nothing, never more than may be saved up, and a retry is refused only when
    less than one is left.
    """
    floor = policy.min_per_second * policy.window
    hand, granted, successes = Hand(begun), 0, list[float]()
    with clock.using(hand):
        budget = Budget(policy)
        for passed, calls, failures in moments:
            hand.now += passed * policy.window
            for _ in range(calls):
                budget.deposit(hand.now)
                successes.append(hand.now)
            for _ in range(failures):
                left, rejections = budget.balance(), budget.rejections
                assert left >= 0
                recent = sum(at >= hand.now - 1.1 * policy.window - 1e-6 for at in successes)
                assert left <= max(policy.reserve, policy.ratio * recent, floor) + 1e-6
                good = budget.withdraw()
                assert good is (left >= 1)
                assert budget.rejections == rejections + (not good)
                granted += good
            earned = policy.ratio * len(successes) + policy.min_per_second * (hand.now - begun)
            assert granted <= max(policy.reserve, floor) + earned + 1e-6


@given(policy=budgets, rate=st.sampled_from([0.1, 1.0, 5.0, 20.0, 1000.0]), attempts=st.integers(2, 6))
def test_an_outage(policy: RetryBudget, rate: float, attempts: int) -> None:
    """Whatever the rate: the calls, and at most what was saved up. A fleet of quiet clients is held by it."""
    hand = Hand(1000.0)
    with clock.using(hand):
        budget = Budget(RetryBudget(ratio=policy.ratio, reserve=policy.reserve, window=policy.window))
        for _ in range(50):  # good times
            hand.now += 1 / rate
            budget.deposit(hand.now)
        most, granted = max(policy.reserve, policy.ratio * 50), 0
        for _ in range(500):
            hand.now += 1 / rate
            for _ in range(attempts - 1):
                granted += budget.withdraw()
        assert granted <= most + 1e-6


@given(policy=budgets, quiet=st.floats(1.2, 20))
def test_what_is_saved_up_expires(policy: RetryBudget, quiet: float) -> None:
    """Over the reserve nothing is kept longer than the window; the reserve is."""
    hand = Hand(1000.0)
    with clock.using(hand):
        budget = Budget(policy)
        for _ in range(200):
            budget.deposit(hand.now)
        hand.now += quiet * policy.window
        floor = policy.min_per_second * policy.window
        most = max(policy.reserve, floor)
        assert budget.balance() <= most + 1e-6
        assert budget.balance() >= min(policy.reserve, policy.ratio * 200) - 1e-6


# --- a whole call ---------------------------------------------------------------------------------


What = Literal["refused", "reset", "busy", "gone", "page", "data"]


@dataclass
class Trouble(GraphQLTransport):
    """A transport that takes its time, and then does as it was told; in the end it answers."""

    script: list[tuple[float, What, float | None]]
    at: list[float] = field(default_factory=list)
    executed: int = 0

    async def request(
        self, method: str, request: Any, serializer: Any, *, session: Any = None, **_: Any
    ) -> Any:
        self.at.append(asyncio.get_running_loop().time())
        takes, what, wish = self.script.pop(0) if self.script else (0.0, "data", None)
        await asyncio.sleep(takes)
        self.executed += what != "refused"
        if what == "refused":
            raise GraphQLTransportException("refused") from ConnectionRefusedError()
        if what == "reset":
            raise GraphQLTransportException("reset") from ConnectionResetError()
        if what == "data":
            return GraphQLResponse(request=request, json={"data": {"hello": "you"}})
        if what == "page":
            return GraphQLResponse(request=request, json={})
        headers = {} if wish is None else {"Retry-After": str(int(wish))}
        url = URL("http://h/")
        info = aiohttp.RequestInfo(url, "POST", None, url)  # type: ignore[arg-type]
        status = 503 if what == "busy" else 404
        raise aiohttp.ClientResponseError(info, (), status=status, headers=headers)  # type: ignore[arg-type]

    async def close(self) -> None: ...


troubles = st.tuples(
    st.floats(0, 4),
    st.sampled_from(["refused", "refused", "reset", "busy", "busy", "gone", "page", "data"]),
    st.none() | st.floats(0, 40),
)
scripts = st.lists(troubles, min_size=4, max_size=8) | st.lists(troubles, max_size=3)
short_waits = st.builds(
    RetryPolicy,
    attempts=st.integers(2, 7),
    wait_initial=st.floats(0.1, 4),
    wait_max=st.floats(4, 20),
    jitter=st.sampled_from(["full", "none"]),
    respect_retry_after=st.booleans(),
)
AGAIN: dict[str, tuple[bool, bool]] = {
    # What the transport does: whether a query and a mutation are tried again after it.
    "refused": (True, True),
    "reset": (True, False),
    "busy": (True, False),
    "gone": (False, False),
    "page": (True, False),
}


class Waits(logging.Handler):
    """The waits that the client has told of."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.waits: list[float] = []

    def emit(self, record: logging.LogRecord) -> None:
        if (wait := record.__dict__.get("graphql_prod", {}).get("wait")) is not None:
            self.waits.append(wait)


@settings(max_examples=150)
@given(
    script=scripts,
    total=st.floats(1, 30) | st.none() | st.floats(0.1, 60),
    limit=st.none() | st.floats(0.1, 10),
    mutation=st.sampled_from([False, False, True]),
    policy=short_waits | waiting(),
    seed=st.integers(),
)
def test_a_call(
    script: list[tuple[float, What, float | None]],
    total: float | None,
    limit: float | None,
    mutation: bool,
    policy: RetryPolicy,
    seed: int,
) -> None:
    """No call outlives its total, and no wait is begun that would.

    Between two attempts lies what was asked for; there are never more than the policy has, and none after
    one that is not to be repeated: a mutation is executed once at most, and its error tells that it may have
    been.
    """
    random.seed(seed)
    if total is not None and limit is not None:
        limit = min(limit, total)
    transport, told = Trouble(list(script)), Waits()
    timeout = TimeoutPolicy(total=total, attempt=limit)
    logger = logging.getLogger("graphql_prod")
    logger.addHandler(told)
    try:
        skipping(lambda: _call(transport, policy, timeout, mutation, told))
    finally:
        logger.removeHandler(told)


async def _call(
    transport: Trouble, policy: RetryPolicy, timeout: TimeoutPolicy, mutation: bool, told: Waits
) -> None:
    script, now = list(transport.script), asyncio.get_running_loop().time
    config = ProductionConfig(retry=policy, timeout=timeout)
    client = ProductionClient("http://h/", transport=transport, config=config, validate=False)
    begun, error = now(), None
    total = timeout.total if timeout.total is not None else float("inf")
    try:
        await client.query(DOCUMENTS["mutation" if mutation else "query"])
    except Exception as raised:  # noqa: BLE001 -- whatever it is, it is looked at
        error = raised
    ended = now()
    await client.close()
    assert ended - begun <= total + 1e-6
    assert 1 <= len(transport.at) <= policy.attempts
    # A wait that was begun is followed by an attempt: it would not have been begun if the total cut it.
    assert len(told.waits) == len(transport.at) - 1
    pairs = zip(told.waits, itertools.pairwise(transport.at), strict=True)
    for n, (wait, (one, following)) in enumerate(pairs):
        takes, what, wish = script[n]
        cut = timeout.attempt is not None and takes >= timeout.attempt
        assert cut or AGAIN[what][mutation]
        assert not (mutation and cut)
        took = min(takes, timeout.attempt or takes)
        assert following - one == pytest.approx(took + wait, abs=1e-6)
        assert one + took - begun + wait < total + 1e-6
        asked = int(wish) if wish is not None and what == "busy" and not cut else 0
        assert wait >= asked * policy.respect_retry_after
    if mutation:
        assert transport.executed <= 1
    event(f"{len(transport.at)} attempts, {type(error).__name__}")
    if error is None:
        return
    assert isinstance(error, GraphQLClientException)
    assert getattr(error, "attempts", None) == len(transport.at)
    assert getattr(error, "elapsed", None) == pytest.approx(ended - begun)
    if transport.executed and mutation:
        assert getattr(error, "may_have_executed", None) is True
