"""`hooktape verify-log`: verifies every signature and every record on the tape again."""

import click

from hooktape.cli import common
from hooktape.cli.operating import Progress
from hooktape.errors import NothingMatched
from hooktape.replayer import verify
from hooktape.replayer.catalogue import log_topics
from hooktape.replayer.offsets import choose
from hooktape.tape.names import Names
from hooktape.tape.reader import Reader
from hooktape.times import micros, parse_time


@click.command()
@click.option("--topic", multiple=True, help="Only this topic, by Shopify's name or Kafka's; repeatable.")
@click.option("--since", help="Only what was appended from this time on: ISO 8601, or a time ago (2h).")
@click.option("--show", default=20, show_default=True, help="Records that are listed, of each kind.")
@common.json_option
def command(topic: tuple[str, ...], since: str | None, show: int, as_json: bool) -> int:
    """Decode every record on the tape and verify its signature with the configured secrets. Exit code 1 if any is wrong.

    Example: hooktape verify-log --since 1d
    """
    settings = common.load()
    result = verify.Result()
    with Reader(settings) as reader, Progress() as progress:
        known = reader.partitions(log_topics(settings, reader))
        chosen = choose(Names(settings.topic_prefix), topic, known) if topic else set(known)
        bounds = reader.bounds({of for of, _ in chosen}, None if since is None else micros(parse_time(since)) // 1000)
        spans = {place: span for place, span in bounds.items() if place in chosen}
        total = sum(span.end - span.start for span in spans.values())
        for result in verify.verify(settings, reader, spans):
            progress.show("verifying", result.read, total)
    if not result.read:
        raise NothingMatched("There's no record to verify.")
    if as_json:
        common.print_json({"read": result.read, "totals": dict(result.totals), "clean": result.is_clean,
                           "found": {kind: [{"at": str(at), "what": what} for at, what in places[:show]]
                                     for kind, places in result.found.items()}})  # fmt: skip
    else:
        for finding in verify.Finding:
            if number := result.totals[finding]:
                click.echo(f"{number:>10,}  {finding.value.replace('_', ' ')}")
        for kind, places in result.found.items():
            click.echo(f"\n{kind.replace('_', ' ')}:")
            for at, what in places[:show]:
                click.echo(f"  {at}  {common.clean(what)}")
        if result.totals[verify.Finding.UNKNOWN]:
            click.echo("\nadd the secret that was in use then to HOOKTAPE_SHOPIFY_SECRETS to verify the rest", err=True)
    return 0 if result.is_clean else 1
