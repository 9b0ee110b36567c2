"""`docs/audit.md`: its sample is a record as the program writes it, its table names every field, its commands print what it says."""

import json
import re
import subprocess
from pathlib import Path

import pytest

from sidecar.audit.schema import (
    SCHEMA,
    Actor,
    Client,
    Decided,
    Instance,
    Record,
    Request,
    Resource,
    Response,
    Tls,
    Trace,
)
from tests.programs import require_program

PAGE = (Path(__file__).parent.parent / "docs" / "audit.md").read_text()
SAMPLE = re.search(r"<!-- sample -->\n```json\n(.+?)\n```", PAGE, re.DOTALL)
COMMANDS = re.findall(r"<!-- runs -->\n```sh\n(.+?)\n```\n```json\n(.+?)\n```", PAGE, re.DOTALL)
PARTS = {
    "request": Request,
    "response": Response,
    "client": Client,
    "actor": Actor,
    "resource": Resource,
    "decision": Decided,
}
PARTS |= {"instance": Instance, "trace": Trace}


def test_the_sample_has_the_keys_of_a_record() -> None:
    assert SAMPLE is not None
    sample = json.loads(SAMPLE[1])
    assert sample["v"] == SCHEMA
    assert tuple(sample) == Record.__struct_fields__
    for name, part in PARTS.items():
        assert tuple(sample[name]) == part.__struct_fields__
    assert tuple(sample["client"]["tls"]) == Tls.__struct_fields__


def test_the_table_names_every_field_and_no_other() -> None:
    rows = dict(re.findall(r"^\| ((?:`\w+`(?:, )?)+) \| (.+) \|$", PAGE, re.MULTILINE))
    named = {field: text for fields, text in rows.items() for field in re.findall(r"`(\w+)`", fields)}
    assert set(named) == set(Record.__struct_fields__)
    for name in ("request", "response", "client", "actor", "resource", "decision"):
        assert [field for field in PARTS[name].__struct_fields__ if f"`{field}`" not in named[name]] == []


@pytest.mark.parametrize(("command", "output"), COMMANDS)
def test_a_marked_command_prints_what_the_page_says(command: str, output: str, tmp_path: Path) -> None:
    require_program("jq")
    assert SAMPLE is not None
    (tmp_path / "audit.jsonl").write_text(SAMPLE[1] + "\n")
    done = subprocess.run(command, shell=True, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, output, "")


def test_there_are_commands_to_run() -> None:
    assert len(COMMANDS) == 3
