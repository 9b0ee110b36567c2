"""HAProxy: plain, with kernel splicing, and with `jwt_verify`.

Splicing is asked for outright (`splice-request`, `splice-response`): `splice-auto` decides by the pace of the stream and, with the
load and the store on one core, seldom begins; the harder peer is the fair one.

The last one verifies the algorithm and the signature of every request's token and, for a write, one claim. It has no
cache, no policy, no expiry check and no log: less than an auth proxy must do, which makes it a hard peer to measure against.
"""

from bench.peers.base import Peer, Site, first_line, require

PROGRAM = "haproxy"

_SPLICE = "    option splice-request\n    option splice-response\n"


def _verify(site: Site) -> str:
    return f"""
    http-request set-var(txn.bearer) http_auth_bearer
    http-request set-var(txn.alg) var(txn.bearer),jwt_header_query('$.alg')
    http-request deny deny_status 401 unless {{ var(txn.alg) -m str RS256 }}
    http-request deny deny_status 401 unless {{ var(txn.bearer),jwt_verify(txn.alg,"{site.credentials.public_pem}") -m int 1 }}
    http-request deny deny_status 403 if METH_PUT !{{ var(txn.bearer),jwt_payload_query('$.access') -m str write }}
"""


def _command(site: Site, defaults: str, frontend: str) -> list[str]:
    program = require(PROGRAM)
    config = site.directory / "haproxy.cfg"
    config.write_text(
        f"""
global
    nbthread 1
    maxconn 4096
defaults
    mode http
    timeout connect 5s
    timeout client 600s
    timeout server 600s
    timeout http-keep-alive 600s
    http-reuse always
{defaults}
frontend proxy
    bind 127.0.0.1:{site.port} backlog 1024
{frontend}
    default_backend store
backend store
    server store 127.0.0.1:{site.store_port}
"""
    )
    return [program, "-db", "-f", str(config)]


def _version() -> str:
    return first_line([require(PROGRAM), "-v"])


PEERS = (
    Peer("haproxy", "HAProxy", lambda site: _command(site, "", ""), _version),
    Peer("haproxy-splice", "HAProxy, splice", lambda site: _command(site, _SPLICE, ""), _version, bulk_only=True),
    Peer(
        "haproxy-jwt",
        "HAProxy, jwt_verify",
        lambda site: _command(site, "", _verify(site)),
        _version,
        checks_tokens=True,
    ),
)
