"""Settings: flags before environment variables `HOOKTAPE_*` before a `hooktape.toml`, and where each value came from.

One table (`_TABLE`) is the whole list: name, parser, default, meaning. `Settings` is an immutable value that every
process builds once and hands down; nothing else reads the environment.
"""

import os
import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hooktape.errors import HooktapeError, SettingsError
from hooktape.times import parse_duration

MIB = 1024 * 1024


@dataclass(frozen=True, repr=False)
class Secret:
    """A text that never shows itself in a log, a traceback or a `repr`. `.reveal()` is the only way to it."""

    _value: str

    def reveal(self) -> str:
        return self._value

    def __repr__(self) -> str:
        return "Secret(***)"

    def __bool__(self) -> bool:
        return bool(self._value)


def _words(text: str) -> tuple[str, ...]:
    return tuple(word.strip() for word in text.split(",") if word.strip())


def _secrets(text: str) -> tuple[Secret, ...]:
    return tuple(Secret(word) for word in _words(text))


def _durations(text: str) -> tuple[float, ...]:
    delays = tuple(parse_duration(word) for word in _words(text))
    if not delays or list(delays) != sorted(set(delays)):
        raise ValueError("give one or more durations, each longer than the one before, as in 30s,2m,10m,1h,6h")
    return delays


def shop_tokens(text: str) -> dict[str, Secret]:
    """`shop.myshopify.com=token`, several with commas between. Raises ValueError, which doesn't say what the text was."""
    pairs = [word.partition("=") for word in _words(text)]
    if any(not (shop and sep and token) for shop, sep, token in pairs):
        raise ValueError("write it as shop.myshopify.com=token, several with commas between")
    return {shop.strip().lower(): Secret(token.strip()) for shop, _, token in pairs}


_SHOP = re.compile(r"[a-z0-9][a-z0-9-]*\.myshopify\.com")
_DOMAIN = re.compile(r"[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+")


def shop_name(text: str) -> str:
    """A shop's domain in lower case. Raises ValueError for any other: the app's secret is sent there, so that it must be Shopify's."""
    if not _SHOP.fullmatch(shop := text.strip().lower()):
        raise ValueError(f"{text.strip()!r} is no shop's domain, as in shop.myshopify.com")
    return shop


def _shops(text: str) -> tuple[str, ...]:
    return tuple(shop_name(word) for word in _words(text))


def _domains(text: str) -> tuple[str, ...]:
    for word in (words := _words(text)):
        if not _DOMAIN.fullmatch(word):
            raise ValueError(f"{word!r} is no domain, as in shop.myshopify.com")
    return words


def _file(text: str) -> Path | None:
    return Path(text).expanduser().absolute() if text else None


def _positive(text: str) -> int:
    if (value := int(text)) <= 0:
        raise ValueError("it must be above zero")
    return value


def _body_limit(text: str) -> int:
    if (value := _positive(text)) > 7 * MIB:
        raise ValueError("it must be at most 7340032 (7 MiB): Kafka takes records of 8 MiB, headers and later errors included")
    return value


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text not in choices:
            raise ValueError(f"it must be one of {', '.join(choices)}")
        return text

    return parse


def _setting(parse: Callable[[str], Any], default: Any, meaning: str) -> Any:
    if isinstance(default, dict | list):
        return field(default_factory=default.copy, metadata={"parse": parse, "meaning": meaning})
    return field(default=default, metadata={"parse": parse, "meaning": meaning})


# What most apps subscribe to, and the compliance topics; `all` stands for every topic in the table.
DEFAULT_TOPICS = (
    "orders/*", "products/*", "customers/*", "refunds/*", "fulfillments/*", "inventory_items/*", "inventory_levels/*",
    "app/*", "bulk_operations/*", "shop/redact",
)  # fmt: skip


@dataclass(frozen=True)
class Settings:
    """All settings of a process. Field `x_y` is `HOOKTAPE_X_Y` in the environment and `x_y` in `hooktape.toml`."""

    kafka: str = _setting(str, "", "bootstrap servers; empty: the local Kafka")
    local_kafka: str = _setting(_one_of("pip", "container"), "pip", "where a local Kafka comes from")
    home: Path = _setting(lambda t: Path(t).expanduser().absolute(), Path.home() / ".local/share/hooktape",
                          "data and logs of the local stack, and the default ledger")
    database_url: Secret = _setting(Secret, Secret(""), "the ledger: sqlite:///FILE or postgresql://…; empty: HOME/ledger.db")
    shopify_secrets: tuple[Secret, ...] = _setting(_secrets, (), "client secrets of the app, newest first")
    topic_prefix: str = _setting(str, "hooktape", "the first word of every Kafka topic's name")
    read_timeout: float = _setting(parse_duration, 10.0, "how long whoever reads the tape waits for Kafka's answer")
    topics: tuple[str, ...] = _setting(_words, DEFAULT_TOPICS, "Shopify topics with a log of their own; * and `all` work")
    partitions: int = _setting(_positive, 6, "partitions of every topic; the most workers a group can use")
    replication: int = _setting(int, -1, "replicas of every topic; -1: the broker's default")
    retention_days: int = _setting(_positive, 30, "how long the tape is kept, in days")
    schema_registry_url: str = _setting(str, "", "a Confluent schema registry; empty: Avro single-object encoding")
    body_limit: int = _setting(_body_limit, 6 * MIB, "largest accepted body in bytes, at most 7 MiB; max.message.bytes is 8 MiB")
    allowed_shops: tuple[str, ...] = _setting(_domains, (), "shops whose webhooks are accepted; empty: all")
    retry_delays: tuple[float, ...] = _setting(_durations, (30.0, 120.0, 600.0, 3600.0, 21600.0), "delays of the retry topics")
    max_attempts: int = _setting(_positive, 12, "tries of an event before it's dead-lettered, the first included")
    shop_tokens: dict[str, Secret] = _setting(shop_tokens, {}, "Admin API tokens: shop.myshopify.com=token, …")
    shop_tokens_file: Path | None = _setting(_file, None, "a file of the same, one a line; read again when it changes")
    shop_tokens_url: str = _setting(str, "", "where the app answers with its shops, and with a shop's token")
    shop_tokens_secret: Secret = _setting(Secret, Secret(""), "sent there as a bearer token")
    shopify_client_id: str = _setting(str, "", "the app's client id: tokens are had by the client credentials grant")
    shops: tuple[str, ...] = _setting(_shops, (), "the shops that they're had for")
    admin_api_version: str = _setting(str, "2026-04", "version of the Admin API that the reconciler asks for")
    admin_url: str = _setting(str, "https://{shop}/admin/api/{version}/graphql.json", "address of the Admin API")
    reconcile_interval: float = _setting(parse_duration, 300.0, "time between two passes over a shop")
    reconcile_at_once: int = _setting(_positive, 16, "shops that one process looks at at a time; at most half of them in sweeps")
    reconcile_lookback_interval: float = _setting(parse_duration, 86400.0, "time between two passes that look back further")
    reconcile_lookback: float = _setting(parse_duration, 93600.0, "how far those look back; above their interval, as indexes lag")
    reconcile_sweep_interval: float = _setting(parse_duration, 604800.0, "time between two comparisons of all ids, for deletions")
    reconcile_overlap: float = _setting(parse_duration, 600.0, "how far a pass looks back before the last one's end")
    reconcile_lag: float = _setting(parse_duration, 60.0, "how far a pass stays behind now: search indexes lag")
    reconcile_grace: float = _setting(parse_duration, 1800.0, "how long what looks missing may still arrive")
    reconcile_suspect: float = _setting(parse_duration, 300.0, "how long what looks missing is taken for merely late")
    reconcile_apart: float = _setting(parse_duration, 600.0, "time between the two looks that a deletion is believed after")
    reconcile_lease: float = _setting(parse_duration, 30.0, "how long a reconciler's silence lasts before another takes its shop over")
    webhook_url: str = _setting(str, "", "where Shopify sends webhooks; the doctor compares it with the subscriptions")
    subscribed_by: str = _setting(_one_of("app", "api"), "app", "who subscribes: the app's configuration file, or calls of the Admin API")
    metafield_namespaces: tuple[str, ...] = _setting(_words, (), "metafield namespaces that subscriptions are to include")
    doctor_interval: float = _setting(parse_duration, 900.0, "time between two looks of the doctor at a shop's subscriptions")
    doctor_repair: str = _setting(_one_of("off", "on"), "off", "on: the doctor makes missing subscriptions; it never deletes any")
    api_token: Secret = _setting(Secret, Secret(""), "a token of the API that may do everything; `hooktape tokens` makes others")
    log_format: str = _setting(_one_of("text", "json"), "text", "text for people, json for machines")
    log_level: str = _setting(_one_of("debug", "info", "warning", "error"), "info", "least level logged")
    kafka_properties: dict[str, str] = field(default_factory=dict)
    """Any librdkafka property, from `HOOKTAPE_KAFKA_X_Y` or the table `[kafka_properties]` (`x.y`)."""
    origins: dict[str, str] = field(default_factory=dict, compare=False, repr=False)
    """Setting → where its value came from, for messages. Absent: the default."""

    def origin(self, name: str) -> str:
        """Where the value of `name` came from, in words."""
        return self.origins.get(name, "the default")

    def require(self, name: str, why: str) -> Any:
        """The value of `name`; raises SettingsError, saying why it's needed, when it's empty."""
        value = getattr(self, name)
        if not value:
            raise SettingsError(f"{env_name(name)} isn't set: {why}. Set it in the environment or `{name}` in hooktape.toml.")
        return value

    @property
    def ledger_url(self) -> str:
        """The ledger's address with the default filled in. It may hold a password: never log it."""
        return self.database_url.reveal() or f"sqlite:///{self.home / 'ledger.db'}"


def env_name(name: str) -> str:
    """`topic_prefix` → `HOOKTAPE_TOPIC_PREFIX`."""
    return f"HOOKTAPE_{name.upper()}"


_TABLE = {f.name: f for f in fields(Settings) if "parse" in f.metadata}


def describe() -> list[tuple[str, Any, str]]:
    """(environment variable, default, meaning) of every setting, for `--help` and the docs."""
    return [(env_name(n), f.default_factory() if callable(f.default_factory) else f.default, f.metadata["meaning"])
            for n, f in _TABLE.items()]  # fmt: skip


def load(
    flags: Mapping[str, Any] | None = None,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Settings from `flags` (already parsed; None means not given), then the environment, then `file`.

    `file` defaults to `HOOKTAPE_CONFIG` or `./hooktape.toml`, and may be absent unless named. Raises SettingsError that
    names the setting and the source of its value; an unknown `HOOKTAPE_*` variable or key is an error too, since a
    misspelt setting that is silently ignored is found at 3 a.m.
    """
    environ = os.environ if environ is None else environ
    path = file or Path(environ.get("HOOKTAPE_CONFIG", "hooktape.toml"))
    named = file is not None or "HOOKTAPE_CONFIG" in environ
    values: dict[str, Any] = {}
    origins: dict[str, str] = {}
    kafka_properties: dict[str, str] = {}

    for key, raw in _read_toml(path, named).items():
        if key == "kafka_properties" and isinstance(raw, dict):
            kafka_properties |= {str(k): _kafka_value(v) for k, v in _flatten(raw).items()}
        else:
            _take(values, origins, key, _as_text(raw), f"`{key}` in {path}")
    for variable, text in environ.items():
        if not variable.startswith("HOOKTAPE_") or variable in _NOT_SETTINGS:
            continue
        name = variable.removeprefix("HOOKTAPE_").lower()
        if name.startswith("kafka_"):
            kafka_properties[name.removeprefix("kafka_").replace("_", ".")] = text
        else:
            _take(values, origins, name, text, f"{variable} in the environment")
    for name, value in (flags or {}).items():
        if value is not None:
            values[name] = value
            origins[name] = f"--{name.replace('_', '-')}"
    return Settings(**values, kafka_properties=kafka_properties, origins=origins)


# Read by other parts, or by tests, and not settings of a service.
_NOT_SETTINGS = {"HOOKTAPE_CONFIG", "HOOKTAPE_CRASH", "HOOKTAPE_TEST_MODE"}


def _take(values: dict[str, Any], origins: dict[str, str], name: str, text: str, origin: str) -> None:
    if name not in _TABLE:
        raise SettingsError(f"{origin} is no setting of Hooktape. See `hooktape --help` or docs/settings.md for the list.")
    try:
        values[name] = _TABLE[name].metadata["parse"](text)
    except (ValueError, HooktapeError) as error:
        raise SettingsError(f"{origin} can't be used: {error}") from None
    origins[name] = origin


def _read_toml(path: Path, named: bool) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except FileNotFoundError:
        if named:
            raise SettingsError(f"the settings file {path} isn't there. Create it, or unset HOOKTAPE_CONFIG.") from None
        return {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"the settings file {path} can't be read: {error}") from None


def _as_text(raw: Any) -> str:
    if isinstance(raw, dict):
        return ",".join(f"{k}={v}" for k, v in raw.items())
    return ",".join(map(str, raw)) if isinstance(raw, list) else _kafka_value(raw)


def _kafka_value(raw: Any) -> str:
    return str(raw).lower() if isinstance(raw, bool) else str(raw)


def _flatten(table: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for key, value in table.items():
        flat |= _flatten(value, f"{prefix}{key}.") if isinstance(value, dict) else {f"{prefix}{key}": value}
    return flat
