"""Records of several workers reach one sink whole and in each worker's order; a parent that fails is a sink that fails."""

import socket
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest

from sidecar.workers import evidence
from sidecar.workers.channel import Batch, Frames, Taken, frame
from sidecar.workers.evidence import RemoteSink, SharedSink
from tests.e2e.process import until

WAIT = 5.0


class Kept:
    """A sink that keeps batches; `gate` holds a write up while it is cleared."""

    name, required = "kept", True

    def __init__(self) -> None:
        self.batches: list[tuple[tuple[bytes, ...], bool]] = []
        self.error: Exception | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.entered = threading.Semaphore(0)
        self.closed = False

    def write(self, lines: Sequence[bytes], durable: bool) -> None:
        self.entered.release()
        assert self.gate.wait(WAIT)
        if self.error is not None:
            raise self.error
        self.batches.append((tuple(lines), durable))

    def close(self) -> None:
        self.closed = True

    @property
    def lines(self) -> list[bytes]:
        return [line for lines, _ in self.batches for line in lines]


@pytest.fixture
def kept() -> Kept:
    return Kept()


Joined = Callable[..., RemoteSink]


@pytest.fixture
def join(kept: Kept) -> Iterator[Joined]:
    """A worker's sink that is served into `kept`."""
    shared, threads, sinks = SharedSink(kept), [], []

    def joined(patience: float = WAIT) -> RemoteSink:
        theirs, ours = socket.socketpair()
        threads.append(evidence.serve(ours, shared))
        sinks.append(RemoteSink(theirs, name="file", required=True, patience=patience))
        return sinks[-1]

    yield joined
    kept.gate.set()
    for sink in sinks:
        sink.close()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()


def test_a_batch_is_with_the_sink_when_write_returns(join: Joined, kept: Kept) -> None:
    sink = join()
    sink.write([b"a", b"b"], True)
    assert kept.batches == [((b"a", b"b"), True)]
    sink.write([b"c"], False)
    assert kept.batches[1:] == [((b"c",), False)]


def test_a_batch_larger_than_the_socket_s_buffer_arrives_whole(join: Joined, kept: Kept) -> None:
    lines = [bytes([65 + number % 26]) * 16_000 for number in range(64)]
    join().write(lines, True)
    assert kept.lines == lines


def test_a_refusal_of_the_real_sink_is_one_here(join: Joined, kept: Kept) -> None:
    sink = join()
    kept.error = OSError("the disk is full")
    with pytest.raises(OSError, match="the disk is full"):
        sink.write([b"a"], True)
    kept.error = None
    sink.write([b"b"], True)
    assert kept.lines == [b"b"]


def test_whatever_the_real_sink_raises_is_a_refusal(join: Joined, kept: Kept) -> None:
    kept.error = RuntimeError()
    with pytest.raises(OSError, match="RuntimeError"):
        join().write([b"a"], True)


def test_who_comes_while_the_sink_is_busy_is_written_together(kept: Kept) -> None:
    """Group commit over workers: one slow write, then one for all who waited, durable if one of them asks for it."""
    shared = SharedSink(kept)
    kept.gate.clear()
    threads = [threading.Thread(target=shared.write, args=(Batch((b"0",), False),))]
    threads[0].start()
    assert kept.entered.acquire(timeout=WAIT)
    for number in (1, 2, 3):
        batch = Batch((b"%d" % number, b"%d+" % number), durable=number == 2)
        threads.append(threading.Thread(target=shared.write, args=(batch,)))
        threads[-1].start()
        until(lambda number=number: len(shared._gathered) == number)  # type: ignore[misc]
    kept.gate.set()
    for thread in threads:
        thread.join(WAIT)
    assert kept.batches == [((b"0",), False), ((b"1", b"1+", b"2", b"2+", b"3", b"3+"), True)]


def test_all_of_a_write_that_failed_hear_of_it(kept: Kept) -> None:
    shared, errors = SharedSink(kept), []
    kept.gate.clear()
    kept.error = OSError("full")
    threads = [threading.Thread(target=lambda: errors.append(shared.write(Batch((b"x",), True)))) for _ in range(3)]
    for thread in threads:
        thread.start()
    until(lambda: len(shared._gathered) == 2)
    kept.gate.set()
    for thread in threads:
        thread.join(WAIT)
    assert errors == ["full"] * 3


def test_each_worker_s_records_keep_their_order(join: Joined, kept: Kept) -> None:
    def work(sink: RemoteSink, name: bytes) -> None:
        for number in range(200):
            sink.write([b"%s %d" % (name, number)], number % 2 == 0)

    threads = [threading.Thread(target=work, args=(join(), name)) for name in (b"a", b"b", b"c")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
    for name in (b"a", b"b", b"c"):
        assert [line for line in kept.lines if line.startswith(name)] == [b"%s %d" % (name, n) for n in range(200)]


def test_a_sink_that_hangs_is_waited_for_once(join: Joined, kept: Kept) -> None:
    """Then each batch is refused at once, and the late answer to the first is not taken for one to a later batch."""
    sink = join(patience=0.05)
    kept.gate.clear()
    with pytest.raises(TimeoutError, match="does not answer"):
        sink.write([b"late"], True)
    with pytest.raises(TimeoutError):
        sink.write([b"never sent"], True)
    kept.error = OSError("full")
    kept.gate.set()
    until(lambda: _taken(sink, b"next") is not None)
    kept.error = None
    sink.write([b"last"], True)
    assert kept.lines[-1] == b"last"
    assert b"never sent" not in kept.lines


def _taken(sink: RemoteSink, line: bytes) -> str | None:
    """What became of it, once the channel is free again."""
    try:
        sink.write([line], True)
    except TimeoutError:
        return None
    except OSError as error:
        return str(error)
    return ""


def test_a_batch_that_was_cut_by_a_timeout_is_finished_before_the_next() -> None:
    """A parent that reads nothing for a while: what had left is the beginning of a frame, and must become a whole one."""
    theirs, ours = socket.socketpair()
    sink = RemoteSink(theirs, name="file", required=True, patience=0.05)
    large = b"x" * 4_000_000
    with pytest.raises(TimeoutError):
        sink.write([large], True)
    frames, found = Frames(), []

    def serve() -> None:
        while data := ours.recv(1 << 20):
            for message in frames.feed(data):
                found.append(message)
                ours.sendall(frame(Taken()))

    thread = threading.Thread(target=serve)
    thread.start()
    until(lambda: _taken(sink, b"next") == "")
    sink.close()
    thread.join(WAIT)
    ours.close()
    assert found == [Batch((large,), True), Batch((b"next",), True)]


def test_a_parent_that_is_gone_is_a_failure_each_time() -> None:
    theirs, ours = socket.socketpair()
    sink = RemoteSink(theirs, name="file", required=True)
    ours.close()
    for _ in range(2):
        with pytest.raises(OSError):
            sink.write([b"a"], True)
    sink.close()


def test_an_answer_in_pieces_is_one_answer() -> None:
    theirs, ours = socket.socketpair()
    sink = RemoteSink(theirs, name="file", required=True)

    def answer() -> None:
        ours.recv(1 << 16)
        for byte in frame(Taken("full")):
            ours.send(bytes([byte]))

    thread = threading.Thread(target=answer)
    thread.start()
    with pytest.raises(OSError, match="full"):
        sink.write([b"a"], True)
    thread.join(WAIT)
    sink.close()
    ours.close()


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1"], ids=["too long", "no message"])
def test_nonsense_from_the_parent_is_a_failure_for_good(nonsense: bytes) -> None:
    theirs, ours = socket.socketpair()
    sink = RemoteSink(theirs, name="file", required=True)
    ours.sendall(nonsense)
    for _ in range(2):
        with pytest.raises(OSError):
            sink.write([b"a"], True)
    ours.close()


@pytest.mark.parametrize("nonsense", [b"\xff\xff\xff\xff", b"\0\0\0\1\xc1"], ids=["too long", "no message"])
def test_a_worker_that_sends_nonsense_is_heard_no_more(kept: Kept, nonsense: bytes) -> None:
    theirs, ours = socket.socketpair()
    thread = evidence.serve(ours, SharedSink(kept))
    theirs.sendall(nonsense)
    thread.join(WAIT)
    assert not thread.is_alive()
    assert theirs.recv(1) == b""
    theirs.close()
    assert kept.batches == []


def test_closing_the_shared_sink_closes_the_real_one(kept: Kept) -> None:
    SharedSink(kept).close()
    assert kept.closed


def test_a_sink_that_hangs_is_not_waited_for_at_the_end(kept: Kept, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(evidence, "PATIENCE", 0.01)
    shared = SharedSink(kept)
    kept.gate.clear()
    writing = threading.Thread(target=shared.write, args=(Batch((b"x",), True),))
    writing.start()
    assert kept.entered.acquire(timeout=WAIT)
    shared.close()
    assert not kept.closed
    kept.gate.set()
    writing.join(WAIT)
