"""Rule 19: whatever names a workspace names the route's, however it is spelled."""

import contextlib
import time

import pytest

from sidecar.errors import Refused
from sidecar.profiles import tenant
from sidecar.reasons import Reason


@pytest.mark.parametrize(
    "name", ["x-scope-orgid", "x-tenant", "x-tenant-id", "x-team-id", "x-workspace", "x-workspace-id"]
)
@pytest.mark.parametrize("value", ["other", "", "WEB", "web,other"])
def test_a_header_that_names_another_workspace_is_refused(name: str, value: str) -> None:
    tenant.check_headers({"host": "a", name: "web"}, "web")
    with pytest.raises(Refused) as refused:
        tenant.check_headers({"host": "a", name: value}, "web")
    assert refused.value.reason is Reason.WRONG_WORKSPACE


def test_other_headers_pass() -> None:
    tenant.check_headers({"host": "other", "x-a": "other"}, "web")


@pytest.mark.parametrize(
    "query",
    [
        "teamId=other", "slug=other", "team=other", "teamSlug=other", "TEAMID=other", "team_id=other", "team-id=other",
        "workspace=other", "workspaceId=other", "tenant=other", "tenant_id=other", "%74eam=other", "te%61mId=other", "team%5Fid=other", "team[]=other", "team%5b0%5d=other", "team%00x=other",
        "team=web&team=other", "team=other&team=web", "a=b&slug=other", "a=b;slug=other", "slug=web;x", "slug=web&slug",
        "team", "team=", "team=WEB", "team=web%20", "team=web+", "team=%00web", "+team=other", "team+=other", "%20team=other",
        "team=web%2fother", "team=web,other", "te%C5%BFmid=x&%C5%BFlug=other",
    ],
)  # fmt: skip
def test_a_parameter_that_names_another_workspace_is_refused(query: str) -> None:
    with pytest.raises(Refused) as refused:
        tenant.check_tenant(query, "web")
    assert refused.value.reason is Reason.WRONG_WORKSPACE


@pytest.mark.parametrize(
    "query",
    [
        "",
        "team=web",
        "teamId=web&slug=web",
        "%74eam=w%65b",
        "steam=other",
        "teams=other",
        "a=team",
        "sluggish=1",
        "a&b=c;d",
    ],
)
def test_other_parameters_pass(query: str) -> None:
    tenant.check_tenant(query, "web")


def test_a_parameter_is_read_in_every_way_that_a_store_may_read_it() -> None:
    read = list(tenant.parameters("A=1&b+c=%64;e&f"))
    assert read == [("a", "1"), ("b c", "d;e"), ("f", ""), ("a", "1"), ("b c", "d"), ("e", ""), ("f", "")]
    assert list(tenant.parameters("")) == []


def test_a_parameter_is_read_once_where_there_is_one_way_to_read_it() -> None:
    assert list(tenant.parameters("a=1&b")) == [("a", "1"), ("b", "")]


@pytest.mark.parametrize("separators", ["&", ";", "&;"])
def test_too_many_parameters_are_refused(separators: str) -> None:
    most = (separators * tenant.MOST_PARAMETERS)[: tenant.MOST_PARAMETERS - 1]
    tenant.check_tenant(most, "web")
    for query in (most + "&", most + ";", separators * 4000):
        with pytest.raises(Refused) as refused:
            tenant.check_tenant(query, "web")
        assert refused.value.reason is Reason.BAD_TARGET


@pytest.mark.parametrize("parameter", ["", "%74=%74", "a;b", "te%C5%BFmid=x".replace("m", "n"), "[a", "+"])
def test_no_query_holds_up_the_loop(parameter: str) -> None:
    query = "&".join([parameter] * 8192)[:8192]
    took = []
    for _ in range(3):
        began = time.thread_time()
        with contextlib.suppress(Refused):
            tenant.check_tenant(query, "web")
        took.append(time.thread_time() - began)
    assert min(took) < 0.005
