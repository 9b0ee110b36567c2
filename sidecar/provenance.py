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
_LONGEST = 256
"""Characters of one value."""


def claims_of(claims: Mapping[str, Any]) -> dict[str, str] | None:
    """Those of `CLAIMS` that there are, in its order, as text; `None` where there is none."""
    found = {name: _text(claims[name]) for name in CLAIMS if isinstance(claims.get(name), str | int)}
    return found or None


def header(principal: Principal | None, request_id: str) -> bytes:
    """The value of `HEADER`. `request_id` is that of the audit records about the write."""
    said: dict[str, Any] = {"request_id": request_id}
    if principal is not None:
        said |= {
            "type": principal.kind.value,
            "subject": principal.subject[:_LONGEST],
            "issuer": principal.issuer[:_LONGEST] or None,
            "token_id": principal.token_id[:_LONGEST] or None,
            "claims": claims_of(principal.claims),
        }
    return json.dumps(
        {name: value for name, value in said.items() if value is not None}, separators=(",", ":")
    ).encode()


def _text(value: object) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value)[:_LONGEST]
