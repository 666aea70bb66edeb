"""The two commands that run everything: judged by what they print and by their exit codes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest

from hooktape.cli.demonstration.story import free_port

ROOT = Path(__file__).parents[2]


def environment(home: Path, **settings: str) -> dict[str, str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("HOOKTAPE_")}
    return env | {"HOOKTAPE_HOME": str(home), "PYTHONPATH": f"{ROOT / 'src'}{os.pathsep}{ROOT}"} | settings


@pytest.mark.kafka
@pytest.mark.timeout(240)
def test_the_demo_loses_nothing_doubles_nothing_and_cleans_up(tmp_path):
    done = subprocess.run([sys.executable, "-m", "hooktape", "demo", "--changes", "400", "--json"], env=environment(tmp_path),
                          capture_output=True, text=True, timeout=230)  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    verdict = json.loads(done.stdout)
    assert verdict["clean"] is True
    assert verdict["changed"] == 400
    assert verdict["recorded"] == verdict["acknowledged"] > 300
    assert verdict["reconciled"] > 0
    assert not list((tmp_path / "demo").iterdir())


@pytest.mark.kafka
@pytest.mark.timeout(180)
def test_up_takes_a_webhook_to_a_handler_and_stops_cleanly_on_ctrl_c(tmp_path):
    port = free_port()
    env = environment(tmp_path, HOOKTAPE_SHOPIFY_SECRETS="hush", HOOKTAPE_TOPICS="orders/*", HOOKTAPE_PARTITIONS="1")
    log = tmp_path / "up.log"
    with log.open("w") as file:
        up = subprocess.Popen([sys.executable, "-m", "hooktape", "up", "examples.fulfilment:app", "--port", str(port)], env=env,
                              stdout=file, stderr=file, cwd=ROOT)  # fmt: skip
    try:
        until(lambda: ready(port) and "partitions assigned" in log.read_text(), up, log)
        sent = subprocess.run([sys.executable, "-m", "hooktape", "send", "orders/create", "--url", f"http://127.0.0.1:{port}/webhooks"],
                              env=env, capture_output=True, text=True, timeout=60)  # fmt: skip
        assert (sent.returncode, sent.stdout) == (0, "1 × 200\n")
        until(lambda: "reserves" in log.read_text(), up, log)
        status = subprocess.run([sys.executable, "-m", "hooktape", "status", "--json"], env=env, capture_output=True, text=True, timeout=60)
        assert json.loads(status.stdout)["groups"][0]["group"] == "fulfilment"
    finally:
        up.send_signal(signal.SIGINT)
        code = up.wait(60)
    assert code == 0, log.read_text()[-3000:]
    assert not ready(port)


def ready(port):
    try:
        return httpx.get(f"http://127.0.0.1:{port}/readyz", timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


def until(condition, process, log, seconds=90):
    deadline = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, log.read_text()[-3000:]
        assert time.monotonic() < deadline, log.read_text()[-3000:]
        time.sleep(0.1)
