"""The examples run as they are printed in the documentation."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
EXPECTED = {
    "credentials.py": [
        *("answered: 20 of 20", "new tokens asked for: 1"),
        *("sent for alice: alice", "sent for bob: bob", "from the file: Bearer second"),
    ],
    "settings.py": [
        "Hello, world!",
        "retry: RetryPolicy(attempts=6",
        "total: 5.0 s",
        "retry.attempts (from GRAPHQL_PROD_RETRY__ATTEMPTS)",
    ],
    "github_like.py": [
        "off: 20 of 30 answered, 10 refusals",
        "github: 30 of 30 answered, 10 refusals",
        "'mode': 'pace'}: 30 of 30 answered, 0 refusals",
    ],
    "hooks.py": [
        "retry operation_name=Report operation_type=query attempt=2 status=503",
        "info Greeting 200",
    ],
    "migration.py": ["GraphQLClient    failed:", "ProductionClient Hello, Ada!"],
    "mutations.py": [
        "attempts=1 may_have_executed=True",
        "executed on the server: 1",
        "sent twice with one key: True",
    ],
    "schema.py": [
        "introspection refused: answered 3 of 3",
        "field removed, the server says: Cannot query field 'counter' on type 'Query'.",
        "field removed, nothing is sent: Cannot query field 'counter' on type 'Query'.",
        "from a file: Cannot query field 'helo' on type 'Query'. Did you mean 'hello'?",
        "requests sent: 0",
    ],
    "subscription.py": [
        "gap: closed with 1012 (restart)",
        "nothing missing, nothing twice: True",
        "refused: 4403 (Forbidden)",
    ],
    "telemetry.py": [
        "query graphql.operation.name='Greeting' [retry]",
        "POST http.request.resend_count=1",
        "subscription graphql.operation.name='Ticks' [gap]",
        "graphql.client.retries: 1 {retry}",
    ],
    "testing_your_program.py": ["comes_through_an_overload: ok", "pays_once: ok", "gives_up_in_time: ok"],
}


def test_every_example_is_expected_to_say_something() -> None:
    """No example is added without a test."""
    here = {path.name for path in (ROOT / "examples").glob("*.py")}
    assert here - {"upstream.py"} == set(EXPECTED)  # that one serves the services, and is run with them


@pytest.mark.parametrize("name", EXPECTED)
def test_example_runs(name: str) -> None:
    """Each example is a program that runs offline, ends well and says what it shows."""
    done = subprocess.run(
        [sys.executable, "-W", "error", str(ROOT / "examples" / name)],
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    for line in EXPECTED[name]:
        assert line in done.stdout
