"""What the directory's file says of a person: their id, for a token that is made for them; and a hint where it says nothing."""

import difflib
from pathlib import Path

from sidecar.errors import DocumentError, SidecarError
from sidecar.model import Person


class PeopleUnreadable(SidecarError):
    """The directory's file can't be read, so nobody can say whose a token would be. The text says which and why."""


def owner_id(subject: str, file: Path) -> str:
    """Empty for who isn't known there or has none. Raises `PeopleUnreadable`."""
    found = person(subject, file)
    return "" if found is None else found.id


def person(subject: str, file: Path) -> Person | None:
    """The directory's row. Raises `PeopleUnreadable`."""
    from sidecar.directory.file import read_people  # loads the reader of documents: few commands need it

    try:
        people = read_people(file.read_bytes(), file.name)
    except OSError as error:
        raise PeopleUnreadable(f"directory.file {file}: {error.strerror}; it says whose a token is") from None
    except DocumentError as error:
        raise PeopleUnreadable(f"directory.file {error.problems[0]}; it says whose a token is") from None
    return people.get(subject)


def stranger(subject: str, file: Path) -> list[str]:
    """A note where the file doesn't know this person or marks them inactive; none where it can't be read."""
    from sidecar.directory.file import read_people  # loads the reader of documents: few commands need it

    try:
        people = read_people(file.read_bytes(), file.name)
    except (OSError, DocumentError):
        return []
    found = people.get(subject)
    if found is None:
        near = difflib.get_close_matches(subject, sorted(people), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return [f"note: {file} doesn't know {subject!r}, so the token opens nothing{hint}"]
    if not found.active:
        return [f"note: {subject!r} is not active in {file}, so the token opens nothing"]
    return []
