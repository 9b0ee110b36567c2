"""Making Biscuits: what may be asked for, and the row that each is listed, shown and revoked by.

A Biscuit is verified without that row: whoever knows the public key can. The row names it, and carries nothing that grants.
"""

from collections.abc import Callable

from sidecar.credentials.biscuit.minting import Wanted
from sidecar.credentials.opaque import fresh_id
from sidecar.credentials.pepper import Peppers
from sidecar.credentials.token_row import TokenRow, sealed
from sidecar.model import Secret
from sidecar.policy.glob import key_problem
from sidecar.root_keys import RootKeyError, RootKeyring
from sidecar.token_requests import NewToken, TokenRequestError, check, permissions_of
from sidecar.tokens import Deliver, Tokens


class Biscuits:
    """`actor` and `now` as in `tokens.Tokens`."""

    def __init__(self, tokens: Tokens, keys: RootKeyring, peppers: Peppers, *, max_ttl: float) -> None:
        self._tokens = tokens
        self._keys = keys
        self._peppers = peppers
        self._max_ttl = max_ttl

    async def create(
        self,
        wanted: NewToken,
        *,
        actor: str,
        now: int,
        deliver: Deliver | None = None,
        key_made: Callable[[int], None] = lambda key_id: None,
    ) -> tuple[Secret, TokenRow]:
        """The token, and its row. Where there is no root key yet the first one is made, and `key_made` hears of it.

        Raises `TokenRequestError`, `RootKeyError`, and what `deliver` raises.
        """
        check(wanted, self._max_ttl if wanted.ttl is None else wanted.ttl, self._max_ttl)
        if wanted.path is not None and (wrong := key_problem(wanted.path)) is not None:
            raise TokenRequestError([f"path {wanted.path!r}: {wrong}"])
        from sidecar.credentials.biscuit.library import LibraryError  # few make Biscuits
        from sidecar.credentials.biscuit.minting import mint
        from sidecar.credentials.biscuit.verifier import Refusal

        key = await self._keys.newest()
        if key is None:
            key_made((await self._keys.create(actor=actor, now=now)).id)
            key = await self._keys.newest()
        if key is None:
            raise RootKeyError("the root key was retired while it was to be used; try again")
        key_id, private = key
        asked = Wanted(
            token_id=fresh_id(),
            subject=wanted.subject,
            expires_at=now + int(wanted.ttl or 0.0),
            created_at=now,
            permissions=permissions_of(wanted.permissions),
            workspaces=wanted.workspaces,
            path=wanted.path,
            owner=wanted.owner_id if wanted.owned else None,
        )
        try:
            token, opened = mint(asked, private, key_id)
        except (Refusal, LibraryError) as error:
            raise TokenRequestError([f"path or subject: {error}"]) from None
        row = self._row(wanted, asked, key_id, opened.block_ids[0], actor)
        async with self._tokens.written(row, actor=actor, now=now):
            if deliver is not None:
                deliver(token, row, None)
        return token, row

    def _row(self, wanted: NewToken, asked: Wanted, key_id: int, block_id: str, actor: str) -> TokenRow:
        pepper = self._peppers.current
        row = TokenRow(
            id=asked.token_id,
            kind=str(wanted.kind),
            subject=wanted.subject,
            name=wanted.name,
            workspaces=" ".join(sorted(set(wanted.workspaces))) or None,
            permissions=None if asked.permissions is None else " ".join(sorted(asked.permissions)),
            path=wanted.path,
            created_at=asked.created_at,
            created_by=actor,
            expires_at=asked.expires_at,
            revoked_at=None,
            revoked_by=None,
            pepper_id=pepper.id,
            digest=block_id,
            mac="",
            owner_id=wanted.owner_id or None,
            root_key=key_id,
        )
        return sealed(row, pepper)
