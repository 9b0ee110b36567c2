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
