"""Who may ask what. A token with a role, or, where only this machine can connect, whoever sits at it."""

import getpass
import ipaddress
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from urllib.parse import urlsplit

from hooktape.errors import SettingsError
from hooktape.ledger.ledger import Ledger
from hooktape.ledger.tokens import ENV, Role, same
from hooktape.replayer.api.problems import Refused
from hooktape.settings import Settings

# As many characters as 128 random bits take in base64: below that a token might be guessed or be a word.
_SHORTEST = 22
_CHALLENGE = {"WWW-Authenticate": 'Bearer realm="hooktape"'}
# What proxies add. One on this machine makes its clients look as if they sat at it.
_PROXIED = ("forwarded", "x-forwarded-for", "x-forwarded-host", "x-real-ip", "via")


@dataclass(frozen=True, slots=True)
class Identity:
    """Who asks: the name for the audit trail, and what they may do."""

    name: str
    role: Role


def is_loopback(host: str) -> bool:
    """Whether an address to listen on, or a name in a `Host` header, is this machine's own. Pure: no name is looked up."""
    if host.lower().rstrip(".") == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def check_address(settings: Settings, ledger: Ledger, host: str) -> None:
    """Raises SettingsError for an address that others reach while nobody has a token, and for a token that can be guessed."""
    token = settings.api_token.reveal()
    if token and len(token) < _SHORTEST:
        raise SettingsError(f"HOOKTAPE_API_TOKEN, from {settings.origin('api_token')}, is shorter than {_SHORTEST} characters and could be "
                            "guessed. `hooktape tokens create` makes a good one.")  # fmt: skip
    if not is_loopback(host) and not token and not ledger.tokens.any_in_force():
        raise SettingsError(f"Everybody who reaches {host} could replay and discard events: there's no token yet. Make one with "
                            "`hooktape tokens create --name NAME --role operate`, or listen on 127.0.0.1.")  # fmt: skip


def host_of(header: str) -> str:
    """The name in a `Host` header, without its port and an IPv6 address's brackets; "" when there's none. Pure."""
    try:
        return urlsplit(f"//{header}").hostname or ""
    except ValueError:
        return ""


def refuse_foreign(headers: Mapping[str, str], local: bool) -> None:
    """Raises Refused for what a page of another origin sent (CSRF), or made the browser send by a name of its own (DNS rebinding).

    `local`: only this machine can connect, so no token is asked for. Pure.
    """
    host, origin = headers.get("host", ""), headers.get("origin")
    if local and not is_loopback(host_of(host)):
        raise Refused("foreign", f"Host {host!r} isn't this machine: without tokens only localhost, 127.0.0.1 and [::1] are answered.")
    if origin is not None and urlsplit_netloc(origin) != host:
        raise Refused("foreign", f"A page of {origin!r} isn't allowed to use this API.")
    if headers.get("sec-fetch-site") in ("cross-site", "same-site"):
        raise Refused("foreign", "A page of another site isn't allowed to use this API.")


def urlsplit_netloc(origin: str) -> str:
    """`http://localhost:8010` → `localhost:8010`; "" for `null` and what isn't an origin. Pure."""
    try:
        return urlsplit(origin).netloc
    except ValueError:
        return ""


def identify(settings: Settings, ledger: Ledger, headers: Mapping[str, str], local: bool, now: float) -> Identity:
    """Who sent a request with these headers. Raises Refused (401), LedgerUnavailable."""
    given = headers.get("authorization")
    if given is None:
        if not local:
            raise Refused("unauthenticated", "This API needs a token: Authorization: Bearer hkt_…", headers=_CHALLENGE)
        if by := next((name for name in _PROXIED if name in headers), None):
            raise Refused("unauthenticated", f"The request came through a proxy (it has {by}): whoever does so needs a token.",
                          headers=_CHALLENGE)  # fmt: skip
        return local_user()
    scheme, _, secret = given.partition(" ")
    secret = secret.strip()
    if scheme.lower() == "bearer" and secret:
        expected = settings.api_token.reveal()
        if expected and same(secret, expected):
            return Identity(ENV, Role.OPERATE)
        if token := ledger.tokens.find(secret, now):
            return Identity(token.name, token.role)
    raise Refused("unauthenticated", "That token isn't in force. `hooktape tokens list` shows those that are.", headers=_CHALLENGE)


def local_user() -> Identity:
    """Whoever runs this process: on loopback, nobody else is asked who they are."""
    try:
        user = getpass.getuser()
    except (OSError, KeyError):  # a container's user id without a name
        user = "unknown"
    return Identity(f"{user}@{socket.gethostname()}", Role.OPERATE)


def require(identity: Identity, role: Role) -> None:
    """Raises Refused (403) when the role isn't enough."""
    if not identity.role.may(role):
        raise Refused("forbidden", f"The token {identity.name} has the role {identity.role}; this needs {role}.")
