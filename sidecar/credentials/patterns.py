"""What a credential of this program looks like in any text: for the redaction of logs, for the search for leaks, for the rules of
secret scanners. One source: what scanners are told to find is what is taken out of logs.

Law: each pattern is read alike by Python and by RE2, which gitleaks and its kin use: no look-around, nothing possessive.
"""

from msgspec import Struct

from sidecar.credentials.opaque import CHECK_LENGTH, ID_LENGTH, KINDS, SECRET_LENGTH

BRAND = "[a-z][a-z0-9]{1,15}"
"""Any."""
_WORDS = "|".join(KINDS)
_BASE62, _BASE64 = "[0-9A-Za-z]", "[A-Za-z0-9_-]"
SHORTEST_BISCUIT = 200
"""Characters: a block of nothing, a key and two signatures have more."""

OPAQUE_TAIL = rf"_(?:{_WORDS})_{_BASE62}{{{ID_LENGTH}}}_{_BASE62}"
"""What follows the brand, with the first character of the secret."""

BISCUIT = rf"\bC(?:[A-H][AEIMQUYcgkosw048]S|[I-P]{_BASE64}{{2}}E[g-v]){_BASE64}{{{SHORTEST_BISCUIT},}}={{0,2}}"
"""Base64 for URLs of a root key's id (one or two bytes) and the beginning of the first block. Ours always name their key."""

ACCESS_KEY_ID = r"\bSCK[A-Z2-7]{17}\b"
"""No secret by itself: where it stands, its secret key may stand beside it."""


def opaque(brand: str = BRAND) -> str:
    """A token issued here. `brand` is a pattern, too."""
    return rf"\b{brand}{OPAQUE_TAIL}{{{SECRET_LENGTH + CHECK_LENGTH}}}\b"


class Rule(Struct, frozen=True):
    """One for a secret scanner."""

    id: str
    description: str
    pattern: str
    keywords: tuple[str, ...]
    """A scanner looks closer only at text that holds one of them, in any case; at every text where there are none."""
    entropy: float | None = None


def rules(brand: str = "asc") -> tuple[Rule, ...]:
    """Of an installation whose tokens have this brand."""
    return (
        Rule(
            "sidecar-token",
            "A personal or CI token of an artifact store's auth sidecar: revoke it with `sidecar token leaked`",
            opaque(brand),
            tuple(f"{brand}_{word}_" for word in KINDS),
        ),
        Rule(
            "sidecar-biscuit",
            "A Biscuit of an artifact store's auth sidecar: revoke it with `sidecar token leaked`",
            BISCUIT,
            (),
            3.5,
        ),
        Rule(
            "sidecar-access-key",
            "An S3 access key id of an artifact store's auth sidecar, whose secret may stand beside it",
            ACCESS_KEY_ID,
            ("sck",),
        ),
    )


def as_gitleaks(brand: str = "asc") -> str:
    """A configuration of gitleaks, 8 or newer, that adds these rules to its own."""
    said = [
        "# Finds this program's credentials in repositories, images and logs, beside what gitleaks finds anyway.",
        "# Another brand than asc: sidecar token rules > gitleaks.toml",
        "",
        'title = "sidecar"',
        "",
        "[extend]",
        "useDefault = true",
    ]
    for rule in rules(brand):
        keywords = ", ".join(f'"{word}"' for word in rule.keywords)
        said += [
            "",
            "[[rules]]",
            f'id = "{rule.id}"',
            f'description = "{rule.description}"',
            f"regex = '''{rule.pattern}'''",
        ]
        if rule.keywords:
            said.append(f"keywords = [{keywords}]")
        if rule.entropy is not None:
            said.append(f"entropy = {rule.entropy}")
    return "\n".join(said) + "\n"
