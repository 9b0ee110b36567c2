"""All that is asked of the library, and nothing else of the program imports it.

The law: nothing of it gets out but what is said here. It is Rust: a defect in it arrives as a `PanicException`, which is no
`Exception`. It holds the interpreter while it works, so that only what it is given bounds what it costs.
"""

import asyncio
import base64
import datetime
from collections.abc import Callable, Iterable, Mapping
from enum import Enum, auto
from typing import Any, TypeVar

import biscuit_auth
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from sidecar.errors import SidecarError

T = TypeVar("T")

MAX_TIME = datetime.timedelta(seconds=1)
"""By the clock on the wall: a busy machine takes its time, and to be late says nothing about the token."""
_LIMITS = "Reached Datalog execution limits"
_PASSED_ON = (KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError)


class LibraryError(SidecarError):
    """The library refused, or failed. Its text is for people; nothing is read out of it."""


class Judgement(Enum):
    HOLDS = auto()
    FAILS = auto()
    LATE = auto()
    """It was not judged in time: that says nothing about the token."""


def contained(call: Callable[[], T]) -> T:
    """Raises `LibraryError` for whatever the library raises."""
    try:
        return call()
    except _PASSED_ON:
        raise
    except BaseException as error:
        raise LibraryError(f"{type(error).__name__}: {error}"[:500]) from None


class PublicKey:
    """Ed25519, and only that: a signature on another curve has two forms, and ids of blocks are signatures."""

    def __init__(self, text: str) -> None:
        """`ed25519/` and 64 hexadecimal digits. Raises `LibraryError`."""
        name, _, digits = text.strip().partition("/")
        if name != "ed25519" or len(digits) != 64:
            raise LibraryError("a public key is written ed25519/ and 64 hexadecimal digits")
        self.text = f"ed25519/{digits.lower()}"
        self.key = contained(lambda: biscuit_auth.PublicKey(self.text))


class PrivateKey:
    """It can't be printed; `pem` is its one way out."""

    def __init__(self, key: Ed25519PrivateKey) -> None:
        self._key = key

    def __repr__(self) -> str:
        return "<private key>"

    @classmethod
    def fresh(cls) -> "PrivateKey":
        return cls(Ed25519PrivateKey.generate())

    @classmethod
    def of_pem(cls, pem: bytes) -> "PrivateKey":
        """PKCS 8, as `pem` gives it. Raises `LibraryError`."""
        key = contained(lambda: load_pem_private_key(pem, None))
        if not isinstance(key, Ed25519PrivateKey):
            raise LibraryError("not an Ed25519 key")
        return cls(key)

    @property
    def public(self) -> str:
        """As `PublicKey` reads it."""
        return f"ed25519/{self._key.public_key().public_bytes_raw().hex()}"

    @property
    def pem(self) -> bytes:
        return self._key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())

    def sign(self, source: str, key_id: int) -> bytes:
        """A new token of one block, which `source` says in Datalog. Raises `LibraryError`."""

        def build() -> bytes:
            builder = biscuit_auth.BiscuitBuilder(source)
            builder.set_root_key_id(key_id)
            key = biscuit_auth.PrivateKey.from_bytes(self._key.private_bytes_raw(), biscuit_auth.Algorithm.Ed25519)
            return bytes(builder.build(key).to_bytes())

        return contained(build)


class Verified:
    """A token whose signatures are right."""

    def __init__(self, token: Any) -> None:
        self.token = token
        self.content = contained(lambda: bytes(token.to_bytes()))
        """The library's own bytes of it: the only ones that are looked at from here on."""
        self.block_ids: tuple[str, ...] = contained(lambda: tuple(token.revocation_ids))

    def narrowed(self, source: str) -> "Verified":
        """With one more block, which `source` says in Datalog. Raises `LibraryError`."""
        return Verified(contained(lambda: self.token.append(biscuit_auth.BlockBuilder(source))))

    def judge(self, facts: Iterable[Any]) -> Judgement:
        """Whether its checks hold of these facts, which `fact` makes. Nothing else is asked, and nothing is granted by it."""

        def authorize() -> Judgement:
            builder = biscuit_auth.AuthorizerBuilder()
            builder.set_limits(_limits())
            builder.add_policy(_allow())
            for each in facts:
                builder.add_fact(each)
            return run(builder, self.token)

        try:
            return contained(authorize)
        except LibraryError:
            return Judgement.FAILS


def run(builder: Any, token: Any) -> Judgement:
    try:
        builder.build(token).authorize()
    except biscuit_auth.AuthorizationError as error:
        return Judgement.LATE if _LIMITS in str(error) else Judgement.FAILS
    return Judgement.HOLDS


def verify(content: bytes, key_of: Callable[[int | None], PublicKey]) -> Verified:
    """`key_of`: the root key by its id; what it raises arrives as a `LibraryError` like everything else."""
    return Verified(contained(lambda: biscuit_auth.Biscuit.from_bytes(content, lambda number: key_of(number).key)))


def unverified_ids(content: bytes) -> tuple[str, ...]:
    """The revocation ids of a token that nobody has verified: for showing. Raises `LibraryError`."""
    text = base64.urlsafe_b64encode(content).decode()
    return contained(lambda: tuple(biscuit_auth.UnverifiedBiscuit.from_base64(text).revocation_ids))


def fact(source: str, values: Mapping[str, Any]) -> Any:
    """`fact('path({path})', {"path": "a"})`. Raises `LibraryError`."""
    return contained(lambda: biscuit_auth.Fact(source, dict(values)))


_prepared: list[Any] = []


def _limits() -> Any:
    if not _prepared:
        _prepare()
    return _prepared[0]


def _allow() -> Any:
    return _prepared[1]


def _prepare() -> None:
    limits = biscuit_auth.AuthorizerBuilder().limits()
    limits.max_time = MAX_TIME
    _prepared.extend((limits, biscuit_auth.Policy("allow if true")))
