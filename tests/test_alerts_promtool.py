"""The alerts are rules that Prometheus takes, and each new one fires on what it is for, by upstream."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml

if TYPE_CHECKING:
    from collections.abc import Iterable

RULES = Path(__file__).parent.parent / "docs" / "operations" / "alerts.yaml"
UPSTREAM = 'job="shop", server_address="api.example.com", server_port="443"'
WELL = 'job="shop", server_address="other.example.com", server_port="443"'


def promtool(*arguments: str) -> str:
    """What Prometheus's own checker says; it fails where the checker does."""
    program = shutil.which("promtool")
    if program is None:
        assert not os.environ.get("REQUIRE_PROGRAMS"), "promtool is missing"
        pytest.skip("promtool is not installed")
    done = subprocess.run([program, *arguments], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_prometheus_takes_them() -> None:
    """Expressions, labels and templates are well formed."""
    assert "SUCCESS" in promtool("check", "rules", str(RULES))


CASES: dict[str, list[tuple[str, str]]] = {
    # A healthy upstream of the same service stands beside the one in trouble.
    "GraphQLClientSubscriptionDown": [
        (f"graphql_client_subscriptions_down{{{UPSTREAM}}}", "2x20"),
        (f"graphql_client_subscriptions_down{{{WELL}}}", "0x20"),
    ],
    "GraphQLClientPoolExhausted": [
        (f"graphql_client_pool_waiting{{{UPSTREAM}}}", "5x20"),
        (f"graphql_client_pool_waiting{{{WELL}}}", "0x20"),
    ],
    "GraphQLClientThrottled": [
        (f'graphql_client_throttled_total{{{UPSTREAM}, reason="status 429"}}', "0+30x20"),
        (f'graphql_client_throttled_total{{{WELL}, reason="status 429"}}', "7x20"),
    ],
    "GraphQLClientNotAdmitted": [
        (f"graphql_client_admission_rejections_total{{{UPSTREAM}}}", "0+30x20"),
        (f"graphql_client_admission_rejections_total{{{WELL}}}", "7x20"),
    ],
    "GraphQLClientErrors": [
        # A large healthy upstream does not hide a small dead one.
        (f'graphql_client_request_duration_seconds_count{{{UPSTREAM}, error_type="503"}}', "0+60x20"),
        (f"graphql_client_request_duration_seconds_count{{{WELL}}}", "0+60000x20"),
    ],
}


@pytest.mark.parametrize("name", CASES)
def test_it_fires_for_the_upstream_in_trouble(name: str, tmp_path: Path) -> None:
    """And for no other."""
    file = tmp_path / "test.yaml"
    file.write_text(yaml.safe_dump(_case(name, CASES[name], _without_texts(tmp_path))), encoding="utf-8")
    assert "SUCCESS" in promtool("test", "rules", str(file))


def _case(name: str, series: Iterable[tuple[str, str]], rules: Path) -> dict[str, Any]:
    """What promtool is asked: whether this alert, and only for that upstream, fires after 18 minutes."""
    labels = {"job": "shop", "server_address": "api.example.com", "server_port": "443"}
    severity = {
        rule["alert"]: rule["labels"]
        for group in yaml.safe_load(RULES.read_text(encoding="utf-8"))["groups"]
        for rule in group["rules"]
    }[name]
    return {
        "rule_files": [str(rules)],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "input_series": [{"series": one, "values": values} for one, values in series],
                "alert_rule_test": [
                    {
                        "eval_time": "18m",
                        "alertname": name,
                        "exp_alerts": [{"exp_labels": {**labels, **severity}}],
                    }
                ],
            }
        ],
    }


def _without_texts(folder: Path) -> Path:
    """The rules without their annotations: what they say is another test's affair."""
    rules = yaml.safe_load(RULES.read_text(encoding="utf-8"))
    for group in rules["groups"]:
        for rule in group["rules"]:
            del rule["annotations"]
    file = folder / "rules.yaml"
    file.write_text(yaml.safe_dump(rules), encoding="utf-8")
    return file
