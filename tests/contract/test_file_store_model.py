"""The embedded store against a dictionary: whatever is done in whatever order, both say the same."""

import asyncio
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple
from urllib.parse import quote_from_bytes

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, rule

from sidecar.upstream.file import PIECE, FileStore
from tests.contract.fake_downstream import FakeDownstream, ask

IN_MEMORY = Path("/dev/shm")
"""Where syncing costs nothing; what a disk adds is tested with the store itself."""
NOW = 1_000_000_000
DATES = {
    "Sun, 09 Sep 2001 01:46:39 GMT": -1,
    "Sun, 09 Sep 2001 01:46:40 GMT": 0,
    "Sun, 09 Sep 2001 01:46:41 GMT": 1,
}


class Item(NamedTuple):
    body: bytes
    etag: str
    content_type: str


def every_byte_encoded(key: bytes) -> str:
    return "/" + "".join(f"%{byte:02x}" for byte in key)


def as_little_as_possible_encoded(key: bytes) -> str:
    return "/" + quote_from_bytes(key, safe="/:@!$&'()*+,;=") + "?ignored=1"


spellings = st.sampled_from([every_byte_encoded, as_little_as_possible_encoded])
keys_in = st.one_of(
    st.binary(max_size=12),
    st.sampled_from([b"a", b"a/", b"a/b", b"a//b", b".", b"..", b"../a", b"\x00", b"a\xff", b"k" * 1500]),
)
sizes = st.one_of(
    st.integers(0, 40), st.sampled_from([65_000, 65_300, 65_536, 65_537, PIECE - 1, PIECE, PIECE + 1, 2 * PIECE + 5])
)
Spelling = Callable[[bytes], str]


class StoreMachine(RuleBasedStateMachine):
    keys = Bundle("keys")
    tags = Bundle("tags")

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.directory = Path(tempfile.mkdtemp(dir=IN_MEMORY if IN_MEMORY.is_dir() else None))
        self.model: dict[bytes, Item] = {}
        self.count = 0
        self.open()

    def open(self) -> None:
        self.store = FileStore(self.directory, clock=lambda: NOW)
        self.runner.run(self.store.open())

    def close(self) -> None:
        self.runner.run(self.store.close())
        files = sum(len(names) for _, _, names in os.walk(self.directory))
        assert files == len(self.model), "one file for each object, and nothing else"

    def teardown(self) -> None:
        self.close()
        self.runner.close()
        shutil.rmtree(self.directory)

    def ask(
        self, method: str, path: str, headers: dict[str, str] | None = None, body: bytes = b"", chunked: bool = False
    ) -> FakeDownstream:
        return self.runner.run(ask(self.store, method, path, headers or {}, body, chunked=chunked))

    def new_body(self, size: int) -> bytes:
        """No two are alike, unless they are empty."""
        self.count += 1
        return (b"%d," % self.count * (size // 2 + 1))[:size]

    def stored(self, key: bytes, body: bytes, content_type: str, answer: FakeDownstream) -> str:
        assert answer.status == (204 if key in self.model else 201)
        etag = answer.answer_headers["etag"]
        assert etag not in {item.etag for item in self.model.values()}
        self.model[key] = Item(body, etag, content_type)
        return etag

    @rule(target=keys, key=keys_in)
    def think_of_a_key(self, key: bytes) -> bytes:
        return key

    @rule(target=tags, key=keys, spell=spellings, size=sizes, chunked=st.booleans())
    def put(self, key: bytes, spell: Spelling, size: int, chunked: bool) -> str:
        body, content_type = self.new_body(size), f"text/{self.count}"
        answer = self.ask("PUT", spell(key), {"Content-Type": content_type}, body, chunked)
        return self.stored(key, body, content_type, answer)

    @rule(key=keys, spell=spellings, size=sizes, tag=st.one_of(st.none(), tags), match=st.booleans())
    def put_on_condition(self, key: bytes, spell: Spelling, size: int, tag: str | None, match: bool) -> None:
        body, content_type = self.new_body(size), f"text/{self.count}"
        now = self.model.get(key)
        is_that = now is not None and (tag is None or now.etag == tag)
        headers = {"If-Match" if match else "If-None-Match": tag or "*", "Content-Type": content_type}
        answer = self.ask("PUT", spell(key), headers, body)
        if is_that is match:
            self.stored(key, body, content_type, answer)
        else:
            assert answer.status == 412

    @rule(key=keys, spell=spellings, tag=st.one_of(st.none(), tags))
    def delete(self, key: bytes, spell: Spelling, tag: str | None) -> None:
        answer = self.ask("DELETE", spell(key), {} if tag is None else {"If-Match": tag})
        if key not in self.model:
            assert answer.status == 404
        elif tag is not None and self.model[key].etag != tag:
            assert answer.status == 412
        else:
            assert answer.status == 204
            del self.model[key]

    @rule(key=keys, spell=spellings, method=st.sampled_from(["GET", "HEAD"]))
    def read(self, key: bytes, spell: Spelling, method: str) -> None:
        answer = self.ask(method, spell(key))
        item = self.model.get(key)
        if item is None:
            assert (answer.status, answer.length) == (404, 0)
        else:
            assert (answer.status, answer.length) == (200, len(item.body))
            assert answer.answer == (item.body if method == "GET" else b"")
            assert answer.answer_headers["etag"] == item.etag
            assert answer.answer_headers["content-type"] == item.content_type

    @rule(key=keys, spell=spellings, tag=tags, date=st.sampled_from(list(DATES)))
    def read_if_changed(self, key: bytes, spell: Spelling, tag: str, date: str) -> None:
        item = self.model.get(key)
        by_tag = self.ask("GET", spell(key), {"If-None-Match": f'"x", W/{tag}'}).status
        by_date = self.ask("GET", spell(key), {"If-Modified-Since": date}).status
        unless = self.ask("GET", spell(key), {"If-Unmodified-Since": date}).status
        if item is None:
            assert (by_tag, by_date, unless) == (404, 404, 404)
        else:
            assert by_tag == (304 if item.etag == tag else 200)
            assert by_date == (304 if DATES[date] >= 0 else 200)
            assert unless == (200 if DATES[date] >= 0 else 412)

    @rule(key=keys, spell=spellings, first=sizes, length=sizes, tag=st.one_of(st.none(), tags))
    def read_a_part(self, key: bytes, spell: Spelling, first: int, length: int, tag: str | None) -> None:
        headers = {"Range": f"bytes={first}-{first + length}"} | ({} if tag is None else {"If-Range": tag})
        answer = self.ask("GET", spell(key), headers)
        item = self.model.get(key)
        if item is None:
            assert answer.status == 404
        elif tag is not None and tag != item.etag:
            assert (answer.status, answer.answer) == (200, item.body)
        elif first >= len(item.body):
            assert (answer.status, answer.answer_headers["content-range"]) == (416, f"bytes */{len(item.body)}")
        else:
            assert (answer.status, answer.answer) == (206, item.body[first : first + length + 1])

    @rule(key=keys, spell=spellings)
    def look(self, key: bytes, spell: Spelling) -> None:
        assert self.runner.run(self.store.exists(spell(key))) is (key in self.model)

    @rule()
    def restart(self) -> None:
        self.close()
        self.open()

    @rule(key=consumes(keys))
    def forget_a_key(self, key: bytes) -> None:
        """Only for the machine: so that it turns to other keys."""


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(
    max_examples=15, stateful_step_count=30, deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
