"""Execute, then error: a producer that really writes, and whose acknowledgement is then lost."""

from collections.abc import Callable
from typing import Any

from confluent_kafka import KafkaError, Message, Producer

from hooktape.settings import Settings
from hooktape.tape import clients

Report = Callable[[KafkaError | None, Message], None]


class LostAcks:
    """Stands in for `clients.producer`; what it makes loses the next `left` acknowledgements of records that `concerns` names."""

    def __init__(self, left: int, concerns: Callable[[str], bool] = lambda topic: True) -> None:
        self.left = left
        self.lost: list[str] = []
        """The topics of records that Kafka has and whose acknowledgement was lost."""
        self._concerns = concerns
        self._real = clients.producer

    def __call__(self, settings: Settings, **overrides: Any) -> Any:
        return _Forgetful(self._real(settings, **overrides), self)

    def report(self, told: Report, error: KafkaError | None, message: Message) -> None:
        """Passes a delivery report on, or says instead what librdkafka says when no answer came in time."""
        topic = message.topic() or ""
        if error is None and self.left > 0 and self._concerns(topic):
            self.left -= 1
            self.lost.append(topic)
            error = KafkaError(KafkaError._MSG_TIMED_OUT)
        told(error, message)


class _Forgetful:
    def __init__(self, real: Producer, acks: LostAcks) -> None:
        self._real, self._acks = real, acks

    def produce(self, *words: Any, on_delivery: Report, **named: Any) -> None:
        self._real.produce(*words, on_delivery=lambda error, message: self._acks.report(on_delivery, error, message), **named)

    def poll(self, timeout: float) -> int:
        return self._real.poll(timeout)
