"""`hooktape send`: signs a sample webhook, or a file, and posts it as Shopify would."""

import asyncio
import sys
import time
import uuid
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path

import click
import httpx

from hooktape.cli import common
from hooktape.errors import Incomplete, UsageError
from hooktape.schemas import samples, signature, topics

# As many as a busy shop has under way; more would only queue here.
_AT_ONCE = 64


@click.command()
@click.argument("topic")
@click.option("--url", default="http://127.0.0.1:8000/webhooks", show_default=True, help="Where the ingestor listens.")
@click.option("--shop", default="example.myshopify.com", show_default=True, help="The shop that the webhook comes from.")
@click.option("--file", "path", type=click.Path(exists=True, dir_okay=False, path_type=Path), help="Post this body, byte for byte.")
@click.option("--count", default=1, show_default=True, type=click.IntRange(1), help="How many, each with an id of its own.")
@click.option("--rate", default=0.0, type=click.FloatRange(0), help="At most so many a second; 0: as fast as it goes.")
@click.option("--webhook-id", help="The X-Shopify-Webhook-Id; the same id again is a duplicate.")
@click.option("--seed", default=1, show_default=True, help="Which samples; the same seed gives the same bodies.")
@common.json_option
def command(topic: str, url: str, shop: str, path: Path | None, count: int, rate: float, webhook_id: str | None, seed: int,
            as_json: bool) -> None:  # fmt: skip
    """Sign a sample webhook of TOPIC with the newest configured secret and post it.

    Example: hooktape send orders/create --count 100 --rate 20
    """
    settings = common.load()
    secret = settings.require("shopify_secrets", "the webhook is signed with the newest")[0].reveal()
    if topic not in topics.table():
        raise UsageError(f"{topic!r} is no Shopify topic. Write it as in orders/create.")
    if webhook_id and count > 1:
        raise UsageError("--webhook-id names one webhook; it can't go with --count above 1.")
    fixed = path.read_bytes() if path else None
    bodies = [fixed if fixed is not None else samples.sample(topic, seed + i) for i in range(count)]
    requests = [(body, headers(topic, shop, body, secret, webhook_id)) for body in bodies]
    answers = asyncio.run(_post_all(url, requests, rate))
    if as_json:
        common.print_json({"sent": count, "answers": {str(status): n for status, n in answers.items()}})
    else:
        for status, n in sorted(answers.items(), key=lambda item: str(item[0])):
            click.echo(f"{n} × {status}")
    if set(answers) != {200}:
        raise Incomplete(f"not every webhook was accepted by {url}: see the answers above.")


def headers(topic: str, shop: str, body: bytes, secret: str, webhook_id: str | None = None) -> dict[str, str]:
    """The headers that Shopify sends with a webhook, signature included."""
    return {
        "Content-Type": "application/json",
        "User-Agent": "Shopify-Captain-Hook",
        "X-Shopify-Topic": topic,
        "X-Shopify-Shop-Domain": shop,
        "X-Shopify-Hmac-Sha256": signature.sign(body, secret),
        "X-Shopify-Webhook-Id": webhook_id or str(uuid.uuid4()),
        "X-Shopify-Event-Id": str(uuid.uuid4()),
        "X-Shopify-Triggered-At": datetime.now(UTC).isoformat().replace("+00:00", "000Z"),
        "X-Shopify-API-Version": "2026-04",
        "X-Shopify-Test": "true",
    }


async def _post_all(url: str, requests: list[tuple[bytes, dict[str, str]]], rate: float) -> Counter[int | str]:
    answers: Counter[int | str] = Counter()
    slots = asyncio.Semaphore(_AT_ONCE)
    started = time.monotonic()
    async with httpx.AsyncClient(timeout=5, trust_env=False) as client, asyncio.TaskGroup() as group:

        async def post(body: bytes, head: dict[str, str]) -> None:
            try:
                answers[(await client.post(url, content=body, headers=head)).status_code] += 1
            except httpx.HTTPError as error:
                answers[f"no answer ({type(error).__name__})"] += 1
            finally:
                slots.release()

        for number, (body, head) in enumerate(requests):
            if rate:
                await asyncio.sleep(max(0.0, started + number / rate - time.monotonic()))
            await slots.acquire()
            group.create_task(post(body, head))
            if sys.stderr.isatty() and number % 50 == 49:
                click.echo(f"\r{number + 1}/{len(requests)}", nl=False, err=True)
    return answers
