"""A token for somebody whom the directory doesn't know opens nothing; whoever makes one is told."""

from pathlib import Path

import pytest

from sidecar.cli.people import stranger

PEOPLE = "users:\n  ada@example.com: {}\n  bob@example.com: {active: false}\n"


@pytest.mark.parametrize(
    ("subject", "note"),
    [
        ("ada@example.com", None),
        ("bob@example.com", "note: 'bob@example.com' is not active in {file}, so the token opens nothing"),
        ("eve", "note: {file} doesn't know 'eve', so the token opens nothing"),
        (
            "ada@exmaple.com",
            "note: {file} doesn't know 'ada@exmaple.com', so the token opens nothing; did you mean 'ada@example.com'?",
        ),
        ("e\x1bve", "note: {file} doesn't know 'e\\x1bve', so the token opens nothing"),
    ],
)
def test_what_is_noted_of_a_person(tmp_path: Path, subject: str, note: str | None) -> None:
    file = tmp_path / "people.yaml"
    file.write_text(PEOPLE)
    assert stranger(subject, file) == ([] if note is None else [note.format(file=file)])


def test_nothing_is_noted_where_nobody_can_tell(tmp_path: Path) -> None:
    (tmp_path / "bad.yaml").write_text("users: [")
    for name in ("none.yaml", "bad.yaml"):
        assert stranger("eve", tmp_path / name) == []
