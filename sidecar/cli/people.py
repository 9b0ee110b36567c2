"""Whether the directory's file knows a person, for a hint."""

import difflib
from pathlib import Path

from sidecar.errors import DocumentError


def stranger(subject: str, file: Path) -> list[str]:
    """A note where the file doesn't know this person or marks them inactive; none where it can't be read."""
    from sidecar.directory.file import read_people  # loads the reader of documents: few commands need it

    try:
        people = read_people(file.read_bytes(), file.name)
    except (OSError, DocumentError):
        return []
    person = people.get(subject)
    if person is None:
        near = difflib.get_close_matches(subject, sorted(people), n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        return [f"note: {file} doesn't know {subject!r}, so the token opens nothing{hint}"]
    if not person.active:
        return [f"note: {subject!r} is not active in {file}, so the token opens nothing"]
    return []
