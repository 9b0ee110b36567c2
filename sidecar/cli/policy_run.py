"""Runs policy cases and says how they went: each case's answer comes from the gate (`sidecar.trial`), none is made here."""

import time
from collections.abc import Callable, Mapping, Sequence

from msgspec import Struct

from sidecar.cli.explanation import Explanation, explanation_of
from sidecar.cli.policy_files import NamedCases
from sidecar.model import Action
from sidecar.policy.cases import LoadCase
from sidecar.policy.compiled import Case
from sidecar.policy.files import PolicyFiles
from sidecar.policy.routes import Snapshot
from sidecar.policy.rules import Issuers
from sidecar.policy.source import compile_version
from sidecar.policy.trace import Trace
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason
from sidecar.settings import Settings
from sidecar.settled import Reading
from sidecar.trial import decide_case, run_case

Answer = Mapping[str, str | int | list[str] | None]


class Outcome(Struct, frozen=True):
    """What became of one case."""

    file: str
    line: int
    workspace: str
    name: str
    asked: str
    passed: bool
    expected: Answer
    got: Answer
    explanation: Explanation | None = None
    """Why it was answered so, where that isn't what was expected."""

    def diff(self) -> list[str]:
        """Expected and got, line by line: `- ` what is missing, `+ ` what is there instead."""
        expected, got = _lines(self.expected), _lines(self.got)
        return [
            *(f"{'  ' if line in got else '- '}{line}" for line in expected),
            *(f"+ {line}" for line in got if line not in expected),
        ]


class Progress:
    """Tells of a long run, once every two seconds."""

    def __init__(
        self, total: int | None, what: str, say: Callable[[str], None], clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`total`: `None` where nobody knows how many there are."""
        self._total, self._what, self._say, self._clock = total, what, say, clock
        self._done = 0
        self._told = clock()

    def step(self) -> None:
        self._done += 1
        now = self._clock()
        if now - self._told >= 2.0 and (self._total is None or self._done < self._total):
            self._told = now
            self._say(
                f"{self._done} {self._what}" if self._total is None else f"{self._done} of {self._total} {self._what}"
            )


async def run_cases(
    sources: Sequence[NamedCases],
    snapshot: Snapshot,
    settings: Settings | None,
    now: float,
    say: Callable[[str], None],
) -> list[Outcome]:
    """In the order of the files. `now` in Unix seconds; `say` hears of the progress."""
    progress = Progress(sum(len(source.read.cases) + len(source.read.loads) for source in sources), "cases", say)
    outcomes = []
    for source in sources:
        for case in source.read.cases:
            outcomes.append(await _run(case, source.file, snapshot, now))
            progress.step()
        for load in source.read.loads:
            outcomes.append(_load(load, source.file, settings))
            progress.step()
    return outcomes


def asked(case: Case) -> str:
    """The question in words: `PUT /web/a`, or `write 'a' in web`."""
    if case.method:
        return f"{case.method} {case.path}"
    return f"{', '.join(map(_action, case.actions)) or 'nothing'} in {case.workspace}"


def _action(action: Action) -> str:
    return f"{action.permission.value} {action.key!r}"


async def _run(case: Case, file: str, snapshot: Snapshot, now: float) -> Outcome:
    result = await run_case(case, snapshot, now)
    explanation = None
    if not result.passed:
        trace = Trace()
        explanation = explanation_of(asked(case), await decide_case(case, snapshot, now, trace=trace), trace)
    expected: dict[str, str | int | list[str] | None] = {"expect": _word(case.expect)}
    if case.rule is not None:
        expected["rule"] = case.rule
    got = {"expect": _word(result.reason), "rule": result.rule}
    return Outcome(file, case.line, case.workspace, case.name, asked(case), result.passed, expected, got, explanation)


def _word(reason: Reason) -> str:
    """As cases write it."""
    return "allow" if reason is Reason.GRANTED else reason.value


def _load(case: LoadCase, file: str, settings: Settings | None) -> Outcome:
    issuers: Issuers = settings.issuers if settings is not None else None
    upstreams = settings.upstreams if settings is not None else None
    files = PolicyFiles()
    files.load(
        compile_version(name, Reading(text.encode()), issuers=issuers, upstreams=upstreams, profiles=PROFILES)
        for name, text in case.files.items()
    )
    found = [str(problem) for name in sorted(files.snapshot.files) for problem in files.snapshot.files[name].problems]
    loads = sum(not workspace.broken for workspace in files.snapshot.workspaces.values())
    met = [
        expected if told.startswith(expected) else told
        for told, expected in zip(found, [*case.problems, *found], strict=False)
    ]
    right = loads == case.loads and met == list(case.problems)
    expected: Answer = {"loads": case.loads, "problems": list(case.problems)}
    what = f"load {', '.join(case.files)}"
    return Outcome(file, case.line, "", case.name, what, right, expected, {"loads": loads, "problems": met})


def _lines(answer: Answer) -> list[str]:
    lines = []
    for name, value in answer.items():
        members = value if isinstance(value, list) else [value]
        lines += [f"{name}: {member}" for member in members if member is not None]
    return lines
