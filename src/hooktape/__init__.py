"""Hooktape: a tape recorder for Shopify webhooks.

`App`, `Event`, `Retry` and `Reject` are what a handler needs. They load on first use (PEP 562), so that importing
the package costs nothing and no part has to import another to be reachable from here.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hooktape.consumers.app import App as App
    from hooktape.errors import Reject as Reject
    from hooktape.errors import Retry as Retry
    from hooktape.schemas.event import Event as Event

__version__ = "0.1.0"
__all__ = ["App", "Event", "Reject", "Retry", "__version__"]

_HOME = {
    "App": "hooktape.consumers.app",
    "Event": "hooktape.schemas.event",
    "Reject": "hooktape.errors",
    "Retry": "hooktape.errors",
}


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'hooktape' has no attribute {name!r}")
