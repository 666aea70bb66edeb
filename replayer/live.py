"""How long a group's live events wait: the age of the oldest that it hasn't finished, by the broker's offsets alone."""

import threading
import time
from contextlib import AbstractContextManager

from confluent_kafka import KafkaException, TopicPartition

from hooktape import log
from hooktape.errors import TapeError
from hooktape.replayer.catalogue import log_topics
from hooktape.settings import Settings
from hooktape.tape import clients, groups
from hooktape.tape.reader import Reader

_log = log.get("hooktape.replay")
# Workers commit once a second: more looks would see nothing new.
_EVERY = 1.0


class LiveWait(AbstractContextManager["LiveWait"]):
    """Looks once a second, on a thread of its own. A partition that the group never committed isn't its own (yet), and doesn't count."""

    def __init__(self, settings: Settings, group: str) -> None:
        self._settings, self._group = settings, group
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="hooktape-live-wait", daemon=True)
        self.looks = 0
        self.seconds = 0.0

    def __enter__(self) -> "LiveWait":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        with Reader(self._settings) as reader:
            consumer = clients.consumer(self._settings, self._group)
            try:
                while not self._stop.is_set():
                    try:
                        topics = log_topics(self._settings, reader)
                        asked = [TopicPartition(*partition) for partition in reader.partitions(topics)]
                        answer = groups.committed_by(consumer, asked, patience=0)
                        committed = {(tp.topic, tp.partition): tp.offset for tp in answer if tp.offset >= 0}
                        ends = reader.ends({topic for topic, _ in committed})
                        times = reader.first_times({p: offset for p, offset in committed.items() if offset < ends.get(p, 0)})
                        self.seconds = max(0.0, time.time() - min(times.values()) / 1000) if times else 0.0
                        self.looks += 1
                    except (TapeError, KafkaException) as error:
                        # A broker that's away stops the replay by itself. The client may have lost it for good (`clients.Solitude`).
                        consumer.close()
                        consumer = clients.consumer(self._settings, self._group)
                        _log.warning("how long live events wait can't be told", group=self._group, error=str(error))
                    self._stop.wait(_EVERY)
            finally:
                consumer.close()
