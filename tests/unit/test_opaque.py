"""Tokens issued here: only what was minted is accepted, and only while its row is as it was written."""

import re
import string
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from sidecar.credentials import opaque, patterns
from sidecar.credentials.opaque import OpaqueVerifier, TokenFormat, checksum
from sidecar.credentials.pepper import Pepper, Peppers, PepperUnusable
from sidecar.credentials.token_row import TokenRow, sealed
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import Limits, Permission, PrincipalKind, Secret
from sidecar.reasons import Reason

NOW = 1_800_000_000
SPELLING = TokenFormat("asc")
PEPPER = Pepper(b"0f1e2d3c4b5a69788796a5b4c3d2e1f00123456789abcdef")
OTHER_PEPPER = Pepper(b"ffeeddccbbaa99887766554433221100fedcba9876543210")


class Shelf:
    """A `TokenLookup` that counts how often it is asked."""

    def __init__(self, rows: Sequence[TokenRow] = (), down: bool = False) -> None:
        self.rows = {row.id: row for row in rows}
        self.down = down
        self.asked = 0

    async def get(self, token_id: str) -> TokenRow | None:
        self.asked += 1
        if self.down:
            raise Unavailable(Reason.TOKEN_STORE_UNAVAILABLE)
        return self.rows.get(token_id)


def issue(
    kind: PrincipalKind = PrincipalKind.PERSONAL, pepper: Pepper = PEPPER, **columns: object
) -> tuple[Secret, TokenRow]:
    token_id, token = SPELLING.mint(kind)
    row = TokenRow(
        id=token_id,
        kind=str(kind),
        subject="alice",
        name="laptop",
        workspaces="web" if kind is PrincipalKind.CI else None,
        permissions=None,
        path=None,
        created_at=NOW,
        created_by="root",
        expires_at=NOW + 3600,
        revoked_at=None,
        revoked_by=None,
        pepper_id=pepper.id,
        digest=pepper.digest(token.reveal()),
        mac="",
    )
    return token, sealed(replace(row, **columns), pepper)


def verifier(*rows: TokenRow) -> OpaqueVerifier:
    return OpaqueVerifier(SPELLING, Peppers(PEPPER), Shelf(rows))


async def refusal(of: OpaqueVerifier, token: Secret, now: float = NOW) -> CredentialRefused:
    with pytest.raises(CredentialRefused) as refused:
        await of.verify(token, now)
    return refused.value


# The spelling


def test_a_token_is_spelled_as_published() -> None:
    token_id, token = SPELLING.mint(PrincipalKind.CI)
    text = token.reveal()
    assert re.fullmatch(r"asc_ci_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}", text)
    assert re.fullmatch(patterns.opaque(SPELLING.brand), text)
    assert text.split("_")[2] == token_id
    assert text.endswith(checksum(text[:-6]))


def test_the_checksum_is_a_fixed_function() -> None:
    """Scanners outside of this program implement it: CRC32 of "a" is 0xe8b7be43, 3904355907 in base62 with six digits."""
    value = 3904355907
    digits = string.digits + string.ascii_uppercase + string.ascii_lowercase
    expected = ""
    while value:
        value, digit = divmod(value, 62)
        expected = digits[digit] + expected
    assert checksum("a") == expected.rjust(6, "0")


def test_secrets_and_ids_do_not_repeat() -> None:
    minted = [SPELLING.mint(PrincipalKind.PERSONAL) for _ in range(500)]
    assert len({token_id for token_id, _ in minted}) == 500
    assert len({token.reveal()[21:64] for _, token in minted}) == 500


@pytest.mark.parametrize(
    "text", ["", "x", "ghp_123", "asc", "asc_", "asc_xyz_1", "ASC_pat_1", " asc_pat_1", "ascc_pat_1"]
)
def test_what_is_not_spelled_as_ours_is_not_ours(text: str) -> None:
    assert SPELLING.parse(Secret(text)) is None


def malformed() -> list[str]:
    text = SPELLING.mint(PrincipalKind.PERSONAL)[1].reveal()
    body = text[:-6]
    longer = body + "0"
    return [
        "asc_pat_",
        "asc_ci_",
        text[:-1],
        text + "0",
        text + "\n",
        text + " ",
        text.replace("_pat_", "_ci_"),
        text.replace("_pat_", "_pat__"),
        longer + checksum(longer),
        "asc_pat_" + text[8:20] + "-" + text[21:],
        text[:30] + "é" + text[31:],
        text[:30] + "\ud800" + text[31:],
        text[:30] + "\0" + text[31:],
        text[:30] + "\u0661" + text[31:],
    ]


@pytest.mark.parametrize("text", malformed())
async def test_ours_but_malformed_is_refused_without_a_lookup(text: str) -> None:
    shelf = Shelf()
    refused = await refusal(OpaqueVerifier(SPELLING, Peppers(PEPPER), shelf), Secret(text))
    assert refused.reason is Reason.BAD_TOKEN
    assert shelf.asked == 0


TOKEN, ROW = issue()


@given(st.integers(8, len(TOKEN.reveal()) - 1), st.characters())
async def test_every_single_wrong_character_is_refused_without_a_lookup(place: int, character: str) -> None:
    text = TOKEN.reveal()
    if text[place] == character:
        return
    shelf = Shelf([ROW])
    refused = await refusal(
        OpaqueVerifier(SPELLING, Peppers(PEPPER), shelf), Secret(text[:place] + character + text[place + 1 :])
    )
    assert refused.reason is Reason.BAD_TOKEN
    assert shelf.asked == 0


@given(st.integers(21, 63), st.sampled_from(opaque.ALPHABET))
async def test_a_wrong_secret_under_a_right_checksum_is_refused(place: int, character: str) -> None:
    body = TOKEN.reveal()[:-6]
    if body[place] == character:
        return
    forged = body[:place] + character + body[place + 1 :]
    refused = await refusal(verifier(ROW), Secret(forged + checksum(forged)))
    assert (refused.reason, refused.detail) == (Reason.BAD_TOKEN, f"{ROW.id}: wrong secret")


@pytest.mark.parametrize("brand", ["", "a", "Asc", "a_b", "1ab", "a" * 17, "asc\n", "a-b"])
def test_a_brand_that_would_make_the_spelling_ambiguous_is_refused(brand: str) -> None:
    with pytest.raises(ValueError, match="brand"):
        TokenFormat(brand)


# Who it is


async def test_a_personal_token_opens_what_its_limits_say() -> None:
    token, row = issue(workspaces="api web", permissions="read write", path="releases/**")
    principal = await verifier(row).verify(token, NOW)
    assert principal is not None
    assert (principal.kind, principal.subject, principal.workspace) == (PrincipalKind.PERSONAL, "alice", "")
    assert (principal.token_id, principal.token_name) == (row.id, "laptop")
    assert principal.limits == Limits(
        frozenset({"api", "web"}), frozenset({Permission.READ, Permission.WRITE}), "releases/**"
    )
    assert principal.expires_at == NOW + 3600
    assert principal.revocation_ids == (f"opaque:{row.id}", f"key:pepper:{row.pepper_id}")
    assert (principal.issued_at, principal.parent, principal.family) == (row.created_at, "", row.id)


async def test_a_token_that_says_nothing_narrows_nothing() -> None:
    token, row = issue()
    principal = await verifier(row).verify(token, NOW)
    assert principal is not None
    assert principal.limits == Limits()


async def test_a_ci_token_belongs_to_its_workspace() -> None:
    token, row = issue(PrincipalKind.CI)
    principal = await verifier(row).verify(token, NOW)
    assert principal is not None
    assert (principal.kind, principal.workspace) == (PrincipalKind.CI, "web")
    assert principal.limits.workspaces == {"web"}


# What is refused


async def test_an_unknown_id_is_refused() -> None:
    token, row = issue()
    refused = await refusal(verifier(), token)
    assert (refused.reason, refused.detail) == (Reason.BAD_TOKEN, f"{row.id}: unknown id")


async def test_a_token_ends_at_its_expiry_and_not_before() -> None:
    token, row = issue()
    assert await verifier(row).verify(token, row.expires_at - 0.001) is not None
    refused = await refusal(verifier(row), token, row.expires_at)
    assert refused.reason is Reason.EXPIRED
    assert re.fullmatch(rf"{row.id}: expired at \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ", refused.detail)


async def test_a_revoked_token_is_refused_as_revoked_even_after_its_expiry() -> None:
    token, row = issue(revoked_at=NOW + 1, revoked_by="root")
    refused = await refusal(verifier(row), token)
    assert refused.reason is Reason.REVOKED
    assert re.fullmatch(rf"{row.id}: revoked at \d{{4}}-\d\d-\d\dT\d\d:\d\d:\d\dZ by .+", refused.detail)
    assert (await refusal(verifier(row), token, NOW + 9999)).reason is Reason.REVOKED


@pytest.mark.parametrize(("columns", "now"), [({"revoked_at": NOW}, NOW), ({}, NOW + 3600)], ids=["revoked", "expired"])
async def test_a_refusal_says_whose_token_it_was_if_the_caller_holds_the_secret(
    columns: dict[str, object], now: int
) -> None:
    token, row = issue(**columns)
    holder = (await refusal(verifier(row), token, now)).principal
    assert holder is not None
    assert (holder.token_id, holder.subject) == (row.id, "alice")
    body = token.reveal()[:21] + "0" * 43
    assert (await refusal(verifier(row), Secret(body + checksum(body)), now)).principal is None


async def test_only_the_secrets_holder_learns_that_a_token_was_revoked() -> None:
    token, row = issue(revoked_at=NOW)
    body = token.reveal()[:21] + "0" * 43
    assert (await refusal(verifier(row), Secret(body + checksum(body)))).reason is Reason.BAD_TOKEN


async def test_a_token_spelled_as_the_other_kind_is_refused_even_if_its_digest_is_stored() -> None:
    token, row = issue(PrincipalKind.PERSONAL)
    body = token.reveal()[:-6].replace("_pat_", "_ci_")
    other = Secret(body + checksum(body))
    refused = await refusal(verifier(row), other)
    assert refused.detail == f"{row.id}: wrong secret"
    confused = sealed(replace(row, digest=PEPPER.digest(other.reveal())), PEPPER)
    assert (await refusal(verifier(confused), other)).detail == f"{row.id}: kind of another row"


async def test_a_ci_token_whose_row_names_no_workspace_belongs_to_none() -> None:
    token, row = issue(PrincipalKind.CI, workspaces=None)
    principal = await verifier(row).verify(token, NOW)
    assert principal is not None
    assert principal.workspace == ""


async def test_a_row_of_another_pepper_is_refused_and_the_audit_learns_why() -> None:
    token, row = issue(pepper=OTHER_PEPPER)
    assert (await refusal(verifier(row), token)).detail == f"{row.id}: made under another pepper"


async def test_a_permission_of_a_later_version_refuses_the_token() -> None:
    token, row = issue(permissions="read teleport")
    assert (await refusal(verifier(row), token)).reason is Reason.BAD_TOKEN


async def test_an_outage_is_not_a_verdict() -> None:
    token, _ = issue()
    with pytest.raises(Unavailable) as outage:
        await OpaqueVerifier(SPELLING, Peppers(PEPPER), Shelf(down=True)).verify(token, NOW)
    assert outage.value.reason is Reason.TOKEN_STORE_UNAVAILABLE


async def test_a_token_says_whose_it_is_by_id_where_that_was_recorded() -> None:
    for owner, told in (("u-17", "u-17"), (None, "")):
        token, row = issue(owner_id=owner)
        principal = await verifier(row).verify(token, NOW)
        assert principal is not None
        assert principal.owner_id == told


@pytest.mark.parametrize(
    ("left", "notice"), [(7 * 86400, b""), (7 * 86400 - 1, b"2027-01-22T07:59:59Z"), (1, b"2027-01-15T08:00:01Z")]
)
async def test_a_token_that_ends_within_a_week_says_when(left: int, notice: bytes) -> None:
    token, row = issue(expires_at=NOW + left)
    principal = await verifier(row).verify(token, NOW)
    assert principal is not None
    assert principal.expiry_notice == notice


# A replaced token


async def test_who_uses_a_replaced_token_after_its_end_is_reported_with_its_row_and_refused() -> None:
    heard: list[tuple[TokenRow, int]] = []

    async def reused(row: TokenRow, now: int) -> None:
        heard.append((row, now))

    token, row = issue(rotated_at=NOW)
    judge = OpaqueVerifier(SPELLING, Peppers(PEPPER), Shelf([row]), reused=reused)
    assert await judge.verify(token, row.expires_at - 1) is not None
    assert heard == []
    refused = await refusal(judge, token, row.expires_at + 0.5)
    assert (refused.reason, refused.principal is not None) == (Reason.EXPIRED, True)
    assert refused.detail == f"{row.id}: replaced, and used after its overlap ended at 2027-01-15T09:00:00Z"
    assert heard == [(row, row.expires_at)]


async def test_neither_an_expired_nor_a_revoked_token_is_reported_as_reused() -> None:
    async def reused(row: TokenRow, now: int) -> None:
        raise AssertionError("it was not replaced, or is revoked")

    for columns in ({}, {"rotated_at": NOW, "revoked_at": NOW}):
        token, row = issue(**columns)
        await refusal(OpaqueVerifier(SPELLING, Peppers(PEPPER), Shelf([row]), reused=reused), token, row.expires_at)


async def test_a_use_that_could_not_be_reported_is_an_outage() -> None:
    async def reused(row: TokenRow, now: int) -> None:
        raise Unavailable(Reason.TOKEN_STORE_UNAVAILABLE)

    token, row = issue(rotated_at=NOW)
    with pytest.raises(Unavailable):
        await OpaqueVerifier(SPELLING, Peppers(PEPPER), Shelf([row]), reused=reused).verify(token, row.expires_at)


def test_what_must_be_looked_up_again_is_of_another_generation() -> None:
    judge = verifier()
    generations = [judge.generation]
    for _ in range(2):
        judge.reread()
        generations.append(judge.generation)
    assert len(set(generations)) == 3


# Another pepper


async def test_a_token_under_an_earlier_pepper_is_accepted_and_handed_on_under_the_current_one() -> None:
    moved: list[tuple[TokenRow, TokenRow]] = []
    token, row = issue(pepper=OTHER_PEPPER, permissions="read")
    both = Peppers(PEPPER, OTHER_PEPPER)
    judge = OpaqueVerifier(SPELLING, both, Shelf([row]), moved=lambda old, new: moved.append((old, new)))
    assert await judge.verify(token, NOW) is not None
    ((old, new),) = moved
    assert old is row
    assert new == sealed(replace(row, pepper_id=PEPPER.id, digest=PEPPER.digest(token.reveal())), PEPPER)
    moved.clear()
    after = OpaqueVerifier(SPELLING, both, Shelf([new]), moved=lambda old, new: moved.append((old, new)))
    assert await after.verify(token, NOW) is not None
    assert moved == [], "it is there"


async def test_a_token_without_its_owners_id_is_bound_to_the_one_it_meets_and_no_other_token_is() -> None:
    moved: list[tuple[TokenRow, TokenRow]] = []

    def judge(row: TokenRow, found: str) -> OpaqueVerifier:
        made = OpaqueVerifier(SPELLING, Peppers(PEPPER), Shelf([row]), moved=lambda old, new: moved.append((old, new)))
        made.person_id = lambda subject: found if subject == row.subject else "somebody else's"
        return made

    token, row = issue(kind=PrincipalKind.PERSONAL)
    assert row.owner_id is None
    principal = await judge(row, "u-17").verify(token, NOW)
    assert principal is not None
    assert principal.owner_id == "u-17"
    ((old, new),) = moved
    assert (old, new) == (row, sealed(replace(row, owner_id="u-17"), PEPPER))
    moved.clear()
    again = await judge(new, "u-18").verify(token, NOW)
    assert again is not None
    assert again.owner_id == "u-17", "the directory compares it with whoever has the name now"
    assert (await judge(row, "").verify(token, NOW)) is not None
    ci, of_ci = issue(kind=PrincipalKind.CI)
    assert (await judge(of_ci, "u-17").verify(ci, NOW)) is not None
    assert moved == []


async def test_nothing_that_is_refused_moves() -> None:
    def moved(old: TokenRow, new: TokenRow) -> None:
        raise AssertionError("it was refused")

    both = Peppers(PEPPER, OTHER_PEPPER)
    for columns in ({"revoked_at": NOW}, {"expires_at": NOW}):
        token, row = issue(pepper=OTHER_PEPPER, **columns)
        await refusal(OpaqueVerifier(SPELLING, both, Shelf([row]), moved=moved), token)
    token, row = issue(pepper=OTHER_PEPPER)
    forged = replace(row, permissions="admin")
    assert (
        await refusal(OpaqueVerifier(SPELLING, both, Shelf([forged]), moved=moved), token)
    ).reason is Reason.BAD_TOKEN
    body = token.reveal()[:21] + "0" * 43
    wrong = Secret(body + checksum(body))
    assert (await refusal(OpaqueVerifier(SPELLING, both, Shelf([row]), moved=moved), wrong)).detail.endswith(
        "wrong secret"
    )


async def test_a_row_that_says_it_is_under_the_other_pepper_is_refused() -> None:
    token, row = issue(pepper=OTHER_PEPPER)
    both = Peppers(PEPPER, OTHER_PEPPER)
    confused = replace(row, pepper_id=PEPPER.id)
    assert (await refusal(OpaqueVerifier(SPELLING, both, Shelf([confused])), token)).detail == f"{row.id}: wrong secret"


def test_the_generation_changes_with_what_other_peppers_are_believed() -> None:
    assert OpaqueVerifier(SPELLING, Peppers(PEPPER, OTHER_PEPPER), Shelf()).generation != verifier().generation


# The row's MAC

POWERS = [name for name in TokenRow.__struct_fields__ if name not in ("last_used_at", "pepper_id", "digest")]
ANYTHING = st.one_of(
    st.none(),
    st.integers(),
    st.floats(),
    st.text(),
    st.binary(),
    st.sampled_from(["read", "web", "personal", "ci", "*"]),
)


@given(st.sampled_from(POWERS), ANYTHING, st.sampled_from(list(PrincipalKind)[1:3]))
async def test_an_edited_column_of_any_type_refuses_the_row(column: str, value: object, kind: PrincipalKind) -> None:
    token, row = issue(kind)
    before = getattr(row, column)
    if type(value) is type(before) and value == before:
        return
    edited = replace(row, **{column: value})
    shelf = Shelf()
    shelf.rows[row.id] = edited
    refused = await refusal(OpaqueVerifier(SPELLING, Peppers(PEPPER), shelf), token)
    assert (refused.reason, refused.detail) == (Reason.BAD_TOKEN, f"{row.id}: row MAC")


@pytest.mark.parametrize("column", ["pepper_id", "digest"])
@pytest.mark.parametrize("value", [None, 1, "", "00" * 32, b"00", "\ud800"])
async def test_an_edited_key_column_refuses_the_row(column: str, value: object) -> None:
    token, row = issue()
    assert (await refusal(verifier(replace(row, **{column: value})), token)).reason is Reason.BAD_TOKEN


async def test_another_rows_power_under_ones_own_id_is_refused() -> None:
    token, row = issue(permissions="read")
    _, strong = issue(permissions="admin", subject="root")
    stolen = replace(strong, id=row.id, digest=row.digest)
    assert (await refusal(verifier(stolen), token)).detail == f"{row.id}: row MAC"


async def test_taking_back_a_revocation_alone_is_refused() -> None:
    token, row = issue(revoked_at=NOW, revoked_by="root")
    undone = replace(row, revoked_at=None, revoked_by=None)
    assert (await refusal(verifier(undone), token)).detail == f"{row.id}: row MAC"


async def test_the_time_of_last_use_grants_nothing_and_is_free() -> None:
    token, row = issue()
    assert await verifier(replace(row, last_used_at=NOW)).verify(token, NOW) is not None


@given(st.lists(ANYTHING, max_size=4), st.lists(ANYTHING, max_size=4))
def test_two_different_rows_never_share_what_is_signed(left: list[object], right: list[object]) -> None:
    alike = repr(left) == repr(right)
    assert (PEPPER.mac(left) == PEPPER.mac(right)) is alike


@pytest.mark.parametrize(
    ("left", "right"),
    [
        (["a", "b"], ["a;str:b"]),
        (["a", "b"], ["a;str:1:b"]),
        (["ab", ""], ["a", "b"]),
        (["", None], [None, ""]),
        ([1], ["1"]),
        ([True], [1]),
        ([b"a"], ["a"]),
        (["a"], ["a", None]),
    ],
)
def test_what_looks_alike_in_a_row_is_signed_apart(left: list[object], right: list[object]) -> None:
    assert PEPPER.mac(left) != PEPPER.mac(right)


# The pepper


@pytest.mark.parametrize(
    "content", [b"", b"short", b"0123456789abcdefghijklmnopqrstu", b"x" * 31, b"x" * 64, b"changeme" * 8, b"\n" * 40]
)
def test_a_missing_short_or_placeholder_pepper_is_refused(content: bytes) -> None:
    with pytest.raises(PepperUnusable, match="pepper") as refused:
        Pepper(content)
    assert not content.strip() or content.decode().strip() not in str(refused.value)


def test_a_line_end_does_not_change_the_pepper() -> None:
    key = b"0123456789abcdef0123456789abcdef"
    assert Pepper(key).id == Pepper(key + b"\n").id
    assert Pepper(key).digest("t") == Pepper(key + b"\r\n").digest("t")


def test_digest_and_mac_are_under_different_keys_and_the_pepper_shows_in_nothing() -> None:
    key = "0123456789abcdef0123456789abcdef"
    pepper = Pepper(key.encode())
    assert key not in repr(pepper)
    assert pepper.digest("str:1:x;") != pepper.mac(["x"])


def test_the_generation_changes_with_brand_and_pepper() -> None:
    shelf = Shelf()
    generations = {
        OpaqueVerifier(TokenFormat(brand), Peppers(pepper), shelf).generation
        for brand in ("asc", "acme")
        for pepper in (PEPPER, OTHER_PEPPER)
    }
    assert len(generations) == 4
