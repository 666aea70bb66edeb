"""Signatures: the official vector, our own, and what must be refused."""

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.schemas.signature import Verifier, secret_id, sign

SECRET = "test_secret_key"

# Body → signature under SECRET. The first is the literal of Shopify's own test (shopify-api-js, validate.test.ts); the rest were
# computed once with another HMAC implementation and are here so that a change of ours can't go unseen.
VECTORS = {
    b'{"foo": "bar"}': "B23tXN681gZ0qIWNRrgtzBE9XSDo5yaUu6wfmhu3a7g=",
    b'{"foo":"bar"}': "1kjVjZBASoDr0j4pTeXLurkG6u87OrkQXzf+h707p2w=",
    b'{"u":"https:\\/\\/x.example\\/a?b=1\\u0026c=2"}': "GZJ/EoW1Jk60qHfHD1Buak/jEWLenU+Bfjw8cxm9ytQ=",
    b'{"u":"https://x.example/a?b=1&c=2"}': "uCAsQ1wTYGWjyi+hn0NPx/pLrV2gar3zFDxF7KCn7Bw=",
    b'{"name":"Zo\xc3\xab \xe6\x9d\xb1\xe4\xba\xac"}': "IdeF6FBjZjCwC4Yy0DAk/PRc0kg1cZt5PwyXFaYMXW8=",
    b'{"sku":"\xe2\x80\xa8724812-22"}': "LXZu/qPbrt74gw772A5YhcqHdQAA72DJIzUPDhAR2sU=",
    b"{}": "XvcIOG8nFWDt7em908qMy3qjutRcuCIanacuUBx1sD8=",
    b"{}\n": "1qhdLqDq/YSwj1FRXFMwCm9MdRhIi8fHQ8aT2U1vjj4=",
}


@pytest.mark.parametrize("body", VECTORS, ids=repr)
def test_the_published_vectors_hold(body):
    assert sign(body, SECRET) == VECTORS[body]
    assert Verifier([SECRET]).verify(body, VECTORS[body].encode()) == secret_id(SECRET)


def test_either_secret_of_a_rotation_verifies_and_is_named():
    verifier = Verifier(["new", "old"])
    assert verifier.verify(b"{}", sign(b"{}", "old").encode()) == secret_id("old")
    assert verifier.verify(b"{}", sign(b"{}", "new").encode()) == secret_id("new")
    assert verifier.verify(b"{}", sign(b"{}", "other").encode()) is None


def test_a_trailing_newline_as_rubys_encoder_adds_is_accepted():
    assert Verifier([SECRET]).verify(b"{}", VECTORS[b"{}"].encode() + b"\n") is not None


@pytest.mark.parametrize("signature", [
    b"", b"=", b"not base64!", "h\xe4sh".encode("latin-1"), base64.b64encode(b"short"), VECTORS[b"{}"].encode()[:-1],
    VECTORS[b"{}"].encode() + b"AAAA", b"\x00" * 44,
])  # fmt: skip
def test_what_is_no_signature_is_refused_without_an_error(signature):
    assert Verifier([SECRET]).verify(b"{}", signature) is None


@given(st.binary(max_size=200), st.binary(max_size=60), st.text(min_size=1, max_size=20))
def test_only_the_exact_bytes_verify(body, change, secret):
    signature = sign(body, secret).encode()
    assert Verifier([secret]).verify(body, signature)
    if change:
        assert Verifier([secret]).verify(body + change, signature) is None


def test_a_secrets_public_name_doesnt_hold_the_secret():
    assert len(secret_id("shpss_0123456789abcdef")) == 8
    assert "shpss" not in secret_id("shpss_0123456789abcdef")
    assert "hush" not in repr(Verifier(["hush"]).__dict__)
