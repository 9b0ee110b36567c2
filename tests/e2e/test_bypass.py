"""The real server over raw sockets, in front of a store whose log is the oracle (laws 1, 2 and 10).

Either a request is refused and the store saw nothing, or the store saw exactly one request, whose path and headers are,
byte for byte, those that were decided on.
"""

import asyncio
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Collection, Iterator
from pathlib import Path

import jwt
import pytest
from msgspec import Struct

from tests.corpus.headers import FORWARDED, NOT_FORWARDED, REFUSED_LINES, Line
from tests.corpus.paths import PATHS
from tests.corpus.smuggling import MARK, REFUSALS, SMUGGLING, Case
from tests.e2e.echo_store import EchoStore, Seen
from tests.e2e.process import free_ports

SECRET = "a secret for tests that is longer than 32 bytes"
CONFIG = """
listen: 127.0.0.1:{listen}
ops: 127.0.0.1:{ops}
policies: ./policies
upstreams:
  artifacts:
    url: "http://127.0.0.1:{store}"
    credentials: {{header: {{name: X-Store-Key, value_file: ./key}}}}
issuers:
  test: {{issuer: "https://issuer.example", audience: cache, secret_file: ./secret, algorithms: [HS256]}}
carriers: {{headers: [X-Cache-Token]}}
audit:
  - file: ./audit.jsonl
"""
POLICY = """
workspace: web
routes:
  - {path: /web, client: plain, upstream: artifacts, upstream_path: /store/web}
rules:
  - {name: all, allow: [read, write, delete], issuer: test}
  - {name: not this, deny: [read, write, delete], path: smuggled}
"""
STORE_KEY: Line = (b"X-Store-Key", b"the store's own")
OURS = frozenset({b"host", b"content-length", b"transfer-encoding", b"connection"})
AT_ONCE = 40
QUIET = 0.4
"""Seconds without a byte after which a server has said what it has to say to a request that may be incomplete."""


class Served(Struct):
    port: int
    store: EchoStore
    token: bytes

    def fill(self, raw: bytes) -> bytes:
        return raw.replace(b"@TOKEN@", self.token).replace(b"@HOST@", b"127.0.0.1:%d" % self.port)

    def request(self, target: bytes, *lines: Line, method: bytes = b"GET", body: bytes = b"") -> bytes:
        head = [b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % line for line in lines)]
        return b"\r\n".join([*head, b"Authorization: Bearer " + self.token, b"", body])


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    folder: Path = tmp_path_factory.mktemp("bypass")
    store, (listen, ops) = EchoStore(), free_ports(2)
    (folder / "policies").mkdir()
    (folder / "policies" / "web.yaml").write_text(POLICY)
    (folder / "secret").write_text(SECRET)
    (folder / "key").write_text("the store's own")
    (folder / "sidecar.yaml").write_text(CONFIG.format(listen=listen, ops=ops, store=store.port))
    now = int(time.time())
    claims = {"iss": "https://issuer.example", "aud": "cache", "sub": "bypass", "iat": now, "exp": now + 3600}
    token = jwt.encode(claims, SECRET, algorithm="HS256").encode()
    with (folder / "log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "sidecar.serving", str(folder / "sidecar.yaml")], stdout=log, stderr=log
        )
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", listen), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > deadline:
                    pytest.fail((folder / "log").read_text())
                time.sleep(0.05)
        yield Served(listen, store, token)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait()
        store.close()
        assert token not in (folder / "log").read_bytes()
        assert token not in (folder / "audit.jsonl").read_bytes()


async def _send(served: Served, raw: bytes, *, to_the_end: bool, silent: bool = False) -> tuple[int, bytes]:
    """The first final answer's status (0: none) and what was answered: one answer, or all until the server is silent. `silent`:
    whether there may be none at all."""
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    answer = b""
    try:
        writer.write(raw)
        while not (answer and not to_the_end and _complete(answer)):
            data = await asyncio.wait_for(reader.read(65536), QUIET if answer else 5 * QUIET if silent else 20)
            if not data:
                break
            answer += data
    except (TimeoutError, ConnectionError):
        pass
    finally:
        writer.transport.abort()
    final = answer.removeprefix(b"HTTP/1.1 100 Continue\r\n\r\n")
    return (int(final[9:12]) if final.startswith(b"HTTP/1.1 ") else 0), answer


def _complete(answer: bytes) -> bool:
    head, end, body = answer.partition(b"\r\n\r\n")
    length = re.search(rb"\r\ncontent-length: ([0-9]+)", head.lower())
    return bool(end) and length is not None and len(body) >= int(length[1])


async def _send_all(
    served: Served, raws: dict[str, bytes], *, to_the_end: bool = False, silent: Collection[str] = ()
) -> dict[str, int]:
    gate = asyncio.Semaphore(AT_ONCE)

    async def one(name: str) -> int:
        async with gate:
            return (await _send(served, raws[name], to_the_end=to_the_end, silent=name in silent))[0]

    return dict(zip(raws, await asyncio.gather(*map(one, raws)), strict=True))


def _seen_by_mark(served: Served, since: int) -> dict[bytes, list[Seen]]:
    """What the store saw since, by the `User-Agent` that marks the request."""
    marked: dict[bytes, list[Seen]] = {}
    for seen in served.store.seen[since:]:
        marked.setdefault(b",".join(seen.header(b"user-agent")), []).append(seen)
    return marked


def _marked(number: int) -> tuple[Line, Line, Line]:
    return (b"Host", b"a"), (b"User-Agent", b"case-%d" % number), (b"Connection", b"close")


async def test_every_spelling_of_a_path_is_refused_or_reaches_the_store_unchanged(served: Served) -> None:
    since = len(served.store.seen)
    raws, cases = {}, {}
    for number, (name, raw, verdict) in enumerate(PATHS):
        target = raw.encode("utf-8", "surrogateescape")
        cases[name] = (b"case-%d" % number, target, verdict)
        raws[name] = served.request(target, *_marked(number))
    statuses = await _send_all(served, raws)
    marked = _seen_by_mark(served, since)
    wrong = {}
    for name, (mark, target, verdict) in cases.items():
        path = target.split(b"?")[0]
        taken = verdict == 0 or name.startswith("odd-npm-")  # `plain` takes npm's @scope%2fname, as it is written
        passes = taken and (path == b"/web" or path.startswith(b"/web/"))
        expected = [b"/store" + (target.removesuffix(b"?"))] if passes else []
        got = [seen.target for seen in marked.get(mark, [])]
        status = statuses[name]
        if got != expected or (status != 200 if passes else status not in REFUSALS | {404}):
            wrong[name] = (target[:80], status, got)
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
    assert served.store.faults == []


async def test_headers_are_refused_dropped_or_forwarded_as_they_came(served: Served) -> None:
    since = len(served.store.seen)
    corpus = {
        **{
            f"refused-{name}": lines
            for name, lines in REFUSED_LINES.items()
            if not any(b":" in line[0] for line in lines)
        },
        **{f"dropped-{name}": lines for name, lines in NOT_FORWARDED.items()},
        **{f"forwarded-{name}": lines for name, lines in FORWARDED.items()},
    }
    raws = {}
    for number, (name, lines) in enumerate(corpus.items()):
        framing = {key.lower(): value.lower() for key, value in lines}
        body = b"hello" if b"content-length" in framing else b""
        body = b"0\r\n\r\n" if b"transfer-encoding" in framing else body
        host, agent, _ = _marked(number)
        raws[name] = served.request(b"/web/ok", host, agent, *lines, body=body)
    statuses = await _send_all(served, raws)
    marked = _seen_by_mark(served, since)
    wrong = {}
    for number, (name, lines) in enumerate(corpus.items()):
        _, agent, _ = _marked(number)
        seen = marked.get(agent[1], [])
        forwarded = [
            [line for line in one.headers if line[0].lower() not in OURS and line != STORE_KEY] for one in seen
        ]
        refused = statuses[name] in {0, 400, 401} and not seen
        passed = statuses[name] == 200 and forwarded == [[agent, *(lines if name.startswith("forwarded") else [])]]
        if not (refused if name.startswith("refused") else passed or (refused and name.startswith("dropped"))):
            wrong[name] = (statuses[name], seen)
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
    assert sum(bool(marked.get(b"case-%d" % number)) for number in range(len(corpus))) > len(NOT_FORWARDED) // 2
    assert served.store.faults == []


async def test_the_store_is_told_its_own_host_and_one_framing(served: Served) -> None:
    since = len(served.store.seen)
    put = served.request(
        b"/web/ok", (b"Host", b"evil.example"), (b"Content-Length", b"5"), method=b"PUT", body=b"hello"
    )
    chunked = served.request(
        b"/web/ok",
        (b"Host", b"evil.example"),
        (b"Transfer-Encoding", b"chunked"),
        method=b"PUT",
        body=b"5\r\nhello\r\n0\r\n\r\n",
    )
    assert await _send_all(served, {"put": put, "chunked": chunked}) == {"put": 200, "chunked": 200}
    for seen in served.store.seen[since:]:
        assert seen.body == b"hello"
        assert seen.header(b"host") == [b"127.0.0.1:%d" % served.store.port]
        assert len(seen.header(b"content-length")) + len(seen.header(b"transfer-encoding")) == 1


METHODS = (
    b"TRACE", b"CONNECT", b"PROPFIND", b"PROPPATCH", b"MKCOL", b"MOVE", b"COPY", b"LOCK", b"UNLOCK", b"PURGE", b"LINK", b"REPORT",
    b"get", b"Get", b"pUT", b"GETX", b"M-SEARCH", b"DEBUG", b"TRACK", b"SOURCE", b"QUERY", b"BIND", b"ACL", b"X" * 100, b"PRI",
)  # fmt: skip


async def test_no_other_method_reaches_the_store(served: Served) -> None:
    since = len(served.store.seen)
    raws = {
        method.decode(): served.request(b"/web/ok", (b"Host", b"a"), (b"X-HTTP-Method-Override", b"GET"), method=method)
        for method in METHODS
    }
    statuses = await _send_all(served, raws)
    assert set(statuses.values()) <= REFUSALS
    assert served.store.seen[since:] == []


async def test_the_framing_tricks(served: Served) -> None:
    since, heads = len(served.store.seen), len(served.store.heads)
    cases: dict[str, tuple[bytes, Case]] = {}
    raws = {}
    for number, case in enumerate(SMUGGLING):
        path = b"/web/ok/case-%d-" % number
        cases[case.name] = (b" /store" + path, case)
        raws[case.name] = served.fill(case.raw.replace(b"/web/ok/", path))
    silent = [name for name, (_, case) in cases.items() if 0 in case.statuses]
    statuses = await _send_all(served, raws, to_the_end=True, silent=silent)
    lines = served.store.heads[heads:]
    wrong = {}
    for name, (path, case) in cases.items():
        count = sum(path in line for line in lines)
        if count not in case.seen or statuses[name] not in case.statuses:
            wrong[name] = (case.raw[:200], statuses[name], count)
    assert not wrong, "\n".join(f"{name}: {what}" for name, what in wrong.items())
    assert [line for line in lines if MARK in line] == []
    assert served.store.faults == []
    assert len(served.store.seen[since:]) >= 10
    for seen in served.store.seen[since:]:
        assert seen.header(b"authorization") == []
        assert served.token not in b"".join(value for _, value in seen.headers)


async def test_a_refused_request_ends_its_connection_so_that_its_body_is_no_request(served: Served) -> None:
    since = len(served.store.heads)
    inner = served.request(b"/web/ok/inner", (b"Host", b"a"), method=b"PUT")
    outer = served.request(
        b"/nowhere", (b"Host", b"a"), (b"Content-Length", b"%d" % len(inner)), method=b"PUT", body=inner
    )
    status, answer = await _send(served, outer, to_the_end=True)
    assert status == 404
    assert answer.count(b"HTTP/1.1 ") == 1
    assert served.store.heads[since:] == []
