"""Where a request carries its credential. Law: at most one credential, and one that is present is never overlooked.

Read here: `Authorization` (Bearer, Basic) and the configured headers; for S3 clients its AWS signatures and their session token, too.
Nothing else is a carrier: not the query (it ends up in access logs), but for signed URLs of S3 clients, not a cookie, not
`Proxy-Authorization`. A carrier that is present and can't be read is a refused token, never anonymous (`docs/policy.md` rule 4). Whose
token it is, the verifiers say.
"""

import base64
import re
from collections.abc import Mapping

from sidecar import sigv4_verify
from sidecar.errors import CredentialRefused, Refused
from sidecar.model import Head, Secret
from sidecar.reasons import Reason
from sidecar.sigv4_verify import SIGNING_PARAMETERS, Presented

MAX_TOKEN = 8192
"""Characters. Checked before anything whose cost grows with the token."""

_OPAQUE = re.compile(r"[A-Za-z][A-Za-z0-9]*_(?:pat|ci)_[0-9A-Za-z]{12}_[0-9A-Za-z]{49}")
_JWT = re.compile(r"ey[A-Za-z0-9_-]*\.[A-Za-z0-9_-]+\.[A-Za-z0-9_-]*")
_BISCUIT = re.compile(r"[CE][A-Za-z0-9_-]{199,}={0,2}")
"""Its first block alone, with its key and its signature, has more."""
_MISPLACED = "a token in another place than it belongs: send it as Bearer, or as the password of Basic"
_SAME_SITE = frozenset({"same-origin", "none"})
_DEFAULT_PORTS = {"http": ":80", "https": ":443"}


def find(head: Head, extra_headers: tuple[str, ...] = ()) -> Secret | None:
    """The request's one credential; `None` where there is none (the caller is anonymous).

    `extra_headers`: lower-case names of configured headers that may carry a token, alone or after `Bearer`.
    Raises `Refused(TWO_CREDENTIALS | CROSS_SITE)` and `CredentialRefused(BAD_TOKEN)`.
    """
    values = head.headers.values
    authorization = values.get("authorization")
    if extra_headers:
        present = [name for name in extra_headers if name in values]
        if len(present) + (authorization is not None) > 1:
            raise Refused(Reason.TWO_CREDENTIALS, "more than one header carries a credential")
        if present:
            return _configured(values[present[0]])
    if authorization is None:
        return None
    scheme, _, rest = authorization.partition(" ")
    if scheme == "Bearer":
        return _token(rest)
    scheme = scheme.lower()
    if scheme in ("bearer", "bearer:"):
        return _token(rest)
    if scheme == "basic":
        _refuse_cross_site(values)
        return _password(rest)
    misplaced = looks_like_token(rest.strip(" ") or authorization)
    raise CredentialRefused(Reason.BAD_TOKEN, _MISPLACED if misplaced else "unknown scheme of Authorization")


def carrier(head: Head, extra_headers: tuple[str, ...] = ()) -> str:
    """Where the credential that `find` returned sat, as the audit log names it: `bearer`, `basic` or `header`."""
    values = head.headers.values
    if any(name in values for name in extra_headers):
        return "header"
    return "basic" if values.get("authorization", "")[:5].lower() == "basic" else "bearer"


def session_token(head: Head, parameters: Mapping[str, str], extra_headers: tuple[str, ...] = ()) -> Secret | None:
    """The token in `X-Amz-Security-Token`, where S3 tools send what they know as `AWS_SESSION_TOKEN`; `None` where there is none.

    Their signature beside it is made with whatever key pair they were given: the two are one credential, and the token
    alone is judged. `parameters`: the query's, decoded. Raises `Refused(TWO_CREDENTIALS | SIGNATURE_V2 | MALFORMED_SIGNATURE)`
    and `CredentialRefused(BAD_TOKEN)`.
    """
    values = head.headers.values
    token = values.get("x-amz-security-token")
    if token is None:
        return None
    authorization = values.get("authorization", "AWS4")
    signed_url = not SIGNING_PARAMETERS.isdisjoint(parameters)
    if signed_url or not authorization.startswith("AWS") or any(name in values for name in extra_headers):
        raise Refused(Reason.TWO_CREDENTIALS, "a session token beside another credential")
    if authorization.startswith("AWS "):
        raise Refused(Reason.SIGNATURE_V2)
    return _token(token)


def signature(
    head: Head,
    parameters: Mapping[str, str],
    now: float,
    extra_headers: tuple[str, ...] = (),
    *,
    region: str | None = None,
) -> Presented | None:
    """The AWS signature, in `Authorization` or the query, of which nothing is proven; `None` where there is none. For routes of S3
    clients alone: elsewhere the scheme is unknown and the parameters mean nothing. Raises as `sigv4_verify.read`."""
    presented = sigv4_verify.read(head, parameters, now, region=region)
    if presented is not None and any(name in head.headers.values for name in extra_headers):
        raise Refused(Reason.TWO_CREDENTIALS, "a signature beside another credential")
    return presented


def old_password(head: Head, extra_headers: tuple[str, ...] = ()) -> tuple[str, bytes] | None:
    """What may be a workspace's old shared password, as it was sent: `basic` and `user:password`, or `bearer` and what follows.

    `None` where the request has no such thing, or what `find` refuses. Raises `Refused(CROSS_SITE)`.
    """
    values = head.headers.values
    authorization = values.get("authorization")
    if authorization is None or any(name in values for name in extra_headers):
        return None
    scheme, _, rest = authorization.partition(" ")
    scheme = scheme.lower()
    if scheme in ("bearer", "bearer:"):
        return "bearer", rest.lstrip(" ").encode("utf-8", "surrogateescape")
    if scheme != "basic":
        return None
    _refuse_cross_site(values)
    try:
        return "basic", _pair(rest)
    except ValueError:
        return None


def looks_like_token(text: str) -> bool:
    """Whether a text has the shape of a token: opaque of any brand, three parts of a JWT, or a Biscuit."""
    return any(shape.fullmatch(text) is not None for shape in (_OPAQUE, _JWT, _BISCUIT))


def _token(text: str) -> Secret:
    if text[:1] == " ":
        # RFC 9110 §11.4: one or more spaces follow the scheme.
        text = text.lstrip(" ")
    if not text:
        raise CredentialRefused(Reason.BAD_TOKEN, "empty token")
    if len(text) > MAX_TOKEN:
        raise CredentialRefused(Reason.BAD_TOKEN, "token too long")
    if " " in text or "\t" in text or not text.isascii():
        raise CredentialRefused(Reason.BAD_TOKEN, "token with a space or a character outside of ASCII")
    return Secret(text)


def _configured(value: str) -> Secret:
    scheme, _, rest = value.partition(" ")
    return _token(rest if scheme.lower() in ("bearer", "bearer:") else value)


def _password(encoded: str) -> Secret:
    # RFC 7617: everything after the first colon is the password. A token is ASCII, so the charset of the user name,
    # which clients don't agree on (UTF-8, Latin-1), needs no answer.
    try:
        pair = _pair(encoded).decode("latin-1")
    except ValueError:
        raise CredentialRefused(Reason.BAD_TOKEN, "Basic with malformed base64") from None
    user, _, password = pair.partition(":")
    if looks_like_token(user) and looks_like_token(password):
        raise Refused(Reason.TWO_CREDENTIALS, "Basic with a token on either side")
    if not password and looks_like_token(user):
        raise CredentialRefused(Reason.BAD_TOKEN, _MISPLACED)
    if not password.isprintable():
        raise CredentialRefused(Reason.BAD_TOKEN, "Basic with a control character in the password")
    if password[:1] == " ":
        raise CredentialRefused(Reason.BAD_TOKEN, "token with a space or a character outside of ASCII")
    return _token(password)


def _pair(encoded: str) -> bytes:
    """Raises `ValueError`, which `binascii.Error` is one of."""
    return base64.b64decode(encoded.lstrip(" "), validate=True)


def _refuse_cross_site(values: dict[str, str]) -> None:
    # A browser sends a remembered Basic password along with requests that another site's page starts.
    site = values.get("sec-fetch-site")
    if site is not None and site not in _SAME_SITE:
        raise Refused(Reason.CROSS_SITE, "Basic with Sec-Fetch-Site of another site")
    origin = values.get("origin")
    if origin is None:
        return
    # RFC 6454 §7: an origin is `scheme://host[:port]` or `null`. The scheme isn't compared: whether TLS ended in
    # front of us isn't known here, and a default port is never written in an origin.
    scheme, _, authority = origin.lower().partition("://")
    default_port = _DEFAULT_PORTS.get(scheme)
    host = values.get("host", "").lower()
    if default_port is None or not host:
        raise Refused(Reason.CROSS_SITE, "Basic with an Origin that isn't this site's")
    if authority != host.removesuffix(default_port):
        raise Refused(Reason.CROSS_SITE, "Basic with an Origin of another site")
