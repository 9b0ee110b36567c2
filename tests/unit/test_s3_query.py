"""An S3 request's query: one meaning or none."""

import pytest
from botocore.utils import percent_encode
from hypothesis import given
from hypothesis import strategies as st

from sidecar import sigv4
from sidecar.errors import Refused
from sidecar.reasons import Reason
from sidecar.s3 import query

TEXT = st.text(st.characters(exclude_categories=("Cs", "Cc")), max_size=12)


@given(st.dictionaries(TEXT.filter(bool), TEXT, max_size=6))
def test_what_is_written_reads_the_same(parameters: dict[str, str]) -> None:
    raw = query.write(parameters)
    assert query.pairs(raw) == parameters
    assert sigv4.canonical_query(raw) == raw  # so it can be signed as it is
    assert set(raw.split("&")) - {""} == {
        f"{percent_encode(name, safe='-._~')}={percent_encode(value, safe='-._~')}"
        for name, value in parameters.items()
    }


@pytest.mark.parametrize(
    ("raw", "parameters"),
    [
        ("", {}),
        ("acl", {"acl": ""}),
        ("uploads=", {"uploads": ""}),
        ("prefix=a+b%2B", {"prefix": "a b+"}),
        ("prefix=a/b", {"prefix": "a/b"}),
        ("continuation-token=ab==", {"continuation-token": "ab=="}),
        ("prefix=%C3%A9;x", {"prefix": "é;x"}),
    ],
)
def test_pairs(raw: str, parameters: dict[str, str]) -> None:
    assert query.pairs(raw) == parameters


def test_64_parameters_are_read() -> None:
    assert len(query.pairs("&".join(f"a{n}" for n in range(64)))) == 64


@pytest.mark.parametrize(
    "raw",
    [
        "acl&acl",
        "a=1&%61=2",
        "&",
        "a=1&",
        "=x",
        "a=%",
        "a=%zz",
        "a=%C3",
        "a=%00",
        "a%0A=1",
        "a=%7F",
        "&".join(f"a{n}" for n in range(65)),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(raw: str) -> None:
    with pytest.raises(Refused) as refused:
        query.pairs(raw)
    assert refused.value.reason is Reason.BAD_TARGET
