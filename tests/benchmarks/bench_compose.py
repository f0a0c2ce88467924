"""The image and compose, where an engine is: sizes, times, memory, and what TLS costs. Nothing here is a verdict."""

import http.client
import json
import ssl
import statistics
import time
from collections.abc import Callable, Iterator

import pytest
from tests.compose.conftest import copy, deployment
from tests.compose.engine import IMAGE, PROCESSES, Deployment, docker, free_port, until

__all__ = ["copy", "deployment"]

ROUNDS = 600
PATH = "/.well-known/openid-configuration"
TLS = ("TLS_CERTIFICATE_FILE", "TLS_KEY_FILE", "TLS_CLIENT_CA_FILE")


def built(deployment: Deployment, *options: str) -> float:
    began = time.monotonic()
    folder = str(deployment.folder)
    docker("build", "--quiet", *options, "--tag", IMAGE, "--file", f"{folder}/deploy/image/Dockerfile", folder)
    return time.monotonic() - began


def test_image_and_deployment(deployment: Deployment) -> None:
    size = int(docker("image", "inspect", "--format", "{{.Size}}", IMAGE).stdout)
    cold, warm = built(deployment, "--no-cache"), built(deployment)
    ids = [deployment.containers()[service] for service in PROCESSES]
    said = docker("stats", "--no-stream", "--format", "{{.Name}} {{.MemUsage}}", *ids).stdout.splitlines()
    used = {line.split()[0]: float(line.split()[1].removesuffix("MiB")) for line in said}
    print(f"\nimage                     {size / 1e6:8.0f} MB")
    print(f"build, nothing cached     {cold:8.0f} s")
    print(f"build, all cached         {warm:8.1f} s")
    print(f"compose up to ready       {deployment.seconds_to_ready:8.0f} s")
    for name, mebibytes in sorted(used.items()):
        print(f"{name.split('_')[1]:<26}{mebibytes:8.0f} MiB")
    print(f"{'all parts':<26}{sum(used.values()):8.0f} MiB")


@pytest.fixture
def plain(deployment: Deployment) -> Iterator[int]:
    """Port of a second gateway of the same deployment, which listens without TLS."""
    found = deployment.inspected()["gateway"]
    port = free_port()
    kept = [each for each in found["Config"]["Env"] if not each.partition("=")[0].endswith(TLS)]
    mounts = [f"--volume={each['Source']}:{each['Destination']}:ro" for each in found["Mounts"]]
    name = f"{deployment.project}_plain"
    options = (f"--name={name}", f"--publish=127.0.0.1:{port}:8443", f"--network={deployment.network('edge')}")
    labels = (
        "--label",
        f"com.docker.compose.project={deployment.project}",
        "--label",
        "com.docker.compose.service=plain",
    )
    docker(
        "create",
        "--read-only",
        *options,
        *labels,
        *(f"--env={each}" for each in kept),
        *mounts,
        IMAGE,
        "gateway",
        "web",
    )
    for network in ("parts", "data", "events"):
        docker("network", "connect", deployment.network(network), name)
    docker("start", name)
    try:
        until(lambda: answers(port), "the gateway without TLS answers")
        yield port
    finally:
        docker("rm", "--force", name)


def answers(port: int) -> bool:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    try:
        connection.request("GET", "/readyz")
        return connection.getresponse().status == 200
    except OSError:
        return False
    finally:
        connection.close()


def test_tls_beside_plain(deployment: Deployment, plain: int) -> None:
    tls = ssl.create_default_context(cafile=deployment.ca)

    def secured() -> http.client.HTTPConnection:
        return http.client.HTTPSConnection("localhost", deployment.port, context=tls, timeout=30)

    def bare() -> http.client.HTTPConnection:
        return http.client.HTTPConnection("127.0.0.1", plain, timeout=30)

    kept = {name: statistics.median(on_one(opened())) for name, opened in (("plain", bare), ("tls", secured))}
    fresh = {name: statistics.median(on_new(opened)) for name, opened in (("plain", bare), ("tls", secured))}
    print(f"\nrequest, kept connection   plain {kept['plain']:6.2f} ms   TLS {kept['tls']:6.2f} ms")
    print(f"request, new connection    plain {fresh['plain']:6.2f} ms   TLS {fresh['tls']:6.2f} ms")
    print(json.dumps({"tls / plain, kept": round(kept["tls"] / kept["plain"], 2)}))


def asked(connection: http.client.HTTPConnection) -> float:
    began = time.perf_counter()
    connection.request("GET", PATH)
    answer = connection.getresponse()
    answer.read()
    assert answer.status == 200
    return (time.perf_counter() - began) * 1000


def on_one(connection: http.client.HTTPConnection) -> list[float]:
    taken = [asked(connection) for _ in range(ROUNDS)]
    connection.close()
    return taken


def on_new(opened: Callable[[], http.client.HTTPConnection]) -> list[float]:
    taken = []
    for _ in range(ROUNDS // 6):
        connection = opened()
        taken.append(asked(connection))
        connection.close()
    return taken
