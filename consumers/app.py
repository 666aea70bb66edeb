"""`App`: a consumer group and its handlers, as users write them."""

import importlib
import inspect
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar

from hooktape.consumers.classify import Mapper
from hooktape.errors import SettingsError, UsageError
from hooktape.schemas import topics as shopify
from hooktape.schemas.event import Event
from hooktape.tape.names import check_group

Function = Callable[[Event], Awaitable[Any] | Any]
F = TypeVar("F", bound=Function)
M = TypeVar("M", bound=Mapper)
# Seconds a handler may take. Long enough for a slow API with its own time-out, short beside Kafka's five minutes.
DEFAULT_TIMEOUT = 30.0
DEFAULT_CONCURRENCY = 16
# What the smallest bucket holds (FACTS: 2,000 points on the standard plan), less what is kept in hand: more would never be there.
LARGEST_COST = 1000.0


@dataclass(frozen=True, slots=True, eq=False)
class Handler:
    """A function and how it wants to be called. `timeout` in seconds; `max_attempts` None: HOOKTAPE_MAX_ATTEMPTS; `per_shop`
    None: the share that `shops.share` gives; `admin_cost` in points of the Admin API's bucket."""

    name: str
    function: Function
    topics: tuple[str, ...]
    concurrency: int
    ordered: bool
    skip_stale: bool
    timeout: float
    max_attempts: int | None
    is_async: bool
    per_shop: int | None = None
    admin_cost: float = 0.0
    replay: bool = True


class App:
    """The handlers of one consumer group.

    `group` names the group: its progress, retries and dead letters are its own. Raises SettingsError for a name that can't be
    part of a Kafka topic's.
    """

    def __init__(self, group: str) -> None:
        self.group = check_group(group)
        self.handlers: dict[str, Handler] = {}
        """Shopify topic → its handler."""
        self.mapper: Mapper | None = None

    def on(self, *topics: str, concurrency: int = DEFAULT_CONCURRENCY, order: Literal["key", "none"] = "key",
           skip_stale: bool = False, timeout: float = DEFAULT_TIMEOUT, max_attempts: int | None = None,
           per_shop: int | None = None, admin_cost: float = 0.0, replay: bool = True) -> Callable[[F], F]:  # fmt: skip
        """Registers a handler for Shopify topics (`orders/create`, `orders/*`, `all`). Returning is success.

        An `async def` runs on the event loop, a plain function in a thread; at most `concurrency` at once in this process.
        `order="key"`: one event of a resource (an order and all that is its own) at a time, in the order of the tape;
        `"none"`: any number, in any order. `skip_stale`: events older than the version that this handler has already applied
        for the resource are skipped. `timeout` in seconds: an async handler is then cancelled; a thread can't be, so it goes
        on, its result is ignored, its slot stays taken until it ends, and the event is retried. `max_attempts` counts every
        try, quick ones included. `per_shop`: at most so many events of one shop at once in this process; by default all of
        `concurrency` while only one shop has events, else three quarters of it. `admin_cost`: the points of the shop's Admin API
        bucket that one run costs (50 for a REST call); the handler starts when they're there, however many workers share them.
        `replay=False`: events that an operator sends again (a replay, redrive, backfill or offset reset) are refused, not run.

        Raises UsageError when two handlers claim one topic, or an argument makes no sense.
        """
        if order not in ("key", "none"):
            raise UsageError(f"order={order!r}: it's 'key' (one event of a resource at a time) or 'none'.")
        if concurrency < 1 or timeout <= 0 or (max_attempts is not None and max_attempts < 1):
            raise UsageError("concurrency, timeout and max_attempts must be above zero.")
        if (per_shop is not None and per_shop < 1) or not 0 <= admin_cost <= LARGEST_COST:
            raise UsageError(f"per_shop must be above zero, and admin_cost from 0 to {LARGEST_COST:g} points.")
        if not topics:
            raise UsageError("@app.on() needs at least one topic, as in @app.on('orders/create').")
        chosen = _expand(topics)

        def register(function: F) -> F:
            name = getattr(function, "__qualname__", repr(function))
            self._claim(chosen, name)
            handler = Handler(name, function, chosen, concurrency, order == "key", skip_stale, timeout, max_attempts,
                              _is_async(function), per_shop, admin_cost, replay)  # fmt: skip
            self.handlers.update(dict.fromkeys(chosen, handler))
            return function

        return register

    def classify(self, function: M) -> M:
        """Registers the app's own view of its exceptions, asked before Hooktape's.

        It gets the exception and returns "transient", "throttled", "permanent", "poison" or "bug", a `Retry(after=…)`, a
        `Reject(…)`, or None for Hooktape's own judgement.
        """
        if self.mapper is not None:
            raise UsageError(f"the app {self.group} has two functions marked @app.classify: keep one.")
        self.mapper = function
        return function

    def _claim(self, topics: tuple[str, ...], name: str) -> None:
        for topic in topics:
            if topic in self.handlers:
                raise UsageError(f"{topic} is claimed by two handlers, {self.handlers[topic].name} and {name}: a topic has one "
                                 "handler in an app. Let one call the other, or make a second app with a group of its own.")  # fmt: skip


def _expand(patterns: tuple[str, ...]) -> tuple[str, ...]:
    """Like `topics.expand`, but a full name that isn't in the table is taken as it is: Shopify invents topics, and what isn't
    provisioned arrives by the log of other topics."""
    known = [p for p in patterns if p == "all" or "*" in p or p in shopify.table()]
    unknown = [p for p in patterns if p not in known]
    odd = [p for p in unknown if p.count("/") != 1 or p.startswith("/") or p.endswith("/")]
    if odd:
        raise UsageError(f"{odd[0]!r} is no Shopify topic. Write orders/create, orders/* or all.")
    try:
        return tuple(dict.fromkeys((*shopify.expand(known), *unknown)))
    except SettingsError:
        raise UsageError(f"{', '.join(known)} matches no Shopify topic. Write orders/create, orders/* or all.") from None


def _is_async(function: Function) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def load(target: str) -> App:
    """The `App` at `MODULE:APP` (`:app` where no name is given), with the working directory on the path.

    Raises UsageError that says what is missing. An error inside the module is the module's: it's raised as it is.
    """
    module_name, _, name = target.partition(":")
    if not module_name or module_name.endswith(".py") or "/" in module_name:
        raise UsageError(f"{target!r} isn't MODULE:APP. For shop/handlers.py with app = App(…), write shop.handlers:app.")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        module = importlib.import_module(module_name)
    except ModuleNotFoundError as error:
        if error.name is None or not (module_name == error.name or module_name.startswith(error.name + ".")):
            raise
        raise UsageError(f"there's no module {error.name!r} in {here} or on Python's path. Run it from your project's folder.") from None
    found: Any = module
    for part in (name or "app").split("."):
        found = getattr(found, part, None)
    if isinstance(found, App):
        if not found.handlers:
            raise UsageError(f"{target} has no handlers: mark functions with @app.on('orders/create').")
        return found
    apps = sorted(key for key, value in vars(module).items() if isinstance(value, App))
    hint = f"It has {', '.join(apps)}." if apps else "Make one with `app = App(group=…)`."
    raise UsageError(f"{module_name} has no App named {name or 'app'}. {hint}")
