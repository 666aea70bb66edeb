"""docker-compose.yml: it parses, its services exist as commands, its settings as settings, and nothing is left open."""

import re
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from hooktape import settings

ROOT = Path(__file__).parents[2]
_SECONDS = {"s": 1, "m": 60}


def docker_compose() -> list[str]:
    """The Compose command, or a skip that says what's missing."""
    if shutil.which("docker") is None:
        pytest.skip("the docker command isn't installed")
    if subprocess.run(["docker", "compose", "version"], capture_output=True).returncode:
        pytest.skip("the docker command has no Compose plugin")
    return ["docker", "compose", "--project-directory", str(ROOT), "--file", str(ROOT / "docker-compose.yml")]


def environment(tmp_path: Path, **values: str) -> dict[str, str]:
    """An environment that holds nothing of ours but `values`, and no `.env` of whoever runs the tests."""
    return {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": str(tmp_path), "COMPOSE_DISABLE_ENV_FILE": "1", **values}


@pytest.mark.parametrize("profiles", [[], ["--profile", "reconcile"]])
def test_docker_compose_accepts_the_file(tmp_path: Path, profiles: list[str], needed: dict[str, str]) -> None:
    command = [*docker_compose(), *profiles, "config", "--quiet"]
    ran = subprocess.run(command, capture_output=True, text=True, env=environment(tmp_path, **needed))
    assert (ran.returncode, ran.stderr) == (0, "")


@pytest.mark.parametrize("name", ["HOOKTAPE_SHOPIFY_SECRETS", "POSTGRES_PASSWORD", "FORWARD_URL"])
def test_without_a_needed_value_nothing_starts_and_the_value_is_named(
    compose_text: str, name: str, needed: dict[str, str], fill_in: Callable[[Any, dict[str, str]], Any]
) -> None:
    with pytest.raises(LookupError, match=f"^{name}: set it in .env"):
        fill_in(yaml.safe_load(compose_text), {**needed, name: ""})


def test_the_example_of_env_names_every_variable_that_somebody_may_set(compose_text: str, needed: dict[str, str]) -> None:
    example = (ROOT / "deploy/env.example").read_text()
    named = set(re.findall(r"^#? ?([A-Z_]+)=", example, re.MULTILINE))
    used = set(re.findall(r"\$\{(\w+)", compose_text))
    assert used <= named
    assert set(re.findall(r"^([A-Z_]+)=", example, re.MULTILINE)) == set(needed)
    passed_on = {name for service in yaml.safe_load(compose_text)["services"].values() for name in service.get("environment", {})}
    assert named <= used | passed_on


def test_a_name_that_compose_alone_reads_is_not_taken_for_a_setting_of_hooktape(compose_text: str) -> None:
    # An unknown HOOKTAPE_ variable is an error of every command, also in the shell where somebody exported it for Compose.
    known = {name for name, _, _ in settings.describe()}
    ours = {name for name in re.findall(r"\$\{(\w+)", compose_text) if name.startswith("HOOKTAPE_")}
    assert ours
    assert ours <= known


def test_every_service_of_ours_starts_with_settings_that_load(ours: dict[str, dict[str, Any]], tmp_path: Path) -> None:
    absent = tmp_path / "hooktape.toml"
    assert {"topics", "ingest", "consume", "catalog", "reconcile"} == set(ours)
    absent.write_text("")
    for service in ours.values():
        given = {name: value for name, value in service["environment"].items() if value is not None}
        loaded = settings.load(environ=given, file=absent)
        assert loaded.kafka == "kafka:19092"
        assert loaded.ledger_url == "postgresql://hooktape:long@postgres:5432/hooktape"
        # librdkafka would take any misspelt HOOKTAPE_KAFKA_… for one of its own properties.
        assert loaded.kafka_properties == {}


def test_every_name_that_is_handed_on_is_a_setting(ours: dict[str, dict[str, Any]]) -> None:
    known = {name for name, _, _ in settings.describe()}
    for service in ours.values():
        assert set(service["environment"]) <= known


def test_the_reconciler_is_handed_every_setting_that_is_its_own(ours: dict[str, dict[str, Any]]) -> None:
    its_own = {name for name, _, _ in settings.describe() if name.startswith(("HOOKTAPE_RECONCILE_", "HOOKTAPE_DOCTOR_"))}
    assert its_own
    assert its_own <= set(ours["reconcile"]["environment"])


def test_who_verifies_or_is_granted_tokens_holds_the_secrets_and_only_the_reconciler_tokens(ours: dict[str, dict[str, Any]]) -> None:
    assert {name for name, service in ours.items() if "HOOKTAPE_SHOPIFY_SECRETS" in service["environment"]} == {"ingest", "reconcile"}
    assert {name for name, service in ours.items() if "HOOKTAPE_SHOP_TOKENS" in service["environment"]} == {"reconcile"}


@pytest.mark.parametrize("name", ["topics", "ingest", "consume", "catalog", "reconcile"])
def test_every_command_line_is_one_that_hooktape_takes(
    ours: dict[str, dict[str, Any]], name: str, check: Callable[[list[str]], bool]
) -> None:
    if not check(ours[name]["command"]):
        pytest.skip(f"hooktape {name} isn't installed")


def test_the_other_command_line_that_a_comment_offers_is_taken_too(compose_text: str, check: Callable[[list[str]], bool]) -> None:
    offered = re.findall(r"#\s+command: (\[.+\])", compose_text)
    assert len(offered) == 1
    if not check(yaml.safe_load(offered[0])):
        pytest.skip("hooktape consume isn't installed")


def test_only_ingest_listens_beyond_this_machine(compose: dict[str, Any]) -> None:
    open_ports = {name for name, service in compose["services"].items()
                  for port in service.get("ports", []) if not port.startswith("127.0.0.1:")}  # fmt: skip
    assert open_ports == {"ingest"}


def test_every_service_that_stays_is_watched_restarted_and_given_time_to_stop(compose: dict[str, Any]) -> None:
    for name, service in compose["services"].items():
        if name == "topics":
            assert service["restart"] == "no"
            continue
        assert service["restart"] == "unless-stopped", name
        assert service["healthcheck"]["test"][0] in {"CMD", "CMD-SHELL"}, name
        number, unit = re.fullmatch(r"(\d+)([sm])", service["stop_grace_period"]).groups()  # type: ignore[union-attr]
        # Docker's own 10 s are for programs that have nothing to finish.
        assert int(number) * _SECONDS[unit] > 10, name


def test_no_service_starts_before_what_it_needs_is_ready(compose: dict[str, Any], ours: dict[str, dict[str, Any]]) -> None:
    for name, service in ours.items():
        needs = {other: how["condition"] for other, how in service["depends_on"].items()}
        assert needs["kafka"] == "service_healthy", name
        if name != "topics":
            assert needs["topics"] == "service_completed_successfully", name
        if name not in {"topics", "ingest"}:
            assert needs["postgres"] == "service_healthy", name
        assert set(needs) <= set(compose["services"])


def test_a_container_of_ours_can_change_nothing_but_its_scratch_space(ours: dict[str, dict[str, Any]]) -> None:
    for service in ours.values():
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]


def test_every_image_of_others_is_pinned(compose: dict[str, Any], ours: dict[str, dict[str, Any]]) -> None:
    for name, service in compose["services"].items():
        if name not in ours:
            assert re.fullmatch(r"[\w/.-]+:v?\d[\w.]*", service["image"]), name


def test_every_volume_is_declared_and_every_mounted_path_exists(compose: dict[str, Any]) -> None:
    sources = [volume.split(":")[0] for service in compose["services"].values() for volume in service.get("volumes", [])]
    assert {source for source in sources if not source.startswith(".")} == set(compose["volumes"])
    assert all((ROOT / source).is_dir() for source in sources if source.startswith("."))


def test_the_broker_keeps_its_word_as_the_local_one_does(compose: dict[str, Any]) -> None:
    kafka = pytest.importorskip("hooktape.local.kafka", reason="the local stack isn't there")
    local = kafka.properties(kafka.Ports(1, 2), Path("data"))
    here = {name.removeprefix("KAFKA_").lower().replace("_", "."): str(value)
            for name, value in compose["services"]["kafka"]["environment"].items() if name.startswith("KAFKA_")}  # fmt: skip
    # What depends on where it runs; the internal topics' size is a matter of a laptop's start-up time.
    elsewhere = {"listeners", "log.dirs", "controller.quorum.bootstrap.servers"}
    expected = {name: value for name, value in local.items() if name not in elsewhere and not name.endswith("num.partitions")}
    assert {name: here.get(name) for name in expected} == expected
    assert here["log.flush.interval.messages"] == "1"
