"""The policy directory, followed while the process runs (rules 23 and 24).

Law: whoever asks for `snapshot` gets one whole, immutable policy at once; what happens on the disk happens in a thread of its
own, and reaches the loop as one exchanged reference.

A file that says `guard: true`, or whose cases' file does, is taken only if its cases hold (rule 26). The cases' file of workspace
`web` is `cases/web.yaml`, in the directory or beside it. It counts at the moment when a policy file is read: an edit of it alone
changes nothing that is served.

A ConfigMap is read through one resolved `..data`, so that all files of one poll belong to one version of it.
Polling, because watches on symlinked mounts go silent after the first swap and see nothing on network file systems.
"""

import contextlib
import gc
import logging
import os
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from pathlib import Path

from msgspec import Struct, structs

from sidecar.errors import DocumentError, Problem
from sidecar.policy.cases import CaseFile, read_case_file
from sidecar.policy.compiled import Workspace
from sidecar.policy.file import compile_file
from sidecar.policy.files import PolicyEvent, PolicyFiles, Version
from sidecar.policy.routes import Snapshot
from sidecar.policy.rules import Issuers
from sidecar.policy.salvage import salvage
from sidecar.settled import FollowedFiles, Reading
from sidecar.trial import guard_problems
from sidecar.yaml_tree import MAX_BYTES

log = logging.getLogger(__name__)

SUFFIXES = (".yaml", ".yml")
MAX_FILE = 128 * 1024
"""Bytes of one policy file, more than a thousand rules. Compiling a larger one would be felt by the requests meanwhile
(measured: 75 ms in one piece for 700 KiB), and each of its rules by every request after."""
CASES = "cases"


class SourceStatus(Struct, frozen=True):
    """For metrics and `/readyz`."""

    generation: int
    good: int
    """Files whose present version is served."""
    bad: int
    """Files whose present version is not."""
    last_success: float
    """Unix seconds of the last poll that could read the directory; 0 if none could."""
    error: str
    """Why the directory can't be read now; empty if it can."""


class PolicySource(FollowedFiles[tuple[PolicyEvent, ...]]):
    """`on_event` is called in the loop (and by `load_now` in its caller's thread) for each file whose new version was taken or
    refused; it must not raise."""

    def __init__(
        self,
        directory: Path,
        *,
        issuers: Issuers,
        upstreams: Collection[str] | None,
        profiles: Collection[str],
        on_event: Callable[[PolicyEvent], None] | None = None,
        interval: float = 0.25,
        settle: float = 0.2,
        guards: bool = True,
    ) -> None:
        """`guards`: whether files are refused whose guards don't hold; only who tells of each case by itself does without."""
        super().__init__("policy directory", MAX_FILE, interval=interval, settle=settle)
        self._guards = guards
        self._directory = directory
        self._shown = os.path.basename(os.path.abspath(directory))
        self._issuers = issuers
        self._upstreams = upstreams
        self._profiles = profiles
        self._on_event = on_event
        self._files = PolicyFiles()
        self._snapshot = self._files.snapshot
        self._last_success = 0.0
        self._error = ""

    @property
    def snapshot(self) -> Snapshot:
        """Take it once for each request and use it to the end."""
        return self._snapshot

    def status(self) -> SourceStatus:
        files = self._snapshot.files.values()
        good = sum(file.ok for file in files)
        return SourceStatus(self._snapshot.generation, good, len(files) - good, self._last_success, self._error)

    def _load(self) -> tuple[PolicyEvent, ...]:
        """Bad files don't stop a cold start (their status and events say so); files that keep changing are taken up later by
        polling. Raises `OSError` if the directory itself can't be listed."""
        readings = self._first()
        # A volume's files are all written anew with every change: their times tell nothing.
        dated = not self._is_mounted()
        with _without_collector():
            versions = [self._version(name, reading, dated) for name, reading in readings.items()]
            events = self._files.load([version for version in versions if version.workspace or version.problems])
        self._last_success = time.time()
        return events

    def _look(self) -> tuple[PolicyEvent, ...]:
        try:
            changed = self._settled.poll(self._paths())
        except OSError as error:
            # The whole directory gone is a broken mount, not a decision that nobody may do anything.
            if not self._error:
                log.error("the policy directory can't be read, the policies stay as they are: %s", error.strerror)
            self._error = error.strerror or type(error).__name__
            return ()
        self._error = ""
        self._last_success = time.time()
        return self._take(changed)

    def _take(self, changed: Mapping[str, Reading]) -> tuple[PolicyEvent, ...]:
        if not changed:
            return ()
        with _without_collector():
            versions = [self._version(name, reading) for name, reading in changed.items()]
            versions.sort(key=lambda version: (version.written or 0.0, version.file))
            return self._files.apply(versions)

    def _publish(self, events: tuple[PolicyEvent, ...]) -> None:
        self._snapshot = self._files.snapshot
        if self._on_event is not None:
            for event in events:
                self._on_event(event)

    def _paths(self) -> Mapping[str, str]:
        base = self._directory / "..data" if self._is_mounted() else self._directory
        resolved = os.path.realpath(base)
        return {
            name: f"{resolved}/{name}"
            for name in sorted(os.listdir(resolved))
            if name.endswith(SUFFIXES) and not name.startswith(".")
        }

    def _is_mounted(self) -> bool:
        """Whether the directory is a ConfigMap's or Secret's volume."""
        return (self._directory / "..data").is_symlink()

    def _version(self, name: str, reading: Reading, dated: bool = True) -> Version:
        return compile_version(
            f"{self._shown}/{name}",
            reading if dated else structs.replace(reading, modified=None),
            issuers=self._issuers,
            upstreams=self._upstreams,
            profiles=self._profiles,
            cases=cases_folder(self._directory),
            guards=self._guards,
        )


def cases_folder(directory: Path) -> Path:
    """Where the files of cases of a policy directory are: within it, or else beside it."""
    inside = directory / CASES
    return inside if inside.is_dir() else Path(os.path.abspath(directory)).parent / CASES


def compile_version(
    file: str,
    reading: Reading,
    *,
    issuers: Issuers,
    upstreams: Collection[str] | None,
    profiles: Collection[str],
    cases: Path | None = None,
    guards: bool = True,
) -> Version:
    """What a file's bytes mean; never raises. `cases` is the folder of the files of cases, where there is one. Without `guards` a
    file is taken whose guard doesn't hold."""
    problems: tuple[Problem, ...]
    if reading.content is None:
        problems = (Problem(file, 0, "$", f"the file can't be read: {reading.error}"),) if reading.error else ()
        return Version(file, problems=problems, opaque=bool(problems))
    try:
        text = reading.content.decode("utf-8")
        workspace = compile_file(text, file, issuers=issuers, upstreams=upstreams, profiles=profiles)
    except UnicodeDecodeError as error:
        line = reading.content.count(b"\n", 0, error.start) + 1
        problems = (Problem(file, line, "$", "the file is not UTF-8 text"),)
    except DocumentError as error:
        problems = error.problems
    else:
        problems = _unguarded(workspace, cases, issuers) if guards else ()
        if not problems:
            return Version(file, workspace, written=reading.modified)
    found = salvage(reading.content.decode("utf-8", "replace"), file, profiles=profiles)
    return Version(file, None, problems, found.workspace, reading.modified, opaque=not found.whole)


def _unguarded(workspace: Workspace, folder: Path | None, issuers: Issuers) -> tuple[Problem, ...]:
    """What of a workspace's guards doesn't hold, or can't be read."""
    asked = [(workspace.file, case) for case in workspace.cases]
    guard = workspace.guard
    try:
        beside = _cases_of(workspace, folder, issuers) if folder is not None else None
    except DocumentError as error:
        return error.problems
    if beside is not None:
        file, read = beside
        asked += [(file, case) for case in read.cases]
        guard = guard or read.guard
    return guard_problems(workspace, asked, time.time()) if guard else ()


def _cases_of(workspace: Workspace, folder: Path, issuers: Issuers) -> tuple[str, CaseFile] | None:
    """The file of a workspace's cases; `None` where there is none that may be a guard. Raises `DocumentError`."""
    shown = f"{folder.name}/{workspace.name}.yaml"
    try:
        with (folder / f"{workspace.name}.yaml").open("rb") as opened:
            content = opened.read(MAX_BYTES + 1)
        if not workspace.guard and b"guard" not in content:
            return None
        return shown, read_case_file(content.decode("utf-8"), shown, issuers)
    except FileNotFoundError:
        return None
    except OSError as error:
        why = error.strerror or type(error).__name__
    except UnicodeDecodeError:
        why = "the file is not UTF-8 text"
    raise DocumentError([Problem(shown, 0, "$", f"the guards can't be read: {why}")])


@contextlib.contextmanager
def _without_collector() -> Iterator[None]:
    """Thousands of files make millions of short-lived objects and no cycles: the collector would only walk them."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
