"""A Kubernetes Secret, as a manifest on standard output: `sidecar token create ... --to k8s-secret | kubectl apply -f -`.

Nothing is sent from here: whoever may write Secrets has kubectl and its permissions.
"""

import base64
import re

from sidecar.cli.delivery.destination import DeliveryError, Wish, expires
from sidecar.credentials.master_key import AccessKey
from sidecar.credentials.token_row import TokenRow
from sidecar.model import Secret

# https://kubernetes.io/docs/concepts/overview/working-with-objects/names/ and, for keys, .../configuration/secret/
_SUBDOMAIN = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?(\.[a-z0-9]([a-z0-9-]*[a-z0-9])?)*")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_KEY = re.compile(r"[A-Za-z0-9._-]{1,253}")
_LONGEST_NAME = 253

DEFAULT_NAME, DEFAULT_KEY = "sidecar-token", "token"


class KubernetesSecret:
    def __init__(self, wish: Wish) -> None:
        wish.refuse("file")
        self._wish = wish
        self._name, self._key, self._namespace = wish.secret or DEFAULT_NAME, wish.key or DEFAULT_KEY, wish.namespace
        if len(self._name) > _LONGEST_NAME or _SUBDOMAIN.fullmatch(self._name) is None:
            raise DeliveryError(
                f"--secret {self._name!r}: a Secret's name has lower-case letters, digits, '-' and '.', begins and ends with"
                f" a letter or digit, and at most {_LONGEST_NAME} characters"
            )
        if self._namespace is not None and _LABEL.fullmatch(self._namespace) is None:
            raise DeliveryError(
                f"--namespace {self._namespace!r}: lower-case letters, digits and '-', a letter or digit at both ends, at most 63"
            )
        if _KEY.fullmatch(self._key) is None or self._key in (".", ".."):
            raise DeliveryError(f"--key {self._key!r}: letters, digits, '-', '_' and '.', at most 253")
        self.manifest: str | None = None

    @property
    def where(self) -> str:
        return f"a manifest of the Secret {self._name} on standard output; pipe it into kubectl apply -f -"

    def put(self, token: Secret, row: TokenRow, pair: AccessKey | None = None) -> None:
        # Every value is in quotes: a name such as `1.0` or `null` would be something else than text to YAML.
        namespace = f'  namespace: "{self._namespace}"\n' if self._namespace is not None else ""
        values = self._wish.values(self._key, token, pair)
        data = "".join(f'  "{name}": "{base64.b64encode(value.encode()).decode()}"\n' for name, value in values.items())
        self.manifest = (
            "apiVersion: v1\n"
            "kind: Secret\n"
            "metadata:\n"
            f'  name: "{self._name}"\n'
            f"{namespace}"
            "  labels:\n"
            '    app.kubernetes.io/managed-by: "sidecar"\n'
            "  annotations:\n"
            f'    sidecar-token-id: "{row.id}"\n'
            f'    sidecar-token-expires: "{expires(row)}"\n'
            "type: Opaque\n"
            "data:\n"
            f"{data}"
        )
