"""The `tokens:` section: another pepper beside the current one, and what a reused token leads to."""

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
