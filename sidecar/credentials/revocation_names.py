"""How the revoked set names what it holds: one kind of name for each thing that can be revoked.

The law: no two things have the same name. Each begins with its kind; a part that may hold anything stands last. An opaque token's
and a JWT's names are with their kinds (`opaque.revocation_id`, `jwt.revocation_id`).
"""

from sidecar.model import PrincipalKind

ANY_ISSUER = "*"
"""No issuer has this name."""
_BLOCK = "biscuit:"


def block(revocation_id: str) -> str:
    """One block of a Biscuit and all that derives from it. `revocation_id` in hexadecimal."""
    return f"{_BLOCK}{revocation_id}"


def is_block(name: str) -> bool:
    return name.startswith(_BLOCK)


def blocks(names: tuple[str, ...]) -> tuple[str, ...]:
    """The revocation ids of the blocks among a principal's names, the root's first."""
    return tuple(name[len(_BLOCK) :] for name in names if name.startswith(_BLOCK))


def pepper(pepper_id: str) -> str:
    """Everything whose row is under this pepper."""
    return f"key:pepper:{pepper_id}"


def root_key(key_id: int | str) -> str:
    """Every Biscuit under this root key."""
    return f"key:biscuit:{key_id}"


def identity(issuer: str, subject: str) -> str:
    """What was issued to somebody before some time. `issuer` is the configured name, empty for what is issued here."""
    return f"subject:{issuer}:{subject}"


def is_identity(name: str) -> bool:
    return name.startswith("subject:")


def about(name: str) -> tuple[PrincipalKind | None, str]:
    """The kind of token that it is about, where it is about one alone; and whose, where it is about somebody."""
    if is_identity(name):
        return None, name.split(":", 2)[2]
    return (
        PrincipalKind.JWT if name.startswith("jwt:") else PrincipalKind.BISCUIT if name.startswith(_BLOCK) else None
    ), ""
