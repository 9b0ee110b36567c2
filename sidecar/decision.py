"""What is asked, what was decided of it and on what, and what a connection remembers of its last request. Values; the gate makes them."""

from collections.abc import Awaitable, Callable, Sequence

from msgspec import Struct

from sidecar import mapping
from sidecar.aws_chunked import ChunkSigning
from sidecar.credentials.identities import CacheResult, Known
from sidecar.credentials.series import Series
from sidecar.model import (
    ANONYMOUS,
    Action,
    Circumstances,
    Head,
    Headers,
    Person,
    Principal,
    PrincipalKind,
    Secret,
)
from sidecar.policy.compiled import Route, Rule, Workspace
from sidecar.policy.trace import Trace
from sidecar.ports import HeaderList
from sidecar.profiles import Errand, LocalAnswer, Profile
from sidecar.reasons import REASONS, Reason
from sidecar.s3.sending import Sending
from sidecar.sigv4_verify import Presented


class Decision(Struct):
    """What was decided, and everything that it was decided on. Evidence, answers and forwarding read it; none adds to it."""

    reason: Reason
    detail: str = ""
    """For audit and log alone."""
    rule: str | None = None
    head: Head | None = None
    route: Route | None = None
    workspace: Workspace | None = None
    profile: Profile | None = None
    principal: Principal | None = None
    """`None` where the caller was never identified: the request was malformed, or its credential was not accepted."""
    holder: Principal | None = None
    """Who proved to hold a credential that was refused all the same, as it had expired or was revoked. For evidence alone."""
    token: Secret | None = None
    """The credential that was sent, for the HMAC of one that was refused."""
    carrier: str = ""
    """Where it sat; empty where there was none."""
    signed: Presented | None = None
    """The AWS signature, where one was verified."""
    chunks: ChunkSigning | None = None
    """What the signatures of the body's chunks are held to, where they are."""
    actions: tuple[Action, ...] = ()
    answer: LocalAnswer | None = None
    """Set where the profile answers by itself and the store is not asked."""
    errand: Errand | None = None
    """Set where the store is asked for something else than the request's own words, or its body or answer is looked at."""
    exists: bool = False
    """The key that would be written is known to be there: where the request is refused, that is why."""
    only_creates: bool = False
    """It was decided on the key's not being there: the store is asked to hold to that (rule 17)."""
    forward: HeaderList | None = None
    """The headers for the store where they aren't those that were read; its answer may be a multistatus then."""
    sending: Sending | None = None
    """Of an S3 client's request: what the store gets, all of it written anew."""
    removed: tuple[Route, str] | None = None
    """The key of a route that it takes away besides what its actions say: a renaming's source."""
    cache: CacheResult | None = None
    circumstances: Circumstances | None = None
    """Where the principal's token carries checks."""
    generation: int = 0
    """The policy snapshot's number."""
    retry_after: int = 0
    """Seconds until the same may be asked again, where that is why it was refused."""

    @property
    def allowed(self) -> bool:
        reason = self.reason
        return reason is Reason.GRANTED or reason is Reason.ANSWERED_HERE or reason is Reason.WOULD_DENY

    @property
    def would_deny(self) -> Reason | None:
        """What will refuse it once report mode is over (rule 21)."""
        if self.reason is not Reason.WOULD_DENY:
            return None
        return Reason.NO_TOKEN if self.principal is ANONYMOUS else Reason.NO_RULE

    @property
    def known(self) -> bool:
        """Whether somebody with a name asked."""
        return self.principal is not None and self.principal.kind is not PrincipalKind.ANONYMOUS

    @property
    def status(self) -> int:
        """Before the profile suits it to its client: an anonymous caller who is refused is asked for a token (rule 20)."""
        status = REASONS[self.reason].status
        return 401 if status == 403 and self.principal is ANONYMOUS else status


class About(Struct, frozen=True):
    """The rules of a workspace that are about a caller. It holds no longer than all three are the very same objects."""

    workspace: Workspace
    principal: Principal
    person: Person | None
    rules: Sequence[Rule]


class LastRead(Struct):
    """What a connection's last headers said. Clients repeat themselves: equal headers hold the same token and mean the same,
    since nothing else goes into reading them."""

    raw: Sequence[tuple[bytes, bytes]] | None = None
    headers: Headers | None = None
    token: Secret | None = None
    carrier: str = ""
    known: Known | None = None
    about: About | None = None
    circumstances: Circumstances | None = None
    """Of the request under way, where its token carries checks."""
    series: Series | None = None
    """What signed requests may go on from."""


class Asking(Struct):
    """One request as it came, and what the gate may use for it."""

    method: str
    raw_target: str
    raw_headers: Sequence[tuple[bytes, bytes]]
    peer: str
    """The TCP peer's address."""
    now: float
    """Unix seconds."""
    last: LastRead
    """The connection's, to be read and written."""
    trace: Trace | None = None
    vouched: bool = False
    """A trusted peer has named `peer` as its client's address."""
    body: Callable[[], Awaitable[bytes]] | None = None
    """Gives the request's body, piece by piece."""
    repeated: bool = False
    """The headers are those of the connection's last request."""
    series: Series | None = None
    """What the headers continue."""

    def circumstances(self) -> Circumstances:
        """What a token's checks are asked about."""
        return Circumstances(self.method, self.now, self.peer if self.vouched else "")


def upstream_path(route: Route, head: Head) -> str:
    """Path and query to ask the store for, as received but for the prefix."""
    path = mapping.to_store(route, head.target)
    return f"{path}?{head.target.raw_query}" if head.target.raw_query else path


def store_path(decision: Decision) -> str:
    """The same of a decision that has a route: where its profile has words of its own, those."""
    if decision.errand is not None:
        return decision.errand.path
    assert decision.route is not None
    assert decision.head is not None
    return upstream_path(decision.route, decision.head)
