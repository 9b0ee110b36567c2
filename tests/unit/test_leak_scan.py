"""The search through files: in pieces, whatever they are, and nothing outside of what was named."""

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sidecar.cli import leak_scan
from sidecar.cli.leak_scan import Scan
from sidecar.credentials.opaque import TokenFormat
from sidecar.model import PrincipalKind

TOKENS = [TokenFormat("asc").mint(PrincipalKind.CI)[1].reveal() for _ in range(3)]


def found(path: Path) -> list[tuple[str, int]]:
    return [(each.candidate.secret.reveal(), each.line) for each in Scan([path], lambda text: None).places()]


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(gaps=st.lists(st.integers(0, 150), min_size=1, max_size=3), breaks=st.booleans())
def test_no_boundary_between_pieces_hides_one_or_shifts_its_line(
    gaps: list[int], breaks: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(leak_scan, "_PIECE", 64)
    monkeypatch.setattr(leak_scan, "_OVERLAP", 200)
    text, expected, line = "", [], 1
    for token, gap in zip(TOKENS, gaps, strict=False):
        text += ("\n" if breaks else " ") * (gap + 1)
        line += (gap + 1) * breaks
        expected.append((token, line))
        text += token
    (tmp_path / "file").write_text(text + " " * 70)
    assert found(tmp_path / "file") == expected


def test_links_pipes_and_what_is_unreadable_hold_nothing_up(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(TOKENS[0])
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "up").symlink_to(tmp_path)
    (tmp_path / "folder" / "elsewhere").symlink_to("/etc/hosts")
    os.mkfifo(tmp_path / "folder" / "pipe")
    scan = Scan([tmp_path, tmp_path / "nowhere"], lambda text: None)
    assert [each.candidate.secret.reveal() for each in scan.places()] == [TOKENS[0]]
    assert scan.files == 1
    assert [problem.split(": ")[0] for problem in scan.unreadable] == [str(tmp_path / "nowhere")]


def test_the_same_one_is_told_once_of_each_file(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(f"{TOKENS[0]}\n{TOKENS[0]}\n")
    assert found(tmp_path) == [(TOKENS[0], 1)] * 2


def test_a_long_search_tells_how_far_it_is(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / str(number)).write_text("x")
    said: list[str] = []
    ticks = iter(range(100))
    assert list(Scan([tmp_path], said.append, clock=lambda: float(next(ticks))).places()) == []
    assert said == ["read 2 files", "read 4 files"]
