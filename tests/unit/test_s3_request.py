"""What an S3 request asks of whom."""

from urllib.parse import quote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import sigv4, target
from sidecar.errors import Refused
from sidecar.model import Action, Head, Headers, Permission, Secret
from sidecar.reasons import Reason
from sidecar.s3.copy_source import CopySource
from sidecar.s3.multi_delete import Entry, MultiDelete
from sidecar.s3.request import Asked, actions, listed, read, relative, source_permissions

READ, WRITE, DELETE, ADMIN = Permission.READ, Permission.WRITE, Permission.DELETE, Permission.ADMIN


def head(method: str, raw: str, **headers: str) -> Head:
    return Head(
        method, target.parse(raw), Headers({name.replace("_", "-"): text for name, text in headers.items()}, ())
    )


def asked(method: str, raw: str, **headers: str) -> Asked:
    return read(head(method, raw, **headers))


@pytest.mark.parametrize(
    ("method", "raw", "name", "bucket", "key"),
    [
        ("GET", "/", "ListBuckets", "", ""),
        ("GET", "/?x-id=ListBuckets", "ListBuckets", "", ""),
        ("GET", "/bkt", "ListObjects", "bkt", ""),
        ("GET", "/bkt/", "ListObjects", "bkt", ""),
        ("GET", "/bkt?list-type=2&prefix=a%2F", "ListObjectsV2", "bkt", ""),
        ("HEAD", "/bkt", "HeadBucket", "bkt", ""),
        ("GET", "/bkt/k", "GetObject", "bkt", "k"),
        ("GET", "/bkt/a%2Fb//c", "GetObject", "bkt", "a/b//c"),
        ("GET", "/bkt//", "GetObject", "bkt", "/"),
        ("PUT", "/bkt/dir/", "PutObject", "bkt", "dir/"),
        ("POST", "/bkt?delete", "DeleteObjects", "bkt", ""),
        ("POST", "/bkt/k?uploads", "CreateMultipartUpload", "bkt", "k"),
        ("PUT", "/bkt/k?uploadId=UP1&partNumber=1", "UploadPart", "bkt", "k"),
    ],
)
def test_bucket_and_key_by_path(method: str, raw: str, name: str, bucket: str, key: str) -> None:
    found = asked(method, raw)
    assert (found.operation.name, found.bucket, found.key) == (name, bucket, key)


def test_bucket_by_host_and_endpoint_with_a_path() -> None:
    by_host = read(head("GET", "/a/b"), bucket="bkt")
    assert (by_host.bucket, by_host.key) == ("bkt", "a/b")
    assert read(head("GET", "/"), bucket="bkt").operation.name == "ListObjects"
    below = read(head("GET", "/ws/acme/bkt/k"), before=2)
    assert (below.bucket, below.key) == ("bkt", "k")


def test_a_key_without_a_bucket() -> None:
    with pytest.raises(Refused) as refused:
        read(head("GET", "/ws//k"), before=1)
    assert refused.value.reason is Reason.BAD_TARGET


def refusal(method: str, raw: str, **headers: str) -> Reason:
    with pytest.raises(Refused) as refused:
        asked(method, raw, **headers)
    return refused.value.reason


@pytest.mark.parametrize(
    ("method", "raw", "headers", "reason"),
    [
        ("GET", "/bkt?session", {}, Reason.UNKNOWN_OPERATION),
        ("POST", "/bkt", {"content_type": "multipart/form-data; boundary=x"}, Reason.UNKNOWN_OPERATION),
        ("PUT", "/bkt/k?unheard", {}, Reason.UNKNOWN_OPERATION),
        ("PUT", "/bkt/k", {"x_amz_unheard": "1"}, Reason.UNKNOWN_OPERATION),
        ("GET", "//k", {}, Reason.BAD_TARGET),
        ("GET", "/a%2Fb/k", {}, Reason.BAD_TARGET),
        ("GET", "/b/k", {}, Reason.BAD_TARGET),
        ("GET", "/bkt?prefix=a&prefix=b", {}, Reason.BAD_TARGET),
        ("PUT", "/bkt/k", {"x_amz_copy_source": "other/../k"}, Reason.BAD_HEADER),
        ("PUT", "/bkt/k?renameObject", {"x_amz_rename_source": "bkt/a?versionId=1"}, Reason.BAD_HEADER),
        ("GET", "/bkt/k?X-Amz-Security-Token=t", {}, Reason.MISPLACED_TOKEN),
        # Other stores than S3 Express pass over it, and replace the object.
        ("PUT", "/bkt/k", {"x_amz_write_offset_bytes": "0"}, Reason.UNKNOWN_OPERATION),
        ("PUT", "/bkt/k?x-amz-write-offset-bytes=7", {}, Reason.UNKNOWN_OPERATION),
    ],
)
def test_refused(method: str, raw: str, headers: dict[str, str], reason: Reason) -> None:
    assert refusal(method, raw, **headers) is reason


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("x-amz-metadata-directive", ("COPY", "REPLACE")),
        ("x-amz-tagging-directive", ("COPY", "REPLACE")),
        ("x-amz-object-annotation-directive", ("COPY", "EXCLUDE")),
    ],
)
def test_a_directive_is_one_that_every_store_reads_alike(name: str, values: tuple[str, str]) -> None:
    source, keyword = {"x_amz_copy_source": "bkt/s"}, name.replace("-", "_")
    for value in values:
        assert asked("PUT", f"/bkt/k?{name}={value}", **source).headers[name] == value
        assert asked("PUT", "/bkt/k", **source, **{keyword: value}).headers[name] == value
    for odd in ("", "replace", "Copy", "NEITHER", *(f"{value},{value}" for value in values)):
        assert refusal("PUT", "/bkt/k", **source, **{keyword: odd}) is Reason.BAD_HEADER
        assert refusal("PUT", f"/bkt/k?{name}={odd}", **source) is Reason.BAD_HEADER


@pytest.mark.parametrize("value", [" REPLACE", "REPLACE  ", " ", "\tREPLACE", "a\u00a0"])
def test_what_a_url_says_in_place_of_a_header_is_what_a_header_could_say(value: str) -> None:
    """A store takes the spaces at its ends away, as for any header, and would read something else than was judged."""
    for name in ("x-amz-metadata-directive", "x-amz-acl", "x-amz-meta-a"):
        with pytest.raises(Refused):
            asked("PUT", f"/bkt/k?{name}={quote(value)}", x_amz_copy_source="bkt/s")
    assert asked("PUT", "/bkt/k?x-amz-meta-a=two%20words").headers["x-amz-meta-a"] == "two words"


@pytest.mark.parametrize(
    ("method", "raw", "headers", "expected"),
    [
        ("GET", "/bkt/team/a", {}, [Action(READ, "a")]),
        ("GET", "/bkt/team/a?uploadId=1", {}, [Action(READ, "a")]),
        ("PUT", "/bkt/team/a", {}, [Action(WRITE, "a", creates=True)]),
        ("PUT", "/bkt/team/a", {"x_amz_acl": "private"}, [Action(WRITE, "a", creates=True)]),
        ("PUT", "/bkt/team/a", {"x_amz_acl": "public-read"}, [Action(WRITE, "a", creates=True), Action(ADMIN, "a")]),
        ("PUT", "/bkt/team/a?x-amz-acl=public-read", {}, [Action(WRITE, "a", creates=True), Action(ADMIN, "a")]),
        ("PUT", "/bkt/team/a?acl", {"x_amz_acl": "public-read"}, [Action(ADMIN, "a")]),
        ("POST", "/bkt/team/a?uploads", {}, [Action(WRITE, "a", creates=True)]),
        ("PUT", "/bkt/team/a?partNumber=1&uploadId=1", {}, [Action(WRITE, "a", creates=True)]),
        ("POST", "/bkt/team/a?uploadId=1", {}, [Action(WRITE, "a", creates=True)]),
        ("DELETE", "/bkt/team/a?uploadId=1", {}, [Action(WRITE, "a")]),
        ("DELETE", "/bkt/team/a", {}, [Action(DELETE, "a")]),
        (
            "DELETE",
            "/bkt/team/a",
            {"x_amz_bypass_governance_retention": "true"},
            [Action(DELETE, "a"), Action(ADMIN, "a")],
        ),
        ("GET", "/bkt?prefix=team/", {}, [Action(READ, "", below=True)]),
        ("GET", "/bkt?list-type=2&prefix=team/a/b", {}, [Action(READ, "a", below=True)]),
        ("GET", "/bkt?versions&prefix=team/a/", {}, [Action(READ, "a", below=True)]),
        ("GET", "/bkt?uploads&prefix=team/a/b/", {}, [Action(READ, "a/b", below=True)]),
        ("HEAD", "/bkt", {}, [Action(READ, "")]),
        ("GET", "/bkt?location", {}, [Action(READ, "")]),
    ],
)
def test_actions(method: str, raw: str, headers: dict[str, str], expected: list[Action]) -> None:
    assert actions(asked(method, raw, **headers), "team") == tuple(expected)


@pytest.mark.parametrize(
    ("method", "raw"),
    [
        ("GET", "/bkt"),
        ("GET", "/bkt?list-type=2&prefix="),
        ("GET", "/bkt?prefix=team"),  # begins `team-b/` too
        ("GET", "/bkt?prefix=team-b/"),
        ("GET", "/bkt?versions"),
        ("GET", "/bkt/team-b/k"),
        ("PUT", "/bkt/team"),
        ("PUT", "/bkt?policy"),
        ("GET", "/bkt?acl"),
        ("DELETE", "/bkt"),
        ("PUT", "/bkt"),
    ],
)
def test_what_reaches_beyond_the_route_s_part_of_the_bucket(method: str, raw: str) -> None:
    with pytest.raises(Refused) as refused:
        actions(asked(method, raw), "team")
    assert refused.value.reason is Reason.WRONG_WORKSPACE


def test_a_whole_bucket_s_route() -> None:
    assert actions(asked("GET", "/bkt"), "") == (Action(READ, "", below=True),)
    assert actions(asked("PUT", "/bkt?policy"), "") == (Action(ADMIN, "", below=True),)
    assert actions(asked("DELETE", "/bkt"), "") == (Action(ADMIN, "", below=True),)


def test_each_key_of_a_multi_delete_is_asked_for() -> None:
    request = asked("POST", "/bkt?delete")
    deleted = MultiDelete((Entry("team/a"), Entry("team/b", "v1"), Entry("team/a", "v2")))
    assert actions(request, "team", deleted) == (Action(DELETE, "a"), Action(DELETE, "b"))
    outside = MultiDelete((Entry("team/a"), Entry("other/b")))
    for body, reason in ((outside, Reason.WRONG_WORKSPACE), (None, Reason.MALFORMED_BODY)):
        with pytest.raises(Refused) as refused:
            actions(request, "team", body)
        assert refused.value.reason is reason
    held = asked("POST", "/bkt?delete", x_amz_bypass_governance_retention="true")
    assert actions(held, "", MultiDelete((Entry("a"),))) == (Action(DELETE, "a"), Action(ADMIN, "a"))


def test_a_copy_asks_of_its_source() -> None:
    copied = asked("PUT", "/bkt/k", x_amz_copy_source="/other/a%2Fb?versionId=1")
    assert copied.source is not None
    assert (copied.source.bucket, copied.source.key, copied.source.version_id) == ("other", "a/b", "1")
    assert source_permissions(copied) == (READ,)
    part = asked("PUT", "/bkt/k?partNumber=1&uploadId=1", x_amz_copy_source="other/a")
    assert part.source == CopySource("other", "a")
    renamed = asked("PUT", "/bkt/k?renameObject", x_amz_rename_source="bkt/a")
    assert source_permissions(renamed) == (READ, DELETE)
    assert source_permissions(asked("PUT", "/bkt/k")) == ()


def test_the_list_of_buckets_is_nobody_s_action() -> None:
    with pytest.raises(Refused) as refused:
        actions(asked("GET", "/"), "")
    assert refused.value.reason is Reason.UNKNOWN_OPERATION


def test_the_signature_is_not_sent_on() -> None:
    signer = sigv4.Signer("AKID", Secret("s"), "r")
    raw = "/bkt/k?" + signer.presign("GET", "/bkt/k", "versionId=1&x-id=GetObject", 0.0, host="h", expires=60)
    assert asked("GET", raw).query == {"versionId": "1"}


PREFIXES = st.sampled_from(["", "team", "team/a"])
TEXTS = st.text("team/-abx", max_size=10)


@given(TEXTS, TEXTS, PREFIXES)
def test_a_list_shows_nothing_outside_of_the_tree_that_was_asked_for(prefix: str, key: str, route: str) -> None:
    """Whatever key a store may show for this prefix lies in the tree that the policy is asked about."""
    try:
        tree = listed(prefix, route)
    except Refused:
        return
    shown = prefix + key
    inside = relative(shown, route)
    assert not tree or inside == tree or inside.startswith(f"{tree}/")


@pytest.mark.parametrize("prefix", ["../", "a/../", "a/./b", "./a", "team/../x"])
def test_a_list_takes_no_dot_segments(prefix: str) -> None:
    with pytest.raises(Refused) as refused:
        listed(prefix, "")
    assert refused.value.reason is Reason.BAD_TARGET


@pytest.mark.parametrize("prefix", ["..", "a/..", ".a/", "a../b", "..."])
def test_a_name_with_dots_is_no_dot_segment(prefix: str) -> None:
    assert listed(prefix, "") == prefix.rpartition("/")[0]


@pytest.mark.parametrize(
    ("raw", "lists"),
    [
        ("/bkt", True), ("/bkt?list-type=2", True), ("/bkt?versions", True), ("/bkt?uploads", True),
        ("/", False), ("/bkt?location", False), ("/bkt/k", False), ("/bkt/k?uploadId=UP1", False),
    ],
)  # fmt: skip
def test_what_lists_keys(raw: str, lists: bool) -> None:
    assert asked("GET", raw).lists is lists


@pytest.mark.parametrize(
    ("method", "raw", "one"),
    [
        ("GET", "/bkt/k", True), ("HEAD", "/bkt/k", True), ("GET", "/bkt/k?versionId=1", True), ("GET", "/bkt", False),
        ("GET", "/bkt/k?tagging", False), ("PUT", "/bkt/k", False), ("DELETE", "/bkt/k", False),
    ],
)  # fmt: skip
def test_what_reads_one_object_and_nothing_else(method: str, raw: str, one: bool) -> None:
    assert asked(method, raw).reads_one is one
    assert not asked(method, raw, x_amz_mfa="1").reads_one


# --- ids that a store gives out ---------------------------------------------------------------------------------------------------

WITH_AN_ID = {
    "UploadPart": ("PUT", "/bkt/k?partNumber=1&uploadId="),
    "AbortMultipartUpload": ("DELETE", "/bkt/k?uploadId="),
    "CompleteMultipartUpload": ("POST", "/bkt/k?uploadId="),
    "ListParts": ("GET", "/bkt/k?uploadId="),
    "part of an upload": ("PUT", "/bkt/k?uploadId=UP1&partNumber="),
    "after a part": ("GET", "/bkt/k?uploadId=UP1&part-number-marker="),
    "GetObject": ("GET", "/bkt/k?versionId="),
    "DeleteObject": ("DELETE", "/bkt/k?versionId="),
    "GetObjectTagging": ("GET", "/bkt/k?tagging&versionId="),
    "after an upload": ("GET", "/bkt?uploads&upload-id-marker="),
    "after a version": ("GET", "/bkt?versions&version-id-marker="),
}


@pytest.mark.parametrize("way", WITH_AN_ID.values(), ids=WITH_AN_ID)
@pytest.mark.parametrize(
    "name", ["..", ".", "../x", "..%2F..%2Fother", "a%2Fb", "a%5Cb", "%2Fetc", "a%00b", "a%20b", "%2e%2e"]
)
def test_no_id_is_a_path(way: tuple[str, str], name: str) -> None:
    """There are stores that make a path of what they are given."""
    method, raw = way
    with pytest.raises(Refused) as refused:
        asked(method, raw + name)
    assert refused.value.reason is Reason.BAD_TARGET


@pytest.mark.parametrize(
    "name",
    [
        "1", "null", "0004b9730250-4f1e-a9b3", "2~YkFbS1sEL2GpA9M7HD7", "3L4kqtJlcpXroDTDmpUMLUo", "VXBsb2FkIElE.zEwMDA=",
        "4_z5e3f_f200_d20261122_m1", "...", "a..b",
    ],
)  # fmt: skip
def test_ids_as_stores_give_them_out(name: str) -> None:
    for method, raw in WITH_AN_ID.values():
        assert name in asked(method, raw + name).query.values()


def test_an_upload_has_an_id() -> None:
    with pytest.raises(Refused):
        asked("DELETE", "/bkt/k?uploadId=")
