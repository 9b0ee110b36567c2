"""Spellings of a path that servers are known to read differently, as data: form × position × prefix.

`PATHS` holds `(id, raw request-target, verdict)`. The verdict is `REFUSED` (every profile), an `Oddity` (accepted by the
parser, refused by each profile that doesn't allow it) or `PLAIN` (reads one way; must pass).
The forms were generated from what published bypasses share, not copied from a list: dot segments, slashes, percent
signs, semicolons and backslashes, each raw, encoded, doubly encoded and in mixed case.
"""

from collections.abc import Iterator

from sidecar.model import Oddity

REFUSED = None
PLAIN = Oddity.NONE
Verdict = Oddity | None

PREFIXES = ("/web", "/web/releases/v1", "/")

# What stands in for `..`: refused wherever it is a whole segment.
DOT_SEGMENTS = (
    "..", ".", "%2e%2e", "%2E%2E", ".%2e", "%2e.", "%2E.", "%2e", "%2E",
    "..;", "..;x", "..;/", ".;x=1", "%2e%2e;", "..%3b", "..%3Bx", "%2e%2e%3bx", "..;a=b;c",
    "..%20", "%2e%2e%20%20", "..%3f", "..%23", "..%3fx=1",
)  # fmt: skip

# Separators that some decoder sees: a dot segment next to one of them is refused too.
SEPARATORS = ("%2f", "%2F", "%5c", "%5C")

# A whole segment that is never acceptable, dots or not.
NEVER = {
    "nul": "%00", "nul-tail": "a%00.html", "cr": "%0d", "lf": "a%0ab", "crlf": "%0d%0aX-Injected:%201", "tab": "%09",
    "del": "%7f", "unit-separator": "%1F", "bell": "%07",
    "backslash": "a\\b", "backslash-dots": "..\\", "backslash-mid": "a\\..\\b", "fragment": "a#b", "fragment-empty": "a#",
    "bad-percent": "a%", "bad-percent-one": "a%2", "bad-percent-letters": "%zz", "bad-percent-u": "%u002e%u002e",
    "bad-percent-double": "%%32%65", "bad-percent-space": "a% 41",
    "overlong-dot": "%c0%ae%c0%ae", "overlong-slash": "..%c0%af..", "overlong-3": "%e0%80%ae", "overlong-4": "%f0%80%80%ae",
    "latin-1": "caf%e9", "lone-byte": "%ff", "utf-16-bom": "%fe%ff", "surrogate": "%ed%a0%80", "beyond-unicode": "%f4%90%80%80",
    "raw-latin-1": "caf\xe9", "raw-utf-8": "caf\u00e9\u20ac", "raw-fullwidth-dots": "\uff0e\uff0e", "raw-surrogate": "a\udc80",
    "raw-space": "a b", "raw-tab": "a\tb", "raw-nul": "a\0b", "raw-cr": "a\rb", "raw-lf": "a\nb", "raw-del": "a\x7fb", "raw-c1": "a\x85b",
}  # fmt: skip

# Accepted by the parser and left to the profile.
ODD = {
    "slash": ("a%2fb", Oddity.ENCODED_SLASH),
    "slash-upper": ("a%2Fb", Oddity.ENCODED_SLASH),
    "npm": ("@scope%2fname", Oddity.ENCODED_SLASH),
    "slash-empty-piece": ("a%2f%2fb", Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT),
    "slash-lead": ("%2fetc", Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT),
    "backslash": ("a%5cb", Oddity.ENCODED_BACKSLASH),
    "percent": ("a%25b", Oddity.ENCODED_PERCENT),
    "double-dot": ("%252e%252e", Oddity.ENCODED_PERCENT),
    "double-slash": ("..%252f..", Oddity.ENCODED_PERCENT),
    "triple-dot": ("%25252e%25252e", Oddity.ENCODED_PERCENT),
    "double-nul": ("a%2500", Oddity.ENCODED_PERCENT),
    "question": ("a%3fb=c", Oddity.ENCODED_QUESTION),
    "question-upper": ("a%3Fb", Oddity.ENCODED_QUESTION),
    "hash": ("a%23b", Oddity.ENCODED_HASH),
    "semicolon": ("a;b", Oddity.SEMICOLON),
    "semicolon-parameters": ("a;jsessionid=1", Oddity.SEMICOLON),
    "semicolon-alone": (";", Oddity.SEMICOLON),
    "semicolon-encoded": ("a%3bb", Oddity.SEMICOLON),
    "semicolon-encoded-upper": ("a%3Bb", Oddity.SEMICOLON),
    "utf-8": ("caf%c3%a9", Oddity.NON_ASCII),
    "utf-8-fullwidth-dots": ("%ef%bc%8e%ef%bc%8e", Oddity.NON_ASCII),
    "utf-8-fullwidth-slash": ("a%ef%bc%8fb", Oddity.NON_ASCII),
    "utf-8-division-slash": ("..%e2%88%95..", Oddity.NON_ASCII),
    "utf-8-c1": ("a%c2%85", Oddity.NON_ASCII),
    "several": ("a;b%2fc%25", Oddity.SEMICOLON | Oddity.ENCODED_SLASH | Oddity.ENCODED_PERCENT),
}

# Looks odd and isn't: refusing it would break clients.
FINE = {
    "three-dots": "...", "dot-name": ".well-known", "dots-in-name": "a..b", "tail-dots": "a..", "lead-dots": "..a",
    "encoded-letter": "%61%62", "encoded-dot-in-name": "a%2ejar", "space": "a%20b", "plus": "a+b", "tilde": "~a",
    "colon": "a:b", "at": "@scope", "equals": "a=b", "comma": "a,b", "star": "*", "brackets": "a[0]", "quote": "a'b\"c",
    "pipe": "a|b^c`{d}<e>", "encoded-plus": "a%2bb", "encoded-colon": "%3a", "digest": "sha256:0f" + "0" * 62, "upper": "WEB",
}  # fmt: skip


def _place(form: str) -> Iterator[tuple[str, str]]:
    """Every position: where it stands, and the target's tail with the form in it."""
    yield "first", f"{form}/secret"
    yield "middle", f"a/{form}/b"
    yield "last", f"a/{form}"
    yield "with-slash", f"a/{form}/"


def _everywhere(name: str, form: str, verdict: Verdict) -> Iterator[tuple[str, str, Verdict]]:
    for prefix in PREFIXES:
        for position, tail in _place(form):
            yield f"{name}-{position}-{prefix}", prefix.rstrip("/") + "/" + tail, verdict


def _cases() -> Iterator[tuple[str, str, Verdict]]:
    for form in DOT_SEGMENTS:
        yield from _everywhere(f"dots[{form}]", form, REFUSED)
    for separator in SEPARATORS:
        for dots in ("..", ".", "%2e%2e", "..;x"):
            yield from _everywhere(f"joined-after[{separator}{dots}]", f"a{separator}{dots}", REFUSED)
            yield from _everywhere(f"joined-before[{dots}{separator}]", f"{dots}{separator}b", REFUSED)
            yield from _everywhere(
                f"joined-around[{separator}{dots}{separator}]", f"a{separator}{dots}{separator}b", REFUSED
            )
    for name, form in NEVER.items():
        yield from _everywhere(name, form, REFUSED)
    for name, (form, oddity) in ODD.items():
        yield from _everywhere(f"odd-{name}", form, oddity)
    for name, form in FINE.items():
        yield from _everywhere(f"fine-{name}", form, PLAIN)
    for prefix in ("/web", "/web/a"):
        for tail in ("//", "//a", "/a//b", "/a//", "///", "/a///b"):
            yield f"empty-segment-{prefix}{tail}", prefix + tail, Oddity.EMPTY_SEGMENT


WHOLE: tuple[tuple[str, str, Verdict], ...] = (
    ("empty", "", REFUSED),
    ("asterisk-form", "*", REFUSED),
    ("no-leading-slash", "web/a", REFUSED),
    ("two-leading-slashes", "//web/a", REFUSED),
    ("three-leading-slashes", "///web/a", REFUSED),
    ("leading-backslash", "\\web", REFUSED),
    ("slash-backslash", "/\\evil.example/a", REFUSED),
    ("leading-encoded-slash", "%2fweb/a", REFUSED),
    ("absolute-form", "http://evil.example/web/a", REFUSED),
    ("absolute-form-own-host", "http://127.0.0.1:8080/web/a", REFUSED),
    ("absolute-form-upper", "HTTP://evil.example/web/a", REFUSED),
    ("scheme-only", "file:///etc/passwd", REFUSED),
    ("authority-form", "evil.example:443", REFUSED),
    ("question-first", "?a=/web", REFUSED),
    ("too-long", "/web/" + "a" * 8188, REFUSED),
    ("too-long-by-query", "/web/a?" + "a" * 8186, REFUSED),
    ("too-many-segments", "/web" + "/a" * 256, REFUSED),
    ("too-many-odd-segments", "/web" + "/a;" * 256, REFUSED),
    ("query-hash", "/web/a?b#c", REFUSED),
    ("query-space", "/web/a?b c", REFUSED),
    ("query-nul", "/web/a?b\0", REFUSED),
    ("query-lf", "/web/a?b\n", REFUSED),
    ("query-latin-1", "/web/a?b=\xe9", REFUSED),
    ("query-del", "/web/a?b\x7f", REFUSED),
    ("root", "/", PLAIN),
    ("longest", "/web/" + "a" * 8187, PLAIN),
    ("most-segments", "/web" + "/a" * 255, PLAIN),
    ("most-odd-segments", "/web" + "/a%20" * 255, PLAIN),
    ("trailing-slash", "/web/a/", PLAIN),
    ("query", "/web/a?b=c&d", PLAIN),
    ("query-question", "/web/a?b?c", PLAIN),
    ("query-dots", "/web/a?../../b", PLAIN),
    ("query-slashes", "/web/a?//b;c", PLAIN),
    ("query-percent", "/web/a?b=%2e%2e%2f", PLAIN),
    ("encoded-slash-last", "/web/a%2f", Oddity.ENCODED_SLASH),
    ("encoded-slash-before-slash", "/web/a%2f/", Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT),
    ("encoded-slash-after-slash", "/web/%2fa", Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT),
    ("encoded-slash-in-route", "/web%2fa", Oddity.ENCODED_SLASH),
    ("encoded-slash-leading", "/%2fweb/a", Oddity.ENCODED_SLASH | Oddity.EMPTY_SEGMENT),
    ("query-empty", "/web/a?", PLAIN),
)

PATHS: tuple[tuple[str, str, Verdict], ...] = (*_cases(), *WHOLE)
