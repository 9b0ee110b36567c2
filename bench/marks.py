"""The marks that a release has to reach, as ratios within one run wherever there is something to compare with."""

from msgspec import Struct

from bench.peers.issued import ISSUED, MILLION
from bench.peers.s3_client import S3_CLIENT, SIGNED, SIGNED_GET
from bench.peers.sidecar import BUCKET, NAME
from bench.results import Results


class Mark(Struct, frozen=True):
    row: str
    bound: float
    """The greatest multiple of `reference`; without one, the greatest value in the row's unit."""
    reference: str | None = None
    own: str = NAME
    """Who is judged."""
    reference_row: str | None = None
    """Where that isn't `row`."""


MARKS = (
    Mark("hot", 1.5, "haproxy-jwt"),
    Mark("get", 1.5, "haproxy-splice"),
    Mark("put", 1.0, "nginx-unbuffered"),
    Mark("memory", 96.0),
    Mark("hot", 1.3, NAME, BUCKET),
    Mark("get", 1.1, NAME, BUCKET),
    Mark(SIGNED, 1.3, NAME, S3_CLIENT, "hot"),
    Mark(SIGNED_GET, 1.1, NAME, S3_CLIENT, "get"),
    Mark("issued", 1.1, ISSUED, MILLION),
    Mark("cold-token", 1.2, ISSUED, MILLION),
    Mark("hostile-biscuit", 10.0, ISSUED, ISSUED, "cold-biscuit"),
)


class Judgement(Struct, frozen=True):
    passed: bool
    text: str


def judge(mark: Mark, results: Results) -> Judgement:
    """What wasn't measured has not been passed."""
    row = results.row(mark.row)
    own = row.median(mark.own) if row is not None else None
    name = mark.row if mark.own == NAME else f"{mark.row}, {results.titles.get(mark.own, mark.own)}"
    if row is None or own is None:
        return Judgement(False, f"{name}: not measured")
    if mark.reference is None:
        return Judgement(own <= mark.bound, f"{name}: {own:.1f} {row.unit}, at most {mark.bound:g}")
    compared = row if mark.reference_row is None else results.row(mark.reference_row)
    other = compared.median(mark.reference) if compared is not None else None
    if not other:
        return Judgement(False, f"{name}: {mark.reference} wasn't measured, so there is nothing to compare with")
    ratio = own / other
    title = results.titles.get(mark.reference, mark.reference) + (f" ({compared.title})" if compared is not row else "")
    return Judgement(ratio <= mark.bound, f"{name}: {ratio:.2f} x {title}, at most {mark.bound:g}")


def render(judgements: list[Judgement]) -> str:
    return "".join(f"{'reached' if each.passed else 'MISSED '}  {each.text}\n" for each in judgements)
