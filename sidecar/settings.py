"""What the configuration file may say, as values. `config/` reads the file into these; nothing else does.

Durations are seconds (float), sizes bytes (int), paths absolute (resolved against the file's own folder).
Every field is described in `docs/configuration.md`, which a test compares with this page.
"""

from pathlib import Path

from msgspec import Struct

from sidecar.model import Quotas

KiB, MiB = 1024, 1024 * 1024
DAY = 86400.0


class Listen(Struct, frozen=True):
    """`127.0.0.1:8080`, `[::1]:8080` or `unix:/run/sidecar/data.sock`."""

    host: str = ""
    port: int = 0
    unix: Path | None = None

    def __str__(self) -> str:
        if self.unix is not None:
            return f"unix:{self.unix}"
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


class TlsSettings(Struct, frozen=True):
    """A certificate with its chain and its key, in PEM; picked up when they change."""

    cert_file: Path
    key_file: Path


class ProxyProtocolSettings(Struct, frozen=True):
    trusted: tuple[str, ...]
    """Networks, addresses, or `unix`: whose connections begin with a header of PROXY protocol version 2."""


class ListenerSettings(Struct, frozen=True):
    """One address of the data plane."""

    address: Listen
    mode: int | None = None
    """A unix socket's permissions; `None` where it isn't one."""
    tls: TlsSettings | None = None
    proxy_protocol: ProxyProtocolSettings | None = None

    def __str__(self) -> str:
        return str(self.address)


class FailedCredentialSettings(Struct, frozen=True):
    """How often one network (an IPv4 address, an IPv6 /64) may send a bad credential before it is told 429 instead of 401."""

    enabled: bool = True
    burst: int = 120
    """At once."""
    per_minute: int = 60


class Timeouts(Struct, frozen=True):
    connect: float = 2.0
    first_byte: float = 30.0
    """From the request's last byte to the answer's first."""
    idle: float = 60.0
    """The longest silence in the middle of a body, either way; and how long a pooled connection is kept."""


class BasicCredentials(Struct, frozen=True):
    username: str
    password_file: Path


class HeaderCredentials(Struct, frozen=True):
    name: str
    value_file: Path


class UpstreamCredentials(Struct, frozen=True):
    """What the store itself asks for; exactly one is set. Sent by the sidecar, never by the client."""

    basic: BasicCredentials | None = None
    bearer_file: Path | None = None
    header: HeaderCredentials | None = None


class S3Credentials(Struct, frozen=True):
    source: str = "files"
    """`files`; `environment`: `AWS_ACCESS_KEY_ID` and its kin; `aws`: whatever botocore's chain finds."""
    access_key_id_file: Path | None = None
    secret_access_key_file: Path | None = None
    session_token_file: Path | None = None


class S3Settings(Struct, frozen=True):
    """A bucket: what is asked of the store is signed (AWS Signature Version 4)."""

    bucket: str
    credentials: S3Credentials
    region: str = "us-east-1"
    addressing: str = "path"
    """`path`: `https://HOST/BUCKET/KEY`. `virtual`: `https://BUCKET.HOST/KEY`."""
    conditional_writes: bool = True
    """The store knows `If-None-Match: *` on PUT. Where it doesn't, it is asked first."""


class HealthSettings(Struct, frozen=True):
    """When an address of a store is left out."""

    failures: int = 5
    """So many requests in a row that failed there raise a doubt."""
    ejection: float = 1.0
    """For how long it is left out the first time; each further time is twice as long."""
    max_ejection: float = 30.0


class UpstreamSettings(Struct, frozen=True):
    name: str
    url: str
    """`http://host:port`, `https://host`, `unix:/path.sock`, or `file:///dir` (the embedded store; resolved, absolute).
    Where there are several `urls`, the first."""
    timeouts: Timeouts = Timeouts()
    credentials: UpstreamCredentials | None = None
    connections: int = 256
    """The most connections to it at once, idle ones included."""
    redirects: str = "refuse"
    """`refuse`: an answer that redirects out of the route is a 502. `pass`: it reaches the client."""
    ca_file: Path | None = None
    urls: tuple[str, ...] = ()
    """All addresses, where several are named: of one kind (`http`, `https` or `unix`), each serving the same objects."""
    server_name: str | None = None
    """What the certificate must be for, where that isn't the URL's host."""
    client_certificate_file: Path | None = None
    client_key_file: Path | None = None
    queue: int = 1024
    """The most requests that may wait for a connection at once."""
    queue_timeout: float = 5.0
    """The longest that one waits."""
    health: HealthSettings = HealthSettings()
    max_size: int | None = None
    """Of the embedded store: bytes of objects; beyond it, what was used longest ago is evicted. `None`: no limit."""
    s3: S3Settings | None = None
    """The store is a bucket; `None` where it speaks plain HTTP, or is the embedded one."""


class TokenSettings(Struct, frozen=True):
    store: str
    """`sqlite:///ABSOLUTE/PATH`."""
    pepper_file: Path
    brand: str = "asc"
    default_ttl: float = 90 * DAY
    max_ttl: float = 366 * DAY
    previous_pepper_files: tuple[Path, ...] = ()
    """Tokens made under these are believed as well, and move to `pepper_file`'s at their next use."""
    reuse: str = "event"
    """When a rotated token is used after its overlap: `event`, or `revoke_family`, which revokes its replacements too."""
    access_key_master_file: Path | None = None
    """What the access keys of S3 tools are made of; without it there are none."""
    previous_access_key_master_files: tuple[Path, ...] = ()
    """Access keys made of these are believed as well."""
    access_key_region: str | None = None
    """The only region that S3 clients may sign for; `None`: any."""
    biscuit_keys: Path | None = None
    """The folder of the private keys that Biscuits are made under; where it isn't set, `biscuit-keys` beside `pepper_file`."""


class IssuerSettings(Struct, frozen=True):
    """A trusted issuer of JWTs. Where none of `jwks_url`, `jwks_file`, `pem_file`, `secret_file` is set: OIDC discovery."""

    name: str
    issuer: str
    audience: str
    jwks_url: str | None = None
    jwks_file: Path | None = None
    pem_file: Path | None = None
    secret_file: Path | None = None
    """HS256 only, at least 32 bytes; never together with an asymmetric algorithm."""
    algorithms: tuple[str, ...] = ("RS256", "ES256")
    subject_claim: str = "sub"
    groups_claim: str | None = None
    max_lifetime: float = DAY
    """The longest `exp - iat` that is believed."""
    leeway: float = 30.0
    types: tuple[str, ...] = ("JWT", "at+jwt")
    """The `typ` values accepted, without regard to case; an absent one always is."""
    authorized_parties: tuple[str, ...] = ()
    """If set: `azp` (or `client_id`) must be one of these. Asked for where `aud` names several."""
    multi_tenant: bool = False
    """Serves everybody (github.com, gitlab.com, ...): rules must pin an owner, project or repository id (rule 14)."""
    ca_file: Path | None = None
    people: bool = False
    """Its subjects are the people of the directory: whoever isn't active there is refused (rule 9)."""


class DirectorySettings(Struct, frozen=True):
    file: Path


class RevocationSettings(Struct, frozen=True):
    running: str = "finish"
    """What becomes of a request that is under way when its token is revoked: `finish` or `cut`."""


class IdentityCacheSettings(Struct, frozen=True):
    size: int = 10_000
    ttl: float = 60.0
    """At most 60 s, and never past the token's own expiry."""
    negative_ttl: float = 5.0


class AuditSink(Struct, frozen=True):
    file: Path | None = None
    """`None` is standard output."""
    required: bool = True
    rotate_size: int = 100 * MiB
    keep: int = 10
    """Rotated files that are kept besides the current one."""
    fsync: str = "group"
    """`group`: one fdatasync for all records that wait (default). `none`: left to the kernel."""


class ProvenanceSettings(Struct, frozen=True):
    digest_up_to: int = 128 * MiB
    """Bytes. Of a larger body no SHA-256 is reckoned for the audit log alone: that costs about as much as carrying it."""


class CarrierSettings(Struct, frozen=True):
    headers: tuple[str, ...] = ()
    """Further request headers that may carry a token, beside Bearer and Basic."""


class LimitSettings(Struct, frozen=True):
    head_size: int = 32 * KiB
    """Request line and headers together."""
    header_size: int = 16 * KiB
    """One header, or the request line."""
    headers: int = 100
    head_timeout: float = 10.0
    """From a request's first byte (or the connection's start) to the end of its headers."""
    body_timeout: float = 60.0
    """The longest silence of a sender in the middle of a body."""
    keepalive: float = 75.0
    connections: int = 4096
    """Client connections at once; one more is closed at once."""
    drain_delay: float = 2.0
    """After SIGTERM: how long new connections are still accepted while `/readyz` says no."""
    grace: float = 30.0
    """After the drain delay: how long running requests may take to finish."""


class Settings(Struct, frozen=True):
    """The whole file."""

    path: Path
    listen: tuple[ListenerSettings, ...]
    ops: Listen
    policies: Path
    upstreams: dict[str, UpstreamSettings]
    workers: int = 1
    """`auto` is resolved when the file is read: the CPUs that the cgroup grants, at most 4."""
    tokens: TokenSettings | None = None
    issuers: dict[str, IssuerSettings] = {}
    directory: DirectorySettings | None = None
    identity_cache: IdentityCacheSettings = IdentityCacheSettings()
    audit: tuple[AuditSink, ...] = (AuditSink(),)
    provenance: ProvenanceSettings = ProvenanceSettings()
    carriers: CarrierSettings = CarrierSettings()
    limits: LimitSettings = LimitSettings()
    failed_credentials: FailedCredentialSettings = FailedCredentialSettings()
    rate_limits: Quotas = Quotas()
    revocation: RevocationSettings = RevocationSettings()
