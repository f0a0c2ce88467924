"""What the chart tells processes is what they read: settings, files, commands, addresses."""

import importlib
import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings
from tests.helm.charts import SETS, container, environment, files, rendered

from dossier_cli import certificates, kubernetes, secret_files
from dossier_common.settings import CommonSettings, PartSettings
from dossier_common.topology import PARTS

IN_THE_IMAGE = {"DOSSIER_API_DIR", "DOSSIER_POLICY", "DOSSIER_HOME"}
COMMANDS_OWN = {"DOSSIER_POSTGRES_URL", "DOSSIER_POSTGRES_PASSWORD_FILE", "DOSSIER_SECRETS_DIR", "DOSSIER_CA_FILE"}
COMMANDS_OWN |= {
    "DOSSIER_NATS_URL",
    "DOSSIER_NATS_OPERATOR_PASSWORD_FILE",
    "DOSSIER_NATS_OPERATOR_TLS_CERTIFICATE_FILE",
}
COMMANDS_OWN |= {"DOSSIER_OPERATOR_TLS_CERTIFICATE_FILE", "DOSSIER_OPERATOR_TLS_KEY_FILE"}
COMMANDS_OWN |= {f"DOSSIER_{part.upper()}_MIGRATOR_{what}" for part in PARTS for what in ("URL", "PASSWORD_FILE")}
PROCESSES = tuple((part, process) for part in PARTS for process in ("web", "worker"))
TELEMETRY = "OTEL_EXPORTER_OTLP_ENDPOINT"


def settings_of(part: str) -> type[PartSettings]:
    cls: type[PartSettings] = importlib.import_module(f"dossier_{part}.settings").Settings
    return cls


def read(part: str, given: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """The part's settings, in a container of the image with these variables."""
    for name, value in ({"DOSSIER_API_DIR": "/opt/dossier/docs/api"} | given).items():
        monkeypatch.setenv(name, value)
    return settings_of(part)()


def variables(cls: type[BaseSettings], *, required: bool) -> set[str]:
    prefix = cls.model_config["env_prefix"]
    fields = {name for name, field in cls.model_fields.items() if field.is_required() or not required}
    return {f"{prefix}{name.upper()}" for name in fields - {"common"}}


def read_by(part: str, *, required: bool = False) -> set[str]:
    return variables(CommonSettings, required=required) | variables(settings_of(part), required=required)


# -- settings --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", SETS)
@pytest.mark.parametrize(("part", "process"), PROCESSES)
def test_every_variable_is_a_setting_and_every_required_setting_is_there(part: str, process: str, values: str) -> None:
    given = environment(rendered(values).pod(f"{part}-{process}"))
    assert given.keys() - {TELEMETRY} <= read_by(part)
    assert read_by(part, required=True) <= given.keys() | IN_THE_IMAGE


@pytest.mark.parametrize("values", SETS)
@pytest.mark.parametrize(("part", "process"), PROCESSES)
def test_the_settings_class_takes_what_it_is_given(
    part: str, process: str, values: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (
        {"DOSSIER_API_DIR": "docs/api"} | environment(rendered(values).pod(f"{part}-{process}"))
    ).items():
        monkeypatch.setenv(name, value)
    settings = settings_of(part)()
    assert settings.common.issuer.startswith("https://")
    assert bool(settings.nats_url) == (process == "worker"), "who follows nobody needs no NATS"
    assert (settings.listen_port, settings.worker_port) == (8000, 8001)


def test_zones_and_proxies_are_those_of_the_values(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in (
        {"DOSSIER_API_DIR": "docs/api"} | environment(rendered("production").pod("gateway-web"))
    ).items():
        monkeypatch.setenv(name, value)
    settings: Any = settings_of("gateway")()
    assert settings.zone_of("10.3.2.1") == "office"
    assert settings.zone_of("203.0.113.9") == "internet"
    assert [str(each) for each in settings.trusted_proxies] == ["10.20.0.0/16"]
    assert settings.session_hours == 8


@pytest.mark.parametrize("values", SETS)
@pytest.mark.parametrize("job", ["roles", "migrate", "streams", "partitions", "smoke"])
def test_jobs_are_told_what_their_commands_read(job: str, values: str) -> None:
    pods = dict(rendered(values).pods())
    if job == "roles" and job not in pods:
        assert values not in {"production", "own-secrets"}
        return
    assert environment(pods[job]).keys() <= COMMANDS_OWN


def test_migrations_run_as_the_migrator_and_parts_as_the_application() -> None:
    migrating = environment(rendered("production").pod("migrate"))
    for part in PARTS:
        url = migrating[f"DOSSIER_{part.upper()}_MIGRATOR_URL"]
        host = "primary.databases:5432"
        assert url == f"postgresql://{part}_migrator@{host}/dossier_{part}?sslmode=verify-full"
        own = environment(rendered("production").pod(f"{part}-web"))[f"DOSSIER_{part.upper()}_DATABASE_URL"]
        assert own == f"postgresql://{part}_app@{host}/dossier_{part}?sslmode=verify-full"
    superuser = environment(rendered("own-secrets").pod("roles"))["DOSSIER_POSTGRES_URL"]
    assert superuser == "postgresql://admin@10.1.2.3:6432/postgres?sslmode=verify-ca"


# -- files -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("values", SETS)
def test_every_file_that_is_named_is_mounted(values: str) -> None:
    for component, pod in rendered(values).pods():
        mounted = files(pod)
        (claims,) = [[each["mountPath"] for each in container(pod)["volumeMounts"] if not each.get("readOnly")]]
        configuration = rendered(values).of("ConfigMap")[""]["data"]
        for name, path in environment(pod).items():
            if name.endswith("_FILE") or (name == "DOSSIER_POLICY" and path.startswith("/etc/")):
                own = path.startswith("/etc/dossier/") and path.rpartition("/")[2] in configuration
                assert path in mounted or own, (component, name)
            elif name.endswith("_DIR") and name != "DOSSIER_SECRETS_DIR":
                # The web process is told where the worker writes supplements, and cannot.
                assert (path in claims) != (component == "records-web" and "SUPPLEMENT" in name), (component, name)
        superfluous = {path for path in mounted if path.startswith("/run/secrets/")} - set(environment(pod).values())
        assert not superfluous or component == "roles", (component, superfluous)


@pytest.mark.parametrize("values", SETS)
def test_no_mount_lies_inside_another(values: str) -> None:
    for component, pod in rendered(values).pods():
        paths = [each["mountPath"] for each in container(pod)["volumeMounts"]]
        inside = [(a, b) for a in paths for b in paths if a != b and a.startswith(f"{b}/")]
        assert not inside, (component, "what is mounted read-only takes no folder for another")
        named = {each["name"] for each in container(pod)["volumeMounts"]}
        assert named == {each["name"] for each in pod["spec"]["volumes"]}


def test_the_job_of_roles_finds_all_passwords_in_its_folder() -> None:
    pod = rendered("production").pod("roles")
    assert environment(pod)["DOSSIER_SECRETS_DIR"] == "/run/secrets"
    wanted = {f"/run/secrets/postgres-{part}-{role}" for part in PARTS for role in ("app", "migrator")}
    assert {path for path in files(pod) if path.startswith("/run/secrets")} == wanted | {
        "/run/secrets/postgres-superuser"
    }


@pytest.mark.parametrize(("part", "process"), PROCESSES)
def test_a_process_is_given_the_secrets_of_its_own_part_alone(part: str, process: str) -> None:
    found = {
        name for kind, name, _ in files(rendered("production").pod(f"{part}-{process}")).values() if kind == "secret"
    }
    assert found == {f"dossier-{part}", f"dossier-{part}-tls"}


@pytest.mark.parametrize("values", ["production", "own-secrets"])
def test_of_the_jobs_streams_alone_has_a_key_to_show_a_certificate_with(values: str) -> None:
    for job in ("roles", "migrate", "partitions", "smoke", "streams"):
        mounted = {path for path in files(rendered(values).pod(job)) if path.startswith("/run/tls/")}
        pair = {"/run/tls/tls.crt", "/run/tls/tls.key"} if job == "streams" else set()
        assert mounted == pair | ({"/run/tls/ca.crt"} if values == "own-secrets" else set()), job


def test_every_key_that_is_referred_to_is_in_what_the_command_prints(tmp_path: Path) -> None:
    secrets, certified = tmp_path / "secrets", tmp_path / "certificates"
    secret_files.make(secrets, "https://dossier.example")
    certified.mkdir()
    for name in ("ca", *certificates.USES):
        (certified / f"{name}.pem").write_text("certificate")
        (certified / f"{name}-key.pem").write_text("key")
    items = kubernetes.manifests(secrets, certified, None)["items"]
    printed = {(each["kind"].lower(), each["metadata"]["name"], key) for each in items for key in each["data"]}
    asked = {
        (kind.lower(), name, key)
        for values in ("production", "no-ingress", "minimal")
        for _, pod in rendered(values).pods()
        for kind, name, key in files(pod).values()
    }
    assert asked <= printed
    assert Counter(kind for kind, *_ in asked)["secret"] > 30


def test_other_names_of_secrets_are_used_everywhere() -> None:
    named = {name for _, pod in rendered("own-secrets").pods() for _, name, _ in files(pod).values()}
    assert named
    assert not any(name.startswith("dossier") for name in named), named


# -- commands and pods -----------------------------------------------------------------------------------------------


def commands() -> set[str]:
    from dossier_cli.commands import commands as root  # noqa: PLC0415  # the whole command line, for one test

    names = {each.name or getattr(each.callback, "__name__", "") for each in root.registered_commands}
    return names | {each.name or "" for each in root.registered_groups}


@pytest.mark.parametrize("values", SETS)
def test_every_container_runs_a_command_that_there_is(values: str) -> None:
    known = commands()
    for component, pod in rendered(values).pods():
        words = container(pod)["args"]
        assert "command" not in container(pod), "the entry point is `dossier`"
        assert words[0] in known, component
        if component.endswith(("-web", "-worker")):
            assert words == component.split("-")


@pytest.mark.parametrize("values", SETS)
@pytest.mark.parametrize(("part", "process"), PROCESSES)
def test_probes_ask_what_can_be_asked_without_a_certificate(part: str, process: str, values: str) -> None:
    pod = container(rendered(values).pod(f"{part}-{process}"))
    mutual = "TLS_CERTIFICATE_FILE" in " ".join(each["name"] for each in pod["env"])
    (port,) = pod["ports"]
    assert port["containerPort"] == (8000 if process == "web" else 8001)
    probes = {name: pod[f"{name}Probe"] for name in ("startup", "liveness", "readiness")}
    if mutual and (part, process) != ("gateway", "web"):
        assert probes["startup"]["tcpSocket"] == probes["liveness"]["tcpSocket"] == {"port": port["name"]}
        assert probes["readiness"]["exec"]["command"] == ["dossier-health", part, process]
        return
    for name, path in (("startup", "/healthz"), ("liveness", "/healthz"), ("readiness", "/readyz")):
        asked = probes[name]["httpGet"]
        assert asked == {"path": path, "port": port["name"], "scheme": "HTTPS" if mutual else "HTTP"}


@pytest.mark.parametrize("values", SETS)
def test_keys_in_files_are_one_process_of_each_kind_on_one_node(values: str) -> None:
    deployments = rendered(values).of("Deployment")
    for name in ("records-web", "records-worker"):
        spec = deployments[name]["spec"]
        assert spec["replicas"] == 1
        assert spec["strategy"] == {"type": "Recreate"}
        (near,) = spec["template"]["spec"]["affinity"]["podAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
        assert near["topologyKey"] == "kubernetes.io/hostname"
        (either,) = near["labelSelector"]["matchExpressions"]
        # A pod that matches its own rule may be the first on a node; the second then has to follow it.
        assert set(either["values"]) == {"records-web", "records-worker"}
        labels = spec["template"]["metadata"]["labels"]
        assert near["labelSelector"]["matchLabels"].items() <= labels.items()
        assert labels["app.kubernetes.io/component"] in either["values"]


@pytest.mark.parametrize("values", SETS)
def test_a_volume_that_one_node_mounts_is_never_asked_for_by_two_generations(values: str) -> None:
    claimed: dict[str, set[str]] = {}
    for name, each in rendered(values).of("Deployment").items():
        for volume in each["spec"]["template"]["spec"]["volumes"]:
            if "persistentVolumeClaim" in volume:
                claimed.setdefault(volume["persistentVolumeClaim"]["claimName"], set()).add(name)
                assert each["spec"]["strategy"]["type"] == "Recreate", name
                assert each["spec"]["replicas"] == 1, name
    wanted = [["audit-worker"], ["records-web", "records-worker"], ["records-worker"]]
    assert sorted(map(sorted, claimed.values())) == wanted


def test_volumes_outlive_the_release() -> None:
    claims = rendered("minimal").of("PersistentVolumeClaim")
    assert set(claims) == {"keyring", "supplements", "checkpoints"}
    assert all(each["metadata"]["annotations"]["helm.sh/resource-policy"] == "keep" for each in claims.values())
    assert rendered("own-secrets").of("PersistentVolumeClaim") == {}


def test_a_disruption_takes_one_of_several_and_a_single_one_is_free_to_go() -> None:
    several = set(rendered("production").of("PodDisruptionBudget"))
    assert several == {"gateway-web", "approvals-web", "retention-web", "audit-web"}
    assert rendered("other-policy").of("PodDisruptionBudget") == {}
    for name, each in rendered("two-replicas").of("PodDisruptionBudget").items():
        deployment = rendered("two-replicas").of("Deployment")[name]
        assert each["spec"]["selector"] == deployment["spec"]["selector"]
        assert deployment["spec"]["replicas"] == 2


def test_partitions_are_made_by_the_audit_migrator_alone() -> None:
    (job,) = rendered("production").of("CronJob").values()
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    pod = rendered("production").pod("partitions")
    secrets = {(name, key) for kind, name, key in files(pod).values() if kind == "secret"}
    assert secrets == {("dossier-migrators", "postgres-audit-migrator")}
    assert environment(pod)["DOSSIER_AUDIT_MIGRATOR_URL"].startswith("postgresql://audit_migrator@")


def test_who_is_scaled_by_load_has_no_number_of_its_own() -> None:
    (scaler,) = rendered("production").of("HorizontalPodAutoscaler").values()
    target = scaler["spec"]["scaleTargetRef"]["name"]
    assert target == "prod-dossier-gateway-web"
    assert "replicas" not in rendered("production").of("Deployment")["gateway-web"]["spec"]
    assert (scaler["spec"]["minReplicas"], scaler["spec"]["maxReplicas"]) == (3, 9)


@pytest.mark.parametrize("values", SETS)
def test_services_lead_to_the_web_processes_and_peers_name_them(values: str) -> None:
    made = rendered(values)
    peers = json.loads(made.of("ConfigMap")[""]["data"]["peers.json"])
    services = made.of("Service")
    assert list(peers) == list(PARTS)
    assert set(services) == set(PARTS)
    for part, service in services.items():
        (port,) = service["spec"]["ports"]
        scheme = "https" if "TLS_KEY_FILE" in str(environment(made.pod(f"{part}-web"))) else "http"
        assert peers[part] == f"{scheme}://prod-dossier-{part}:{port['port']}"
        labels = made.pod(f"{part}-web")["metadata"]["labels"]
        assert service["spec"]["selector"].items() <= labels.items()
        assert port["targetPort"] == container(made.pod(f"{part}-web"))["ports"][0]["name"]
        others = [
            name
            for name, pod in made.pods()
            if service["spec"]["selector"].items() <= pod["metadata"]["labels"].items()
        ]
        assert others == [f"{part}-web"]


@pytest.mark.parametrize("values", SETS)
def test_only_the_gateway_is_led_to_from_outside(values: str) -> None:
    made = rendered(values)
    for part, service in made.of("Service").items():
        assert service["spec"]["type"] == "ClusterIP" or part == "gateway"
    for ingress in made.of("Ingress").values():
        (rule,) = ingress["spec"]["rules"]
        (path,) = rule["http"]["paths"]
        service = made.of("Service")["gateway"]
        assert path["backend"]["service"] == {
            "name": "prod-dossier-gateway",
            "port": {"number": service["spec"]["ports"][0]["port"]},
        }
        assert rule["host"] == "dossier.example"
        assert ingress["spec"]["tls"] == [{"hosts": ["dossier.example"], "secretName": "dossier-public-tls"}]
    assert bool(made.of("Ingress")) == (values == "production")


def test_witnesses_are_told_as_the_audit_service_reads_them(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    made = rendered("production")
    path = tmp_path / "witnesses.json"
    path.write_text(made.of("ConfigMap")[""]["data"]["witnesses.json"])
    given = environment(made.pod("audit-worker"))
    assert given["DOSSIER_AUDIT_WITNESSES_FILE"] == "/etc/dossier/witnesses.json"
    settings = read("audit", given | {"DOSSIER_AUDIT_WITNESSES_FILE": str(path)}, monkeypatch)
    assert [each.url for each in settings.witnesses] == ["https://witness.example:8443/add-checkpoint"]
