"""How a refusal reads: the status, RFC 6750's challenge, and one line that says what to do next.

Two challenges stand on two lines: clients that were seen to wait for a challenge (Maven) find Basic only on its own line.
"""

from sidecar.model import Head
from sidecar.profiles.profile import LocalAnswer
from sidecar.reasons import REASONS, Reason

_INVALID_TOKEN = frozenset({Reason.BAD_TOKEN, Reason.EXPIRED, Reason.REVOKED})
_INSUFFICIENT_SCOPE = frozenset(
    {Reason.NO_RULE, Reason.RULE_DENY, Reason.TOKEN_LIMIT, Reason.WRONG_WORKSPACE, Reason.INACTIVE_PERSON}
)
_RETRY_AFTER = b"2"
"""Seconds. Long enough for a restart of what is away, short enough for a build that waits."""


def plain(head: Head | None, reason: Reason, hint: str, challenge: bool, workspace: str) -> LocalAnswer:
    """For clients that read the status, and people who read the text. `challenge` makes it a 401."""
    status = 401 if challenge else REASONS[reason].status
    headers = [
        (b"content-type", b"text/plain; charset=utf-8"),
        (b"cache-control", b"no-store"),
        (b"x-content-type-options", b"nosniff"),
        (b"sidecar-reason", reason.value.encode()),
    ]
    realm = b'realm="%b"' % _quoted(workspace or "sidecar")
    if status == 401:
        error = b', error="invalid_token", error_description="%b"' % _quoted(hint) if reason in _INVALID_TOKEN else b""
        headers.append((b"www-authenticate", b"Bearer %b%b" % (realm, error)))
        headers.append((b"www-authenticate", b'Basic %b, charset="UTF-8"' % realm))
    elif status == 403 and reason in _INSUFFICIENT_SCOPE:
        headers.append((b"www-authenticate", b'Bearer %b, error="insufficient_scope"' % realm))
    elif status == 503:
        headers.append((b"retry-after", _RETRY_AFTER))
    body = b"" if head is not None and head.method == "HEAD" else f"{hint} ({reason.value})\n".encode()
    return LocalAnswer(status, tuple(headers), body)


def _quoted(text: str) -> bytes:
    """The inside of an RFC 9110 quoted-string; nothing but printable ASCII gets in."""
    printable = "".join(character for character in text if " " <= character <= "~")
    return printable.replace("\\", "\\\\").replace('"', '\\"').encode()
