"""Tokens of the HTTP API: who holds one, and what it may do. Only a token's SHA-256 is kept, which no one can turn back.

A plain hash is enough, where a password would need a slow one: a token is 32 random bytes, and can't be guessed.
"""

import hashlib
import hmac
import re
import secrets
from dataclasses import dataclass
from enum import StrEnum

from hooktape.errors import NotAllowed, NothingMatched, UsageError
from hooktape.ledger.audit import append
from hooktape.ledger.database import Database, Transaction

PREFIX = "hkt_"
"""What every token begins with, so that scanners of repositories and logs can find a leaked one."""
ENV = "env"
"""The name of the token in the settings; none in the ledger may be called so."""
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@-]{0,63}")
# A use is noted once in so many seconds: each note is a write, and nobody asks for more than "is it still used?".
_NOTE_SECONDS = 60.0


class Role(StrEnum):
    """What a token may do: look, or everything."""

    READ = "read"
    OPERATE = "operate"

    def may(self, wanted: "Role") -> bool:
        """Whether this role is enough for what asks for `wanted`."""
        return self is Role.OPERATE or wanted is Role.READ


@dataclass(frozen=True, slots=True)
class Token:
    """A token without its secret. Times are epoch seconds; `used_at` is a minute behind at most."""

    name: str
    role: Role
    created_at: float
    created_by: str
    used_at: float | None = None
    revoked_at: float | None = None


def new_secret() -> str:
    """A token that was never given out: the prefix, and 32 random bytes in the alphabet of URLs."""
    return PREFIX + secrets.token_urlsafe(32)


def digest(secret: str) -> str:
    """What the ledger keeps of a token."""
    return hashlib.sha256(secret.encode("utf-8", "surrogatepass")).hexdigest()


def same(one: str, other: str) -> bool:
    """Whether two tokens are equal, in a time that doesn't tell where they differ."""
    return hmac.compare_digest(digest(one), digest(other))


class Tokens:
    def __init__(self, database: Database) -> None:
        self._database = database

    def create(self, name: str, role: Role, *, who: str, now: float) -> str:
        """The new token, which is shown this once. Raises UsageError for a name that can't be one, NotAllowed for one in use."""
        if not _NAME.fullmatch(name) or name == ENV:
            raise UsageError(f"{name!r} can't be a token's name: use letters, digits and . _ @ -, at most 64; `{ENV}` is "
                             "HOOKTAPE_API_TOKEN's.")  # fmt: skip
        secret = new_secret()

        def work(t: Transaction) -> None:
            if not t.run(
                """INSERT INTO tokens (digest, name, role, created_at, created_by) VALUES (:digest, :name, :role, :now, :who)
                   ON CONFLICT DO NOTHING""",
                {"digest": digest(secret), "name": name, "role": str(role), "now": now, "who": who},
            ):
                raise NotAllowed(f"There is a token {name!r} already. Revoke it first (`hooktape tokens revoke {name}`), or take "
                                 "another name.")  # fmt: skip
            append(t, now, who, "token create", name, "", {"role": str(role)})

        self._database.write(work)
        return secret

    def revoke(self, name: str, *, who: str, now: float) -> None:
        """From now on nobody gets in with it. Raises NothingMatched when no such token is in force."""

        def work(t: Transaction) -> None:
            if not t.run("UPDATE tokens SET revoked_at = :now WHERE name = :name AND revoked_at IS NULL", {"name": name, "now": now}):
                raise NothingMatched(f"No token {name!r} is in force. `hooktape tokens list` shows those that are.")
            append(t, now, who, "token revoke", name, "", {})

        self._database.write(work)

    def find(self, secret: str, now: float) -> Token | None:
        """The token in force with this secret, its use noted; None for any other text."""
        key = digest(secret)
        row = self._database.read(lambda t: t.row(f"SELECT {_COLUMNS} FROM tokens WHERE digest = :digest AND revoked_at IS NULL",
                                                  {"digest": key}))  # fmt: skip
        if row is None:
            return None
        token = _token(row)
        if token.used_at is None or now - token.used_at > _NOTE_SECONDS:
            self._database.write(lambda t: t.run("UPDATE tokens SET used_at = :now WHERE digest = :digest", {"now": now, "digest": key}),
                                 durable=False)  # fmt: skip
        return token

    def list(self) -> list[Token]:
        """All of them, the latest first, revoked ones too: the audit trail speaks of them."""
        rows = self._database.read(lambda t: t.rows(f"SELECT {_COLUMNS} FROM tokens ORDER BY created_at DESC, name"))
        return [_token(row) for row in rows]

    def any_in_force(self) -> bool:
        """Whether anybody could get in with a token of the ledger."""
        return self._database.read(lambda t: t.row("SELECT 1 FROM tokens WHERE revoked_at IS NULL LIMIT 1")) is not None


_COLUMNS = "name, role, created_at, created_by, used_at, revoked_at"


def _token(row: tuple[str, str, float, str, float | None, float | None]) -> Token:
    name, role, *rest = row
    return Token(name, Role(role), *rest)  # type: ignore[arg-type]
