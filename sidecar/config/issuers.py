"""The configuration's `issuers`: whom to believe, by which keys and algorithms.

The law: what an issuer's tokens may be signed with is settled here, before any token is seen (RFC 8725 §3.1), and HS256
never stands beside an algorithm whose key is public.
"""

from pathlib import Path
from typing import Final

from sidecar.config.addresses import host_of, web_url
from sidecar.config.values import Folder, names
from sidecar.credentials.jwk import ASYMMETRIC
from sidecar.document import Block, Value, suggestion
from sidecar.settings import DAY, IssuerSettings
from sidecar.yaml_tree import quoted

SYMMETRIC: Final = "HS256"
ALGORITHMS: Final = (*sorted(ASYMMETRIC), SYMMETRIC)
SOURCES: Final = ("jwks_url", "jwks_file", "pem_file", "secret_file")
DEFAULT: Final = ("RS256", "ES256")
SERVES_EVERYBODY: Final = frozenset(
    {"token.actions.githubusercontent.com", "gitlab.com", "agent.buildkite.com", "oidc.circleci.com"}
)
"""Anybody can get a token from these (`docs/policy.md` rule 14)."""
_INLINE: Final = {"secret": "secret_file", "jwks": "jwks_file", "pem": "pem_file", "key": "pem_file"}


def issuers(value: Value, folder: Folder) -> dict[str, IssuerSettings]:
    """Name -> issuer. No two have the same `issuer`: a token's `iss` names one of them or none."""
    urls: dict[str, str] = {}

    def read(name: str, inner: Value) -> IssuerSettings:
        settings = _issuer(name, inner, folder)
        if settings.issuer:
            if settings.issuer in urls:
                inner.problem(f"the issuer {quoted(settings.issuer)} is already {urls[settings.issuer]}'s")
            urls[settings.issuer] = name
        return settings

    return names(value, "an issuer", read)


def _issuer(name: str, value: Value, folder: Folder) -> IssuerSettings:
    block = value.block()
    for inline, file_form in _INLINE.items():
        block.refuse(inline, f"keys don't stand in this file; put it into a file and name that as {file_form}")
    issuer = web_url(block.need("issuer"))
    files = _sources(block, folder)
    return IssuerSettings(
        name=name,
        issuer=issuer,
        audience=block.need("audience").text(),
        jwks_url=block.get("jwks_url", web_url, None),
        jwks_file=files.get("jwks_file"),
        pem_file=files.get("pem_file"),
        secret_file=files.get("secret_file"),
        algorithms=_algorithms(block, "secret_file" in files),
        subject_claim=block.get("subject_claim", Value.text, "sub"),
        groups_claim=block.get("groups_claim", Value.text, None),
        max_lifetime=block.get("max_lifetime", lambda found: found.duration(60, 366 * DAY), DAY),
        leeway=block.get("leeway", lambda found: found.duration(0, 60), 30.0),
        types=block.get("types", Value.texts, ("JWT", "at+jwt")),
        authorized_parties=block.get("authorized_parties", Value.texts, ()),
        multi_tenant=_multi_tenant(block, issuer),
        ca_file=block.get("ca_file", folder.path, None),
        people=block.get("people", Value.boolean, False),
    )


def _sources(block: Block, folder: Folder) -> dict[str, Path]:
    found = {key: value for key in SOURCES if (value := block.find(key)) is not None}
    if len(found) > 1:
        last = list(found)[-1]
        found[last].problem(f"keys come from one source, not from {' and '.join(found)}")
    ca_file = block.find("ca_file")
    files = {key: folder.path(value) for key, value in found.items() if key != "jwks_url"}
    if ca_file is not None and files:
        ca_file.problem(f"nothing is fetched where keys come from {' and '.join(files)}; leave the key out")
    return files


def _algorithms(block: Block, has_secret: bool) -> tuple[str, ...]:
    value = block.find("algorithms")
    if value is None:
        return (SYMMETRIC,) if has_secret else DEFAULT
    found = [text for item in value.items() if (text := _algorithm(item))]
    if len(set(found)) < len(found):
        value.problem("an algorithm is here twice")
    if value.is_list and not value.items():
        value.problem(f"at least one algorithm is needed; without the key it is {' and '.join(DEFAULT)}")
    public = [algorithm for algorithm in found if algorithm != SYMMETRIC]
    if SYMMETRIC in found and public:
        value.problem(f"{SYMMETRIC} never stands beside an algorithm with public keys, such as {public[0]}")
    elif SYMMETRIC in found and not has_secret:
        value.problem(f"{SYMMETRIC} needs a secret_file, and no other source of keys")
    elif public and has_secret:
        value.problem(f"a secret_file is for {SYMMETRIC} alone, not for {public[0]}")
    return tuple(found)


def _algorithm(item: Value) -> str:
    text = item.text()
    if text.casefold() == "none":
        item.problem("unsigned tokens are never accepted; leave 'none' out")
        return ""
    if text and text not in ALGORITHMS:
        item.problem(f"unknown algorithm {quoted(text)}{suggestion(text, ALGORITHMS)}")
        return ""
    return text


def _multi_tenant(block: Block, issuer: str) -> bool:
    serves_everybody = host_of(issuer) in SERVES_EVERYBODY
    value = block.find("multi_tenant")
    if value is None:
        return serves_everybody
    said = value.boolean()
    if serves_everybody and not said and not value.is_known_bad:
        value.problem(f"{host_of(issuer)} gives tokens to everybody; leave the key out")
    return said
