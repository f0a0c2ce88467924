"""The chart, installed on a Kubernetes by the operators' page as it stands. The tests follow one another."""

import json
import time

import pytest
from tests.cluster.page import NAMESPACE, Installed, Step, document
from tests.docs.inline import inline

from dossier_common.topology import PARTS

pytestmark = pytest.mark.timeout(2700)  # the first may build Kubernetes and the image, where nothing is cached
OFFICERS = ("wei.guo", "luo.an", "shen.cha")
DEPLOYMENTS = {f"dossier-{part}-{process}" for part in PARTS for process in ("web", "worker")}
KEPT = {"dossier-keyring", "dossier-supplements", "dossier-checkpoints"}
PRIVILEGED = {
    "apiVersion": "v1",
    "kind": "Pod",
    "metadata": {"name": "privileged"},
    "spec": {"containers": [{"name": "one", "image": "any", "securityContext": {"privileged": True}}]},
}
KEYS = (
    "import hashlib, pathlib\n"
    "for path in sorted(pathlib.Path('/var/lib/dossier/keyring').rglob('*')):\n"
    "    if path.is_file(): print(path, hashlib.sha256(path.read_bytes()).hexdigest())"
)


def keys(page: Installed) -> str:
    """The files of the key ring, as the pod of records sees them."""
    return page.kubectl("exec", "deployment/dossier-records-web", "--", "python", "-c", KEYS)


def test_the_page_installs_all_parts(page: Installed) -> None:
    deployments = page.kubernetes.found("deployments", "--namespace", NAMESPACE)
    assert {each["metadata"]["name"] for each in deployments} == DEPLOYMENTS
    assert all(each["status"]["readyReplicas"] == each["spec"]["replicas"] for each in deployments)
    ready = page.ready()
    assert all(ready.values()), ready
    pods = page.kubernetes.found("pods", "--namespace", NAMESPACE)
    restarts = {each["metadata"]["name"]: each["status"]["containerStatuses"][0]["restartCount"] for each in pods}
    assert not any(restarts.values()), restarts
    claims = page.kubernetes.found("persistentvolumeclaims", "--namespace", NAMESPACE)
    assert {each["metadata"]["name"]: each["status"]["phase"] for each in claims} == dict.fromkeys(KEPT, "Bound")


def test_each_job_before_it_succeeded_and_is_removed(page: Installed) -> None:
    assert page.kubernetes.found("jobs", "--namespace", NAMESPACE) == []
    events = page.kubernetes.found("events", "--namespace", NAMESPACE, "--field-selector=involvedObject.kind=Job")
    for name in ("roles", "migrate", "streams"):
        mine = [each["reason"] for each in events if each["involvedObject"]["name"] == f"dossier-{name}"]
        assert mine.count("Completed") == 1, mine


def test_the_namespace_takes_no_pod_outside_the_restricted_profile(page: Installed) -> None:
    words = ("kubectl", "--namespace", NAMESPACE, "apply", "--filename=-")
    refused = page.kubernetes.run(*words, stdin=json.dumps(PRIVILEGED), check=False)
    assert refused.returncode == 1
    assert 'violates PodSecurity "restricted:latest": privileged' in refused.stderr


def test_the_gateway_answers_the_ingress_controller_by_the_public_name_and_nobody_else(page: Installed) -> None:
    for namespace in ("ingress-nginx", "elsewhere"):
        page.make_caller(namespace)
    found = json.loads(page.ask("ingress-nginx", "dossier-gateway"))
    assert found["issuer"] == "https://dossier.example"
    assert page.ask("ingress-nginx", "dossier-records") == "no connection"
    assert page.ask("elsewhere", "dossier-gateway") == "no connection"


def test_the_ceremony_shows_three_codes_and_is_held_once(page: Installed) -> None:
    lines = [line.split() for line in page.said[Step.CEREMONY].splitlines()]
    codes = {line[1]: line[2] for line in lines if len(line) == 3 and line[1] in OFFICERS}
    assert set(codes) == set(OFFICERS)
    assert len(set(codes.values())) == 3
    assert page.counted("accounts", "gateway") == 3
    again = page.type(f"! {document()[Step.CEREMONY].text}")
    assert not any(code in again for code in codes.values())
    assert page.counted("accounts", "gateway") == 3
    logs = page.kubectl("logs", "--selector=app.kubernetes.io/name=dossier", "--tail=-1", "--max-log-requests=20")
    assert not any(code in logs for code in codes.values())


def test_after_all_pods_were_deleted_everything_is_back_with_its_data(page: Installed) -> None:
    before, leaves, kept = page.ready(), page.counted("leaves", "audit"), keys(page)
    assert leaves > 0
    assert kept
    page.kubectl("delete", "pod", "--all", "--wait=false")
    began = time.monotonic()

    def back() -> bool:
        now = page.ready()
        return len(now) == len(before) and not set(now) & set(before) and all(now.values())

    page.kubernetes.until(back, "all pods are back")
    print(f"back after {time.monotonic() - began:.0f} s")
    assert keys(page) == kept
    assert page.counted("accounts", "gateway") == 3
    assert page.counted("leaves", "audit") >= leaves


def test_what_the_page_says_of_day_two_works_in_its_namespace(page: Installed) -> None:
    line = inline("install-helm", "kubectl exec deployment/")
    assert "without receipt" in page.type(line)
    line = inline("operating", "kubectl exec deployment/RELEASE-PART-web")
    line = line.replace("RELEASE", "dossier").replace("PART", "records").replace("…", "backlog records")
    assert "without receipt" in page.type(line)
    before = page.ready()
    said = page.type(inline("install-helm", "helm upgrade dossier"))
    assert "REVISION: 2" in said
    assert page.ready() == before, "nothing had changed, and no pod was replaced"


def test_an_upgrade_that_finds_no_room_says_so_and_the_old_pods_go_on(page: Installed) -> None:
    before = page.ready()
    deployment = "deployment/dossier-gateway-web"
    page.kubectl("set", "resources", deployment, "--requests=cpu=64")
    line = inline("install-helm", "kubectl get events")
    page.kubernetes.until(lambda: "Insufficient cpu" in page.type(line), "the reason is told")
    during = page.ready()
    assert list(during.values()).count(False) == 1
    assert {name: during.get(name) for name in before} == before
    page.kubectl("rollout", "undo", deployment)
    page.kubernetes.until(lambda: page.ready() == before, "it is as it was")


def test_a_password_is_changed_and_all_parts_come_back_with_it(page: Installed) -> None:
    name = "postgres-records-app"
    before, former = page.ready(), page.secret("dossier-records", name)
    page.run(Step.RENEW)
    assert page.secret("dossier-records", name) != former
    page.kubernetes.until(lambda: not set(page.ready()) & set(before), "the former pods are gone")
    after = page.ready()
    assert len(after) == len(before)
    assert all(after.values())
    assert not page.enters("records_app", former)
    assert page.enters("records_app", page.secret("dossier-records", name))


def test_who_removes_it_keeps_volumes_secrets_and_databases(page: Installed) -> None:
    secrets = {each["metadata"]["name"] for each in page.kubernetes.found("secrets", "--namespace", NAMESPACE)}
    page.type(inline("install-helm", "helm uninstall dossier"))
    page.kubernetes.until(lambda: not page.ready(), "all pods are gone")
    claims = page.kubernetes.found("persistentvolumeclaims", "--namespace", NAMESPACE)
    assert {each["metadata"]["name"]: each["status"]["phase"] for each in claims} == dict.fromkeys(KEPT, "Bound")
    left = {each["metadata"]["name"] for each in page.kubernetes.found("secrets", "--namespace", NAMESPACE)}
    assert left == {each for each in secrets if not each.startswith("sh.helm.release.")}
    assert page.counted("accounts", "gateway") == 3
    for kind in ("deployments", "services", "networkpolicies", "cronjobs"):
        assert page.kubernetes.found(kind, "--namespace", NAMESPACE) == [], kind


def test_a_job_that_fails_says_what_to_mend_and_installing_again_makes_nothing_twice(page: Installed) -> None:
    (revision,) = page.sql("SELECT version_num FROM alembic_version", "audit")
    page.sql("UPDATE alembic_version SET version_num = 'from-tomorrow'", "audit")
    install = next(line for line in document()[Step.INSTALL].text.splitlines() if line.startswith("helm install"))
    said = page.type(f"! {install}")
    assert "INSTALLATION FAILED" in said
    log = page.type(inline("install-helm", "kubectl logs job/dossier-migrate"))
    assert "from-tomorrow" in log.strip().splitlines()[-1]
    page.type(inline("install-helm", "helm uninstall dossier"))
    page.sql(f"UPDATE alembic_version SET version_num = '{revision}'", "audit")
    leaves = page.counted("leaves", "audit")
    assert "STATUS: deployed" in page.type(install)
    assert all(page.ready().values())
    assert page.counted("accounts", "gateway") == 3
    assert page.counted("leaves", "audit") >= leaves > 0


@pytest.mark.parametrize("step", Step)
def test_what_each_block_shows_is_what_the_page_says(page: Installed, step: Step) -> None:
    assert list(page.lacking(step)) == []
