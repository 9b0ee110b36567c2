"""Two versions of the policies, asked the same questions: whose access changes, and by which rule."""

from collections.abc import Callable, Iterable, Sequence

from msgspec import Struct, field, structs

from sidecar.cli.explanation import in_words
from sidecar.cli.policy_run import Progress, asked
from sidecar.cli.replay import Question
from sidecar.decision import Decision
from sidecar.policy.compiled import Case
from sidecar.policy.routes import Snapshot
from sidecar.reasons import Reason
from sidecar.trial import decide_case, said

_EXAMPLES = 3


class Change(Struct, frozen=True, rename={"was": "from", "now": "to"}):
    who: str
    what: str
    """The request, or the actions; of many that are alike, their kind."""
    was: str
    """`allow` or a reason code."""
    now: str
    was_rule: str | None = field(name="from_rule")
    """The rule that decided; `None` where none did."""
    now_rule: str | None = field(name="to_rule")
    gains: bool
    case: str | None = None
    """The case's name."""
    condition: str | None = None
    """`if it exists` or `if it doesn't`, where it depends on the key."""
    requests: int = 1
    """How many recorded ones it stands for."""
    examples: tuple[str, ...] = ()

    def lines(self) -> list[str]:
        many = f" ({self.requests} requests)" if self.requests > 1 else ""
        condition = f" {self.condition}" if self.condition is not None else ""
        said = [f"{'+' if self.gains else '-'} {self.who}: {self.what}{condition}{many}"]
        said.append(f"    {_by(self.was, self.was_rule)} -> {_by(self.now, self.now_rule)}")
        if self.case is not None:
            said.append(f"    case: {self.case}")
        if self.examples:
            said.append(f"    such as {', '.join(self.examples)}")
        return said


class Comparison(Struct):
    changes: list[Change] = []
    asked: int = 0
    """Questions that both versions answered."""
    unsure: int = 0
    """Requests that the old version would not have answered as the log says: it doesn't hold all that went into the answer."""
    assumed: int = 0
    """Requests whose claims were guessed."""


async def compare_cases(
    cases: Sequence[Case], old: Snapshot, new: Snapshot, now: float, say: Callable[[str], None]
) -> Comparison:
    """`now` in Unix seconds; `say` hears of the progress."""
    found, progress = Comparison(), Progress(len(cases), "cases", say)
    for case in cases:
        for condition, before, after in await _answers(case, old, new, now):
            if before.allowed != after.allowed:
                change = _change(case, asked(case), condition, before, after)
                found.changes.append(structs.replace(change, case=case.name))
        found.asked += 1
        progress.step()
    return found


async def compare_requests(
    questions: Sequence[Question], old: Snapshot, new: Snapshot, now: float, say: Callable[[str], None]
) -> Comparison:
    """As `compare_cases`; changes that are alike are one."""
    found, progress = Comparison(), Progress(len(questions), "kinds of requests", say)
    changes: list[Change] = []
    for question in questions:
        case = question.case
        answers = await _answers(case, old, new, now)
        progress.step()
        if question.checkable() and _contradicts_the_log(question, old, [before for _, before, _ in answers]):
            found.unsure += question.count
            continue
        found.asked += question.count
        found.assumed += question.count if question.assumed else 0
        for condition, before, after in answers:
            if before.allowed != after.allowed:
                what = f"{case.method} in {case.workspace}" if case.workspace else f"{case.method} {case.path}"
                change = _change(case, what, condition, before, after)
                changes.append(structs.replace(change, requests=question.count, examples=(case.path,)))
    found.changes = _alike(changes)
    return found


async def _answers(case: Case, old: Snapshot, new: Snapshot, now: float) -> list[tuple[str | None, Decision, Decision]]:
    """What both say; twice, where it depends on whether the key exists and nobody says. Report mode counts: it is access."""
    case = structs.replace(case, at=now if case.at is None else case.at)
    before, after = await decide_case(case, old, now), await decide_case(case, new, now)
    if Reason.EXISTENCE_UNKNOWN not in (before.reason, after.reason):
        return [(None, before, after)]
    either: list[tuple[str | None, Decision, Decision]] = []
    for exists, condition in ((True, "if it exists"), (False, "if it doesn't exist")):
        told = structs.replace(case, exists=exists)
        either.append((condition, await decide_case(told, old, now), await decide_case(told, new, now)))
    return either


def _contradicts_the_log(question: Question, old: Snapshot, before: Iterable[Decision]) -> bool:
    """Whether the very policy that decided it says something else now."""
    workspace = old.workspaces.get(question.case.workspace)
    if workspace is None or workspace.sha256 != question.sha256:
        return False
    return all(decision.reason is not question.case.expect for decision in before)


def _change(case: Case, what: str, condition: str | None, before: Decision, after: Decision) -> Change:
    return Change(
        who=in_words(case.principal) or "",
        what=what,
        was=said(before.reason, None),
        now=said(after.reason, None),
        was_rule=before.rule,
        now_rule=after.rule,
        gains=after.allowed,
        condition=condition,
    )


def _alike(changes: Iterable[Change]) -> list[Change]:
    together: dict[Change, Change] = {}
    for change in changes:
        kind = structs.replace(change, requests=0, examples=())
        met = together.get(kind)
        if met is None:
            together[kind] = change
            continue
        examples = (*met.examples, *change.examples)[:_EXAMPLES] if len(met.examples) < _EXAMPLES else met.examples
        together[kind] = structs.replace(met, requests=met.requests + change.requests, examples=examples)
    return sorted(together.values(), key=lambda change: -change.requests)


def _by(answer: str, rule: str | None) -> str:
    return answer if rule is None else f"{answer} by rule {rule!r}"
