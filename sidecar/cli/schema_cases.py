"""JSON Schemas of cases: of a file of them, and of those that stand in a policy file. What the schema is for: `schema_policy.py`."""

from sidecar.cli.schema_words import (
    BOOLEAN,
    DATE,
    KEY_GLOB,
    PERMISSIONS,
    TEXT,
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
from sidecar.policy.rules import PERMISSION_WORDS
from sidecar.reasons import Reason

_SCOPE = block(
    "",
    ["workspace"],
    workspace=TEXT,
    permissions=several(one_of(PERMISSION_WORDS), 1),
    path=KEY_GLOB,
)
_LIMITS = {
    "scopes": described(several(_SCOPE), "What the token is made for, place by place; in place of workspaces."),
    "workspaces": described(several(TEXT), "The token's own limit."),
    "permissions": described(several(one_of(PERMISSION_WORDS), 1), "The token's own limit."),
    "path": described(KEY_GLOB, "The token's own limit: a glob over the key."),
}


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
            workspace=WORKSPACE,
            guard=described(BOOLEAN, "Whether the cases must hold before the workspace's policy is served."),
            cases=several(refer("case"), unique=False),
            load=several(load, unique=False),
        ),
        "oneOf": [
            {"required": ["workspace", "cases"], "properties": {"load": False}},
            {"required": ["load"], "properties": {"workspace": False, "guard": False, "cases": False}},
        ],
    }
    return document("Cases of policies", schema, case_parts())


def case_parts() -> dict[str, Schema]:
    action: Schema = {
        **block(**{word: described(TEXT, "A key.") for word in PERMISSIONS}, creates=BOOLEAN, below=BOOLEAN),
        **exactly_one(*PERMISSIONS),
    }
    answers = ["allow", *(reason.value for reason in Reason if reason is not Reason.GRANTED)]
    case: Schema = {
        **block(
            "Who asks for what, and what the answer must be.",
            ["name", "who", "expect"],
            name=TEXT,
            who=_who(),
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


def _who() -> Schema:
    row: Schema = {"anyOf": [{"const": "unknown"}, block(active=BOOLEAN, groups=several(TEXT), id=TEXT)]}
    not_both: Schema = {"not": {"required": ["scopes", "workspaces"]}}
    sent: Schema = {"type": "object", "minProperties": 1}
    by_access_key = described(BOOLEAN, "Not the token is sent, its access key signs.")
    return {
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
