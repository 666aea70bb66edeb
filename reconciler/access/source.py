"""What an origin of tokens has to be, and the two that need nobody else: the setting, and a file.

    Access.token ── kept, and not near its end ──▶ used
         │
         └── Source.token: at first, near the end, and after a 401
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from hooktape import log
from hooktape.errors import AdminApiError, SettingsError
from hooktape.settings import Secret, shop_tokens

_log = log.get("hooktape.reconciler")


@dataclass(frozen=True, slots=True)
class Token:
    """An access token. `lasts`: seconds from now for which it's good; None: nobody knows, so that it's asked for again each time."""

    secret: Secret
    lasts: float | None = None


class Source(Protocol):
    """An origin of tokens. `Access` calls it, for one shop never twice at a time, and for several shops at once.

    It may wait for a network, within a few seconds. It keeps no token by itself: how long one is used is `Access`'s affair.
    """

    async def shops(self) -> Sequence[str]:
        """The shops that have a token now. Raises AdminApiError (`token_source`) when nobody can tell."""
        ...

    async def token(self, shop: str) -> Token:
        """A token that is good now; another one than the last where that was refused or has ended.

        Raises AdminApiError: `no_token` when there's none for this shop, `token_source` and `unreachable` when it can't be had now, and
        whatever else only a person can change.
        """
        ...


class Fixed:
    """HOOKTAPE_SHOP_TOKENS: tokens that are good until a person changes them."""

    def __init__(self, tokens: Mapping[str, Secret]) -> None:
        self._tokens = dict(tokens)

    async def shops(self) -> Sequence[str]:
        return tuple(self._tokens)

    async def token(self, shop: str) -> Token:
        return _found(self._tokens, shop, "HOOKTAPE_SHOP_TOKENS")


class Filed:
    """HOOKTAPE_SHOP_TOKENS_FILE: the same pairs, one a line, read again when the file has changed.

    For whoever hands out secrets as files (Vault's agent, Kubernetes, systemd, a job that refreshes tokens). It should be replaced by
    renaming, as these do: a file that is being written is read in part. One that can't be used leaves the last pairs in force. Raises
    SettingsError where the first reading fails.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._state: tuple[int, int, int] | None = None
        self._tokens: dict[str, Secret] = {}
        self._read()

    async def shops(self) -> Sequence[str]:
        self._again()
        return tuple(self._tokens)

    async def token(self, shop: str) -> Token:
        self._again()
        return _found(self._tokens, shop, f"{self._path} (HOOKTAPE_SHOP_TOKENS_FILE)")

    def _again(self) -> None:
        try:
            self._read()
        except SettingsError as error:
            _log.error("the file of tokens can't be used; the pairs of its last reading stay in force", error=str(error))

    def _read(self) -> None:
        try:
            found = self._path.stat()
            state = found.st_ino, found.st_size, found.st_mtime_ns
            if state == self._state:
                return
            # What can't be used is told of once, not at every question.
            self._state = state
            self._tokens = parsed(self._path.read_text(), str(self._path))
        except (OSError, UnicodeDecodeError) as error:
            raise SettingsError(f"{self._path} (HOOKTAPE_SHOP_TOKENS_FILE) can't be read: {error}") from None


def parsed(text: str, name: str) -> dict[str, Secret]:
    """The pairs of a file. Empty lines and those that begin with # are nothing. Raises SettingsError with the line's number, and without
    what it says: that may be a token."""
    found: dict[str, Secret] = {}
    for number, line in enumerate(text.splitlines(), 1):
        if (pair := line.strip()) and not pair.startswith("#"):
            try:
                found |= shop_tokens(pair)
            except ValueError as error:
                raise SettingsError(f"{name}, line {number} can't be used: {error}") from None
    if not found:
        raise SettingsError(f"{name} has no token: write shop.myshopify.com=token, one a line.")
    return found


def _found(tokens: Mapping[str, Secret], shop: str, where: str) -> Token:
    if shop not in tokens:
        raise AdminApiError(f"{where} has no token for {shop}: add {shop}=TOKEN to it", reason="no_token")
    return Token(tokens[shop])
