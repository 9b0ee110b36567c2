"""nginx as a plain proxy: no authentication, no access log. Buffered is what it ships with; unbuffered passes bodies on as they come."""

from bench import nginx
from bench.peers.base import Peer, Site, first_line, require

_UNBUFFERED = "proxy_buffering off; proxy_request_buffering off;"


def _command(site: Site, extra: str) -> list[str]:
    program = require(nginx.PROGRAM)
    http = f"""
    upstream store {{
        server 127.0.0.1:{site.store_port};
        keepalive 64;
        keepalive_requests {nginx.FOREVER};
    }}
    server {{
        listen 127.0.0.1:{site.port} backlog=1024;
        location / {{
            proxy_pass http://store;
            proxy_http_version 1.1;
            proxy_set_header Connection "";
            {extra}
        }}
    }}"""
    return [program, *nginx.write_config(site.directory, http)]


def _version() -> str:
    return first_line([require(nginx.PROGRAM), "-v"])


PEERS = (
    Peer("nginx", "nginx", lambda site: _command(site, ""), _version),
    Peer("nginx-unbuffered", "nginx, unbuffered", lambda site: _command(site, _UNBUFFERED), _version, bulk_only=True),
)
