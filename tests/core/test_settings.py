"""Settings: precedence, origins, and errors that name them."""

import pytest

from hooktape import settings
from hooktape.errors import SettingsError


def load(tmp_path, flags=None, environ=None, toml=""):
    file = tmp_path / "hooktape.toml"
    file.write_text(toml)
    return settings.load(flags, environ or {}, file)


def test_flags_come_before_the_environment_before_the_file(tmp_path):
    toml = 'kafka = "file:1"\ntopic_prefix = "file"\npartitions = 3\n'
    found = load(tmp_path, {"kafka": "flag:1", "topic_prefix": None}, {"HOOKTAPE_KAFKA": "env:1", "HOOKTAPE_TOPIC_PREFIX": "env"}, toml)
    assert (found.kafka, found.topic_prefix, found.partitions) == ("flag:1", "env", 3)
    assert found.origin("kafka") == "--kafka"
    assert found.origin("topic_prefix") == "HOOKTAPE_TOPIC_PREFIX in the environment"
    assert "`partitions` in" in found.origin("partitions")
    assert found.origin("body_limit") == "the default"


def test_any_librdkafka_property_passes_through(tmp_path):
    found = load(tmp_path, environ={"HOOKTAPE_KAFKA_SASL_MECHANISM": "PLAIN"},
                 toml='[kafka_properties]\nsecurity.protocol = "SASL_SSL"\n"socket.keepalive.enable" = true\n')  # fmt: skip
    assert found.kafka_properties == {
        "sasl.mechanism": "PLAIN", "security.protocol": "SASL_SSL", "socket.keepalive.enable": "true"}  # fmt: skip


@pytest.mark.parametrize(("environ", "named"), [
    ({"HOOKTAPE_KAFAK": "x"}, "HOOKTAPE_KAFAK in the environment is no setting"),
    ({"HOOKTAPE_PARTITIONS": "many"}, "HOOKTAPE_PARTITIONS in the environment can't be used"),
    ({"HOOKTAPE_PARTITIONS": "0"}, "above zero"),
    ({"HOOKTAPE_BODY_LIMIT": "8388608"}, "at most 7340032"),
    ({"HOOKTAPE_ALLOWED_SHOPS": "a.myshopify.com,https://b.myshopify.com/"}, "'https://b.myshopify.com/' is no domain"),
    ({"HOOKTAPE_ALLOWED_SHOPS": "b"}, "'b' is no domain"),
    ({"HOOKTAPE_RETRY_DELAYS": "2m,30s"}, "each longer than the one before"),
    ({"HOOKTAPE_RECONCILE_GRACE": "soon"}, "isn't a duration"),
    ({"HOOKTAPE_SHOP_TOKENS": "shpat_1"}, "shop.myshopify.com=token"),
    ({"HOOKTAPE_LOG_FORMAT": "xml"}, "one of text, json"),
])  # fmt: skip
def test_a_value_that_cant_be_used_is_named_with_its_source(tmp_path, environ, named):
    with pytest.raises(SettingsError, match=named) as error:
        load(tmp_path, environ=environ)
    assert error.value.exit_code == 2


def test_an_unknown_key_in_the_file_is_named(tmp_path):
    with pytest.raises(SettingsError, match="`kafak` in"):
        load(tmp_path, toml='kafak = "x"')


def test_a_named_file_that_is_missing_is_an_error_and_the_default_one_isnt(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert settings.load(environ={}).kafka == ""
    with pytest.raises(SettingsError, match=r"nowhere\.toml isn't there"):
        settings.load(environ={"HOOKTAPE_CONFIG": "nowhere.toml"})


def test_secrets_never_show(tmp_path):
    canary = "shpss_canary"
    found = load(tmp_path, environ={"HOOKTAPE_SHOPIFY_SECRETS": canary, "HOOKTAPE_SHOP_TOKENS": f"a.myshopify.com={canary}",
                                    "HOOKTAPE_DATABASE_URL": f"postgresql://u:{canary}@h/d"})  # fmt: skip
    assert canary not in repr(found)
    assert canary not in str(found)
    assert found.shopify_secrets[0].reveal() == canary


def test_a_needed_setting_that_is_empty_is_asked_for_by_name(tmp_path):
    with pytest.raises(SettingsError, match="HOOKTAPE_SHOPIFY_SECRETS isn't set: webhooks are verified with it"):
        load(tmp_path).require("shopify_secrets", "webhooks are verified with it")
