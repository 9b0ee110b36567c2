"""The `audit:` section becomes sinks, and the pepper the key under which unknown credentials are written down."""

from pathlib import Path

from msgspec import structs

from sidecar import wiring_audit
from sidecar.audit.sinks import FileSink, StdoutSink
from sidecar.settings import AuditSink, Listen, Settings, TokenSettings

LISTEN = Listen("127.0.0.1", 0)
BARE = Settings(path=Path("/x"), listen=LISTEN, ops=LISTEN, policies=Path("/p"), upstreams={})


def with_pepper(path: Path, text: str) -> Settings:
    path.write_text(text)
    return structs.replace(BARE, tokens=TokenSettings("sqlite:////none", path))


def test_each_entry_is_a_sink_in_its_order(tmp_path: Path) -> None:
    entries = (AuditSink(required=False), AuditSink(file=tmp_path / "audit"))
    sinks = wiring_audit.sinks(structs.replace(BARE, audit=entries), wiring_audit.records(b"k" * 32))
    assert [type(sink) for sink in sinks] == [StdoutSink, FileSink]
    assert [sink.required for sink in sinks] == [False, True]
    assert [sink.name for sink in sinks] == [wiring_audit.sink_name(entry) for entry in entries] == ["stdout", "file"]
    assert not (tmp_path / "audit").exists()
    for sink in sinks:
        sink.close()


def test_the_key_follows_the_pepper_and_is_not_it(tmp_path: Path) -> None:
    one, same, other = (
        wiring_audit.install_key(with_pepper(tmp_path / name, text))
        for name, text in (("a", "x" * 32), ("b", "x" * 32), ("c", "y" * 32))
    )
    assert one == same != other
    assert len(one) == 32
    assert b"x" * 8 not in one


def test_without_tokens_each_run_has_a_key_of_its_own() -> None:
    assert wiring_audit.install_key(BARE) != wiring_audit.install_key(BARE)


def test_a_rotated_file_follows_the_entry(tmp_path: Path) -> None:
    entry = AuditSink(file=tmp_path / "audit", rotate_size=64, keep=1, fsync="none")
    (sink,) = wiring_audit.sinks(structs.replace(BARE, audit=(entry,)), wiring_audit.records(b"k" * 32))
    for number in range(4):
        sink.write([b"x" * 60 + b"%d" % number], False)
    sink.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["audit", "audit.000003"]
