"""JSON Schemas of policy files and of the file of people, for editors and for CI.

Law: what a schema refuses, the loader refuses. The loader refuses more (names that the configuration doesn't have, files that
contradict each other): the schema is for whoever writes, the loader decides.
"""

from sidecar.cli.schema_cases import case_parts
from sidecar.cli.schema_words import (
    BOOLEAN,
    BYTE_RATE,
    DATE,
    GLOB,
    KEY_GLOB,
    PERMISSIONS,
    RATE,
    TEXT,
    WHOLE_STARS,
    WORKSPACE,
    Schema,
    block,
    described,
    document,
    exactly_one,
    named,
    one_of,
    refer,
    several,
)
from sidecar.model import LEVELS, PrincipalKind
from sidecar.policy.rules import PERMISSION_WORDS
from sidecar.profiles import PROFILES

_PATH: Schema = {
    "type": "string",
    "pattern": "^(/|(/(?!\\.{1,2}(/|$))[A-Za-z0-9._~@+=:,-]+)+)$",
}
_OF_PEOPLE: Schema = {
    "properties": {
        "kinds": {"items": {"enum": [PrincipalKind.PERSONAL.value, PrincipalKind.ACCESS_KEY.value]}, "minItems": 1}
    },
    "required": ["kinds"],
}
_QUOTA = block(
    requests=described(RATE, "As 100/s or 6000/m."),
    bytes=described(BYTE_RATE, "As 100MiB/s or 10GiB/h, both ways."),
    streams=described({"type": "integer", "minimum": 1}, "Requests at once."),
)


def policy_schema() -> Schema:
    keys = {
        "workspace": described(WORKSPACE, "The workspace's name."),
        "routes": several(refer("route"), 1, unique=False),
        "anonymous": described(refer("level"), "What callers without a token may do."),
        "members": block(
            "Whose personal tokens open this workspace.",
            users=several(TEXT),
            groups=described(several(TEXT), "The directory's groups."),
        ),
        "personal_tokens": described(refer("level"), "The most that a member's personal token may do."),
        "ci_tokens": described(refer("level"), "The most that a CI token of this workspace may do."),
        "rules": several(refer("rule"), unique=False),
        "write_once": described(BOOLEAN, "Whether replacing any key asks for overwrite."),
        "rate_limits": block(
            "What may be had of the store here.",
            token=described(_QUOTA, "Of each token."),
            workspace=described(_QUOTA, "Of all requests together."),
        ),
        "shares": described(several(TEXT), "Workspaces whose routes or keys may lie within this one's."),
        "settings": {
            **described(named(TEXT), "Texts for client profiles."),
            "properties": {
                "trusted_public_keys": described(
                    {"anyOf": [TEXT, several(TEXT, 1)]}, "Of nix: whose signatures count, as in nix.conf."
                )
            },
        },
        "mode": {
            "description": "enforce, or let through what only lacks a grant, and record it.",
            "oneOf": [
                {"const": "enforce"},
                block("", ["report"], report=block("", ["until"], until=described(DATE, "The last day."))),
            ],
        },
        "legacy": {
            **block(
                "The old shared password, for a while.",
                ["level", "until"],
                basic_file=described(TEXT, "A file that holds user:password."),
                bearer_file=described(TEXT, "A file that holds what follows Bearer."),
                level=one_of(word for word in LEVELS if LEVELS[word]),
                until=described(DATE, "The last day."),
            ),
            **exactly_one("basic_file", "bearer_file"),
        },
        "guard": described(BOOLEAN, "Whether the cases must hold before this file is served."),
        "cases": described(several(refer("case"), unique=False), "What this policy must answer."),
    }
    schema = block("One workspace. Nothing is allowed that no line here allows.", ["workspace", "routes"], **keys)
    return document("Policy of a workspace", schema, {**_policy_parts(), **case_parts()})


def people_schema() -> Schema:
    person = block(
        groups=several(TEXT),
        active=described(BOOLEAN, "Whoever is inactive keeps no access."),
        id=described(TEXT, "Names the person for good: a name that is given to somebody else inherits nothing."),
    )
    users = described(named(person), "By the name that members.users and tokens have.")
    return document("People", block("Who belongs where.", ["users"], users=users))


def _policy_parts() -> dict[str, Schema]:
    return {"level": one_of(LEVELS), "route": _route(), "rule": _rule(), "claim": _claim(), "claims": _claims()}


def _route() -> Schema:
    return block(
        "",
        ["path", "client", "upstream"],
        path=described(_PATH, "Requests at or below this path belong to the workspace."),
        client=described(one_of(PROFILES), "What a request means."),
        upstream=described(TEXT, "One of the configuration's upstreams."),
        upstream_path=described(_PATH, "Where the keys live in the upstream; the same path if left out."),
        verbs=described(
            named(one_of(PERMISSIONS), "^[A-Z][A-Z-]{0,31}$"), "What a method asks for here, as POST: read."
        ),
        content_address=described(
            {"const": "sha256"}, "Each key that is written ends in the digest of what is written."
        ),
        host=described(
            {"type": "string", "pattern": "^\\*(\\.[A-Za-z0-9]([A-Za-z0-9-]{0,61}[A-Za-z0-9])?)+$"},
            "Of s3: '*.' before the host behind which clients write the bucket, as '*.s3.internal'.",
        ),
        cas_writes=described(
            one_of(("open", "granted")), "Of bazel: open lets whoever may read write what its digest proves."
        ),
    )


def _rule() -> Schema:
    return {
        **block(
            "It matches when all that it states holds.",
            name=described(TEXT, "How the audit log calls it."),
            allow=several(one_of(PERMISSION_WORDS), 1),
            deny=several(one_of(PERMISSION_WORDS), 1),
            issuer=described(TEXT, "One of the configuration's issuers; the rule is about its JWTs alone."),
            claims=described({**named(refer("claim"), least=1)}, "What the JWT must claim."),
            groups=several(TEXT, 1),
            users=several(TEXT, 1),
            kinds=several(one_of(kind.value for kind in PrincipalKind), 1),
            path=described(KEY_GLOB, "A glob over the key: * within a segment, ** any number of whole ones."),
        ),
        **exactly_one("allow", "deny"),
        "dependentRequired": {"claims": ["issuer"]},
        "if": {"required": ["issuer"]},
        "then": {"properties": {"kinds": {"const": [PrincipalKind.JWT.value]}}},
        "else": {
            "allOf": [
                {"if": {"required": ["groups"]}, "then": _OF_PEOPLE},
                {"if": {"required": ["users", "kinds"]}, "then": _OF_PEOPLE},
                {
                    "if": {"required": ["allow"]},
                    "then": {
                        "anyOf": [
                            {"required": ["users"]},
                            {"required": ["groups"]},
                            {
                                "required": ["kinds"],
                                "properties": {"kinds": {"items": {"not": {"const": PrincipalKind.JWT.value}}}},
                            },
                        ]
                    },
                },
            ]
        },
    }


def _claim() -> Schema:
    return {
        "anyOf": [
            {"type": ["string", "integer", "boolean"]},
            {
                "type": "array",
                "minItems": 1,
                "items": {"anyOf": [{"type": ["string", "integer", "boolean"]}, refer("claims")]},
            },
            refer("claims"),
        ]
    }


def _claims() -> Schema:
    return {
        "anyOf": [
            block("", ["glob"], glob={**GLOB, "pattern": WHOLE_STARS}),
            {**named(refer("claim"), least=1), "properties": {"glob": False}},
        ]
    }
