"""JWTs of issuers that change their keys and go away, met by the real process."""

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.asking import ask, bearer
from tests.e2e.issuer import AUDIENCE, Issuer, key_set, token
from tests.e2e.process import SidecarProcess, until

CORP = "https://idp.example.com"
POLICY = """
workspace: web
routes: [{path: /web, client: plain, upstream: local}]
ci_tokens: read-write
rules:
  - {name: the team reads, allow: [read], issuer: corp, groups: [web-team]}
  - {name: protected branches write, allow: [read, write], issuer: forge, claims: {ref_protected: "true"}}
"""


class Rig:
    def __init__(self, sidecar: SidecarProcess, forge: Issuer) -> None:
        self.sidecar, self.forge = sidecar, forge
        self.keys = sidecar.folder / "corp.jwks.json"

    def said(self, jwt: str, method: str = "GET", key: str = "stored") -> tuple[int, str | None]:
        answer = ask(self.sidecar.port, method, f"/web/{key}", bearer(jwt), b"x" if method == "PUT" else None)
        return answer.status, answer.reason


@contextlib.contextmanager
def serving(folder: Path, forge: Issuer) -> Iterator[Rig]:
    (folder / "corp.jwks.json").write_bytes(key_set("k1"))
    sidecar = SidecarProcess(
        folder,
        upstreams='  local: {url: "file://./data"}\n',
        policies={"web.yaml": POLICY},
        more=f"""
issuers:
  corp: {{issuer: "{CORP}", audience: {AUDIENCE}, jwks_file: ./corp.jwks.json, groups_claim: groups}}
  forge: {{issuer: "{forge.url}", audience: {AUDIENCE}}}
limits: {{drain_delay: 0s}}
failed_credentials: {{enabled: false}}   # tests ask again and again until a token is good
""",
    )
    try:
        sidecar.start()
        assert ask(sidecar.port, "PUT", "/web/stored", bearer(sidecar.token()), b"content").status == 201
        yield Rig(sidecar, forge)
        assert sidecar.stop() == 0
    finally:
        sidecar.kill()
        forge.close()


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rig]:
    with serving(tmp_path_factory.mktemp("issuers"), Issuer("f1")) as rig:
        yield rig


@pytest.fixture
def rig(running: Rig) -> Rig:
    """The forge is up and its keys are known."""
    running.forge.down = False
    until(lambda: running.said(token(running.forge.url, key="f1", ref_protected="true")) == (200, None))
    return running


def test_an_issuer_that_is_away_from_the_start_is_an_outage_and_the_others_are_served(tmp_path: Path) -> None:
    forge = Issuer("f1")
    forge.down = True
    with serving(tmp_path, forge) as rig:
        away = token(forge.url, key="f1", ref_protected="true")
        assert rig.said(away) == (503, "verifier_unavailable")
        assert rig.said(token(CORP, groups=["web-team"])) == (200, None)
        assert rig.sidecar.metric('sidecar_jwks_refreshes_total{issuer="forge",result="ok"}') == 0
        assert rig.sidecar.metric('sidecar_jwks_refreshes_total{issuer="forge",result="error"}') > 0
        forge.down = False
        until(lambda: rig.said(away) == (200, None))
        assert rig.sidecar.metric('sidecar_jwks_refreshes_total{issuer="forge",result="ok"}') == 1


def test_claims_decide_what_a_token_may(rig: Rig) -> None:
    member, stranger = token(CORP, groups=["web-team"]), token(CORP, groups=["others"])
    assert rig.said(member) == (200, None)
    assert rig.said(member, "PUT") == (403, "no_rule")
    assert rig.said(stranger) == (403, "no_rule")
    protected, unprotected = (token(rig.forge.url, key="f1", ref_protected=value) for value in ("true", "false"))
    assert rig.said(protected, "PUT", "built")[0] in (201, 204)
    assert rig.said(unprotected) == (403, "no_rule")
    record = until(
        lambda: [each for each in rig.sidecar.audit() if each["decision"]["rule"] == "protected branches write"]
    )[0]
    assert (record["actor"]["type"], record["actor"]["principal"]) == ("jwt", "somebody")
    assert record["actor"]["owner"] == "forge"


@pytest.mark.parametrize(
    ("claims", "reason"),
    [
        ({"exp": 1_000_000_000, "iat": 999_999_000}, "expired"),
        ({"aud": "another-service"}, "bad_token"),
        ({"exp": None}, "bad_token"),
        ({"iss": "https://idp.example.com/"}, "bad_token"),
        ({"iss": "https://evil.example"}, "bad_token"),
    ],
)
def test_a_bad_token_is_a_401_and_costs_its_issuer_nothing(rig: Rig, claims: dict[str, Any], reason: str) -> None:
    asked = len(rig.forge.asked)
    assert rig.said(token(CORP, groups=["web-team"], **claims)) == (401, reason)
    assert len(rig.forge.asked) == asked


def test_a_token_signed_by_another_issuers_key_is_refused(rig: Rig) -> None:
    assert rig.said(token(CORP, key="f1", groups=["web-team"])) == (401, "bad_token")
    assert rig.said(token(rig.forge.url, key="k1", ref_protected="true"))[0] == 401


def test_a_key_that_is_taken_out_of_the_file_opens_nothing_though_the_cache_knows_the_token(rig: Rig) -> None:
    old, new = token(CORP, key="k1", groups=["web-team"]), token(CORP, key="k2", groups=["web-team"])
    assert rig.said(old) == (200, None)
    assert rig.said(new)[0] == 401
    rig.keys.write_bytes(key_set("k2"))
    until(lambda: rig.said(old) == (401, "bad_token"))
    until(lambda: rig.said(new) == (200, None))  # its refusal may be remembered for a while
    rig.keys.write_bytes(b"not a key set")
    until(lambda: "corp.jwks.json" in rig.sidecar.log)
    assert rig.said(new) == (200, None), "a broken file must not take away good keys"
    rig.keys.write_bytes(key_set("k1"))
    until(lambda: rig.said(token(CORP, key="k1", groups=["web-team"])) == (200, None))


def test_an_issuer_that_goes_away_takes_nobody_with_it_whose_key_is_known(rig: Rig) -> None:
    hot = token(rig.forge.url, key="f1", ref_protected="true")
    assert rig.said(hot) == (200, None)
    rig.forge.down = True
    cold = token(rig.forge.url, key="f1", ref_protected="true", jti="never seen before")
    assert rig.said(hot) == (200, None)
    assert rig.said(cold) == (200, None)


@pytest.mark.slow
def test_a_new_key_is_fetched_when_a_token_names_it_and_not_more_often_than_every_half_minute(rig: Rig) -> None:
    """What anybody may send costs the issuer one fetch per 30 s, so a rotation needs up to that long."""
    until(lambda: rig.said(token(rig.forge.url, key="f1", ref_protected="true")) == (200, None))
    rig.forge.keys = ["f1", "f2"]
    asked = rig.forge.asked.count("/keys")
    until(lambda: rig.said(token(rig.forge.url, key="f2", ref_protected="true")) == (200, None), 40)
    assert rig.forge.asked.count("/keys") == asked + 1
    assert rig.said(token(rig.forge.url, key="f1", ref_protected="true")) == (200, None)
    rig.forge.down = True
    assert rig.said(token(rig.forge.url, key="f3", ref_protected="true"))[0] == 401
