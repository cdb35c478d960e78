"""Where settings come from: what wins, what is told, and that no secret is told with it."""

from __future__ import annotations

import itertools
import json
import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
import tenacity
import yaml
from aiographql.client import DefaultGraphQLCodec, GraphQLRequest

from graphql_prod import (
    BATCH,
    INTERACTIVE,
    ConfigurationError,
    HTTPStatusError,
    ProductionClient,
    ProductionConfig,
    RequestTimeoutError,
    RetryPolicy,
    TimeoutPolicy,
)
from graphql_prod.config import plain
from graphql_prod.sources import Loaded, load
from graphql_prod.testing import Answer, ScriptedServer, no_waiting

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from graphql_prod.errors import Problem

    Written = Callable[[str], Path]
    Env = Callable[..., None]

URL = "http://api.example.com/graphql"
SECRET = "s3cr3t"


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's settings."""
    for name in [name for name in os.environ if name.upper().startswith("GRAPHQL_PROD_")]:
        monkeypatch.delenv(name)


@pytest.fixture
def env(monkeypatch: pytest.MonkeyPatch) -> Env:
    """Sets variables: ``env(RETRY__ATTEMPTS="6")``."""

    def set_all(**variables: str) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(f"GRAPHQL_PROD_{name}", value)

    return set_all


@pytest.fixture
def written(tmp_path: Path) -> Written:
    """Writes client.toml."""

    def write(text: str) -> Path:
        path = tmp_path / "client.toml"
        path.write_text(text)
        return path

    return write


class NoIO:
    """Tests that only make values: the check for things left behind would cost more than they do."""

    @pytest.fixture(autouse=True)
    def nothing_left_behind(self) -> None:
        """Nothing to leave."""


def problems(source: Any = None) -> dict[str, Problem]:
    """What is wrong, by key; all of it in one error that shows no secret."""
    with pytest.raises(ConfigurationError) as caught:
        load(source)
    error = caught.value
    assert SECRET not in f"{error} {error!r} {error.problems!r}"
    assert all(str(problem) in str(error) for problem in error.problems)
    keys = [problem.key for problem in error.problems]
    assert len(set(keys)) == len(keys), f"told twice: {keys}"
    return {problem.key: problem for problem in error.problems}


def origins(loaded: Loaded) -> dict[str, str]:
    return {".".join(key): origin for key, origin in loaded.origins.items()}


class TestPrecedence(NoIO):
    def test_code_over_environment_over_file_over_default(self, env: Env, written: Written) -> None:
        """Leaf by leaf, in nested groups too; each leaf knows its source."""
        file = written(
            f'endpoint = "{URL}"\nmethod = "get"\nmax_response_bytes = 1\n'
            "[retry]\nattempts = 2\nwait_max = 9\nwait_initial = 0.1\n"
            "[retry.budget]\nratio = 0.1\nwindow = 1\nmin_per_second = 1\n"
        )
        env(RETRY__ATTEMPTS="3", RETRY__BUDGET__RATIO="0.2", RETRY__WAIT_MAX="8", METHOD="post")
        loaded = load(file)
        retry = loaded.config.retry
        assert isinstance(retry, RetryPolicy)
        assert retry.budget is not None
        assert (retry.attempts, retry.wait_max, retry.wait_initial) == (3, 8, 0.1)
        assert (retry.budget.ratio, retry.budget.window, retry.budget.min_per_second) == (0.2, 1, 1)
        assert (loaded.config.method, loaded.config.max_response_bytes) == ("post", 1)
        expected = {
            ("method",): "GRAPHQL_PROD_METHOD",
            ("endpoint",): str(file),
            ("retry", "wait_max"): "GRAPHQL_PROD_RETRY__WAIT_MAX",
            ("retry", "budget", "ratio"): "GRAPHQL_PROD_RETRY__BUDGET__RATIO",
            ("retry", "budget", "window"): str(file),
            ("retry", "jitter"): "default",
            ("pool", "requests"): "default",
        }
        assert {key: loaded.origin(key) for key in expected} == expected

    @pytest.mark.parametrize(
        "source",
        [
            {"retry": {"attempts": 5}, "timeout": {"read": 3}},
            {"retry": RetryPolicy(attempts=5), "timeout": TimeoutPolicy(read=3)},
            ProductionConfig(retry=RetryPolicy(attempts=5), timeout=TimeoutPolicy(read=3)),
        ],
        ids=["mapping", "policies in a mapping", "config"],
    )
    def test_code_wins_by_leaf(self, env: Env, source: Any) -> None:
        """What code names wins; what it leaves out of the same group is still the environment's."""
        env(RETRY__ATTEMPTS="2", RETRY__WAIT_MAX="3", TIMEOUT__TOTAL="9", POOL__REQUESTS="7")
        config = load(source).config
        assert isinstance(config.retry, RetryPolicy)
        assert (config.retry.attempts, config.retry.wait_max) == (5, 3)
        assert (config.timeout.read, config.timeout.total) == (3, 9)
        assert config.pool.requests == 7

    def test_tenacity_in_code(self, env: Env) -> None:
        """A tenacity object is one leaf: it replaces the environment's numbers."""
        env(RETRY__ATTEMPTS="2")
        waiting = tenacity.AsyncRetrying()
        assert load(ProductionConfig(retry=waiting)).config.retry is waiting

    @pytest.mark.parametrize("kind", ["toml", "json", "yaml", "yml"])
    def test_every_kind_of_file(self, tmp_path: Path, kind: str) -> None:
        """The same settings make the same config, whatever they are written in, a byte order mark apart."""
        values: dict[str, Any] = {
            "endpoint": URL,
            "headers": {"Authorization": "none"},
            "timeout": "interactive",
            "retry": {"attempts": 2, "statuses": [429, 503], "jitter": "none", "budget": "none"},
            "max_response_bytes": "none",
            "operations": {"Report": {"timeout": {"total": "none"}, "retry": {"attempts": 1}}},
        }
        toml = (
            f'endpoint = "{URL}"\ntimeout = "interactive"\nmax_response_bytes = "None"\n'
            '[headers]\nAuthorization = "none"\n'
            "[retry]\nattempts = 2\nstatuses = [429, 503]\n"
            'jitter = "none"\nbudget = "none"\n'
            '[operations.Report]\ntimeout = { total = "none" }\nretry = { attempts = 1 }\n'
        )
        text = toml if kind == "toml" else json.dumps(values) if kind == "json" else yaml.safe_dump(values)
        path = tmp_path / f"client.{kind}"
        path.write_text(text, encoding="utf-8-sig")
        config = load(path).config
        assert config == ProductionConfig(
            endpoint=URL,
            headers={"Authorization": "none"},
            timeout=INTERACTIVE,
            max_response_bytes=None,
            retry=RetryPolicy(attempts=2, statuses={429, 503}, jitter="none", budget=None),
            operations={"Report": {"timeout": TimeoutPolicy(total=None), "retry": RetryPolicy(attempts=1)}},
        )
        assert load(str(path)).config == config

    def test_nothing_named(self) -> None:
        """No file and no variable: the defaults."""
        loaded = load()
        assert (loaded.config, loaded.origins) == (ProductionConfig(), {})

    def test_names_without_case(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """A variable's name compares without case, and is told as it is written."""
        monkeypatch.setenv("graphql_prod_retry__attempts", "0")
        assert problems()["retry.attempts"].source == "graphql_prod_retry__attempts"


class TestTimeout(NoIO):
    def test_preset(self, env: Env) -> None:
        """A variable may name a preset, in any case."""
        env(TIMEOUT="Interactive")
        assert load().config.timeout == INTERACTIVE

    def test_one_limit(self, env: Env) -> None:
        """P12: one limit merges over STANDARD; only it counts as named."""
        env(TIMEOUT__TOTAL="10")
        assert load().config.timeout == TimeoutPolicy(total=10)
        assert load().config.timeout.named == {"total"}

    @pytest.mark.parametrize(
        "whole", ["TIMEOUT", "graphql_prod_timeout", "RETRY__BUDGET", "POOL", "OPERATIONS__R__TIMEOUT"]
    )
    def test_whole_and_part(self, monkeypatch: pytest.MonkeyPatch, env: Env, whole: str) -> None:
        """P12: a preset and one of its limits contradict each other; both variables are named, beside
        whatever else is wrong."""
        name = whole if whole.islower() else f"GRAPHQL_PROD_{whole}"
        part = f"{name}__{'RATIO' if 'BUDGET' in whole else 'KEEPALIVE' if whole == 'POOL' else 'TOTAL'}"
        monkeypatch.setenv(name, "none" if "BUDGET" in whole else "batch")
        monkeypatch.setenv(part, "10")
        env(METHOD="put")
        with pytest.raises(ConfigurationError) as caught:
            load()
        assert any(p.source == f"{name} and {part}" for p in caught.value.problems)
        assert "method" in {problem.key for problem in caught.value.problems}

    def test_preset_in_file_limit_in_environment(self, env: Env, written: Written) -> None:
        """A limit from the environment replaces that one limit of the file's preset."""
        env(TIMEOUT__TOTAL="20", OPERATIONS__REPORT__TIMEOUT__READ="7")
        loaded = load(written('timeout = "interactive"\n[operations.Report]\ntimeout = "batch"'))
        assert loaded.config.timeout == TimeoutPolicy(total=20, attempt=2, connect=1, read=2)
        own = loaded.config.operations["Report"].timeout
        assert own == TimeoutPolicy(total=300, attempt=120, connect=10, read=7)

    def test_preset_over_limits(self, env: Env, written: Written) -> None:
        """A preset from the environment replaces what it names of the file's limits, and nothing else."""
        env(TIMEOUT="batch")
        config = load(written("[timeout]\ntotal = 2\nwrite = 1")).config
        assert config.timeout == TimeoutPolicy(total=300, attempt=120, connect=10, read=60, write=1)

    @pytest.mark.parametrize("override", [False, True])
    def test_unknown_preset(self, env: Env, written: Written, override: bool) -> None:
        """A preset nobody knows is told with those there are, even with a limit laid over it."""
        if override:
            env(TIMEOUT__TOTAL="20")
        file = written('timeout = "fast"')
        found = problems(file)
        assert found["timeout"].source == str(file)
        for name in ("fast", "interactive", "standard", "batch", "probe"):
            assert name in found["timeout"].message


class TestValues(NoIO):
    @pytest.mark.parametrize("text", ["429,503", " 429 , 503 ", "[429, 503]"])
    def test_lists(self, env: Env, text: str) -> None:
        """A list in a variable has commas, or is JSON."""
        env(RETRY__STATUSES=text)
        retry = load().config.retry
        assert isinstance(retry, RetryPolicy)
        assert retry.statuses == {429, 503}

    @pytest.mark.parametrize(
        ("text", "codes"), [("A, B", {"A", "B"}), ('["A"]', {"A"}), ("-", set()), ("4", {"4"})]
    )
    def test_lists_of_texts(self, env: Env, text: str, codes: set[str]) -> None:
        """So have lists of texts; the sign that is printed for an empty one is an empty list."""
        env(AUTH_ERROR_CODES=text)
        assert load().config.auth_error_codes == codes

    def test_json_for_a_group(self, env: Env) -> None:
        """A whole group may be JSON; single variables lie over it."""
        env(POOL='{"requests": 3, "keepalive": 2}', POOL__KEEPALIVE="1", HEADERS='{"X-A": "1", "X-B": "2"}')
        env(HEADERS__X_B="3", OPERATIONS='{"Report": {"timeout": "batch"}}')
        loaded = load()
        assert (loaded.config.pool.requests, loaded.config.pool.keepalive) == (3, 1)
        assert plain(loaded.config.headers) == {"X-A": "1", "X-B": "3"}
        assert loaded.config.operations["Report"].timeout == BATCH
        assert origins(loaded)["pool.requests"] == "GRAPHQL_PROD_POOL"

    @pytest.mark.parametrize("word", ["none", "None", "null", "NULL"])
    def test_none(self, env: Env, word: str) -> None:
        """The word for None works wherever a setting may be None; a header or a choice keeps the word."""
        env(TIMEOUT__TOTAL=word, MAX_RESPONSE_BYTES=word, POOL__MAX_AGE=word, HEADERS__X_WORD=word)
        env(RETRY__BUDGET=word, OPERATIONS__R__TIMEOUT__TOTAL=word)
        config = load().config
        assert isinstance(config.retry, RetryPolicy)
        assert (config.timeout.total, config.max_response_bytes, config.pool.max_age) == (None, None, None)
        assert config.retry.budget is None
        timeout = config.operations["R"].timeout
        assert timeout is not None
        assert timeout.total is None
        assert plain(config.headers) == {"x-word": word}
        env(RETRY__JITTER="none")
        retry = load().config.retry
        assert isinstance(retry, RetryPolicy)
        assert retry.jitter == "none"

    def test_none_is_not_for_all(self, env: Env) -> None:
        """What needs a number is not switched off."""
        env(RETRY__ATTEMPTS="none", POOL__REQUESTS="none")
        assert set(problems()) == {"retry.attempts", "pool.requests"}

    @pytest.mark.parametrize("value", ["123", '{"x": 1}', "[1]", '"q"', "true", "1,2"])
    def test_header_values_are_text(self, env: Env, value: str) -> None:
        """A header's value from the environment is what the variable holds, JSON or not."""
        env(HEADERS__X_VALUE=value)
        assert plain(load().config.headers) == {"x-value": value}

    def test_operations_keep_their_case(self, env: Env, written: Written) -> None:
        """An operation in the environment is the file's, whatever its case; else it has the variable's."""
        env(OPERATIONS__REPORT__RETRY__ATTEMPTS="2", OPERATIONS__FindAll__TIMEOUT="batch")
        config = load(written('[operations.Report]\ntimeout = "interactive"')).config
        assert set(config.operations) == {"Report", "FindAll"}
        assert config.operations["Report"].timeout == INTERACTIVE
        assert config.operations["Report"].retry == RetryPolicy(attempts=2)


class TestUnknown(NoIO):
    def test_kubernetes(self, env: Env, caplog: pytest.LogCaptureFixture) -> None:
        """P12: what Kubernetes injects for a service called graphql-prod is warned of, with no suggestion."""
        names = [
            "PORT",
            "SERVICE_HOST",
            "SERVICE_PORT",
            "SERVICE_PORT_HTTP",
            "PORT_8080_TCP",
            "PORT_8080_TCP_ADDR",
        ]
        env(**dict.fromkeys(names, f"tcp://{SECRET}"))
        assert load().config == ProductionConfig()
        told = [r for r in caplog.records if (r.name, r.levelname) == ("graphql_prod", "WARNING")]
        assert {vars(record)["graphql_prod"]["variable"] for record in told} == {
            f"GRAPHQL_PROD_{name}" for name in names
        }
        assert len(told) == len(names)
        assert SECRET not in caplog.text
        assert "mean" not in caplog.text

    @pytest.mark.parametrize(
        ("name", "meant"),
        [
            ("ENDPIONT", "ENDPOINT"),
            ("RETRY__ATEMPTS", "RETRY__ATTEMPTS"),
            ("RETRY__BUDGET__RATOI", "RETRY__BUDGET__RATIO"),
            ("POOL__REQUESTS__MAX", "POOL__REQUESTS"),
            ("TIMEOUT__TOTL", "TIMEOUT__TOTAL"),
            ("OPERATIONS__Report__TIMEUOT", None),
            ("RETRY__", "RETRY"),
            ("_X", None),
            ("", None),
        ],
    )
    def test_misspelt(self, env: Env, caplog: pytest.LogCaptureFixture, name: str, meant: str | None) -> None:
        """A misspelt variable changes nothing and raises nothing; the warning says what may be meant."""
        env(**{name: SECRET})
        assert load().config == ProductionConfig()
        (record,) = (record for record in caplog.records if record.name == "graphql_prod")
        assert f"variable GRAPHQL_PROD_{name} " in record.getMessage()
        assert ("did you mean" in record.getMessage()) is (meant is not None)
        assert meant is None or record.getMessage().endswith(f"GRAPHQL_PROD_{meant}?")
        assert SECRET not in str(vars(record))

    def test_misspelt_beside_known(self, env: Env) -> None:
        """The known ones beside it hold."""
        env(POOL__REQUESTS="5", POOL__REQUETS="7", POOL='{"keepalive": 1}')
        pool = load().config.pool
        assert (pool.requests, pool.keepalive) == (5, 1)

    def test_keys(self, written: Written) -> None:
        """Unknown keys of a file are told, on each level, with the file and what is known there."""
        file = written(
            "foo = 1\n[pols]\nx = 1\n[pool]\nsize = 1\n[operations.R]\ntimeuot = 1\n[tls.ca_file]\nx = 1"
        )
        found = problems(file)
        assert set(found) == {"foo", "pols", "pool.size", "operations.R.timeuot", "tls.ca_file"}
        assert {problem.source for problem in found.values()} == {str(file)}
        assert "keepalive" in found["pool.size"].message
        assert "timeout" in found["operations.R.timeuot"].message

    def test_keys_of_a_mapping(self) -> None:
        """So are those of a mapping."""
        found = problems({"headres": {"Authorization": SECRET}, "retry": {"atempts": SECRET}})
        assert {key: problem.source for key, problem in found.items()} == {
            "headres": "code",
            "retry.atempts": "code",
        }


class TestProblems(NoIO):
    def test_all_in_one(self, env: Env, written: Written) -> None:
        """Wrong values of the environment and of the file come in one error: key, source, what is allowed."""
        file = written('method = "put"\n[pool]\nrequests = "x"\n[headers]\nA = 1\n[retry]\nwait_max = -1')
        env(RETRY__ATTEMPTS="many", BACKEND="curl", TRUST_ENV="perhaps", RETRY__STATUSES="429,abc")
        expected = {
            "method": (str(file), "'post' or 'get'"),
            "pool.requests": (str(file), "integer"),
            "headers.A": (str(file), "string"),
            "retry.wait_max": (str(file), "greater than or equal to 0"),
            "retry.attempts": ("GRAPHQL_PROD_RETRY__ATTEMPTS", "integer"),
            "retry.statuses.1": ("GRAPHQL_PROD_RETRY__STATUSES", "integer"),
            "backend": ("GRAPHQL_PROD_BACKEND", "'aiohttp' or 'httpx'"),
            "trust_env": ("GRAPHQL_PROD_TRUST_ENV", "boolean"),
        }
        found = problems(file)
        assert {key: problem.source for key, problem in found.items()} == {
            k: v[0] for k, v in expected.items()
        }
        for key, (_, allowed) in expected.items():
            assert allowed in found[key].message

    @pytest.mark.parametrize(
        ("group", "inner", "outer"),
        [("timeout", "attempt", "total"), ("retry", "wait_initial", "wait_max")],
    )
    def test_contradiction_of_two_sources(
        self, env: Env, written: Written, group: str, inner: str, outer: str
    ) -> None:
        """A number from the file that contradicts one from the environment: both sources are named."""
        file = written(f"[{group}]\n{outer} = 3")
        env(**{f"{group}__{inner}".upper(): "9"})
        (problem,) = problems(file).values()
        assert problem.source == f"GRAPHQL_PROD_{group.upper()}__{inner.upper()} and {file}"
        assert f"{inner}=9" in problem.message
        assert f"{outer}=3" in problem.message

    @pytest.mark.parametrize("key", ["endpoint", "headers.A", "pool.requests", "retry.attempts"])
    def test_table_for_a_value(self, written: Written, key: str) -> None:
        """A table, even an empty one, where a value is wanted has a source too."""
        file = written(f"[{key}]")
        assert {k: p.source for k, p in problems(file).items()} == {key: str(file)}

    @pytest.mark.parametrize("group", ["headers", "retry", "timeout", "pool", "tls", "operations"])
    def test_value_for_a_table(self, env: Env, written: Written, group: str) -> None:
        """A text where a table is wanted is told with its source, not with that of the table below it."""
        env(**{group.upper(): "3"})
        file = written(f"[{group}]")
        assert {k: p.source for k, p in problems(file).items()} == {group: f"GRAPHQL_PROD_{group.upper()}"}

    def test_what_is_no_source(self) -> None:
        """Anything but a file's name, a mapping or a config is refused by its type."""
        source: Any = 3
        with pytest.raises(ConfigurationError, match="int"):
            load(source)


class TestFiles(NoIO):
    @pytest.mark.parametrize(
        ("name", "content", "said"),
        [
            ("gone.toml", None, "No such file"),
            ("folder.toml/x", b"", "directory"),
            ("client.ini", b"", ".toml, .json, .yaml and .yml"),
            ("client", b"", ".toml, .json, .yaml and .yml"),
            ("a.toml", b'endpoint = "\xff\xfe"', "UTF-8"),
            ("a.toml", b'endpoint = "x"\n[headers]\nA = "s3cr3t\n', "line 3"),
            ("a.json", b'{"headers":\n{"A": "s3cr3t",}}', "line 2"),
            ("a.json", b"[" * 100_000, "JSON"),
            ("a.yaml", b"headers:\n  A: [s3cr3t\n", "line 3"),
            ("a.yaml", b"headers:\n  A: *s3cr3t\n", "line 2"),
            ("a.yaml", b"headers:\n  A: !s3cr3t x\n", "line 2"),
            ("a.yaml", b"headers:\n  A: s3cr3t\x00\n", "YAML"),
            ("a.json", b"[1]", "table"),
            ("a.yaml", b"- s3cr3t", "table"),
            ("a.yaml", b"s3cr3t", "table"),
            ("a.json", b"null", "table"),
        ],
        ids=itertools.count(),
    )
    def test_unusable(self, tmp_path: Path, name: str, content: bytes | None, said: str) -> None:
        """A file that cannot be used says why, where, and which file; never what stands in it."""
        path = tmp_path / name
        if content is not None:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(content)
        if name.endswith("/x"):
            path = path.parent
        (problem,) = problems(path).values()
        assert problem.source == str(path)
        assert said in problem.message

    def test_empty(self, tmp_path: Path) -> None:
        """An empty file is settings with nothing named."""
        for name in ("a.toml", "a.yaml"):
            (tmp_path / name).touch()
            assert load(tmp_path / name).config == ProductionConfig()

    def test_yaml_without_pyyaml(self, tmp_path: Path) -> None:
        """Without PyYAML a .yaml file says how to get it; TOML goes on working."""
        (tmp_path / "a.yaml").write_text("method: get")
        (tmp_path / "a.toml").write_text('method = "get"')
        program = (
            "import sys; sys.modules['yaml'] = None\n"
            "from graphql_prod.sources import load\n"
            "print(load('a.toml').config.method)\n"
            "try: load('a.yaml')\n"
            "except ValueError as error: print(error)\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        first, second = done.stdout.split(maxsplit=1)
        assert first == "get"
        assert "pip install 'graphql-prod[yaml]'" in second


class TestHeaders:
    async def test_one_on_the_wire(self, env: Env, written: Written, server: ScriptedServer) -> None:
        """P12: file, environment and code spell a header differently, and one is sent: code's."""
        file = written(
            f'endpoint = "{server.url}"\n[headers]\n'
            'authorization = "file"\nX-Api-Key = "file"\nX-Tenant = "file"'
        )
        env(HEADERS__AUTHORIZATION="env", HEADERS__X_API_KEY="env")
        async with ProductionClient.from_config(
            file, headers={"AUTHORIZATION": "code"}, validate=False
        ) as client:
            await client.query("{ hello }")
        sent: Any = server.requests[0].headers
        assert sent.getall("Authorization") == ["code"]
        assert sent.getall("X-Api-Key") == ["env"]
        assert sent.getall("X-Tenant") == ["file"]
        assert not [name for name in sent if "_" in name]

    @pytest.mark.parametrize("as_config", [False, True])
    async def test_mapping_over_environment(self, env: Env, server: ScriptedServer, as_config: bool) -> None:
        """A mapping or a config wins over the environment, header by header."""
        env(HEADERS__X_API_KEY="env", HEADERS__X_TENANT="env", ENDPOINT=server.url.replace("http", "ws"))
        headers = {"X-Api-Key": "code"}
        source: Any = {"endpoint": server.url, "headers": headers}
        if as_config:
            source = ProductionConfig(endpoint=server.url, headers=headers)
        async with ProductionClient.from_config(source, validate=False) as client:
            await client.query("{ hello }")
        sent: Any = server.requests[0].headers
        assert (sent.getall("X-Api-Key"), sent.getall("X-Tenant")) == (["code"], ["env"])


class TestSecrets(NoIO):
    def test_loaded(self, env: Env, caplog: pytest.LogCaptureFixture) -> None:
        """What was loaded prints without header values and credentials, and nothing logs them."""
        env(HEADERS__X_TOKEN=SECRET, ENDPOINT=f"http://u:{SECRET}@h/g", PROXY=f"http://u:{SECRET}@p:1")
        with caplog.at_level("DEBUG"):
            loaded = load({"headers": {"X-Key": SECRET}})
        assert SECRET not in f"{loaded} {loaded!r} {loaded.config} {loaded.origins} {caplog.text}"
        assert "p:1" in repr(loaded.config)

    @pytest.mark.parametrize(
        "variables",
        [
            {"HEADERS": f"Authorization: {SECRET}"},
            {"HEADERS": f'{{"Authorization": "{SECRET}"'},
            {"HEADERS": f'["{SECRET}"]'},
            {"HEADERS": f'{{"A": ["{SECRET}"]}}'},
            {"HEADERS__A__B": SECRET},
            {"ENDPOINT": f"ftp://u:{SECRET}@h"},
            {"PROXY": f"socks5://u:{SECRET}@h"},
            {"PROXY": f"http://u:{SECRET}@h:port"},
        ],
    )
    def test_problems(self, env: Env, variables: dict[str, str]) -> None:
        """A wrong secret is told without its value, and with its source."""
        env(**variables)
        (problem,) = problems().values()
        assert problem.source == f"GRAPHQL_PROD_{next(iter(variables))}"


class TestOperations:
    @pytest.mark.parametrize("by", ["argument", "request", "document"])
    async def test_own_settings(self, server: ScriptedServer, by: str) -> None:
        """An operation's own timeout and retry hold for it, however it is named, and for no other."""
        server.always(Answer.page(503))
        settings = {
            "endpoint": server.url,
            "retry": {"attempts": 3},
            "operations": {"Once": {"retry": {"attempts": 1}}, "Quick": {"timeout": {"total": 0.05}}},
        }
        documents = "query Once { hello } query Other { hello }"
        with no_waiting():
            async with ProductionClient.from_config(settings, validate=False) as client:

                async def attempts(client: ProductionClient, name: str) -> int:
                    request: Any = documents if by == "argument" else f"query {name} {{ hello }}"
                    if by == "request":
                        request = GraphQLRequest(documents, operation=name)
                    with pytest.raises(HTTPStatusError) as caught:
                        await client.query(request, operation=name if by == "argument" else None)
                    return caught.value.attempts

                assert await attempts(client, "Once") == 1
                assert await attempts(client, "Other") == 3
                assert await attempts(client.with_options(timeout=9), "Once") == 1
                assert await attempts(client.with_options(retry=RetryPolicy(attempts=2)), "Once") == 2

    async def test_own_timeout(self, server: ScriptedServer) -> None:
        """An operation's timeout ends its calls; one that a view names wins over it."""
        server.always(Answer.hang(), "Quick")
        settings = {"endpoint": server.url, "operations": {"Quick": {"timeout": {"total": 0.05}}}}
        async with ProductionClient.from_config(settings, validate=False) as client:
            for used, limit in ((client, "0.05"), (client.with_options(timeout=0.1), "0.1")):
                with pytest.raises(RequestTimeoutError, match=f"total of {limit} s"):
                    await used.query("query Quick { hello }")


class TestObjects:
    async def test_beside_settings(self, server: ScriptedServer, env: Env) -> None:
        """Session, provider and codec are given beside settings from anywhere."""
        env(ENDPOINT=server.url, RETRY__ATTEMPTS="1")

        class Codec(DefaultGraphQLCodec):
            def decode(self, value: Any, target_type: type[Any]) -> Any:
                return f"decoded {value}"

        async with aiohttp.ClientSession(headers={"X-Session": "mine"}) as session:
            client = ProductionClient.from_config(
                session=session, headers_provider=lambda: {"X-Token": "1"}, codec=Codec(), validate=False
            )
            async with client:
                greeting = await client.query_data_as("{ hello }", str, "hello")
            assert not session.closed
        assert server.requests[0].headers["X-Session"] == "mine"
        assert server.requests[0].headers["X-Token"] == "1"
        assert greeting == "decoded Hello, world!"
