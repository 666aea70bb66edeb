"""FastStream (faststream[confluent]) over a topic that the benchmark has filled, not even decoded, no ledger.

consume_faststream.py BOOTSTRAP TOPIC EVENTS: prints {"seconds", "cpu"} from the first event to the last."""

import asyncio
import json
import logging
import sys
import time
import uuid

from faststream import FastStream
from faststream.confluent import KafkaBroker

logging.disable(logging.CRITICAL)
bootstrap, topic, events = sys.argv[1], sys.argv[2], int(sys.argv[3])
broker = KafkaBroker(bootstrap)
app = FastStream(broker)
seen, start, cpu = 0, 0.0, 0.0


@broker.subscriber(topic, group_id=f"faststream-{uuid.uuid4().hex}", auto_offset_reset="earliest", decoder=lambda m: m.body, no_reply=True)
async def handle(body: bytes):
    global seen, start, cpu
    if not seen:
        start, cpu = time.perf_counter(), time.process_time()
    seen += 1
    if seen == events:
        print(json.dumps({"seconds": time.perf_counter() - start, "cpu": time.process_time() - cpu}), flush=True)
        app.exit()


asyncio.run(app.run(log_level=50))
