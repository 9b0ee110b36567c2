"""`rate_limits` says in one word what may be had at once and how fast it flows in again."""

import pytest

from sidecar.document import parse
from sidecar.errors import DocumentError
from sidecar.model import Quota, Quotas, Rate
from sidecar.quotas import read_quotas


def read(text: str) -> Quotas:
    document = parse(f"rate_limits: {text}\n", "file")
    quotas = read_quotas(document.root.block().need("rate_limits"))
    document.finish()
    return quotas


def test_a_rate_holds_a_period_s_worth_and_flows_in_evenly() -> None:
    assert read("{token: {requests: 6000/m, bytes: 10GiB/h, streams: 32}}") == Quotas(
        token=Quota(Rate(100, 6000), Rate(10 * 1024**3 / 3600, 10 * 1024**3), 32)
    )
    assert read("{workspace: {requests: 5/s, bytes: 512B/d}}") == Quotas(
        workspace=Quota(Rate(5, 5), Rate(512 / 86400, 512))
    )
    assert read("{}") == read("{token: {}, workspace: {}}") == Quotas()


@pytest.mark.parametrize(("unit", "bytes_"), [("B", 1), ("KiB", 2**10), ("MiB", 2**20), ("GiB", 2**30), ("TiB", 2**40)])
@pytest.mark.parametrize(("period", "seconds"), [("s", 1), ("m", 60), ("h", 3600), ("d", 86400)])
def test_units_and_periods_are_what_they_are_called(unit: str, bytes_: int, period: str, seconds: int) -> None:
    assert read(f"{{token: {{bytes: 3{unit}/{period}}}}}").token.bytes == Rate(3 * bytes_ / seconds, 3 * bytes_)


def test_a_million_streams_are_the_most_that_anybody_asks_for() -> None:
    assert read("{token: {streams: 1000000}}").token.streams == 1_000_000
    with pytest.raises(DocumentError):
        read("{token: {streams: 1000001}}")


@pytest.mark.parametrize(
    ("text", "where", "message"),
    [
        ("{token: {requests: 100}}", "$.rate_limits.token.requests", "expected a rate such as 100/s or 6000/m, not '100'"),
        ("{token: {requests: 0/s}}", "$.rate_limits.token.requests", "expected a rate"),
        ("{token: {requests: 1MiB/s}}", "$.rate_limits.token.requests", "expected a rate"),
        ("{token: {requests: -1/s}}", "$.rate_limits.token.requests", "expected a rate"),
        ("{token: {requests: 1.5/s}}", "$.rate_limits.token.requests", "expected a rate"),
        ("{token: {bytes: 100/s}}", "$.rate_limits.token.bytes", "expected a rate such as 100MiB/s or 10GiB/h, not '100/s'"),
        ("{token: {bytes: 1MB/s}}", "$.rate_limits.token.bytes", "expected a rate"),
        ("{workspace: {streams: 0}}", "$.rate_limits.workspace.streams", "expected a number from 1"),
        ("{tokens: {}}", "$.rate_limits.tokens", "unknown key 'tokens'; did you mean 'token'?"),
        ("{token: {request: 1/s}}", "$.rate_limits.token.request", "unknown key"),
    ],
)  # fmt: skip
def test_what_is_no_limit_is_said(text: str, where: str, message: str) -> None:
    with pytest.raises(DocumentError) as raised:
        read(text)
    (problem,) = raised.value.problems
    assert problem.path == where
    assert problem.message.startswith(message)
