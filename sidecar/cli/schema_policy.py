"""JSON Schemas of policy files, of files of cases, and of the file of people, for editors and for CI.

Law: what a schema refuses, the loader refuses. The loader refuses more (names that the configuration doesn't have, files that
contradict each other): the schema is for whoever writes, the loader decides.
"""

from sidecar.cli.schema_words import (
    BOOLEAN,
    BYTE_RATE,
    DATE,
    RATE,
    TEXT,
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
from sidecar.model import LEVELS, Permission, PrincipalKind
from sidecar.policy.glob import MAX_PATTERN
from sidecar.policy.rules import PERMISSION_WORDS
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason

_PERMISSIONS = [permission.value for permission in Permission]
_WORKSPACE: Schema = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"}
_PATH: Schema = {
    "type": "string",
    "pattern": "^(/|(/(?!\\.{1,2}(/|$))[A-Za-z0-9._~@+=:,-]+)+)$",
}
_GLOB: Schema = {"type": "string", "minLength": 1, "maxLength": MAX_PATTERN}
_WHOLE_STARS = "^(\\*\\*|([^*/]|\\*(?!\\*))*)(/(\\*\\*|([^*/]|\\*(?!\\*))*))*$"
_KEY_GLOB: Schema = {**_GLOB, "pattern": f"^(?!/){_WHOLE_STARS[1:]}"}
_OF_PEOPLE: Schema = {
    "properties": {
        "kinds": {"items": {"enum": [PrincipalKind.PERSONAL.value, PrincipalKind.ACCESS_KEY.value]}, "minItems": 1}
    },
    "required": ["kinds"],
}
_SCOPE = block(
    "",
    ["workspace"],
    workspace=TEXT,
    permissions=several(one_of(PERMISSION_WORDS), 1),
    path=_KEY_GLOB,
)
_LIMITS = {
    "scopes": described(several(_SCOPE), "What the token is made for, place by place; in place of workspaces."),
    "workspaces": described(several(TEXT), "The token's own limit."),
    "permissions": described(several(one_of(PERMISSION_WORDS), 1), "The token's own limit."),
    "path": described(_KEY_GLOB, "The token's own limit: a glob over the key."),
}


_QUOTA = block(
    requests=described(RATE, "As 100/s or 6000/m."),
    bytes=described(BYTE_RATE, "As 100MiB/s or 10GiB/h, both ways."),
    streams=described({"type": "integer", "minimum": 1}, "Requests at once."),
)


def policy_schema() -> Schema:
    keys = {
        "workspace": described(_WORKSPACE, "The workspace's name."),
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
    return document("Policy of a workspace", schema, {**_policy_parts(), **_case_parts()})


def cases_schema() -> Schema:
    load = block(
        "A whole policy directory, and what is found wrong in it.",
        ["name", "files", "loads"],
        name=TEXT,
        files=described(named(TEXT), "File name and text."),
        loads=described({"type": "integer", "minimum": 0}, "How many of the files are served."),
        problems=described(several(TEXT), "How each problem begins."),
    )
    schema: Schema = {
        **block(
            "What a policy must answer.",
            workspace=_WORKSPACE,
            guard=described(BOOLEAN, "Whether the cases must hold before the workspace's policy is served."),
            cases=several(refer("case"), unique=False),
            load=several(load, unique=False),
        ),
        "oneOf": [
            {"required": ["workspace", "cases"], "properties": {"load": False}},
            {"required": ["load"], "properties": {"workspace": False, "guard": False, "cases": False}},
        ],
    }
    return document("Cases of policies", schema, _case_parts())


def people_schema() -> Schema:
    person = block(
        groups=several(TEXT),
        active=described(BOOLEAN, "Whoever is inactive keeps no access."),
        id=described(TEXT, "Names the person for good: a name that is given to somebody else inherits nothing."),
    )
    users = described(named(person), "By the name that members.users and tokens have.")
    return document("People", block("Who belongs where.", ["users"], users=users))


def _policy_parts() -> dict[str, Schema]:
    route = block(
        "",
        ["path", "client", "upstream"],
        path=described(_PATH, "Requests at or below this path belong to the workspace."),
        client=described(one_of(PROFILES), "What a request means."),
        upstream=described(TEXT, "One of the configuration's upstreams."),
        upstream_path=described(_PATH, "Where the keys live in the upstream; the same path if left out."),
        verbs=described(
            named(one_of(_PERMISSIONS), "^[A-Z][A-Z-]{0,31}$"), "What a method asks for here, as POST: read."
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
    claim: Schema = {
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
    claims: Schema = {
        "anyOf": [
            block("", ["glob"], glob={**_GLOB, "pattern": _WHOLE_STARS}),
            {**named(refer("claim"), least=1), "properties": {"glob": False}},
        ]
    }
    rule: Schema = {
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
            path=described(_KEY_GLOB, "A glob over the key: * within a segment, ** any number of whole ones."),
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
    return {"level": one_of(LEVELS), "route": route, "rule": rule, "claim": claim, "claims": claims}


def _case_parts() -> dict[str, Schema]:
    action: Schema = {
        **block(**{word: described(TEXT, "A key.") for word in _PERMISSIONS}, creates=BOOLEAN, below=BOOLEAN),
        **exactly_one(*_PERMISSIONS),
    }
    row: Schema = {"anyOf": [{"const": "unknown"}, block(active=BOOLEAN, groups=several(TEXT), id=TEXT)]}
    not_both: Schema = {"not": {"required": ["scopes", "workspaces"]}}
    sent: Schema = {"type": "object", "minProperties": 1}
    by_access_key = described(BOOLEAN, "Not the token is sent, its access key signs.")
    who: Schema = {
        "oneOf": [
            {"const": "anonymous"},
            {
                **block(
                    "",
                    ["personal"],
                    personal=described(TEXT, "The token's owner."),
                    id=described(TEXT, "The owner's id in the directory, when the token was made."),
                    directory=described(row, "The owner's row in the directory; no directory if left out."),
                    access_key=by_access_key,
                    **_LIMITS,
                ),
                **not_both,
            },
            {
                **block("", ["ci"], ci=described(TEXT, "The token's workspace."), access_key=by_access_key, **_LIMITS),
                **not_both,
            },
            {
                **block("", ["biscuit"], biscuit=described(TEXT, "The subject of a Biscuit."), **_LIMITS),
                **not_both,
            },
            block(
                "",
                ["jwt"],
                jwt=described(TEXT, "One of the configuration's issuers."),
                subject=TEXT,
                groups=several(TEXT),
                claims=sent,
            ),
            block("", ["legacy"], legacy=described(TEXT, "The workspace whose old shared password is sent.")),
        ]
    }
    answers = ["allow", *(reason.value for reason in Reason if reason is not Reason.GRANTED)]
    case: Schema = {
        **block(
            "Who asks for what, and what the answer must be.",
            ["name", "who", "expect"],
            name=TEXT,
            who=who,
            ask=described({"type": "string", "pattern": "^[^ ]+ /"}, "A request: method and path, as GET /web/a."),
            headers=described(named(TEXT, "^[A-Za-z0-9-]{1,64}$"), "What the request says besides."),
            actions=described(several(action, unique=False), "In place of a request: permissions on keys."),
            exists=described(BOOLEAN, "Whether the key exists, where it matters."),
            expect=described(one_of(answers), "allow, or a reason code."),
            rule=described(TEXT, "The rule that must have decided."),
            workspace=described(TEXT, "Whose keys the actions are on; this file's if left out."),
            at=described(DATE, "The day on which it is asked, for what ends; today if left out."),
        ),
        **exactly_one("ask", "actions"),
        "dependentRequired": {"headers": ["ask"]},
    }
    return {"case": case}
