"""Sentry's arroyo over a topic that the benchmark has filled, decoded, nothing else done, no ledger.

consume_arroyo.py BOOTSTRAP TOPIC EVENTS SCHEMA [QUEUED]: the schema is a file; QUEUED is queued.min.messages, arroyo's own 10,000 unless
given. Prints {"seconds", "cpu"} from the first event to the last."""

import io
import json
import logging
import sys
import time
import uuid
from pathlib import Path

import fastavro
from arroyo.backends.kafka import KafkaConsumer, build_kafka_consumer_configuration
from arroyo.processing.processor import StreamProcessor
from arroyo.processing.strategies import CommitOffsets, ProcessingStrategyFactory, RunTask
from arroyo.types import Topic

FRAME = 10  # single-object encoding: two bytes of marker and eight of fingerprint stand before the record

logging.disable(logging.CRITICAL)
bootstrap, topic, events = sys.argv[1], sys.argv[2], int(sys.argv[3])
schema = fastavro.parse_schema(json.loads(Path(sys.argv[4]).read_text()))
seen, start, cpu = 0, 0.0, 0.0


def handle(message):
    global seen, start, cpu
    if not seen:
        start, cpu = time.perf_counter(), time.process_time()
    stream = io.BytesIO(message.payload.value)
    stream.seek(FRAME)
    fastavro.schemaless_reader(stream, schema, None)
    seen += 1
    if seen == events:
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}), flush=True)
        processor.signal_shutdown()
    return message.payload


class Factory(ProcessingStrategyFactory):
    def create_with_partitions(self, commit, partitions):
        return RunTask(handle, CommitOffsets(commit))


configuration = build_kafka_consumer_configuration(
    {}, bootstrap_servers=[bootstrap], auto_offset_reset="earliest", group_id=f"arroyo-{uuid.uuid4().hex}",
    queued_min_messages=int(sys.argv[5]) if len(sys.argv) > 5 else None)  # fmt: skip
processor = StreamProcessor(KafkaConsumer(configuration), Topic(topic), Factory())
processor.run()
