"""A runbook's page read as a script, and its output compared with what commands really print. Pure.

In a page, a comment `<!-- world: … -->` says what happens outside (a deploy, an outage), and a `console` block holds what the operator
types and gets. Ids, times and durations are other ones in each run: an id in the page stands for the id at the same place in
the real output, here and in all later commands. A line `…` stands for any number of lines, `⋯` in a line for a word that differs from
run to run. Before a block, a comment `figures differ` says that its numbers do.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import zip_longest

_STEP = re.compile(r"<!-- world: (?P<act>.+?) -->|(?P<loose><!-- figures differ -->\n+)?```console\n(?P<block>.*?)```", re.DOTALL)
_ID = r"[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}|\b[0-9a-f]{20}\b|\b(?=[0-9a-f]*[a-f])(?=[0-9a-f]*\d)[0-9a-f]{8,16}\b"
_TIME = r"\d{4}-\d\d-\d\dT\d\d:\d\d(?::\d\d(?:\.\d+)?)?(?:Z|\+00:00)?|\b1[7-9]\d{14}\b"
_AMOUNT = r"\b\d+(?:[.,]\d+)*(?= ?(?:(?:ms|s|m|h|d|/s|KiB|MiB)\b|%))|(?<=@)\d+"
_TOKEN = re.compile(f"(?P<id>{_ID})|(?P<time>{_TIME})|(?P<amount>{_AMOUNT})")
ANY, SOME = "…", "⋯"


@dataclass(frozen=True)
class Act:
    """Something that happens in the world."""

    name: str


@dataclass
class Command:
    """What the operator types; `code` is the exit status that the page shows with `echo $?`, else 0."""

    line: str
    output: list[str] = field(default_factory=list)
    code: int = 0
    shows_code: bool = False
    loose: bool = False
    """Its figures differ from run to run."""


def read(text: str) -> list[Act | Command]:
    """The page's steps in their order."""
    steps: list[Act | Command] = []
    for match in _STEP.finditer(text):
        found = [Act(match["act"])] if match["act"] else commands(match["block"])
        for step in found:
            if isinstance(step, Command):
                step.loose = match["loose"] is not None
        steps.extend(found)
    return steps


def commands(block: str) -> list[Command]:
    """The commands of a console block."""
    found: list[Command] = []
    lines = iter(block.splitlines())
    for line in lines:
        if not line.startswith("$ "):
            found[-1].output.append(line)
            continue
        typed = line[2:]
        while typed.endswith("\\"):
            typed = typed[:-1] + next(lines).lstrip("> ")
        if typed == "echo $?":
            found[-1].code, found[-1].shows_code = int(next(lines)), True
        else:
            found.append(Command(typed))
    return found


class Names:
    """What the page's ids and times are called in this run."""

    def __init__(self) -> None:
        self._real: dict[str, str] = {}

    def typed(self, line: str) -> str:
        """A command with this run's ids. An id that's cut short stands for the one that begins so."""
        return re.sub(r"[0-9a-f-]{8,}|\d{4}-\d\d-\d\dT[\d:.]+Z?", lambda m: self._of(m[0]), line)

    def _of(self, word: str) -> str:
        if word in self._real:
            return self._real[word]
        whole = [real for page, real in self._real.items() if page.startswith(word)]
        return whole[-1][: len(word)] if whole else word

    def drafted(self, line: str) -> str:
        """A command of a page that is being written: `@20`, `@16` and `@36` are the last ids of so many characters that were printed."""
        return re.sub(r"@(16|20|36)\b", lambda m: next((page for page in reversed(self._real) if len(page) == int(m[1])), m[0]), line)

    def told(self, lines: Sequence[str]) -> list[str]:
        """Real output with the page's ids for those that the page has shown already."""
        pages = {real: page for page, real in self._real.items()}
        return [re.sub(_ID, lambda m: pages.get(m[0], m[0]), line) for line in lines]

    def agree(self, page: Sequence[str], real: Sequence[str]) -> bool:
        """Whether the page's output is the real one's but for names; if so, the names are kept."""
        bound = dict(self._real)
        if not _lines([*_plain(page)], [*_plain(real)], bound):
            return False
        # In the order of their printing.
        for line in page:
            for token in _TOKEN.finditer(line):
                if token[0] in bound:
                    bound[token[0]] = bound.pop(token[0])
        self._real = bound
        return True


    def first_difference(self, page: Sequence[str], real: Sequence[str]) -> str:
        """The first line of the page that isn't the real one, for a message."""
        bound = dict(self._real)
        for mine, other in zip_longest(_plain(page), _plain(real), fillvalue="(nothing)"):
            if mine != ANY and not _line(mine, other, bound):
                return f"page: {mine}\nreal: {other}"
        return "the page has fewer lines"


def _plain(lines: Sequence[str]) -> Iterator[str]:
    for line in lines:
        if squeezed := " ".join(line.split()):
            yield squeezed


def _lines(page: list[str], real: list[str], bound: dict[str, str]) -> bool:
    if not page:
        return not real
    if page[0] == ANY:
        return any(_lines(page[1:], real[skip:], bound) for skip in range(len(real) + 1))
    if not real:
        return False
    trial = dict(bound)
    if not _line(page[0], real[0], trial) or not _lines(page[1:], real[1:], trial):
        return False
    bound.update(trial)
    return True


def _line(page: str, real: str, bound: dict[str, str]) -> bool:
    if SOME in page:
        return re.fullmatch(r"\S+".join(re.escape(_TOKEN.sub("", part)) for part in page.split(SOME)), _TOKEN.sub("", real)) is not None
    ours, theirs = [*_TOKEN.finditer(page)], [*_TOKEN.finditer(real)]
    if _TOKEN.sub(lambda m: f"<{m.lastgroup}>", page) != _TOKEN.sub(lambda m: f"<{m.lastgroup}>", real):
        return False
    for mine, other in zip(ours, theirs, strict=True):
        if mine.lastgroup == "id" and bound.setdefault(mine[0], other[0]) != other[0]:
            return False
        if mine.lastgroup == "time":
            bound[mine[0]] = other[0]
    return True


def rewritten(text: str, real: Sequence[tuple[Command, Sequence[str], int]]) -> str:
    """The page with these outputs in place of what it holds, one for each of its commands in order."""
    outputs = iter(real)

    def block(match: re.Match[str]) -> str:
        if match["act"]:
            return match[0]
        lines: list[str] = []
        for _ in commands(match["block"]):
            command, output, code = next(outputs)
            lines += [f"$ {command.line}", *output]
            lines += ["$ echo $?", str(code)] if code else []
        return (match["loose"] or "") + "```console\n" + "\n".join(line.rstrip() for line in lines) + "\n```"

    return _STEP.sub(block, text)


def without_figures(lines: Sequence[str]) -> list[str]:
    """The lines with each figure outside of a name as the same one."""
    return [re.sub(r"(?<![\w./#:-])\d[\d,]*(?![\w.-]*\d)", "0", line) for line in lines]
