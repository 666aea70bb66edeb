"""The pure decisions: what an error means, what happens next, what a failed record carries, what waits."""

from datetime import UTC, datetime
from email.utils import format_datetime

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from hooktape.consumers.applied import AppliedVersions
from hooktape.consumers.births import BEGINNING, NOW, Start
from hooktape.consumers.causes import error_group, error_type, stack
from hooktape.consumers.classify import Answered, Cause, Disposition, HandlerTimeout, classify, retry_after
from hooktape.consumers.letters import Raw, failure_of, letter
from hooktape.consumers.schedule import Again, Dead, Later, Schedule
from hooktape.consumers.task import Home
from hooktape.consumers.waits import Waits
from hooktape.errors import NotOurs, Reject, Retry, UsageError
from hooktape.schemas.event import Coordinates, Replay
from hooktape.tape import headers

from .conftest import make_event

T = Disposition
MOMENT = 1_800_000_000.0


def http(status: int, **headers: str) -> httpx.HTTPStatusError:
    request = httpx.Request("GET", "https://shop.example/admin")
    return httpx.HTTPStatusError("no", request=request, response=httpx.Response(status, headers=headers, request=request))


@pytest.mark.parametrize(("error", "expected"), [
    (TimeoutError(), T.TRANSIENT), (ConnectionResetError(), T.TRANSIENT), (HandlerTimeout(), T.TRANSIENT),
    (httpx.ConnectTimeout("slow"), T.TRANSIENT), (httpx.ReadError("gone"), T.TRANSIENT), (httpx.UnsupportedProtocol("ftp"), T.BUG),
    (http(500), T.TRANSIENT), (http(503), T.TRANSIENT), (http(401), T.TRANSIENT), (http(409), T.TRANSIENT),
    (http(404), T.PERMANENT), (http(422), T.PERMANENT), (http(429), T.THROTTLED), (NotOurs("x"), T.POISON),
    (Reject("no such warehouse"), T.REJECTED), (Retry(), T.TRANSIENT), (KeyError("k"), T.BUG), (ZeroDivisionError(), T.BUG),
    (Answered("", 410), T.PERMANENT), (Answered("", 404), T.TRANSIENT), (Answered("", 429), T.THROTTLED),
    (Answered("", 302), T.TRANSIENT),
])  # fmt: skip
def test_what_an_error_means(error: BaseException, expected: Disposition) -> None:
    assert classify(error, MOMENT).disposition is expected


def test_a_library_that_isnt_installed_is_known_by_its_errors_name() -> None:
    error = type("OperationalError", (Exception,), {"__module__": "asyncpg_like"})()
    known = type("OperationalError", (Exception,), {"__module__": "psycopg.errors"})()
    assert classify(error, MOMENT).disposition is T.BUG
    assert classify(known, MOMENT).disposition is T.TRANSIENT


def test_the_other_sides_pause_is_heard_from_a_header_a_date_or_the_handler() -> None:
    date = format_datetime(datetime.fromtimestamp(MOMENT + 90, UTC), usegmt=True)
    assert classify(http(429, **{"Retry-After": "2.0"}), MOMENT) == Cause(T.THROTTLED, 2.0)
    assert classify(http(503, **{"Retry-After": date}), MOMENT) == Cause(T.THROTTLED, 90.0)
    assert classify(Answered("", 503, 7.0), MOMENT) == Cause(T.THROTTLED, 7.0, whole_destination=True)
    assert classify(Retry(after=30), MOMENT) == Cause(T.TRANSIENT, 30)


@pytest.mark.parametrize("text", [None, "", "soon", "-3", "nan", "inf", "Wed, 99 Nov", "Mon, 01 Jan 99999999999 00:00:00 GMT"])
def test_an_unreadable_pause_is_none(text: str | None) -> None:
    assert retry_after(text, MOMENT) is None


@pytest.mark.parametrize(("answer", "expected"), [
    ("permanent", Cause(T.PERMANENT)), (Retry(after=9), Cause(T.TRANSIENT, 9)), (Reject("x"), Cause(T.REJECTED)), (None, Cause(T.BUG)),
])  # fmt: skip
def test_the_apps_own_view_is_asked_first(answer: object, expected: Cause) -> None:
    assert classify(KeyError("k"), MOMENT, lambda error: answer) == expected  # type: ignore[arg-type,return-value]


SCHEDULE = Schedule((30.0, 120.0, 600.0, 3600.0, 21600.0))


def step(cause: Cause, *, attempts: int = 1, most: int = 12, quick: int = 0, previous: float | None = None, chance: float = 0.0,
         schedule: Schedule = SCHEDULE) -> Again | Later | Dead:  # fmt: skip
    return schedule.next(cause, attempts=attempts, most=most, quick=quick, previous=previous, now=MOMENT, chance=lambda: chance)


def test_a_transient_failure_gets_quick_tries_first_and_then_the_topics_in_turn() -> None:
    cause = Cause(T.TRANSIENT)
    assert isinstance(step(cause, quick=0), Again)
    assert isinstance(step(cause, quick=1), Again)
    assert step(cause, quick=2) == Later(30.0, MOMENT + 30, T.TRANSIENT)
    delays: list[float] = []
    previous: float | None = 30.0
    for _ in range(6):
        later = step(cause, previous=previous)
        assert isinstance(later, Later)
        delays.append(previous := later.delay)
    assert delays == [120.0, 600.0, 3600.0, 21600.0, 21600.0, 21600.0]


def test_a_bug_gets_no_quick_try() -> None:
    assert step(Cause(T.BUG)) == Later(30.0, MOMENT + 30, T.BUG)


def test_quick_tries_take_under_five_seconds_together() -> None:
    always = Schedule((30.0,), quick=99)
    steps = [step(Cause(T.TRANSIENT), quick=quick, chance=0.999, schedule=always) for quick in range(10)]
    assert 0 < sum(each.seconds for each in steps if isinstance(each, Again)) < 5


@pytest.mark.parametrize(("after", "delay"), [(31.0, 120.0), (120.0, 120.0), (601.0, 3600.0), (99999.0, 21600.0)])
def test_a_longer_pause_picks_the_topic_that_covers_it(after: float, delay: float) -> None:
    later = step(Cause(T.THROTTLED, after))
    assert isinstance(later, Later)
    assert later.delay == delay
    assert later.due >= MOMENT + min(after, 21600.0)


def test_a_short_pause_is_sat_out_in_the_lane() -> None:
    assert step(Cause(T.THROTTLED, 2.0)) == Again(2.0)


@pytest.mark.parametrize("disposition", [T.PERMANENT, T.POISON, T.REJECTED])
def test_what_cant_succeed_is_dead_at_once(disposition: Disposition) -> None:
    assert step(Cause(disposition)) == Dead(disposition)


def test_tried_as_often_as_allowed_is_exhausted() -> None:
    assert step(Cause(T.TRANSIENT), attempts=12) == Dead(T.EXHAUSTED)


@given(st.sampled_from(list(T)), st.integers(1, 40), st.integers(0, 5), st.sampled_from([None, 30.0, 120.0, 21600.0, 77.0]),
       st.none() | st.floats(0, 1e6), st.floats(0, 1, exclude_max=True))  # fmt: skip
def test_a_retry_is_never_early_and_never_beyond_the_maximum(disposition: Disposition, attempts: int, quick: int, previous: float | None,
                                                             after: float | None, chance: float) -> None:  # fmt: skip
    found = step(Cause(disposition, after), attempts=attempts, quick=quick, previous=previous, chance=chance)
    if attempts >= 12:
        assert isinstance(found, Dead)
    if isinstance(found, Later):
        assert found.delay in SCHEDULE.delays
        assert MOMENT + found.delay <= found.due <= MOMENT + found.delay * 1.1 + 1e-6
        assert found.due - MOMENT >= min(after or 0.0, 21600.0) - 1e-6


def fail(number: int) -> BaseException:
    try:
        return inner(number)
    except ValueError as error:
        return error


def inner(number: int) -> BaseException:
    raise ValueError(f"no such thing: {number}")


def other(number: int) -> BaseException:
    try:
        raise ValueError(f"no such thing: {number}")
    except ValueError as error:
        return error


def test_failures_of_one_place_are_one_group_whatever_the_event() -> None:
    assert error_group(fail(1)) == error_group(fail(2))
    assert error_group(fail(1)) != error_group(other(1))


def test_answers_without_a_frame_are_grouped_by_their_words() -> None:
    assert error_group(Answered("the endpoint answered 502: x1", 502)) == error_group(Answered("the endpoint answered 502: x2", 502))
    assert error_group(Reject("no warehouse")) != error_group(Reject("no stock"))


def test_types_are_named_as_people_write_them() -> None:
    assert error_type(ValueError()) == "ValueError"
    assert error_type(httpx.ConnectTimeout("x")) == "httpx.ConnectTimeout"
    assert "inner" in stack(fail(1))


def test_a_letter_keeps_the_bytes_and_replaces_our_headers() -> None:
    event, at = make_event(1), Coordinates("hooktape.log.orders.create", 3, 77)
    before: headers.Packed = [("trace", b"abc"), (headers.ATTEMPTS, b"1"), (headers.DUE, b"5"), (headers.RELABELLED, b"1"),
                              (headers.REDRIVES, b"2")]  # fmt: skip
    raw = Raw(b"\xffkey", b"\x00value", before)
    failure = failure_of(fail(7), T.BUG, 2, MOMENT - 60, MOMENT)
    written = letter("dlq", raw, event, at, failure, Replay("r1", "why", "who", True))
    assert (written.key, written.value) == (b"\xffkey", b"\x00value")
    assert ("trace", b"abc") in written.headers
    assert len({name for name, _ in written.headers}) == len(written.headers)
    read = headers.read(written.headers)
    assert headers.origin(read, Coordinates("x", 0, 0)) == at
    assert headers.failure(read) == failure
    assert headers.replay(read) == Replay("r1", "why", "who", True)
    assert (read[headers.RELABELLED], read[headers.REDRIVES], headers.due_us(read)) == ("1", "2", 0)
    later = letter("retry", raw, event, at, failure, None, due=MOMENT)
    assert headers.due_us(headers.read(later.headers)) == int(MOMENT * 1e6)


class Mute(Exception):
    def __str__(self) -> str:
        raise LookupError("no words")


@pytest.mark.parametrize(("error", "said"), [
    (ValueError("no tag 'caf\ud83d'"), "no tag 'caf?'"), (Reject("\udcff"), "?"), (Mute(), "Mute can't be shown as text: LookupError"),
])  # fmt: skip
def test_an_error_that_cant_be_written_down_as_it_is_gets_its_event_away_all_the_same(error: Exception, said: str) -> None:
    try:
        raise error
    except Exception as raised:  # noqa: BLE001
        failure = failure_of(raised, T.BUG, 1, None, MOMENT)
    written = letter("dlq", Raw(None, b"v", []), make_event(1), Coordinates("log", 0, 7), failure, None)
    kept = headers.failure(headers.read(written.headers))
    assert kept is not None
    assert said in kept.message
    assert len(kept.group) == 16


@pytest.mark.parametrize("number", ["--5", "-", "5" * 5000, "\u00b2", "1e3", ""])
def test_a_header_of_ours_that_holds_no_number_is_no_error(number: str) -> None:
    read = {headers.ATTEMPTS: number, headers.REPLAY_ID: "r", headers.REPLAY_SEQ: number, headers.DUE: number}
    failure, replay = headers.failure(read), headers.replay(read)
    assert failure is not None
    assert replay is not None
    assert (failure.attempts, replay.seq, headers.due_us(read)) == (0, 0, 0)


def test_retry_records_come_out_when_due_and_a_partition_pauses_once_per_wait() -> None:
    waits, home = Waits[int](), Home("retry", 0, 1, 0)
    for n in range(3):
        waits.add(home, 100.0 + n, n)
    assert list(waits.take(99.9)) == []
    assert waits.wake_at() == 100.0
    assert waits.to_pause(90.0) == [home]
    assert waits.to_pause(90.0) == []
    assert list(waits.take(101.5)) == [0, 1]
    assert waits.to_resume() == []
    assert list(waits.take(200.0)) == [2]
    assert waits.to_resume() == [home]
    assert waits.to_resume() == []


def test_a_short_wait_isnt_worth_a_pause() -> None:
    waits, home = Waits[int](), Home("retry", 0, 1, 0)
    waits.add(home, 100.0, 1)
    assert waits.to_pause(99.5) == []


def test_a_version_is_stale_only_below_one_that_was_applied() -> None:
    versions, key = AppliedVersions(), ("h", "s", "order/1")
    versions.enter(key, None)
    assert not versions.is_stale(key, 5)
    versions.enter(key, None)
    versions.apply(key, 5)
    versions.leave(key)
    assert versions.is_stale(key, 4)
    assert not versions.is_stale(key, 5)
    versions.leave(key)
    assert len(versions) == 0


def test_where_a_group_begins_is_parsed_or_explained() -> None:
    assert Start.parse("beginning") == BEGINNING
    assert Start.parse("now") == NOW
    assert Start.parse("2026-11-20T00:00Z").at_ms == 1_795_132_800_000
    with pytest.raises(UsageError, match="--from"):
        Start.parse("yesterdayish")
