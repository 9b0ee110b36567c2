"""What a store reads before the body: the target as it was decided, the rest ours."""

import pytest

from sidecar.upstream.request import Question, head, preamble


def test_the_preamble_names_the_host_and_carries_the_credentials() -> None:
    assert preamble("store:8080", None) == b" HTTP/1.1\r\nHost: store:8080\r\n"
    assert preamble("store", (b"X-Key", b"k")) == b" HTTP/1.1\r\nHost: store\r\nX-Key: k\r\n"


def test_our_own_question_has_no_body_and_no_header_of_a_client() -> None:
    question = Question("/")
    assert head(question, preamble("store", None)) == b"HEAD / HTTP/1.1\r\nHost: store\r\n\r\n"
    question.start(404, (), 5)
    assert question.status == 404


def test_a_target_that_is_not_ascii_is_never_sent() -> None:
    """It was refused long before; a slip there must not become bytes that the store reads in its own way."""
    with pytest.raises(UnicodeEncodeError):
        head(Question("/ä"), preamble("store", None))
