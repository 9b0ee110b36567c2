"""The 50 validations of the specification's sample suite, each through our own reading: in profile they agree, out of profile they
are refused, and which is which stands here.

Data: eclipse-biscuit/biscuit, `samples/current` (Apache-2.0), as `samples.json` and 38 tokens.
"""

import datetime
import json
from pathlib import Path
from typing import Any

import biscuit_auth
import pytest

from sidecar.credentials.biscuit import library, profile, wire
from sidecar.credentials.biscuit.facts import FACTS, Fact, Type
from sidecar.credentials.biscuit.library import Judgement, LibraryError
from sidecar.credentials.biscuit.profile import OutOfProfile
from sidecar.credentials.biscuit.verifier import Refusal, RootKeys
from sidecar.credentials.biscuit.wire import Malformed

SAMPLES = Path(__file__).parents[3] / "shared" / "corpora" / "biscuit-samples"

VOCABULARY = {
    **FACTS,
    "resource": Fact((Type.TEXT,), ""),
    "operation": Fact((Type.TEXT,), ""),
    "right": Fact((Type.TEXT, Type.TEXT), ""),
}
"""The suite's tokens ask about facts of their own: with these known, more of them are in profile than a sidecar would accept."""

AGREES = ""
SIGNATURE = "error deserializing or verifying"
CHECKS_ONLY = "a block that narrows holds checks alone"
UNKNOWN_FACT = "no fact"
UNANCHORED = "isn't anchored"
CHECK_IF_ONLY = "only 'check if' is accepted"
NUMBERS = "a number is not compared"
OPERATORS = "the operator"
CLOSURES = "instead of &&"
TOO_MUCH = "at most"
NOT_ED25519 = "not Ed25519"
FATES: dict[str, str] = {
    "test001_basic.bc": AGREES,
    "test002_different_root_key.bc": SIGNATURE,
    "test003_invalid_signature_format.bc": SIGNATURE,
    "test004_random_block.bc": SIGNATURE,
    "test005_invalid_signature.bc": SIGNATURE,
    "test006_reordered_blocks.bc": SIGNATURE,
    "test007_scoped_rules.bc": CHECKS_ONLY,
    "test008_scoped_checks.bc": CHECKS_ONLY,
    "test009_expired_token.bc": AGREES,
    "test010_authorizer_scope.bc": CHECKS_ONLY,
    "test011_authorizer_authority_caveats.bc": AGREES,
    "test012_authority_caveats.bc": AGREES,
    "test013_block_rules.bc": CHECKS_ONLY,
    "test014_regex_constraint.bc": UNANCHORED,
    "test015_multi_queries_caveats.bc": AGREES,
    "test016_caveat_head_name.bc": CHECKS_ONLY,
    "test017_expressions.bc": TOO_MUCH,
    "test018_unbound_variables_in_rule.bc": CHECKS_ONLY,
    "test019_generating_ambient_from_variables.bc": CHECKS_ONLY,
    "test020_sealed.bc": AGREES,
    "test021_parsing.bc": AGREES,
    "test022_default_symbols.bc": TOO_MUCH,
    "test023_execution_scope.bc": CHECKS_ONLY,
    "test024_third_party.bc": CHECKS_ONLY,
    "test025_check_all.bc": CHECK_IF_ONLY,
    "test026_public_keys_interning.bc": CHECKS_ONLY,
    "test027_integer_wraparound.bc": NUMBERS,
    "test028_expressions_v4.bc": OPERATORS,
    "test029_reject_if.bc": CHECK_IF_ONLY,
    "test030_null.bc": UNKNOWN_FACT,
    "test031_heterogeneous_equal.bc": TOO_MUCH,
    "test032_laziness_closures.bc": TOO_MUCH,
    "test033_typeof.bc": TOO_MUCH,
    "test034_array_map.bc": TOO_MUCH,
    "test035_ffi.bc": OPERATORS,
    "test036_secp256r1.bc": NOT_ED25519,
    "test037_secp256r1_third_party.bc": NOT_ED25519,
    "test038_try_op.bc": CLOSURES,
}
"""What becomes of each file: its validations agree with the suite's, or why it is refused."""


def validations() -> list[Any]:
    if not SAMPLES.exists():
        return []
    suite = json.loads((SAMPLES / "samples.json").read_text())
    return [
        pytest.param(
            case["filename"], suite["root_public_key"], validation, id=f"{case['filename']} {name or 'default'}"
        )
        for case in suite["testcases"]
        for name, validation in case["validations"].items()
    ]


def judged(file: str, root: str, code: str) -> str:
    """`Ok` or `Err`, as the suite says it; raises what our reading of the token raises."""
    key = library.PublicKey(f"ed25519/{root}")
    verified = library.verify((SAMPLES / file).read_bytes(), lambda number: key)
    profile.examine(wire.blocks(verified.content), VOCABULARY)
    builder = biscuit_auth.AuthorizerBuilder(code)
    limits = builder.limits()
    limits.max_time = datetime.timedelta(seconds=5)
    builder.set_limits(limits)
    return "Ok" if library.run(builder, verified.token) is Judgement.HOLDS else "Err"


@pytest.fixture(autouse=True)
def _suite(corpora: Path) -> None:
    """Skips by name where there is none."""


@pytest.mark.parametrize(("file", "root", "validation"), validations())
def test_a_validation_agrees_or_its_token_is_refused(file: str, root: str, validation: dict[str, Any]) -> None:
    fate, (expected, *_) = FATES[file], validation["result"]
    if fate == AGREES:
        assert judged(file, root, validation["authorizer_code"]) == expected
        return
    with pytest.raises((LibraryError, Malformed, OutOfProfile)) as refused:
        judged(file, root, validation["authorizer_code"])
    assert fate in str(refused.value)
    assert (fate == SIGNATURE) is ("Format" in str(validation["result"]))


def test_all_fifty_are_here() -> None:
    assert len(validations()) == 50
    assert {parameter.values[0] for parameter in validations()} == FATES.keys()


@pytest.mark.parametrize("file", sorted({parameter.values[0] for parameter in validations()}))
def test_none_of_the_suite_s_tokens_is_a_caller_here(file: str) -> None:
    """Nor does any of them, or their ends, bring the verifier down."""
    content = (SAMPLES / file).read_bytes()
    root = next(parameter.values[1] for parameter in validations())
    keys = RootKeys({0: f"ed25519/{root}"})
    for size in range(0, len(content) + 1, max(1, len(content) // 50)):
        with pytest.raises(Refusal):
            keys.open(content[:size])
