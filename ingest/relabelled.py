"""Notices a signed body that comes again under another shop or topic: only the body is signed, so whoever holds one can.

The verified HMAC stands for the body (two bodies with one HMAC would be a break of SHA-256), so nothing is hashed twice. The
memory is bounded and this process's own: a hint for handlers that act on dangerous topics, not a proof of innocence.
"""

import binascii

# About 20 MB when full; at 100 webhooks a second it reaches back ten minutes.
CAPACITY = 65_536
# `{}` (attributed_sessions) says nothing that could be put under another label, and is the same for every shop.
_LEAST = 3


class Relabelled:
    """Remembers the label under which each signature was first seen; the one seen longest ago is forgotten first."""

    def __init__(self, capacity: int = CAPACITY) -> None:
        self._capacity = capacity
        self._labels: dict[bytes, tuple[str, str]] = {}

    def __len__(self) -> int:
        return len(self._labels)

    def seen(self, body: bytes, signature: bytes, shop: str, topic: str) -> bool:
        """Whether this body was seen under another label. `signature` must have been verified: it's strict base64."""
        if len(body) < _LEAST:
            return False
        # The decoded bytes: base64's last letter has bits to spare, so one signature has several spellings.
        key = binascii.a2b_base64(signature)
        label = (shop, topic)
        known = self._labels.pop(key, label)
        self._labels[key] = known  # last in the order: seen just now
        if len(self._labels) > self._capacity:
            del self._labels[next(iter(self._labels))]
        return known != label
