"""Who wrote an object, for the audit log and for the object itself: which of a token's claims are written down, and in which form
they go with the object to a store that keeps them.

Law: a claim is written down only if it is in `CLAIMS`. They say where a build came from; whatever else an issuer puts into its tokens
(mail addresses, names, roles) stays out.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

from sidecar.model import Principal
from sidecar.ports import HeaderList

CLAIMS = (
    # GitHub Actions
    "repository", "repository_id", "repository_owner", "repository_owner_id", "ref", "ref_type", "sha", "run_id", "run_number",
    "run_attempt", "event_name", "workflow_ref", "job_workflow_ref", "environment", "head_ref", "base_ref", "actor",
    # GitLab
    "project_path", "project_id", "namespace_path", "pipeline_id", "pipeline_source", "job_id", "ref_path", "ref_protected",
    "user_login",
    # Buildkite
    "organization_slug", "pipeline_slug", "build_number", "build_branch", "build_commit", "build_tag", "step_key",
    # CircleCI
    "oidc.circleci.com/project-id", "oidc.circleci.com/vcs-origin", "oidc.circleci.com/vcs-ref", "oidc.circleci.com/job-id",
)  # fmt: skip
"""As the issuers document them; of others only what has the same name."""
HEADER = b"x-sidecar-provenance"
"""Tells a store that keeps it, in JSON of ASCII characters alone, who writes."""
DIGEST_HEADER = b"x-sidecar-sha256"
"""What such a store found the body to be, in lower-case hex."""
PREFIX = b"x-sidecar-"
"""No client's header with it reaches a store that keeps these, and none of them comes back with the object."""
_LONGEST, _SHORT = 256, 24
"""Characters of one value; and where there is no room for them."""
HEADER_LIMIT = 1024
"""Bytes of `HEADER`'s value."""
_S3_KEEPS = 2048
"""Bytes of names and values that S3 keeps about an object, the client's own included (S3 User Guide, "Working with object metadata")."""
_KEPT_PREFIXES = (b"x-amz-meta-", b"x-artifact-")
PIECE = 256
"""Bytes of one value in a bucket: Swift takes no longer ones (`max_meta_value_length`)."""
_NAME_THERE = len(b"x-amz-meta-") + len(HEADER) + len(b"-2")


def claims_of(claims: Mapping[str, Any]) -> dict[str, str] | None:
    """Those of `CLAIMS` that there are, in its order, as text; `None` where there is none."""
    found = {name: _text(claims[name]) for name in CLAIMS if isinstance(claims.get(name), str | int)}
    return found or None


def room(headers: HeaderList) -> int:
    """How long `HEADER`'s value may be beside what a client wants kept: that is never refused for what is added to it."""
    theirs = sum(len(name) + len(value) for name, value in headers if name.lower().startswith(_KEPT_PREFIXES))
    free = _S3_KEEPS - theirs
    return min(HEADER_LIMIT, free - _NAME_THERE * -(-free // (_NAME_THERE + PIECE)))


def pieces(name: bytes, value: bytes) -> list[tuple[bytes, bytes]]:
    """A header as a bucket takes it: what is longer than `PIECE` goes on in `NAME-2`, `NAME-3`, ..."""
    parts = [value[at : at + PIECE] for at in range(0, len(value), PIECE)]
    return [(name if number == 1 else b"%b-%d" % (name, number), part) for number, part in enumerate(parts, 1)]


def header(
    principal: Principal | None,
    request_id: str,
    limit: int = HEADER_LIMIT,
    *,
    workspace: str = "",
    key: str = "",
) -> bytes:
    """The value of `HEADER`: as many claims as it has room for in `limit` bytes; where there is hardly any, the id alone, and
    empty where there is none. `request_id` is that of the audit records about the write. `key`: so that what was copied past the
    sidecar, or by a store that takes it along, isn't taken for what was written there; where it is cut, the
    SHA-256 of all of it stands beside it."""
    alone: dict[str, Any] = {"request_id": request_id}
    said = alone if principal is None else _who(principal, alone, workspace, key, limit)
    if len(_json(said)) > limit:
        said = alone
    if len(_json(said)) > limit:
        return b""
    claims: dict[str, str] = {}
    if principal is not None and said is not alone:
        for name, text in (claims_of(principal.claims) or {}).items():
            more = {**claims, name: text}
            if len(_json({**said, "claims": more})) <= limit:
                claims = more
    return _json({**said, "claims": claims} if claims else said)


def _who(principal: Principal, said: Mapping[str, Any], workspace: str, key: str, limit: int) -> dict[str, Any]:
    """With names as long as there is room for, or as short as they get."""
    named = {
        "workspace": workspace,
        "key": key,
        "subject": principal.subject,
        "issuer": principal.issuer,
        "token_id": principal.token_id,
    }
    found: dict[str, Any] = {}
    for longest in (_LONGEST, _SHORT):
        texts = {name: text[:longest] for name, text in named.items() if text or name == "subject"}
        if len(key) > longest:
            texts["key_sha256"] = hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
        found = {**said, "type": principal.kind.value, **texts}
        if len(_json(found)) <= limit:
            break
    return found


def _json(said: Mapping[str, Any]) -> bytes:
    # A header keeps no space at the end of a piece.
    return json.dumps(said, separators=(",", ":")).replace(" ", "\\u0020").encode()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:_LONGEST]
