"""Who wrote an object, for the audit log and for the object itself: which of a token's claims are written down, and in which form
they go with the object to a store that keeps them.

Law: a claim is written down only if it is in `CLAIMS`. They say where a build came from; whatever else an issuer puts into its tokens
(mail addresses, names, roles) stays out.
"""

import json
from collections.abc import Mapping
from typing import Any

from sidecar.model import Principal

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
"""Bytes of `HEADER`'s value: S3 keeps 2 KiB about an object, the client's own words included."""


def claims_of(claims: Mapping[str, Any]) -> dict[str, str] | None:
    """Those of `CLAIMS` that there are, in its order, as text; `None` where there is none."""
    found = {name: _text(claims[name]) for name in CLAIMS if isinstance(claims.get(name), str | int)}
    return found or None


def header(principal: Principal | None, request_id: str) -> bytes:
    """The value of `HEADER`: as many claims as it has room for. `request_id` is that of the audit records about the write."""
    said: dict[str, Any] = {"request_id": request_id}
    if principal is None:
        return _json(said)
    named = {"subject": principal.subject, "issuer": principal.issuer, "token_id": principal.token_id}
    for longest in (_LONGEST, _SHORT):
        said |= {"type": principal.kind.value}
        said |= {name: text[:longest] for name, text in named.items() if text or name == "subject"}
        if len(_json(said)) <= HEADER_LIMIT:
            break
    claims: dict[str, str] = {}
    for name, text in (claims_of(principal.claims) or {}).items():
        more = {**claims, name: text}
        if len(_json({**said, "claims": more})) <= HEADER_LIMIT:
            claims = more
    return _json({**said, "claims": claims} if claims else said)


def _json(said: Mapping[str, Any]) -> bytes:
    # JSON leaves DEL as it is, a header doesn't take it.
    return json.dumps(said, separators=(",", ":")).replace("\x7f", "\\u007f").encode()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:_LONGEST]
