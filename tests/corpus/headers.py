"""Header tricks as data: what each set of lines must come to. Every set is added to `BASE`, the least that is accepted.

`REFUSED_LINES`: a 400. `NOT_FORWARDED`: accepted, and none of the lines reaches the store. `FORWARDED`: reaches it as it is.
"""

Line = tuple[bytes, bytes]

BASE: tuple[Line, ...] = ((b"Host", b"cache.example.com"), (b"User-Agent", b"curl/8"))


def _pair(name: str, first: str = "a", second: str = "b", other: str = "") -> list[Line]:
    return [(name.encode(), first.encode()), ((other or name).encode(), second.encode())]


DECIDING = (
    "Authorization", "Proxy-Authorization", "Bearer", "X-Api-Key", "X-Cache-Token", "X-Amz-Security-Token",
    "Content-Type", "Content-Encoding", "Content-Range", "Range", "Origin", "Sec-Fetch-Site",
    "If-Match", "If-None-Match", "If-Modified-Since", "If-Unmodified-Since", "If-Range",
    "Destination", "Depth", "Overwrite", "x-amz-copy-source", "x-amz-content-sha256", "x-amz-date", "X-Amz-Anything",
    "x-ms-copy-source", "x-goog-copy-source", "X-Copy-From", "X-Checksum-Deploy", "X-Explode-Archive", "X-Scope-OrgID",
    "Content-MD5", "Date", "If", "Lock-Token", "Translate", "X-Copy-From-Account", "X-Object-Manifest", "X-Symlink-Target",
    "X-Symlink-Target-Account", "X-Tenant", "X-Tenant-Id", "X-Team-Id", "X-Workspace", "X-Workspace-Id", "X-Checksum-Sha1",
    "x-oss-copy-source", "x-cos-copy-source", "x-obs-copy-source",
    "Api-Key", "ApiKey", "X-ApiKey", "X-NuGet-ApiKey", "X-JFrog-Art-Api", "X-Access-Token", "Private-Token", "Job-Token",
    "Deploy-Token", "X-Vault-Token", "X-GitLab-Token",
)  # fmt: skip

_FRAMING: dict[str, list[Line]] = {
    "host-twice": [(b"Host", b"other.example.com")],
    "host-twice-same": [(b"Host", b"cache.example.com")],
    "host-case": [(b"HOST", b"cache.example.com")],
    "length-twice": _pair("Content-Length", "1", "2"),
    "length-twice-same": _pair("Content-Length", "1", "1"),
    "length-list": [(b"Content-Length", b"1, 1")],
    "length-plus": [(b"Content-Length", b"+1")],
    "length-minus": [(b"Content-Length", b"-1")],
    "length-hex": [(b"Content-Length", b"0x10")],
    "length-underscore": [(b"Content-Length", b"1_0")],
    "length-empty": [(b"Content-Length", b"")],
    "length-space": [(b"Content-Length", b"1 0")],
    "length-huge": [(b"Content-Length", b"9" * 19)],
    "length-arabic-digits": [(b"Content-Length", "\u0661".encode())],
    "both": [(b"Content-Length", b"1"), (b"Transfer-Encoding", b"chunked")],
    "encoding-twice": _pair("Transfer-Encoding", "chunked", "chunked"),
    "encoding-list": [(b"Transfer-Encoding", b"gzip, chunked")],
    "encoding-identity": [(b"Transfer-Encoding", b"identity")],
    "encoding-after": [(b"Transfer-Encoding", b"chunked, identity")],
    "encoding-prefix": [(b"Transfer-Encoding", b"xchunked")],
    "encoding-quoted": [(b"Transfer-Encoding", b'"chunked"')],
    "encoding-parameter": [(b"Transfer-Encoding", b"chunked;q=1")],
    "encoding-tab": [(b"Transfer-Encoding", b"chunked\t")],
    "encoding-vertical-tab": [(b"Transfer-Encoding", b"\x0bchunked")],
    "encoding-empty": [(b"Transfer-Encoding", b"")],
    "expect-other": [(b"Expect", b"200-ok")],
    "expect-twice": _pair("Expect", "100-continue", "100-continue"),
    "expect-list": [(b"Expect", b"100-continue, x")],
}

_SPELLED_TWICE: dict[str, list[Line]] = {
    "copy-source": _pair("x-amz-copy-source", other="X-Amz_Copy-Source"),
    "copy-source-two-aliases": _pair("x_amz_copy_source", other="x.amz.copy.source"),
    "length": _pair("Content-Length", "1", "1", other="Content_Length"),
    "encoding-alias-twice": _pair("Transfer_Encoding", "chunked", "chunked"),
    "token-header": _pair("X-Cache-Token", other="X_Cache_Token"),
}

_CONNECTION: dict[str, list[Line]] = {
    name: [(b"Connection", value)]
    for name, value in {
        "authorization": b"authorization",
        "host": b"close, Host",
        "length": b"Content-Length",
        "encoding": b"transfer-encoding",
        "range": b"keep-alive, Range",
        "folded": b"x_amz_copy_source",
        "token-header": b"X-Cache-Token",
        "not-a-token": b"close, a b",
        "slash": b"a/b",
        "itself": b"connection",
    }.items()
}

_BYTES: dict[str, list[Line]] = {
    "nul": [(b"X-A", b"a\0b")],
    "cr": [(b"X-A", b"a\rb")],
    "lf": [(b"X-A", b"a\nb")],
    "folded-line": [(b"X-A", b"a\r\n b")],
    "escape": [(b"X-A", b"\x1b[0m")],
    "del": [(b"X-A", b"a\x7f")],
    "control-in-dropped": [(b"Cookie", b"a\x01")],
    "control-in-alias": [(b"Transfer_Encoding", b"a\x01")],
    "obs-text-in-authorization": [(b"Authorization", b"Bearer \xff")],
    "obs-text-in-range": [(b"Range", b"bytes=0-\xb2")],
    "obs-text-in-connection": [(b"Connection", b"clos\xe9")],
    "tab-in-authorization": [(b"Authorization", b"Bearer\tx")],
}

_NAMES: dict[str, list[Line]] = {
    "empty": [(b"", b"a")],
    "space-at-end": [(b"Content-Length ", b"1")],
    "space-at-start": [(b" X-A", b"1")],
    "space-inside": [(b"X A", b"1")],
    "tab": [(b"Transfer-Encoding\t", b"chunked")],
    "colon": [(b"X:A", b"1")],
    "nul": [(b"X-A\0", b"1")],
    "obs-text": [(b"X-\xe9", b"1")],
    "brackets": [(b"X[A]", b"1")],
    "slash": [(b"X/A", b"1")],
}

REFUSED_LINES: dict[str, list[Line]] = {
    **{f"twice-{name}": _pair(name) for name in DECIDING},
    **{f"twice-same-{name}": _pair(name, "a", "a") for name in DECIDING},
    **{f"twice-case-{name}": _pair(name, other=name.swapcase()) for name in DECIDING},
    **{f"spelled-{name}": lines for name, lines in _SPELLED_TWICE.items()},
    **{f"framing-{name}": lines for name, lines in _FRAMING.items()},
    **{f"connection-{name}": lines for name, lines in _CONNECTION.items()},
    **{f"bytes-{name}": lines for name, lines in _BYTES.items()},
    **{f"name-{name}": lines for name, lines in _NAMES.items()},
}

# Credentials, hop-by-hop, overrides, identities: they end here.
DANGEROUS = (
    "Authorization", "Proxy-Authorization", "Proxy-Connection", "Proxy", "Bearer", "X-Api-Key", "X-Cache-Token",
    "X-JFrog-Art-Api", "Private-Token", "Job-Token", "Deploy-Token", "Api-Key", "ApiKey", "X-ApiKey", "X-NuGet-ApiKey",
    "X-Access-Token", "X-Vault-Token", "X-GitLab-Token", "X-Auth-Token", "X-Amz-Security-Token", "Cookie", "Cookie2",
    "X-Checksum-Deploy", "Keep-Alive", "Trailers", "TE", "Trailer", "HTTP2-Settings",
    "X-HTTP-Method-Override", "X-HTTP-Method", "X-Method-Override", "_method",
    "X-Original-URL", "X-Original-URI", "X-Original-Method", "X-Rewrite-URL", "X-HTTP-Path-Override", "Request-URI",
    "X-Forwarded-For", "X-Forwarded-Host", "X-Forwarded-Proto", "X-Forwarded-Uri", "X-Forwarded-Prefix", "X-Forwarded-User",
    "X-Forwarded-Access-Token", "X-Forwarded", "Forwarded", "X-Host", "X-Real-IP", "True-Client-IP", "X-Client-IP",
    "CF-Connecting-IP", "Client-IP", "X-Cluster-Client-IP",
    "X-Accel-Redirect", "X-Accel-Internal", "X-Sendfile", "X-Sendfile-Type",
    "X-Remote-User", "Remote-User", "Remote-Groups", "X-Auth-User", "X-Auth-Request-Email", "X-WebAuth-User", "X-User",
    "X-Authenticated-User", "X-Authentik-Username", "X-Pomerium-Claim-Email", "X-Consumer-Username", "X-SSL-Client-S-DN",
    "SSL-Client-Cert", "X-Client-Cert", "X-Amzn-Oidc-Identity", "X-Goog-Authenticated-User-Email", "X-Envoy-Original-Path",
    "X-Ms-Client-Principal-Name", "X-Artifactory-Override-Base-Url",
    "X-Artifactory-Override-Base-Url", "X-JFrog-Override-Base-Url", "Base-Url", "Http-Url", "Fastly-Client-IP",
    "X-Originating-IP", "X-ProxyUser-Ip", "X-Azure-ClientIP", "X-Url-Scheme", "Front-End-Https", "User", "X-Username",
    "X-User-Id", "X-User-Email", "X-Email", "X-Groups", "X-Roles", "X-LIGHTTPD-send-file", "Forwarded-For", "X-Proxy-User",
    "CF-Access-Jwt-Assertion", "X-Middleware-Subrequest", "X-Vouch-User", "X-Goog-IAP-JWT-Assertion", "Proxy-Anything",
    "X-Store-Key",
)  # fmt: skip
"""`X-Store-Key` stands for the header that the sidecar sets towards its upstream, `X-Cache-Token` for a configured carrier."""


def _spellings(name: str) -> list[str]:
    return [name, name.lower(), name.upper(), name.replace("-", "_"), name.replace("-", "."), name.replace("-", "_", 1)]


NOT_FORWARDED: dict[str, list[Line]] = {
    **{f"{spelling}": [(spelling.encode(), b"x")] for name in DANGEROUS for spelling in _spellings(name)},
    **{
        f"alias-{name}": [(name.encode(), value)]
        for name, value in {
            "Transfer_Encoding": b"chunked",
            "Transfer.Encoding": b"chunked",
            "Content_Length": b"5",
            "Content_Type": b"text/html",
            "X_Amz_Copy_Source": b"/other/key",
            "If_None_Match": b"*",
        }.items()
    },
    "content-length": [(b"Content-Length", b"5")],
    "transfer-encoding": [(b"Transfer-Encoding", b"Chunked")],
    "expect": [(b"Expect", b"100-Continue")],
    "nominated": [(b"Connection", b"X-Secret-Hop, close"), (b"x-secret-hop", b"1")],
    "nominated-folded": [(b"Connection", b"x_secret.hop"), (b"X-Secret-Hop", b"1")],
    "nominated-in-second-line": [(b"Connection", b"close"), (b"Connection", b"x-hop"), (b"X-Hop", b"1")],
    "cookies": [(b"Cookie", b"a=b"), (b"Cookie", b"c=d")],
}

FORWARDED: dict[str, list[Line]] = {
    "accept": [(b"Accept", b"*/*"), (b"Accept-Encoding", b"gzip, zstd"), (b"Accept-Language", b"de")],
    "accept-twice": [(b"Accept", b"text/html"), (b"Accept", b"*/*")],
    "body": [(b"Content-Type", b"application/octet-stream"), (b"Content-Encoding", b"gzip")],
    "conditional": [(b"If-None-Match", b'"a", W/"b"'), (b"If-Modified-Since", b"Sun, 22 Nov 2026 06:00:00 GMT")],
    "range": [(b"Range", b"bytes=0-9"), (b"If-Range", b'"a"')],
    "own": [(b"X-Artifact-Duration", b"120"), (b"x-artifact-tag", b"abc")],
    "obs-text": [(b"X-Author", b"Ren\xe9")],
    "tab": [(b"X-A", b"a\tb")],
    "empty": [(b"X-A", b"")],
    "underscore": [(b"X_Own_Name", b"1")],
    "checksum": [(b"X-Checksum-Sha1", b"0123")],
    "webdav": [(b"Depth", b"0")],
}
