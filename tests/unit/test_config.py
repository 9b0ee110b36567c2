"""What the configuration file may say, what it may not, and in which words it is told."""

from pathlib import Path
from textwrap import dedent

import pytest

from sidecar import config
from sidecar.config.file import granted_cpus
from sidecar.errors import DocumentError
from sidecar.settings import (
    DAY,
    AuditSink,
    BasicCredentials,
    HeaderCredentials,
    HealthSettings,
    IdentityCacheSettings,
    KiB,
    LimitSettings,
    Listen,
    ListenerSettings,
    MiB,
    RevocationSettings,
    Settings,
    Timeouts,
    UpstreamCredentials,
    UpstreamSettings,
)

MINIMAL = """\
listen: 127.0.0.1:8080
ops: 127.0.0.1:9090
policies: ./policies
upstreams:
  store: {url: "http://127.0.0.1:3000"}
"""
NEXT = 6
"""The line after MINIMAL."""
ISSUER = "issuer: https://idp.example.com, audience: cache"
FILE_FORM = "a secret doesn't stand in this file; put it into a file and name that as"


def load(folder: Path, text: str) -> Settings:
    path = folder / "sidecar.yaml"
    path.write_text(dedent(text))
    return config.load(path)


def problems(folder: Path, text: str) -> list[str]:
    """As `LINE PATH: MESSAGE`."""
    with pytest.raises(DocumentError) as caught:
        load(folder, text)
    assert {problem.file for problem in caught.value.problems} == {str(folder / "sidecar.yaml")}
    return [f"{problem.line} {problem.path}: {problem.message}" for problem in caught.value.problems]


def test_the_smallest_file_has_safe_defaults(tmp_path: Path) -> None:
    settings = load(tmp_path, MINIMAL)
    assert settings == Settings(
        path=tmp_path / "sidecar.yaml",
        listen=(ListenerSettings(Listen("127.0.0.1", 8080)),),
        ops=Listen("127.0.0.1", 9090),
        policies=tmp_path / "policies",
        upstreams=settings.upstreams,
    )
    store = settings.upstreams["store"]
    assert (store.url, store.redirects, store.credentials, store.connections) == (
        "http://127.0.0.1:3000",
        "refuse",
        None,
        256,
    )
    assert settings.audit == (AuditSink(file=None, required=True),)


EVERYTHING = """\
listen: "[::1]:8080"
ops: unix:./ops.sock
workers: 3
policies: /etc/sidecar/policies
upstreams:
  plain:
    url: http://Store.Example.com:3000/
    timeouts: {connect: 500ms, first_byte: 5m, idle: 12h}
    credentials: {basic: {username: cache, password_file: ./secrets/store}}
    connections: 8
    redirects: pass
  tls: {url: "https://[2001:db8::1]", ca_file: ca.pem, credentials: {bearer_file: token}}
  socket: {url: unix:run/store.sock, credentials: {header: {name: X-Key, value_file: key}}}
  local: {url: file:///var/lib/sidecar}
tokens:
  store: sqlite:////var/lib/sidecar/tokens.db
  brand: acme
  pepper_file: ./secrets/pepper
  default_ttl: 1h
  max_ttl: 30d
issuers:
  corp:
    issuer: https://idp.example.com/realms/one
    audience: cache
    jwks_url: https://idp.example.com/keys
    ca_file: idp.pem
    algorithms: [EdDSA, PS512]
    subject_claim: email
    groups_claim: groups
    max_lifetime: 12h
    leeway: 0s
    types: [JWT]
    authorized_parties: [one, two]
    multi_tenant: true
    people: true
  shared: {issuer: "http://127.0.0.1:9000", audience: cache, secret_file: hmac}
  pinned: {issuer: "https://pinned.example.com", audience: cache, pem_file: key.pem, algorithms: [ES384]}
directory: {file: people.yaml}
identity_cache: {size: 5, ttl: 500ms, negative_ttl: 1s}
revocation: {running: cut}
audit:
  - {file: stdout, required: false}
  - {file: audit.jsonl, rotate: {size: 1MiB, keep: 2}, fsync: none}
carriers: {headers: [X-Api-Key, X-NuGet-ApiKey]}
limits:
  {head_size: 64KiB, header_size: 32KiB, headers: 50, head_timeout: 1s, body_timeout: 2s, keepalive: 3s, connections: 7,
   drain_delay: 0s, grace: 1m}
"""


def test_every_setting_can_be_said(tmp_path: Path) -> None:
    settings = load(tmp_path, EVERYTHING)
    assert settings.listen == (ListenerSettings(Listen("::1", 8080)),)
    assert str(settings.listen[0]) == "[::1]:8080"
    assert settings.ops == Listen(unix=tmp_path / "ops.sock")
    assert settings.workers == 3
    assert settings.policies == Path("/etc/sidecar/policies")

    plain, tls, socket, local = (settings.upstreams[name] for name in ("plain", "tls", "socket", "local"))
    assert plain.url == "http://store.example.com:3000"
    assert plain.timeouts == Timeouts(0.5, 300.0, 43200.0)
    assert plain.credentials == UpstreamCredentials(basic=BasicCredentials("cache", tmp_path / "secrets/store"))
    assert (plain.connections, plain.redirects) == (8, "pass")
    assert (tls.url, tls.ca_file) == ("https://[2001:db8::1]", tmp_path / "ca.pem")
    assert tls.credentials == UpstreamCredentials(bearer_file=tmp_path / "token")
    assert socket.url == f"unix:{tmp_path}/run/store.sock"
    assert socket.credentials == UpstreamCredentials(header=HeaderCredentials("X-Key", tmp_path / "key"))
    assert local.url == "file:///var/lib/sidecar"

    assert settings.tokens is not None
    assert settings.tokens.store == "sqlite:////var/lib/sidecar/tokens.db"
    assert settings.tokens.pepper_file == tmp_path / "secrets/pepper"
    assert (settings.tokens.brand, settings.tokens.default_ttl, settings.tokens.max_ttl) == ("acme", 3600.0, 30 * DAY)

    corp, shared, pinned = (settings.issuers[name] for name in ("corp", "shared", "pinned"))
    assert (corp.name, corp.issuer, corp.audience) == ("corp", "https://idp.example.com/realms/one", "cache")
    assert (corp.jwks_url, corp.ca_file) == ("https://idp.example.com/keys", tmp_path / "idp.pem")
    assert (corp.algorithms, corp.types, corp.authorized_parties) == (("EdDSA", "PS512"), ("JWT",), ("one", "two"))
    assert (corp.subject_claim, corp.groups_claim, corp.max_lifetime, corp.leeway) == ("email", "groups", 43200.0, 0.0)
    assert corp.multi_tenant
    assert (corp.people, shared.people) == (True, False)
    assert settings.revocation == RevocationSettings("cut")
    assert (shared.secret_file, shared.algorithms) == (tmp_path / "hmac", ("HS256",))
    assert (pinned.pem_file, pinned.algorithms) == (tmp_path / "key.pem", ("ES384",))

    assert settings.directory is not None
    assert settings.directory.file == tmp_path / "people.yaml"
    assert settings.identity_cache == IdentityCacheSettings(5, 0.5, 1.0)
    assert settings.audit == (
        AuditSink(file=None, required=False),
        AuditSink(file=tmp_path / "audit.jsonl", rotate_size=MiB, keep=2, fsync="none"),
    )
    assert settings.carriers.headers == ("x-api-key", "x-nuget-apikey")
    assert settings.limits == LimitSettings(64 * KiB, 32 * KiB, 50, 1.0, 2.0, 3.0, 7, 0.0, 60.0)


def test_the_configuration_s_folder_is_where_it_is_named_not_where_a_link_leads(tmp_path: Path) -> None:
    """A Kubernetes ConfigMap is mounted as links into `..data`; what lies beside the link is meant."""
    (tmp_path / "..data").mkdir()
    (tmp_path / "..data" / "sidecar.yaml").write_text(MINIMAL)
    (tmp_path / "sidecar.yaml").symlink_to("..data/sidecar.yaml")
    assert config.load(tmp_path / "sidecar.yaml").policies == tmp_path / "policies"


def test_auto_workers_are_what_the_cgroup_grants_and_at_most_four(tmp_path: Path) -> None:
    assert 1 <= load(tmp_path, MINIMAL + "workers: auto\n").workers <= 4


@pytest.mark.parametrize(
    ("cpu_max", "cpus", "granted"),
    [
        ("max 100000\n", 8, 8),
        ("150000 100000\n", 8, 2),
        ("50000 100000\n", 8, 1),
        ("800000 100000\n", 2, 2),
        ("", 3, 3),
        ("?", 3, 3),
    ],
)
def test_what_a_cgroup_grants(cpu_max: str, cpus: int, granted: int) -> None:
    assert granted_cpus(cpu_max, cpus) == granted


@pytest.mark.parametrize(
    "issuer",
    [
        "https://token.actions.githubusercontent.com",
        "https://gitlab.com",
        "https://agent.buildkite.com",
        "https://oidc.circleci.com/org/7f2c",
        "https://GitLab.com",
    ],
)
def test_an_issuer_that_serves_everybody_is_known_to(tmp_path: Path, issuer: str) -> None:
    text = MINIMAL + f"issuers: {{one: {{issuer: {issuer}, audience: cache}}}}\n"
    assert load(tmp_path, text).issuers["one"].multi_tenant
    said = problems(tmp_path, text.replace("cache}", "cache, multi_tenant: false}"))
    assert len(said) == 1
    assert said[0].endswith("gives tokens to everybody; leave the key out")


@pytest.mark.parametrize(
    "issuer", ["https://gitlab.example.com", "https://gitlab.com.example.com", "https://idp.example.com"]
)
def test_other_issuers_serve_their_own_people(tmp_path: Path, issuer: str) -> None:
    text = MINIMAL + f"issuers: {{one: {{issuer: {issuer}, audience: cache}}}}\n"
    assert not load(tmp_path, text).issuers["one"].multi_tenant


def test_everything_that_is_wrong_is_told_at_once(tmp_path: Path) -> None:
    assert problems(
        tmp_path,
        """\
        lissten: 127.0.0.1:8080
        ops: 9090
        policies: ./policies
        workers: many
        upstreams:
          store:
            url: ftp://store
            timeout: {connect: 2}
        tokens:
          store: sqlite:///./sidecar.db
          brand: off
        identity_cache: {ttl: 5m}
        """,
    ) == [
        "1 $: the key 'listen' is missing",
        "1 $.lissten: unknown key 'lissten'; did you mean 'listen'?",
        "2 $.ops: expected HOST:PORT, as 127.0.0.1:8080 or [::1]:8080, or unix:/run/sidecar/data.sock, not '9090'",
        "4 $.workers: expected a number from 1 to 64, not 'many'",
        "7 $.upstreams.store.url: expected http://HOST:PORT, https://HOST, unix:/PATH.sock or file://DIRECTORY, not 'ftp://store'",
        "8 $.upstreams.store.timeout: unknown key 'timeout'; did you mean 'timeouts'?",
        "9 $.tokens: the key 'pepper_file' is missing",
        "12 $.identity_cache.ttl: 5m is out of range; at most 1m",
    ]


ADDED = {
    # addresses
    "upstreams: none": ("upstreams: {}", "$.upstreams: an upstream is needed here"),
    # the process
    "workers: none": ("workers: 0", "$.workers: expected a number from 1 to 64, not '0'"),
    "unknown section": ("issuer: x", "$.issuer: unknown key 'issuer'; did you mean 'issuers'?"),
    # tokens
    "postgresql": (
        "tokens: {store: postgresql://user@host/name, pepper_file: p}",
        "$.tokens.store: PostgreSQL is not supported yet; use sqlite:///PATH",
    ),
    "postgres with a driver": (
        "tokens: {store: postgresql+asyncpg://user@host/name, pepper_file: p}",
        "$.tokens.store: PostgreSQL is not supported yet; use sqlite:///PATH",
    ),
    **{
        f"store {store}": (
            f"tokens: {{store: '{store}', pepper_file: p}}",
            "$.tokens.store: expected sqlite:///PATH, as sqlite:///./sidecar.db or sqlite:////var/lib/sidecar/sidecar.db",
        )
        for store in ("mysql://h/n", "sqlite://", "sqlite:///", "sqlite://host/x", "sidecar.db", "sqlite:x.db")
    },
    **{
        f"store {store}": (
            f"tokens: {{store: '{store}', pepper_file: p}}",
            "$.tokens.store: the path of a token store is a plain file name: no ?, # or %, and not :memory:",
        )
        for store in ("sqlite:///:memory:", "sqlite:///x.db?mode=ro", "sqlite:///a%2fb")
    },
    "inline pepper": (
        "tokens: {store: 'sqlite:///x', pepper_file: p, pepper: abc}",
        f"$.tokens.pepper: {FILE_FORM} pepper_file",
    ),
    "brand": (
        "tokens: {store: 'sqlite:///x', pepper_file: p, brand: A_b}",
        "$.tokens.brand: expected 2 to 16 lower-case letters and digits, starting with a letter",
    ),
    "default_ttl above max_ttl": (
        "tokens: {store: 'sqlite:///x', pepper_file: p, default_ttl: 10d, max_ttl: 9d}",
        "$.tokens.default_ttl: default_ttl is longer than max_ttl",
    ),
    "max_ttl below the default's default": (
        "tokens: {store: 'sqlite:///x', pepper_file: p, max_ttl: 9d}",
        "$.tokens.max_ttl: default_ttl is longer than max_ttl",
    ),
    # people, cache
    "directory as text": (
        "directory: people.yaml",
        "$.directory: expected a mapping, as key: value, not 'people.yaml'",
    ),
    "running, in another word": (
        "revocation: {running: stop}",
        "$.revocation.running: unknown value 'stop'; allowed here: finish, cut",
    ),
    "cut, and nothing to revoke": (
        "revocation: {running: cut}",
        "$.revocation: nothing can be revoked without `tokens`, where revocations are kept",
    ),
    "people of no directory": (
        "issuers: {corp: {issuer: 'https://idp.example', audience: x, people: true}}",
        "$.issuers: corp says people: true, and there is no `directory` to ask for them",
    ),
    "ttl above law 3's bound": ("identity_cache: {ttl: 61s}", "$.identity_cache.ttl: 61s is out of range; at most 1m"),
    "negative_ttl": (
        "identity_cache: {negative_ttl: 90s}",
        "$.identity_cache.negative_ttl: 90s is out of range; at most 1m",
    ),
    # audit
    "no sink": (
        "audit: []",
        "$.audit: at least one sink is needed, as - file: stdout; or leave the key out, which means just that",
    ),
    "sink twice": ("audit: [{file: a}, {file: ./a}]", "$.audit[1]: two sinks write to the same place"),
    "stdout twice": ("audit: [{file: stdout}, {file: stdout}]", "$.audit[1]: two sinks write to the same place"),
    "stdout rotated": (
        "audit: [{file: stdout, rotate: {keep: 3}}]",
        "$.audit[0].rotate: standard output has no rotate; leave the key out",
    ),
    "stdout synced": (
        "audit: [{file: stdout, fsync: group}]",
        "$.audit[0].fsync: standard output has no fsync; leave the key out",
    ),
    "fsync": (
        "audit: [{file: a, fsync: always}]",
        "$.audit[0].fsync: unknown value 'always'; allowed here: group, none",
    ),
    "rotate to nothing": (
        "audit: [{file: a, rotate: {size: 1B}}]",
        "$.audit[0].rotate.size: 1B is out of range; at least 64KiB",
    ),
    "required": (
        "audit: [{file: a, required: yes}]",
        "$.audit[0].required: expected true or false (without quotes), not 'yes'",
    ),
    # limits
    "limit by a wrong name": (
        "limits: {head_sise: 1KiB}",
        "$.limits.head_sise: unknown key 'head_sise'; did you mean 'head_size'?",
    ),
    "header above head": ("limits: {header_size: 64KiB}", "$.limits.header_size: header_size is larger than head_size"),
    "a number for a size": (
        "limits: {head_size: 32768}",
        "$.limits.head_size: expected a size such as 512B, 64KiB, 10MiB or 5GiB, not '32768'",
    ),
    "a ttl that is none": (
        "tokens: {store: 'sqlite:///x', pepper_file: p, max_ttl: 1y}",
        "$.tokens.max_ttl: expected a duration such as 500ms, 30s, 5m, 12h or 90d, not '1y'",
    ),
    # carriers
    **{
        f"carrier {name}": (
            f"carriers: {{headers: [{name}]}}",
            f"$.carriers.headers[0]: {name} has a meaning of its own and can't be a carrier; name one such as X-Api-Key",
        )
        for name in (
            "Authorization",
            "host",
            "COOKIE",
            "Proxy-Authorization",
            "X-Forwarded-For",
            "X-Amz-Security-Token",
            "Range",
        )
    },
    "carrier twice": ("carriers: {headers: [X-Key, x-key]}", "$.carriers.headers[1]: x-key is here twice"),
    "carrier that folds": (
        "carriers: {headers: [X_Key]}",
        "$.carriers.headers[0]: 'X_Key' is not a header's name: letters, digits and - only",
    ),
}


@pytest.mark.parametrize(("line", "message"), ADDED.values(), ids=ADDED)
def test_one_wrong_line(tmp_path: Path, line: str, message: str) -> None:
    base = MINIMAL if not line.startswith("upstreams") else MINIMAL[: MINIMAL.index("upstreams")]
    assert problems(tmp_path, base + line + "\n") == [f"{NEXT if base == MINIMAL else NEXT - 2} {message}"]


EXPECTED_URL = "expected http://HOST:PORT, https://HOST, unix:/PATH.sock or file://DIRECTORY, not"
USERINFO = "a user name or password doesn't belong into a URL; an upstream's go under credentials"
UPSTREAM_KEYS = (
    "urls, url, max_size, s3, client_certificate_file, client_key_file, timeouts, credentials, connections, redirects, ca_file, "
    "server_name, queue, queue_timeout, health"
)
UPSTREAMS = {
    **{
        url: (f"url: '{url}'", [f".url: {EXPECTED_URL} '{url}'"])
        for url in [
            "store:3000",
            "http://",
            "https://:80",
            "http://a:0",
            "http://a:65536",
            "http://a:x",
            "http://a:",
            "//a",
            "http:/a",
            "http:a",
            "HTTP://a",
            "http://a..b",
            "http://127.1",
            "http://0x7f.1",
            "http://127.0x1",
            "http://1.2.3.256",
            "http://[::1",
            "http://[fe80::1%eth0]",
            "http://exämple",
            "s3://bucket",
        ]
    },
    "path": (
        "url: http://a/cache",
        [".url: a path doesn't belong here; say /cache as upstream_path in the routes of the policy"],
    ),
    "backslash": (r"url: 'http://a\b'", [rf".url: {EXPECTED_URL} 'http://a\\b'"]),
    "query": ("url: 'http://a?b'", [".url: a query or fragment doesn't belong here"]),
    "fragment": ("url: 'http://a#b'", [".url: a query or fragment doesn't belong here"]),
    "user": ("url: http://user@a", [f".url: {USERINFO}"]),
    "password": ("url: 'http://user:hunter2@a'", [f".url: {USERINFO}"]),
    "file without slashes": (
        "url: file:data",
        [".url: expected file://DIRECTORY, as file://./data or file:///var/lib/sidecar"],
    ),
    "home": ("url: file://~/data", [".url: neither ~ nor $ is expanded here; write the path out"]),
    "unix as URL": ("url: unix:///x.sock", [".url: expected unix:/PATH.sock"]),
    "embedded with timeouts": (
        "url: file://data, timeouts: {connect: 1s}",
        [".timeouts: the embedded store (file://) has no timeouts; leave the key out"],
    ),
    "embedded with credentials": (
        "url: file://data, credentials: {bearer_file: x}",
        [".credentials: the embedded store (file://) has no credentials; leave the key out"],
    ),
    "authority without TLS": (
        "url: http://a, ca_file: ca.pem",
        [".ca_file: only an https upstream has a certificate to check; leave the key out"],
    ),
    "server name without TLS": (
        "url: http://a, server_name: b",
        [".server_name: only an https upstream has a certificate to check; leave the key out"],
    ),
    "client certificate without TLS": (
        "url: http://a, client_certificate_file: a, client_key_file: b",
        [
            ".client_certificate_file: only an https upstream has somebody to show a certificate to; leave the key out",
            ".client_key_file: only an https upstream has somebody to show a certificate to; leave the key out",
        ],
    ),
    "client certificate without its key": (
        "url: https://a, client_certificate_file: a",
        [".client_certificate_file: client_certificate_file and client_key_file belong together; name both"],
    ),
    "client key alone": (
        "url: https://a, client_key_file: a",
        [".client_key_file: client_certificate_file and client_key_file belong together; name both"],
    ),
    "server name that is none": (
        "url: https://a, server_name: 'https://b'",
        [".server_name: expected a host's name, as store.example.com, not 'https://b'"],
    ),
    "no verification": (
        "url: https://a, verify: false",
        [f".verify: unknown key 'verify'; allowed here: {UPSTREAM_KEYS}"],
    ),
    "url and urls": ("url: http://a, urls: [http://b]", [".url: either url or urls, not both"]),
    "no addresses": (
        "urls: []",
        [".urls: at least one address is needed here"],
    ),
    "addresses of two kinds": (
        "urls: [http://a, https://b]",
        [".urls[1]: the addresses of one store are all http, all https or all unix"],
    ),
    "an address twice": ("urls: [http://a, http://a/]", [".urls[1]: this address is here twice"]),
    "an embedded store among addresses": (
        "urls: [http://a, file://data]",
        [".urls[1]: the embedded store (file://) is one directory; name it as url"],
    ),
    "a wrong address": (
        "urls: [http://a, 'http://b/c']",
        [".urls[1]: a path doesn't belong here; say /c as upstream_path in the routes of the policy"],
    ),
    "embedded with a queue": (
        "url: file://data, queue: 5, health: {failures: 3}",
        [
            ".queue: the embedded store (file://) has no queue; leave the key out",
            ".health: the embedded store (file://) has no health; leave the key out",
        ],
    ),
    "ejection": (
        "url: http://a, health: {ejection: 1m}",
        [".health.ejection: ejection is longer than max_ejection"],
    ),
    "no failures": (
        "url: http://a, health: {failures: 0}",
        [".health.failures: expected a number from 1 to 1000, not '0'"],
    ),
    "no credentials": (
        "url: http://a, credentials: {}",
        [".credentials: exactly one of basic, bearer_file, header is needed here, not none"],
    ),
    "two credentials": (
        "url: http://a, credentials: {bearer_file: a, header: {name: X-Key, value_file: b}}",
        [".credentials: exactly one of basic, bearer_file, header is needed here, not bearer_file and header"],
    ),
    "inline password": (
        "url: http://a, credentials: {basic: {username: u, password_file: f, password: hunter2}}",
        [f".credentials.basic.password: {FILE_FORM} password_file"],
    ),
    "inline bearer": (
        "url: http://a, credentials: {bearer_file: f, bearer: hunter2}",
        [f".credentials.bearer: {FILE_FORM} bearer_file"],
    ),
    "inline value": (
        "url: http://a, credentials: {header: {name: X-Key, value_file: f, value: hunter2}}",
        [f".credentials.header.value: {FILE_FORM} value_file"],
    ),
    "user name with a colon": (
        "url: http://a, credentials: {basic: {username: 'a:b', password_file: f}}",
        [".credentials.basic.username: a user name with a colon can't be sent by Basic (RFC 7617 §2)"],
    ),
    "header that frames": (
        "url: http://a, credentials: {header: {name: Content-Length, value_file: f}}",
        [".credentials.header.name: Content-Length is not a header that may carry a credential to the store"],
    ),
    "redirects": (
        "url: http://a, redirects: follow",
        [".redirects: unknown value 'follow'; allowed here: refuse, pass"],
    ),
    "connections": ("url: http://a, connections: 0", [".connections: expected a number from 1 to 65536, not '0'"]),
    "timeout of nothing": (
        "url: http://a, timeouts: {idle: 0s}",
        [".timeouts.idle: 0s is out of range; at least 10ms"],
    ),
}


def test_an_upstream_with_everything(tmp_path: Path) -> None:
    (tmp_path / "sidecar.yaml").write_text(
        MINIMAL
        + """  many:
    urls: [https://a:8443, https://b]
    ca_file: ./ca.crt
    server_name: store.internal
    client_certificate_file: ./tls.crt
    client_key_file: ./tls.key
    connections: 7
    queue: 0
    queue_timeout: 250ms
    health: {failures: 2, ejection: 2s, max_ejection: 1m}
"""
    )
    assert config.load(tmp_path / "sidecar.yaml").upstreams["many"] == UpstreamSettings(
        name="many",
        url="https://a:8443",
        urls=("https://a:8443", "https://b"),
        ca_file=tmp_path / "ca.crt",
        server_name="store.internal",
        client_certificate_file=tmp_path / "tls.crt",
        client_key_file=tmp_path / "tls.key",
        connections=7,
        queue=0,
        queue_timeout=0.25,
        health=HealthSettings(failures=2, ejection=2.0, max_ejection=60.0),
    )


@pytest.mark.parametrize(("fields", "expected"), UPSTREAMS.values(), ids=UPSTREAMS)
def test_a_wrong_upstream(tmp_path: Path, fields: str, expected: list[str]) -> None:
    found = problems(tmp_path, MINIMAL + f"  other: {{{fields}}}\n")
    assert found == [f"{NEXT} $.upstreams.other{message}" for message in expected]
    assert "hunter2" not in "".join(found)


HTTPS = "expected an https:// URL; http:// is for this machine only (127.0.0.1, ::1, localhost)"
INLINE = "keys don't stand in this file; put it into a file and name that as"
ISSUERS = {
    "no audience": ("issuer: https://a", [": the key 'audience' is missing"]),
    "http": ("issuer: http://idp.example.com, audience: c", [f".issuer: {HTTPS}"]),
    "http to a private address": ("issuer: http://10.0.0.1, audience: c", [f".issuer: {HTTPS}"]),
    "http to what begins like this machine": (
        "issuer: http://localhost.example.com, audience: c",
        [f".issuer: {HTTPS}"],
    ),
    "no URL": ("issuer: idp.example.com, audience: c", [".issuer: expected an https:// URL, not 'idp.example.com'"]),
    "not ASCII": ("issuer: 'https://a/ä', audience: c", [".issuer: expected an https:// URL, not 'https://a/ä'"]),
    "backslash": (r"issuer: 'https://a/\b', audience: c", [r".issuer: expected an https:// URL, not 'https://a/\\b'"]),
    "space": ("issuer: 'https://a/b c', audience: c", [".issuer: expected an https:// URL, not 'https://a/b c'"]),
    "fragment": ("issuer: 'https://a/#b', audience: c", [".issuer: a fragment doesn't belong here"]),
    "keys over http": (f"{ISSUER}, jwks_url: http://idp.example.com/keys", [f".jwks_url: {HTTPS}"]),
    "password in a URL": (f"{ISSUER}, jwks_url: 'https://u:hunter2@a/keys'", [f".jwks_url: {USERINFO}"]),
    "none": (
        f"{ISSUER}, algorithms: [RS256, none]",
        [".algorithms[1]: unsigned tokens are never accepted; leave 'none' out"],
    ),
    "None": (
        f"{ISSUER}, algorithms: [RS256, NonE]",
        [".algorithms[1]: unsigned tokens are never accepted; leave 'none' out"],
    ),
    "misspelt": (
        f"{ISSUER}, algorithms: [rs256]",
        [".algorithms[0]: unknown algorithm 'rs256'; did you mean 'RS256'?"],
    ),
    "unknown": (f"{ISSUER}, algorithms: [HS512]", [".algorithms[0]: unknown algorithm 'HS512'; did you mean 'RS512'?"]),
    "twice": (f"{ISSUER}, algorithms: [RS256, RS256]", [".algorithms: an algorithm is here twice"]),
    "empty": (
        f"{ISSUER}, algorithms: []",
        [".algorithms: at least one algorithm is needed; without the key it is RS256 and ES256"],
    ),
    "HS256 beside RS256": (
        f"{ISSUER}, secret_file: s, algorithms: [HS256, RS256]",
        [".algorithms: HS256 never stands beside an algorithm with public keys, such as RS256"],
    ),
    "HS256 without a secret": (
        f"{ISSUER}, algorithms: [HS256]",
        [".algorithms: HS256 needs a secret_file, and no other source of keys"],
    ),
    "a secret for RS256": (
        f"{ISSUER}, secret_file: s, algorithms: [RS256]",
        [".algorithms: a secret_file is for HS256 alone, not for RS256"],
    ),
    "two sources": (
        f"{ISSUER}, jwks_file: a, jwks_url: 'https://a'",
        [".jwks_file: keys come from one source, not from jwks_url and jwks_file"],
    ),
    "secret and PEM": (
        f"{ISSUER}, pem_file: a, secret_file: b",
        [".secret_file: keys come from one source, not from pem_file and secret_file"],
    ),
    "inline secret": (f"{ISSUER}, secret: hunter2", [f".secret: {INLINE} secret_file"]),
    "inline PEM": (f"{ISSUER}, pem: hunter2", [f".pem: {INLINE} pem_file"]),
    "authority for a file": (
        f"{ISSUER}, jwks_file: a, ca_file: b",
        [".ca_file: nothing is fetched where keys come from jwks_file; leave the key out"],
    ),
    "leeway": (f"{ISSUER}, leeway: 2m", [".leeway: 2m is out of range; at most 1m"]),
    "audience as a list": ("issuer: https://a, audience: [b]", [".audience: expected a string, not a list"]),
    "empty claim": (
        f"{ISSUER}, groups_claim: ",
        [".groups_claim: nothing is written here; expected a string, or leave the key out"],
    ),
    "multi_tenant in words": (
        f"{ISSUER}, multi_tenant: yes",
        [".multi_tenant: expected true or false (without quotes), not 'yes'"],
    ),
}


@pytest.mark.parametrize(("fields", "expected"), ISSUERS.values(), ids=ISSUERS)
def test_a_wrong_issuer(tmp_path: Path, fields: str, expected: list[str]) -> None:
    found = problems(tmp_path, MINIMAL + f"issuers:\n  one: {{{fields}}}\n")
    assert found == [f"{NEXT + 1} $.issuers.one{message}" for message in expected]
    assert "hunter2" not in "".join(found)


def test_two_issuers_can_t_claim_one_iss(tmp_path: Path) -> None:
    assert problems(tmp_path, MINIMAL + f"issuers:\n  one: {{{ISSUER}}}\n  two: {{{ISSUER}}}\n") == [
        f"{NEXT + 2} $.issuers.two: the issuer 'https://idp.example.com' is already one's"
    ]


@pytest.mark.parametrize("name", ["Caps", "a.b", "-a", "a-", "a" * 64, "'a b'"])
def test_names_are_plain_words(tmp_path: Path, name: str) -> None:
    found = problems(tmp_path, MINIMAL + f"  {name}: {{url: http://a}}\n")
    assert len(found) == 1
    assert "an upstream's name has up to 63 lower-case letters, digits, - and _" in found[0]


LISTEN = "expected HOST:PORT, as 127.0.0.1:8080 or [::1]:8080, or unix:/run/sidecar/data.sock, not"


@pytest.mark.parametrize(
    ("listen", "message"),
    [
        (":8080", "the host is missing; write 127.0.0.1, or 0.0.0.0 to listen everywhere"),
        *[
            (text, f"{LISTEN} {text!r}")
            for text in (
                "8080",
                "localhost",
                "127.0.0.1:",
                "::1:8080",
                "a:65536",
                "a:-1",
                "http://a:80",
                "a/b:80",
                "[::g]:80",
                "127.1:80",
            )
        ],
        ("unix:~/x.sock", "neither ~ nor $ is expanded here; write the path out"),
    ],
)
def test_a_wrong_listening_address(tmp_path: Path, listen: str, message: str) -> None:
    assert problems(tmp_path, MINIMAL.replace("127.0.0.1:8080", f"'{listen}'")) == [f"1 $.listen: {message}"]


@pytest.mark.parametrize(
    ("listen", "ops"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("0.0.0.0:8080", "127.0.0.1:8080"),
        ("127.0.0.1:8080", "[::]:8080"),
        ("unix:./a.sock", "unix:a.sock"),
    ],
)
def test_ops_never_share_the_data_plane_s_socket(tmp_path: Path, listen: str, ops: str) -> None:
    text = MINIMAL.replace("127.0.0.1:8080", listen).replace("127.0.0.1:9090", f"'{ops}'")
    assert problems(tmp_path, text) == [
        "2 $.ops: the ops port must not be the data plane's: nothing of it may be reachable from there"
    ]


@pytest.mark.parametrize(
    ("listen", "ops"), [("127.0.0.1:0", "127.0.0.1:0"), ("127.0.0.1:80", "127.0.0.2:80"), ("a:1", "a:2")]
)
def test_two_sockets_are_two(tmp_path: Path, listen: str, ops: str) -> None:
    assert load(tmp_path, MINIMAL.replace("127.0.0.1:8080", listen).replace("127.0.0.1:9090", ops)).ops.port >= 0


@pytest.mark.parametrize("path", ["~/policies", "$HOME/policies", "${DIR}", "file://policies", "unix:policies"])
def test_paths_are_paths_and_nothing_in_them_is_expanded(tmp_path: Path, path: str) -> None:
    found = problems(tmp_path, MINIMAL.replace("./policies", f"'{path}'"))
    assert len(found) == 1
    assert found[0].startswith("3 $.policies: ")


def test_a_file_that_can_t_be_read_is_a_problem_like_others(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match=r"nothing\.yaml: can't be read: No such file or directory"):
        config.load(tmp_path / "nothing.yaml")


def test_a_file_without_end_is_not_read_to_its_end() -> None:
    with pytest.raises(DocumentError, match="at most 1048576 are read"):
        config.load(Path("/dev/zero"))


def test_the_example_configuration_loads_as_it_is() -> None:
    example = Path(__file__).parents[2] / "config" / "sidecar.example.yaml"
    settings = config.load(example)
    assert set(settings.upstreams) == {"artifacts", "local", "bucket"}
    assert settings.issuers["github"].multi_tenant
    assert not settings.issuers["corp"].multi_tenant
    assert settings.issuers["corp"].jwks_file == example.parent / "keys/corp.jwks.json"
