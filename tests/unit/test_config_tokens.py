"""The `tokens:` section: another pepper beside the current one, what a reused token leads to, and access keys' master keys."""

from pathlib import Path

import pytest

from sidecar import config
from sidecar.config.named_files import inspect_files
from sidecar.errors import DocumentError
from sidecar.settings import TokenSettings

OLD = "5f0c3b7e91d24a86b0e7c1f2a3948d6c5b7a8091e2f3d4c5b6a798081726354f"
NEW = "aa62c19e0f7b4d53b8e1c2a3f4958d6c5b7a8091e2f3d4c5b6a7980817263549"


def written(folder: Path, tokens: str) -> Path:
    (folder / "policies").mkdir(exist_ok=True)
    (folder / "policies" / "web.yaml").write_text("workspace: web\n")
    file = folder / "sidecar.yaml"
    file.write_text(
        "listen: 127.0.0.1:8080\nops: 127.0.0.1:9090\npolicies: ./policies\n"
        'upstreams: {local: {url: "file://./data"}}\n'
        f'tokens: {{store: "sqlite:///./t.db", pepper_file: ./new{tokens}}}\n'
    )
    return file


def loaded(folder: Path, tokens: str) -> TokenSettings:
    settings = config.load(written(folder, tokens)).tokens
    assert settings is not None
    return settings


def test_nothing_is_believed_but_the_one_pepper_unless_another_is_named(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").previous_pepper_files == ()
    assert loaded(tmp_path, ", previous_pepper_files: [./old, /older]").previous_pepper_files == (
        tmp_path / "old",
        Path("/older"),
    )


def test_a_reused_token_is_an_event_unless_more_is_asked_for(tmp_path: Path) -> None:
    assert loaded(tmp_path, "").reuse == "event"
    assert loaded(tmp_path, ", reuse: revoke_family").reuse == "revoke_family"
    with pytest.raises(DocumentError, match="revoke_family"):
        loaded(tmp_path, ", reuse: revoke_famly")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no such file; put the pepper from before"),
        ("short", "needs at least 32"),
        ("changeme" * 8, "placeholder"),
        (OLD, None),
    ],
)
def test_an_earlier_pepper_is_held_to_what_the_current_one_is(
    tmp_path: Path, content: str | None, said: str | None
) -> None:
    for name, text in (("new", NEW), ("old", content)):
        if text is not None:
            (tmp_path / name).write_text(text)
            (tmp_path / name).chmod(0o600)
    report = inspect_files(config.load(written(tmp_path, ", previous_pepper_files: [./old]")))
    if said is None:
        assert report.problems == []
        return
    (problem,) = report.problems
    assert said in problem.message
    assert (problem.path, problem.line) == ("$.tokens.previous_pepper_files[0]", 5)
    assert content is None or content not in str(problem)


MASTER = ", access_key_master_file: ./master"


def test_there_are_no_access_keys_unless_a_master_key_is_named(tmp_path: Path) -> None:
    tokens = loaded(tmp_path, "")
    assert (tokens.access_key_master_file, tokens.access_key_region) == (None, None)
    named = loaded(tmp_path, f"{MASTER}, previous_access_key_master_files: [./older], access_key_region: eu-central-1")
    assert named.access_key_master_file == tmp_path / "master"
    assert named.previous_access_key_master_files == (tmp_path / "older",)
    assert named.access_key_region == "eu-central-1"


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        (", access_key_region: eu-central-1", "it says nothing without access_key_master_file"),
        (", previous_access_key_master_files: [./older]", "it says nothing without access_key_master_file"),
        (f"{MASTER}, access_key_region: EU Central", "a region as in signatures"),
    ],
)
def test_what_would_do_nothing_is_a_problem(tmp_path: Path, tokens: str, said: str) -> None:
    with pytest.raises(DocumentError, match=said):
        loaded(tmp_path, tokens)


@pytest.mark.parametrize(
    ("files", "problems"),
    [
        ({"master": NEW, "older": OLD}, []),
        ({"older": OLD}, [("access_key_master_file", "no such file; put the secret that access keys are made of")]),
        ({"master": NEW}, [("previous_access_key_master_files[0]", "no such file; put the master key from before")]),
        ({"master": "short", "older": OLD}, [("access_key_master_file", "needs at least 32")]),
        ({"master": "changeme" * 8, "older": OLD}, [("access_key_master_file", "placeholder")]),
        ({"master": NEW, "older": f"{NEW}\n"}, [("previous_access_key_master_files[0]", "has the same key")]),
    ],
)
def test_master_keys_are_fit_and_told_apart_before_the_start(
    tmp_path: Path, files: dict[str, str], problems: list[tuple[str, str]]
) -> None:
    for name, text in {"new": NEW, **files}.items():
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o600)
    report = inspect_files(config.load(written(tmp_path, f"{MASTER}, previous_access_key_master_files: [./older]")))
    assert [problem.path for problem in report.problems] == [f"$.tokens.{setting}" for setting, _ in problems]
    for problem, (_, said) in zip(report.problems, problems, strict=True):
        assert said in problem.message
        assert NEW not in str(problem)
