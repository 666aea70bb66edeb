"""Alerts and dashboard: they parse, they ask only for figures that exist, and each says what to do."""

import itertools
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from prometheus_client import REGISTRY

import hooktape.metrics  # noqa: F401  (registers every figure)
from hooktape.cli.main import COMMANDS
from hooktape.ingest.outcome import Outcome

ROOT = Path(__file__).parents[2]
PROMETHEUS = ROOT / "deploy/prometheus"
RULE_TESTS = sorted(PROMETHEUS.glob("*_test.yml"))
SIX_FIGURES = {
    "hooktape_events_received_total", "hooktape_pending_seconds", "hooktape_failed_events", "hooktape_dlq_depth",
    "hooktape_replay_success_ratio", "hooktape_processing_seconds_bucket",
}  # fmt: skip
_SUFFIXES = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}


def existing() -> dict[str, set[str]]:
    """Every series name that a process exports → its labels."""
    found = {}
    for metric in REGISTRY.collect():
        if metric.name.startswith("hooktape_"):
            labels = set(REGISTRY._names_to_collectors[metric.name]._labelnames)  # type: ignore[attr-defined]
            for suffix in _SUFFIXES[metric.type]:
                found[metric.name + suffix] = labels | ({"le"} if suffix == "_bucket" else set())
    return found


def expressions(panels: list[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """(panel's title, PromQL) with Grafana's variables filled in."""
    for panel in panels:
        for target in panel["targets"]:
            yield panel["title"], target["expr"].replace("$__rate_interval", "5m").replace("$group", ".*")


def series(expression: str) -> set[str]:
    return set(re.findall(r"\bhooktape_\w+", expression))


def rule_tests() -> list[dict[str, Any]]:
    """The cases of all files of rule tests."""
    return [test for file in RULE_TESTS for test in yaml.safe_load(file.read_text())["tests"]]


def promtool(*words: str) -> str:
    """Runs promtool in the rules' folder; its output when it's content."""
    if shutil.which("promtool") is None:
        pytest.skip("promtool isn't installed (Debian: apt-get install prometheus)")
    ran = subprocess.run(["promtool", *words], cwd=PROMETHEUS, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return ran.stdout


def test_prometheus_accepts_its_configuration_and_the_rules() -> None:
    assert "SUCCESS" in promtool("check", "config", "prometheus.yml")


@pytest.mark.parametrize("file", [path.name for path in RULE_TESTS])
def test_every_alert_fires_when_it_should_and_not_before(file: str) -> None:
    assert "SUCCESS" in promtool("test", "rules", file)


def test_every_expression_of_the_dashboard_is_promql(panels: list[dict[str, Any]], tmp_path: Path) -> None:
    rules = [{"record": f"panel:{i}", "expr": expression} for i, (_, expression) in enumerate(expressions(panels))]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "dashboard", "rules": rules}]}))
    assert f"{len(rules)} rules found" in promtool("check", "rules", str(file))


def test_every_alert_has_a_case_where_it_fires_and_one_where_it_keeps_quiet(rules: list[dict[str, Any]]) -> None:
    cases = [case for test in rule_tests() for case in test["alert_rule_test"]]
    levels = {(rule["alert"], rule["labels"]["severity"]) for rule in rules}
    fired = {(case["alertname"], alert["exp_labels"]["severity"]) for case in cases for alert in case["exp_alerts"]}
    quiet = {case["alertname"] for case in cases if not case["exp_alerts"]}
    assert fired == levels
    assert quiet == {name for name, _ in levels}


def test_alerts_ask_only_for_figures_that_exist(rules: list[dict[str, Any]]) -> None:
    known = existing()
    for rule in rules:
        assert series(rule["expr"]) <= set(known), rule["alert"]
    # What a test feeds in must exist too, or it proves nothing.
    for fed in (entry["series"] for test in rule_tests() for entry in test["input_series"]):
        name, labels = re.fullmatch(r"(\w+)\{(.*)\}", fed).groups()  # type: ignore[union-attr]
        if name != "up":
            assert set(re.findall(r"(\w+)=", labels)) - {"job", "instance"} == known[name], fed


def test_the_outcomes_that_alerts_speak_of_are_those_of_ingest(rules: list[dict[str, Any]]) -> None:
    spoken_of = {word for rule in rules for words in re.findall(r'outcome=~?"([^"]+)"', rule["expr"]) for word in words.split("|")}
    assert spoken_of == {outcome.label for outcome in (Outcome.NOT_DURABLE, Outcome.OVERLOADED, Outcome.BAD_SIGNATURE)}


def test_the_dashboard_asks_only_for_figures_that_exist(dashboard: dict[str, Any], panels: list[dict[str, Any]]) -> None:
    known = existing()
    asked = [*expressions(panels), *((v["name"], v["definition"]) for v in dashboard["templating"]["list"])]
    for title, expression in asked:
        assert series(expression) <= set(known), title


def test_every_label_that_is_grouped_by_or_shown_is_one_of_the_figure(panels: list[dict[str, Any]]) -> None:
    known = existing()
    for panel in panels:
        for target in panel["targets"]:
            labels = set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"]))
            grouped = {word for by in re.findall(r"by \(([^)]*)\)", target["expr"]) for word in re.split(r",\s*", by)}
            assert labels <= grouped, panel["title"]
            for name in series(target["expr"]):
                assert grouped - {"instance"} <= known[name], panel["title"]


def test_every_figure_of_ours_can_be_seen_somewhere(panels: list[dict[str, Any]]) -> None:
    shown = {name for _, expression in expressions(panels) for name in series(expression)}
    whole = {re.sub(r"_(bucket|sum|count)$", "", name) for name in shown}
    assert {re.sub(r"_(bucket|sum|count)$", "", name) for name in existing()} <= whole


def test_the_six_figures_stand_at_the_top(dashboard: dict[str, Any], panels: list[dict[str, Any]]) -> None:
    rows = [panel["gridPos"]["y"] for panel in dashboard["panels"] if panel["type"] == "row"]
    top = [panel for panel in panels if rows[0] < panel["gridPos"]["y"] < rows[1]]
    assert len(top) == 6
    assert {name for _, expression in expressions(top) for name in series(expression)} >= SIX_FIGURES


def test_every_panel_has_a_number_a_place_a_question_and_an_explanation(dashboard: dict[str, Any], panels: list[dict[str, Any]]) -> None:
    numbers = [panel["id"] for panel in dashboard["panels"]]
    assert len(numbers) == len(set(numbers))
    taken: set[tuple[int, int]] = set()
    for panel in dashboard["panels"]:
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert at["x"] + at["w"] <= 24, panel["title"]
        assert not cells & taken, panel["title"]
        taken |= cells
    for panel in panels:
        assert panel["title"].endswith("?")
        assert "No data: " in panel["description"], panel["title"]
        defaults = panel["fieldConfig"]["defaults"]
        assert defaults["unit"], panel["title"]
        assert defaults["noValue"], panel["title"]


def test_the_dashboard_needs_no_plugin_and_the_provisioned_source(dashboard: dict[str, Any], panels: list[dict[str, Any]]) -> None:
    provisioned = yaml.safe_load((ROOT / "deploy/grafana/provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert {panel["type"] for panel in panels} <= {"stat", "timeseries", "table"}
    used = {source["datasource"]["uid"] for panel in panels for source in (panel, *panel["targets"])}
    assert used == {provisioned[0]["uid"]}
    assert dashboard["uid"] == "hooktape"


def test_the_jobs_of_the_rules_are_those_of_prometheus_and_their_ports_those_of_the_services(
    rules: list[dict[str, Any]], panels: list[dict[str, Any]], ours: dict[str, dict[str, Any]]
) -> None:
    jobs = {job["job_name"]: job for job in yaml.safe_load((PROMETHEUS / "prometheus.yml").read_text())["scrape_configs"]}
    texts = [rule["expr"] for rule in rules] + [expression for _, expression in expressions(panels)]
    assert {job for text in texts for job in re.findall(r'job="([^"]+)"', text)} <= set(jobs)
    for name, job in jobs.items():
        if name == "prometheus":
            continue
        service = name.removeprefix("hooktape-")
        dns = job.get("dns_sd_configs")
        host, port = (dns[0]["names"][0], dns[0]["port"]) if dns else job["static_configs"][0]["targets"][0].split(":")
        words = ours[service]["command"]
        assert host == service
        assert str(port) == words[words.index("--port" if service == "ingest" else "--metrics-port") + 1]


def test_every_alert_says_what_happened_and_what_to_type(rules: list[dict[str, Any]]) -> None:
    for rule in rules:
        assert rule["labels"]["severity"] in {"critical", "warning", "info"}
        assert set(rule["annotations"]) == {"summary", "description", "action"}, rule["alert"]
        assert typed(rule), rule["alert"]


def typed(rule: dict[str, Any]) -> list[str]:
    """The command lines of an alert's action, labels filled in."""
    action = re.sub(r"\{\{[^}]+\}\}", "app", rule["annotations"]["action"])
    return [text for text in re.findall(r"`([^`]+)`", action) if text.startswith(("hooktape ", "docker "))]


def test_every_hooktape_command_of_an_action_is_one_that_hooktape_takes(
    rules: list[dict[str, Any]], check: Callable[[list[str]], bool]
) -> None:
    absent = set()
    for rule in rules:
        for words in (shlex.split(line.partition(" > ")[0]) for line in typed(rule)):
            try:
                if words[0] == "hooktape" and not check(words[1:]):
                    absent.add(words[1])
            except click.UsageError as error:
                pytest.fail(f"{rule['alert']}: `{' '.join(words)}`: {error.format_message()}")
    if absent:
        pytest.skip(f"not installed: {', '.join(sorted(absent))}")


def test_the_commands_that_need_the_shops_tokens_are_typed_where_they_are(ours: dict[str, dict[str, Any]]) -> None:
    heading = (PROMETHEUS / "rules.yml").read_text().partition("\ngroups:")[0]
    needy = {name for name, (module, _) in COMMANDS.items()
             if "asking.shops(" in (ROOT / "cli" / f"{module}.py").read_text()}  # fmt: skip
    assert set(re.findall(r"`hooktape (\w+) …`", heading)) == needy
    (service,) = set(re.findall(r"`docker compose (?:exec|run --rm) (\w+) ", heading)) - {"catalog"}
    for name in ("HOOKTAPE_SHOP_TOKENS", "HOOKTAPE_SHOP_TOKENS_URL", "HOOKTAPE_SHOPIFY_CLIENT_ID"):
        assert {each for each, one in ours.items() if name in one["environment"]} == {service}


def test_every_service_that_an_action_names_exists(rules: list[dict[str, Any]], compose: dict[str, Any]) -> None:
    verbs = {"up", "logs", "ps", "restart", "run"}
    for rule in rules:
        for line in typed(rule):
            words = shlex.split(line)
            if words[:2] == ["docker", "compose"]:
                assert words[2] in verbs
                values = {after for word, after in itertools.pairwise(words) if word in {"--tail", "--since", "--scale"}}
                services = {word for word in words[3:] if not word.startswith("-") and word not in values}
                assert services <= set(compose["services"]), line
