"""Every refusal has exactly one code, and every code one row here.

The row feeds the status, the metric's labels, the audit record, the text that the caller reads and the page
`docs/reasons.md` (a test compares the two). A hint tells its reader what to do next and tells an attacker nothing.
"""

from enum import StrEnum

from msgspec import Struct


class Outcome(StrEnum):
    """How a request ended, as metrics and audit count it. `error` is never `deny`: the caller did nothing wrong."""

    ALLOW = "allow"
    DENY = "deny"
    UNAUTHENTICATED = "unauthenticated"
    ERROR = "error"


class Reason(StrEnum):
    GRANTED = "granted"
    ANSWERED_HERE = "answered_here"
    WOULD_DENY = "would_deny"

    BAD_REQUEST = "bad_request"
    BAD_TARGET = "bad_target"
    BAD_HEADER = "bad_header"
    TWO_CREDENTIALS = "two_credentials"
    MISPLACED_TOKEN = "misplaced_token"
    UPGRADE_REFUSED = "upgrade_refused"
    HEAD_TOO_LARGE = "head_too_large"
    HEAD_TIMEOUT = "head_timeout"
    BAD_PROXY_HEADER = "bad_proxy_header"
    BODY_TIMEOUT = "body_timeout"
    MALFORMED_BODY = "malformed_body"
    BODY_MISMATCH = "body_mismatch"
    LENGTH_REQUIRED = "length_required"

    NO_ROUTE = "no_route"

    NO_TOKEN = "no_token"
    BAD_TOKEN = "bad_token"
    EXPIRED = "expired"
    REVOKED = "revoked"
    THROTTLED = "throttled"
    UNKNOWN_ACCESS_KEY = "unknown_access_key"
    BAD_SIGNATURE = "bad_signature"
    MALFORMED_SIGNATURE = "malformed_signature"
    SIGNATURE_V2 = "signature_v2"
    UNSIGNED_HEADER = "unsigned_header"
    CLOCK_SKEW = "clock_skew"
    URL_EXPIRED = "url_expired"

    RATE_LIMITED = "rate_limited"
    CROSS_SITE = "cross_site"
    UNKNOWN_OPERATION = "unknown_operation"
    KEY_REQUIRED = "key_required"
    WRONG_WORKSPACE = "wrong_workspace"
    INACTIVE_PERSON = "inactive_person"
    NO_RULE = "no_rule"
    RULE_DENY = "rule_deny"
    TOKEN_LIMIT = "token_limit"
    EXISTS = "exists"
    UNTRUSTED_NARINFO = "untrusted_narinfo"

    POLICY_MISSING = "policy_missing"
    VERIFIER_UNAVAILABLE = "verifier_unavailable"
    TOKEN_STORE_UNAVAILABLE = "token_store_unavailable"
    STALE_STATE = "stale_state"
    CHECKS_LATE = "checks_late"
    DIRECTORY_UNAVAILABLE = "directory_unavailable"
    EXISTENCE_UNKNOWN = "existence_unknown"
    AUDIT_UNAVAILABLE = "audit_unavailable"
    OVERLOADED = "overloaded"

    UPSTREAM_CIRCUIT_OPEN = "upstream_circuit_open"
    UPSTREAM_UNREACHABLE = "upstream_unreachable"
    UPSTREAM_UNTRUSTED = "upstream_untrusted"
    UPSTREAM_TIMEOUT = "upstream_timeout"
    UPSTREAM_BROKEN = "upstream_broken"
    UPSTREAM_REDIRECT = "upstream_redirect"
    UPSTREAM_CREDENTIALS = "upstream_credentials"
    UPSTREAM_ERROR = "upstream_error"
    STORE_FULL = "store_full"
    INTERNAL_ERROR = "internal_error"


class Row(Struct, frozen=True):
    status: int
    """The HTTP status, before a profile suits it to its client. A 403 of an anonymous caller becomes a 401 (rule 20)."""
    outcome: Outcome
    hint: str
    """What the caller reads."""


_ALLOW, _DENY, _UNAUTH, _ERROR = Outcome.ALLOW, Outcome.DENY, Outcome.UNAUTHENTICATED, Outcome.ERROR

REASONS: dict[Reason, Row] = {
    Reason.GRANTED: Row(200, _ALLOW, "The policy grants it."),
    Reason.ANSWERED_HERE: Row(204, _ALLOW, "Answered by the sidecar itself; the store was not asked."),
    Reason.WOULD_DENY: Row(200, _ALLOW, "Nothing grants it; report mode lets it through for now."),
    Reason.BAD_REQUEST: Row(400, _DENY, "The request is not valid HTTP/1.1, or has a body where none belongs."),
    Reason.BAD_TARGET: Row(400, _DENY, "The path is written in a form that can be read in two ways; send it plainly."),
    Reason.BAD_HEADER: Row(400, _DENY, "A header is repeated or malformed; send it once, in its standard form."),
    Reason.TWO_CREDENTIALS: Row(400, _DENY, "More than one credential was sent; send exactly one."),
    Reason.MISPLACED_TOKEN: Row(
        400,
        _DENY,
        "A token stands where logs may keep it; replace it, and send it as Bearer or as the password of Basic.",
    ),
    Reason.UPGRADE_REFUSED: Row(400, _DENY, "Protocol upgrades are not accepted here."),
    Reason.HEAD_TOO_LARGE: Row(431, _DENY, "The request's headers are too large."),
    Reason.HEAD_TIMEOUT: Row(408, _DENY, "The request's headers did not arrive in time."),
    Reason.BAD_PROXY_HEADER: Row(400, _DENY, "The connection did not begin with a PROXY header of version 2."),
    Reason.BODY_TIMEOUT: Row(408, _DENY, "The request's body stopped arriving."),
    Reason.MALFORMED_BODY: Row(400, _DENY, "The body is not in the form that this operation asks for."),
    Reason.BODY_MISMATCH: Row(400, _DENY, "The body is not what its hash, checksum or length says; send it again."),
    Reason.LENGTH_REQUIRED: Row(
        411, _DENY, "This store takes no body of unknown length; send it with Content-Length instead of in chunks."
    ),
    Reason.NO_ROUTE: Row(404, _DENY, "No workspace is served at this path; check the URL's first segments."),
    Reason.NO_TOKEN: Row(401, _UNAUTH, "A token is needed: send it as Bearer, or as the password of Basic."),
    Reason.BAD_TOKEN: Row(
        401,
        _UNAUTH,
        "The token is not valid here; create a new one, or check that it is complete, and sent as Bearer or as the password of Basic.",
    ),
    Reason.EXPIRED: Row(401, _UNAUTH, "The token has expired; create a new one."),
    Reason.REVOKED: Row(401, _UNAUTH, "The token has been revoked; create a new one."),
    Reason.UNKNOWN_ACCESS_KEY: Row(
        401, _UNAUTH, "The access key id is not known here; check that it is complete, or create a new one."
    ),
    Reason.BAD_SIGNATURE: Row(
        401,
        _UNAUTH,
        "The signature does not match; check the secret key, and that nothing on the way rewrites host, path or headers.",
    ),
    Reason.MALFORMED_SIGNATURE: Row(
        401, _UNAUTH, "The signature is incomplete, or not in the form of AWS4-HMAC-SHA256 with a signed body hash."
    ),
    Reason.SIGNATURE_V2: Row(
        401,
        _UNAUTH,
        "Signature version 2 is not accepted; set the client to version 4 (boto3, AWS CLI: signature_version s3v4).",
    ),
    Reason.UNSIGNED_HEADER: Row(
        401, _UNAUTH, "A header that has to be signed is not: sign host and every x-amz- header that is sent."
    ),
    Reason.CLOCK_SKEW: Row(401, _UNAUTH, "The request was signed at another time than now; set the client's clock."),
    Reason.URL_EXPIRED: Row(401, _UNAUTH, "The signed URL has expired, or is not valid yet; sign a new one."),
    Reason.THROTTLED: Row(
        429,
        _UNAUTH,
        "Too many bad tokens came from your network; wait, then send a valid one: that is always accepted.",
    ),
    Reason.RATE_LIMITED: Row(
        429, _DENY, "This is more than the token or its workspace may have at once; try again later."
    ),
    Reason.CROSS_SITE: Row(403, _DENY, "Passwords are not accepted from other sites' pages; use a Bearer token."),
    Reason.UNKNOWN_OPERATION: Row(403, _DENY, "This operation is not known for this kind of client."),
    Reason.KEY_REQUIRED: Row(403, _DENY, "A write or delete must name one object: no empty path, no trailing slash."),
    Reason.WRONG_WORKSPACE: Row(403, _DENY, "The token or the request names another workspace than this path's."),
    Reason.INACTIVE_PERSON: Row(403, _DENY, "The token's owner is no longer active; ask your platform team."),
    Reason.NO_RULE: Row(403, _DENY, "The workspace's policy does not grant this; ask its owner."),
    Reason.RULE_DENY: Row(403, _DENY, "A rule of the workspace forbids this; ask its owner."),
    Reason.TOKEN_LIMIT: Row(403, _DENY, "The token itself was made for less than this; create one with this scope."),
    Reason.EXISTS: Row(409, _DENY, "The key is there already, and what is there stays as it is."),
    Reason.UNTRUSTED_NARINFO: Row(
        403, _DENY, "No key that the workspace trusts has signed this narinfo; sign it first."
    ),
    Reason.POLICY_MISSING: Row(
        503, _ERROR, "The workspace's policy could not be loaded; its owner has to mend the file."
    ),
    Reason.VERIFIER_UNAVAILABLE: Row(
        503, _ERROR, "The token's issuer can't be reached to verify it; try again shortly."
    ),
    Reason.TOKEN_STORE_UNAVAILABLE: Row(503, _ERROR, "The token store can't answer; try again shortly."),
    Reason.STALE_STATE: Row(503, _ERROR, "Revocations can't be followed at present; try again shortly."),
    Reason.CHECKS_LATE: Row(503, _ERROR, "The token's checks could not be judged in time; try again shortly."),
    Reason.DIRECTORY_UNAVAILABLE: Row(503, _ERROR, "The directory of people can't answer; try again shortly."),
    Reason.EXISTENCE_UNKNOWN: Row(503, _ERROR, "Whether the object exists could not be learnt; try again shortly."),
    Reason.AUDIT_UNAVAILABLE: Row(
        503, _ERROR, "The audit log takes no record, so nothing may happen; try again shortly."
    ),
    Reason.OVERLOADED: Row(503, _ERROR, "Too many requests at once; try again shortly."),
    Reason.UPSTREAM_CIRCUIT_OPEN: Row(503, _ERROR, "The store does not answer at present; try again shortly."),
    Reason.UPSTREAM_UNREACHABLE: Row(502, _ERROR, "The store can't be reached; try again shortly."),
    Reason.UPSTREAM_UNTRUSTED: Row(
        502, _ERROR, "The store could not prove that it is the store; its operator has to mend its certificate."
    ),
    Reason.UPSTREAM_TIMEOUT: Row(504, _ERROR, "The store did not answer in time; try again shortly."),
    Reason.UPSTREAM_BROKEN: Row(502, _ERROR, "The store's answer was broken off or malformed."),
    Reason.UPSTREAM_REDIRECT: Row(502, _ERROR, "The store redirected outside of this path, which is not followed."),
    Reason.UPSTREAM_CREDENTIALS: Row(
        502, _ERROR, "The store refused the sidecar's own credentials; its operator has to mend them."
    ),
    Reason.UPSTREAM_ERROR: Row(502, _ERROR, "The store answered with an error; try again shortly."),
    Reason.STORE_FULL: Row(507, _ERROR, "The store has no space left."),
    Reason.INTERNAL_ERROR: Row(500, _ERROR, "The sidecar failed; its log says why."),
}
