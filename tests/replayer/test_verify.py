import json

from hooktape.replayer.verify import Finding, examine
from hooktape.schemas import signature
from hooktape.schemas.signature import Verifier
from hooktape.settings import Settings
from tests.replayer.kit import SECRET, cli, event, record

VERIFIER, KNOWN = Verifier([SECRET]), frozenset({signature.secret_id(SECRET)})


def test_every_kind_of_record_is_told_apart() -> None:
    good = event(1)
    old = signature.secret_id("an older one")
    for each, finding in (
        (good, Finding.OK),
        (event(1, secret_id=old), Finding.OK),  # the name is only a hint
        (event(1, hmac=signature.sign(b"another body", SECRET)), Finding.WRONG),
        (event(1, hmac="not base64"), Finding.WRONG),
        (event(1, hmac=signature.sign(b"x", "an older one"), secret_id=old), Finding.UNKNOWN),
        (event(1, hmac=None), Finding.UNSIGNED),
        (event(1, hmac=None, source="reconciler"), Finding.SYNTHETIC),
    ):
        assert examine(each, VERIFIER, KNOWN) is finding


def test_a_clean_tape_is_said_to_be_clean(tape: Settings, url: str) -> None:
    assert cli(tape, url, "verify-log").exit_code == 3
    record(tape, [*(event(i) for i in range(20)), event(21, hmac=None, source="reconciler")])
    result = cli(tape, url, "verify-log", "--json")
    assert result.exit_code == 0
    assert json.loads(result.stdout)["totals"] == {"ok": 20, "synthetic": 1}


def test_a_tampered_and_an_alien_record_are_found_where_they_lie(tape: Settings, url: str) -> None:
    forged = event(7, payload=b'{"id": 7, "total": "0.00"}', hmac=event(7).hmac)
    record(tape, [event(1), forged, b"alien"])
    result = cli(tape, url, "verify-log", "--topic", "orders/create", "--json")
    assert result.exit_code == 1
    answer = json.loads(result.stdout)
    assert answer["totals"] == {"ok": 1, "wrong_signature": 1, "not_decodable": 1}
    assert "w000007" in answer["found"]["wrong_signature"][0]["what"]
    assert answer["found"]["not_decodable"][0]["at"].startswith(f"{tape.topic_prefix}.log.orders.create/")
    text = cli(tape, url, "verify-log")
    assert text.exit_code == 1
    assert "wrong signature" in text.stdout
    assert cli(tape, url, "verify-log", "--topic", "orders/updated").exit_code == 3
