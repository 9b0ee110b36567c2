"""Rules 11, 14, 15 and 16: which rules load, what they mean, and what is said of the others."""

import pytest

from sidecar.errors import DocumentError
from sidecar.model import Permission, PrincipalKind
from sidecar.policy.compiled import ClaimGlob, Rule, Workspace
from sidecar.policy.file import compile_file
from sidecar.policy.glob import Glob
from sidecar.settings import IssuerSettings

ISSUERS = {
    name: IssuerSettings(name, url, "cache", multi_tenant=name == "shared")
    for name, url in {
        "github": "https://token.actions.githubusercontent.com",
        "enterprise": "https://token.actions.githubusercontent.com/acme",
        "gitlab": "https://gitlab.com",
        "buildkite": "https://agent.buildkite.com",
        "circleci": "https://oidc.circleci.com/org/1",
        "corp": "https://idp.example.com",
        "shared": "https://login.example.com",
    }.items()
}
HEAD = "workspace: web\nroutes: [{path: /web, client: plain, upstream: store}]\n"


def load(text: str) -> Workspace:
    return compile_file(text, "web.yaml", issuers=ISSUERS, upstreams=["store"], profiles=["plain"])


def problems(text: str) -> list[str]:
    with pytest.raises(DocumentError) as caught:
        load(text)
    return [problem.message for problem in caught.value.problems]


def rule(text: str) -> Rule:
    return load(f"{HEAD}rules: [{text}]").rules[0]


def test_read_write_in_a_list_is_read_and_write() -> None:
    assert rule("{allow: [read-write, delete], users: [ada]}").allow == {
        Permission.READ,
        Permission.WRITE,
        Permission.DELETE,
    }


def test_a_rule_without_a_name_gets_its_number() -> None:
    text = "rules: [{name: first, deny: [read]}, {deny: [write]}]"
    assert [r.name for r in load(HEAD + text).rules] == ["first", "rule 2"]


def test_types_of_claims_are_what_they_look_like() -> None:
    text = '{a: "true", b: true, c: 7, d: "off", e: {glob: "r/*"}, k.io/x: {of: [1, "1"]}}'
    assert rule(f"{{deny: [read], issuer: corp, claims: {text}}}").claims == {
        "a": "true",
        "b": True,
        "c": 7,
        "d": "off",
        "e": ClaimGlob(Glob("r/*")),
        "k.io/x": {"of": (1, "1")},
    }


def test_all_kinds_of_principals_can_be_named() -> None:
    kinds = ", ".join(kind.value for kind in PrincipalKind)
    assert rule(f"{{deny: [read], kinds: [{kinds}]}}").kinds == set(PrincipalKind)


GOOD_RULES = [
    "{allow: [read], users: [ada]}",
    "{allow: [read], kinds: [anonymous], path: 'public/**'}",
    "{allow: [read], kinds: [personal, ci]}",
    "{allow: [read], kinds: [personal], groups: [team]}",
    "{allow: [read], kinds: [personal], users: [ada]}",
    "{allow: [read], kinds: [access_key]}",
    "{allow: [read], kinds: [access_key], groups: [team]}",
    "{deny: [read], kinds: [personal, access_key], users: [ada]}",
    "{allow: [read], issuer: corp}",
    "{allow: [read], issuer: corp, kinds: [jwt]}",
    "{allow: [read], issuer: corp, users: [ada], groups: [team]}",
    "{allow: [read], issuer: github, claims: {repository_id: '1'}}",
    "{allow: [read], issuer: github, claims: {repository_owner_id: ['1', '2'], ref: {glob: 'refs/heads/*'}}}",
    *(
        f"{{allow: [read], issuer: {issuer}, claims: {{{claim}: '1'}}}}"
        for issuer, claims in {
            "github": ("repository_id", "repository_owner_id"),
            "gitlab": ("project_id", "namespace_id", "job_project_id", "job_namespace_id"),
            "buildkite": ("organization_id", "pipeline_id"),
            "circleci": ("oidc.circleci.com/project-id", "oidc.circleci.com/org-id"),
        }.items()
        for claim in claims
    ),
    "{allow: [read], issuer: shared, claims: {project_id: '1'}}",
    "{allow: [read], issuer: shared, claims: {project_id: [1, '1']}}",
    "{deny: [read], issuer: corp, claims: {tenant_id: [1, '1'], level: 7, admin: true}}",
    "{deny: [read], issuer: gitlab, claims: {runner_id: 7}}",
    "{deny: [write]}",
    "{deny: [write], kinds: [jwt]}",
    "{deny: [write], issuer: github, claims: {event_name: pull_request}}",
]


@pytest.mark.parametrize("text", GOOD_RULES)
def test_rules_that_load(text: str) -> None:
    assert rule(text)


WHO = "an allow rule says who"
PIN = "serves everybody: an allow rule pins"
BAD_RULES = [
    ("read", "expected a mapping"),
    ("{users: [ada]}", "exactly one of 'allow' and 'deny'"),
    ("{allow: [read], deny: [write], users: [ada]}", "exactly one of 'allow' and 'deny'"),
    ("{allow: [], users: [ada]}", "an empty list says nothing"),
    ("{allow: read, users: [ada]}", "expected a list"),
    ("{allow: [wirte], users: [ada]}", "unknown permission 'wirte'; did you mean 'write'?"),
    ("{allow: [none], users: [ada]}", "unknown permission"),
    ("{allow: [read]}", WHO),
    ("{allow: [read], path: 'a/**'}", WHO),
    ("{allow: [read], kinds: [legacy]}", "no rule adds to it"),
    ("{allow: [read], kinds: [jwt]}", "lets in the JWTs of all issuers"),
    ("{allow: [read], kinds: [personal, jwt]}", "lets in the JWTs of all issuers"),
    ("{allow: [read], users: []}", "an empty list matches nobody"),
    ("{allow: [read], kinds: []}", "an empty list matches nobody"),
    ("{allow: [read], users: [ada], claims: {a: b}}", "say which 'issuer'"),
    ("{allow: [read], claims: {a: b}}", "say which 'issuer'"),
    ("{deny: [read], claims: {a: b}}", "say which 'issuer'"),
    ("{allow: [read], groups: [team]}", "need their 'issuer'"),
    ("{allow: [read], groups: [team], kinds: [jwt]}", "need their 'issuer'"),
    ("{allow: [read], groups: [team], kinds: [personal, jwt]}", "need their 'issuer'"),
    ("{deny: [read], users: [ada], kinds: [jwt]}", "those of personal tokens"),
    ("{deny: [read], users: [ada], kinds: [access_key, ci]}", "those of personal tokens"),
    ("{deny: [read], issuer: corp, kinds: [personal]}", "about its JWTs alone"),
    ("{allow: [read], issuer: crop}", "unknown issuer 'crop'; did you mean 'corp'?"),
    ("{allow: [read], issuer: github}", f"GitHub {PIN}"),
    ("{allow: [read], issuer: github, users: ['repo:o/r:ref:refs/heads/main']}", PIN),
    ("{allow: [read], issuer: github, claims: {repository: o/r}}", PIN),
    ("{allow: [read], issuer: github, claims: {repository_id: {glob: '*'}}}", PIN),
    ("{allow: [read], issuer: github, claims: {repository_id: ['1', {glob: '*'}]}}", PIN),
    ("{allow: [read], issuer: github, claims: {repository_id: ''}}", PIN),
    ("{allow: [read], issuer: github, claims: {project_id: '1'}}", PIN),
    ("{allow: [read], issuer: github, claims: {repository_id: 1}}", 'ids are text in tokens: write "1"'),
    ("{allow: [read], issuer: github, claims: {repository_id: ['1', 2]}}", 'ids are text in tokens: write "2"'),
    ("{deny: [write], issuer: github, claims: {repository_id: 123456}}", 'ids are text in tokens: write "123456"'),
    ("{deny: [write], issuer: github, claims: {run_attempt: 1}}", 'claims are all text: write "1"'),
    ("{deny: [write], issuer: github, claims: {ref_protected: false}}", 'claims are all text: write "false"'),
    ("{deny: [write], issuer: enterprise, claims: {ref_protected: true}}", 'claims are all text: write "true"'),
    ("{deny: [write], issuer: gitlab, claims: {project_id: 1}}", 'ids are text in tokens: write "1"'),
    ("{deny: [write], issuer: circleci, claims: {oidc.circleci.com/org-id: 1}}", 'ids are text in tokens: write "1"'),
    ("{deny: [write], issuer: corp, claims: {tenant_id: true}}", 'ids are text in tokens: write "true"'),
    ("{deny: [write], issuer: corp, claims: {org: {tenant_id: [1]}}}", 'ids are text in tokens: write "1"'),
    ("{deny: [write], issuer: corp, claims: {org: [{tenant_id: 1}]}}", 'ids are text in tokens: write "1"'),
    ("{allow: [read], issuer: enterprise, groups: [team]}", f"GitHub {PIN}"),
    ("{allow: [read], issuer: gitlab, claims: {project_path: g/p}}", f"GitLab {PIN}"),
    ("{allow: [read], issuer: buildkite, claims: {organization_slug: o}}", f"Buildkite {PIN}"),
    ("{allow: [read], issuer: circleci, claims: {project-id: '1'}}", f"CircleCI {PIN}"),
    ("{allow: [read], issuer: shared, groups: [team]}", f"the issuer 'shared' {PIN}"),
    ("{allow: [read], issuer: corp, claims: {}}", "an empty mapping says nothing"),
    ("{allow: [read], issuer: corp, claims: {a: []}}", "an empty list matches nothing"),
    ("{allow: [read], issuer: corp, claims: {a: [[b]]}}", "a list in a list"),
    ("{allow: [read], issuer: corp, claims: {a: {}}}", "an empty mapping says nothing"),
    ("{allow: [read], issuer: corp, claims: {a: }}", "nothing is written here"),
    ("{allow: [read], issuer: corp, claims: {a: 12:30}}", "quote it"),
    ("{allow: [read], issuer: corp, claims: {a: {glob: 'x', b: c}}}", "'glob' stands alone"),
    ("{allow: [read], issuer: corp, claims: {a: {glob: 'x**'}}}", "'**' is a whole segment"),
    ("{deny: [read], path: /releases/**}", "no leading slash"),
    ("{deny: [read], path: 'a/../b'}", "never has a segment"),
    ("{deny: [read], path: 'a**'}", "'**' is a whole segment"),
    ("{deny: [read], nmae: x}", "unknown key 'nmae'; did you mean 'name'?"),
    ("{deny: [read], kinds: [robot]}", "unknown kind"),
    ("{name: a, deny: [read]}, {name: a, deny: [read]}", "used in line 3 already"),
    ("{name: rule 2, deny: [read]}, {deny: [read]}", "used in line 3 already"),
]


@pytest.mark.parametrize(("text", "message"), BAD_RULES)
def test_rules_that_do_not_load(text: str, message: str) -> None:
    found = problems(f"{HEAD}rules: [{text}]")
    assert any(message in problem for problem in found), found
    assert len(found) == 1, found
