"""A directory of people in a YAML file that is picked up when it changes.

    users:
      ada@example.com: {id: u-17, groups: [web-team]}
      bob@example.com: {groups: [], active: false}

An `id` names a person for good, and no two have the same. A token remembers its owner's: whoever is given a name that was somebody
else's inherits none of their tokens.

Law: the last good version counts until there is a better one. A bad edit, or a file that is gone, neither locks everybody out
nor brings anybody back; but where there never was a good version, nobody's standing is known and `person` refuses.
"""

import hashlib
from collections.abc import Callable, Mapping
from pathlib import Path

from msgspec import Struct

from sidecar.document import Block, Value, parse
from sidecar.errors import DocumentError, Problem, Unavailable
from sidecar.model import Person
from sidecar.reasons import Reason
from sidecar.settled import FollowedFiles, Reading
from sidecar.yaml_tree import MAX_BYTES, quoted

LONGEST_ID = 256


class DirectoryEvent(Struct, frozen=True):
    """What became of a new version of the file."""

    accepted: bool
    sha256: str | None
    """Of the version that counts now; `None` if there never was a good one."""
    people: int
    problems: tuple[Problem, ...] = ()


class DirectoryFile(FollowedFiles[DirectoryEvent | None]):
    """Implements `ports.Directory`. `on_event` is called for each new version and must not raise."""

    def __init__(
        self,
        path: Path,
        *,
        on_event: Callable[[DirectoryEvent], None] | None = None,
        interval: float = 0.25,
        settle: float = 0.2,
    ) -> None:
        super().__init__("directory file", MAX_BYTES, interval=interval, settle=settle)
        self._path = path
        self._on_event = on_event
        self._people: Mapping[str, Person] | None = None
        self._sha256: str | None = None
        self._problems: tuple[Problem, ...] = ()

    def person(self, subject: str) -> Person | None:
        """Raises `Unavailable(DIRECTORY_UNAVAILABLE)` if the file never could be read."""
        people = self._people
        if people is None:
            raise Unavailable(Reason.DIRECTORY_UNAVAILABLE, f"{self._path.name} has never been readable")
        return people.get(subject)

    def id_of(self, subject: str) -> str:
        """A person's own id; empty for whoever isn't here, is inactive, has none, or where the file never could be read."""
        person = None if self._people is None else self._people.get(subject)
        return person.id if person is not None and person.active else ""

    @property
    def problems(self) -> tuple[Problem, ...]:
        """What is wrong with the file as it is on disk now."""
        return self._problems

    def _paths(self) -> Mapping[str, str]:
        return {self._path.name: str(self._path)}

    def _take(self, changed: Mapping[str, Reading]) -> DirectoryEvent | None:
        reading = changed.get(self._path.name)
        return None if reading is None else self._judge(reading)

    def _publish(self, event: DirectoryEvent | None) -> None:
        if event is not None and self._on_event is not None:
            self._on_event(event)

    def _judge(self, reading: Reading) -> DirectoryEvent:
        name = self._path.name
        if reading.content is None:
            self._problems = (Problem(name, 0, "$", f"the file can't be read: {reading.error}"),)
        else:
            try:
                # One assignment each: a reader in the loop sees the old people or the new ones, never a mixture.
                self._people = read_people(reading.content, name)
                self._sha256 = hashlib.sha256(reading.content).hexdigest()
                self._problems = ()
            except DocumentError as error:
                self._problems = error.problems
        return DirectoryEvent(not self._problems, self._sha256, len(self._people or ()), self._problems)


def read_people(content: bytes, file: str) -> dict[str, Person]:
    """Subject -> person. Raises `DocumentError` with all problems."""
    document = parse(content, file)
    users = document.root.block().need("users").block()
    taken: dict[str, str] = {}
    people = {subject: _read_person(subject, value.block(), taken) for subject, value in users.entries()}
    document.finish()
    return people


def _read_person(subject: str, block: Block, taken: dict[str, str]) -> Person:
    """`taken`: id -> whose it is, of those that were read before."""
    groups = block.get("groups", Value.texts, ())
    person_id = block.get("id", lambda value: _read_id(subject, value, taken), "")
    return Person(block.get("active", Value.boolean, True), frozenset(groups), person_id)


def _read_id(subject: str, value: Value, taken: dict[str, str]) -> str:
    text = value.text()
    if len(text) > LONGEST_ID:
        value.problem(f"an id has at most {LONGEST_ID} characters")
    elif text and taken.setdefault(text, subject) != subject:
        value.problem(f"the id {quoted(text)} is {quoted(taken[text])}'s already; no two people have the same")
    return text
