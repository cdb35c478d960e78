"""``python -m graphql_prod config``: what holds, and where it came from."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from graphql_prod import ProductionConfig
from graphql_prod.__main__ import main

if TYPE_CHECKING:
    from pathlib import Path

SECRET = "s3cr3t"


@pytest.fixture
def bare_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody else's settings."""
    for name in [name for name in os.environ if name.upper().startswith("GRAPHQL_PROD_")]:
        monkeypatch.delenv(name)


def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own, with these variables of ours and no others."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GRAPHQL_PROD_")}
    environment |= {f"GRAPHQL_PROD_{name}": value for name, value in variables.items()}
    command = [sys.executable, "-W", "error", "-m", "graphql_prod", "config", *arguments]
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=30)


def table(output: str) -> dict[str, tuple[str, str]]:
    """Value and source, by key."""
    rows = (line.rpartition("  # ") for line in output.splitlines())
    split = ((left.split(None, 1), origin) for left, _, origin in rows)
    return {parts[0]: ("".join(parts[1:]).strip(), origin) for parts, origin in split}


def test_every_setting_with_its_source(tmp_path: Path) -> None:
    """All settings are printed, those left alone too, each with its source; secrets are not."""
    file = tmp_path / "client.toml"
    file.write_text(
        f'endpoint = "https://h/graphql?token={SECRET}"\nproxy = "http://u:{SECRET}@p:3128"\n'
        f'timeout = "interactive"\n[headers]\nauthorization = "{SECRET}"\n[retry]\nattempts = 2\n'
        '[operations.Report]\ntimeout = "batch"\n'
    )
    done = run(
        "--config", str(file), RETRY__ATTEMPTS="6", HEADERS__X_KEY=SECRET, TIMEOUT__TOTAL="9", PORT=SECRET
    )
    assert done.returncode == 0, done.stderr
    assert SECRET not in done.stdout + done.stderr
    assert "GRAPHQL_PROD_PORT" in done.stderr
    shown = table(done.stdout)
    expected = {
        "endpoint": ("https://h/graphql", str(file)),
        "proxy": ("http://p:3128", str(file)),
        "headers.authorization": ("**********", str(file)),
        "headers.x-key": ("**********", "GRAPHQL_PROD_HEADERS__X_KEY"),
        "retry.attempts": ("6", "GRAPHQL_PROD_RETRY__ATTEMPTS"),
        "retry.budget.ratio": ("0.2", "default"),
        "timeout.total": ("9.0", "GRAPHQL_PROD_TIMEOUT__TOTAL"),
        "timeout.read": ("2.0", str(file)),
        "operations.Report.timeout.total": ("300.0", str(file)),
        "backend": ("none", "default"),
        "retry.error_codes": ("-", "default"),
    }
    assert {key: shown.get(key) for key in expected} == expected
    groups = {key.partition(".")[0] for key in shown}
    assert groups == set(ProductionConfig.model_fields)


def test_nothing_named(bare_environment: None, capsys: pytest.CaptureFixture[str]) -> None:
    """With nothing named it prints the defaults; an endpoint may still come from code."""
    assert main(["config"]) == 0
    shown = table(capsys.readouterr().out)
    assert {origin for _, origin in shown.values()} == {"default"}
    assert len(shown) > len(ProductionConfig.model_fields)


def test_what_is_shown_can_be_set(
    bare_environment: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    """What it prints means the same in the environment: the way from a file to a deployment."""
    file = tmp_path / "client.json"
    file.write_text(
        '{"retry": {"attempts": 2, "statuses": [429, 503]}, "timeout": "batch", "pool": {"max_age": 60}}'
    )
    main(["config", "--config", str(file)])
    shown = table(capsys.readouterr().out)
    named = {key: value for key, (value, origin) in shown.items() if origin == str(file)}
    assert len(named) == 7
    for key, value in named.items():
        monkeypatch.setenv(f"GRAPHQL_PROD_{key.replace('.', '__').upper()}", value)
    main(["config"])
    again = table(capsys.readouterr().out)
    assert {k: value for k, (value, _) in again.items()} == {k: value for k, (value, _) in shown.items()}


def test_wrong_settings(tmp_path: Path) -> None:
    """Exit status 2 and every problem on the error stream, with its source, nothing on the other."""
    file = tmp_path / "client.toml"
    file.write_text(f'method = "put"\n[haeders]\nAuthorization = "{SECRET}"\n')
    done = run("--config", str(file), RETRY__ATTEMPTS="0")
    assert (done.returncode, done.stdout) == (2, "")
    for said in ("3 problems", "method", "haeders", str(file), "GRAPHQL_PROD_RETRY__ATTEMPTS"):
        assert said in done.stderr
    assert SECRET not in done.stderr
    assert "Traceback" not in done.stderr


def test_no_such_file(bare_environment: None, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is not there is a problem like any other."""
    assert main(["config", "--config", "gone.toml"]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert "gone.toml" in err


def test_a_reader_that_has_had_enough_is_no_error_of_ours() -> None:
    """``config | head -1`` ends without a traceback, with the status that a shell gives to SIGPIPE."""
    process = subprocess.Popen(
        [sys.executable, "-m", "graphql_prod", "config"], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert process.stdout is not None
    process.stdout.close()
    _, err = process.communicate(timeout=30)
    assert (process.returncode, err) == (141, b"")
