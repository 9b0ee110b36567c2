"""From a biscuit to a principal, and its checks at every request.

In this order, and no step before the one above it: its size and the number of its blocks; its signatures, by the library; its
shape, on the library's own bytes; what it says of itself. Whatever is wrong is a refusal with a reason for the operator.
Its checks are asked once for each action, with exactly one path and one set of operations.
"""

import datetime
import hashlib
import re
from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from msgspec import Struct

from sidecar.credentials import revocation_names
from sidecar.credentials.biscuit import profile, spelling, wire
from sidecar.credentials.biscuit.facts import OPERATIONS, PREFIX
from sidecar.credentials.biscuit.meaning import Meaning, meaning, utc
from sidecar.credentials.biscuit.wire import Block
from sidecar.credentials.opaque import SOON, revocation_id
from sidecar.errors import CredentialRefused, SidecarError, Unavailable
from sidecar.model import Action, Circumstances, Limits, Permission, Permissions, Principal, PrincipalKind, Secret
from sidecar.reasons import Reason

if TYPE_CHECKING:
    from sidecar.credentials.biscuit.library import PublicKey, Verified

_ID = re.compile(r"[0-9A-Za-z]{12}")
_BELOW = "/\x01"
"""A name below a folder that no check can know of."""


class Refusal(SidecarError):
    """The token is a biscuit, and bad. The text says why."""


class Opened(Struct, frozen=True):
    """A token whose signatures and shape are right."""

    verified: Any
    """A `library.Verified`."""
    key_id: int
    blocks: tuple[Block, ...]
    asked: profile.Asked
    says: Meaning

    @property
    def block_ids(self) -> tuple[str, ...]:
        """The first block's, and those of the blocks that narrow it, each for good: revoking one ends what was derived from it."""
        ids: tuple[str, ...] = self.verified.block_ids
        return ids

    @property
    def issued_at(self) -> int | None:
        """Unix seconds."""
        found = [each.terms[0] for each in self.blocks[0].facts if each.name == "created_at" and len(each.terms) == 1]
        return found[0].at if len(found) == 1 and isinstance(found[0], wire.Date) else None

    @property
    def owner(self) -> str | None:
        """The directory's id of the person that it belongs to, which may be empty; `None` where it is nobody's."""
        return self.named("owner") if any(each.name == "owner" for each in self.blocks[0].facts) else None

    def named(self, fact: str) -> str:
        """A text that the first block says of the token. Raises `Refusal`."""
        found = [each.terms for each in self.blocks[0].facts if each.name == fact]
        if len(found) != 1 or len(found[0]) != 1 or not isinstance(found[0][0], str):
            raise Refusal(f"its first block doesn't say {fact} once")
        return found[0][0]


class RootKeys:
    """The public keys that are believed, by their ids. Immutable."""

    def __init__(self, keys: Mapping[int, str] = {}) -> None:
        """`ed25519/HEX` by id. Raises `library.LibraryError`."""
        self._keys: Mapping[int, PublicKey] = {}
        if keys:
            from sidecar.credentials.biscuit import library  # megabytes that nobody without keys needs

            self._keys = {number: library.PublicKey(text) for number, text in keys.items()}
        told = "".join(f"{number}={key.text};" for number, key in sorted(self._keys.items()))
        self.generation = f"biscuit:{hashlib.sha256(told.encode()).hexdigest()[:16]}"

    def __bool__(self) -> bool:
        return bool(self._keys)

    def __len__(self) -> int:
        return len(self._keys)

    def open(self, content: bytes) -> Opened:
        """Verifies, then examines. Raises `Refusal`."""
        return examined(*self.verified(content))

    def verified(self, content: bytes) -> tuple["Verified", int]:
        """A token whose signatures are right, and its root key. Raises `Refusal`."""
        from sidecar.credentials.biscuit.library import LibraryError, verify

        asked_for: list[int | None] = []

        def key_of(number: int | None) -> "PublicKey":
            asked_for.append(number)
            key = self._keys.get(-1 if number is None else number)
            if key is None:
                raise KeyError(number)
            return key

        try:
            if wire.count_blocks(content, profile.MOST_BLOCKS) > profile.MOST_BLOCKS:
                raise Refusal(f"narrowed more than {profile.MOST_BLOCKS} times")
            verified = verify(content, key_of)
        except wire.Malformed as error:
            raise Refusal(f"malformed: {error}") from None
        except LibraryError:
            number = asked_for[-1] if asked_for else None
            if asked_for and number not in self._keys:
                raise Refusal(
                    "no root key id" if number is None else f"root key {number} is unknown, or retired"
                ) from None
            raise Refusal("malformed, or a signature is wrong") from None
        key_id = asked_for[-1]
        assert key_id is not None
        return verified, key_id


def examined(verified: "Verified", key_id: int) -> Opened:
    """Raises `Refusal` for a token that says what is not accepted."""
    try:
        blocks = wire.blocks(verified.content)
        return Opened(verified, key_id, blocks, profile.examine(blocks), meaning(blocks))
    except wire.Malformed as error:
        raise Refusal(f"malformed: {error}") from None
    except profile.OutOfProfile as error:
        raise Refusal(f"not accepted here: {error}") from None


class BiscuitVerifier:
    """Without keys nothing is a biscuit, and the library isn't loaded."""

    def __init__(self, keys: RootKeys | None = None) -> None:
        self._keys = keys or RootKeys()

    def believe(self, keys: RootKeys) -> None:
        """From now on these."""
        self._keys = keys

    @property
    def keys(self) -> RootKeys:
        return self._keys

    @property
    def generation(self) -> str:
        return self._keys.generation

    async def verify(self, token: Secret, now: float) -> Principal | None:
        """See `ports.Verifier`."""
        if not self._keys or not spelling.looks_like(text := token.reveal()):
            return None
        try:
            content = spelling.decoded(text)
            return None if content is None else principal_of(self._keys.open(content), now)
        except spelling.TooLong:
            raise CredentialRefused(Reason.BAD_TOKEN, f"biscuit: longer than {spelling.MAX_BYTES} bytes") from None
        except Refusal as refusal:
            raise CredentialRefused(Reason.BAD_TOKEN, f"biscuit: {refusal}") from None


def principal_of(opened: Opened, now: float) -> Principal:
    """Raises `Refusal`, and `CredentialRefused(EXPIRED)`."""
    token_id, subject, says = opened.named("token_id"), opened.named("subject"), opened.says
    if _ID.fullmatch(token_id) is None or not subject or not subject.isprintable():
        raise Refusal("its id or its subject is not of the form that tokens have here")
    if says.ends_at is None:
        raise Refusal("it never ends")
    issued_at, owner = opened.issued_at, opened.owner
    principal = Principal(
        kind=PrincipalKind.BISCUIT,
        subject=subject,
        token_id=token_id,
        limits=Limits(says.workspaces, _permissions(says), checks=Checks(opened, token_id)),
        expires_at=float(says.ends_at),
        revocation_ids=(
            revocation_id(token_id),
            revocation_names.root_key(opened.key_id),
            *map(revocation_names.block, opened.block_ids),
        ),
        expiry_notice=utc(says.ends_at).encode() if says.ends_at - now < SOON else b"",
        issued_at=None if issued_at is None else float(issued_at),
        family=token_id,
        bound=meaning(opened.blocks[:1]).workspaces is not None,
        owned=owner is not None,
        owner_id=owner or "",
    )
    if now >= says.ends_at:
        raise CredentialRefused(Reason.EXPIRED, f"{token_id}: expired at {utc(says.ends_at)}", principal)
    return principal


def _permissions(says: Meaning) -> Permissions | None:
    """What a list of operations comes to, for those who show limits; never less than the check itself lets through."""
    if says.operations is None:
        return None
    return frozenset(permission for permission in Permission if PREFIX + permission in says.operations)


class Checks:
    """A token's checks, ready to be asked: `model.Checks`."""

    def __init__(self, opened: Opened, token_id: str) -> None:
        self._opened = opened
        self._token_id = token_id
        self._place: tuple[str, Mapping[str, str]] | None = None
        self._place_facts: list[Any] = []

    def hold(
        self,
        workspace: str,
        settings: Mapping[str, str],
        needed: Permission,
        action: Action,
        circumstances: Circumstances,
    ) -> bool:
        """See `model.Checks`."""
        from sidecar.credentials.biscuit.library import Judgement, LibraryError

        try:
            place = self._place_facts
            if self._place is None or self._place[0] != workspace or self._place[1] is not settings:
                place = list(self._of_place(workspace, settings))
                self._place, self._place_facts = (workspace, settings), place
            known = [*place, *_of_request(needed, circumstances)]
            for path in _paths(action, self._opened.asked.prefixes_only):
                if path is None:
                    return False
                judged = self._opened.verified.judge([*known, fact("path({value})", {"value": path})])
                if judged is Judgement.LATE:
                    raise Unavailable(Reason.CHECKS_LATE, f"{self._token_id}: its checks were not judged in time")
                if judged is Judgement.FAILS:
                    return False
        except LibraryError:
            return False
        return True

    def _of_place(self, workspace: str, settings: Mapping[str, str]) -> Iterable[Any]:
        yield fact("workspace({value})", {"value": workspace})
        yield fact("token_id({value})", {"value": self._token_id})
        for name in self._opened.asked.settings & settings.keys():
            yield fact("setting({name}, {value})", {"name": name, "value": settings[name]})


def _of_request(needed: Permission, circumstances: Circumstances) -> Iterable[Any]:
    # Whole seconds: the format has no smaller ones.
    yield _at(int(circumstances.now))
    yield _needed(needed)
    yield _by(circumstances.method)
    if circumstances.client_ip:
        yield fact("client_ip({value})", {"value": circumstances.client_ip})


# A fact costs 5 µs to make, and these come again and again.


@lru_cache(maxsize=4)
def _at(now: int) -> Any:
    return fact("time({value})", {"value": datetime.datetime.fromtimestamp(now, datetime.UTC)})


@lru_cache(maxsize=len(OPERATIONS))
def _needed(needed: Permission) -> Any:
    return fact("operations({value})", {"value": set(OPERATIONS[needed])})


@lru_cache(maxsize=32)
def _by(method: str) -> Any:
    return fact("method({value})", {"value": method})


def fact(source: str, values: Mapping[str, Any]) -> Any:
    """Raises `LibraryError`."""
    from sidecar.credentials.biscuit import library

    return library.fact(source, values)


def _paths(action: Action, prefixes_only: bool) -> tuple[str | None, ...]:
    """The paths that a token's checks must all hold of; `None` where that can't be told by asking (rule 18)."""
    if not action.below:
        return (action.key,)
    if not prefixes_only:
        return (None,)
    return (action.key, f"{action.key}{_BELOW}" if action.key else _BELOW[1:])
