"""The pages that list what the code holds say what it holds. `python tests/core/test_docs.py` writes them anew."""

import ast
import inspect
import re
import shlex
from pathlib import Path

import click
import pytest
from prometheus_client.metrics import MetricWrapperBase

from hooktape import metrics, settings
from hooktape.cli.main import root
from hooktape.ingest.outcome import Outcome
from hooktape.tape import headers
from hooktape.times import format_duration

DOCS = Path(__file__).parents[2] / "docs"

HEAD = """\
# Settings

Flags come before `HOOKTAPE_*` variables, which come before `hooktape.toml` (or the file that `HOOKTAPE_CONFIG` names), where the key
is the variable's name in lower case without `HOOKTAPE_`. A setting that Hooktape doesn't know is an error, and every error says where
the value came from. Durations are written `30s`, `10m`, `6h`, `3d`; lists with commas between.

Any property of librdkafka is `HOOKTAPE_KAFKA_*` with its dots as underscores (`HOOKTAPE_KAFKA_SASL_MECHANISM=PLAIN`), or a key of the
table `[kafka_properties]`.

| variable | default | meaning |
| --- | --- | --- |
"""


def settings_page() -> str:
    return HEAD + "".join(f"| `{name}` | {_shown(name, default)} | {meaning} |\n" for name, default, meaning in settings.describe())


def _shown(name: str, default: object) -> str:
    if isinstance(default, Path):
        return "`~/.local/share/hooktape`"
    if isinstance(default, settings.Secret) or default in ("", (), {}, None):
        return "–"
    if isinstance(default, float):
        return f"`{format_duration(default)}`"
    if isinstance(default, tuple):
        return f"`{','.join(format_duration(item) if isinstance(item, float) else str(item) for item in default)}`"
    return f"`{default}`"


REFERENCE = """\
# Reference: what others can see and depend on

## Kafka topics

| topic | key | kept | what |
| --- | --- | --- | --- |
| `hooktape.log.<topic>` | shop/root or shop | `HOOKTAPE_RETENTION_DAYS` | the tape: one webhook or synthetic event a record; `/` is `.` |
| `hooktape.log.other` | shop/root or shop | `HOOKTAPE_RETENTION_DAYS` | events of topics that aren't provisioned |
| `hooktape.retry.<group>.<delay>` | as on the log | 14 days | failed events of a group, due after the delay |
| `hooktape.dlq.<group>` | as on the log | 90 days | dead events of a group |
| `hooktape.replay.<group>` | as on the log | 7 days | the replayer's lane into a group |

The first word is `HOOKTAPE_TOPIC_PREFIX`. A worker of group G joins the Kafka consumer group `G`, which divides the logs; offsets of
the group's retry topics and replay lane are committed under `G` too. All of them have the same number of partitions, and a worker
refuses to start where they haven't. Values are Avro (`schemas/webhook_event.avsc`) in single-object encoding, or in the Confluent wire
format where a schema registry is set; readers take both.

## Exit codes

0 done · 1 failed · 2 wrong usage · 3 nothing matched · 4 not allowed · 5 incomplete or failed again

"""


def reference_page() -> str:
    statuses = "".join(f"| {o.status} | `{o.label}` | {o.text or 'Recorded.'} |\n" for o in Outcome)
    names = "".join(f"| `{name}` | {meaning} |\n" for name, meaning in _headers())
    lines = "".join(f"| `{name}` | {', '.join(labels) or '–'} | {meaning} |\n" for name, labels, meaning in _metrics())
    return (
        f"{REFERENCE}## Answers to `POST /webhooks`\n\n"
        f"| status | `outcome` | what the sender is told |\n| --- | --- | --- |\n{statuses}\n"
        "## Record headers\n\nOurs are replaced at each hop, never appended; foreign ones are kept.\n\n"
        f"| header | meaning |\n| --- | --- |\n{names}\n"
        f"## Metrics\n\n| metric | labels | meaning, and what to do |\n| --- | --- | --- |\n{lines}"
    )


def _headers() -> list[tuple[str, str]]:
    """Constants of `tape.headers` with the text that follows each, or none."""
    body = ast.parse(inspect.getsource(headers)).body
    found = []
    for node, after in zip(body, [*body[1:], None], strict=True):
        if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and str(node.value.value).startswith("hooktape-"):
            said = after.value.value if isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant) else ""
            if node.value.value != headers._PREFIX:
                found.append((node.value.value, " ".join(str(said).split())))
    return found


def _metrics() -> list[tuple[str, tuple[str, ...], str]]:
    found = []
    for value in vars(metrics).values():
        if isinstance(value, MetricWrapperBase):
            name = value._name + ("_total" if value._type == "counter" else "")
            found.append((name, tuple(value._labelnames), value._documentation))
    return found


def test_every_header_and_metric_has_a_meaning():
    assert all(meaning for _, meaning in _headers())
    assert all(len(meaning) > 20 for _, _, meaning in _metrics())


def test_the_reference_lists_what_the_code_has():
    assert (DOCS / "reference.md").read_text() == reference_page()


def _shown_commands() -> list[str]:
    """What the README and the docs tell people to type: console lines, and the README's `hooktape …` in the text."""
    readme = (DOCS.parent / "README.md").read_text()
    found = re.findall(r"`hooktape ([a-z-]+ [^`]+)`", readme)
    for text in (readme, *(page.read_text() for page in sorted(DOCS.glob("*.md")))):
        found += re.findall(r"^\$ hooktape (.+)$", text, re.M)
    return sorted({" ".join(line.split()) for line in found})


@pytest.mark.parametrize("line", _shown_commands())
def test_every_command_in_the_docs_is_one_that_hooktape_takes(line):
    words = shlex.split(line, comments=True)
    command, context = root, click.Context(root)
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        name, command, words = command.resolve_command(context, words)
        context = click.Context(command, info_name=name, parent=context)
    command.make_context(command.name, words, parent=context.parent).close()


def test_the_settings_page_is_the_table_of_settings():
    assert (DOCS / "settings.md").read_text() == settings_page()


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_page())
    (DOCS / "reference.md").write_text(reference_page())
