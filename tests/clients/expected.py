"""What each client has to come to in each situation: exit status, where the result is from, and words that it has to say.

No words: it has to say nothing. A client fails a build only where `FAILS` says so, and then it has to tell why.
"""

from tests.clients.page import SITUATIONS
from tests.clients.real.every import CLIENTS

Expected = tuple[int, str, str]
"""Exit status; `cache`, `built` or `nothing`; a part of a line, or nothing."""

_HIT = {
    "Nx": "[remote cache]", "Turborepo": "cache hit", "Bazel": "1 remote cache hit", "Gradle": ":a FROM-CACHE",
    "Nix": "copying path", "ccache": "", "sccache": "",
}  # fmt: skip
_SILENT = dict.fromkeys((each.name for each in CLIENTS), "")
_REFUSED_UPLOAD = {
    **_SILENT,
    "Turborepo": "failed to put to http cache: cache disabled",
    "Bazel": "Writing to Remote Cache",
    "Gradle": "(token_limit)",
    "Nix": "(token_limit)",
}
_OUTAGE = {
    **_SILENT, "Turborepo": "HTTP status server error (50", "Bazel": "try again shortly. (upstream_", "Gradle": "try again shortly. (upstream_",
}  # fmt: skip
_WORDS: dict[str, dict[str, str]] = {
    "hit": _HIT,
    "256 MiB": _HIT,
    "read-only, known": _HIT,
    "read-only, new": _REFUSED_UPLOAD,
    "no token": {
        "Nx": "Unauthorized: A token is needed: set NX_SELF_HOSTED_REMOTE_CACHE_ACCESS_TOKEN. (no_token)",
        "Turborepo": "Remote caching disabled",
        "Bazel": 'A token is needed: pass --remote_header="Authorization=Bearer TOKEN". (no_token)',
        "Gradle": "A token is needed: it is the password in the remote build cache's credentials. (no_token)",
        "Nix": "does not appear to be a binary cache",
        "ccache": "",
        "sccache": "A token is needed",
    },
    "bad token": {
        "Nx": "Unauthorized: The token has been revoked; create a new one. (revoked)",
        "Turborepo": "TURBO_TOKEN",
        "Bazel": "The token has been revoked; create a new one. (revoked)",
        "Gradle": "The token has been revoked; create a new one. (revoked)",
        "Nix": "does not appear to be a binary cache",
        "ccache": "",
        "sccache": "The token has been revoked; create a new one. (revoked)",
    },
    "revoked": {
        **_SILENT,
        "Turborepo": "401 Unauthorized",
        "Bazel": "Writing to Remote Cache",
        "Gradle": "The token has been revoked; create a new one. (revoked)",
        "Nix": "The token has been revoked; create a new one. (revoked)",
    },
    "store down": {**_OUTAGE, "Nix": "try again shortly. (upstream_"},
    "outage": {**_OUTAGE, "Nix": "try again shortly. (upstream_"},
    "verifier down": {**_OUTAGE, **dict.fromkeys(("Bazel", "Gradle", "Nix"), "(verifier_unavailable)")},
    "second writer": {
        **_SILENT,
        "Turborepo": "409 Conflict",
        "Bazel": "(exists)",
        "Gradle": "(exists)",
        "Nix": "(exists)",
    },
}
_FROM_CACHE = {"hit", "256 MiB", "read-only, known"}
FAILS: dict[tuple[str, str], tuple[int, str]] = {
    ("no token", "Nx"): (1, "nothing"),
    ("bad token", "Nx"): (1, "nothing"),
    ("no token", "sccache"): (2, "nothing"),
    ("bad token", "sccache"): (2, "nothing"),
    ("read-only, new", "Nix"): (1, "built"),
    ("no token", "Nix"): (1, "built"),
    ("bad token", "Nix"): (1, "built"),
    ("revoked", "Nix"): (1, "built"),
    ("second writer", "Nix"): (1, "built"),
    ("store down", "Nix"): (1, "built"),
    ("outage", "Nix"): (1, "nothing"),
    ("verifier down", "Nix"): (1, "built"),
}
"""Nix's are those of `nix copy`, after the build, but for the outage of a cache that it knows."""


def expected(situation: str, client: str) -> Expected:
    usual = (0, "cache" if situation in _FROM_CACHE else "built")
    return (*FAILS.get((situation, client), usual), _WORDS[situation][client])


assert set(_WORDS) == set(SITUATIONS)
assert all(set(words) == {each.name for each in CLIENTS} for words in _WORDS.values())
