"""Errands at a store that keeps bodies and nothing else: headers beside their object, judged narinfo files, questions for many keys."""

import base64
import hashlib
import json
from collections.abc import Sequence
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from sidecar import narinfo
from sidecar.decision import Decision
from sidecar.errors import Refused, Unavailable
from sidecar.gate import Gate
from sidecar.policy.compiled import Route, TrustedKey
from sidecar.ports import Downstream
from sidecar.profiles import PROFILES
from sidecar.reasons import Reason
from sidecar.server.errands import Errands, take_and_drop
from sidecar.server.exchange import Exchange
from tests.unit.clients import errand, route
from tests.unit.test_through import Client


class Bodies:
    """A store. `asked` is what it heard, `failing` the method and path that it answers with 500."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}
        self.headers: dict[str, list[tuple[bytes, bytes]]] = {}
        self.asked: list[str] = []
        self.failing = ""

    async def exists(self, upstream_path: str) -> bool:
        return upstream_path in self.kept

    async def close(self) -> None: ...

    async def forward(self, exchange: Downstream) -> None:
        path = exchange.upstream_path.partition("?")[0]
        self.asked.append(f"{exchange.method} {path}")
        status, body = 200, b""
        if self.asked[-1] == self.failing:
            status = 500
        elif exchange.method == "PUT":
            pieces = []
            while piece := await exchange.read():
                pieces.append(piece)
            self.kept[path] = b"".join(pieces)
            status = 201
        elif path not in self.kept:
            status = 404
        elif exchange.method == "DELETE":
            del self.kept[path]
            status = 204
        else:
            body = self.kept[path]
        exchange.start(status, self.headers.get(path, []), len(body) if status != 204 else None)
        if exchange.method == "GET" and body:
            exchange.write(body)
        exchange.finish()


class Asker(Client):
    def answer(self, status: int, headers: Sequence[tuple[bytes, bytes]], body: bytes) -> None:
        self.start(status, headers, len(body))
        self.write(body)
        self.finish()


class Rig:
    def __init__(self, *, keeping: Sequence[str] = ()) -> None:
        self.store = Bodies()
        self.readable: set[str] | None = None
        gate: Gate = self  # type: ignore[assignment]  # as much of one as is asked
        self.errands = Errands(gate, keeping)

    def grants(self, decision: Decision, keys: Sequence[str]) -> list[str]:
        return [key for key in keys if self.readable is None or key in self.readable]

    async def ask(self, at: Route, line: str, body: bytes = b"", *headers: str) -> Asker:
        text = "\n".join((f"{line} HTTP/1.1", *headers, *([f"Content-Length: {len(body)}"] if body else [])))
        found = errand(text, at)
        client = Asker([body] if body else [], method=line.split(" ")[0], length=len(body))
        client.upstream_path, client.headers = found.path, found.forward
        decision = Decision(Reason.GRANTED, route=at, actions=found.actions)
        exchange: Exchange = client  # type: ignore[assignment]
        await self.errands.carry(found, decision, PROFILES[at.client], exchange, self.store)
        return client


TURBO = route("turborepo")
PATH = "/ws/v8/artifacts/a1"
BESIDE = "/keys/v8/artifacts/a1.headers"


def artifact_headers(client: Client) -> dict[bytes, bytes]:
    return dict(client.told)


async def test_headers_are_kept_beside_and_come_back() -> None:
    rig = Rig()
    written = await rig.ask(
        TURBO, f"PUT {PATH}", b"zstd", "X-Artifact-Tag: dGFn=", "x-artifact-duration: 5", "X-Other: 1"
    )
    assert written.status == 200
    assert rig.store.kept == {
        "/keys/v8/artifacts/a1": b"zstd",
        BESIDE: b"x-artifact-tag: dGFn=\nx-artifact-duration: 5",
    }
    for method in ("GET", "HEAD"):
        read = await rig.ask(TURBO, f"{method} {PATH}")
        assert artifact_headers(read) == {b"x-artifact-tag": b"dGFn=", b"x-artifact-duration": b"5"}


async def test_the_object_is_written_first_and_the_client_hears_last() -> None:
    """Whoever loses a race for the object must not leave their signature with the winner's."""
    rig = Rig()
    rig.store.failing = f"PUT {PATH.replace('/ws', '/keys')}"
    with pytest.raises(Refused) as refused:
        await rig.ask(TURBO, f"PUT {PATH}", b"zstd", "X-Artifact-Tag: dGFn=")
    assert refused.value.reason is Reason.UPSTREAM_ERROR
    assert rig.store.kept == {}
    rig.store.failing = f"PUT {BESIDE}"
    with pytest.raises(Unavailable):
        await rig.ask(TURBO, f"PUT {PATH}", b"zstd", "X-Artifact-Tag: dGFn=")
    assert rig.store.asked[-2:] == [f"PUT {PATH.replace('/ws', '/keys')}", f"PUT {BESIDE}"]


async def test_headers_of_what_was_replaced_or_deleted_don_t_stay() -> None:
    rig = Rig()
    await rig.ask(TURBO, f"PUT {PATH}", b"one", "X-Artifact-Tag: one")
    await rig.ask(TURBO, f"PUT {PATH}", b"two")
    assert artifact_headers(await rig.ask(TURBO, f"GET {PATH}")) == {}
    await rig.ask(TURBO, f"DELETE {PATH}")
    assert rig.store.kept == {}


async def test_a_store_that_keeps_them_is_not_asked_twice() -> None:
    rig = Rig(keeping=["store"])
    await rig.ask(TURBO, f"PUT {PATH}", b"zstd", "X-Artifact-Tag: a")
    await rig.ask(TURBO, f"GET {PATH}")
    assert rig.store.asked == [f"PUT {PATH.replace('/ws', '/keys')}", f"GET {PATH.replace('/ws', '/keys')}"]


async def test_a_store_s_keeping_is_learnt() -> None:
    rig = Rig()
    rig.store.kept["/keys/v8/artifacts/a1"] = b"zstd"
    rig.store.headers["/keys/v8/artifacts/a1"] = [(b"x-artifact-tag", b"its own")]
    for asked in (2, 3):
        assert artifact_headers(await rig.ask(TURBO, f"GET {PATH}")) == {b"x-artifact-tag": b"its own"}
        assert len(rig.store.asked) == asked


async def test_what_lies_beside_is_read_as_a_stranger_s() -> None:
    rig = Rig()
    rig.store.kept = {
        "/keys/v8/artifacts/a1": b"zstd",
        BESIDE: b"x-artifact-tag: good\nset-cookie: a=b\nX-Artifact-Tag: x\n: y\nx-artifact-sha\n\xff: 1",
    }
    found = await rig.ask(TURBO, f"GET {PATH}")
    assert list(found.told) == [(b"x-artifact-tag", b"good"), (b"x-artifact-sha", b"")]


async def test_headers_that_can_not_be_learnt_are_no_headers_at_all() -> None:
    rig = Rig()
    rig.store.failing = f"GET {BESIDE}"
    with pytest.raises(Refused) as refused:
        await rig.ask(TURBO, f"GET {PATH}")
    assert refused.value.reason is Reason.UPSTREAM_ERROR


async def test_a_digest_is_asked_of_an_artifact_with_headers_too() -> None:
    at = route("turborepo", content_address=True)
    name = hashlib.sha256(b"zstd").hexdigest()
    for keeping in ((), ("store",)):
        rig = Rig(keeping=keeping)
        with pytest.raises(Refused) as refused:
            await rig.ask(at, f"PUT /ws/v8/artifacts/{name}", b"zstf", "X-Artifact-Tag: a")
        assert refused.value.reason is Reason.BODY_MISMATCH
        assert rig.store.kept == {}
        assert (await rig.ask(at, f"PUT /ws/v8/artifacts/{name}", b"zstd")).status == 200


async def test_a_question_for_many() -> None:
    rig = Rig()
    await rig.ask(TURBO, f"PUT {PATH}", b"zstd")
    await rig.ask(TURBO, f"PUT {PATH}2", b"more")
    rig.readable = {"v8/artifacts/a1", "v8/artifacts/a3"}
    asked = json.dumps({"hashes": ["a1", "a12", "a3"]}).encode()
    answer = await rig.ask(TURBO, "POST /ws/v8/artifacts", asked)
    assert answer.status == 200
    assert json.loads(answer.body) == {"a1": {"size": 4, "taskDurationMs": 0}, "a12": None, "a3": None}
    assert not any("a12" in line for line in rig.store.asked if line.startswith("HEAD"))


async def test_a_question_whose_answer_is_not_known_is_not_answered() -> None:
    rig = Rig()
    rig.store.failing = "HEAD /keys/v8/artifacts/a1"
    with pytest.raises(Refused) as refused:
        await rig.ask(TURBO, "POST /ws/v8/artifacts", b'{"hashes": ["a0", "a1"]}')
    assert refused.value.reason is Reason.UPSTREAM_ERROR
    with pytest.raises(Refused) as refused:
        await rig.ask(TURBO, "POST /ws/v8/artifacts", b" " * 300_000)
    assert refused.value.reason is Reason.MALFORMED_BODY


# --- Nix

SIGNER = Ed25519PrivateKey.from_private_bytes(bytes(32))
NAME = "0" * 32
NIX = route("nix", trusted_keys=(TrustedKey("k", SIGNER.public_key().public_bytes_raw()),))


def info(*, signed: bool = True, **more: Any) -> bytes:
    digest = narinfo.to_base32(hashlib.sha256().digest())
    text = f"StorePath: /nix/store/{NAME}-a\nURL: nar/a.nar\nNarHash: sha256:{digest}\nNarSize: 1\nReferences: \n"
    signature = SIGNER.sign(f"1;/nix/store/{NAME}-a;sha256:{digest};1;".encode())
    return (text + (f"Sig: k:{base64.b64encode(signature).decode()}\n" if signed else "")).encode()


async def test_a_signed_narinfo_goes_in_and_comes_out_as_it_is() -> None:
    rig = Rig()
    assert (await rig.ask(NIX, f"PUT /ws/{NAME}.narinfo", info())).status == 201
    assert rig.store.kept == {f"/keys/{NAME}.narinfo": info()}
    read = await rig.ask(NIX, f"GET /ws/{NAME}.narinfo")
    assert (read.status, read.body) == (200, info())
    assert (await rig.ask(NIX, f"HEAD /ws/{NAME}.narinfo")).length == len(info())


async def test_an_unsigned_one_does_neither() -> None:
    rig = Rig()
    with pytest.raises(Refused) as refused:
        await rig.ask(NIX, f"PUT /ws/{NAME}.narinfo", info(signed=False))
    assert refused.value.reason is Reason.UNTRUSTED_NARINFO
    assert rig.store.asked == []
    rig.store.kept[f"/keys/{NAME}.narinfo"] = info(signed=False)
    for method in ("GET", "HEAD"):
        with pytest.raises(Refused) as refused:
            await rig.ask(NIX, f"{method} /ws/{NAME}.narinfo")
        assert refused.value.reason is Reason.UNTRUSTED_NARINFO


async def test_one_in_a_coding_is_not_looked_into() -> None:
    rig = Rig()
    rig.store.kept[f"/keys/{NAME}.narinfo"] = info()
    rig.store.headers[f"/keys/{NAME}.narinfo"] = [(b"Content-Encoding", b"br")]
    with pytest.raises(Refused) as refused:
        await rig.ask(NIX, f"GET /ws/{NAME}.narinfo")
    assert refused.value.reason is Reason.UNTRUSTED_NARINFO


async def test_one_without_end_is_not_taken_into_memory() -> None:
    rig = Rig()
    with pytest.raises(Refused) as refused:
        await rig.ask(NIX, f"PUT /ws/{NAME}.narinfo", info() + b"x" * narinfo.MAX_SIZE)
    assert refused.value.reason is Reason.MALFORMED_BODY
    rig.store.kept[f"/keys/{NAME}.narinfo"] = info() + b"x" * narinfo.MAX_SIZE
    with pytest.raises(Unavailable):
        await rig.ask(NIX, f"GET /ws/{NAME}.narinfo")


async def test_an_absent_one_and_an_outage() -> None:
    rig = Rig()
    assert (await rig.ask(NIX, f"GET /ws/{NAME}.narinfo")).status == 404
    rig.store.failing = f"GET /keys/{NAME}.narinfo"
    with pytest.raises(Refused) as refused:
        await rig.ask(NIX, f"GET /ws/{NAME}.narinfo")
    assert refused.value.reason is Reason.UPSTREAM_ERROR


async def test_a_body_that_nobody_wants_is_read_up_to_a_limit() -> None:
    for pieces, left in (([b"x" * 10] * 3, 0), ([b"x" * 600_000] * 5, 3)):
        client = Client(pieces, length=1)
        exchange: Exchange = client  # type: ignore[assignment]
        await take_and_drop(exchange)
        assert len(client._pieces) == left
