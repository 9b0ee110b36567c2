"""A proxy as most would write it with aiohttp: an Application, a ClientSession, uvloop. No authentication.

A program: `plain_proxy.py PORT STORE_PORT`. It imports nothing of this package, so that its memory is its own.
"""

import sys
from collections.abc import AsyncIterator

import aiohttp
import uvloop
from aiohttp import web

HOP_BY_HOP = frozenset(
    {
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
NOT_FORWARDED = HOP_BY_HOP | {"host", "authorization"}
PIECE = 64 * 1024
SESSION = web.AppKey("session", aiohttp.ClientSession)
STORE = web.AppKey("store", str)


async def proxy(request: web.Request) -> web.StreamResponse:
    headers = {name: value for name, value in request.headers.items() if name.lower() not in NOT_FORWARDED}
    body = request.content if request.body_exists else None
    url = request.app[STORE] + request.path_qs
    async with request.app[SESSION].request(
        request.method, url, headers=headers, data=body, allow_redirects=False
    ) as answer:
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_BY_HOP}
        response = web.StreamResponse(status=answer.status, headers=kept)
        await response.prepare(request)
        async for piece in answer.content.iter_chunked(PIECE):
            await response.write(piece)
        await response.write_eof()
        return response


async def session(app: web.Application) -> AsyncIterator[None]:
    connector = aiohttp.TCPConnector(limit=256)
    timeout = aiohttp.ClientTimeout(total=None, sock_read=60)
    async with aiohttp.ClientSession(connector=connector, timeout=timeout, auto_decompress=False) as opened:
        app[SESSION] = opened
        yield


def main(port: int, store_port: int) -> None:
    app = web.Application()
    app[STORE] = f"http://127.0.0.1:{store_port}"
    app.cleanup_ctx.append(session)
    app.router.add_route("*", "/{path:.*}", proxy)
    web.run_app(
        app,
        host="127.0.0.1",
        port=port,
        access_log=None,
        print=None,
        loop=uvloop.new_event_loop(),
        keepalive_timeout=600,
    )


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
