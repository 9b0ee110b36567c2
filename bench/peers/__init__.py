"""Who is measured, in the table's order. A new peer is one file and one line here."""

from bench.peers import aiohttp_plain, haproxy, issued, nginx, s3_client, sidecar
from bench.peers.base import Peer

PEERS: tuple[Peer, ...] = (
    *nginx.PEERS,
    *haproxy.PEERS,
    *aiohttp_plain.PEERS,
    *sidecar.PEERS,
    *s3_client.PEERS,
    *issued.PEERS,
)
