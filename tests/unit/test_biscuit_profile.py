"""Which checks are accepted, and what each of the others is refused with: the published subset, case by case."""

import pytest

from sidecar.credentials.biscuit import meaning, wire
from sidecar.credentials.biscuit.facts import FACTS, NAMES, OPERATIONS
from sidecar.credentials.biscuit.profile import MOST_BLOCKS, OutOfProfile, examine
from sidecar.credentials.biscuit.spelling import decoded
from sidecar.errors import CredentialRefused
from sidecar.model import Permission
from tests.biscuits import holds, made, narrowed, principal, signed

ACCEPTED = [
    'check if operations($ops), {"store:read"}.contains($ops)',
    'check if operations($ops), !$ops.contains("store:write")',
    'check if operations($ops), !$ops.contains("account:write")',
    'check if operations($ops), !($ops.contains("store:write"))',
    'check if operations($ops), !$ops.contains({"store:write"})',
    'check if operations($ops), $ops == {"store:read"}',
    'check if operations({"store:read"})',
    "check if time($t), $t < 2030-01-01T00:00:00Z",
    "check if time($t), $t >= 2020-01-01T00:00:00Z, $t <= 2030-01-01T00:00:00Z",
    'check if workspace("web")',
    'check if workspace($w), $w == "web"',
    'check if path("a/b")',
    'check if path($p), $p.starts_with("a/") or path($p), $p.ends_with(".zip")',
    'check if path($p), $p.contains("-rc")',
    'check if path($p), $p.contains("/rc/")',
    'check if path($p), $p.ends_with("/latest")',
    'check if path($p), $p.matches("^releases/[^/]*/v[0-9]+\\\\.(zip|tgz)$")',
    'check if method("GET") or method("HEAD")',
    'check if setting("channel", "stable")',
    'check if setting("channel", $c), $c != "beta"',
    'check if setting("channel", $c), $c !== "beta"',
    'check if setting("channel", $c), $c === "beta"',
    'check if setting("prefix", $p), path($key), $key.starts_with($p)',
    'check if setting("own", $key), path($key)',
    'check if token_id("Abcdefgh1234")',
    'check if client_ip($ip), $ip.starts_with("10.1.")',
]

REFUSED = [
    ('check if operations($ops), !($ops.contains(["account:write"]))', '!$ops.contains("account:write")'),
    ('check if operations($ops), !$ops.contains(["a:b", "c:d"])', '!$ops.contains("a:b")'),
    ('check if operations($ops), $ops == ["store:read"]', "array"),
    ('check if operations(["store:read"])', "array"),
    ('check if operations($ops), !$ops.contains({"store:write", "store:delete"})', '!$ops.contains("store:delete")'),
    (
        'check if operations($ops), $ops.contains({"store:read", "store:write"})',
        '{"store:read", "store:write"}.contains($ops)',
    ),
    ('check if operations($ops), !{"store:write"}.contains($ops)', '!$ops.contains("store:write")'),
    ('check if operations($ops), $ops != {"store:write"}', '!$ops.contains("store:write")'),
    ('check if operations($ops), $ops !== {"store:write"}', '!$ops.contains("store:write")'),
    ('check if operations($ops), !($ops == {"store:write"})', '!$ops.contains("store:write")'),
    ('check if operations($ops), !$ops.contains("write")', 'write "store:write"'),
    ('check if operations($ops), !$ops.contains("store:wirte")', "there are: store:read"),
    ('check if path($p), $p.starts_with("/releases/")', 'write "releases/"'),
    ('check if path($p), $p.starts_with(("/releases/"))', 'write "releases/"'),
    ('check if path($p), $p !== ("/releases/a")', 'write "releases/a"'),
    ('check if path($p), $p === "/releases/a"', 'write "releases/a"'),
    ('check if path("/releases/a")', 'write "releases/a"'),
    ('check if path($p), $p.matches("releases/.*")', 'write "^releases/.*$"'),
    ('check if path($p), $p.matches("^/releases/.*$")', "no leading slash"),
    ('check if path($p), $p.matches("^a|b$")', "^(a|b)$"),
    ('check if path($p), !$p.matches("^(a$")', "parenthesis"),
    ('check if path($p), !$p.matches("^a)$")', "parentheses"),
    ('check if path($p), $p.matches("^a{100}$")', "'{'"),
    ('check if path($p), $p.matches("^\\\\w+$")', "not accepted in a regular expression"),
    ('check if path($p), $p.matches("^(?i)a$")', "not accepted in a regular expression"),
    ('check if path($p), $p.matches("^*$")', "not accepted in a regular expression"),
    ('check if path($p), $p.matches("^(a|*)$")', "not accepted in a regular expression"),
    ('check if path($p), $p.matches("^(*a)$")', "not accepted in a regular expression"),
    ('check if path($p), $p.matches("^a**$")', "not accepted in a regular expression"),
    (f'check if path($p), $p.matches("^{"." * 60}$")', "too long together"),
    ('check if path($p), setting("e", $e), $p.matches($e)', "written in the check itself"),
    ('check if method("get")', '"GET"'),
    ('check if method($m), $m !== "get"', '"GET"'),
    ("check if time($t)", "narrows nothing"),
    ('check if setting("channel", $c)', "narrows nothing"),
    ("check if true", "says nothing about the request"),
    ('check if "a" == "a"', "says nothing about the request"),
    ('check if time($t), $t < 2030-01-01T00:00:00Z, "a" == "a"', "says nothing about the request"),
    ('check if pth($p), $p == "a"', "no fact 'pth'"),
    ('check if resource("a")', "there are: time"),
    ('check if path($p, $q), $p == "a"', "1 term"),
    ('check if setting($n, $v), $v == "x"', "by its name"),
    ('check if path($p), $p == "a" || $p == "b"', "'or' between two alternatives"),
    ('check if path($p), $p.starts_with("a") && $p.ends_with("b")', "write a comma"),
    ('check if operations($ops), $ops.all($o -> $o == "store:read")', "instead of &&"),
    ("check if path($p), $p < 3", "a number"),
    ("check if path($p), $p.length() < 3", "the operator length"),
    ('check if time($t), $t == "2030"', "not accepted for a date and a text"),
    ('check if workspace({"web"})', "a set of texts"),
    ('check if path($p), time($p), $p == "a"', "that is never so"),
    ('check all operations($ops), $ops.contains("store:read")', "'check if'"),
    ('reject if path($p), $p == "a"', "'check if'"),
    ('check if path($p), $p == "a" trusting previous', "trust"),
    ("check if path($p), $p.extern::f()", "another library"),
    ("check if path(null)", "null"),
    (f"check if operations({'[' * 20}{']' * 20})", "within one another"),
    ('check if workspace("a"), path($p), method($m), time($t), $p == "a"', "at most 3 facts"),
    (" or ".join(['check if path("a")', *['path("b")'] * 4]).replace("or check if", "or"), "at most 4 alternatives"),
    ('check if path($p), $p != "a", $p != "b", $p != "c", $p != "d", $p != "e"', "at most 4 conditions"),
    (f'check if path($p), {"!" * 30}($p == "a")', "at most 32 values and operators"),
    ("; ".join(f'check if path("{number}")' for number in range(9)), "at most 8 checks"),
    (
        "check if workspace($w), {" + ", ".join(f'"w{number}"' for number in range(129)) + "}.contains($w)",
        "at most 128 members",
    ),
    ('operations({"store:write"})', "holds checks alone"),
    ("path($p) <- method($p)", "holds checks alone"),
]


@pytest.mark.parametrize("check", ACCEPTED)
def test_accepted(check: str) -> None:
    assert principal(narrowed(made(), check)).limits.checks is not None


@pytest.mark.parametrize(("check", "reason"), REFUSED)
def test_refused_with_what_was_meant(check: str, reason: str) -> None:
    with pytest.raises(CredentialRefused) as refused:
        principal(narrowed(made(), check))
    assert reason in refused.value.detail


def test_the_set_fails_closed_where_the_array_would_allow_everything() -> None:
    """The well-known example, in the form that works."""
    safe = narrowed(made(permissions=None), 'check if operations($ops), !$ops.contains("store:write")')
    assert {permission for permission in Permission if holds(safe, permission)} == {
        Permission.READ,
        Permission.DELETE,
        Permission.ADMIN,
    }


def test_a_token_is_narrowed_so_often_and_not_more() -> None:
    checks = ['check if path($p), $p.starts_with("a")'] * (MOST_BLOCKS + 1)
    assert principal(narrowed(made(), *checks[:-1]))
    with pytest.raises(CredentialRefused, match="more than 8 times"):
        principal(narrowed(made(), *checks))


def test_a_token_has_so_many_checks_in_all() -> None:
    block = "; ".join(f'check if path($p), $p != "{number}"' for number in range(7))
    assert principal(narrowed(made(), block))
    with pytest.raises(CredentialRefused, match="at most 16 checks in all"):
        principal(narrowed(made(), block, block))


def test_the_regular_expressions_of_a_token_may_cost_so_much() -> None:
    most = f'check if path($p), $p.matches("^{"." * 32}$")'
    assert principal(narrowed(made(), most))
    with pytest.raises(CredentialRefused, match="too long together"):
        principal(narrowed(made(), f'{most}; check if path($p), $p.matches("^a$")'))


def test_the_sets_of_a_token_have_so_many_members_together() -> None:
    def within(*members: str) -> wire.Block:
        return asking((wire.Value(wire.Set(members)), wire.Value(wire.Variable("p")), wire.Operator("contains", 2)))

    most = within(*map(str, range(128)))
    assert examine((wire.Block(), most))
    with pytest.raises(OutOfProfile, match="at most 128 members"):
        examine((wire.Block(), most, within("a")))


@pytest.mark.parametrize(("last", "prefixes_only"), [("starts_with", True), ("ends_with", False)])
@pytest.mark.parametrize("joined", ["&&", "||"])
def test_what_an_older_library_joins_is_looked_at_on_both_sides(joined: str, last: str, prefixes_only: bool) -> None:
    """Until version 3.3 of the format `&&` and `||` were operators as others are, of two truths."""
    path = wire.Value(wire.Variable("p"))
    begins = (path, wire.Value("a"), wire.Operator("starts_with", 2))
    expression = (*begins, path, wire.Value("b"), wire.Operator(last, 2), wire.Operator(joined, 2))
    asked = examine((wire.Block(), asking(expression)))
    assert asked.prefixes_only is prefixes_only
    with pytest.raises(OutOfProfile, match=r"not accepted for true or false and a text"):
        examine((wire.Block(), asking((*begins, path, wire.Operator(joined, 2)))))


def test_a_beginning_that_a_setting_names_is_not_known_beforehand() -> None:
    expression = (wire.Value(wire.Variable("p")), wire.Value(wire.Variable("s")), wire.Operator("starts_with", 2))
    setting = wire.Predicate("setting", ("prefix", wire.Variable("s")))
    asked = examine((wire.Block(), asking(expression, setting)))
    assert asked.settings == {"prefix"}
    assert not asked.prefixes_only


def asking(expression: wire.Expression, *others: wire.Predicate) -> wire.Block:
    query = wire.Query(predicates=(wire.Predicate("path", (wire.Variable("p"),)), *others), expressions=(expression,))
    return wire.Block(checks=(wire.Check("if", (query,)),))


SPELLED_BY_NUMBER = [
    "read",
    "write",
    "resource",
    "operation",
    "right",
    "time",
    "role",
    "owner",
    "tenant",
    "namespace",
    "user",
    "team",
    "service",
    "admin",
    "email",
    "group",
    "member",
    "ip_address",
    "client",
    "client_ip",
    "domain",
    "path",
    "version",
    "cluster",
    "node",
    "hostname",
    "nonce",
    "query",
]


def test_texts_that_have_a_number_of_their_own_are_what_the_library_means() -> None:
    """The format's table of default symbols: a token holds their places in it instead of their letters."""
    content = decoded(narrowed(made(), "; ".join(f'check if path("{text}")' for text in SPELLED_BY_NUMBER)))
    assert content is not None
    assert [check.queries[0].predicates[0].terms for check in wire.blocks(content)[-1].checks] == [
        (text,) for text in SPELLED_BY_NUMBER
    ]
    assert b"hostname" not in content


@pytest.mark.parametrize(
    "content",
    [b"\x0a\x05ab", b"\x0a\x05", b"\x09" + b"a" * 8, b"\x0d" + b"a" * 4, b"\x0b\x01", b"\x80", b"\x08", b"\x08" + b"\xff" * 10],
    ids=["cut off", "empty", "of 64 bits", "of 32 bits", "a group", "half a tag", "no value", "a number without end"],
)  # fmt: skip
def test_what_is_no_field_is_malformed(content: bytes) -> None:
    with pytest.raises(wire.Malformed):
        wire.count_blocks(content, MOST_BLOCKS)


def test_facts_of_the_first_block_are_few_and_named() -> None:
    with pytest.raises(OutOfProfile, match="at most 8 facts"):
        examine((wire.Block(facts=(wire.Predicate("a", ("b",)),) * 9),))
    with pytest.raises(CredentialRefused, match="token_id"):
        principal(signed('subject("build"); check if time($t), $t < 2030-01-01T00:00:00Z'))


def test_every_permission_has_its_operations_and_no_other_is_known() -> None:
    assert set().union(*OPERATIONS.values()) == set(NAMES)
    assert OPERATIONS.keys() == set(Permission)
    assert all(f"store:{permission}" in OPERATIONS[permission] for permission in Permission)


@pytest.mark.parametrize(
    ("check", "words"),
    [
        ("check if time($t), $t < 2030-01-01T00:00:00Z", "until 2030-01-01T00:00:00Z"),
        ("check if time($t), $t <= 2030-01-01T00:00:00Z", "until 2030-01-01T00:00:01Z"),
        ('check if operations($o), {"store:read", "store:delete"}.contains($o)', "only store:delete, store:read"),
        ('check if workspace("web")', "only in workspace web"),
        ('check if workspace($w), {"web", "docs"}.contains($w)', "only in workspaces docs, web"),
        (
            'check if path($p), $p == "a" or path($p), $p.starts_with("a/")',
            'only the key "a" or keys that begin with "a/"',
        ),
        ('check if path($p), $p.matches("^a$")', 'only keys that match "^a$"'),
        ('check if method("GET")', 'only if the check holds: check if method("GET")'),
        ('check if path("a"), method("GET")', 'only if the check holds: check if path("a"), method("GET")'),
        (
            'check if path($p), !($p.starts_with("a\\n\\"b"))',
            'only if the check holds: check if path($p), !($p.starts_with("a\ufffd\\"b"))',
        ),
    ],
)
def test_checks_in_plain_words(check: str, words: str) -> None:
    content = decoded(narrowed(made(), check))
    assert content is not None
    assert [meaning.in_words(each) for each in wire.blocks(content)[-1].checks] == [words]


def test_every_fact_is_published_with_its_meaning() -> None:
    assert all(fact.meaning for fact in FACTS.values())
