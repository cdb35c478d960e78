"""Settings: what is accepted, how everything wrong is told at once, and that secrets stay secret."""

from __future__ import annotations

import math
import pickle
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, cast

import pytest
import tenacity
from aiographql.client import GraphQLClientException
from pydantic import ValidationError

from graphql_prod import (
    BATCH,
    INTERACTIVE,
    PROBE,
    STANDARD,
    ConfigurationError,
    PoolPolicy,
    ProductionClient,
    ProductionConfig,
    RetryBudget,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.resilience.timeouts import override
from graphql_prod.testing import Answer, ScriptedServer
from graphql_prod.testing.waiting import no_waiting

if TYPE_CHECKING:
    from collections.abc import Callable

    from graphql_prod.settings.base import Policy

URL = "http://api.example.com/graphql"
SECRET = "s3cr3t"


class NoIO:
    """Tests that only make values: the check for things left behind would cost more than they do."""

    @pytest.fixture(autouse=True)
    def nothing_left_behind(self) -> None:
        """Nothing to leave."""


def config_of(**settings: Any) -> ProductionConfig:
    """A config of plain values, as a file gives them."""
    return ProductionConfig(**settings)


def retry_of(**settings: Any) -> RetryPolicy:
    """A retry policy of plain values."""
    return RetryPolicy(**settings)


def problems(make: Callable[[], object]) -> dict[str, str]:
    """What is wrong, by key; each problem names a source and says something."""
    with pytest.raises(ConfigurationError) as caught:
        make()
    error = caught.value
    assert isinstance(error, ValueError)
    assert isinstance(error, GraphQLClientException)
    for problem in error.problems:
        assert problem.source
        assert problem.message
        assert str(problem) in str(error)
    return {problem.key: problem.message for problem in error.problems}


class TestFromConfig(NoIO):
    def test_mapping(self) -> None:
        """Every setting can be given in a mapping, nested groups as mappings."""
        client = ProductionClient.from_config(
            {
                "endpoint": URL,
                "backend": "httpx",
                "method": "GET",
                "headers": {"Authorization": "Bearer 1"},
                "retry": {"attempts": 2, "statuses": [503, 429], "budget": {"ratio": 0.5}},
                "timeout": {"total": 7, "attempt": 3},
                "pool": {"requests": 5, "keepalive": 1},
            }
        )
        config = client.config
        assert (client.endpoint, config.endpoint) == (URL, URL)
        assert (config.backend, config.method) == ("httpx", "get")
        assert config.headers["Authorization"].get_secret_value() == "Bearer 1"
        assert config.retry == retry_of(attempts=2, statuses={503, 429}, budget=RetryBudget(ratio=0.5))
        assert config.timeout == TimeoutPolicy(total=7, attempt=3)
        assert config.pool == PoolPolicy(requests=5, keepalive=1)

    def test_any_mapping(self) -> None:
        """A read-only mapping will do."""
        source = MappingProxyType({"endpoint": URL, "pool": {"requests": 3}})
        assert ProductionClient.from_config(source).config.pool.requests == 3

    def test_config(self) -> None:
        """A ProductionConfig is as good as a mapping, and stays as it was."""
        config = config_of(endpoint=URL, timeout="batch")
        client = ProductionClient.from_config(config)
        assert client.config.timeout == BATCH
        assert (config.backend, client.config.backend) == (None, "aiohttp")

    def test_subclass(self) -> None:
        """A subclass makes one of itself."""

        class Mine(ProductionClient):
            pass

        assert type(Mine.from_config({"endpoint": URL})) is Mine

    def test_objects_beside_settings(self) -> None:
        """Constructor arguments that are no settings are given by name; they win."""
        client = ProductionClient.from_config(
            {"endpoint": URL, "method": "post"}, method="get", validate=False
        )
        assert client.config.method == "get"

    def test_missing_endpoint(self) -> None:
        """Without an endpoint there is no client."""
        assert "missing" in problems(lambda: ProductionClient.from_config({}))["endpoint"]
        assert set(problems(lambda: ProductionClient.from_config(config_of()))) == {"endpoint"}

    def test_missing_endpoint_among_others(self) -> None:
        """A missing endpoint is told together with whatever else is wrong."""
        found = problems(lambda: ProductionClient.from_config({"method": "put"}))
        assert set(found) == {"endpoint", "method"}

    def test_defaults(self) -> None:
        """What nobody names has the documented default."""
        config = ProductionClient.from_config({"endpoint": URL}).config
        assert config.retry == RetryPolicy(
            attempts=4, wait_initial=0.5, wait_max=8.0, jitter="full", mutations="unsent"
        )
        assert config.timeout == STANDARD
        assert config.pool == PoolPolicy(requests=100, subscriptions=100, retry_headroom=0.2, keepalive=4.0)
        assert config.backend == "aiohttp"

    def test_constructor_wins(self) -> None:
        """Arguments given beside a config win; header names compare without case."""
        config = config_of(
            endpoint="http://other/graphql", method="get", headers={"authorization": "old", "X-Kept": "1"}
        )
        client = ProductionClient(URL, {"Authorization": "new"}, "post", config=config)
        headers = {name.lower(): value.get_secret_value() for name, value in client.config.headers.items()}
        assert (client.config.endpoint, client.config.method) == (URL, "post")
        assert headers == {"authorization": "new", "x-kept": "1"}
        assert len(client.config.headers) == 2
        assert config.endpoint == "http://other/graphql"

    def test_two_spellings(self) -> None:
        """Two spellings of one header in one mapping are one header: never two on the wire."""
        config = config_of(headers={"authorization": "old", "Authorization": "new"})
        assert len(ProductionClient(URL, config=config).config.headers) == 1


class TestAllProblemsAtOnce(NoIO):
    def test_everywhere(self) -> None:
        """One error lists every problem, on whatever level, with its dotted key."""
        found = problems(
            lambda: ProductionClient.from_config(
                {
                    "endpoint": "ftp://files.example.com",
                    "backend": "curl",
                    "method": "put",
                    "headers": {"X-Ok": "1", "X-Bad": 1},
                    "retry": {
                        "attempts": 0,
                        "wait": 3,
                        "jitter": "half",
                        "budget": {"ratio": -1, "windwo": 1},
                    },
                    "timeout": "fast",
                    "pool": {"requests": "many", "keepalive": -1},
                    "pols": {},
                }
            )
        )
        assert set(found) == {
            "endpoint",
            "backend",
            "method",
            "headers.X-Bad",
            "retry.attempts",
            "retry.wait",
            "retry.jitter",
            "retry.budget.ratio",
            "retry.budget.windwo",
            "timeout",
            "pool.requests",
            "pool.keepalive",
            "pols",
        }

    @pytest.mark.parametrize(
        ("settings", "key", "allowed"),
        [
            ({"backend": "curl"}, "backend", ["aiohttp", "httpx"]),
            ({"method": "put"}, "method", ["post", "get"]),
            ({"timeout": "fast"}, "timeout", ["interactive", "standard", "batch", "probe"]),
            ({"endpoint": "ftp://h"}, "endpoint", ["http://", "https://", "ws://", "wss://"]),
            ({"retry": {"jitter": "half"}}, "retry.jitter", ["full", "none"]),
            ({"retry": {"mutations": "yes"}}, "retry.mutations", ["unsent", "never", "always"]),
            ({"retry": {"attempts": 0}}, "retry.attempts", ["1"]),
            ({"retry": {"attemps": 3}}, "retry.attemps", ["attempts", "wait_initial", "budget"]),
            ({"retry": {"statuses": [200]}}, "retry.statuses.0", ["400"]),
            ({"pool": {"requests": 0}}, "pool.requests", ["1"]),
            ({"pols": {}}, "pols", ["pool", "retry", "timeout"]),
        ],
        ids=lambda value: value if isinstance(value, str) else None,
    )
    def test_what_is_allowed(self, settings: dict[str, Any], key: str, allowed: list[str]) -> None:
        """A problem says what would be right."""
        found = problems(lambda: config_of(**settings))
        assert set(found) == {key}
        for word in allowed:
            assert word in found[key]

    def test_contradiction_among_others(self) -> None:
        """A contradiction is told together with a wrong value in the same group."""
        found = problems(lambda: config_of(timeout={"total": 1, "attempt": 5, "read": -1}))
        assert any("attempt" in key and "total" in key for key in found)
        assert "timeout.read" in found

    def test_contradictions_in_two_groups(self) -> None:
        """Contradictions in different groups are told together, naming both numbers."""
        found = problems(
            lambda: config_of(timeout={"total": 1, "attempt": 5}, retry={"wait_initial": 9, "wait_max": 2})
        )
        texts = " ".join([*found, *found.values()])
        for word in ("timeout", "attempt=5", "total=1", "retry", "wait_initial=9", "wait_max=2"):
            assert word in texts

    def test_several_contradictions(self) -> None:
        """Each contradicting pair of one group is told."""
        with pytest.raises(ConfigurationError) as caught:
            TimeoutPolicy(total=1, connect=2, read=3)
        assert len(caught.value.problems) == 2

    @pytest.mark.parametrize("group", ["retry", "timeout", "pool"])
    @pytest.mark.parametrize("value", [None, 3, [], object(), True])
    def test_wrong_kind_of_group(self, group: str, value: object) -> None:
        """A group that is none gives one problem, under its own name."""
        assert set(problems(lambda: config_of(**{group: value}))) == {group}

    @pytest.mark.parametrize("group", [None, "retry", "pool"])
    def test_keys_that_are_no_text(self, group: str | None) -> None:
        """YAML has keys that are numbers; they are unknown settings like any other."""
        settings: dict[Any, Any] = {"endpoint": URL}
        settings |= {1: 2} if group is None else {group: {1: 2}}
        (key,) = problems(lambda: ProductionClient.from_config(settings))
        assert key.endswith("1")

    @pytest.mark.parametrize("argument", ["headers", "config"])
    def test_wrong_kind_of_argument(self, argument: str) -> None:
        """A constructor argument of a wrong type is a ConfigurationError too."""
        wrong: dict[str, Any] = {"headers": "Authorization: x", "config": {"method": "get"}}
        with pytest.raises(ConfigurationError):
            ProductionClient(URL, **{argument: wrong[argument]})

    def test_constructor_arguments(self) -> None:
        """The constructor's own arguments are judged together with the config's settings."""
        wrong: Any = {"headers": {"X": 1}, "backend": "curl"}
        found = problems(lambda: ProductionClient("nowhere", method="put", **wrong))
        assert set(found) == {"endpoint", "headers.X", "method", "backend"}


class TestEndpoint(NoIO):
    @pytest.mark.parametrize(
        "endpoint",
        [
            "http://h/graphql",
            "https://h:8443/graphql?tenant=1",
            "ws://h/graphql",
            "wss://h/graphql",
            "HTTP://H/graphql",
            "http://127.0.0.1:1",
            "http://[::1]:8080/graphql",
            "http://user:pw@h/graphql",
            "http://bücher.example/graphql",
        ],
    )
    def test_accepted(self, endpoint: str) -> None:
        """HTTP and WebSocket URLs are endpoints; constructing needs no loop and no network."""
        assert ProductionClient(endpoint).endpoint == endpoint

    @pytest.mark.parametrize(
        "endpoint",
        [
            "",
            " ",
            "api.example.com/graphql",
            "//api.example.com/graphql",
            "/graphql",
            "ftp://h/graphql",
            "file:///etc/passwd",
            "http:h",
            "http://",
            "http:///graphql",
            "http://:80/graphql",
            "http://user@/graphql",
            "http://h:99999/graphql",
            "http://h:port/graphql",
            "http://h:-1/graphql",
            "http://[::1/graphql",
            "http://api example.com/graphql",
            "http://api.exa\nmple.com/graphql",
            "http://api.example.com /graphql",
        ],
    )
    def test_refused(self, endpoint: str) -> None:
        """What no client can ask is refused when the client is made, not at the first call."""
        assert set(problems(lambda: config_of(endpoint=endpoint))) == {"endpoint"}
        with pytest.raises(ConfigurationError):
            ProductionClient(endpoint)

    @pytest.mark.parametrize("endpoint", [None, 5, b"http://h/graphql", object(), ["http://h"]])
    def test_no_text(self, endpoint: Any) -> None:
        """What is no text is no endpoint."""
        with pytest.raises(ConfigurationError, match="endpoint"):
            ProductionClient(endpoint)


class TestBounds(NoIO):
    @pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf, -1, 0, "soon", [], {}])
    @pytest.mark.parametrize("limit", ["total", "attempt", "connect", "read", "write", "pool"])
    def test_timeouts(self, limit: str, value: object) -> None:
        """A time limit is a positive number of seconds, or None."""
        assert set(problems(lambda: TimeoutPolicy(**cast("Any", {limit: value})))) == {limit}

    @pytest.mark.parametrize(
        ("kind", "key", "value"),
        [
            (RetryPolicy, "attempts", 0),
            (RetryPolicy, "attempts", -1),
            (RetryPolicy, "attempts", 2.5),
            (RetryPolicy, "attempts", None),
            (RetryPolicy, "attempts", math.inf),
            (RetryPolicy, "wait_initial", -0.1),
            (RetryPolicy, "wait_initial", math.nan),
            (RetryPolicy, "wait_max", math.inf),
            (RetryPolicy, "wait_max", None),
            (RetryPolicy, "jitter", None),
            (RetryPolicy, "statuses", 503),
            (RetryPolicy, "idempotency_header", ""),
            (RetryPolicy, "idempotency_header", "Idempotency Key"),
            (RetryPolicy, "idempotency_header", "Key\r\nX-Admin"),
            (RetryPolicy, "budget", 0.2),
            (RetryBudget, "ratio", -0.1),
            (RetryBudget, "ratio", math.nan),
            (RetryBudget, "ratio", math.inf),
            (RetryBudget, "min_per_second", -1),
            (RetryBudget, "min_per_second", math.inf),
            (RetryBudget, "window", 0),
            (RetryBudget, "window", -1),
            (RetryBudget, "window", math.nan),
            (RetryBudget, "window", None),
            (PoolPolicy, "requests", 0),
            (PoolPolicy, "requests", 1.5),
            (PoolPolicy, "subscriptions", -1),
            (PoolPolicy, "retry_headroom", -0.1),
            (PoolPolicy, "retry_headroom", math.inf),
            (PoolPolicy, "keepalive", -1),
            (PoolPolicy, "keepalive", math.nan),
        ],
    )
    def test_refused(self, kind: type[Policy], key: str, value: object) -> None:
        """Numbers that mean nothing are refused when the policy is made."""
        assert set(problems(lambda: kind(**{key: value}))) == {key}

    @pytest.mark.parametrize(
        "policy",
        [
            RetryPolicy(attempts=1, wait_initial=0, wait_max=0),
            retry_of(statuses=[], error_codes=[]),
            RetryPolicy(budget=None, idempotency_header="Idempotency-Key"),
            RetryBudget(ratio=0, min_per_second=0, window=0.001),
            PoolPolicy(requests=1, subscriptions=0, retry_headroom=0, keepalive=0),
            TimeoutPolicy(total=None, attempt=None, connect=None, read=None, write=None, pool=None),
        ],
        ids=lambda policy: type(policy).__name__,
    )
    def test_extremes(self, policy: Policy) -> None:
        """The smallest values that mean something, and None where it means no limit, are accepted."""
        assert type(policy)(**policy.model_dump()) == policy

    @pytest.mark.parametrize(("kind", "key"), [(TimeoutPolicy, "total"), (RetryPolicy, "attempts")])
    def test_truth_is_no_number(self, kind: type[Policy], key: str) -> None:
        """`true` where a number belongs is a slip, not one second and not one attempt."""
        assert set(problems(lambda: kind(**{key: True}))) == {key}

    def test_defaults_give_way(self) -> None:
        """One number alone never contradicts a default: the default moves."""
        assert TimeoutPolicy(total=2).connect == 2
        assert TimeoutPolicy(attempt=60).total == 60
        assert RetryPolicy(wait_max=0.1).wait_initial == 0.1
        assert RetryPolicy(wait_initial=20).wait_max == 20

    @pytest.mark.parametrize(
        ("policy", "numbers"),
        [
            (INTERACTIVE, (5, 2, 1, 2)),
            (STANDARD, (30, None, 5, 10)),
            (BATCH, (300, 120, 10, 60)),
            (PROBE, (2, None, 1, 2)),
        ],
    )
    def test_presets(self, policy: TimeoutPolicy, numbers: tuple[float | None, ...]) -> None:
        """The presets are the documented ones."""
        assert (policy.total, policy.attempt, policy.connect, policy.read) == numbers

    @pytest.mark.parametrize("name", ["interactive", "Interactive", "INTERACTIVE"])
    def test_preset_names(self, name: str) -> None:
        """A preset is known by its name in any case."""
        assert config_of(timeout=name).timeout is INTERACTIVE


class TestValues(NoIO):
    @pytest.mark.parametrize(
        "policy", [RetryPolicy(), RetryBudget(), PoolPolicy(), TimeoutPolicy(total=2)], ids=repr
    )
    def test_frozen(self, policy: Policy) -> None:
        """Policies are values: they cannot be changed, compare by what they say, and can be keys."""
        for key in type(policy).model_fields:
            with pytest.raises((ValidationError, AttributeError, TypeError)):
                setattr(policy, key, getattr(policy, key))
        twin = type(policy)(**policy.model_dump(exclude_unset=True))
        assert twin == policy
        assert hash(twin) == hash(policy)
        assert twin is not policy

    def test_config_is_frozen(self) -> None:
        """A config that is in use cannot be changed under its client."""
        config = config_of(endpoint=URL)
        with pytest.raises((ValidationError, AttributeError, TypeError)):
            config.method = "get"  # type: ignore[misc]

    def test_callers_mapping_is_not_kept(self) -> None:
        """Changing the mapping afterwards changes no setting."""
        headers = {"X-A": "1"}
        config = config_of(headers=headers)
        client = ProductionClient(URL, headers)
        headers["X-B"] = "2"
        assert list(config.headers) == ["X-A"]
        assert list(client.config.headers) == ["X-A"]

    @pytest.mark.parametrize("unset", [True, False])
    @pytest.mark.parametrize("mode", ["python", "json"])
    def test_round_trip(self, mode: str, unset: bool) -> None:
        """What a config says of itself makes the same config again."""
        config = config_of(
            endpoint="https://h/graphql",
            backend="httpx",
            retry=retry_of(attempts=2, statuses={429}, budget=RetryBudget(ratio=0.5)),
            timeout=TimeoutPolicy(total=2),
            pool=PoolPolicy(requests=7),
        )
        again = config_of(**config.model_dump(mode=mode, exclude_unset=unset))
        assert again == config
        assert ProductionClient.from_config(again).config == ProductionClient.from_config(config).config

    def test_round_trip_of_headers(self) -> None:
        """Header values survive a round trip in memory."""
        config = config_of(headers={"Authorization": SECRET})
        again = config_of(**config.model_dump())
        assert again.headers["Authorization"].get_secret_value() == SECRET

    def test_pickled(self) -> None:
        """Settings travel to worker processes."""
        config = config_of(endpoint=URL, timeout=TimeoutPolicy(total=2))
        again = pickle.loads(pickle.dumps(config))
        assert again == config
        assert again.timeout.named == {"total"}

    def test_tenacity(self) -> None:
        """A tenacity object may stand in for the retry policy, and is kept as it is."""
        retrying = tenacity.AsyncRetrying(stop=tenacity.stop_after_attempt(2))
        config = config_of(retry=retrying)
        assert config.retry is retrying
        assert ProductionClient(URL, config=config).config.retry is retrying

    def test_effective(self) -> None:
        """`client.config` is what holds: arguments and the deciding session included."""
        client = ProductionClient(URL, {"X": "1"}, "GET", backend="httpx")
        assert client.config.endpoint == URL
        assert client.config.method == "get"
        assert client.config.backend == "httpx"
        assert list(client.config.headers) == ["X"]
        assert client.with_options(idempotent=True).config is client.config
        assert client.with_options(timeout=1).config.timeout.total == 1


LEAKY_ENDPOINTS = [
    f"ftp://user:{SECRET}@h/graphql",
    f"http://user:{SECRET}@:80/graphql",
    f"http://user:{SECRET}@h:99999/graphql",
    f"http://user:{SECRET}@h:port/graphql",
    f"http://user:{SECRET}@[::1/graphql",
    f"user:{SECRET}@h/graphql",
    f"//user:{SECRET}@h/graphql",
    f"http://user:{SECRET}/x@h/graphql",
    f"http://user:{SECRET}?x@h/graphql",
    f"http://user:{SECRET}#x@h/graphql",
    f"http://user:x/{SECRET}@h/graphql",
    f"http://user:x@{SECRET}@:80/graphql",
    f"ftp://h/graphql?token={SECRET}",
    f"ftp://h/graphql#{SECRET}",
    f"http:user:{SECRET}@h/graphql",
    f"http:/user:{SECRET}@h/graphql",
]


class TestSecrets(NoIO):
    @pytest.mark.parametrize("endpoint", LEAKY_ENDPOINTS)
    def test_wrong_endpoint(self, endpoint: str) -> None:
        """However wrong an endpoint is, its credentials are in no error: often they are what is wrong."""
        for make in (
            lambda: config_of(endpoint=endpoint),
            lambda: ProductionClient(endpoint),
            lambda: ProductionClient.from_config({"endpoint": endpoint}),
        ):
            with pytest.raises(ConfigurationError) as caught:
                make()
            error: BaseException | None = caught.value
            assert SECRET not in f"{error} {error!r}"
            assert error is not None
            assert error.__cause__ is None
            assert error.__suppress_context__ or error.__context__ is None

    @pytest.mark.parametrize(
        "settings",
        [
            {"headers": {"Authorization": [SECRET]}},
            {"headers": {"Authorization": SECRET.encode(), "X": 1}},
            {"headers": SECRET},
            {"headers": [SECRET]},
            {"headers": {"Authorization": {"Bearer": SECRET}}},
            {"header": {"Authorization": SECRET}},
            {"authorization": f"Bearer {SECRET}"},
            {"endpiont": f"https://user:{SECRET}@h/graphql"},
            {"retry": {"idempotency_key": SECRET}},
            {"endpoint": [f"https://user:{SECRET}@h/graphql"]},
        ],
        ids=str,
    )
    def test_wrong_settings(self, settings: dict[str, Any]) -> None:
        """Values of headers and of keys that nobody knows (perhaps a misspelt secret) are never shown."""
        settings = {"method": "put", **settings}
        with pytest.raises(ConfigurationError) as caught:
            config_of(**settings)
        assert SECRET not in f"{caught.value} {caught.value!r} {caught.value.problems}"

    def test_shown(self) -> None:
        """Config, client, view and counts print without header values and without credentials."""
        config = config_of(
            endpoint=f"https://user:{SECRET}@h/graphql?token={SECRET}", headers={"X-Token": SECRET}
        )
        client = ProductionClient.from_config(config, headers={"X-Api-Key": SECRET})
        view = client.with_options(headers={"X-Tenant": SECRET})
        shown = [config, client, view, client.config, client.stats(), client.transport]
        for thing in shown:
            assert SECRET not in f"{thing} {thing!r}", type(thing)
        assert "h/graphql" in repr(client)


class TestSecretsOfCalls:
    @pytest.mark.parametrize(
        "answer",
        [
            Answer.page(502),
            Answer.page(404),
            Answer.redirect("/elsewhere"),
            Answer.login_page(),
            Answer.disconnect(),
            Answer.hang(),
        ],
        ids=["502", "404", "redirect", "login", "disconnect", "hang"],
    )
    async def test_errors(self, server: ScriptedServer, backend: Any, answer: Answer) -> None:
        """No error of a call shows a credential of the endpoint, a header's value, or a variable."""
        server.always(answer)
        endpoint = server.url.replace("http://", f"http://user:{SECRET}@") + f"?token={SECRET}"
        headers = {"X-Api-Key": SECRET}
        with no_waiting():
            async with ProductionClient(endpoint, headers, validate=False, backend=backend) as client:
                view = client.with_options(timeout=TimeoutPolicy(total=5, read=0.05), headers={"X-T": SECRET})
                with pytest.raises(GraphQLClientException) as caught:
                    await view.query("query ($n: String) { hello(name: $n) }", variables={"n": SECRET})
        error = caught.value
        assert SECRET not in f"{error} {error!r} {getattr(error, '__notes__', '')}"
        assert f"{server.host}:{server.port}" in str(error)

    async def test_refused(self, backend: Any) -> None:
        """Nor does the error of a server that is not there."""
        endpoint = f"http://user:{SECRET}@127.0.0.1:1/graphql?token={SECRET}"
        with no_waiting():
            async with ProductionClient(endpoint, validate=False, backend=backend) as client:
                with pytest.raises(GraphQLClientException) as caught:
                    await client.query("{ hello }")
        assert SECRET not in f"{caught.value} {caught.value!r}"

    async def test_log(self, server: ScriptedServer, backend: Any, caplog: pytest.LogCaptureFixture) -> None:
        """No log record holds one either, in its text or among its facts."""
        server.script(Answer.page(503))
        endpoint = server.url.replace("http://", f"http://user:{SECRET}@")
        with no_waiting(), caplog.at_level("DEBUG", "graphql_prod"):
            async with ProductionClient(
                endpoint, {"X-Api-Key": SECRET}, validate=False, backend=backend
            ) as client:
                await client.query("query ($n: String) { hello(name: $n) }", variables={"n": SECRET})
        records = [record for record in caplog.records if record.name == "graphql_prod"]
        assert records
        assert SECRET not in str([vars(record) for record in records])


def test_what_holds_after_a_limit_was_asked_for() -> None:
    """A policy or a preset replaces all; a number is a new total, and named limits that fit into it stay."""
    base = TimeoutPolicy(total=30, attempt=10, read=5, connect=None)
    assert override(base, None) is base
    assert override(base, BATCH) is BATCH
    assert override(base, "Probe") == PROBE  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="no preset is called 'soon'"):
        override(base, "soon")  # type: ignore[arg-type]
    with pytest.raises(ConfigurationError, match="which limit"):
        ProductionConfig(timeout=5)  # type: ignore[arg-type]
    longer, shorter = override(base, 60), override(base, 5)
    assert longer == TimeoutPolicy(total=60, attempt=10, read=5, connect=None)
    assert longer.named == {"total", "attempt", "read", "connect"}
    assert shorter == TimeoutPolicy(total=5, read=5, connect=None)
    assert shorter.named == {"total", "read", "connect"}


def test_totals_that_are_remembered_stay_those_of_their_policy() -> None:
    """Of two equal policies one may name what the other has by default: each keeps its own limits."""
    named, default = TimeoutPolicy(total=30, read=10), TimeoutPolicy(total=30)
    for _ in range(2):
        assert override(named, 20).read == 10
        assert override(default, 20).read is None
        assert override(default, 20.0).total == 20
    for number in range(1, 200):  # more than are remembered
        assert override(default, number).total == number
    for bad in (True, False, 0, -1, float("nan")):
        with pytest.raises(ConfigurationError):
            override(default, bad)
