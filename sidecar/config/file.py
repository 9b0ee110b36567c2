"""The configuration file -> `Settings`. Reads that one file and nothing that it names; those are `named_files.check_files`'s.

The law: whatever contradicts itself, or would quietly do nothing, is a problem here and not a surprise later.
No environment variable and no interpolation: what the file says is all there is. Secrets stand in files of their own.
"""

import math
import os
import re
from pathlib import Path
from typing import Final

from sidecar.config.addresses import listen_address, same_socket
from sidecar.config.issuers import issuers
from sidecar.config.listeners import listeners
from sidecar.config.upstreams import upstream
from sidecar.config.values import Folder, header_name, names, within
from sidecar.credentials.opaque import TokenFormat
from sidecar.document import Block, Document, Value, parse
from sidecar.errors import DocumentError, Problem
from sidecar.model import Quotas
from sidecar.quotas import read_quotas
from sidecar.settings import (
    DAY,
    AuditSink,
    CarrierSettings,
    DirectorySettings,
    FailedCredentialSettings,
    IdentityCacheSettings,
    KiB,
    LimitSettings,
    Listen,
    ListenerSettings,
    MiB,
    ProvenanceSettings,
    RevocationSettings,
    Settings,
    TokenSettings,
)
from sidecar.yaml_tree import MAX_BYTES

MAX_WORKERS: Final = 64
AUTO_WORKERS: Final = 4
NOT_CARRIERS: Final = frozenset({
    "accept", "accept-charset", "accept-encoding", "accept-language", "age", "allow", "authorization",
    "cache-control", "connection", "cookie", "date", "depth", "destination", "etag", "expect", "expires",
    "forwarded", "from", "host", "keep-alive", "last-modified", "location", "origin", "overwrite", "pragma", "range",
    "referer", "server", "set-cookie", "te", "timeout", "trailer", "transfer-encoding", "upgrade", "user-agent",
    "vary", "via", "warning", "www-authenticate",
})  # fmt: skip
"""Headers with a meaning of their own."""
NOT_CARRIER_PREFIXES: Final = ("content-", "if-", "proxy-", "sec-", "access-control-", "x-amz-", "x-forwarded-", "x-real-", "x-http-method", "x-original-", "x-rewrite-")  # fmt: skip


def load(path: Path) -> Settings:
    """Raises `DocumentError` with every problem of the file. Relative paths in it are relative to its folder."""
    try:
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        advice = "; --config names another, `sidecar init` writes one" if isinstance(error, FileNotFoundError) else ""
        raise DocumentError([Problem(str(path), 0, "$", f"can't be read: {error.strerror}{advice}")]) from None
    document = parse(content, str(path))
    settings = _settings(document, path.absolute())
    document.finish()
    return settings


def _settings(document: Document, path: Path) -> Settings:
    folder = Folder(path.parent)
    root = document.root.block()
    listen = listeners(root.need("listen"), folder)
    settings = Settings(
        path=path,
        listen=listen,
        ops=_ops(root.need("ops"), listen, folder),
        policies=folder.path(root.need("policies")),
        upstreams=names(root.need("upstreams"), "an upstream", lambda name, value: upstream(name, value, folder)),
        workers=root.get("workers", _workers, 1),
        tokens=root.get("tokens", lambda value: _tokens(value, folder), None),
        issuers=root.get("issuers", lambda value: issuers(value, folder), {}),
        directory=root.get("directory", lambda value: _directory(value, folder), None),
        identity_cache=root.get("identity_cache", _identity_cache, IdentityCacheSettings()),
        audit=root.get("audit", lambda value: _audit(value, folder), (AuditSink(),)),
        provenance=root.get("provenance", _provenance, ProvenanceSettings()),
        carriers=root.get("carriers", _carriers, CarrierSettings()),
        limits=root.get("limits", _limits, LimitSettings()),
        rate_limits=root.get("rate_limits", read_quotas, Quotas()),
        failed_credentials=root.get("failed_credentials", _failed_credentials, FailedCredentialSettings()),
        revocation=root.get("revocation", _revocation, RevocationSettings()),
    )
    _refuse_what_does_nothing(root, settings)
    return settings


def _refuse_what_does_nothing(root: Block, settings: Settings) -> None:
    revocation, named = root.find("revocation"), root.find("issuers")
    if revocation is not None and settings.revocation.running == "cut" and settings.tokens is None:
        revocation.problem("nothing can be revoked without `tokens`, where revocations are kept")
    people = [name for name, issuer in settings.issuers.items() if issuer.people]
    if named is not None and people and settings.directory is None:
        named.problem(f"{people[0]} says people: true, and there is no `directory` to ask for them")


def _ops(value: Value, listen: tuple[ListenerSettings, ...], folder: Folder) -> Listen:
    ops = listen_address(value, folder)
    if any(same_socket(each.address, ops) for each in listen):
        value.problem("the ops port must not be the data plane's: nothing of it may be reachable from there")
    return ops


def _workers(value: Value) -> int:
    if value.is_text and value.text() == "auto":
        return min(AUTO_WORKERS, granted_cpus(_cpu_max(), len(os.sched_getaffinity(0))))
    return value.number(1, MAX_WORKERS)


def granted_cpus(cpu_max: str, cpus: int) -> int:
    """Of `cpus`, what the cgroup grants; `cpu_max` is cgroup v2's file: a quota (or `max`) and a period, both in µs."""
    quota, _, period = cpu_max.strip().partition(" ")
    if quota.isdigit() and period.isdigit():
        cpus = min(cpus, math.ceil(int(quota) / int(period)))
    return max(1, cpus)


def _cpu_max() -> str:
    try:
        return Path("/sys/fs/cgroup/cpu.max").read_text()
    except OSError:
        return ""


def _tokens(value: Value, folder: Folder) -> TokenSettings:
    block = value.block()
    block.refuse("pepper", "a secret doesn't stand in this file; put it into a file and name that as pepper_file")
    default_ttl = block.get("default_ttl", within(60, 36_500 * DAY), 90 * DAY)
    max_ttl = block.get("max_ttl", within(60, 36_500 * DAY), 366 * DAY)
    if default_ttl > max_ttl and block.is_sound:
        (block.find("default_ttl") or block.need("max_ttl")).problem("default_ttl is longer than max_ttl")
    master_file = block.get("access_key_master_file", folder.path, None)
    if master_file is None:
        for name in ("previous_access_key_master_files", "access_key_region"):
            block.refuse(name, "it says nothing without access_key_master_file")
    return TokenSettings(
        store=_store(block.need("store"), folder),
        pepper_file=folder.path(block.need("pepper_file")),
        brand=block.get("brand", _brand, "asc"),
        default_ttl=default_ttl,
        max_ttl=max_ttl,
        previous_pepper_files=block.get("previous_pepper_files", lambda files: _paths(files, folder), ()),
        reuse=block.get("reuse", lambda reuse: reuse.choice(("event", "revoke_family")), "event"),
        access_key_master_file=master_file,
        previous_access_key_master_files=block.get(
            "previous_access_key_master_files", lambda files: _paths(files, folder), ()
        ),
        access_key_region=block.get("access_key_region", _region, None),
        biscuit_keys=block.get("biscuit_keys", folder.path, None),
    )


def _region(value: Value) -> str:
    text = value.text()
    if re.fullmatch(r"[a-z0-9-]{1,64}", text) is None:
        value.problem("a region as in signatures: lower-case letters, digits and '-', as eu-central-1")
    return text


def _paths(value: Value, folder: Folder) -> tuple[Path, ...]:
    return tuple(folder.path(item) for item in value.items())


def _store(value: Value, folder: Folder) -> str:
    text = value.text()
    scheme, separator, rest = text.partition("://")
    if scheme.partition("+")[0] in ("postgresql", "postgres"):
        value.problem("PostgreSQL is not supported yet; use sqlite:///PATH")
    elif text and (scheme != "sqlite" or not separator or not rest.startswith("/") or rest in ("/", "//")):
        value.problem("expected sqlite:///PATH, as sqlite:///./sidecar.db or sqlite:////var/lib/sidecar/sidecar.db")
    elif any(mark in rest for mark in "?#%") or rest == "/:memory:":
        value.problem("the path of a token store is a plain file name: no ?, # or %, and not :memory:")
    elif text:
        return f"sqlite:///{folder.resolve(rest[1:], value)}"
    return ""


def _brand(value: Value) -> str:
    try:
        return TokenFormat(value.text()).brand
    except ValueError:
        if value.text():
            value.problem("expected 2 to 16 lower-case letters and digits, starting with a letter")
    return "asc"


def _directory(value: Value, folder: Folder) -> DirectorySettings:
    return DirectorySettings(folder.path(value.block().need("file")))


def _revocation(value: Value) -> RevocationSettings:
    default = RevocationSettings()
    running = value.block().get("running", lambda running: running.choice(("finish", "cut")), default.running)
    return RevocationSettings(running=running)


def _identity_cache(value: Value) -> IdentityCacheSettings:
    default = IdentityCacheSettings()
    block = value.block()
    return IdentityCacheSettings(
        size=block.get("size", lambda size: size.number(1, 10_000_000), default.size),
        ttl=block.get("ttl", within(0.1, 60), default.ttl),
        negative_ttl=block.get("negative_ttl", within(0.1, 60), default.negative_ttl),
    )


def _audit(value: Value, folder: Folder) -> tuple[AuditSink, ...]:
    sinks: dict[Path | None, AuditSink] = {}
    for item in value.items():
        sink = _sink(item, folder)
        if sink.file in sinks:
            item.problem("two sinks write to the same place")
        sinks[sink.file] = sink
    if value.is_list and not value.items():
        value.problem("at least one sink is needed, as - file: stdout; or leave the key out, which means just that")
    return tuple(sinks.values())


def _sink(value: Value, folder: Folder) -> AuditSink:
    default = AuditSink()
    block = value.block()
    file = block.need("file")
    stdout = file.is_text and file.text() == "stdout"
    if stdout:
        for key in ("rotate", "fsync"):
            if (found := block.find(key)) is not None:
                found.problem(f"standard output has no {key}; leave the key out")
    rotate_size, keep = block.get("rotate", _rotation, (default.rotate_size, default.keep))
    return AuditSink(
        file=None if stdout else folder.path(file),
        required=block.get("required", Value.boolean, default.required),
        rotate_size=rotate_size,
        keep=keep,
        fsync=block.get("fsync", lambda fsync: fsync.choice(("group", "none")), default.fsync),
    )


def _rotation(value: Value) -> tuple[int, int]:
    """From what size on, in bytes, and how many rotated files stay."""
    default = AuditSink()
    block = value.block()
    return (
        block.get("size", lambda size: size.size(64 * KiB), default.rotate_size),
        block.get("keep", lambda keep: keep.number(1, 10_000), default.keep),
    )


def _provenance(value: Value) -> ProvenanceSettings:
    default = ProvenanceSettings()
    block = value.block()
    return ProvenanceSettings(digest_up_to=block.get("digest_up_to", lambda size: size.size(0), default.digest_up_to))


def _carriers(value: Value) -> CarrierSettings:
    found: dict[str, None] = {}
    for item in value.block().get("headers", Value.items, []):
        name = header_name(item).lower()
        if name in NOT_CARRIERS or name.startswith(NOT_CARRIER_PREFIXES):
            item.problem(f"{item.text()} has a meaning of its own and can't be a carrier; name one such as X-Api-Key")
        elif name in found:
            item.problem(f"{item.text()} is here twice")
        found[name] = None
    return CarrierSettings(tuple(found))


def _limits(value: Value) -> LimitSettings:
    default, time = LimitSettings(), within(0.1, DAY)
    block = value.block()
    limits = LimitSettings(
        head_size=block.get("head_size", lambda size: size.size(4 * KiB, MiB), default.head_size),
        header_size=block.get("header_size", lambda size: size.size(2 * KiB, MiB), default.header_size),
        headers=block.get("headers", lambda number: number.number(16, 1000), default.headers),
        head_timeout=block.get("head_timeout", time, default.head_timeout),
        body_timeout=block.get("body_timeout", time, default.body_timeout),
        keepalive=block.get("keepalive", time, default.keepalive),
        connections=block.get("connections", lambda number: number.number(1, 1_000_000), default.connections),
        drain_delay=block.get("drain_delay", within(0, DAY), default.drain_delay),
        grace=block.get("grace", within(0, DAY), default.grace),
    )
    if limits.header_size > limits.head_size and block.is_sound:
        (block.find("header_size") or block.need("head_size")).problem("header_size is larger than head_size")
    return limits


def _failed_credentials(value: Value) -> FailedCredentialSettings:
    default = FailedCredentialSettings()
    block = value.block()
    return FailedCredentialSettings(
        enabled=block.get("enabled", Value.boolean, default.enabled),
        burst=block.get("burst", lambda number: number.number(1, 1_000_000), default.burst),
        per_minute=block.get("per_minute", lambda number: number.number(1, 1_000_000), default.per_minute),
    )
