"""Who reaches what: from a container on the services' networks that is no part, and from this machine."""

import json

import pytest
from tests.compose.engine import Deployment, docker

from dossier_common.topology import PARTS

POSTGRES = """
import asyncio, asyncpg, ssl
async def attempt(user, database, password, ssl):
    try:
        connection = await asyncpg.connect(host="postgres", user=user, database=database, password=password, ssl=ssl)
        found = await connection.fetchval("SELECT current_user")
        await connection.close()
        return found
    except (asyncpg.PostgresError, OSError) as error:
        return type(error).__name__
async def main():
    tls = ssl.create_default_context(cafile="/run/ca.pem")
    for user, database, password in CASES:
        print(await attempt(user, database, password, tls))
asyncio.run(main())
"""
NATS = """
import asyncio, nats, ssl
async def ignore(error): pass
async def attempt(user, password, certificate):
    tls = ssl.create_default_context(cafile="/run/ca.pem")
    if certificate:
        tls.load_cert_chain(f"/run/{certificate}.pem", f"/run/{certificate}-key.pem")
    given = {"user": user, "password": password} if user else {}
    try:
        return await nats.connect("tls://nats:4222", tls=tls, allow_reconnect=False, connect_timeout=20,
                                  error_cb=ignore, inbox_prefix=f"_INBOX_{user}".encode(), **given)
    except Exception as error:
        return type(error).__name__
"""
CONNECT = """
async def main():
    for case in CASES:
        client = await attempt(*case)
        print(client if isinstance(client, str) else "connected")
        if not isinstance(client, str):
            await client.close()
asyncio.run(main())
"""
PERMISSIONS = """
async def main():
    client = await attempt(USER, PASSWORD, USER)
    refused = asyncio.Queue()
    async def told(error): await refused.put(str(error))
    client._error_cb = told
    async def word():
        await client.flush(20)
        print((await asyncio.wait_for(refused.get(), 30)).lower())
    for subject in PUBLISHED:
        await client.publish(subject, b"{}")
        await word()
    for subject in SUBSCRIBED:
        await client.subscribe(subject)
        await word()
    await client.close()
asyncio.run(main())
"""
HTTPS = """
import http.client, ssl
for host, port, certificate in CASES:
    tls = ssl.create_default_context(cafile="/run/ca.pem")
    if certificate:
        tls.load_cert_chain(f"/run/{certificate}.pem", f"/run/{certificate}-key.pem")
    connection = http.client.HTTPSConnection(host, port, context=tls, timeout=30)
    try:
        connection.request("GET", "/healthz")
        print(connection.getresponse().status)
    except (OSError, http.client.HTTPException) as error:
        print("refused", type(error).__name__)
"""


def said(done: object) -> list[str]:
    output = getattr(done, "stdout", "")
    assert getattr(done, "returncode", 1) == 0, getattr(done, "stderr", "")
    return str(output).splitlines()


def test_only_the_gateways_port_is_published(deployment: Deployment) -> None:
    published = {
        service: [port for ports in each["NetworkSettings"]["Ports"].values() for port in ports or ()]
        for service, each in deployment.inspected().items()
    }
    assert {port["HostPort"] for port in published.pop("gateway")} == {str(deployment.port)}
    assert not any(published.values())


@pytest.mark.invariant(4)
def test_the_database_of_a_part_takes_that_part_alone(deployment: Deployment) -> None:
    password = deployment.secret("postgres-records-app").read_text().strip()
    cases = [
        ("records_app", "dossier_records", password),
        *(("records_app", f"dossier_{part}", password) for part in PARTS if part != "records"),
        *((f"{part}_app", f"dossier_{part}", password) for part in PARTS if part != "records"),
        ("postgres", "postgres", password),
        ("records_owner", "dossier_records", password),
        ("records_app", "dossier_records", None),
    ]
    answers = said(deployment.python("data", f"CASES = {cases!r}\n{POSTGRES}"))
    assert answers[0] == "records_app", "the password is the right one"
    assert len(answers) == len(cases)
    assert set(answers[1:5]) == {"InsufficientPrivilegeError"}
    assert set(answers[5:]) <= {"InvalidPasswordError", "InvalidAuthorizationSpecificationError", "InternalClientError"}


def test_nats_takes_nobody_without_certificate_and_password_of_one_user(deployment: Deployment) -> None:
    password = deployment.secret("nats-records").read_text().strip()
    cases = [
        ("records", password, "records"),
        *((part, password, "records") for part in PARTS if part != "records"),
        ("operator", password, "records"),
        ("", "", "records"),
        ("records", password, ""),
    ]
    answers = said(deployment.python("events", f"CASES = {cases!r}\n{NATS}{CONNECT}", "records"))
    assert answers[0] == "connected"
    assert len(answers) == len(cases)
    assert "connected" not in answers[1:]


def test_a_user_of_nats_neither_speaks_for_another_part_nor_listens_to_its_answers(deployment: Deployment) -> None:
    published = ["approvals.v1.grant.issued", "audit.receipts.approvals", "approvals.heartbeat", "$JS.API.STREAM.LIST"]
    subscribed = ["audit.v1.>", "_INBOX_approvals.>", "_INBOX_audit.>", "audit.receipts.approvals", ">"]
    password = deployment.secret("nats-records").read_text().strip()
    program = f"USER, PASSWORD, PUBLISHED, SUBSCRIBED = 'records', {password!r}, {published!r}, {subscribed!r}\n"
    answers = said(deployment.python("events", f"{program}{NATS}{PERMISSIONS}", "records"))
    assert len(answers) == len(published) + len(subscribed)
    assert all("permissions violation" in answer for answer in answers), answers


def test_a_part_takes_no_connection_without_a_certificate(deployment: Deployment) -> None:
    listening = [(part, 8000) for part in PARTS if part != "gateway"] + [(f"{part}-worker", 8001) for part in PARTS]
    cases = [
        *((*each, "") for each in listening),
        *((*each, "prometheus") for each in listening),
        ("gateway", 8443, ""),
    ]
    answers = said(deployment.python("parts", f"CASES = {cases!r}\n{HTTPS}", "prometheus"))
    assert all(answer.startswith("refused") for answer in answers[: len(listening)]), answers
    assert set(answers[len(listening) :]) == {"200"}


def test_the_networks_of_the_services_have_no_way_out(deployment: Deployment) -> None:
    names = {name: deployment.network(name) for name in ("edge", "parts", "data", "events", "witnesses")}
    found = {each["Name"]: each for each in json.loads(docker("network", "inspect", *names.values()).stdout)}
    internal = {name for name, full in names.items() if found[full]["Internal"]}
    assert internal == {"parts", "data", "events"}
    here = {service: container[:12] for service, container in deployment.containers().items()}
    on_edge = {container[:12] for container in found[names["edge"]]["Containers"]}
    assert on_edge == {here["gateway"]}


def test_each_container_has_its_own_secrets_and_no_other(deployment: Deployment) -> None:
    for part in PARTS:
        for service in (part, f"{part}-worker"):
            found = docker("exec", deployment.containers()[service], "ls", "/run/secrets").stdout.split()
            others = [other for other in PARTS if other != part]
            assert not [name for name in found for other in others if other in name and name != "audit-log.vkey"], found
            assert not {"postgres-superuser", "ca-key.pem", "nats-operator"} & set(found)
            assert not [name for name in found if "migrator" in name]


def test_a_part_whose_secret_is_missing_says_so_in_one_line(deployment: Deployment) -> None:
    environment = deployment.inspected()["records"]["Config"]["Env"]
    given = [f"--env={each}" for each in environment if each.startswith("DOSSIER_")]
    options = ("run", "--rm", "--read-only", "--network=none", "--no-healthcheck")
    done = docker(*options, *given, deployment.variables["DOSSIER_IMAGE"], "records", "web", check=False)
    assert done.returncode == 1
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert "cannot read" in done.stderr


def test_no_secret_stands_in_the_configuration_of_a_container(deployment: Deployment) -> None:
    folder = deployment.secret("x").parent
    public = {"producer-keys.json", "audit-log.vkey", "accounts.conf"}
    texts = [path.read_text() for path in folder.iterdir() if path.name not in public]
    known = {line.strip() for text in texts for line in text.splitlines() if len(line) > 20 and "-----" not in line}
    assert len(known) >= len(texts) - 1, "a password or a key each, but for the ring of the tokens' keys"
    shown = json.dumps(deployment.inspected())
    assert not [line for line in known if line in shown]
