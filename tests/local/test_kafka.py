"""The local Kafka, as its users see it."""

from confluent_kafka.admin import AdminClient

from hooktape.settings import Settings


def test_a_client_finds_the_broker_of_the_run(kafka: str, settings: Settings) -> None:
    assert len(AdminClient({"bootstrap.servers": kafka}).list_topics(timeout=10).brokers) == 1
    assert settings.kafka == kafka
