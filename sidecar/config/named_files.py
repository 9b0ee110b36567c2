"""What the configuration names: is it there, can it be read, and is it fit to be used?

The law: a key that others may know (a sample, a placeholder) or that is too short stops the start, as a missing file does.
No message repeats a byte of a secret.
"""

from functools import partial
from pathlib import Path
from typing import Final

from sidecar.config.file_checks import FileCheck, FileReport, header_flaw, short
from sidecar.credentials import jwk
from sidecar.credentials.master_key import MasterKey, MasterKeyUnusable
from sidecar.credentials.pepper import Pepper, PepperUnusable
from sidecar.errors import Problem
from sidecar.settings import (
    IssuerSettings,
    ListenerSettings,
    Settings,
    TokenSettings,
    UpstreamSettings,
)

PLACEHOLDERS: Final = (
    b"changeme change-me change_me placeholder replaceme replace-me replace_me example insecure do-not-use password"
    b" your-secret your_secret your-256-bit-secret sample-key secretkey secret-key secret_key"
    # RFC 7515 A.1's key, and what people type.
    b" aym1sysppbydfgzld3umj1qzkobwvmkoqq-estjqlr_t-1qs0gzh75aktmn3yj0ips4hcguutwjazzr1z9caow"
    b" 0123456789abcdef abcdefghijklmnop 1234567890123456"
).split()
"""In lower case. In a random key of base64 or hexadecimal one of these turns up less than once in a million."""
_DISTINCT: Final = 10


def check_files(settings: Settings) -> list[Problem]:
    """What is wrong with what `settings` name, so that the process can't start."""
    return inspect_files(settings).problems


def inspect_files(settings: Settings) -> FileReport:
    """Everything worth saying about what `settings` name; each problem stands at the line that names it."""
    check = FileCheck(settings.path)
    check.policies("$.policies", settings.policies)
    for index, listener in enumerate(settings.listen):
        _listener(check, index, listener)
    if settings.ops.unix is not None:
        check.parent("$.ops", settings.ops.unix)
    for name, upstream in settings.upstreams.items():
        _upstream(check, f"$.upstreams.{name}", upstream)
    if settings.tokens is not None:
        check.secret("$.tokens.pepper_file", settings.tokens.pepper_file, _pepper_flaw)
        for index, file in enumerate(settings.tokens.previous_pepper_files):
            check.secret(f"$.tokens.previous_pepper_files[{index}]", file, _pepper_flaw)
        _master_keys(check, settings.tokens)
        check.database("$.tokens.store", Path(settings.tokens.store.removeprefix("sqlite:///")))
    for name, issuer in settings.issuers.items():
        _issuer(check, f"$.issuers.{name}", issuer)
    if settings.directory is not None:
        check.people("$.directory.file", settings.directory.file)
    for index, sink in enumerate(settings.audit):
        if sink.file is not None:
            check.parent(f"$.audit[{index}].file", sink.file)
    return check.report()


def _listener(check: FileCheck, index: int, listener: ListenerSettings) -> None:
    setting = check.written(f"$.listen[{index}]", "$.listen")
    if listener.address.unix is not None:
        check.parent(check.written(f"{setting}.address", setting), listener.address.unix)
    if listener.tls is not None:
        check.pair(f"{setting}.tls", listener.tls)


def _master_keys(check: FileCheck, tokens: TokenSettings) -> None:
    if tokens.access_key_master_file is None:
        return
    named = {"$.tokens.access_key_master_file": tokens.access_key_master_file}
    for index, file in enumerate(tokens.previous_access_key_master_files):
        named[f"$.tokens.previous_access_key_master_files[{index}]"] = file
    versions: dict[int, Path] = {}
    for setting, file in named.items():
        check.secret(setting, file, partial(_master_key_flaw, file=file, versions=versions))


def _upstream(check: FileCheck, setting: str, upstream: UpstreamSettings) -> None:
    if upstream.url.startswith("file://"):
        folder = Path(upstream.url.removeprefix("file://"))
        if folder.exists():
            check.folder(f"{setting}.url", folder, writable=True)
        else:
            check.parent(f"{setting}.url", folder)
    if upstream.ca_file is not None:
        check.certificates(f"{setting}.ca_file", upstream.ca_file)
    if upstream.client_certificate_file is not None and upstream.client_key_file is not None:
        check.client_certificate(setting, upstream.client_certificate_file, upstream.client_key_file)
    if upstream.s3 is not None:
        check.bucket_keys(f"{setting}.s3.credentials", upstream.s3.credentials)
    if (credentials := upstream.credentials) is None:
        return
    at = f"{setting}.credentials"
    if credentials.basic is not None:
        check.secret(f"{at}.basic.password_file", credentials.basic.password_file, header_flaw)
    if credentials.bearer_file is not None:
        check.secret(f"{at}.bearer_file", credentials.bearer_file, header_flaw)
    if credentials.header is not None:
        check.secret(f"{at}.header.value_file", credentials.header.value_file, header_flaw)


def _issuer(check: FileCheck, setting: str, issuer: IssuerSettings) -> None:
    allowed = jwk.algorithms_of(issuer)
    if issuer.secret_file is not None:
        check.secret(f"{setting}.secret_file", issuer.secret_file, _hmac_flaw)
    if issuer.jwks_file is not None:
        check.keys(f"{setting}.jwks_file", issuer.jwks_file, lambda content: jwk.from_jwks(content, allowed))
    if issuer.pem_file is not None:
        check.keys(f"{setting}.pem_file", issuer.pem_file, lambda content: jwk.from_pem(content, allowed))
    if issuer.ca_file is not None:
        check.certificates(f"{setting}.ca_file", issuer.ca_file)


def _pepper_flaw(content: bytes) -> str | None:
    try:
        Pepper(content)
    except PepperUnusable as error:
        return str(error)
    return _known_flaw(content)


def _master_key_flaw(content: bytes, file: Path, versions: dict[int, Path]) -> str | None:
    """`versions`: those of the files that were read before; this one's is added."""
    try:
        version = MasterKey(content).version
    except MasterKeyUnusable as error:
        return str(error)
    if versions.setdefault(version, file) != file:
        return f"{short(versions[version])} has the same key, or one that is alike by chance; make another"
    return _known_flaw(content)


def _hmac_flaw(content: bytes) -> str | None:
    try:
        jwk.from_secret(content)
    except jwk.BadKeys as error:
        return str(error)
    return _known_flaw(content)


def _known_flaw(content: bytes) -> str | None:
    folded = content.strip().lower()
    if len(set(folded)) < _DISTINCT or any(known in folded for known in PLACEHOLDERS):
        return "this is a sample or placeholder that others know; make a random one, as with `openssl rand -hex 32`"
    return None
