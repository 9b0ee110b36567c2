"""One source of what a credential looks like: what scanners are told to find is what is taken out of logs and found in files."""

import base64
import json
import re
import subprocess
import tomllib
from pathlib import Path

import pytest
from biscuit_auth import BiscuitBuilder, BlockBuilder, KeyPair
from hypothesis import given
from hypothesis import strategies as st

from sidecar.audit import redact
from sidecar.credentials import patterns
from sidecar.credentials.found import candidates
from sidecar.credentials.master_key import AccessKeyId
from sidecar.credentials.opaque import ALPHABET, TokenFormat
from sidecar.model import PrincipalKind
from tests.programs import go_program

PUBLISHED = Path(__file__).parent.parent.parent / "config" / "gitleaks.toml"
GITLEAKS = "github.com/zricethezav/gitleaks/v8@v8.28.0"


def biscuit(key_id: int, blocks: int = 0) -> str:
    builder = BiscuitBuilder('token_id("t")')
    builder.set_root_key_id(key_id)
    token = builder.build(KeyPair().private_key)
    for _ in range(blocks):
        token = token.append(BlockBuilder('check if operations($o), {"store:read"}.contains($o)'))
    return token.to_base64()


BISCUITS = [biscuit(key_id, blocks) for key_id in (1, 63, 127, 128, 16_383) for blocks in (0, 1, 3)]
SECRETS = st.builds(
    lambda brand, kind, body: f"{brand}_{kind}_{body[:12]}_{body[12:]}",
    st.from_regex(r"[a-z][a-z0-9]{1,15}", fullmatch=True),
    st.sampled_from(["pat", "ci"]),
    st.text(ALPHABET, min_size=61, max_size=61),
) | st.sampled_from(BISCUITS)
AROUND = st.text(st.characters(codec="ascii", exclude_characters=ALPHABET + "_-=%"), max_size=20)


@given(SECRETS, AROUND, AROUND)
def test_what_the_published_patterns_match_is_taken_out_of_logs_and_found_in_files(
    secret: str, before: str, after: str
) -> None:
    text = f"{before}{secret}{after}"
    assert re.search(f"{patterns.opaque()}|{patterns.BISCUIT}", text)
    assert redact.text(text) == f"{before}{redact.TAKEN_OUT}{after}"
    assert secret in [found.secret.reveal() for found in candidates(text.encode())]


@pytest.mark.parametrize("text", [*BISCUITS, *(each.rstrip("=") for each in BISCUITS)])
def test_every_biscuit_of_ours_has_the_shape(text: str) -> None:
    assert re.fullmatch(patterns.BISCUIT, text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "ghp_" + "a" * 36,
        "glpat-" + "a" * 20,
        "asc_pat_short",
        "CA" + "a" * 300,
        "C" * 400,
        base64.urlsafe_b64encode(bytes(range(256))).decode(),
        "a" * 500,
        "0123456789abcdef" * 16,
        "/9j/4AAQSkZJRgABAQ" + "A" * 400,
    ],
)
def test_other_texts_are_left_alone(text: str) -> None:
    assert not any(re.search(rule.pattern, text) for rule in patterns.rules())
    assert redact.text(text) == text


def test_the_rules_are_of_a_brand_and_of_both_its_words() -> None:
    for kind in (PrincipalKind.PERSONAL, PrincipalKind.CI):
        _, ours = TokenFormat("acme").mint(kind)
        _, other = TokenFormat("asc").mint(kind)
        assert re.search(patterns.rules("acme")[0].pattern, ours.reveal())
        assert not re.search(patterns.rules("acme")[0].pattern, other.reveal())


def test_the_published_file_is_as_the_program_writes_it() -> None:
    assert PUBLISHED.read_text() == patterns.as_gitleaks()
    rules = {rule["id"]: rule for rule in tomllib.loads(PUBLISHED.read_text())["rules"]}
    assert list(rules) == [rule.id for rule in patterns.rules()]
    for rule in patterns.rules():
        assert rules[rule.id]["regex"] == rule.pattern
        assert re.search(r"\(\?[=!<P]|[*+?}]\+", rule.pattern) is None  # what RE2 doesn't know


@pytest.mark.slow
def test_gitleaks_finds_each_kind_where_people_leave_them(tmp_path: Path) -> None:
    # What a build without it knows: the file is the program's own, in RE2's syntax, and finds each kind (the tests above).
    gitleaks = go_program(GITLEAKS, built_in_ci=False)
    token = TokenFormat("asc").mint(PrincipalKind.CI)[1].reveal()
    person = TokenFormat("asc").mint(PrincipalKind.PERSONAL)[1].reveal()
    access_key = str(AccessKeyId(1, token.split("_")[2]))
    left = {
        ".npmrc": (f"//store.example/:_authToken={token}\n", "sidecar-token"),
        "nx.json": (f'{{"accessToken": "{person}"}}\n', "sidecar-token"),
        ".bazelrc": (f"build --remote_header=Authorization='Bearer {BISCUITS[0]}'\n", "sidecar-biscuit"),
        "ci.log": (f"+ curl -u x:{BISCUITS[4].rstrip('=')} https://store.example\n", "sidecar-biscuit"),
        "credentials": (f"aws_access_key_id = {access_key}\n", "sidecar-access-key"),
        "clean.txt": ("asc_pat_short and nothing else\n", None),
    }
    scanned = tmp_path / "scanned"
    scanned.mkdir()
    for name, (text, _) in left.items():
        (scanned / name).write_text(text)
    report = tmp_path / "report.json"
    done = subprocess.run(
        [gitleaks, "dir", str(scanned), "-c", str(PUBLISHED), "-r", str(report), "-f", "json", "--no-banner"],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 1, done.stderr
    found = {(Path(each["File"]).name, each["RuleID"]) for each in json.loads(report.read_text())}
    assert {(name, rule) for name, rule in found if rule.startswith("sidecar-")} == {
        (name, rule) for name, (_, rule) in left.items() if rule is not None
    }
