"""What signing one GET costs here and in botocore, in one run: `python -m tests.unit.signing_cost` prints both, in µs.

A process of its own, so that what other tests have left in memory is not part of the price.
"""

import time
from collections.abc import Callable
from types import SimpleNamespace

from botocore.auth import S3SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from sidecar.model import Secret
from sidecar.sigv4 import Signer

SENT = {
    "x-amz-checksum-mode": "ENABLED",
    "user-agent": "Boto3/1.43.11 md/Botocore#1.43.11 ua/2.1 lang/python#3.11.7",
    "accept-encoding": "identity",
}
ROUNDS, CALLS = 40, 100


def cost(call: Callable[[], object]) -> float:
    start = time.process_time_ns()
    for _ in range(CALLS):
        call()
    return (time.process_time_ns() - start) / CALLS / 1000


def main() -> None:
    request = AWSRequest("GET", "https://s3.test/bucket/some/key?versionId=abc", headers=SENT)
    request.context["client_config"] = SimpleNamespace(s3={"payload_signing_enabled": False})
    theirs, ours = S3SigV4Auth(Credentials("AKID", "secret"), "s3", "r"), Signer("AKID", Secret("secret"), "r")
    headers = [(name.encode(), value.encode()) for name, value in SENT.items()]
    slow, fast = [], []
    for _ in range(ROUNDS):
        slow.append(cost(lambda: theirs.add_auth(request)))
        fast.append(
            cost(lambda: ours.sign("GET", "/bucket/some/key", "versionId=abc", headers, time.time(), host="s3.test"))
        )
    print(min(fast), min(slow))


if __name__ == "__main__":
    main()
