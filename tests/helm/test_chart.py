"""The chart: what Kubernetes gets of it, and that the sidecar takes what it is given there.

Rendered by Helm's own code over the values in `helm/sidecar/ci/`, held to Kubernetes' schemas of every release from 1.29 on.
"""

import json
import math
import os
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import helm_python
import kubernetes_validate
import pytest
import yaml
from typer.testing import CliRunner

from sidecar import config
from sidecar.cli import root
from sidecar.store.engine import Database, StoreUnusable, create_file
from sidecar.store.migrations.run import upgrade_to
from tests.e2e.process import free_ports
from tests.helm.chart import (
    CHART,
    OWN_KINDS,
    SHAPES,
    container,
    containers,
    lay_out,
    merged,
    one,
    pod,
    render,
    templates,
    values,
)

NEWEST = int(kubernetes_validate.latest_version().split(".")[1])
RELEASES = [f"1.{minor}" for minor in range(29, NEWEST + 1)]
SCHEMA = json.loads((CHART / "values.schema.json").read_text())
DEFAULTS = yaml.safe_load((CHART / "values.yaml").read_text())
BESIDE = ("native", "plain")

every_shape = pytest.mark.parametrize("shape", SHAPES)


def refusal(given: dict[str, Any]) -> str:
    with pytest.raises(helm_python.HelmError) as caught:
        render(given)
    return str(caught.value)


# What Kubernetes gets


@every_shape
@pytest.mark.parametrize("release", RELEASES)
def test_kubernetes_takes_it(shape: str, release: str) -> None:
    for document in render(values(shape)):
        if document["kind"] not in OWN_KINDS:
            kubernetes_validate.validate(document, release, strict=True)


def test_the_schemas_know_a_mistake() -> None:
    """So that the test above is worth something."""
    document = one(render(values("native")), "Deployment")
    document["spec"]["template"]["spec"]["initContainers"][0]["imagePullPolcy"] = "Always"
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(document, "1.30", strict=True)


@every_shape
def test_helm_has_nothing_to_say(shape: str) -> None:
    report = helm_python.lint(CHART, values(shape), strict=True)
    assert [each for each in report["messages"] if each["severity"] > 1] == []
    assert report["errors"] == []


@every_shape
def test_each_name_is_given_once_and_everything_carries_the_release(shape: str) -> None:
    documents = render(values(shape))
    names = [(each["kind"], each["metadata"]["name"]) for each in documents]
    assert len(set(names)) == len(names)
    assert {each["metadata"]["labels"]["app.kubernetes.io/instance"] for each in documents} == {"rel"}


def test_the_shapes_are_what_they_are_named_for() -> None:
    native, plain, gateway = (pod(render(values(shape))) for shape in ("native", "plain", "gateway"))
    assert [each["name"] for each in native["initContainers"]] == ["migrate", "sidecar"]
    assert [each.get("restartPolicy") for each in native["initContainers"]] == [None, "Always"]
    assert [each["name"] for each in native["containers"]] == ["store"]
    assert [each["name"] for each in plain["initContainers"]] == ["migrate"]
    assert [each["name"] for each in plain["containers"]] == ["sidecar", "nginx"]
    assert [each["name"] for each in gateway["containers"]] == ["sidecar"]
    assert "restartPolicy" not in gateway["containers"][0]


def test_images_are_named_by_registry_and_digest() -> None:
    assert (
        container(pod(render(values("gateway"))))["image"]
        == f"registry.example.com/sidecar@sha256:{'0123456789abcdef' * 4}"
    )
    replicas = pod(render(values("gateway-replicas")))
    assert container(replicas)["image"] == f"registry.example.com/platform/sidecar:{_app_version()}"
    assert replicas["imagePullSecrets"] == [{"name": "shared-pull"}, {"name": "pull"}]
    assert container(pod(render(values("plain"))))["image"] == "registry.example.com/platform/sidecar:1.2.3"


def test_the_chart_has_the_programs_version() -> None:
    from sidecar import __version__

    assert _app_version() == __version__


def _app_version() -> str:
    return str(yaml.safe_load((CHART / "Chart.yaml").read_text())["appVersion"])


# What the sidecar gets


@every_shape
def test_the_sidecar_takes_its_configuration_and_policies(shape: str, tmp_path: Path) -> None:
    """By the commands that its operator would run, over a disk as the pod has it."""
    file = lay_out(render(values(shape)), tmp_path)
    for command in ("config", "policy"):
        done = CliRunner().invoke(root.app, [command, "check", "--config", str(file)])
        assert (done.exit_code, done.stderr) == (0, ""), done.output


@every_shape
def test_ports_of_the_pod_are_those_of_the_configuration(shape: str, tmp_path: Path) -> None:
    documents = render(values(shape))
    said = yaml.safe_load(lay_out(documents, tmp_path).read_text())
    data = said["listen"] if isinstance(said["listen"], str) else said["listen"][0]["address"]
    listened = {"data": data, "ops": said["ops"]}
    ports = {each["name"]: each["containerPort"] for each in container(pod(documents))["ports"]}
    assert ports == {name: int(address.rpartition(":")[2]) for name, address in listened.items()}
    (port,) = one(documents, "Service")["spec"]["ports"]
    # By number: Kubernetes 1.29 doesn't look for names among native sidecars. And clients never reach ops.
    assert port["targetPort"] == ports["data"]


def test_settings_of_ones_own_are_laid_over_the_charts(tmp_path: Path) -> None:
    settings = config.load(lay_out(render(values("gateway")), tmp_path))
    store = settings.upstreams["store"]
    assert (store.url, store.timeouts.first_byte, store.timeouts.connect) == (
        "https://artifacts.store.svc:8443",
        120,
        2,
    )
    assert store.ca_file is not None
    assert store.credentials is not None
    assert store.credentials.basic is not None
    assert store.credentials.basic.username == "cache"
    assert settings.issuers["github"].max_lifetime == 3600


def test_clients_speak_tls_where_there_is_a_certificate() -> None:
    (listen,) = yaml.safe_load(one(render(values("gateway-replicas")), "ConfigMap", "-config")["data"]["sidecar.yaml"])[
        "listen"
    ]
    folder = "/etc/sidecar/secrets/tls"
    assert listen == {
        "address": "[::]:8000",
        "tls": {"cert_file": f"{folder}/tls.crt", "key_file": f"{folder}/tls.key"},
    }
    mounts = {each["mountPath"] for each in container(pod(render(values("gateway-replicas"))))["volumeMounts"]}
    assert folder in mounts


def test_large_numbers_stay_numbers(tmp_path: Path) -> None:
    assert config.load(lay_out(render(values("gateway-replicas")), tmp_path)).identity_cache.size == 1_000_000


def test_the_text_of_a_policy_is_left_as_it_is() -> None:
    """It is no template, and what looks like one is no instruction to Helm."""
    text = 'workspace: web # "quoted" {{ .Release.Name }} \\ ü\nroutes: [{path: /web, client: plain, upstream: store}]\n\n\n'
    documents = render(values("native", policy={"inline": {"web.yaml": text}}))
    assert one(documents, "ConfigMap", "-policies")["data"] == {"web.yaml": text}


@every_shape
def test_files_that_change_are_mounted_as_directories(shape: str) -> None:
    for each in containers(pod(render(values(shape)))):
        for mount in each.get("volumeMounts", []):
            assert not {"subPath", "subPathExpr"} & set(mount)


def test_a_changed_configuration_restarts_the_pod_and_a_changed_policy_does_not() -> None:
    def annotations(**over: Any) -> Any:
        return one(render(values("native", **over)), "Deployment")["spec"]["template"]

    assert annotations(policy={"inline": {"web.yaml": "workspace: other\n"}}) == annotations()
    assert annotations(people={"inline": "users: {}\n"}) == annotations()
    assert annotations(config={"workers": 2}) != annotations()


# Secrets


@every_shape
def test_no_secret_is_made_and_none_stands_in_the_open(shape: str) -> None:
    documents = render(values(shape))
    assert "Secret" not in {each["kind"] for each in documents}
    text = yaml.safe_dump(one(documents, "ConfigMap", "-config"))
    assert not any(word in text for word in ("password:", "pepper:", "secret:"))


def test_secrets_are_mounted_for_the_sidecar_alone_and_for_its_group() -> None:
    spec = pod(render(values("native")))
    secrets = {each["name"]: each["secret"] for each in spec["volumes"] if "secret" in each}
    assert secrets == {
        "sidecar-secret-store": {"secretName": "store-password", "defaultMode": 0o440},
        "sidecar-secret-tokens": {"secretName": "sidecar-tokens", "defaultMode": 0o440},
    }
    assert not set(secrets) & {mount["name"] for mount in container(spec, "store")["volumeMounts"]}
    assert spec["securityContext"]["fsGroup"] == 65532


@pytest.mark.parametrize(
    ("shape", "over", "what_to_do"),
    [
        ("native", {"tokenStore": {"existingSecret": ""}}, "kubectl -n cache create secret generic rel-sidecar-tokens --from-literal=pepper="),
        ("native", {"store": {"credentials": {"existingSecret": ""}}}, "kubectl -n cache create secret generic rel-sidecar-store --from-file=password="),
        ("native", {"store": {"credentials": {"username": ""}}}, "store.credentials.username is required"),
        ("native", {"image": {"repository": ""}}, "image.repository is required: build the image"),
        ("native", {"store": {"container": {"image": ""}}}, "store.container.image is required"),
        ("native", {"store": {"port": 0}}, "store.port is required"),
        ("native", {"store": {"port": 8080}}, "set ports.data, ports.ops or the store's to others"),
        ("native", {"store": {"url": "http://elsewhere"}}, "store.url is for mode: gateway"),
        ("native", {"store": {"container": {"lifecycle": {}, "image": "x"}}, "autoscaling": {"enabled": True}}, "autoscaling is for mode: gateway"),
        ("native", {"store": {"container": {"lifecycle": {"preStop": {"sleep": {"seconds": 1}}}}}}, "set store.preStop=none"),
        ("native", {"policy": {"existingConfigMap": "x"}}, "policy.inline and policy.existingConfigMap exclude each other"),
        ("native", {"people": {"existingConfigMap": "x"}}, "people.inline and people.existingConfigMap exclude each other"),
        ("plain", {"policy": {"existingConfigMap": ""}}, "--set-file policy.inline.web"),
        ("native", {"config": {"ops": "0.0.0.0:1"}}, "config.ops is the chart's to set: see ports.ops"),
        ("native", {"config": {"policies": "/x"}}, "config.policies is the chart's to set: see policy"),
        ("native", {"config": {"limits": {"grace": "soon"}}}, "soon is not a duration"),
        ("native", {"secrets": {"tokens": {"existingSecret": "x"}}}, "secrets.tokens is taken"),
        ("native", {"ports": {"ops": 8080}}, "never served to clients"),
        ("native", {"replicas": 2}, "more than one replica needs state that they share"),
        ("embedded", {"tokenStore": {"enabled": False}, "replicas": 2}, "more than one replica needs state that they share"),
        ("gateway", {"autoscaling": {"enabled": True}}, "more than one replica needs state that they share"),
        ("gateway", {"store": {"url": ""}}, "store.url is required with mode: gateway"),
        ("gateway", {"store": {"port": 3000}}, "are for mode: sidecar"),
        ("gateway", {"terminationGracePeriodSeconds": 39}, "less than the 40 s"),
    ],
)  # fmt: skip
def test_what_is_missing_or_contradicts_itself_is_refused_with_what_to_do(
    shape: str, over: dict[str, Any], what_to_do: str
) -> None:
    assert what_to_do in refusal(values(shape, **over))


def test_everything_that_is_missing_is_told_at_once() -> None:
    said = refusal({})
    for each in ("image.repository", "tokenStore.existingSecret", "store.container", "store.port", "policy.inline"):
        assert each in said


def test_the_sleep_action_is_refused_where_kubernetes_has_none(capfd: pytest.CaptureFixture[str]) -> None:
    helm_python.lint(CHART, values("native"), kube_version="v1.29.0")
    assert "set store.preStop=exec" in capfd.readouterr().err
    helm_python.lint(CHART, values("native", store={"preStop": "exec"}), kube_version="v1.29.0")
    assert "store.preStop" not in capfd.readouterr().err


# The values themselves


def blocks(schema: dict[str, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Every object with keys of its own, by the path that leads there."""
    if "properties" in schema:
        yield path, schema
        for name, inner in schema["properties"].items():
            yield from blocks(inner, (*path, name))
    if isinstance(schema.get("additionalProperties"), dict):
        yield from blocks(schema["additionalProperties"], (*path, "some"))


@pytest.mark.parametrize(
    "path", [path for path, _ in blocks(SCHEMA) if path != ("global",)], ids=lambda path: ".".join(path) or "top"
)
def test_a_mistyped_value_is_refused_at_every_level(path: tuple[str, ...]) -> None:
    wrong: dict[str, Any] = {"typo": 1}
    if path[:1] == ("secrets",):
        wrong["existingSecret"] = "x"
    for name in reversed(path):
        wrong = {name: wrong}
    assert "additional properties 'typo' not allowed" in refusal(merged(values("native"), wrong))


def test_objects_without_keys_of_their_own_are_kubernetes_or_the_sidecars_form() -> None:
    """Whatever else is an object says that it takes nothing more."""
    free = {
        name for path, block in blocks(SCHEMA) for name, inner in block["properties"].items()
        if inner.get("type") == "object" and "properties" not in inner and "additionalProperties" not in inner
    }  # fmt: skip
    assert free == {"container", "config", "podSecurityContext", "securityContext", "strategy", "affinity"}
    assert all(block.get("additionalProperties") is False for path, block in blocks(SCHEMA) if path != ("global",))


def test_other_charts_may_have_globals_of_their_own() -> None:
    assert render(values("native", **{"global": {"domain": "example.com"}}))


@pytest.mark.parametrize(
    "over",
    [
        {"ports": {"data": "8080"}},
        {"ports": {"data": 0}},
        {"mode": "daemonset"},
        {"replicas": "two"},
        {"policy": {"inline": {"web.txt": "x"}}},
        {"policy": {"inline": {"..data": "x"}}},
        {"policy": {"inline": {"web.yaml": {"workspace": "web"}}}},
        {"secrets": {"x": {}}},
        {"secrets": {"Not A Name": {"existingSecret": "x"}}},
        {"image": {"digest": "latest"}},
    ],
    ids=json.dumps,
)
def test_values_of_the_wrong_form_are_refused(over: dict[str, Any]) -> None:
    assert "don't meet the specifications of the schema" in refusal(values("native", **over))


def test_the_schema_and_the_defaults_have_the_same_values() -> None:
    def keys(node: Any, schema: dict[str, Any], path: str = "") -> Iterator[str]:
        for name, inner in node.items():
            yield f"{path}{name}"
            if isinstance(inner, dict) and "properties" in schema["properties"][name]:
                yield from keys(inner, schema["properties"][name], f"{path}{name}.")

    known = {
        ".".join((*path, name)) for path, block in blocks(SCHEMA) for name in block["properties"] if "some" not in path
    }
    assert set(keys(DEFAULTS, SCHEMA)) == known


# Restricted pods


@every_shape
def test_pods_are_restricted(shape: str) -> None:
    """https://kubernetes.io/docs/concepts/security/pod-security-standards/#restricted, and more for the sidecar itself."""
    spec = pod(render(values(shape)))
    assert spec["securityContext"]["runAsNonRoot"] is True
    assert spec["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not {"hostNetwork", "hostPID", "hostIPC"} & set(spec)
    assert not any("hostPath" in volume for volume in spec["volumes"])
    for each in containers(spec):
        assert each["securityContext"]["allowPrivilegeEscalation"] is False
        assert each["securityContext"]["capabilities"] == {"drop": ["ALL"]}
        assert each["securityContext"].get("runAsNonRoot", True)
        assert not any("hostPort" in port for port in each.get("ports", []))
    own = container(spec)["securityContext"]
    assert own["readOnlyRootFilesystem"] is True
    assert own["runAsUser"] == own["runAsGroup"] == 65532


def test_the_container_that_upgrades_is_as_restricted_and_gets_no_secret() -> None:
    spec = pod(render(values("native")))
    migrate, sidecar = container(spec, "migrate"), container(spec)
    assert migrate["securityContext"] == sidecar["securityContext"]
    assert migrate["image"] == sidecar["image"]
    assert not [mount for mount in migrate["volumeMounts"] if "secret" in mount["name"]]
    assert [mount for mount in migrate["volumeMounts"] if mount not in sidecar["volumeMounts"]] == []


@every_shape
def test_no_pod_gets_a_token_of_kubernetes(shape: str) -> None:
    documents = render(values(shape))
    assert pod(documents)["automountServiceAccountToken"] is False
    assert one(documents, "ServiceAccount")["automountServiceAccountToken"] is False


# Probes


@every_shape
def test_no_probe_waits_for_the_store(shape: str) -> None:
    """A native sidecar has to be up before its store is started; a store that is down makes nothing unready or restarted."""
    documents = render(values(shape))
    sidecar = container(pod(documents))
    ops = next(port["containerPort"] for port in sidecar["ports"] if port["name"] == "ops")
    asked = {probe: sidecar[probe]["httpGet"] for probe in ("startupProbe", "readinessProbe", "livenessProbe")}
    assert asked == {
        "startupProbe": {"path": "/livez", "port": ops},
        "readinessProbe": {"path": "/readyz", "port": ops},
        "livenessProbe": {"path": "/livez", "port": ops},
    }
    startup, liveness = sidecar["startupProbe"], sidecar["livenessProbe"]
    assert startup["periodSeconds"] * startup["failureThreshold"] >= 30
    assert liveness["periodSeconds"] * liveness["failureThreshold"] >= 30


@pytest.mark.slow
@pytest.mark.parametrize("shape", BESIDE)
def test_the_sidecar_is_up_before_its_store_and_ends_after_it(shape: str, tmp_path: Path) -> None:
    """The real process with what the chart gives it, asked as Kubernetes asks; there is no store at any time."""
    data, ops = free_ports(2)
    over = {"listenHost": "127.0.0.1", "ports": {"data": data, "ops": ops}, "config": {"limits": {"drain_delay": "0s"}}}
    documents = render(values(shape, **over))
    environment = {**os.environ, "SIDECAR_CONFIG": str(lay_out(documents, tmp_path))}
    probes = [each["httpGet"] for name, each in container(pod(documents)).items() if name.endswith("Probe")]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen([sys.executable, "-m", *container(pod(documents))["command"]], env=environment, stdout=log, stderr=log)  # fmt: skip
    try:
        deadline = time.monotonic() + 30
        while not all(answers(f"http://127.0.0.1:{probe['port']}{probe['path']}") for probe in probes):
            assert process.poll() is None, (tmp_path / "log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "log").read_text()
            time.sleep(0.05)
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.wait()


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=20) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


# The end


@every_shape
def test_there_is_time_for_an_orderly_end(shape: str, tmp_path: Path) -> None:
    documents = render(values(shape))
    limits = config.load(lay_out(documents, tmp_path)).limits
    assert pod(documents)["terminationGracePeriodSeconds"] > limits.drain_delay + limits.grace


@pytest.mark.parametrize("grace", ["500ms", "45s", "2m", "1h"])
def test_the_store_outlives_the_requests_that_need_it(grace: str, tmp_path: Path) -> None:
    """Kubernetes ends a native sidecar's store first, and a plain one's at the same moment."""
    documents = render(values("native", config={"limits": {"grace": grace, "drain_delay": "1500ms"}}))
    settings = config.load(lay_out(documents, tmp_path))
    seconds = container(pod(documents), "store")["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert seconds == math.ceil(settings.limits.grace) + 2
    own_end, store_end = settings.limits.drain_delay + settings.limits.grace, 10
    assert pod(documents)["terminationGracePeriodSeconds"] > seconds + store_end + own_end


def test_a_plain_containers_store_sleeps_by_its_own_program() -> None:
    spec = pod(render(values("plain")))
    assert container(spec, "nginx")["lifecycle"] == {"preStop": {"exec": {"command": ["sleep", "20"]}}}
    assert spec["terminationGracePeriodSeconds"] == 20 + 5 + 5
    assert "lifecycle" not in container(pod(render(values("plain", store={"preStop": "none"}))), "nginx")


def test_the_sidecar_needs_no_hook_of_its_own() -> None:
    """It goes on accepting for `limits.drain_delay` after SIGTERM."""
    for shape in SHAPES:
        assert "lifecycle" not in container(pod(render(values(shape))))


# State and replicas


def test_state_is_kept_on_a_claim_and_written_by_one_pod_at_a_time() -> None:
    documents = render(values("embedded"))
    assert one(documents, "Deployment")["spec"]["strategy"] == {"type": "Recreate"}
    claim = one(documents, "PersistentVolumeClaim")
    assert claim["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep"
    assert claim["spec"]["resources"]["requests"]["storage"] == "100Gi"
    (volume,) = [each for each in pod(documents)["volumes"] if each["name"] == "sidecar-data"]
    assert volume["persistentVolumeClaim"] == {"claimName": claim["metadata"]["name"]}


def test_an_older_token_store_does_not_hold_an_upgrade_up(tmp_path: Path) -> None:
    """The pod's first container, run as the chart gives it, leaves a store that the sidecar opens."""
    documents = render(values("native"))
    path = lay_out(documents, tmp_path)
    store = tmp_path / "var/lib/sidecar/sidecar.db"
    create_file(store)
    environment = {**os.environ, "SIDECAR_CONFIG": str(path)}
    database = Database(store)
    upgrade_to(database, "0001")
    with pytest.raises(StoreUnusable, match="sidecar token migrate"):
        database.prepare_schema()
    for file in tmp_path.glob("etc/sidecar/secrets/*/*"):
        file.unlink()  # it gets none
    subprocess.run(
        [sys.executable, "-m", *container(pod(documents), "migrate")["command"]], env=environment, check=True
    )
    database.prepare_schema()
    assert "initContainers" not in pod(render(values("gateway-replicas"))), "without tokens there is nothing to upgrade"


def test_an_existing_claim_is_used() -> None:
    documents = render(values("embedded", persistence={"existingClaim": "mine"}))
    assert "PersistentVolumeClaim" not in {each["kind"] for each in documents}
    assert {"claimName": "mine"} in [each.get("persistentVolumeClaim") for each in pod(documents)["volumes"]]


def test_without_state_there_are_replicas_budget_and_scaling() -> None:
    documents = render(values("gateway-replicas"))
    deployment = one(documents, "Deployment")
    assert "replicas" not in deployment["spec"], "it would fight with the autoscaler"
    assert deployment["spec"]["strategy"]["type"] == "RollingUpdate"
    assert one(documents, "HorizontalPodAutoscaler")["spec"]["minReplicas"] == 3
    assert one(documents, "PodDisruptionBudget")["spec"]["maxUnavailable"] == 1
    fixed = render(values("gateway-replicas", autoscaling={"enabled": False}, replicas=2))
    assert one(fixed, "Deployment")["spec"]["replicas"] == 2
    assert one(fixed, "PodDisruptionBudget")


def test_one_replica_has_no_budget_that_could_never_be_met() -> None:
    assert not {"PodDisruptionBudget", "HorizontalPodAutoscaler"} & {each["kind"] for each in render(values("gateway"))}


@every_shape
def test_what_selects_pods_selects_these(shape: str) -> None:
    documents = render(values(shape))
    labels = one(documents, "Deployment")["spec"]["template"]["metadata"]["labels"]
    for document in documents:
        spec = document.get("spec", {})
        selector = spec.get("podSelector") or spec.get("selector") or {}
        for name, value in selector.get("matchLabels", selector).items():
            assert labels[name] == value, document["kind"]


def test_a_network_policy_lets_in_what_is_named_and_never_to_the_stores_port() -> None:
    documents = render(values("native", networkPolicy={"enabled": True}))
    policy = one(documents, "NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    assert policy["ingress"] == [{"ports": [{"port": 8080, "protocol": "TCP"}]}]
    full = one(render(values("gateway-replicas")), "NetworkPolicy")["spec"]
    assert [[port["port"] for port in rule["ports"]] for rule in full["ingress"]] == [[8000], [8001]]
    assert full["policyTypes"] == ["Ingress", "Egress"]


def test_the_notes_name_what_was_made() -> None:
    notes = templates(values("native"))["sidecar/templates/NOTES.txt"]
    assert "http://rel-sidecar.cache.svc:80" in notes
    assert "listen on 127.0.0.1:3000 alone" in notes
    assert "No NetworkPolicy was made" in notes
