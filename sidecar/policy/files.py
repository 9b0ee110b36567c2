"""What every policy file last said, and how the files stand together (rules 1 and 23). Pure: versions in, a snapshot out.

Law: a file stands alone. A bad version changes nothing but its own status; a file that never had a good one serves its routes
with `policy_missing`. A version that contradicts another file's is bad, however good in itself, and is tried again whenever
anything changes: the file that was there first never loses a path or a key to one that came later.

At a cold start nobody has seen who came first. The files' times tell only where they are at least a second apart (a checkout
or a ConfigMap writes all files at once, in any order); where they don't, both sides of a contradiction are refused.

Nor does anybody know then whose routes a file holds that can't be read, an opaque one. Nobody may have routes within another's
without being in its `shares`; so whoever shares with a workspace that isn't there is refused as long as that may be in an
opaque file, or the inner one's keys would be answered by the outer one's rules.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from enum import StrEnum

from msgspec import Struct, field

from sidecar.errors import Problem
from sidecar.policy.compiled import Workspace
from sidecar.policy.routes import FileStatus, Snapshot
from sidecar.policy.served import Served, broken

MOMENT = 1.0
"""Seconds. Files whose times are nearer than this were written together."""
_FILES_NAMED = 5


class Version(Struct, frozen=True):
    """What a file says now. Without `workspace` and `problems` it is gone."""

    file: str
    workspace: Workspace | None = None
    problems: tuple[Problem, ...] = ()
    salvaged: Workspace | None = None
    """Of a bad version: what could be read of its name and routes, marked `broken`."""
    written: float | None = None
    """When it was written, in Unix seconds; `None` where its time tells nothing."""
    opaque: bool = False
    """A bad version of which the name, or the path of some route, can't be read."""


class EventKind(StrEnum):
    LOADED = "loaded"
    REJECTED = "rejected"
    REMOVED = "removed"


class PolicyEvent(Struct, frozen=True):
    """What became of one file's new version."""

    kind: EventKind
    file: str
    workspace: str | None
    sha256: str | None
    """Of what is served now."""
    previous: str | None
    """Of what was served before."""
    generation: int
    problems: tuple[Problem, ...] = ()


class _File(Struct):
    candidate: Workspace | None = None
    """A version that is good in itself and waits for others to make room."""
    bad: Version | None = None
    """The version whose salvaged routes are served, as far as they contradict nobody's."""
    problems: tuple[Problem, ...] = ()
    written: float | None = None
    rivals: set[str] = field(default_factory=set)
    """Files that it contradicts, where nobody knows who came first. It waits until none of them is as it was."""


class PolicyFiles:
    def __init__(self) -> None:
        self._files: dict[str, _File] = {}
        self._served = Served()
        self._opaque: dict[str, str] = {}
        """Opaque files without a version whose routes are known -> the workspace as far as it can be read, or empty."""
        self._blind = False
        """There has been an opaque file ever since the cold start: it may hold any workspace that isn't there."""
        self._lost: set[str] = set()
        """Workspaces whose files went away while there was an opaque one: it may be the same file under another name."""
        self.snapshot = Snapshot()

    def load(self, versions: Iterable[Version]) -> tuple[PolicyEvent, ...]:
        """The first versions of all files: a cold start."""
        ordered = sorted(versions, key=lambda version: (version.written or 0.0, version.file))
        before = self._take(ordered)
        for version in ordered:
            file, state = version.file, self._files[version.file]
            if state.candidate is None:
                continue
            blocking = self._served.in_the_way(state.candidate)
            if self._settle(file):
                continue
            for other in blocking:
                if _together(state.written, self._files[other].written):
                    self._refuse_both(file, other)
        self._blind = bool(self._opaque)
        self._refuse_where_hidden()
        return self._publish(before, [version.file for version in ordered])

    def apply(self, versions: Sequence[Version]) -> tuple[PolicyEvent, ...]:
        """New versions of some files, in the order in which they changed."""
        changed = [version.file for version in versions]
        there = {file: active for version in versions if (active := self._active(file := version.file)) is not None}
        before = self._take(versions)
        lost = {active.name for file, active in there.items() if file not in self._files}
        if self._opaque:
            self._lost |= lost
        else:
            self._blind, self._lost = False, set()
        if not self._settle_together([file for file in changed if file in self._files]):
            self._settle_one_by_one(changed)
        if self._restore_broken():
            self._settle_one_by_one(())
        if lost:
            self._refuse_where_hidden(lost)
        return self._publish(before, changed)

    def _take(self, versions: Sequence[Version]) -> dict[str, str | None]:
        """Note what is new; returns each file's digest from before."""
        before = {file: _digest(self._active(file)) for file in self._files}
        changed = {version.file for version in versions}
        for state in self._files.values():
            state.rivals -= changed
        for version in versions:
            state = self._files.setdefault(version.file, _File())
            before[version.file] = _digest(self._active(version.file))
            state.candidate, state.problems, state.written = version.workspace, version.problems, version.written
            state.rivals = set()
            if version.workspace is not None:
                state.bad = None
                self._opaque.pop(version.file, None)
            elif not version.problems:
                self._opaque.pop(version.file, None)
                self._served.put(version.file, None)
                del self._files[version.file]
            elif (active := self._active(version.file)) is None or active.broken:
                self._take_broken(version, state)
        return before

    def _take_broken(self, version: Version, state: _File) -> None:
        """The routes of a bad version, where no good one is served. What was known of them stays until they are read anew."""
        file, salvaged = version.file, version.salvaged
        name = "" if salvaged is None else salvaged.name
        unsure = version.opaque or self._served.owners.get(name, file) != file
        if unsure and self._active(file) is not None and file not in self._opaque:
            return
        state.bad = version
        self._opaque.pop(file, None)
        if unsure:
            self._opaque[file] = name
        self._served.put(file, None)
        self._served.put(file, self._served.without_contradictions(salvaged))

    def _restore_broken(self) -> bool:
        """Routes of bad versions that another's bad version kept out, as it didn't tell its `shares`: now it may.

        Returns whether any came back."""
        restored = False
        for file, state in self._files.items():
            bad, before = state.bad, self._active(file)
            if bad is None or bad.salvaged is None or (before is not None and before.routes == bad.salvaged.routes):
                continue
            self._take_broken(bad, state)
            restored = restored or self._active(file) != before
        return restored

    def _waiting(self, changed: Sequence[str]) -> list[str]:
        """Files whose candidate may be tried: those that have waited for long, then those just changed (rule 23)."""
        order = [*(file for file in self._files if file not in set(changed)), *changed]
        return [file for file in order if file in self._files and self._files[file].candidate is not None]

    def _settle_together(self, files: Sequence[str]) -> bool:
        """Put all of these into service, or none: so two files may exchange their routes in one go."""
        moving = [(file, workspace) for file in files if (workspace := self._files[file].candidate) is not None]
        if len(moving) < 2:
            return False
        saved = {file: self._active(file) for file, _ in moving}
        waited = [(self._files[file].candidate, file) for file in self._waiting(()) if file not in saved]
        stood = {file: self._served.in_the_way(candidate) for candidate, file in waited if candidate is not None}
        for file, _ in moving:
            self._served.put(file, None)
        if not self._put_all(moving, saved) or any(map(self._overtaken, stood, stood.values())):
            for file, _ in moving:
                self._served.put(file, None)
            for file, active in saved.items():
                self._served.put(file, active)
            return False
        for file, _ in moving:
            self._files[file].candidate = None
            self._files[file].problems = ()
        return not self._waiting(())

    def _overtaken(self, file: str, stood: Set[str]) -> bool:
        """Whether nothing but newcomers keeps out a file that waited for those that `stood` in its way."""
        candidate = self._files[file].candidate
        stand = set() if candidate is None else self._served.in_the_way(candidate) - {file}
        return bool(stand) and stand.isdisjoint(stood)

    def _put_all(self, moving: Sequence[tuple[str, Workspace]], before: Mapping[str, Workspace | None]) -> bool:
        for file, workspace in moving:
            if self._served.contradictions(file, workspace):
                return False
            self._served.put(file, workspace)
        return not any(self._hidden_within(file, workspace, before[file]) for file, workspace in moving)

    def _settle_one_by_one(self, changed: Sequence[str]) -> None:
        """Each that gets in may make room for another; where one has waited for that, it comes before the next."""
        progress = True
        while progress:
            progress = False
            waiting = self._waiting(changed)
            queue = any(file not in changed for file in waiting)
            for file in waiting:
                progress = self._settle(file) or progress
                if progress and queue:
                    break

    def _settle(self, file: str) -> bool:
        """Put a file's candidate into service if nothing contradicts it; otherwise say what does."""
        state = self._files[file]
        if state.candidate is None or state.rivals:
            return False
        active = self._active(file)
        self._served.put(file, None)
        problems = self._served.contradictions(file, state.candidate) or self._hidden_within(
            file, state.candidate, active
        )
        if not problems:
            self._served.put(file, state.candidate)
            state.candidate, state.problems = None, ()
            return True
        if active is None or active.broken:
            active = self._served.without_contradictions(state.candidate)
        self._served.put(file, active)
        state.problems = problems
        return False

    def _refuse_both(self, file: str, other: str) -> None:
        """Nobody knows which of the two came first."""
        state = self._files[other]
        self._files[file].rivals.add(other)
        state.rivals.add(file)
        active = self._active(other)
        if active is None or active.broken:
            return
        problem = Problem(other, 0, "$", f"{file} contradicts it, and nobody can tell which came first; see there")
        state.candidate, state.problems = active, (problem,)
        self._served.put(other, broken(active))

    def _refuse_where_hidden(self, names: Set[str] | None = None) -> None:
        """Who shares with a workspace (of `names`) that an opaque file may hold is no longer served."""
        for file, state in self._files.items():
            active = self._active(file)
            if active is None or active.broken or (names is not None and not names & active.shares):
                continue
            problems = self._hidden_within(file, active, None)
            if problems:
                state.candidate, state.problems = state.candidate or active, problems
                self._served.put(file, broken(active))

    def _hidden_within(self, file: str, workspace: Workspace, active: Workspace | None) -> tuple[Problem, ...]:
        """Whether a workspace that `workspace` shares with may be in an opaque file.

        It doesn't matter where `active`, the version that is served, answers at all these paths already.
        """
        if not self._opaque or (active is not None and not active.broken and _covers(active, workspace)):
            return ()
        unsure = set(self._opaque.values())
        hidden = [
            name
            for name in sorted(workspace.shares)
            if (self._blind or name in self._lost) and (name not in self._served.workspaces or name in unsure)
        ]
        where = ", ".join(sorted(self._opaque)[:_FILES_NAMED])
        return tuple(
            Problem(
                file,
                1,
                "$.shares",
                f"the workspace {name!r} isn't there and may be in a file whose routes can't be read ({where}); "
                "this version is not served until that file is mended, or removed for good",
            )
            for name in hidden
        )

    def _active(self, file: str) -> Workspace | None:
        return self._served.by_file.get(file)

    def _publish(self, before: dict[str, str | None], changed: Sequence[str]) -> tuple[PolicyEvent, ...]:
        generation = self.snapshot.generation + 1
        self.snapshot = Snapshot(self._served.routes, dict(self._served.workspaces), generation, self._statuses())
        events = []
        for file, previous in before.items():
            state = self._files.get(file)
            active = self._active(file)
            if file not in changed and _digest(active) == previous:
                continue
            kind = EventKind.REMOVED if state is None else EventKind.REJECTED if state.problems else EventKind.LOADED
            problems = state.problems if state is not None else ()
            name = active.name if active is not None else None
            events.append(PolicyEvent(kind, file, name, _digest(active), previous, generation, problems))
        return tuple(events)

    def _statuses(self) -> dict[str, FileStatus]:
        return {
            file: FileStatus(
                file, not state.problems, active.name if (active := self._active(file)) else None, state.problems
            )
            for file, state in self._files.items()
        }


def _digest(workspace: Workspace | None) -> str | None:
    """Of a version that grants something; a broken one has none."""
    return None if workspace is None or workspace.broken else workspace.sha256


def _covers(outer: Workspace, inner: Workspace) -> bool:
    """Whether every path of `inner` is one of `outer`."""
    places = [route.segments for route in outer.routes]
    return all(any(route.segments[: len(place)] == place for place in places) for route in inner.routes)


def _together(one: float | None, other: float | None) -> bool:
    return one is None or other is None or abs(one - other) < MOMENT
