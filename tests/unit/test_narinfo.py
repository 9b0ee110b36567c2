"""Narinfo files as Nix 2.8.0 wrote and signed them, and every way to make one mean something else than what was signed."""

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st

from sidecar import narinfo
from sidecar.policy.compiled import TrustedKey

NAME = "41iihzxz1s8vgvgdz9zz393jskvhn2nm"
INFO = b"""StorePath: /nix/store/41iihzxz1s8vgvgdz9zz393jskvhn2nm-top
URL: nar/0gs9jbqfzmyw2ly8acf7ra45jp5vvrigl788zgqns9l0zny5fhg9.nar.xz
Compression: xz
FileHash: sha256:0gs9jbqfzmyw2ly8acf7ra45jp5vvrigl788zgqns9l0zny5fhg9
FileSize: 176
NarHash: sha256:1vwisxwkfw9jk96q3zr7h77acz38ymbss7clmsq2nsh1sjm857n0
NarSize: 168
References: i34iv240fwy3jw8qp0mlmayyq3s4lm40-dep
Sig: cache.example.org-1:l57Pjd7rkmlRQ3MkUwfKlljPYnHfty7379Ix9lQ6VMUupjXfzIzOsCwKN0FpLAY5AwYwcLmEzAfGKmxd1OKSBw==
CA: text:sha256:1yglk9w59f7msjx0sky4barmbb942nvhm55k373rpvnjxazmn3ym
"""
WITHOUT_REFERENCES = b"""StorePath: /nix/store/i34iv240fwy3jw8qp0mlmayyq3s4lm40-dep
URL: nar/0fi9086lgpm7risfq179888clp99qdx4akvdmnlhz5gkf6q2ygy7.nar.xz
Compression: xz
FileHash: sha256:0fi9086lgpm7risfq179888clp99qdx4akvdmnlhz5gkf6q2ygy7
FileSize: 128
NarHash: sha256:0sg9f58l1jj88w6pdrfdpj5x9b1zrwszk84j81zvby36q9whhhqa
NarSize: 120
References:\x20
Sig: cache.example.org-1:UZQ7PcuU4AszZonQ/aHCjHYxR9+7s2bZdujbuFGRWVJ/zJbojFKjOZs1k3Ps070c/aWOJ6ctPYgpQt8LX0hmAQ==
CA: text:sha256:094qif9n4cq4fdg459qzbhg1c6wywawwaaivx0k0x8xhbyx4vwic
"""
KEY = "cache.example.org-1:D3cL4+IlRzlLbABJqutwWkrXb2j9F+hujLe2Gl0jY+c="
SIGNATURE = INFO.split(b"Sig: ")[1].split(b"\n")[0]


def key(text: str = KEY) -> TrustedKey:
    found = narinfo.read_key(text)
    assert found is not None
    return found


OTHER = TrustedKey("other-1", hashlib.sha256().digest())


def test_what_nix_signed_is_trusted() -> None:
    assert narinfo.untrusted(INFO, NAME, [key()]) is None
    assert narinfo.untrusted(INFO, NAME, [OTHER, key()]) is None
    assert narinfo.untrusted(WITHOUT_REFERENCES, "i34iv240fwy3jw8qp0mlmayyq3s4lm40", [key()]) is None


def test_one_good_signature_among_others_is_enough() -> None:
    several = INFO.replace(b"Sig: ", b"Sig: other-1:AAAA\nSig: nonsense\nSig: ")
    assert narinfo.untrusted(several, NAME, [key()]) is None


@pytest.mark.parametrize(
    "keys", [[], [OTHER], [TrustedKey("cache.example.org-2", key().key)], [TrustedKey(key().name, OTHER.key)]]
)
def test_another_key_is_not_trusted(keys: list[TrustedKey]) -> None:
    assert narinfo.untrusted(INFO, NAME, keys) == "no trusted key has signed it"


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"NarSize: 168", b"NarSize: 169"),
        (b"NarHash: sha256:1v", b"NarHash: sha256:0v"),
        (b"References: i34iv240fwy3jw8qp0mlmayyq3s4lm40-dep", b"References: "),
        (b"m40-dep\n", b"m40-dep 41iihzxz1s8vgvgdz9zz393jskvhn2nm-top\n"),
        (b"-top\n", b"-other\n"),
        (b"/nix/store/4", b"/nix/stare/4"),
        (b"/nix/store/4", b"/nix/store/../store/4"),
        (b"Sig: " + SIGNATURE + b"\n", b""),
        (SIGNATURE, SIGNATURE[:-4] + b"AAA="),
        (SIGNATURE, SIGNATURE + b"=="),
    ],
)
def test_what_was_changed_after_signing_is_not_trusted(old: bytes, new: bytes) -> None:
    assert old in INFO
    assert narinfo.untrusted(INFO.replace(old, new), NAME, [key()]) == "no trusted key has signed it"


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        (INFO + b"NarHash: sha256:" + b"0" * 52 + b"\n", "two lines NarHash"),
        (b"StorePath: /nix/store/" + b"0" * 32 + b"-x\n" + INFO, "two lines StorePath"),
        (INFO + b"References: \n", "two lines References"),
        (INFO + b"URL: elsewhere\n", "two lines URL"),
        (INFO.replace(b"NarHash: ", b"NarHash:"), "a line that is not 'Name: value'"),
        (INFO.replace(b"NarSize: 168\n", b"NarSize: 168\r\n"), "a line that is not 'Name: value'"),
        (INFO.replace(b"\nNarSize", b"\n\nNarSize"), "a line that is not 'Name: value'"),
        (INFO.replace(b"NarSize: 168\n", b""), "no NarSize"),
        (INFO.replace(b"URL: nar/0gs9jbqfzmyw2ly8acf7ra45jp5vvrigl788zgqns9l0zny5fhg9.nar.xz", b"URL: "), "no URL"),
        (INFO[:-1], "broken off: no newline at its end"),
        (b"", "broken off: no newline at its end"),
        (INFO.replace(b"Compression: xz", b"Compression: \xc3\xa9"), "not ASCII"),
        (
            INFO.replace(b"NarSize: 168", b"NarSize: 0168"),
            "a path, hash, size or reference in a form that is not Nix's",
        ),
        (INFO.replace(b"/nix/", b"/n;x/"), "a path, hash, size or reference in a form that is not Nix's"),
        (INFO.replace(b"-dep\n", b"-dep;x\n"), "a path, hash, size or reference in a form that is not Nix's"),
        (
            INFO.replace(b"-dep\n", b"-dep,/nix/store/x\n"),
            "a path, hash, size or reference in a form that is not Nix's",
        ),
    ],
)
def test_what_two_readers_could_read_differently_is_not_trusted(changed: bytes, why: str) -> None:
    assert narinfo.untrusted(changed, NAME, [key()]) == why


def test_a_signature_over_another_path_is_worth_nothing_here() -> None:
    assert narinfo.untrusted(INFO, "0" * 32, [key()]) == "it describes another path"
    assert narinfo.untrusted(WITHOUT_REFERENCES, NAME, [key()]) == "it describes another path"


def test_what_is_not_signed_may_be_anything() -> None:
    """Nix holds the nar that it leads to against the signed hash."""
    assert narinfo.untrusted(INFO.replace(b"xz\n", b"zstd\n") + b"Deriver: x.drv\n", NAME, [key()]) is None


def test_the_hash_may_be_written_in_any_of_nix_s_ways() -> None:
    raw = narinfo.from_base32("1vwisxwkfw9jk96q3zr7h77acz38ymbss7clmsq2nsh1sjm857n0")
    assert raw is not None
    text = base64.b64encode(raw).decode()
    for form in (f"sha256:{raw.hex()}", f"sha256:{text}", f"sha256-{text}"):
        changed = INFO.replace(b"sha256:1vwisxwkfw9jk96q3zr7h77acz38ymbss7clmsq2nsh1sjm857n0", form.encode())
        assert narinfo.untrusted(changed, NAME, [key()]) is None
    for form in (
        "sha1:abc",
        f"sha256:{raw.hex().upper()}",
        f"sha512:{text}",
        f"sha256-{raw.hex()}",
        "sha256:",
        "",
        "sha256",
    ):
        assert narinfo.nar_hash(form) is None


@given(st.binary(min_size=32, max_size=32))
def test_base_32_is_one_to_one(raw: bytes) -> None:
    text = narinfo.to_base32(raw)
    assert len(text) == 52
    assert narinfo.from_base32(text) == raw


def test_base_32_has_one_spelling_for_each_hash() -> None:
    assert (
        narinfo.to_base32(hashlib.sha256(b"hello\n").digest()) == "00xyyr3fi8l6hb839bv3f7yb86yjv7xi1cgh1xnhipym4asvb4aq"
    )
    for text in ("", "0" * 51, "0" * 53, "e" + "0" * 51, "z" * 52, "2" + "0" * 51, "A" * 52):
        assert narinfo.from_base32(text) is None


@pytest.mark.parametrize(
    "text", ["", "a", "a:", f":{KEY.partition(':')[2]}", "a:AAAA", KEY[:-1], KEY + "A", "a:" + "A" * 44, "a:!"]
)
def test_what_is_no_key(text: str) -> None:
    assert narinfo.read_key(text) is None


@given(st.binary(max_size=300))
def test_no_bytes_are_trusted_by_accident_and_none_raise(body: bytes) -> None:
    assert narinfo.untrusted(body, NAME, [key()]) is not None


def signed(references: str, signer: Ed25519PrivateKey, listed: str, *, signature: str = "") -> bytes:
    digest = narinfo.to_base32(hashlib.sha256().digest())
    path = f"/nix/store/{NAME}-a"
    made = base64.b64encode(signer.sign(f"1;{path};sha256:{digest};1;{listed}".encode())).decode()
    lines = [f"StorePath: {path}", "URL: x", f"NarHash: sha256:{digest}", "NarSize: 1", f"References: {references}"]
    return "\n".join((*lines, *([signature] if signature else []), f"Sig: k:{made}", "")).encode()


def test_references_are_signed_in_their_order_each_once_and_with_the_store_s_path() -> None:
    signer = Ed25519PrivateKey.from_private_bytes(bytes(32))
    mine = [TrustedKey("k", signer.public_key().public_bytes_raw())]
    first, second = f"{'0' * 32}-b", f"{'1' * 32}-a"
    listed = f"/nix/store/{first},/nix/store/{second}"
    for references in (f"{first} {second}", f"{second} {first}", f"{second} {first} {second}"):
        assert narinfo.untrusted(signed(references, signer, listed), NAME, mine) is None
    assert narinfo.untrusted(signed(first, signer, listed), NAME, mine) == "no trusted key has signed it"
    # The first of two keys of one name, or the first of two signatures, may be the wrong one.
    both = [TrustedKey("k", OTHER.key), *mine]
    bad = f"Sig: k:{base64.b64encode(bytes(64)).decode()}"
    assert narinfo.untrusted(signed(first, signer, f"/nix/store/{first}", signature=bad), NAME, both) is None


@pytest.mark.parametrize("name", ["StorePath", "URL", "NarHash", "NarSize"])
def test_what_nix_needs_has_to_be_there(name: str) -> None:
    without = b"".join(line for line in INFO.splitlines(keepends=True) if not line.startswith(f"{name}: ".encode()))
    assert narinfo.untrusted(without, NAME, [key()]) == f"no {name}"


def test_a_hash_that_is_none_is_no_form_of_nix_s() -> None:
    changed = INFO.replace(b"NarHash: sha256:1v", b"NarHash: sha256:ev")
    assert narinfo.untrusted(changed, NAME, [key()]) == "a path, hash, size or reference in a form that is not Nix's"


def test_its_setting_and_its_bound() -> None:
    assert (narinfo.TRUSTED_PUBLIC_KEYS, narinfo.MAX_SIZE) == ("trusted_public_keys", 262_144)
    assert narinfo.read_key("a:\u00e9") is None
