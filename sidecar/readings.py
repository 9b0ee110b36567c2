"""What the running parts show of themselves: numbers for the scrape, checks for readiness. What happens to them: `news.py`.

The parts don't know of metrics or of one another; here each is asked for what it knows.
"""

import hashlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol

from sidecar.audit.log import AuditLog
from sidecar.credentials.identities import Identities
from sidecar.credentials.legacy import OldPasswords
from sidecar.errors import Problem
from sidecar.jwks import IssuerKeys
from sidecar.metrics import Metrics
from sidecar.news import PolicyNews
from sidecar.policy.passwords import PasswordFiles
from sidecar.policy.source import PolicySource
from sidecar.server.client import Listener
from sidecar.server.data_plane import DataPlane
from sidecar.server.ops import Check, Checks
from sidecar.server.stores import StoreState
from sidecar.store.changes import ChangeFeed
from sidecar.upstream.file import FileStore
from sidecar.upstream.file_index import Index, Totals
from sidecar.upstream.http import HttpUpstream
from sidecar.upstream.pool import Pool
from sidecar.upstream.s3 import S3Upstream

_Labelled = dict[tuple[str, ...], float]


class _Followed(Protocol):
    @property
    def problem(self) -> str | None: ...


def _check(followed: _Followed) -> Check:
    return lambda: followed.problem


def of_requests(metrics: Metrics, listener: Listener, plane: DataPlane, identities: Sequence[Identities]) -> None:
    """`identities`: the caches of tokens and of access keys, counted together."""
    metrics.read("requests_in_flight", lambda: plane.in_flight)
    metrics.read("connections_open", lambda: listener.open_connections)
    metrics.read("identity_cache_entries", lambda: sum(len(each) for each in identities))
    metrics.read("identity_cache_hits_total", lambda: sum(each.hits for each in identities))
    metrics.read("identity_cache_negative_hits_total", lambda: sum(each.negative_hits for each in identities))
    metrics.read("identity_cache_misses_total", lambda: sum(each.misses for each in identities))
    metrics.read("identity_cache_evictions_total", lambda: sum(each.evictions for each in identities))


def of_stores(metrics: Metrics, checks: Checks, stores: Mapping[str, StoreState]) -> None:
    """A store that fails makes no process unready: it is the same for every replica, and the others' stores may be well."""

    def up() -> _Labelled:
        return {(name,): float(store.up) for name, store in stores.items() if store.up is not None}

    def check(store: StoreState) -> Check:
        return lambda: None if store.problem is None else f"when it was last asked: {store.problem}"

    metrics.read("upstream_up", up)
    for name, store in stores.items():
        checks.add(f"upstream {name}", check(store), required=False)


def of_upstreams(metrics: Metrics, checks: Checks, upstreams: Mapping[str, HttpUpstream]) -> None:
    """The ways to the stores. All of it informs: a store that is away makes nobody unready."""
    pools = {name: upstream.pool for name, upstream in upstreams.items()}

    def connections() -> _Labelled:
        busy: _Labelled = {(name, "busy"): pool.busy for name, pool in pools.items()}
        return busy | {(name, "idle"): pool.idling for name, pool in pools.items()}

    def refusals() -> _Labelled:
        full: _Labelled = {(name, "full"): pool.refused_full for name, pool in pools.items()}
        return full | {(name, "late"): pool.refused_late for name, pool in pools.items()}

    def addresses() -> _Labelled:
        found: _Labelled = {}
        for name, pool in pools.items():
            found[name, "used"] = len(pool.addresses.eligible)
            found[name, "left_out"] = len(pool.addresses.all) - len(pool.addresses.eligible)
        return found

    def reloads() -> _Labelled:
        good: _Labelled = {(name, "ok"): upstream.files.reloads for name, upstream in upstreams.items()}
        return good | {(name, "error"): upstream.files.failures for name, upstream in upstreams.items()}

    def expiries() -> _Labelled:
        found = {name: upstream.files.in_force.expires for name, upstream in upstreams.items()}
        return {(name,): expires for name, expires in found.items() if expires is not None}

    def of_each(read: Callable[[Pool], float]) -> Callable[[], _Labelled]:
        return lambda: {(name,): float(read(pool)) for name, pool in pools.items()}

    metrics.read("upstream_connections", connections)
    metrics.read("upstream_queue_depth", of_each(lambda pool: pool.waiting))
    metrics.read("upstream_queue_refusals_total", refusals)
    metrics.read("upstream_addresses", addresses)
    metrics.read("upstream_ejections_total", of_each(lambda pool: pool.addresses.ejections))
    metrics.read("upstream_circuit_open", of_each(lambda pool: pool.addresses.circuit_open))
    metrics.read("upstream_circuit_openings_total", of_each(lambda pool: pool.addresses.circuit_openings))
    metrics.read("upstream_files_reloads_total", reloads)
    metrics.read("upstream_client_certificate_not_after_timestamp_seconds", expiries)
    for name, upstream in upstreams.items():
        checks.add(f"upstream {name} addresses", upstream.pool.addresses.problem, required=False)
        checks.add(f"upstream {name} files", _check(upstream.files), required=False)


def of_buckets(metrics: Metrics, checks: Checks, buckets: Mapping[str, S3Upstream]) -> None:
    """Those whose keys somebody else finds and renews."""
    chains = {name: bucket.chain for name, bucket in buckets.items() if bucket.chain is not None}
    if not chains:
        return

    def refreshes() -> _Labelled:
        good: _Labelled = {(name, "ok"): chain.refreshes for name, chain in chains.items()}
        return good | {(name, "error"): chain.failures for name, chain in chains.items()}

    metrics.read("upstream_key_refreshes_total", refreshes)
    for name, chain in chains.items():
        checks.add(f"upstream {name} keys", _check(chain), required=False)


def of_embedded_stores(metrics: Metrics, stores: Mapping[str, FileStore]) -> None:
    """Those with a limit. The sums are of the whole directory, whichever process asks; evictions are this process's own."""
    kept = {name: store for name, store in stores.items() if store.index is not None and store.upkeep is not None}
    if not kept:
        return

    def totals() -> dict[str, Totals]:
        found = {name: store.upkeep.totals for name, store in kept.items() if store.upkeep is not None}
        return {name: each for name, each in found.items() if each is not None}

    def of_index(read: Callable[[Index], int]) -> Callable[[], _Labelled]:
        return lambda: {(name,): float(read(store.index)) for name, store in kept.items() if store.index is not None}

    def oldest() -> _Labelled:
        return {(name,): each.oldest / 1e6 for name, each in totals().items() if each.oldest is not None}

    metrics.read("embedded_store_objects", lambda: {(name,): float(each.objects) for name, each in totals().items()})
    metrics.read("embedded_store_bytes", lambda: {(name,): float(each.bytes) for name, each in totals().items()})
    metrics.read("embedded_store_oldest_use_timestamp_seconds", oldest)
    metrics.read("embedded_store_limit_bytes", of_index(lambda index: index.limit))
    metrics.read("embedded_store_evictions_total", of_index(lambda index: index.evictions))
    metrics.read("embedded_store_evicted_bytes_total", of_index(lambda index: index.evicted_bytes))


def of_audit(metrics: Metrics, checks: Checks, audit: AuditLog) -> None:
    metrics.read("audit_queue_depth", lambda: audit.depth)
    metrics.read("audit_queue_capacity", lambda: audit.capacity)
    metrics.read("audit_suppressed_total", lambda: audit.suppressed)
    metrics.read("audit_last_success_timestamp_seconds", audit.last_success)
    checks.add("audit", audit.problem)


def of_old_passwords(metrics: Metrics, checks: Checks, files: PasswordFiles, passwords: OldPasswords) -> None:
    """A file that can't be used locks out whoever still has that password and nobody else: its check informs."""
    metrics.read("legacy_requests_total", lambda: {("accepted",): passwords.accepted, ("ended",): passwords.ended})
    metrics.read("legacy_peers", lambda: passwords.peers(time.time()))
    checks.add("shared passwords", lambda: next(iter(files.problems()), None), required=False)


def of_token_state(metrics: Metrics, checks: Checks, feed: ChangeFeed) -> None:
    metrics.read("token_state_sequence", lambda: feed.seq)
    metrics.read("token_state_last_sync_timestamp_seconds", lambda: feed.heard)
    metrics.read("token_state_staleness_seconds", lambda: max(0.0, time.time() - feed.heard))
    metrics.read("token_state_sync_errors_total", lambda: feed.errors)
    metrics.read("token_state_source_total", lambda: {("poll",): feed.noticed})
    checks.add("token_state", lambda: None if feed.is_fresh(time.time()) else "revocations can't be followed")


def of_keys(metrics: Metrics, checks: Checks, sources: Mapping[str, IssuerKeys]) -> None:
    """An issuer that is down must not make a fleet unready: its check informs."""

    def ages() -> _Labelled:
        found = {name: source.status().age for name, source in sources.items()}
        return {(name,): age for name, age in found.items() if age is not None}

    def refreshes() -> _Labelled:
        counts: _Labelled = {}
        for name, source in sources.items():
            status = source.status()
            counts[name, "ok"] = status.fetches
            counts[name, "error"] = status.failures
        return counts

    def check(source: IssuerKeys) -> Check:
        def problem() -> str | None:
            status = source.status()
            return None if status.usable else status.last_error or "no keys yet"

        return problem

    metrics.read("jwks_age_seconds", ages)
    metrics.read("jwks_refreshes_total", refreshes)
    for name, source in sources.items():
        checks.add(f"issuer {name}", check(source), required=False)


def first_of(problems: Sequence[Problem]) -> str | None:
    return str(problems[0]) if problems else None


def of_policies(metrics: Metrics, checks: Checks, policies: PolicySource, news: PolicyNews) -> None:
    """A bad edit must not take down a working fleet: readiness fails only where there is nothing to decide by."""

    def digest() -> _Labelled:
        """One digest over all files, so that replicas can be compared."""
        sha = hashlib.sha256()
        for name, workspace in sorted(policies.snapshot.workspaces.items()):
            sha.update(f"{name}\0{workspace.sha256}\0".encode())
        return {(sha.hexdigest(),): 1.0}

    def workspaces() -> _Labelled:
        status = policies.status()
        return {("ok",): status.good, ("bad",): status.bad}

    def reporting() -> int:
        now = time.time()
        return sum((each.report_until or 0.0) > now for each in policies.snapshot.workspaces.values())

    metrics.read("policy_info", digest)
    metrics.read("policy_report_mode", reporting)
    metrics.read("policy_workspaces", workspaces)
    metrics.read("policy_rules", lambda: sum(len(each.rules) for each in policies.snapshot.workspaces.values()))
    metrics.read("policy_last_reload_successful", lambda: float(policies.status().bad == 0))
    metrics.read("policy_last_reload_success_timestamp_seconds", lambda: news.last_success)
    checks.add("policy", lambda: None if policies.snapshot.workspaces else "no workspace is loaded")
    checks.add("policy files", lambda: _bad_files(policies), required=False)


def _bad_files(policies: PolicySource) -> str | None:
    unreadable = policies.status().error
    if unreadable:
        return f"the directory can't be read, the policies stay as they are: {unreadable}"
    bad = [name for name, status in policies.snapshot.files.items() if not status.ok]
    return f"not as they are on disk: {', '.join(sorted(bad)[:10])}" if bad else None
