"""Who belongs where (rule 9): the last good version counts until there is a better one."""

from pathlib import Path

import pytest

from sidecar.directory.file import DirectoryEvent, DirectoryFile, read_people
from sidecar.errors import DocumentError, Unavailable
from sidecar.model import Person
from sidecar.reasons import Reason
from tests.waiting import until_in_loop as until

EXAMPLE = Path(__file__).parents[2] / "config/people.yaml"
ADA = Person(True, frozenset({"web-team"}))


def people(text: str) -> str:
    return f"users:\n  ada: {text}\n"


def test_the_example() -> None:
    found = read_people(EXAMPLE.read_bytes(), "people.yaml")
    assert found == {"ada@example.com": ADA, "bob@example.com": Person(False, frozenset())}


def test_who_is_listed_is_active_unless_it_says_otherwise() -> None:
    assert read_people(people("{}").encode(), "f") == {"ada": Person(True, frozenset())}


def test_an_id_is_a_persons_for_good() -> None:
    found = read_people(b"users: {ada: {id: u-17}, bob: {id: 18, groups: [web-team]}, eve: {}}", "f")
    assert {name: person.id for name, person in found.items()} == {"ada": "u-17", "bob": "18", "eve": ""}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("users: {ada: {id: u-1}, bob: {id: u-1}}", "the id 'u-1' is 'ada''s already"),
        (people("{id: ''}"), "nothing is written here"),
        (people(f"{{id: {'x' * 257}}}"), "at most 256"),
        (people('{id: "a\\tb"}'), "printable"),
        ("{}", "'users' is missing"),
        ("users: [ada]", "expected a mapping"),
        (people(""), "nothing is written here"),
        (people("{actve: false}"), "unknown key 'actve'; did you mean 'active'?"),
        (people("{active: no}"), "expected true or false"),
        (people("{groups: team}"), "expected a list"),
        (people("{}") + "  ada: {active: false}", "is here twice"),
        (people("{}") + "user: {}", "unknown key 'user'"),
    ],
)
def test_what_is_wrong_with_a_directory(text: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_people(text.encode(), "people.yaml")
    assert message in str(caught.value)


def test_where_there_never_was_a_good_version_nobodys_standing_is_known(tmp_path: Path) -> None:
    events: list[DirectoryEvent] = []
    directory = DirectoryFile(tmp_path / "people.yaml", on_event=events.append, settle=0.0)
    directory.load_now()
    with pytest.raises(Unavailable) as caught:
        directory.person("ada")
    assert caught.value.reason is Reason.DIRECTORY_UNAVAILABLE
    assert [event.accepted for event in events] == [False]
    assert "No such file" in str(directory.problems[0])


async def test_edits_count_and_bad_ones_never(tmp_path: Path) -> None:
    file = tmp_path / "people.yaml"
    file.write_text(people("{groups: [web-team]}"))
    events: list[DirectoryEvent] = []
    directory = DirectoryFile(file, on_event=events.append)
    directory.load_now()
    assert (directory.person("ada"), directory.person("eve")) == (ADA, None)
    await directory.start()
    try:
        file.write_text(people("{active: false}"))
        await until(lambda: directory.person("ada") == Person(False, frozenset()))
        file.write_text(people("{active: flase}"))
        await until(lambda: directory.problems != ())
        assert directory.person("ada") == Person(False, frozenset()), "a bad edit brings nobody back"

        file.unlink()
        await until(lambda: "can't be read" in str(directory.problems))
        assert directory.person("ada") == Person(False, frozenset())

        file.write_text(people("{groups: [web-team]}"))
        await until(lambda: directory.person("ada") == ADA)
        assert directory.problems == ()
    finally:
        await directory.stop()
    assert [event.accepted for event in events] == [True, True, False, False, True]
    assert events[2].sha256 == events[1].sha256 != events[4].sha256 == events[0].sha256
