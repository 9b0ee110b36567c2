"""Which workspaces the policy files speak of, whatever else is wrong in them."""

from pathlib import Path

import pytest

from sidecar.cli.workspaces import unknown


@pytest.mark.parametrize(
    "written",
    [
        "workspace: web\n",
        "# ours\nworkspace: 'web' # a note\r\nrules: {broken\n",
        '"workspace": "web"',
        "\xff\nworkspace : web",
    ],
)
def test_a_workspace_of_any_file_is_known(tmp_path: Path, written: str) -> None:
    (tmp_path / "a.yaml").write_text("workspace: other\n")
    (tmp_path / "b.yml").write_bytes(written.encode("latin-1"))
    assert unknown(["web", "other"], tmp_path) == []


@pytest.mark.parametrize(
    "written", ["workspace: web2\n", "workspace: web-x", "  workspace: web\n", "workspace:\n  web\n", ""]
)
def test_what_only_looks_like_it_is_not(tmp_path: Path, written: str) -> None:
    (tmp_path / "a.yaml").write_text(written)
    (tmp_path / "README").write_text("workspace: web\n")
    (tmp_path / "folder.yaml").mkdir()
    (note,) = unknown(["web"], tmp_path)
    assert note.startswith(f"note: no policy in {tmp_path} has the workspace 'web'")
    assert ("; did you mean 'web2'?" in note) is ("web2" in written)


def test_nothing_is_noted_where_the_directory_can_not_be_read(tmp_path: Path) -> None:
    assert unknown(["web"], tmp_path / "none") == []
