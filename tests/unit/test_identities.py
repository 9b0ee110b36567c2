"""Law 3: the cache holds identity, never a permission; and a hit is as good as a verification."""

import asyncio
import gc
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sidecar.credentials.identities import CacheResult, Identities, NothingRevoked
from sidecar.errors import CredentialRefused, Unavailable
from sidecar.model import Principal, PrincipalKind, Secret
from sidecar.reasons import Reason
from sidecar.settings import IdentityCacheSettings

NOW = 1_000_000.0


def principal(name: str = "ada", expires_at: float | None = None) -> Principal:
    return Principal(PrincipalKind.PERSONAL, name, token_id=name, revocation_ids=(name,), expires_at=expires_at)


class FakeVerifier:
    """Answers from `known`; while `closed`, a verification waits. Names in `foreign` are not its own."""

    def __init__(self, known: dict[str, Principal] | None = None, generation: str = "1") -> None:
        self.generation = generation
        self.known = known or {}
        self.foreign: set[str] = set()
        self.asked: list[str] = []
        self.outage: Exception | None = None
        self._open = asyncio.Event()
        self._open.set()

    def close(self) -> None:
        self._open.clear()

    def open(self) -> None:
        self._open.set()

    async def verify(self, token: Secret, now: float) -> Principal | None:
        text = token.reveal()
        self.asked.append(text)
        found, outage = self.known.get(text), self.outage  # as it is when the verification begins
        await self._open.wait()
        if outage is not None:
            raise outage
        if text in self.foreign:
            return None
        if found is None:
            raise CredentialRefused(Reason.BAD_TOKEN, "unknown")
        if found.expires_at is not None and now >= found.expires_at:
            raise CredentialRefused(Reason.EXPIRED)
        return found


class FakeRevocations:
    def __init__(self) -> None:
        self.ids: set[str] = set()
        self.epoch = 0
        self.fresh = True

    def revoke(self, name: str) -> None:
        self.ids.add(name)
        self.epoch += 1

    def revoked(self, who: Principal) -> bool:
        return not self.ids.isdisjoint(who.revocation_ids)

    def is_fresh(self, now: float) -> bool:
        return self.fresh


class Rig:
    def __init__(self, *verifiers: FakeVerifier, **cache: Any) -> None:
        self.verifier = FakeVerifier({"ada": principal()}) if not verifiers else verifiers[0]
        self.revocations = FakeRevocations()
        self.used: list[tuple[str, float]] = []
        self.verified: list[str] = []
        self.identities = Identities(
            verifiers or (self.verifier,),
            self.revocations,
            IdentityCacheSettings(**cache),
            used=lambda who, now: self.used.append((who.subject, now)),
            verified=lambda kind, seconds: self.verified.append(kind),
        )

    async def ask(self, token: str = "ada", now: float = NOW) -> CacheResult:
        """Each time a new `Secret`, as each request makes one."""
        _, result = await self.identities.identify(Secret(token), now)
        return result

    async def refusal(self, token: str = "ada", now: float = NOW) -> Reason:
        with pytest.raises(CredentialRefused) as caught:
            await self.ask(token, now)
        return caught.value.reason


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(20):
        while not condition():
            await asyncio.sleep(0)


async def test_the_second_look_is_a_hit() -> None:
    rig = Rig()
    assert [await rig.ask(), await rig.ask(), await rig.ask()] == ["miss", "hit", "hit"]
    assert rig.verifier.asked == ["ada"]
    assert (rig.identities.hits, rig.identities.misses, len(rig.identities)) == (2, 1, 1)


async def test_where_no_revocations_are_followed_nothing_is_revoked_and_nothing_is_stale() -> None:
    none = NothingRevoked()
    identities = Identities([FakeVerifier({"ada": principal()})], none, IdentityCacheSettings())
    assert [(await identities.identify(Secret("ada"), NOW))[1] for _ in range(2)] == ["miss", "hit"]
    assert (none.revoked(principal()), none.is_fresh(NOW), none.state(NOW)) == (False, True, (None, None))


async def test_each_token_is_its_own_identity() -> None:
    rig = Rig(FakeVerifier({"ada": principal("ada"), "bob": principal("bob")}))
    for name in ("ada", "bob", "bob", "ada"):
        who, _ = await rig.identities.identify(Secret(name), NOW)
        assert who.subject == name


async def test_a_hit_needs_the_verifiers_generation() -> None:
    rig = Rig()
    await rig.ask()
    rig.verifier.generation = "2"
    assert await rig.ask() == "miss"
    assert await rig.ask() == "hit"
    rig.verifier.known.clear()
    rig.verifier.generation = "3"
    assert await rig.refusal() is Reason.BAD_TOKEN


async def test_another_verifiers_generation_does_not_cost_a_verification() -> None:
    first, second = FakeVerifier(), FakeVerifier({"ada": principal()})
    first.foreign.add("ada")
    rig = Rig(first, second)
    await rig.ask()
    first.generation = "2"
    assert await rig.ask() == "hit"


async def test_an_entry_lives_for_the_ttl_and_not_longer() -> None:
    rig = Rig(ttl=60.0)
    await rig.ask()
    assert await rig.ask(now=NOW + 59.9) == "hit"
    assert await rig.ask(now=NOW + 60.0) == "miss"


async def test_an_entry_lives_no_longer_than_its_token() -> None:
    rig = Rig(FakeVerifier({"ada": principal(expires_at=NOW + 7)}), ttl=60.0)
    await rig.ask()
    assert await rig.ask(now=NOW + 6.9) == "hit"
    assert await rig.refusal(now=NOW + 7) is Reason.EXPIRED


async def test_a_token_in_its_leeway_is_verified_each_time() -> None:
    """Its verifier lets it pass for a while after its expiry; the cache never does."""

    class Lenient(FakeVerifier):
        async def verify(self, token: Secret, now: float) -> Principal | None:
            self.asked.append(token.reveal())
            return self.known[token.reveal()]

    rig = Rig(Lenient({"ada": principal(expires_at=NOW - 1)}))
    assert [await rig.ask(), await rig.ask()] == ["miss", "miss"]
    assert len(rig.identities) == 0


async def test_there_are_never_more_entries_than_the_setting() -> None:
    rig = Rig(FakeVerifier({str(n): principal(str(n)) for n in range(5)}), size=3)
    for n in (0, 1, 2, 0, 3, 4):
        await rig.ask(str(n))
    assert len(rig.identities) == 3
    assert rig.identities.evictions == 2
    assert await rig.ask("0") == "hit"  # asked for since, so others went first
    assert await rig.ask("1") == "miss"


async def test_the_entries_are_bounded_by_their_bytes_too() -> None:
    """A token of 8 KiB stands for about 32 KiB of claims; the budget is 4 KiB for each entry of the setting."""
    names = [f"{n}".ljust(8000, "x") for n in range(30)]
    rig = Rig(FakeVerifier({name: principal() for name in names}), size=100)
    for name in names:
        await rig.ask(name)
    assert len(rig.identities) == (100 * 4096) // (4 * 8000 + 512)
    assert rig.identities.evictions == 30 - len(rig.identities)


async def test_a_token_too_heavy_for_a_small_cache_is_still_a_token() -> None:
    heavy = "x" * 8000
    rig = Rig(FakeVerifier({heavy: principal()}), size=1)
    assert [await rig.ask(heavy), await rig.ask(heavy)] == ["miss", "miss"]


async def test_renewing_an_entry_is_no_eviction() -> None:
    rig = Rig()
    await rig.ask()
    await rig.ask(now=NOW + 100)
    assert (rig.identities.evictions, len(rig.identities)) == (0, 1)


async def test_a_bad_token_is_remembered_for_a_short_while() -> None:
    rig = Rig(negative_ttl=5.0)
    assert await rig.refusal("bad") is Reason.BAD_TOKEN
    assert await rig.refusal("bad", NOW + 4.9) is Reason.BAD_TOKEN
    assert rig.verifier.asked == ["bad"]
    assert rig.identities.negative_hits == 1
    await rig.refusal("bad", NOW + 5)
    assert rig.verifier.asked == ["bad", "bad"]


async def test_bad_tokens_do_not_push_good_ones_out_and_are_fewer() -> None:
    rig = Rig(size=50)
    await rig.ask()
    for n in range(200):
        await rig.refusal(f"bad{n}")
    assert await rig.ask() == "hit"
    asked = len(rig.verifier.asked)
    for n in range(199, 194, -1):
        await rig.refusal(f"bad{n}")
    assert len(rig.verifier.asked) == asked  # the last five are remembered: a tenth of the setting
    await rig.refusal("bad190")
    assert len(rig.verifier.asked) == asked + 1


async def test_a_bad_token_is_judged_anew_by_another_configuration() -> None:
    rig = Rig()
    await rig.refusal("new")
    rig.verifier.known["new"] = principal("new")
    assert await rig.refusal("new") is Reason.BAD_TOKEN
    rig.verifier.generation = "2"
    assert await rig.ask("new") == "miss"


@pytest.mark.parametrize("outage", [Unavailable(Reason.TOKEN_STORE_UNAVAILABLE), RuntimeError("a bug")])
async def test_an_outage_is_never_remembered(outage: Exception) -> None:
    rig = Rig()
    rig.verifier.outage = outage
    for _ in range(2):
        with pytest.raises(type(outage)):
            await rig.ask()
    rig.verifier.outage = None
    assert await rig.ask() == "miss"
    assert rig.identities.negative_hits == 0


async def test_a_token_of_no_kind_is_bad() -> None:
    one, other = FakeVerifier(), FakeVerifier()
    one.foreign.add("x")
    other.foreign.add("x")
    assert await Rig(one, other).refusal("x") is Reason.BAD_TOKEN
    assert await Rig(FakeVerifier()).refusal("x") is Reason.BAD_TOKEN
    assert (one.asked, other.asked) == (["x"], ["x"])


async def test_mine_and_bad_ends_the_search() -> None:
    one, other = FakeVerifier(), FakeVerifier({"ada": principal()})
    assert await Rig(one, other).refusal("ada") is Reason.BAD_TOKEN
    assert other.asked == []


async def test_those_who_ask_together_cause_one_verification() -> None:
    rig = Rig()
    rig.verifier.close()
    waiting = [asyncio.create_task(rig.ask()) for _ in range(10)]
    await until(lambda: rig.identities.misses == 10)
    rig.verifier.open()
    assert await asyncio.gather(*waiting) == ["miss"] * 10
    assert rig.verifier.asked == ["ada"]


async def test_the_client_that_leaves_does_not_take_the_others_with_it() -> None:
    rig = Rig()
    rig.verifier.close()
    first, second = asyncio.create_task(rig.ask()), asyncio.create_task(rig.ask())
    await until(lambda: rig.identities.misses == 2)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    rig.verifier.open()
    assert await second == "miss"
    assert rig.verifier.asked == ["ada"]


async def test_a_verdict_is_kept_although_everybody_has_left() -> None:
    rig = Rig()
    rig.verifier.close()
    alone = asyncio.create_task(rig.ask())
    await until(lambda: rig.verifier.asked == ["ada"])
    alone.cancel()
    rig.verifier.open()
    await until(lambda: len(rig.identities) == 1)
    assert await rig.ask() == "hit"


async def test_a_hit_still_looks_at_the_revoked_set() -> None:
    rig = Rig()
    await rig.ask()
    rig.revocations.revoke("ada")
    assert await rig.refusal() is Reason.REVOKED
    assert rig.verifier.asked == ["ada"]


async def test_a_hit_that_is_revoked_says_whose_it_was() -> None:
    rig = Rig()
    await rig.ask()
    rig.revocations.revoke("ada")
    with pytest.raises(CredentialRefused) as caught:
        await rig.ask()
    assert caught.value.principal == principal()


async def test_a_remembered_verdict_says_whose_it_was() -> None:
    rig = Rig()
    rig.verifier.outage = CredentialRefused(Reason.REVOKED, "revoked by root", principal())
    for _ in range(2):
        with pytest.raises(CredentialRefused) as caught:
            await rig.ask()
        assert caught.value.principal == principal()
    assert rig.verifier.asked == ["ada"]


async def test_a_hit_needs_revocations_that_can_be_followed() -> None:
    rig = Rig()
    await rig.ask()
    rig.revocations.fresh = False
    with pytest.raises(Unavailable) as caught:
        await rig.ask()
    assert caught.value.reason is Reason.STALE_STATE
    rig.revocations.fresh = True
    assert await rig.ask() == "hit"


async def test_a_verification_does_not_stand_where_revocations_cannot_be_followed() -> None:
    rig = Rig()
    rig.revocations.fresh = False
    with pytest.raises(Unavailable):
        await rig.ask()


async def test_a_token_revoked_while_it_was_verified_is_refused() -> None:
    rig = Rig()
    rig.verifier.close()
    asking = asyncio.create_task(rig.refusal())
    await until(lambda: rig.verifier.asked == ["ada"])
    rig.revocations.revoke("ada")
    rig.verifier.open()
    assert await asking is Reason.REVOKED


async def test_nothing_goes_in_while_a_revocation_came() -> None:
    """What the verifier read may be older than the revocation, of whatever token it is."""
    rig = Rig()
    rig.verifier.close()
    asking = asyncio.create_task(rig.ask())
    await until(lambda: rig.verifier.asked == ["ada"])
    rig.revocations.revoke("somebody else")
    rig.verifier.open()
    assert await asking == "miss"
    assert len(rig.identities) == 0
    assert await rig.ask() == "miss"


async def test_a_good_verdict_of_an_old_configuration_is_not_joined() -> None:
    rig = Rig()
    rig.verifier.close()
    early = asyncio.create_task(rig.ask())
    await until(lambda: rig.verifier.asked == ["ada"])
    rig.verifier.known.clear()
    rig.verifier.generation = "2"
    late = asyncio.create_task(rig.refusal())
    await until(lambda: rig.identities.misses == 2)
    rig.verifier.open()
    assert await early == "miss"
    assert await late is Reason.BAD_TOKEN
    assert await rig.refusal() is Reason.BAD_TOKEN


async def test_a_bad_verdict_of_an_old_configuration_is_not_kept() -> None:
    rig = Rig()
    rig.verifier.close()
    early = asyncio.create_task(rig.refusal("new"))
    await until(lambda: rig.verifier.asked == ["new"])
    rig.verifier.generation = "2"
    rig.verifier.known["new"] = principal("new")
    rig.verifier.open()
    assert await early is Reason.BAD_TOKEN
    rig.verifier.generation = "1"
    assert await rig.ask("new") == "miss"


async def test_whoever_joins_after_the_expiry_is_refused() -> None:
    rig = Rig(FakeVerifier({"ada": principal(expires_at=NOW + 1)}))
    rig.verifier.close()
    early = asyncio.create_task(rig.ask())
    await until(lambda: rig.verifier.asked == ["ada"])
    late = asyncio.create_task(rig.refusal(now=NOW + 1))
    await until(lambda: rig.identities.misses == 2)
    rig.verifier.open()
    assert await early == "miss"
    assert await late is Reason.EXPIRED


async def test_a_verification_that_has_ended_is_not_joined_after_the_expiry() -> None:
    """Its end is known to the loop before it is to us: whoever comes in between would ask it again without end."""
    rig = Rig(FakeVerifier({"ada": principal(expires_at=NOW + 1)}))
    early = asyncio.create_task(rig.ask())
    await asyncio.sleep(0)  # its verification is the next step
    late = asyncio.create_task(rig.refusal(now=NOW + 1))  # and this the one behind it
    assert await late is Reason.EXPIRED
    assert await early == "miss"


async def test_each_success_is_told_as_a_use_and_no_failure_is() -> None:
    rig = Rig()
    await rig.ask()
    await rig.ask(now=NOW + 1)
    await rig.refusal("bad")
    rig.revocations.revoke("ada")
    await rig.refusal(now=NOW + 2)
    assert rig.used == [("ada", NOW), ("ada", NOW + 1)]


async def test_each_verification_is_told_once_with_its_kind() -> None:
    rig = Rig()
    await rig.ask()
    await rig.ask()
    await rig.refusal("bad")
    await rig.refusal("bad")
    assert rig.verified == ["personal", "refused"]


NAMES = st.sampled_from(["ada", "bob", "eve"])
STEPS = st.one_of(
    st.tuples(st.just("identify"), NAMES),
    st.tuples(st.just("identify"), NAMES),
    st.tuples(st.just("revoke"), NAMES),
    st.tuples(st.just("advance"), st.sampled_from([0.5, 3.0, 20.0, 70.0])),
    st.tuples(st.just("withdraw"), NAMES),
    st.tuples(st.just("grant"), NAMES),
    st.tuples(st.just("outage"), st.booleans()),
    st.tuples(st.just("stale"), st.booleans()),
    st.tuples(st.just("hold"), st.booleans()),
)
EXPIRY = {"ada": None, "bob": NOW + 30, "eve": NOW + 90}


@settings(max_examples=300, deadline=None)
@given(st.lists(STEPS, max_size=40), st.integers(1, 3))
def test_whatever_happens_nobody_passes_who_should_not(steps: list[tuple[str, Any]], size: int) -> None:
    """Against a model: a principal comes out only if its token was good at some moment between asking and answer, in the
    configuration in force when it was asked, and is neither revoked nor expired."""

    async def run() -> None:
        verifier = FakeVerifier({name: principal(name, EXPIRY[name]) for name in EXPIRY})
        rig = Rig(verifier, size=size)
        now, running = NOW, list[tuple[str, float, bool, "asyncio.Task[CacheResult]"]]()

        async def look(
            name: str, asked: float, good: bool, task: "asyncio.Task[CacheResult]", revoked_since: bool
        ) -> None:
            try:
                await task
            except (CredentialRefused, Unavailable):
                return
            assert good, "granted what the configuration in force had not"
            assert name not in rig.revocations.ids or revoked_since
            expiry = EXPIRY[name]
            assert expiry is None or asked < expiry

        for step, what in steps:
            if step == "identify":
                task = asyncio.create_task(rig.ask(what, now))
                running.append((what, now, what in verifier.known, task))
                await asyncio.sleep(0)
                await asyncio.sleep(0)
            elif step == "revoke":
                rig.revocations.revoke(what)
            elif step == "advance":
                now += what
            elif step == "withdraw":
                verifier.known.pop(what, None)
                verifier.generation = str(int(verifier.generation) + 1)
            elif step == "grant":
                verifier.known[what] = principal(what, EXPIRY[what])
                verifier.generation = str(int(verifier.generation) + 1)
            elif step == "outage":
                verifier.outage = Unavailable(Reason.TOKEN_STORE_UNAVAILABLE) if what else None
            elif step == "stale":
                rig.revocations.fresh = not what
            elif what:
                verifier.close()
            else:
                verifier.open()
            for entry in [entry for entry in running if entry[3].done()]:
                running.remove(entry)
                await look(*entry, revoked_since=step == "revoke")
            assert len(rig.identities) <= size
        verifier.open()
        for entry in running:
            await look(*entry, revoked_since=False)

    asyncio.run(run())


async def test_what_is_not_known_waits_for_a_place_in_its_lane() -> None:
    verifier, lane = FakeVerifier({"a": principal("a"), "b": principal("b")}), asyncio.Semaphore(1)
    identities = Identities([verifier], FakeRevocations(), IdentityCacheSettings())
    verifier.close()
    first = asyncio.create_task(identities.identify(Secret("a"), NOW, lane))
    second = asyncio.create_task(identities.identify(Secret("b"), NOW, lane))
    await turns()
    assert verifier.asked == ["a"]
    free = asyncio.create_task(identities.identify(Secret("c"), NOW))
    await turns()
    assert verifier.asked == ["a", "c"]
    verifier.open()
    assert (await first)[0].subject == "a"
    assert (await second)[0].subject == "b"
    with pytest.raises(CredentialRefused):
        await free
    assert not lane.locked()


async def test_a_place_is_held_as_long_as_the_verification_runs() -> None:
    """A client that leaves doesn't make room: else a flood of short visits would verify without end."""
    verifier, lane = FakeVerifier({"a": principal("a"), "b": principal("b")}), asyncio.Semaphore(1)
    identities = Identities([verifier], FakeRevocations(), IdentityCacheSettings())
    verifier.close()
    left = asyncio.create_task(identities.identify(Secret("a"), NOW, lane))
    await turns()
    left.cancel()
    await turns()
    assert lane.locked()
    waits = asyncio.create_task(identities.identify(Secret("b"), NOW, lane))
    await turns()
    waits.cancel()  # it never had a place
    verifier.open()
    await turns()
    assert verifier.asked == ["a"]
    assert not lane.locked()


async def test_what_hangs_holds_up_nobody_behind_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """A flood of JWTs whose issuer doesn't answer would keep good tokens out for as long as it goes on."""
    monkeypatch.setattr("sidecar.credentials.identities.HELD", 0.01)
    verifier, lane = FakeVerifier({"a": principal("a"), "b": principal("b")}), asyncio.Semaphore(1)
    identities = Identities([verifier], FakeRevocations(), IdentityCacheSettings())
    verifier.close()
    tasks = [asyncio.create_task(identities.identify(Secret(text), NOW, lane)) for text in ("a", "b")]
    async with asyncio.timeout(20):
        while verifier.asked != ["a", "b"]:
            await asyncio.sleep(0.005)
    verifier.open()
    await asyncio.gather(*tasks)
    await asyncio.sleep(0.02)
    await lane.acquire()
    assert lane.locked(), "each place was given back once"


async def test_what_was_good_before_waits_for_no_place() -> None:
    verifier, lane = FakeVerifier({"a": principal("a")}), asyncio.Semaphore(0)
    identities = Identities([verifier], FakeRevocations(), IdentityCacheSettings(ttl=10))
    await identities.identify(Secret("a"), NOW)
    assert await identities.identify(Secret("a"), NOW + 1, lane) == (principal("a"), "hit")
    assert await identities.identify(Secret("a"), NOW + 100, lane) == (principal("a"), "miss")


async def test_the_same_token_twice_in_the_lane_is_verified_once() -> None:
    verifier, lane = FakeVerifier({"a": principal("a")}), asyncio.Semaphore(1)
    identities = Identities([verifier], FakeRevocations(), IdentityCacheSettings())
    verifier.close()
    tasks = [asyncio.create_task(identities.identify(Secret(text), NOW, lane)) for text in ("x", "a", "a", "y", "y")]
    await turns()
    verifier.open()
    await asyncio.gather(*tasks, return_exceptions=True)
    assert verifier.asked == ["x", "a", "y"]
    assert not lane.locked()


async def turns(count: int = 10) -> None:
    """Lets everybody who can go on do so."""
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_everybody_has_left_ends_quietly_and_is_forgotten() -> None:
    complaints: list[dict[str, Any]] = []
    asyncio.get_running_loop().set_exception_handler(lambda loop, context: complaints.append(context))
    rig = Rig()
    rig.verifier.close()
    left = asyncio.create_task(rig.ask("bad"))
    await until(lambda: rig.verifier.asked == ["bad"])
    left.cancel()
    await turns()
    del left  # whose end remembers what it waited for
    rig.verifier.open()
    await turns()
    gc.collect()
    assert complaints == []
    assert await rig.refusal("bad") is Reason.BAD_TOKEN
    assert rig.verifier.asked == ["bad"]
    assert not rig.identities._running


async def test_whoever_brings_what_is_being_verified_waits_for_no_place() -> None:
    rig = Rig()
    rig.verifier.close()
    first = asyncio.create_task(rig.identities.identify(Secret("ada"), NOW))
    await turns()
    joined = asyncio.create_task(rig.identities.identify(Secret("ada"), NOW, asyncio.Semaphore(0)))
    await turns()
    assert rig.identities.misses == 2
    rig.verifier.open()
    assert await first == await joined == (principal(), "miss")
    assert rig.verifier.asked == ["ada"]


async def test_two_that_get_their_places_at_once_are_verified_once_and_both_told() -> None:
    verifier, lane = FakeVerifier({name: principal(name) for name in "xya"}), asyncio.Semaphore(2)
    identities = Identities([verifier], FakeRevocations(), IdentityCacheSettings())
    verifier.close()
    tasks = [asyncio.create_task(identities.identify(Secret(text), NOW, lane)) for text in "xyaa"]
    await turns()
    verifier.open()
    assert [who.subject for who, _ in await asyncio.gather(*tasks)] == ["x", "y", "a", "a"]
    assert verifier.asked == ["x", "y", "a"]


async def test_how_long_a_verification_took_is_told() -> None:
    told: list[float] = []
    verifier = FakeVerifier({"ada": principal()})
    identities = Identities(
        [verifier], FakeRevocations(), IdentityCacheSettings(), verified=lambda kind, seconds: told.append(seconds)
    )
    began = time.perf_counter()
    await identities.identify(Secret("ada"), NOW)
    assert [0 <= seconds <= time.perf_counter() - began for seconds in told] == [True]
