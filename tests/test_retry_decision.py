"""Deciding about a retry: pure functions and small state, exact numbers, no network and no waiting."""

from __future__ import annotations

import itertools
import math
import random
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from typing import TYPE_CHECKING, Any

import pytest
import tenacity
from aiographql.client import GraphQLRequest, GraphQLResponse

from graphql_prod import ConfigurationError, HTTPStatusError, RetryBudget, RetryPolicy, TransportError, clock
from graphql_prod.documents import Operation, is_query
from graphql_prod.resilience.retry.backoff import Backoff
from graphql_prod.resilience.retry.budget import Budget
from graphql_prod.resilience.retry.decision import AttemptOutcome, SendStatus, should_retry
from graphql_prod.resilience.retry.policy import TRANSIENT_STATUSES
from graphql_prod.resilience.retry.retry_after import retry_after

if TYPE_CHECKING:
    from collections.abc import Iterator

QUERY, MUTATION, REPEATABLE = Operation.QUERY, Operation.MUTATION, Operation.REPEATABLE
DEFAULT = RetryPolicy()
NEVER = RetryPolicy(mutations="never")


def attempt(send_status: SendStatus, status: int | None = None, **more: Any) -> AttemptOutcome:
    return AttemptOutcome(send_status, "a test", status, **{"error": TransportError("no"), **more})


# --- the table ------------------------------------------------------------------------------------

TABLE = {
    SendStatus.UNSENT: (True, True, True),
    SendStatus.AMBIGUOUS: (True, False, True),
    SendStatus.INVALID: (True, False, True),
    SendStatus.FINAL: (False, False, False),
}


@pytest.mark.parametrize("send_status", TABLE, ids=lambda send_status: send_status.value)
def test_the_rows_that_need_no_status(send_status: SendStatus) -> None:
    """One row of the table each: query, mutation, mutation marked idempotent."""
    row = tuple(should_retry(attempt(send_status), kind, DEFAULT) for kind in (QUERY, MUTATION, REPEATABLE))
    assert row == TABLE[send_status]


def test_the_statuses_of_the_table() -> None:
    """Of all statuses there are, these are worth another attempt, and none for a mutation."""
    transient = {500, 502, 503, 504, 507, 508, 509, *range(520, 600)}
    for kind, expected in ((QUERY, transient), (REPEATABLE, transient), (MUTATION, set[int]())):
        again = {
            status
            for status in range(100, 1000)
            if should_retry(attempt(SendStatus.ANSWERED, status), kind, DEFAULT)
        }
        assert again == expected, kind
    assert transient == TRANSIENT_STATUSES


def test_never_sends_no_mutation_twice() -> None:
    """mutations="never": whatever happened, an unmarked mutation has had its attempt."""
    policy = RetryPolicy(mutations="never", statuses=frozenset({429, 503}), error_codes=frozenset({"BUSY"}))
    for send_status, status in itertools.product(SendStatus, (None, 200, 429, 503)):
        for codes in (None, frozenset({"BUSY"})):
            assert not should_retry(attempt(send_status, status, codes=codes), MUTATION, policy)


def test_never_changes_nothing_for_queries() -> None:
    """The setting is about mutations."""
    for send_status in SendStatus:
        assert should_retry(attempt(send_status, 503), QUERY, NEVER) is should_retry(
            attempt(send_status, 503), QUERY, DEFAULT
        )


def test_a_marked_mutation_that_may_be_repeated_when_sent_may_be_repeated_when_unsent() -> None:
    """The less may have happened, the more is allowed: unsent is never stricter than ambiguous."""
    for policy, kind in itertools.product((DEFAULT, NEVER, RetryPolicy(mutations="always")), Operation):
        if should_retry(attempt(SendStatus.AMBIGUOUS), kind, policy):
            assert should_retry(attempt(SendStatus.UNSENT), kind, policy), (policy.mutations, kind)


@pytest.mark.parametrize(
    ("codes", "again"),
    [
        (None, False),
        (frozenset({"BUSY"}), True),
        (frozenset({"BUSY", "LATER"}), True),
        (frozenset({"BUSY", "OTHER"}), False),
        (frozenset({"busy"}), False),
    ],
)
def test_every_code_must_be_among_those_of_the_policy(codes: frozenset[str] | None, again: bool) -> None:
    """One other code, and the answer stands."""
    policy = RetryPolicy(error_codes=frozenset({"BUSY", "LATER"}))
    for status in (None, 200, 400):
        assert should_retry(attempt(SendStatus.ANSWERED, status, codes=codes), QUERY, policy) is again
        assert not should_retry(attempt(SendStatus.ANSWERED, status, codes=codes), MUTATION, policy)


@pytest.mark.parametrize(
    ("document", "name", "judged"),
    [
        ("{ a }", None, True),
        ("query A { a }", None, True),
        ("query A { a }", "A", True),
        ("query A { a }", "B", False),
        ("query A { a } mutation B { b }", "A", True),
        ("query A { a } mutation B { b }", "B", False),
        ("query A { a } mutation B { b }", None, False),
        ("query A { a } query A { a }", "A", False),
        ("query A { ...F } fragment F on Query { a }", None, True),
        ("subscription { a }", None, False),
        ("mutation { a }", None, False),
        ("# query\nmutation { query }", None, False),
        ('{ a(b: "mutation") }', None, True),
        ("{ a ", None, False),
        ("", None, False),
        ("type Query { a: Int }", None, False),
        ("{a" * 2400 + "}" * 2400, None, False),
    ],
)
def test_a_document_is_a_query_only_when_it_surely_is(document: str, name: str | None, judged: bool) -> None:
    """Read from the document, by the operation named; what cannot be judged is no query."""
    assert is_query(document, name) is judged


# --- the policy -----------------------------------------------------------------------------------


def test_the_defaults_are_the_guides_numbers() -> None:
    """4 attempts, 0.5 s to 8 s, full jitter, unsent mutations only."""
    assert (DEFAULT.attempts, DEFAULT.wait_initial, DEFAULT.wait_max) == (4, 0.5, 8.0)
    assert (DEFAULT.jitter, DEFAULT.mutations, DEFAULT.respect_retry_after) == ("full", "unsent", True)
    assert DEFAULT.error_codes == frozenset()
    assert DEFAULT.idempotency_header is None
    assert DEFAULT.budget == RetryBudget(ratio=0.2, reserve=10.0, min_per_second=0.0, window=10.0)


@pytest.mark.parametrize(
    "settings",
    [
        {"attempts": 0},
        {"wait_initial": -1},
        {"wait_max": -0.1},
        {"wait_initial": math.inf},
        {"wait_max": math.nan},
        {"jitter": "some"},
        {"mutations": "sometimes"},
        {"statuses": {200}},
        {"statuses": {600}},
        {"idempotency_header": "Not A Header"},
        {"idempotency_header": "X\r\nY"},
        {"budget": {"ratio": -1}},
        {"budget": {"window": 0}},
        {"wait_initial": 5, "wait_max": 1},
        {"attempt": 3},
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(settings: dict[str, Any]) -> None:
    """A policy is checked when it is made."""
    with pytest.raises(ConfigurationError) as caught:
        RetryPolicy(**settings)
    assert next(iter(settings)) in str(caught.value)


# --- waits ----------------------------------------------------------------------------------------


async def waits_of(retry: Any, failures: list[AttemptOutcome]) -> list[float | None]:
    schedule = Backoff.of(retry)
    state = schedule.state(0.0)
    return [await schedule.next_wait(state, failure) for failure in failures]


async def test_waits_double_up_to_their_maximum() -> None:
    """Without jitter: 0.5, 1, 2, 4, 8, 8 …; after the last attempt there is none."""
    policy = RetryPolicy(attempts=8, jitter="none")
    waits = await waits_of(policy, [attempt(SendStatus.UNSENT)] * 8)
    assert waits == [0.5, 1, 2, 4, 8, 8, 8, None]


async def test_jitter_stays_within_the_computed_wait_and_uses_all_of_it() -> None:
    """Full jitter: evenly between nothing and the computed wait."""
    policy = RetryPolicy(attempts=8)
    columns = zip(
        *[await waits_of(policy, [attempt(SendStatus.UNSENT)] * 7) for _ in range(400)], strict=True
    )
    for bound, column in zip([0.5, 1, 2, 4, 8, 8, 8], columns, strict=True):
        waits = [wait for wait in column if wait is not None]
        assert len(waits) == 400
        assert all(0 <= wait <= bound for wait in waits)
        assert min(waits) < 0.1 * bound
        assert max(waits) > 0.9 * bound


async def test_a_thousand_attempts_do_not_overflow() -> None:
    """Doubling ends at the maximum, however many attempts there are."""
    waits = await waits_of(RetryPolicy(attempts=3000, jitter="none"), [attempt(SendStatus.UNSENT)] * 2999)
    assert set(waits[4:]) == {8}


async def test_one_attempt_means_no_retry() -> None:
    """attempts counts the first one."""
    assert await waits_of(RetryPolicy(attempts=1), [attempt(SendStatus.UNSENT)]) == [None]


async def test_no_wait_at_all_is_a_wait_of_nothing() -> None:
    """wait_initial=0 repeats at once."""
    policy = RetryPolicy(wait_initial=0, wait_max=0)
    assert await waits_of(policy, [attempt(SendStatus.UNSENT)] * 4) == [0, 0, 0, None]


@pytest.mark.parametrize(
    ("asked", "respected", "wait"),
    [(None, True, 3), (1, True, 3), (0, True, 3), (7, True, 7), (7, False, 3), (3600, True, 3600)],
)
async def test_the_longer_one_counts(asked: float | None, respected: bool, wait: float) -> None:
    """Retry-After replaces the computed wait if it is longer, wait_max or not."""
    policy = RetryPolicy(wait_initial=3, wait_max=3, jitter="none", respect_retry_after=respected)
    assert await waits_of(policy, [attempt(SendStatus.ANSWERED, 503, retry_after=asked)]) == [wait]


async def test_each_call_has_a_state_of_its_own() -> None:
    """A policy is a value: two calls that share it do not share their attempts."""
    schedule = Backoff.of(RetryPolicy(attempts=3, jitter="none"))
    one, two = schedule.state(0.0), schedule.state(0.0)
    failure = attempt(SendStatus.UNSENT)
    waits = [await schedule.next_wait(state, failure) for state in (one, two, one, two, one, two)]
    assert waits == [0.5, 0.5, 1, 1, None, None]


# --- tenacity -------------------------------------------------------------------------------------

RESPONSE = GraphQLResponse(request=GraphQLRequest("{ a }"), json={"errors": [{"message": "no"}]})
RETURNED = attempt(SendStatus.ANSWERED, 503, error=None, response=RESPONSE)


async def test_a_tenacity_objects_wait_and_stop_are_taken() -> None:
    """Its numbers replace the policy's."""
    retrying = tenacity.AsyncRetrying(
        wait=tenacity.wait_incrementing(start=1, increment=2), stop=tenacity.stop_after_attempt(3)
    )
    assert await waits_of(retrying, [attempt(SendStatus.UNSENT)] * 3) == [1, 3, None]


async def test_coroutines_of_a_tenacity_object_are_awaited() -> None:
    """AsyncRetrying takes coroutine functions for each of the three."""

    async def wait(state: tenacity.RetryCallState) -> float:
        return 0.25 * state.attempt_number

    async def stop(state: tenacity.RetryCallState) -> bool:
        return state.attempt_number >= 3

    async def retry(state: tenacity.RetryCallState) -> bool:
        return state.outcome is not None and state.outcome.failed

    retrying = tenacity.AsyncRetrying(wait=wait, stop=stop, retry=retry)  # type: ignore[arg-type]
    assert await waits_of(retrying, [attempt(SendStatus.UNSENT)] * 3) == [0.25, 0.5, None]


@pytest.mark.parametrize(
    ("predicate", "failure", "wait"),
    [
        (tenacity.retry_always, attempt(SendStatus.UNSENT), 0),
        (tenacity.retry_never, attempt(SendStatus.UNSENT), None),
        (tenacity.retry_if_exception_type(TransportError), attempt(SendStatus.UNSENT), 0),
        (tenacity.retry_if_exception_type(KeyError), attempt(SendStatus.UNSENT), None),
        (tenacity.retry_if_exception_type(HTTPStatusError), RETURNED, 0),
        (tenacity.retry_if_exception_type(KeyError), RETURNED, None),
        (tenacity.retry_if_result(lambda response: response is RESPONSE), RETURNED, 0),
        (tenacity.retry_if_result(lambda response: True), attempt(SendStatus.UNSENT), None),
    ],
)
async def test_a_predicate_must_agree(predicate: Any, failure: AttemptOutcome, wait: float | None) -> None:
    """It is shown the error that would be raised, or the answer that would be returned."""
    retrying = tenacity.AsyncRetrying(retry=predicate, wait=tenacity.wait_none())
    assert await waits_of(retrying, [failure]) == [wait]


async def test_a_predicate_sees_a_status() -> None:
    """An answer whose status a transport hides is shown as one with a status of success."""
    seen = []

    def look(error: BaseException) -> bool:
        seen.append(getattr(error, "status", None))
        return False

    retrying = tenacity.AsyncRetrying(retry=tenacity.retry_if_exception(look))
    await waits_of(retrying, [attempt(SendStatus.ANSWERED, None, error=None, response=RESPONSE)])
    await waits_of(retrying, [RETURNED])
    assert seen == [200, 503]


async def test_a_tenacity_object_is_told_the_whole_call() -> None:
    """Its callables see what tenacity's own loop would show: what ended it, when, and all the waits."""
    seen: list[tuple[Any, ...]] = []

    def stop(state: tenacity.RetryCallState) -> bool:
        assert state.outcome is not None
        seen.append((state.attempt_number, state.upcoming_sleep, state.idle_for, state.start_time))
        assert state.retry_object is retrying
        assert (state.args, state.kwargs) == ((), {})
        return False

    def look(error: BaseException) -> bool:
        seen.append((type(error), getattr(error, "response", None), str(error)))
        return True

    retrying = tenacity.AsyncRetrying(
        wait=tenacity.wait_incrementing(start=1, increment=2),
        stop=stop,
        retry=tenacity.retry_if_exception(look),
    )
    schedule = Backoff.of(retrying)
    state = schedule.state(7.0)
    for failure in (attempt(SendStatus.UNSENT), RETURNED, attempt(SendStatus.UNSENT)):
        await schedule.next_wait(state, failure)
    assert seen == [
        (TransportError, None, "no"),
        (1, 1.0, 0.0, 7.0),
        (HTTPStatusError, RESPONSE, "a test"),
        (2, 3.0, 1.0, 7.0),
        (TransportError, None, "no"),
        (3, 5.0, 4.0, 7.0),
    ]


def test_what_is_no_policy_is_refused() -> None:
    """A number of attempts alone, say."""
    with pytest.raises(ConfigurationError, match="not int"):
        Backoff.of(3)  # type: ignore[arg-type]


async def test_a_tenacity_object_is_not_written_to() -> None:
    """The object may be shared with other code: what we do leaves no trace in it."""
    retrying = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(3))
    before = dict(retrying.statistics)
    await waits_of(retrying, [attempt(SendStatus.UNSENT)] * 3)
    assert retrying.statistics == before


# --- Retry-After ----------------------------------------------------------------------------------

NOON = datetime(2026, 3, 1, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("value", "seconds"),
    [
        ("0", 0),
        ("120", 120),
        (" 120\t", 120),
        ("Sun, 01 Mar 2026 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0),
        ("Sunday, 01-Mar-26 12:00:30 GMT", 30),
        ("Sun, 01 Mar 2026 13:00:30 +0100", 30),
        ("-1", None),
        ("1.5", 1.5),
        ("1e3", None),
        ("soon", None),
        ("", None),
        ("²", None),
        ("Sun, 99 Mar 2026 12:00:30 GMT", None),
        ("Sun, 01 Mar 2026 12:00:30 +99999999999999999999", None),
        ("\x00", None),
    ],
)
def test_retry_after_is_seconds_or_a_date(value: str, seconds: float | None) -> None:
    """RFC 9110: seconds, or a date held against the answer's own; anything else is no wish."""
    assert retry_after({"Retry-After": value, "Date": format_datetime(NOON, usegmt=True)}) == seconds


def test_without_a_date_of_the_answer_ours_is_taken() -> None:
    """A server that sends no Date is believed about our own clock."""
    asked = format_datetime(datetime.now(UTC) + timedelta(seconds=60), usegmt=True)
    assert 55 < (retry_after({"Retry-After": asked}) or 0) <= 60


def test_a_date_of_the_answer_that_is_none_does_no_harm() -> None:
    """A broken Date header costs the wish, not the call."""
    for date in ("yesterday", "", "Sun, 01 Mar 2026 12:00:00 +99999999999999999999"):
        wish = retry_after({"Retry-After": "Sun, 01 Mar 2026 12:00:30 GMT", "Date": date})
        assert wish is None or wish >= 0


def test_no_header_is_no_wish() -> None:
    """Nothing asked, nothing waited."""
    assert retry_after({}) is None


@pytest.mark.parametrize("seed", range(3))
def test_no_header_value_makes_it_raise(seed: int) -> None:
    """A header comes from a stranger: numbers or None, whatever it says."""
    dice = random.Random(seed)
    valid = "Sun, 01 Mar 2026 12:00:30 +0100"
    for _ in range(3000):
        text = list(valid)
        for _ in range(dice.randrange(1, 6)):
            text[dice.randrange(len(text))] = dice.choice(
                ["", "9" * dice.randrange(1, 25), "-", ":", " ", "\xff"]
            )
        wish = retry_after({"Retry-After": "".join(text)})
        assert wish is None or wish >= 0


# --- the budget -----------------------------------------------------------------------------------


class Fake(clock.Clock):
    """A clock that a test sets."""

    def __init__(self) -> None:
        self.now = 5000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def time() -> Iterator[Fake]:
    fake = Fake()
    with clock.using(fake):
        yield fake


def spend(budget: Budget) -> int:
    """Take all there is; how much it was."""
    return next(count for count in itertools.count() if not budget.withdraw())


def test_a_client_begins_with_its_reserve(time: Fake) -> None:
    """Ten retries before anything has succeeded, and none after them, however long it waits."""
    budget = Budget(RetryBudget())
    assert spend(budget) == 10
    time.now += 1e6
    assert budget.balance() == 0


def test_the_old_floor(time: Fake) -> None:
    """``min_per_second``: so many in each second, and those of a window may be saved up."""
    budget = Budget(RetryBudget(ratio=0, reserve=0, min_per_second=0.5, window=4))
    assert spend(budget) == 2
    time.now += 2
    assert spend(budget) == 1
    time.now += 1e6
    assert spend(budget) == 2


def test_successes_earn_their_share(time: Fake) -> None:
    """A fifth of a retry each, within the calls of the window where that is more than the reserve."""
    budget = Budget(RetryBudget(reserve=0))
    assert spend(budget) == 0
    for expected in (0, 0, 0, 0, 1, 0):
        budget.deposit(time.now)
        assert spend(budget) == expected
    busy = Budget(RetryBudget())
    for _ in range(200):
        busy.deposit(time.now)
    assert busy.balance() == pytest.approx(40)


def test_what_is_saved_up_is_forgotten(time: Fake) -> None:
    """After a silence of a window only the reserve is left of it."""
    budget = Budget(RetryBudget())
    for _ in range(200):
        budget.deposit(time.now)
    time.now += 11.1
    assert budget.balance() == 10


def test_what_is_left_is_never_less_than_nothing(time: Fake) -> None:
    """Retries may outlive the successes that earned them."""
    budget = Budget(RetryBudget(ratio=1, reserve=0))
    for _ in range(5):
        budget.deposit(time.now)
    assert spend(budget) == 5
    time.now += 11.1
    assert budget.balance() == 0
    assert not budget.withdraw()


def test_a_call_of_a_slower_thread_is_counted(time: Fake) -> None:
    """One that began a while ago earns as much."""
    budget = Budget(RetryBudget(ratio=0.5, reserve=0))
    budget.deposit(time.now)
    budget.deposit(time.now - 1.5)
    assert budget.balance() == pytest.approx(1)


def test_a_refusal_is_counted(time: Fake) -> None:
    """Whoever was refused is told apart from whoever did not ask."""
    budget = Budget(RetryBudget(ratio=0, reserve=1))
    assert [budget.withdraw() for _ in range(3)] == [True, False, False]
    assert budget.rejections == 2


@pytest.mark.parametrize("rate", [0.1, 1, 5, 20, 1000])
def test_an_outage_at_any_rate(time: Fake, rate: float) -> None:
    """A client sends its calls and ten retries, whether it is quiet or busy."""
    budget, granted = Budget(RetryBudget()), 0
    for _ in range(int(min(600 * rate, 5000)) + 20):
        time.now += 1 / rate
        granted += sum(budget.withdraw() for _ in range(3))
    assert granted == 10
