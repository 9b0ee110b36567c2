"""The chart, rendered by Helm itself (as a library), and what it renders laid out on a disk as a pod would see it."""

import json
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import helm_python
import trustme
import yaml

from tests.docs import ROOT

CHART = ROOT / "helm" / "sidecar"
SHAPES = {file.name.removesuffix("-values.yaml"): file for file in sorted((CHART / "ci").glob("*-values.yaml"))}
"""Values that somebody might use, by their name."""
OWN_KINDS = {"PodMonitor", "PrometheusRule"}
"""Not Kubernetes' own: the Prometheus operator's."""

Document = dict[str, Any]

_CA = trustme.CA()
_CERTIFICATE = _CA.issue_cert("cache.example.com")
_POLICY = "workspace: web\nroutes:\n  - {path: /web, client: plain, upstream: store}\nci_tokens: read\n"
_PEOPLE = "users:\n  ada@example.com: {groups: []}\n"


def values(shape: str, **over: Any) -> dict[str, Any]:
    """The values of one of `SHAPES`, with others laid over them: `store={"port": 1}` changes that one alone."""
    return merged(yaml.safe_load(SHAPES[shape].read_text()), over)


def merged(base: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    result = dict(base)
    for key, value in over.items():
        known = result.get(key)
        result[key] = merged(known, value) if isinstance(known, dict) and isinstance(value, dict) else value
    return result


def templates(given: Mapping[str, Any]) -> dict[str, str]:
    """Template's name -> text. Raises `helm_python.HelmError`, with what the chart says."""
    return helm_python.Chart.load(CHART).render(dict(given), name="rel", namespace="cache")


def render(given: Mapping[str, Any]) -> list[Document]:
    texts = templates(given)
    return [
        document
        for name, text in texts.items()
        if name.endswith(".yaml")
        for document in yaml.safe_load_all(text)
        if document is not None
    ]


def one(documents: list[Document], kind: str, name: str = "") -> Document:
    found = [each for each in documents if each["kind"] == kind and each["metadata"]["name"].endswith(name)]
    assert len(found) == 1, f"{kind} {name}: {[each['metadata']['name'] for each in found]}"
    return found[0]


def pod(documents: list[Document]) -> Document:
    """The specification of the pod."""
    spec: Document = one(documents, "Deployment")["spec"]["template"]["spec"]
    return spec


def containers(spec: Document) -> list[Document]:
    return [*spec.get("initContainers", []), *spec["containers"]]


def container(spec: Document, name: str = "sidecar") -> Document:
    (found,) = [each for each in containers(spec) if each["name"] == name]
    return found


def lay_out(documents: list[Document], folder: Path) -> Path:
    """Every volume of the sidecar's container where it is mounted, below `folder`: files of the ConfigMaps, fresh secrets
    under the names by which the configuration asks for them. Paths are those of the pod with `folder` before them.
    The path of the configuration that the container is started with."""
    spec = pod(documents)
    volumes = {volume["name"]: volume for volume in spec["volumes"]}
    sidecar = container(spec)
    for mount in sidecar["volumeMounts"]:
        place = folder / mount["mountPath"].lstrip("/")
        place.mkdir(parents=True, exist_ok=True)
        if "configMap" in (volume := volumes[mount["name"]]):
            for name, text in _config_map(documents, volume["configMap"]["name"]).items():
                (place / name).write_text(
                    text.replace("/etc/sidecar/", f"{folder}/etc/sidecar/").replace("/var/lib/", f"{folder}/var/lib/")
                )
    (path,) = [each["value"] for each in sidecar["env"] if each["name"] == "SIDECAR_CONFIG"]
    config = folder / path.lstrip("/")
    for file in _secret_files(yaml.safe_load(config.read_text())):
        # Its directory is there only if a secret is mounted.
        file.write_bytes(_secret(file.name))
        file.chmod(0o600)
    return config


def _config_map(documents: list[Document], name: str) -> dict[str, str]:
    rendered = [each for each in documents if each["kind"] == "ConfigMap" and each["metadata"]["name"] == name]
    if rendered:
        data: dict[str, str] = rendered[0]["data"]
        return data
    return {"web.yaml": _POLICY} if "polic" in name else {"people.yaml": _PEOPLE}


def _secret_files(node: Any) -> Iterator[Path]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key.endswith("_file"):
                yield Path(value)
            yield from _secret_files(value)
    elif isinstance(node, list):
        for value in node:
            yield from _secret_files(value)


def _secret(name: str) -> bytes:
    known = {
        "ca.crt": _CA.cert_pem,
        "tls.crt": _CERTIFICATE.cert_chain_pems[0],
        "tls.key": _CERTIFICATE.private_key_pem,
    }
    return known[name].bytes() if name in known else secrets.token_hex(32).encode()


def value_rows() -> list[str]:
    """The table of the values, as docs/kubernetes.md has it: from the schema and the defaults."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    return list(_rows(schema, yaml.safe_load((CHART / "values.yaml").read_text()), ""))


def _rows(schema: dict[str, Any], defaults: Any, prefix: str) -> Iterator[str]:
    for name, inner in schema["properties"].items():
        default = defaults[name]
        if "properties" in inner:
            yield from _rows(inner, default, f"{prefix}{name}.")
        else:
            said = json.dumps(default, ensure_ascii=False)
            yield f"| `{prefix}{name}` | {'' if default in ('', {}, [], None) else f'`{said}`'} | {inner['description']} |"
