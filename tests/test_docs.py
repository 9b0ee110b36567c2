"""The pages say what the program does: everything that it has is described, and everything that is described it has.

Settings, metrics and audit fields have tests of their own beside this one: `test_docs_*.py`.
"""

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import typer

from sidecar import config
from sidecar.cli.root import app
from sidecar.directory.file import read_people
from sidecar.metrics import METRICS, PREFIX
from sidecar.policy.file import compile_file
from sidecar.profiles import PROFILES
from sidecar.reasons import REASONS, Reason
from sidecar.settings import Settings
from tests import docs
from tests.docs import PAGES, ROOT
from tests.programs import require_program
from tests.test_docs_configuration import settings

TEXTS = {docs.name(page): page.read_text() for page in PAGES}
EXAMPLE = config.load(ROOT / "config" / "sidecar.example.yaml")


def marked(kind: str) -> list[Any]:
    return [
        pytest.param(text, id=f"{docs.name(page)} {number}")
        for page in PAGES
        for number, text in enumerate(docs.yaml_blocks(page, kind), 1)
    ]


# What is run and loaded


@pytest.mark.slow
@pytest.mark.parametrize(
    "page", [page for page in PAGES if docs.command_blocks(page) and page.name not in docs.HAS_ITS_OWN], ids=docs.name
)
def test_marked_commands_print_what_the_page_says(page: Path, tmp_path: Path) -> None:
    blocks = docs.command_blocks(page)
    for program in sorted({program for block in blocks for program in block.programs}):
        require_program(program)
    printed, complaints = docs.run(page, blocks, tmp_path)
    assert "Traceback" not in complaints
    for block, output in zip(blocks, printed, strict=True):
        assert block.output is not None, f"no output is told of:\n{block.commands}"
        assert docs.matches(block.output, output), f"{block.commands}\nprinted:\n{output}\n{complaints}"


@pytest.mark.parametrize("text", marked("config"))
def test_marked_configurations_load(text: str, tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text(text)
    assert config.load(tmp_path / "sidecar.yaml").upstreams


@pytest.mark.parametrize("text", marked("policy"))
def test_marked_policies_load(text: str) -> None:
    assert compile_file(
        text, "page.yaml", issuers=EXAMPLE.issuers, upstreams=EXAMPLE.upstreams, profiles=PROFILES
    ).routes


@pytest.mark.parametrize("text", marked("people"))
def test_marked_people_load(text: str) -> None:
    assert read_people(text.encode(), "page.yaml")


def test_every_page_with_yaml_marks_it() -> None:
    for page in PAGES:
        loaded = sum(len(docs.yaml_blocks(page, kind)) for kind in ("config", "policy", "people", "values"))
        assert len(docs.fences(page.read_text(), "yaml")) == loaded, docs.name(page)


def test_commands_that_are_not_run_are_those_of_a_checkout_or_a_cluster() -> None:
    """Everything that starts with `sidecar` or asks a running one is run."""
    not_here = ("make ", ". .venv/", ".venv/bin/python -m bench", "docker ", "kubectl ", "helm ")
    for page in PAGES:
        run = "".join(block.commands for block in docs.command_blocks(page))
        for fence in docs.fences(page.read_text(), "sh"):
            if fence not in run and page.name not in docs.HAS_ITS_OWN:
                for line in fence.splitlines():
                    assert line.startswith(not_here), line


def test_make_has_every_target_that_is_named() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page, text in TEXTS.items():
        named = re.findall(r"`make ([a-z-]+)", text)
        named += [
            word for fence in docs.fences(text, "sh") for word in re.findall(r"^make ([a-z-]+)", fence, re.MULTILINE)
        ]
        assert set(named) <= targets, page


# What the program has, both ways


def test_every_reason_is_described_as_the_program_has_it() -> None:
    described = [(code, int(status), hint) for (code, status, hint, _) in docs.rows(TEXTS["docs/reasons.md"])]
    assert sorted(described) == sorted((f"`{reason}`", row.status, row.hint) for reason, row in REASONS.items())


def test_reasons_stand_under_their_outcome() -> None:
    for section in TEXTS["docs/reasons.md"].split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        outcome = (docs.codes(title) or ["allow"])[0]
        assert {REASONS[Reason(docs.codes(code)[0])].outcome for code, *_ in docs.rows(body)} == {outcome}


def commands(command: Any, name: str) -> Iterator[tuple[str, set[str]]]:
    """Each command that does something, with its options and the names of its arguments."""
    inner = getattr(command, "commands", {})
    for word, subcommand in inner.items():
        yield from commands(subcommand, f"{name} {word}")
    own = {spelling for parameter in command.params for spelling in _spellings(parameter)}
    if own or not inner:
        yield name, own


def _spellings(parameter: Any) -> list[str]:
    if parameter.param_type_name == "option":
        return [*parameter.opts, *parameter.secondary_opts]
    return [re.findall(r"[A-Z]+", parameter.metavar or parameter.name.upper())[0]]


def test_every_command_and_option_is_described_and_no_other() -> None:
    described = {}
    for section in TEXTS["docs/cli.md"].split("\n## ")[1:]:
        title, _, body = section.partition("\n")
        described[docs.codes(title)[0]] = {word for cells in docs.rows(body) for word in docs.codes(cells[0])}
    assert described == dict(commands(typer.main.get_command(app), "sidecar"))


def test_every_command_that_a_page_names_exists() -> None:
    known = {f"{name} " for name, _ in commands(typer.main.get_command(app), "sidecar")}
    for page, text in TEXTS.items():
        for found in re.findall(r"`(sidecar [a-z][^`]*)`", text):
            said = f"{found} "
            assert any(name.startswith(said) or (name != "sidecar " and said.startswith(name)) for name in known), (
                f"{page}: {found}"
            )


def test_every_key_of_a_policy_is_described_and_no_other() -> None:
    described = {
        part.removesuffix("[]")
        for cells in docs.rows(TEXTS["docs/policy.md"])
        for part in docs.codes(cells[0])[0].split(".")
    }
    read = set()
    for module in ("policy/file", "policy/rules", "quotas"):
        source = (ROOT / "sidecar" / f"{module}.py").read_text()
        read |= set(re.findall(r'block\.(?:get|need|find)\("(\w+)"', source))
    assert described == read - {"glob"} | {"basic_file", "bearer_file", "trusted_public_keys"}


def test_what_policies_may_not_say_yet_is_named() -> None:
    source = (ROOT / "sidecar" / "policy" / "file.py").read_text()
    not_yet = TEXTS["docs/policy.md"].partition("## Not yet")[2]
    for word in re.findall(r'block\.refuse\("(\w+)", _NOT_YET\)', source):
        assert f"`{word}`" in not_yet


def test_every_rule_is_told_to_authors_and_those_without_a_case_as_not_yet() -> None:
    told = re.findall(r"^(\d+)\. (\*Not yet:\*)?", TEXTS["docs/policy.md"], re.MULTILINE)
    assert [int(number) for number, _ in told] == list(range(1, 27))  # a Markdown list counts by itself
    cases = {
        number
        for file in (ROOT / "config" / "cases").glob("*.yaml")
        for number in re.findall(r"name: \"?(\d+) ", file.read_text())
    }
    assert cases <= {number for number, not_yet in told if not not_yet}
    assert {number for number, not_yet in told if not_yet} == set()


def test_every_library_has_its_reason_and_is_asked_for() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    sections = TEXTS["docs/dependencies.md"].split("\n## ")[1:]
    extras = project["optional-dependencies"]
    for section, asked in zip(sections, (project["dependencies"], extras["aws"], extras["dev"]), strict=True):
        described = [docs.codes(cells[0])[0] for cells in docs.rows(section)]
        assert described == sorted(re.split(r"[^\w.-]", each)[0] for each in asked)


def test_every_environment_variable_is_described() -> None:
    read = set()
    for file in (ROOT / "sidecar").rglob("*.py"):
        read |= set(re.findall(r'(?:os\.environ\.get\(|envvar=)"(\w+)"', file.read_text()))
    described = {word for cells in docs.rows(TEXTS["docs/operations.md"]) for word in docs.codes(cells[0])}
    assert {word for word in described if re.fullmatch(r"[A-Z]+_[A-Z]+", word)} == read


def test_every_readiness_check_is_described() -> None:
    added = set()
    for file in (ROOT / "sidecar").rglob("*.py"):
        added |= set(re.findall(r'(?:checks\.add|Result)\(f?"([\w ]+(?:\{name\})?)"', file.read_text()))
    named = {name.replace("{name}", "NAME") for name in added} | {"worker N"}
    probes = TEXTS["docs/operations.md"].partition("## Probes")[2].partition("\n## ")[0]
    assert {word for cells in docs.rows(probes) for word in docs.codes(cells[0])} == named


def test_pages_name_only_metrics_and_settings_that_exist() -> None:
    metrics = {PREFIX + metric.name for metric in METRICS}
    known = {name for name, _, _ in settings(Settings)}
    sections = {name.partition(".")[0] for name in known if "." in name}
    for page, text in TEXTS.items():
        assert set(re.findall(r"\bsidecar_[a-z_]+[a-z]", text)) <= metrics, page
        for name in re.findall(r"`([a-z_]+(?:\[\])?\.[A-Za-z_.]+)`", text):
            if name.partition(".")[0] in sections:
                assert any(setting == name or setting.startswith(f"{name}.") for setting in known), f"{page}: {name}"


def test_the_way_through_the_code_names_every_part() -> None:
    page = TEXTS["docs/request.md"]
    parts = {f"sidecar/{path.name}" for path in (ROOT / "sidecar").glob("*.py") if path.name != "__init__.py"}
    parts |= {f"sidecar/{path.parent.name}/" for path in (ROOT / "sidecar").glob("*/__init__.py")}
    assert [part for part in sorted(parts) if part not in page] == []


# Pages among themselves


def test_the_index_names_every_page() -> None:
    index = TEXTS["docs/README.md"]
    named = set(re.findall(r"\]\(([\w-]+\.md)\)", index))
    assert named == {page.name for page in (ROOT / "docs").glob("*.md")} - {"README.md"}


@pytest.mark.parametrize("page", PAGES, ids=docs.name)
def test_links_and_files_resolve(page: Path) -> None:
    text = page.read_text()
    for link in re.findall(r"\]\(([^)]+)\)", docs.prose(text)):
        if not link.startswith("https://"):
            path, _, anchor = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link
    for path in re.findall(r"`((?:sidecar|tests|config|docs|bench|requirements|helm)/[\w./-]*)`", text):
        assert (ROOT / path).exists() or path == "bench/results/latest.json", path


def anchors(page: Path) -> set[str]:
    titles = re.findall(r"^#+ (.+)$", docs.prose(page.read_text()), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", [*PAGES, *sorted((ROOT / "config").rglob("*.yaml"))], ids=docs.name)
def test_no_page_names_one_machine_or_a_registry(page: Path) -> None:
    text = page.read_text()
    assert re.findall(r"(?<![\w.])/(?:home|root|work|tmp|mnt|Users|build)/\S*", text) == []
    assert (
        re.findall(r"pypi\.|pythonhosted|npmjs|ghcr\.io|docker\.io|quay\.io|proxy\.golang|crates\.io|deb\.debian", text)
        == []
    )


def test_lines_can_be_read() -> None:
    """Prose is at most 140 wide; tables, commands and samples are as wide as they must be."""
    for page, text in TEXTS.items():
        long = [line for line in docs.prose(text).splitlines() if len(line) > 140 and not line.startswith("|")]
        assert long == [], page
