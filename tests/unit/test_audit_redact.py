"""Nothing that could be used as a credential goes through; everything else goes through as it came."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sidecar.audit import redact

OPAQUE = "asc_pat_0123456789ab_" + "s" * 43 + "abc123"
JWT = "eyJhbGciOiJSUzI1NiJ9.eyJzdWIiOiJhIn0.c2lnbmF0dXJl"
SECRET = "hunter2hunter2"


@pytest.mark.parametrize(
    "name",
    [
        *(
            "token",
            "access_token",
            "id_token",
            "refresh_token",
            "password",
            "passwd",
            "pwd",
            "sig",
            "key",
            "api_key",
            "apikey",
        ),
        *(
            "client_secret",
            "auth",
            "jwt",
            "code",
            "X-Amz-Signature",
            "X-Amz-Security-Token",
            "AWSAccessKeyId",
            "Signature",
        ),
        *(
            "X-Goog-Signature",
            "sas_token",
            "TOKEN",
            "tok%65n",
            "%70assword",
            "X-Amz-Sig%6Eature",
            "private_token",
        ),
    ],
)
@pytest.mark.parametrize("shape", ["{}", "a=1&{}", "{}&b=2", "a=1;{}", "{}&{}"])
def test_a_secret_parameter_loses_its_value(name: str, shape: str) -> None:
    cleaned = redact.query(shape.replace("{}", f"{name}={SECRET}"))
    assert SECRET not in cleaned
    assert f"{name}=REDACTED" in cleaned


@pytest.mark.parametrize(
    "query",
    [
        "",
        "versionId=3",
        "list-type=2&prefix=a%2Fb&delimiter=%2F",
        "uploads",
        "a=1&a=2",
        "prefix=keys/",
        "x=y=z",
        "&&",
        "=",
        "partNumber=1&uploadId=ab",
    ],
)
def test_other_parameters_stay_as_received(query: str) -> None:
    assert redact.query(query) == query


def test_a_presigned_query_keeps_its_scope_and_loses_its_key_and_signature() -> None:
    raw = (
        "X-Amz-Credential=AKIDEXAMPLE%2F20130524%2Fus-east-1%2Fs3%2Faws4_request&X-Amz-Signature=feed&X-Amz-Expires=60"
    )
    assert (
        redact.query(raw)
        == "X-Amz-Credential=REDACTED/20130524/us-east-1/s3/aws4_request&X-Amz-Signature=REDACTED&X-Amz-Expires=60"
    )


@pytest.mark.parametrize("value", ["AKID", "", "a/b/c", f"{SECRET}/x/us/s3/aws4_request", f"AKID/2013/{SECRET}"])
def test_an_odd_amz_credential_goes_whole(value: str) -> None:
    assert redact.query(f"X-Amz-Credential={value}") == "X-Amz-Credential=REDACTED"


@pytest.mark.parametrize("token", [OPAQUE, OPAQUE.replace("_pat_", "_ci_"), JWT], ids=["personal", "ci", "jwt"])
def test_a_token_is_found_wherever_it_was_pasted(token: str) -> None:
    for text in (token, f"/web/{token}/x", f"curl/8 ({token})"):
        assert token not in redact.text(text)
        assert token[-20:] not in redact.text(text)
    assert token not in redact.query(token)
    assert token not in redact.query(f"q={token}")


@given(st.text(alphabet=st.characters(codec="ascii", exclude_characters="_"), max_size=60))
def test_text_without_a_token_is_untouched(value: str) -> None:
    if "eyJ" not in value:
        assert redact.text(value) == value


@given(st.text(alphabet=st.characters(exclude_characters="&;=%+"), min_size=1).filter(lambda v: len(v) > 8))
def test_no_value_of_a_token_parameter_survives(value: str) -> None:
    assert redact.query(f"a=1&token={value}&b=2") == "a=1&token=REDACTED&b=2"
