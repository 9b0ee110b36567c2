"""Policies and their cases, as commands read them: a directory or one file, with everything that is wrong in it."""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from msgspec import Struct

from sidecar.errors import DocumentError, Problem
from sidecar.policy.cases import CaseFile, read_case_file
from sidecar.policy.compiled import Workspace
from sidecar.policy.files import PolicyFiles
from sidecar.policy.routes import Snapshot
from sidecar.policy.rules import Issuers
from sidecar.policy.source import CASES, SUFFIXES, PolicySource, cases_folder, compile_version
from sidecar.profiles import PROFILES
from sidecar.settings import Settings
from sidecar.settled import Reading
from sidecar.yaml_tree import MAX_BYTES


class Policies(Struct, frozen=True):
    snapshot: Snapshot
    problems: tuple[Problem, ...]
    files: int


class NamedCases(Struct, frozen=True):
    """The cases of one file; `file` as messages name it."""

    file: str
    read: CaseFile


def policy_folder(path: Path) -> Path:
    """`config` stands for `config/policies`, where there is such a thing."""
    inside = path / "policies"
    return inside if inside.is_dir() else path


def load_policies(path: Path, settings: Settings | None, *, guards: bool = True) -> Policies:
    """A directory's policies, or one file's. Without `settings`, names of issuers and upstreams are not checked. `guards`: whether
    a file whose guard doesn't hold has a problem. Never raises: what can't be read is a problem."""
    issuers: Issuers = settings.issuers if settings is not None else None
    upstreams = settings.upstreams if settings is not None else None
    if path.is_file():
        name = f"{path.parent.name}/{path.name}" if path.parent.name else path.name
        files = PolicyFiles()
        try:
            reading = Reading(path.read_bytes())
        except OSError as error:
            reading = Reading(None, error.strerror or type(error).__name__)
        version = compile_version(
            name,
            reading,
            issuers=issuers,
            upstreams=upstreams,
            profiles=PROFILES,
            cases=cases_folder(path.parent),
            guards=guards,
        )
        files.load([version])
        snapshot = files.snapshot
    else:
        source = PolicySource(path, issuers=issuers, upstreams=upstreams, profiles=PROFILES, settle=0.0, guards=guards)
        try:
            source.load_now()
        except OSError as error:
            problem = Problem(str(path), 0, "$", f"the directory can't be read: {error.strerror}")
            return Policies(source.snapshot, (problem,), 0)
        snapshot = source.snapshot
    found = snapshot.files
    if not found:
        empty = Problem(str(path), 0, "$", "there is no policy file (*.yaml, *.yml) in it")
        return Policies(snapshot, (empty,), 0)
    problems = tuple(problem for name in sorted(found) for problem in found[name].problems)
    return Policies(snapshot, problems, len(found))


def own_cases(snapshot: Snapshot) -> list[NamedCases]:
    """The `cases:` of the policy files themselves."""
    return [NamedCases(workspace.file, _as_file(workspace)) for _, workspace in sorted(snapshot.workspaces.items())]


def cases_beside(path: Path) -> list[Path]:
    """The files of cases that belong to a directory of policies, or to one file of it."""
    folder = cases_folder(path.parent if path.is_file() else path)
    found = _yaml_files(folder) if folder.is_dir() else []
    return found if path.is_dir() else [file for file in found if file.stem == path.stem]


def read_cases_at(paths: Iterable[Path], issuers: Issuers) -> list[NamedCases]:
    """The cases of these files, and of all files of these directories; a policy file among them has its own `cases:`.

    Raises `DocumentError` with all problems, one of a directory without any file included."""
    read: list[NamedCases] = []
    problems: list[Problem] = []
    for path in paths:
        files: Sequence[Path] = _yaml_files(path) if path.is_dir() else [path]
        if not files:
            problems.append(Problem(str(path), 0, "$", "there is no file of cases (*.yaml, *.yml) in it"))
        for file in files:
            name = f"{file.parent.name or CASES}/{file.name}"
            try:
                read.append(NamedCases(name, _read(file, name, issuers)))
            except OSError as error:
                problems.append(Problem(str(file), 0, "$", f"the file can't be read: {error.strerror}"))
            except UnicodeDecodeError:
                problems.append(Problem(name, 0, "$", "the file is not UTF-8 text"))
            except DocumentError as error:
                problems.extend(error.problems)
    if problems:
        raise DocumentError(problems)
    return read


def _read(file: Path, name: str, issuers: Issuers) -> CaseFile:
    with file.open("rb") as opened:
        content = opened.read(MAX_BYTES + 1)
    version = compile_version(name, Reading(content), issuers=issuers, upstreams=None, profiles=PROFILES, guards=False)
    if version.workspace is not None:
        return _as_file(version.workspace)
    return read_case_file(content.decode("utf-8"), name, issuers)


def _as_file(workspace: Workspace) -> CaseFile:
    return CaseFile(workspace.name, workspace.guard, workspace.cases)


def _yaml_files(folder: Path) -> list[Path]:
    return sorted(_files(folder))


def _files(folder: Path) -> Iterator[Path]:
    for file in folder.iterdir():
        if file.suffix in SUFFIXES and not file.name.startswith(".") and file.is_file():
            yield file
