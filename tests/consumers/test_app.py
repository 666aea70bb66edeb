"""`App` and how one is found."""

import sys
from pathlib import Path

import pytest

from hooktape import App
from hooktape.consumers.app import load
from hooktape.errors import SettingsError, UsageError


def test_wildcards_and_all_name_topics_and_each_topic_has_one_handler() -> None:
    app = App("g")
    app.on("orders/*", "shiny/new")(print)
    assert {"orders/create", "orders/updated", "shiny/new"} <= set(app.handlers)
    with pytest.raises(UsageError, match="orders/create is claimed by two handlers, print and len"):
        app.on("orders/create")(len)
    everything = App("h")
    everything.on("all")(print)
    assert "products/update" in everything.handlers


@pytest.mark.parametrize(("topics", "options"), [
    (("orders",), {}), (("order/*",), {}), ((), {}), (("orders/create",), {"concurrency": 0}), (("orders/create",), {"timeout": 0}),
    (("orders/create",), {"order": "fifo"}), (("orders/create",), {"max_attempts": 0}),
])  # fmt: skip
def test_what_makes_no_sense_is_said(topics: tuple[str, ...], options: dict[str, object]) -> None:
    with pytest.raises(UsageError):
        App("g").on(*topics, **options)  # type: ignore[arg-type]


def test_a_group_that_cant_be_a_topics_name_is_refused() -> None:
    with pytest.raises(SettingsError, match=r"my\.group"):
        App("my.group")


def test_an_app_has_one_mapper() -> None:
    app = App("g")
    app.classify(lambda error: None)
    with pytest.raises(UsageError, match="keep one"):
        app.classify(lambda error: None)


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    return tmp_path


def test_an_app_is_found_in_the_working_directory(project: Path) -> None:
    (project / "handlers_a.py").write_text("from hooktape import App\napp = App('a')\napp.on('orders/create')(print)\nempty = App('b')\n")
    assert load("handlers_a:app").group == load("handlers_a").group == "a"
    with pytest.raises(UsageError, match="has no handlers"):
        load("handlers_a:empty")
    with pytest.raises(UsageError, match="It has app, empty"):
        load("handlers_a:other")


@pytest.mark.parametrize(("target", "says"), [
    ("nowhere_at_all:app", "no module 'nowhere_at_all'"), ("handlers.py:app", "write shop.handlers:app"), (":app", "MODULE:APP"),
])  # fmt: skip
def test_a_wrong_target_is_explained(project: Path, target: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        load(target)


def test_an_error_inside_the_module_is_the_modules(project: Path) -> None:
    (project / "handlers_b.py").write_text("import not_installed_anywhere\n")
    with pytest.raises(ModuleNotFoundError, match="not_installed_anywhere"):
        load("handlers_b:app")
