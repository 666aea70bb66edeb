"""Tokens: what is kept of them, and who gets in."""

import pytest

from hooktape.errors import NotAllowed, NothingMatched, UsageError
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.tokens import PREFIX, Role, digest, same


def test_a_token_is_found_by_its_secret_alone_until_its_revoked(ledger: Ledger):
    secret = ledger.tokens.create("ana", Role.READ, who="t", now=1)
    assert secret.startswith(PREFIX)
    assert len(secret) > 40
    found = ledger.tokens.find(secret, 2)
    assert found
    assert (found.name, found.role, found.created_by) == ("ana", Role.READ, "t")
    for other in (secret[:-1], secret + "x", "", "ana", digest(secret), "\ud800", "\0"):
        assert ledger.tokens.find(other, 2) is None
    assert ledger.tokens.any_in_force()
    ledger.tokens.revoke("ana", who="t", now=3)
    assert ledger.tokens.find(secret, 4) is None
    assert not ledger.tokens.any_in_force()


def test_a_name_is_one_tokens_at_a_time_and_free_again_once_revoked(ledger: Ledger):
    first = ledger.tokens.create("ana", Role.READ, who="t", now=1)
    with pytest.raises(NotAllowed, match="tokens revoke ana"):
        ledger.tokens.create("ana", Role.OPERATE, who="t", now=2)
    ledger.tokens.revoke("ana", who="t", now=3)
    with pytest.raises(NothingMatched):
        ledger.tokens.revoke("ana", who="t", now=3)
    second = ledger.tokens.create("ana", Role.OPERATE, who="t", now=4)
    assert not same(first, second)
    assert [(t.role, t.revoked_at) for t in ledger.tokens.list()] == [(Role.OPERATE, None), (Role.READ, 3.0)]
    assert [e.action for e in ledger.audit.list()] == ["token create", "token revoke", "token create"]


def test_a_use_is_noted_once_a_minute(ledger: Ledger):
    secret = ledger.tokens.create("ci", Role.READ, who="t", now=0)
    for now, noted in ((100, 100.0), (130, 100.0), (161, 161.0)):
        ledger.tokens.find(secret, now)
        assert ledger.tokens.list()[0].used_at == noted


@pytest.mark.parametrize("name", ["", "env", "a b", "-x", "a\n", "x" * 65, "é"])
def test_some_names_cant_be_tokens(ledger: Ledger, name: str):
    with pytest.raises(UsageError, match="can't be a token's name"):
        ledger.tokens.create(name, Role.READ, who="t", now=0)


def test_operate_is_enough_for_everything_and_read_for_reading():
    assert [a.may(b) for a in Role for b in Role] == [True, False, True, True]
