"""The pages that list what the code holds say what it holds. `python tests/core/test_docs.py` writes them anew."""

from pathlib import Path

from hooktape import settings
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
    if isinstance(default, settings.Secret) or default in ("", (), {}):
        return "–"
    if isinstance(default, float):
        return f"`{format_duration(default)}`"
    if isinstance(default, tuple):
        return f"`{','.join(format_duration(item) if isinstance(item, float) else str(item) for item in default)}`"
    return f"`{default}`"


def test_the_settings_page_is_the_table_of_settings():
    assert (DOCS / "settings.md").read_text() == settings_page()


if __name__ == "__main__":
    (DOCS / "settings.md").write_text(settings_page())
