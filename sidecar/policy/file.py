"""A policy file's text -> `Workspace`. Whoever gets one holds a policy without contradictions in itself; what contradicts
other files is told by `routes.conflicts`.

Law: what this version doesn't do is refused, never ignored: a policy means all that it says or it isn't loaded.
"""

import calendar
import hashlib
from collections.abc import Collection, Mapping
from functools import partial

from msgspec import Struct

from sidecar.document import Document, Value, parse
from sidecar.model import LEVELS, NOTHING, Permission, Permissions, Quotas
from sidecar.narinfo import TRUSTED_PUBLIC_KEYS, read_key
from sidecar.policy import bucket_file, buckets
from sidecar.policy.cases import read_cases
from sidecar.policy.compiled import Legacy, Route, TrustedKey, Workspace
from sidecar.policy.names import known_name, method_name, plain_path, workspace_name
from sidecar.policy.rules import Issuers, read_rules
from sidecar.quotas import read_quotas
from sidecar.settings import DAY

_PERMISSIONS = tuple(permission.value for permission in Permission)
SCHEMES = ("basic", "bearer")
_NO_NAMES: frozenset[str] = frozenset()


def compile_file(
    text: str,
    file: str,
    *,
    issuers: Issuers,
    upstreams: Collection[str] | None,
    profiles: Collection[str],
) -> Workspace:
    """Raises `DocumentError` with all problems. `file` is only a name for messages.

    `issuers` and `upstreams` are the configuration's; with `None` their names are not checked, nor whether an issuer serves
    everybody. `profiles` are the names that `client` may say.
    """
    document = parse(text, file)
    workspace = _read(document, text, issuers, upstreams, profiles)
    document.finish()
    return workspace


def _read(
    document: Document, text: str, issuers: Issuers, upstreams: Collection[str] | None, profiles: Collection[str]
) -> Workspace:
    block = document.root.block()
    name = workspace_name(block.need("workspace"))
    settings = block.get("settings", _read_settings, Settings())
    routes = read_routes(block.need("routes"), name, upstreams, profiles, settings.trusted_keys)
    users, groups = block.get("members", _read_members, (_NO_NAMES, _NO_NAMES))
    anonymous = block.get("anonymous", _read_level, NOTHING)
    personal_tokens = block.get("personal_tokens", _read_level, NOTHING)
    ci_tokens = block.get("ci_tokens", _read_level, NOTHING)
    rules = block.get("rules", lambda value: read_rules(value, issuers), ())
    write_once = block.get("write_once", Value.boolean, False)
    shares = block.get("shares", lambda value: frozenset(value.texts()), _NO_NAMES)
    report_until = block.get("mode", _read_mode, None)
    legacy = block.get("legacy", _read_legacy, None)
    cases = block.get("cases", lambda value: read_cases(value, name, issuers), ())
    guard = block.get("guard", Value.boolean, False)
    quotas = block.get("rate_limits", read_quotas, None)
    return Workspace(
        name=name,
        file=document.file,
        sha256=hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest(),
        routes=routes,
        anonymous=anonymous,
        users=users,
        groups=groups,
        personal_tokens=personal_tokens,
        ci_tokens=ci_tokens,
        rules=rules,
        write_once=write_once,
        shares=shares,
        settings=settings.texts,
        cases=cases,
        guard=guard,
        report_until=report_until,
        legacy=legacy,
        quotas=None if quotas == Quotas() else quotas,
    )


class Settings(Struct, frozen=True):
    """The block `settings`: as it is written, and what profiles read in it."""

    texts: Mapping[str, str] = {}
    trusted_keys: tuple[TrustedKey, ...] | None = None


def read_routes(
    value: Value,
    workspace: str,
    upstreams: Collection[str] | None,
    profiles: Collection[str],
    trusted_keys: tuple[TrustedKey, ...] | None = None,
) -> tuple[Route, ...]:
    """Those whose path can be read."""
    routes: list[Route] = []
    lines: dict[str, int] = {}
    items = value.items()
    if value.is_list and not items:
        value.problem("a workspace has at least one route")
    for item in items:
        block = item.block()
        path_value = block.need("path")
        path = plain_path(path_value)
        client = known_name(block.need("client"), profiles, "client")
        upstream_value = block.need("upstream")
        upstream = known_name(upstream_value, upstreams, "upstream")
        keys = block.get("upstream_path", plain_path, path) or path
        verbs = block.get("verbs", _read_verbs, {})
        content_address = block.get("content_address", partial(_read_content_address, client), False)
        cas_writes_open = block.get("cas_writes", partial(_read_cas_writes, client), False)
        host = block.get("host", partial(bucket_file.read_host, client), "")
        block.refuse("legacy", "the old shared password is the workspace's; write it beside 'routes'")
        if not path:
            continue
        if client == buckets.CLIENT:
            if verbs:
                block.problem("what S3's methods mean is settled by the operation; leave 'verbs' out")
            bucket_file.check(path_value, keys, upstream_value, upstream, upstreams)
        if path in lines:
            path_value.problem(f"the route {path} is in line {lines[path]} already")
        lines.setdefault(path, path_value.line)
        segments = () if path == "/" else tuple(path[1:].split("/"))
        routes.append(
            Route(
                workspace,
                path,
                segments,
                client,
                upstream,
                "" if keys == "/" else keys,
                verbs,
                content_address=content_address,
                cas_writes_open=cas_writes_open,
                trusted_keys=trusted_keys if client == "nix" else None,
                host=host,
                line=item.line,
            )
        )
    return tuple(routes)


def _read_verbs(value: Value) -> Mapping[str, Permission]:
    verbs: dict[str, Permission] = {}
    for method, member in value.block().entries():
        method_name(member, method)
        verbs[method] = Permission(member.choice(_PERMISSIONS, "permission"))
    return verbs


def _read_members(value: Value) -> tuple[frozenset[str], frozenset[str]]:
    block = value.block()
    users = block.get("users", Value.texts, ())
    groups = block.get("groups", Value.texts, ())
    return frozenset(users), frozenset(groups)


def _read_level(value: Value) -> Permissions:
    return LEVELS[value.choice(tuple(LEVELS), "level")]


def _read_content_address(client: str, value: Value) -> bool:
    if client == "s3":
        value.problem("S3 clients upload in parts, of which none can be held to a digest of the whole")
    return value.choice(("sha256",), "digest") == "sha256"


def _read_cas_writes(client: str, value: Value) -> bool:
    if client != "bazel":
        value.problem(
            "only bazel has a store by digest beside its keys; 'content_address: sha256' makes one of a whole route"
        )
    return value.choice(("open", "granted"), "word") == "open"


def _read_settings(value: Value) -> Settings:
    texts: dict[str, str] = {}
    trusted: tuple[TrustedKey, ...] | None = None
    for name, member in value.block().entries():
        if name != TRUSTED_PUBLIC_KEYS:
            texts[name] = member.text()
            continue
        words = member.texts() if member.is_list else tuple(member.text().split())
        texts[name] = " ".join(words)
        trusted = tuple(key for word in words if (key := _trusted_key(member, word)) is not None)
        if not words:
            member.problem("no key: nothing at all would be trusted; leave it out to ask for no signature")
    return Settings(texts, trusted)


def _trusted_key(value: Value, word: str) -> TrustedKey | None:
    key = read_key(word)
    if key is None:
        value.problem(f"{word!r} is no public key; write it as in nix.conf: NAME:BASE64 of 32 bytes")
    return key


def _read_mode(value: Value) -> float | None:
    """Until when it reports, in Unix seconds; `None` enforces (rule 21)."""
    if value.is_mapping:
        block = value.block()
        report = block.find("report")
        if report is not None:
            return _end_of_day(report.block().need("until"))
        block.problem("expected 'enforce', or {report: {until: 2026-12-31}}")
    elif value.is_text and value.text() == "report":
        value.problem("report mode has a last day; write {report: {until: 2026-12-31}}")
    else:
        value.choice(("enforce",), "mode")
    return None


def _read_legacy(value: Value) -> Legacy | None:
    block = value.block()
    files = {scheme: found for scheme in SCHEMES if (found := block.find(f"{scheme}_file")) is not None}
    level = block.need("level").choice(tuple(word for word in LEVELS if LEVELS[word]), "level")
    until = _end_of_day(block.need("until"))
    if value.is_mapping and len(files) != 1:
        block.problem(
            "the old shared password is in exactly one of 'basic_file' (user:password) and 'bearer_file' (what follows Bearer)"
        )
    for scheme, found in files.items():
        return Legacy(scheme, found.text(), LEVELS[level], until, value.line)
    return None


def _end_of_day(value: Value) -> float:
    """The first moment after that day, in UTC, as Unix seconds."""
    return calendar.timegm(value.date().timetuple()) + DAY
