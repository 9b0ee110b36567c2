"""The command line: what it prints where, how it exits, and that a mistake never shows a traceback."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from sidecar import __version__, config
from sidecar.cli import init, root, serve
from sidecar.cli.options import Exit
from sidecar.errors import DocumentError, Problem, SidecarError
from sidecar.policy.file import compile_file


@pytest.fixture
def start(tmp_path: Path) -> Path:
    """A directory that `sidecar init` has filled."""
    assert run("init", str(tmp_path / "start")).exit_code == Exit.OK
    return tmp_path / "start"


def run(*arguments: str, env: dict[str, str] | None = None) -> Result:
    return CliRunner().invoke(root.app, list(arguments), env=env)


def test_help_teaches() -> None:
    said = run("--help").output
    for word in ("sidecar init", "sidecar config check", "sidecar serve", "Exit codes"):
        assert word in " ".join(said.split())


@pytest.mark.parametrize("command", ["init", "serve", "config check", "policy check", "policy explain", "token create"])
def test_every_command_has_help(command: str) -> None:
    done = run(*command.split(), "--help")
    assert done.exit_code == Exit.OK
    assert f"sidecar {command}" in done.stdout


@pytest.mark.parametrize("command", ["", "token create", "policy explain"])
def test_help_is_plain_and_flags_take_nothing(command: str) -> None:
    said = run(*command.split(), "-h").stdout
    assert said == run(*command.split(), "--help").stdout
    assert said.startswith(f"Usage: sidecar {command}".rstrip())
    assert "<bool>" not in said
    assert "\u2500" not in said, "no boxes"
    assert max(map(len, said.splitlines())) <= 100


@pytest.mark.parametrize("group", ["", "audit", "config", "key", "policy", "store", "token"])
def test_a_list_of_commands_has_a_whole_sentence_for_each(group: str) -> None:
    said = run(*group.split(), "--help").stdout.partition("Commands:")[2].splitlines()[1:]
    assert said
    assert [line for line in said if not line.endswith(".") or line.endswith("...")] == []


def test_a_usage_error_is_plain_text() -> None:
    assert "Error: No such command 'initt'. Did you mean 'init'?" in run("initt").stderr.splitlines()
    said = run("policy", "explain", "GET", "/a").stderr.splitlines()
    assert said[-1] == "Error: Invalid value: say exactly one of --token-file, --basic-file, --claims and --anonymous"


@pytest.mark.parametrize("arguments", [["--version"], ["--help"], ["token", "create", "--help"]])
def test_what_only_speaks_of_commands_loads_none_of_their_libraries(arguments: list[str]) -> None:
    code = (
        "import sys, sidecar.cli.root as root\n"
        f"try: root.app({arguments!r})\n"
        "except SystemExit: print('loaded', *{name.partition('.')[0] for name in sys.modules})\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = done.stdout.rpartition("loaded ")[2].split()
    assert "typer" in loaded
    assert {"aiohttp", "sqlalchemy", "cryptography", "rich"}.isdisjoint(loaded)


def test_version() -> None:
    assert run("--version").stdout == f"sidecar {__version__}\n"


def test_a_wrong_command_is_a_usage_error() -> None:
    assert run("sevre").exit_code == Exit.INVALID


def test_init_makes_what_passes_every_check(start: Path) -> None:
    settings = config.load(start / "sidecar.yaml")
    assert config.inspect_files(settings) == config.FileReport([], [])
    (policy,) = (start / "policies").iterdir()
    workspace = compile_file(
        policy.read_text(), policy.name, issuers=settings.issuers, upstreams=settings.upstreams, profiles=("plain",)
    )
    assert workspace.name == "example"


@pytest.mark.parametrize("name", ["pepper", "access-key-master"])
def test_init_makes_fresh_secrets_that_only_their_owner_reads(start: Path, tmp_path: Path, name: str) -> None:
    run("init", str(tmp_path / "second"))
    first, second = (folder / "secrets" / name for folder in (start, tmp_path / "second"))
    assert first.read_text() != second.read_text()
    assert first.stat().st_mode & 0o777 == 0o600
    assert first.parent.stat().st_mode & 0o777 == 0o700


def test_the_pepper_is_private_whatever_the_umask(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        run("init", str(tmp_path / "x"))
    finally:
        os.umask(before)
    assert (tmp_path / "x" / "secrets" / "pepper").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "existing", ["sidecar.yaml", "secrets/pepper", "secrets/access-key-master", "policies/example.yaml"]
)
def test_init_overwrites_nothing_and_writes_nothing(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).parent.mkdir(exist_ok=True)
    (tmp_path / existing).write_text("mine")
    done = run("init", str(tmp_path))
    assert done.exit_code == Exit.FAILED
    assert done.stderr == f"{tmp_path / existing} exists already and is not overwritten; nothing was written\n"
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == [tmp_path / existing]
    assert (tmp_path / existing).read_text() == "mine"


@pytest.mark.parametrize("link", ["sidecar.yaml", "secrets/pepper"])
def test_init_does_not_write_through_a_dangling_link(tmp_path: Path, link: str) -> None:
    (tmp_path / link).parent.mkdir(exist_ok=True)
    (tmp_path / link).symlink_to(tmp_path / "elsewhere")
    assert run("init", str(tmp_path)).exit_code == Exit.FAILED
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []


def test_a_file_that_appears_meanwhile_is_not_overwritten(tmp_path: Path) -> None:
    (tmp_path / "x").write_text("mine")
    with pytest.raises(FileExistsError):
        init.write_new(tmp_path / "x", "ours", init.PRIVATE)
    assert (tmp_path / "x").read_text() == "mine"


def test_init_where_it_can_t_write(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    done = run("init", str(tmp_path / "file"))
    assert done.exit_code == Exit.FAILED
    assert done.stderr.startswith(str(tmp_path / "file"))


def test_init_tells_what_it_made_and_what_is_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = run("init", str(tmp_path / "a")).stdout
    for made in ("secrets/pepper", "policies/example.yaml", "sidecar.yaml", ".gitignore", "data/"):
        assert f"{tmp_path}/a/{made}" in said
    assert f"Next, in {tmp_path / 'a'}:\n  sidecar serve\n" in said
    (tmp_path / "b").mkdir()
    monkeypatch.chdir(tmp_path / "b")
    assert "Next:\n  sidecar serve\n" in run("init").stdout


def test_init_keeps_secrets_and_state_out_of_version_control(tmp_path: Path) -> None:
    run("init", str(tmp_path / "a"))
    ignored = (tmp_path / "a" / ".gitignore").read_text().splitlines()
    assert set(ignored) >= {"secrets/", "data/", "*.db", "*.db-*", "audit.jsonl*"}
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / ".gitignore").write_text("mine\n")
    done = run("init", str(tmp_path / "b"))
    assert (done.exit_code, (tmp_path / "b" / ".gitignore").read_text()) == (Exit.OK, "mine\n")
    assert ".gitignore" not in done.stdout


def test_init_as_json(tmp_path: Path) -> None:
    said = json.loads(run("init", str(tmp_path / "a"), "--json").stdout)
    assert said["store"] == str(tmp_path / "a" / "data")
    assert all(Path(file).is_file() for file in said["written"])
    assert str(tmp_path / "a" / "sidecar.yaml") in said["written"]


def test_check_of_a_right_configuration(start: Path) -> None:
    done = run("config", "check", "--config", str(start / "sidecar.yaml"))
    assert (done.exit_code, done.stdout, done.stderr) == (Exit.OK, f"{start / 'sidecar.yaml'}: ok\n", "")


def test_check_of_a_wrong_file_tells_each_problem_on_a_line(start: Path) -> None:
    path = start / "sidecar.yaml"
    path.write_text(path.read_text().replace("ops:", "opps:") + "limits: 3\n")
    done = run("config", "check", "-c", str(path))
    assert done.exit_code == Exit.INVALID
    assert done.stdout == ""
    assert done.stderr.splitlines() == [
        f"{path}:2 $: the key 'ops' is missing",
        f"{path}:3 $.opps: unknown key 'opps'; did you mean 'ops'?",
        f"{path}:17 $.limits: expected a mapping, as key: value, not '3'",
    ]


def test_check_tells_missing_files_by_another_exit_code(start: Path) -> None:
    (start / "secrets" / "pepper").unlink()
    done = run("config", "check", "-c", str(start / "sidecar.yaml"))
    assert done.exit_code == Exit.MISSING
    assert done.stdout == ""
    assert (
        done.stderr == f"{start}/sidecar.yaml:12 $.tokens.pepper_file: {start}/secrets/pepper: "
        "no such file; put the secret that tokens here were made under, or, where there are none yet, a random one (`openssl rand -hex 32`) there\n"
    )


@pytest.mark.parametrize(
    ("file", "said"),
    [
        ("people.yaml", "people.yaml:1 $.user: unknown key 'user'; did you mean 'users'?"),
        ("policies", "no policy file"),
    ],
)
def test_check_tells_what_would_be_refused_at_run_time(start: Path, file: str, said: str) -> None:
    path = start / "sidecar.yaml"
    path.write_text(path.read_text() + "directory: {file: ./people.yaml}\n")
    (start / "people.yaml").write_text("user: {}\n" if file == "people.yaml" else "users: {}\n")
    if file == "policies":
        (start / "policies" / "example.yaml").unlink()
    done = run("config", "check", "-c", str(path))
    assert (done.exit_code, done.stdout) == (Exit.MISSING, "")
    assert said in done.stderr


def test_check_passes_with_a_warning(start: Path) -> None:
    (start / "secrets" / "pepper").chmod(0o644)
    done = run("config", "check", "-c", str(start / "sidecar.yaml"))
    assert done.exit_code == Exit.OK
    assert done.stderr.startswith("warning: ")


@pytest.mark.parametrize(
    ("spoil", "code", "where"),
    [("", Exit.OK, None), ("pepper", Exit.MISSING, "missing"), ("sidecar.yaml", Exit.INVALID, "invalid")],
)
def test_check_as_json(start: Path, spoil: str, code: Exit, where: str | None) -> None:
    for path in start.rglob(spoil) if spoil else ():
        path.write_text("x")
    done = run("config", "check", "--json", "-c", str(start / "sidecar.yaml"))
    assert done.exit_code == code
    said = json.loads(done.stdout)
    assert said["ok"] is (code == Exit.OK)
    assert [key for key in ("invalid", "missing") if said[key]] == ([where] if where else [])
    for problem in said["invalid"] + said["missing"]:
        assert set(problem) == {"file", "line", "path", "message"}


def test_the_configuration_comes_from_the_option_then_the_environment_then_here(start: Path, tmp_path: Path) -> None:
    right, wrong = str(start / "sidecar.yaml"), str(tmp_path / "nothing.yaml")
    assert run("config", "check", "-c", right, env={"SIDECAR_CONFIG": wrong}).exit_code == Exit.OK
    assert run("config", "check", env={"SIDECAR_CONFIG": right}).exit_code == Exit.OK
    assert run("config", "check", env={"SIDECAR_CONFIG": wrong}).exit_code == Exit.INVALID


def test_without_either_it_is_the_one_in_this_directory(start: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SIDECAR_CONFIG", raising=False)
    monkeypatch.chdir(start)
    assert run("config", "check").stdout == "sidecar.yaml: ok\n"


def test_serve_becomes_another_process_that_finds_no_modules_in_the_working_directory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    calls: list[tuple[str, list[str]]] = []
    monkeypatch.setattr(serve.os, "execv", lambda program, arguments: calls.append((program, arguments)))
    assert run("serve", "--config", "some.yaml").exit_code == Exit.OK
    assert calls == [(sys.executable, [sys.executable, "-P", "-m", "sidecar.serving", "some.yaml"])]


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (DocumentError([Problem("f", 1, "$", "a"), Problem("f", 2, "$", "b")]), Exit.INVALID, "f:1 $: a\nf:2 $: b\n"),
        (SidecarError("the pepper is too short"), Exit.FAILED, "error: the pepper is too short\n"),
    ],
)
def test_a_person_s_mistake_is_told_without_a_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: SidecarError, code: Exit, said: str
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(root, "app", fail)
    with pytest.raises(SystemExit) as ended:
        root.main()
    assert ended.value.code == code
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            ("token", "create", "--subject", "ci", "--kind", "persnal"),
            "'--kind': 'persnal' is not one of personal, ci, biscuit; did you mean 'personal'?",
        ),
        (
            ("token", "create", "--subject", "ci", "--kind", "nonsense"),
            "'--kind': 'nonsense' is not one of personal, ci, biscuit",
        ),
        (("policy", "schema", "--for", "Case"), "'--for': 'Case' is not one of policy, cases, people, config; did you mean 'cases'?"),
        (("token", "create", "--subject", "ci", "--kind", "c'i"), "is not one of personal, ci, biscuit; did you mean 'ci'?"),
    ],
)  # fmt: skip
def test_a_bad_choice_is_told_with_those_that_there_are(
    capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], said: str
) -> None:
    with pytest.raises(SystemExit) as ended:
        root.app(arguments)
    assert ended.value.code == Exit.INVALID
    assert capsys.readouterr().err.endswith(f"{said}\n")


@pytest.mark.parametrize("command", [["-m", "sidecar"], ["-c", "from sidecar.__main__ import main; main()"]])
def test_the_program_itself(command: list[str], tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, *command, "config", "check", "-c", "nothing.yaml"],
        capture_output=True, text=True, check=False, cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])},
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (Exit.INVALID, "")
    advice = "--config names another, `sidecar init` writes one"
    assert done.stderr == f"nothing.yaml: can't be read: No such file or directory; {advice}\n"


def test_the_files_that_init_writes_hold_no_secret() -> None:
    for text in (init.CONFIG, init.POLICY):
        assert "pepper:" not in text
        assert "password" not in text


def test_a_token_where_something_else_belongs_is_not_repeated(tmp_path: Path) -> None:
    token = "asc_ci_0123456789ab_" + "s" * 49
    start = tmp_path / "start"
    assert run("init", str(start)).exit_code == Exit.OK
    config = str(start / "sidecar.yaml")
    for words in (
        ["policy", "explain", "--token-file", token, "GET", "/a"],
        ["token", "create", "--kind", "ci", "--subject", "a", "--permission", token],
    ):
        done = run(*words, "--config", config)
        assert done.exit_code != Exit.OK
        assert "s" * 20 not in done.output
        assert "REDACTED" in done.stderr
