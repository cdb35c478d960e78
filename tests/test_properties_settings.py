"""What holds for all settings: one meaning in every form, limits that fit, headers that never meet twice."""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from aiographql.client import GraphQLRequest, GraphQLResponse, GraphQLTransport
from hypothesis import event, example, given
from hypothesis import strategies as st

from graphql_prod import STANDARD, ConfigurationError, ProductionClient, ProductionConfig, TimeoutPolicy
from graphql_prod.__main__ import main
from graphql_prod.sources import load

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def nothing_left_behind() -> None:
    """Nothing to leave: looking for it around each test would cost more than they do."""


@pytest.fixture(autouse=True, scope="module")
def bare_environment() -> Iterator[None]:
    """Nobody else's settings."""
    with environment({}):
        yield


@contextlib.contextmanager
def environment(variables: Mapping[str, str]) -> Iterator[None]:
    """These variables of ours, and no others."""
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.upper().startswith("GRAPHQL_PROD_")]:
            patch.delenv(name)
        for name, value in variables.items():
            patch.setenv(f"GRAPHQL_PROD_{name}", value)
        yield


# --- one meaning in every form --------------------------------------------------------------------

positive = st.floats(1e-3, 1e6) | st.integers(1, 10_000)
natural = st.floats(0, 1e6) | st.integers(0, 10_000)
count = st.integers(1, 10_000)
words = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,12}", fullmatch=True)
codes = st.lists(words, max_size=3, unique=True)


def group(**settings: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """Any part of these settings."""
    return st.fixed_dictionaries({}, optional=settings)


def ordered(settings: dict[str, Any], *nested: tuple[str, str]) -> dict[str, Any]:
    """The settings, with the outer number of each pair raised to the inner one where it is less."""
    for inner, outer in nested:
        if settings.get(inner) is not None and settings.get(outer) is not None:
            settings[outer] = max(settings[inner], settings[outer])
    return settings


LIMITS = ("connect", "read", "write", "pool")
NESTED = (
    *((limit, "attempt") for limit in LIMITS),
    *((limit, "total") for limit in LIMITS),
    ("attempt", "total"),
)
limit = st.none() | positive
limits = group(**dict.fromkeys(("total", "attempt", *LIMITS), limit)).map(
    lambda given: ordered(given, *NESTED)
)
timeouts = st.sampled_from(["interactive", "standard", "batch", "probe"]) | limits
retries = group(
    attempts=count,
    wait_initial=natural,
    wait_max=natural,
    jitter=st.sampled_from(["full", "none"]),
    mutations=st.sampled_from(["unsent", "never", "always"]),
    statuses=st.lists(st.integers(400, 599), max_size=4, unique=True),
    error_codes=codes,
    respect_retry_after=st.booleans(),
    idempotency_header=st.none() | words,
    budget=st.none() | group(ratio=natural, min_per_second=natural, window=positive),
).map(lambda given: ordered(given, ("wait_initial", "wait_max")))
# Names that a variable can hold: they compare without case, and have no delimiter of its own.
operations = st.lists(
    st.from_regex(r"[A-Za-z]([A-Za-z0-9]|_(?=[A-Za-z0-9])){0,8}", fullmatch=True),
    max_size=2,
    unique_by=str.lower,
).flatmap(lambda names: st.fixed_dictionaries(dict.fromkeys(names, group(timeout=timeouts, retry=retries))))
headers = st.dictionaries(
    st.from_regex(r"[A-Za-z]([A-Za-z0-9]|-(?=[A-Za-z0-9])){0,8}", fullmatch=True),
    st.text("abcXYZ019 \"'{}[],:#=\\é", max_size=12) | st.sampled_from(["none", "null", "true", "17", "[1]"]),
    max_size=3,
)
plain_urls = st.sampled_from(
    ["http://h/graphql", "https://api.example.com:8443/g", "ws://h", "wss://[::1]:1/g"]
)
secret_urls = st.sampled_from(["https://user:s3cr3t@h/graphql?token=s3cr3t", "wss://h/g?a=1"])


def settings(
    urls: st.SearchStrategy[str], headers: st.SearchStrategy[dict[str, str]]
) -> st.SearchStrategy[dict[str, Any]]:
    """Valid settings of every group, in plain values."""
    return group(
        endpoint=urls,
        backend=st.sampled_from([None, "aiohttp", "httpx"]),
        method=st.sampled_from([None, "post", "get", "GET"]),
        headers=headers,
        retry=retries,
        timeout=timeouts,
        pool=group(
            requests=count,
            subscriptions=st.integers(0, 500),
            retry_headroom=natural,
            keepalive=natural,
            max_age=limit,
        ),
        schema=group(
            mode=st.sampled_from(["auto", "strict", "off"]),
            ttl=st.none() | natural,
            file=st.sampled_from([None, "schema.graphql", "/etc/a b/schema.json"]),
            stale_if_error=st.booleans(),
        ),
        subscriptions=group(
            connect_attempts=count,
            ack_timeout=limit,
            ping_interval=limit,
            pong_timeout=limit,
            wait_initial=natural,
            wait_max=natural,
            max_reconnects=st.none() | st.integers(0, 50),
            stable_after=natural,
            fatal_close_codes=st.lists(st.integers(1000, 4999), max_size=4, unique=True),
            max_queue=count,
            max_queue_bytes=st.none() | count,
            overflow=st.sampled_from(["block", "drop_oldest", "error"]),
            callback_executor=st.booleans(),
            share_connection=st.booleans(),
            linger=natural,
        ).map(lambda given: ordered(given, ("wait_initial", "wait_max"))),
        shutdown=group(deadline=st.none() | natural),
        health=group(min_interval=natural),
        telemetry=group(
            traces=st.booleans(),
            metrics=st.booleans(),
            http_spans=st.booleans(),
            document=st.sampled_from(["off", "sanitized", "full"]),
            operation_name_in_span=st.booleans(),
        ),
        proxy=st.none() | st.just("http://p:3128"),
        trust_env=st.booleans(),
        max_response_bytes=st.none() | count,
        max_response_values=st.none() | count,
        auth_error_codes=codes,
        operations=operations,
    )


def named(config: ProductionConfig, *, folded: bool = False) -> dict[str, Any]:
    """What somebody named in a config; ``folded`` spells header names in lower case."""
    found = without_empty(config.model_dump(exclude_unset=True))
    found["headers"] = {
        name.lower() if folded else name: value.get_secret_value()
        for name, value in found.get("headers", {}).items()
    }
    return found


def without_empty(values: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the groups in which nothing is named: not all forms have those."""
    pruned = {
        key: without_empty(value) if isinstance(value, Mapping) else value for key, value in values.items()
    }
    return {key: value for key, value in pruned.items() if value != {}}


def toml(value: object) -> str:
    """A value as TOML has it, which has no null: the word stands for it."""
    if isinstance(value, Mapping):
        return (
            "{" + ", ".join(f"{json.dumps(str(key))} = {toml(below)}" for key, below in value.items()) + "}"
        )
    return '"none"' if value is None else json.dumps(value, ensure_ascii=False)


def variables(value: Mapping[str, Any], path: tuple[str, ...] = ()) -> dict[str, str]:
    """The environment's names and texts for settings; an operation's name is spelt as it is."""
    found: dict[str, str] = {}
    for key, below in value.items():
        spelt = key if path == ("OPERATIONS",) else key.upper().replace("-", "_")
        here = (*path, spelt)
        if isinstance(below, Mapping):
            found |= variables(below, here)
        elif isinstance(below, list):
            found["__".join(here)] = ",".join(map(str, below)) or "-"
        else:
            found["__".join(here)] = "none" if below is None else str(below)
    return found


@given(given=settings(plain_urls | secret_urls, headers))
def test_a_config_is_the_same_in_memory(given: dict[str, Any]) -> None:
    """What a config names makes the same config again, as values or read as a mapping."""
    config = ProductionConfig(**given)
    for again in (
        ProductionConfig(**config.model_dump(exclude_unset=True)),
        load(config).config,
        load(given).config,
        load(config.model_dump(exclude_unset=True)).config,
    ):
        assert again == config
        assert named(again) == named(config)
    assert ProductionConfig(**config.model_dump()) == config


@given(given=settings(plain_urls | secret_urls, headers))
def test_a_config_is_the_same_in_a_file(given: dict[str, Any]) -> None:
    """TOML, JSON and YAML say the same as code, and name what it names."""
    config = ProductionConfig(**given)
    texts = {
        "toml": "\n".join(f"{json.dumps(key)} = {toml(value)}" for key, value in given.items()),
        "json": json.dumps(given),
        "yaml": json.dumps(given, ensure_ascii=False),
    }
    with tempfile.TemporaryDirectory() as folder:
        for kind, text in texts.items():
            file = Path(folder, f"client.{kind}")
            file.write_text(text, encoding="utf-8")
            again = load(file).config
            assert again == config, kind
            assert named(again) == named(config), kind


@given(given=settings(plain_urls | secret_urls, headers))
def test_a_config_is_the_same_in_the_environment(given: dict[str, Any]) -> None:
    """Variables say the same as code, header by header and limit by limit; an empty one says nothing."""
    given = without_empty(given)
    given["headers"] = {name.lower(): value for name, value in given.get("headers", {}).items() if value}
    config = ProductionConfig(**given)
    with environment(variables(given)):
        again = load().config
    assert named(again, folded=True) == named(config, folded=True)
    assert again.model_dump(exclude={"headers"}) == config.model_dump(exclude={"headers"})


@given(given=settings(plain_urls, st.just({})))
@example({"retry": {"statuses": [], "error_codes": []}, "subscriptions": {"fatal_close_codes": []}})
def test_what_is_printed_can_be_set_again(given: dict[str, Any]) -> None:
    """``python -m graphql_prod config``: each value that it prints means the same in a variable."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "client.json")
        file.write_text(json.dumps(without_empty(given)))
        config = load(file).config
        rows = printed("--config", str(file))
    named = {key: value for key, (value, origin) in rows.items() if origin == str(file)}
    event(f"{len(named) // 10}0 settings or more")
    with environment({variable(key): value for key, value in named.items()}):
        again, shown = load().config, printed()
    assert again.model_dump() == config.model_dump()
    assert {key: value for key, (value, _) in shown.items()} == {key: row[0] for key, row in rows.items()}


def variable(key: str) -> str:
    """The variable of a setting; an operation's name is spelt as it is."""
    group, *parts = key.split(".")
    kept = parts[:1] if group == "operations" else []
    return "__".join([group.upper(), *kept, *map(str.upper, parts[len(kept) :])])


def printed(*arguments: str) -> dict[str, tuple[str, str]]:
    """Value and source, by key."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        assert main(["config", *arguments]) == 0
    rows = (re.fullmatch(r"(\S+) +(.*?) *  # (.*)", line) for line in out.getvalue().splitlines())
    return {row[1]: (row[2], row[3]) for row in rows if row}


# --- limits that fit ------------------------------------------------------------------------------


def contradictions(named: Mapping[str, float | None]) -> list[tuple[str, str]]:
    """Pairs of named limits of which the inner one is longer than the outer one."""
    return [
        (inner, outer)
        for inner, outer in NESTED
        if (small := named.get(inner)) is not None
        and (large := named.get(outer)) is not None
        and small > large
    ]


some_limit = st.none() | st.sampled_from([1.0, 2.0, 5.0, 10.0, 30.0, 31.0, 60.0]) | st.floats(1e-3, 1e6)


@given(named=group(**dict.fromkeys(("total", "attempt", *LIMITS), some_limit)))
def test_limits_fit(named: dict[str, float | None]) -> None:
    """Named limits hold as they are; defaults move, and only as far as they must, so that all fit.

    Named limits that contradict one another are refused, each pair by both names and both numbers.
    """
    wrong = contradictions(named)
    event("contradiction" if wrong else "fits")
    if wrong:
        with pytest.raises(ConfigurationError) as caught:
            TimeoutPolicy(**named)
        told = {problem.key: problem.message for problem in caught.value.problems}
        assert sorted(told) == sorted(f"{inner}, {outer}" for inner, outer in wrong)
        for inner, outer in wrong:
            for name in (inner, outer):
                assert f"{name}={named[name]}" in told[f"{inner}, {outer}"]
        return
    policy = TimeoutPolicy(**named)
    assert policy.named == frozenset(named)
    for inner, outer in NESTED:
        small, large = getattr(policy, inner), getattr(policy, outer)
        assert small is None or large is None or small <= large
    for name in ("total", "attempt", *LIMITS):
        value, default = getattr(policy, name), getattr(STANDARD, name)
        if name in named:
            assert value == named[name]
        elif default is None:
            assert value is None
        elif name == "total":
            assert value == max([default, *filter(None, named.values())])
        elif name == "read" and named.get("total") is not None:
            assert value is None
        else:
            room = [named[outer] for outer in ("attempt", "total") if named.get(outer) is not None]
            assert value == min([default, *filter(None, room)])


# --- headers --------------------------------------------------------------------------------------


class Wire(GraphQLTransport):
    """A transport that keeps the headers of what would be sent."""

    def __init__(self) -> None:
        self.headers: dict[str, str] = {}

    async def request(self, method: str, request: Any, serializer: Any, **_: Any) -> Any:
        self.headers = dict(request.headers)
        return GraphQLResponse(request=request, json={"data": {"hello": "you"}})

    async def close(self) -> None: ...


def _spelt(name: str, upper: list[bool]) -> str:
    return "".join(char.upper() if up else char for char, up in zip(name, upper, strict=False))


spelt = st.builds(
    _spelt,
    st.sampled_from(["authorization", "x-tenant", "content-type", "accept", "x-trace"]),
    st.lists(st.booleans(), min_size=15, max_size=15),
)
levels = st.dictionaries(spelt, st.sampled_from("abcdefgh"), max_size=5)


@given(client=levels, views=st.lists(levels, max_size=2), request=levels, call=levels)
@example({}, [], {}, {"x-tenant": "a", "X-TENANT": "b"})
def test_headers_are_merged(
    client: dict[str, str], views: list[dict[str, str]], request: dict[str, str], call: dict[str, str]
) -> None:
    """Client under view under request under call, in whatever spelling; no header is ever sent twice."""
    wire = Wire()

    async def send() -> None:
        caller = whole = ProductionClient("http://h/", client, transport=wire, validate=False)
        for view in views:
            caller = caller.with_options(headers=view)
        await caller.query(GraphQLRequest("{ hello }", headers=request), headers=call)
        await whole.close()

    asyncio.run(send())
    expected: dict[str, str] = {
        "content-type": "application/json",
        "accept": "application/graphql-response+json, application/json",
        "accept-encoding": "gzip",
    }
    for level in (client, *views, request, call):
        expected |= {name.lower(): value for name, value in level.items()}
    assert {name.lower(): value for name, value in wire.headers.items()} == expected
    assert len(wire.headers) == len(expected)
