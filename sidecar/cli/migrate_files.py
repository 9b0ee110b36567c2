"""What a repository's files say of remote caches and their passwords, and how they read without: one rule for each file's name.

Laws. A rule changes the bytes that it names and no other: comments, line ends and order stay. The text of a secret leaves here in
`Finding.secret` alone, so that whoever shows a line can take it out.
"""

import re
from collections.abc import Callable, Iterator

from msgspec import Struct

from sidecar.cli import jsonc

VARIABLE = "SIDECAR_TOKEN"


class Finding(Struct, frozen=True):
    line: int
    """From 1, in the text as it was."""
    client: str
    """As `sidecar client-config` calls it."""
    what: str
    """The setting's name."""
    kind: str
    """`token`: a credential in plain sight. `setting`: where an old remote cache is, or which one."""
    change: str
    """`removed`, `replaced`, or `none` where a person has to see to it."""
    secret: str = ""


class Changed(Struct, frozen=True):
    text: str
    findings: list[Finding]


def rule_for(path: str) -> "Callable[[str], Changed] | None":
    """By a file's path within the repository, with slashes."""
    folder, _, name = path.rpartition("/")
    if (folder.rpartition("/")[2], name) in _IN_FOLDER:
        return _IN_FOLDER[folder.rpartition("/")[2], name]
    return _BY_NAME.get(name)


# JSON: Nx and Turborepo

_NX_MEMBERS = {
    "nxCloudAccessToken": "token",
    "nxCloudEncryptionKey": "token",
    "nxCloudId": "setting",
    "nxCloudUrl": "setting",
    "s3": "setting",
    "gcs": "setting",
    "azure": "setting",
    "sharedFs": "setting",
}
"""Of the root: Nx Cloud's, and those of the packages `@nx/*-cache`, which are no longer kept up."""
_NX_RUNNER = re.compile(r"nx-cloud|nx-remotecache|nx-remote-cache|-cache$|remote")
_TURBO_MEMBERS = {
    "token": "token",
    "apiUrl": "setting",
    "loginUrl": "setting",
    "teamId": "setting",
    "teamSlug": "setting",
}
_SECRET_NAME = re.compile(r"(?i)token|password|passwd|secret|encryptionKey|accessKey|accountKey|_auth")


def nx_json(text: str) -> Changed:
    found = jsonc.members(text)
    cut: list[tuple[jsonc.Member, str]] = []
    for member in found:
        path = member.path
        if len(path) == 1 and path[0] in _NX_MEMBERS:
            cut.append((member, _NX_MEMBERS[path[0]]))
        elif path[0] == "tasksRunnerOptions" and path[2:] == ("runner",) and _NX_RUNNER.search(_string(text, member)):
            cut += [(each, "setting") for each in found if each.path == path[:2]]
    return _cut(text, found, cut, "nx")


def turbo_json(text: str) -> Changed:
    found = jsonc.members(text)
    cut = [
        (member, _TURBO_MEMBERS[member.path[1]])
        for member in found
        if len(member.path) == 2 and member.path[0] == "remoteCache" and member.path[1] in _TURBO_MEMBERS
    ]
    return _cut(text, found, cut, "turborepo")


def turbo_config(text: str) -> Changed:
    """`.turbo/config.json`, which `turbo login` and `turbo link` write."""
    names = {name.lower(): kind for name, kind in _TURBO_MEMBERS.items()}
    found = jsonc.members(text)
    cut = [
        (each, names[each.path[0].lower()]) for each in found if len(each.path) == 1 and each.path[0].lower() in names
    ]
    return _cut(text, found, cut, "turborepo")


def _cut(text: str, found: list[jsonc.Member], cut: list[tuple[jsonc.Member, str]], client: str) -> Changed:
    findings = []
    for member, kind in cut:
        what = ".".join(member.path)
        line = text.count("\n", 0, member.start) + 1
        findings.append(Finding(line, client, what, kind, "removed", _string(text, member) if kind == "token" else ""))
        for inner in found:
            if (
                inner.path[: len(member.path)] == member.path
                and inner != member
                and _SECRET_NAME.search(inner.path[-1])
            ):
                line = text.count("\n", 0, inner.start) + 1
                findings.append(Finding(line, client, ".".join(inner.path), "token", "removed", _string(text, inner)))
    return Changed(jsonc.without(text, [member for member, _ in cut]), findings)


def _string(text: str, member: jsonc.Member) -> str:
    return text[member.value_start : member.end].strip('"')


# Files of lines

_Lines = Callable[[str], tuple[str | None, list[Finding]]]
"""A line without its end: the line anew (`None`: it goes) and what was found, with 0 for the line's number."""


def _by_lines(text: str, change: _Lines, more: str = "") -> Changed:
    """`more` is a line that comes in place of the first one that went or changed."""
    out: list[str] = []
    findings: list[Finding] = []
    for number, whole in enumerate(text.split("\n"), 1):
        end = "\r" if whole.endswith("\r") else ""
        line = whole.removesuffix("\r")
        new, found = change(line)
        gone = any(each.change != "none" for each in found)
        if gone and not any(each.change != "none" for each in findings) and more and more not in text:
            out.append(more + end)
        findings += [Finding(number, each.client, each.what, each.kind, each.change, each.secret) for each in found]
        if new is not None:
            out.append(new + end)
    return Changed("\n".join(out), findings)


_BAZEL_FLAG = re.compile(
    r"""[ \t]+(?P<flag>--(?P<name>remote_cache|remote_header|remote_cache_header|remote_downloader_header|bes_header"""
    r"""|google_credentials|google_default_credentials)(?![\w-])"""
    # A word as a shell reads it; and where the quotes were forgotten, the secret behind the scheme belongs to it, too.
    r"""(?:[= ](?P<value>(?i:[\w-]*authorization=(?:bearer|basic))[ \t]+[^\s-]\S*|(?:"[^"]*"|'[^']*'|\S)*))?)"""
)
_BAZEL_SECRETS = ("authorization", "api-key", "apikey", "token", "secret", "password")
"""How the names of headers end that hold one."""
_BAZEL_USER = "try-import %workspace%/.bazelrc.user"


def bazelrc(text: str) -> Changed:
    def change(line: str) -> tuple[str | None, list[Finding]]:
        if line.lstrip().startswith("#"):
            return line, []
        found = []
        for match in _BAZEL_FLAG.finditer(line):
            value = (match["value"] or "").strip("\"'")
            name, _, rest = value.partition("=")
            if match["name"].endswith("header"):
                if not name.strip("\"'").lower().endswith(_BAZEL_SECRETS):
                    continue
                if (
                    match["name"] == "bes_header"
                ):  # of a service that shows builds: no cache, and ours can't take its place
                    found.append(Finding(0, "bazel", "--bes_header", "token", "none", rest.strip("\"'")))
                    continue
                found.append(Finding(0, "bazel", f"--{match['name']}", "token", "removed", rest.strip("\"'")))
            else:
                secret = _userinfo(value)
                kind = "token" if secret else "setting"
                found.append(Finding(0, "bazel", f"--{match['name']}", kind, "removed", secret))
            line = line.replace(match["flag"], "\0", 1)
        if not found:
            return line, []
        line = re.sub("[ \t]+\0", "", line)
        return (None if len(line.split()) < 2 else line), found

    return _by_lines(text, change, _BAZEL_USER)


_CCACHE = re.compile(r"[ \t]*(remote_storage|secondary_storage)[ \t]*=[ \t]*(.*)")


def ccache_conf(text: str) -> Changed:
    def change(line: str) -> tuple[str | None, list[Finding]]:
        match = _CCACHE.fullmatch(line)
        if match is None or re.fullmatch(r"(file:\S*[ \t]*)*", match[2]):
            return line, []
        secret = _userinfo(match[2]) or next(iter(re.findall(r"bearer-token=([^|\s]+)", match[2])), "")
        return None, [Finding(0, "ccache", match[1], "token" if secret else "setting", "removed", secret)]

    return _by_lines(text, change)


_NPM = re.compile(r"([ \t]*(?:\S*:)?(_authToken|_auth|_password)[ \t]*=[ \t]*)(\S.*?)[ \t]*")


def npmrc(text: str) -> Changed:
    def change(line: str) -> tuple[str | None, list[Finding]]:
        match = _NPM.fullmatch(line)
        if match is None or line.lstrip()[:1] in "#;" or re.fullmatch(r"\"?\$\{[^}]+\}\"?", match[3]):
            return line, []
        name, secret = match[2], match[3].strip("\"'")
        if name == "_authToken":
            return f"{match[1]}${{{VARIABLE}}}", [Finding(0, "npm", name, "token", "replaced", secret)]
        # These two hold base64: no variable with a token in it could stand there.
        prefix = match[1].partition(name)[0]
        return f"{prefix}_authToken=${{{VARIABLE}}}", [Finding(0, "npm", name, "token", "replaced", secret)]

    return _by_lines(text, change)


_PROPERTY = re.compile(r"[ \t]*([^\s#!=:][^\s=:]*)[ \t]*[=: \t][ \t]*(\S.*?)[ \t]*")
_CACHE_PROPERTY = re.compile(r"(?i)cache.*(password|token|secret|user|login|url|key)")


def gradle_properties(text: str) -> Changed:
    def change(line: str) -> tuple[str | None, list[Finding]]:
        match = _PROPERTY.fullmatch(line)
        if match is None or line.endswith("\\"):
            return line, []
        name, value = match[1], match[2]
        secret = value if _SECRET_NAME.search(name) else _userinfo(value)
        if _CACHE_PROPERTY.search(name) and not name.startswith("org.gradle."):
            return None, [Finding(0, "gradle", name, "token" if secret else "setting", "removed", secret)]
        if secret and not value.startswith("$"):
            return line, [Finding(0, "gradle", name, "token", "none", secret)]
        return line, []

    return _by_lines(text, change)


_GRADLE_PASSWORD = re.compile(r"""(\bpassword\b[ \t]*(?:=|\.set\()?[ \t]*\(?)(["'])((?:(?!\2)[^\\$\r\n])+)\2""")
_GRADLE_URL = re.compile(r"""https?://([^/@\s"']+:[^/@\s"']+)@""")


def settings_gradle(text: str) -> Changed:
    """Within what is said of `HttpBuildCache`; its address is for a person to change."""
    findings: list[Finding] = []
    out, place = [], 0
    for start, end in _blocks(text):
        before = len(findings)
        for match in _GRADLE_PASSWORD.finditer(text, start, end):
            findings.append(_at(text, match.start(), "password", "replaced", match[3]))
            out += [text[place : match.start(2)], f'System.getenv("{VARIABLE}")']
            place = match.end()
        urls = _GRADLE_URL.finditer(text, start, end)
        findings += [_at(text, match.start(), "url", "none", match[1]) for match in urls]
        if len(findings) == before:
            findings.append(Finding(text.count("\n", 0, start) + 1, "gradle", "HttpBuildCache", "setting", "none"))
    return Changed("".join(out) + text[place:], findings)


def _at(text: str, place: int, what: str, change: str, secret: str) -> Finding:
    return Finding(text.count("\n", 0, place) + 1, "gradle", what, "token", change, secret)


def _blocks(text: str) -> Iterator[tuple[int, int]]:
    """Each block that follows `HttpBuildCache`, by its braces."""
    place = 0
    while (found := text.find("HttpBuildCache", place)) >= 0:
        opening = text.find("{", found)
        if opening < 0:
            return
        depth, place = 0, opening
        while place < len(text):
            depth += {"{": 1, "}": -1}.get(text[place], 0)
            place += 1
            if depth == 0:
                break
        if not _is_ours(text[opening:place]):
            yield opening, place


def _is_ours(block: str) -> bool:
    return VARIABLE in block and _GRADLE_PASSWORD.search(block) is None and _GRADLE_URL.search(block) is None


_CARGO = re.compile(
    r"""[ \t]*["']?(SCCACHE_(?:WEBDAV|BUCKET|ENDPOINT|REGION|S3|REDIS|MEMCACHED|GCS|GHA|AZURE|OSS|COS)[A-Z0-9_]*"""
    r"""|AWS_ACCESS_KEY_ID|AWS_SECRET_ACCESS_KEY|AWS_SESSION_TOKEN)["']?[ \t]*=[ \t]*(.*?)[ \t]*"""
)
_CARGO_SECRET = re.compile(r"TOKEN|PASSWORD|SECRET|CONNECTION_STRING|ACCESS_KEY_ID|CREDENTIALS|REDIS")


def cargo_config(text: str) -> Changed:
    def change(line: str) -> tuple[str | None, list[Finding]]:
        match = _CARGO.fullmatch(line)
        if match is None or match[2].startswith(('"""', "'''")):
            return line, []
        values = re.findall(r"""["']([^"']*)["']""", match[2])
        secret = values[0] if values and _CARGO_SECRET.search(match[1]) else _userinfo(match[2])
        return None, [Finding(0, "sccache", match[1], "token" if secret else "setting", "removed", secret)]

    return _by_lines(text, change)


def _userinfo(text: str) -> str:
    """`user:password` of a URL."""
    found = re.search(r"://([^/@\s\"']+)@", text)
    return found[1] if found is not None else ""


_BY_NAME: dict[str, Callable[[str], Changed]] = {
    "nx.json": nx_json,
    "turbo.json": turbo_json,
    "turbo.jsonc": turbo_json,
    ".bazelrc": bazelrc,
    "gradle.properties": gradle_properties,
    "settings.gradle": settings_gradle,
    "settings.gradle.kts": settings_gradle,
    ".npmrc": npmrc,
    "ccache.conf": ccache_conf,
    ".ccache.conf": ccache_conf,
}
_IN_FOLDER = {
    (".turbo", "config.json"): turbo_config,
    (".cargo", "config.toml"): cargo_config,
    (".cargo", "config"): cargo_config,
    (".ccache", "ccache.conf"): ccache_conf,
}
