"""The JSON Schemas: valid ones, kept current in `config/schemas`, strict, and of one mind with the loader.

Files are read here as an editor reads them: by YAML 1.2's core schema, in which `off` and `2026-12-31` are text.
"""

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import yaml
from typer.testing import CliRunner

from sidecar import config
from sidecar.cli.policy import app
from sidecar.cli.policy_schema import For, rendered
from sidecar.cli.schema_cases import cases_schema
from sidecar.cli.schema_config import config_schema
from sidecar.cli.schema_policy import people_schema, policy_schema
from sidecar.cli.schema_words import DRAFT, block
from sidecar.directory.file import read_people
from sidecar.errors import DocumentError
from sidecar.policy.cases import read_case_file
from sidecar.policy.file import compile_file
from sidecar.profiles import PROFILES
from tests import docs
from tests.docs import PAGES

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "config"
FILES = sorted(CONFIG.rglob("*.yaml"))
MODELINE = re.compile(r"# yaml-language-server: \$schema=(\S+)\n")
SCHEMAS = {kind: json.loads(rendered(kind)) for kind in For}


class Core(yaml.SafeLoader):
    """YAML 1.2's core schema, as far as it matters here."""


Core.yaml_implicit_resolvers = {}
Core.add_implicit_resolver("tag:yaml.org,2002:bool", re.compile("(true|false)$"), list("tf"))
Core.add_implicit_resolver("tag:yaml.org,2002:null", re.compile("(|null|~)$"), ["", "n", "~"])
Core.add_implicit_resolver("tag:yaml.org,2002:int", re.compile("[-+]?[0-9]+$"), list("-+0123456789"))


def as_an_editor_reads(text: str) -> Any:
    return yaml.load(text, Core)


def complaints(kind: For, text: str) -> list[str]:
    validator = jsonschema.Draft202012Validator(SCHEMAS[kind])
    return [f"{error.json_path}: {error.message}" for error in validator.iter_errors(as_an_editor_reads(text))]


def kind_of(schema: str) -> For:
    return For(Path(schema).name.partition(".")[0])


@pytest.mark.parametrize("kind", For)
def test_each_is_a_schema_of_the_draft_that_it_names(kind: For) -> None:
    assert SCHEMAS[kind]["$schema"] == DRAFT == "https://json-schema.org/draft/2020-12/schema"
    jsonschema.Draft202012Validator.check_schema(SCHEMAS[kind])


@pytest.mark.parametrize("kind", For)
def test_the_files_in_config_are_current(kind: For) -> None:
    kept = CONFIG / "schemas" / f"{kind}.schema.json"
    assert kept.read_bytes() == rendered(kind), f"run: make schemas, or: sidecar policy schema --for {kind} > {kept}"


@pytest.mark.parametrize(("arguments", "kind"), [([], For.POLICY), *((["--for", kind], kind) for kind in For)])
def test_the_command_prints_them(arguments: list[str], kind: For) -> None:
    result = CliRunner().invoke(app, ["schema", *arguments])
    assert (result.exit_code, json.loads(result.stdout)) == (0, SCHEMAS[kind])


@pytest.mark.parametrize("kind", For)
def test_no_mapping_takes_keys_that_nobody_reads(kind: For) -> None:
    """Each says which keys it has, or that any is a name and what its value is."""

    def mappings(node: Any) -> Any:
        if isinstance(node, dict):
            if "properties" in node and "type" in node:
                yield node
            for member in node.values():
                yield from mappings(member)
        elif isinstance(node, list):
            for member in node:
                yield from mappings(member)

    found = list(mappings(SCHEMAS[kind]))
    assert found
    assert all(node["additionalProperties"] is False or "propertyNames" in node for node in found)


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(CONFIG)))
def test_each_file_in_config_names_its_schema_and_obeys_it(file: Path) -> None:
    text = file.read_text()
    match = MODELINE.match(text)
    assert match is not None, "the editor's line is missing"
    schema = (file.parent / match[1]).resolve()
    assert schema.parent == CONFIG / "schemas"
    kind = kind_of(match[1])
    assert kind == {"policies": For.POLICY, "cases": For.CASES, "people.yaml": For.PEOPLE}.get(
        file.name if file.name == "people.yaml" else file.parent.name, For.CONFIG
    )
    assert complaints(kind, text) == []


@pytest.mark.parametrize(("mark", "kind"), [("policy", For.POLICY), ("people", For.PEOPLE), ("config", For.CONFIG)])
def test_what_the_pages_show_obeys_the_schemas(mark: str, kind: For) -> None:
    texts = [text for page in PAGES for text in docs.yaml_blocks(page, mark)]
    assert texts
    assert [complaints(kind, text) for text in texts] == [[]] * len(texts)


# The loader's mind

ISSUERS = config.load(CONFIG / "sidecar.example.yaml").issuers
HEAD = "workspace: web\nroutes: [{path: /web, client: plain, upstream: artifacts}]\n"
CASE = "workspace: web\ncases: [{%s}]\n"


def loads(kind: For, text: str, tmp_path: Path) -> bool:
    try:
        if kind is For.POLICY:
            compile_file(text, "a.yaml", issuers=ISSUERS, upstreams=None, profiles=PROFILES)
        elif kind is For.CASES:
            read_case_file(text, "a.yaml", None)
        elif kind is For.PEOPLE:
            read_people(text.encode(), "people.yaml")
        else:
            (tmp_path / "sidecar.yaml").write_text(text)
            config.load(tmp_path / "sidecar.yaml")
    except DocumentError:
        return False
    return True


EXAMPLE = (CONFIG / "sidecar.example.yaml").read_text()
BAD = {
    For.POLICY: [
        "routes: []",
        "workspace: web",
        "workspace: web\nroutes: []",
        "workspace: '-'\nroutes: [{path: /web, client: plain, upstream: a}]",
        "workspace: web\nroutes: [{path: web, client: plain, upstream: a}]",
        "workspace: web\nroutes: [{path: /web/, client: plain, upstream: a}]",
        "workspace: web\nroutes: [{path: /web/../a, client: plain, upstream: a}]",
        "workspace: web\nroutes: [{path: /web//a, client: plain, upstream: a}]",
        "workspace: web\nroutes: [{path: /web, client: plane, upstream: a}]",
        "workspace: web\nroutes: [{path: /web, client: plain}]",
        "workspace: web\nroutes: [{path: /web, client: plain, upstream: a, verbs: {get: read}}]",
        "workspace: web\nroutes: [{path: /web, client: plain, upstream: a, verbs: {GET: read-write}}]",
        "workspace: web\nroutes: [{path: /web, client: plain, upstream: a, legacy: true}]",
        HEAD + "member: {}",
        HEAD + "members: [ada]",
        HEAD + "members: {users: [ada, ada]}",
        HEAD + "members: {people: [ada]}",
        HEAD + "anonymous: delete",
        HEAD + "anonymous: off",
        HEAD + "ci_tokens: [read]",
        HEAD + "write_once: yes",
        HEAD + "write_once: 'true'",
        HEAD + "settings: [a]",
        HEAD + "settings: {a: {b: c}}",
        HEAD + "mode: report",
        HEAD + "mode: {report: {}}",
        HEAD + "mode: {report: {until: soon}}",
        HEAD + "mode: {enforce: true}",
        HEAD + "legacy: {level: read, until: 2026-12-31}",
        HEAD + "legacy: {basic_file: a, bearer_file: b, level: read, until: 2026-12-31}",
        HEAD + "legacy: {basic_file: a, level: none, until: 2026-12-31}",
        HEAD + "legacy: {basic_file: a, level: read}",
        HEAD + "legacy: {basic_file: a, level: read, until: 31.12.2026}",
        HEAD + "guard: 1",
        HEAD + "cases: [{name: a}]",
        HEAD + "rules: {}",
        HEAD + "rules: [{name: a}]",
        HEAD + "rules: [{allow: [read]}]",
        HEAD + "rules: [{allow: [read], deny: [read], users: [ada]}]",
        HEAD + "rules: [{allow: [], users: [ada]}]",
        HEAD + "rules: [{allow: [raed], users: [ada]}]",
        HEAD + "rules: [{allow: read, users: [ada]}]",
        HEAD + "rules: [{allow: [read], users: []}]",
        HEAD + "rules: [{allow: [read], claims: {a: b}, users: [ada]}]",
        HEAD + "rules: [{allow: [read], groups: [team]}]",
        HEAD + "rules: [{deny: [read], groups: [team], kinds: [jwt]}]",
        HEAD + "rules: [{deny: [read], users: [ada], kinds: [ci]}]",
        HEAD + "rules: [{allow: [read], kinds: [jwt]}]",
        HEAD + "rules: [{allow: [read], kinds: [ci, jwt]}]",
        HEAD + "rules: [{allow: [read], kinds: []}]",
        HEAD + "rules: [{allow: [read], kinds: [robot]}]",
        HEAD + "rules: [{allow: [read], issuer: corp, kinds: [personal]}]",
        HEAD + "rules: [{allow: [read], issuer: corp, claims: {}}]",
        HEAD + "rules: [{allow: [read], issuer: corp, claims: {a: []}}]",
        HEAD + "rules: [{allow: [read], issuer: corp, claims: {a: [[b]]}}]",
        HEAD + "rules: [{allow: [read], issuer: corp, claims: {a: {}}}]",
        HEAD + "rules: [{allow: [read], issuer: corp, claims: {a: {glob: 'a**'}}}]",
        HEAD + "rules: [{allow: [read], issuer: corp, claims: {a: {glob: a, b: c}}}]",
        HEAD + "rules: [{deny: [read], path: /a}]",
        HEAD + "rules: [{deny: [read], path: a**}]",
        HEAD + "rules: [{deny: [read], path: ''}]",
        HEAD + "rules: [{deny: [read], when: now}]",
    ],
    For.CASES: [
        "workspace: web",
        "cases: []",
        "workspace: web\ncases: {}",
        "workspace: web\ncases: []\nguard: on",
        "workspace: web\ncases: []\nload: []",
        "load: [{name: a, files: {}}]",
        "load: [{name: a, files: {}, loads: -1}]",
        *(
            CASE % case
            for case in (
                "name: a",
                "who: anonymous, ask: GET /, expect: allow",
                "name: a, who: nobody, ask: GET /, expect: allow",
                "name: a, who: {}, ask: GET /, expect: allow",
                "name: a, who: {personal: ada, ci: web}, ask: GET /, expect: allow",
                "name: a, who: {ci: web, directory: unknown}, ask: GET /, expect: allow",
                "name: a, who: {ci: web, path: /a}, ask: GET /, expect: allow",
                "name: a, who: {ci: web, scopes: [{path: a}]}, ask: GET /, expect: allow",
                "name: a, who: {ci: web, scopes: [], workspaces: [web]}, ask: GET /, expect: allow",
                "name: a, who: {ci: web, id: '7'}, ask: GET /, expect: allow",
                "name: a, who: {ci: web, permissions: [raed]}, ask: GET /, expect: allow",
                "name: a, who: {jwt: github, path: a}, ask: GET /, expect: allow",
                "name: a, who: {legacy: web, path: a}, ask: GET /, expect: allow",
                "name: a, who: {personal: ada, directory: gone}, ask: GET /, expect: allow",
                "name: a, who: anonymous, ask: GET, expect: allow",
                "name: a, who: anonymous, ask: GET web, expect: allow",
                "name: a, who: anonymous, ask: GET /, expect: granted",
                "name: a, who: anonymous, ask: GET /, expect: allow, exists: maybe",
                "name: a, who: anonymous, ask: GET /, expect: allow, exist: true",
                "name: a, who: anonymous, ask: GET /, expect: allow, at: tomorrow",
                "name: a, who: anonymous, ask: GET /, expect: allow, headers: {a b: c}",
                "name: a, who: anonymous, expect: allow",
                "name: a, who: anonymous, ask: GET /, actions: [{read: a}], expect: allow",
                "name: a, who: anonymous, actions: [{}], expect: allow",
                "name: a, who: anonymous, actions: [{read: a, write: a}], expect: allow",
                "name: a, who: anonymous, actions: [{reed: a}], expect: allow",
                "name: a, who: anonymous, actions: [{read: a}], headers: {A: b}, expect: allow",
            )
        ),
    ],
    For.PEOPLE: [
        "people: {}",
        "users: [ada]",
        "users: {ada: {active: yes}}",
        "users: {ada: {group: [a]}}",
        "users: {ada: {groups: web}}",
        "users: {ada: active}",
    ],
    For.CONFIG: [
        "listen: 127.0.0.1:8080",
        EXAMPLE.replace("policies: ./policies", "policy: ./policies"),
        EXAMPLE.replace("ops: 127.0.0.1:9090", "ops: [127.0.0.1:9090]"),
        EXAMPLE.replace("first_byte: 30s", "first_byte: 30"),
        EXAMPLE.replace("first_byte: 30s", "last_byte: 30s"),
        EXAMPLE.replace("max_lifetime: 1h", "max_lifetime: an hour"),
        EXAMPLE.replace("required: true", "required: yes"),
        EXAMPLE.replace("required: true", "fsync: always"),
        EXAMPLE.replace("file: ./audit.jsonl", "path: ./audit.jsonl"),
        EXAMPLE.replace("brand: asc", "brand: {name: asc}"),
    ],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in BAD.items() for text in texts])
def test_the_schema_and_the_loader_refuse_the_same(kind: For, text: str, tmp_path: Path) -> None:
    assert complaints(kind, text) != []
    assert not loads(kind, text, tmp_path)


GOOD = {
    For.POLICY: [
        HEAD,
        HEAD + "shares: [a]\nsettings: {a: b}\nwrite_once: true\nmembers: {users: [], groups: [g]}\n",
        HEAD + "mode: enforce\nlegacy: {bearer_file: ./a, level: read-write, until: 2026-12-31}\nguard: true",
        HEAD + "mode: {report: {until: 2026-12-31}}",
        HEAD + "rules: [{deny: [read, overwrite], path: '**'}]",
        HEAD + "rules: [{deny: [admin], path: 'a/**/b*c/*'}]",
        HEAD + "rules: [{allow: [read], kinds: [ci]}, {allow: [write], groups: [g], kinds: [personal]}]",
        HEAD + "rules: [{allow: [read], issuer: corp, kinds: [jwt]}]",
        HEAD + "rules: [{allow: [read], issuer: corp, claims: {a: [b, 1, true], c: {d.e/f: {glob: x/*}, g: ''}}}]",
        HEAD + "cases: [{name: a, who: {ci: web, path: a/**}, actions: [{write: a, creates: true}], expect: allow}]",
        "workspace: web\nroutes: [{path: /, client: plain, upstream: a, upstream_path: /, verbs: {POST: read}}]",
        "workspace: web\nroutes: [{path: /a.b/..c, client: plain, upstream: a}]",
    ],
    For.CASES: [
        CASE % "name: a, who: anonymous, ask: GET /a b, expect: would_deny, at: 2027-01-01, headers: {Depth: '1'}",
        CASE % "name: a, who: {personal: a, directory: {}}, ask: PUT /a, exists: true, expect: allow, rule: r",
        CASE
        % "name: a, who: {jwt: a, claims: {a: [1, {b: c}]}, groups: []}, actions: [], expect: no_rule, workspace: b",
        CASE
        % "name: a, who: {personal: a, id: '7', directory: {id: '8'}, scopes: [{workspace: b}]}, ask: GET /, expect: allow",
        CASE % "name: a, who: {legacy: web}, ask: GET /a, expect: expired",
        "workspace: web\nguard: true\ncases: []",
        "load: []",
    ],
    For.PEOPLE: ["users: {}", "users: {ada: {}, bob: {active: false, groups: [a], id: '7'}}"],
}


@pytest.mark.parametrize(("kind", "text"), [(kind, text) for kind, texts in GOOD.items() for text in texts])
def test_the_schema_and_the_loader_take_the_same(kind: For, text: str, tmp_path: Path) -> None:
    assert complaints(kind, text) == []
    assert loads(kind, text, tmp_path)


READERS = {
    For.POLICY: ("policy/file.py", "policy/rules.py", "policy/cases.py", "quotas.py"),
    For.CASES: ("policy/cases.py",),
    For.PEOPLE: ("directory/file.py",),
}
BUILT = {
    For.POLICY: {"read", "write", "overwrite", "delete", "admin", "basic_file", "bearer_file", "trusted_public_keys"},
    For.CASES: {"read", "write", "overwrite", "delete", "admin"},
    For.PEOPLE: set(),
}
"""Keys whose names the readers put together."""
ELSEWHERE = {For.POLICY: {"load", "name", "files", "loads", "problems"}}


@pytest.mark.parametrize("kind", READERS)
def test_every_key_that_is_read_is_in_the_schema_and_no_other(kind: For) -> None:
    def keys(node: Any) -> set[str]:
        if isinstance(node, list):
            return {key for member in node for key in keys(member)}
        if not isinstance(node, dict):
            return set()
        own = (
            {key for key, value in node.get("properties", {}).items() if value is not False}
            if "type" in node
            else set()
        )
        return own.union(*(keys(member) for member in node.values()))

    read = set(BUILT[kind])
    for reader in READERS[kind]:
        text = (ROOT / "sidecar" / reader).read_text()
        read |= set(re.findall(r'(?:block\(\)|block|root)\s*\.(?:get|need|find)\(\s*"(\w+)"', text))
    assert keys(SCHEMAS[kind]) - ELSEWHERE.get(kind, set()) == read - ELSEWHERE.get(kind, set())


def test_a_key_of_a_mapping_may_be_called_anything() -> None:
    assert block("", ["name"], name={}, description={}, required={})["properties"].keys() == {
        "name",
        "description",
        "required",
    }


def test_schemas_are_made_anew_each_time() -> None:
    """Whoever changes what one call gave changes nothing for others."""
    for make in (policy_schema, cases_schema, people_schema, config_schema):
        made = make()
        before = json.dumps(made)
        made["properties"].clear()
        assert json.dumps(make()) == before
