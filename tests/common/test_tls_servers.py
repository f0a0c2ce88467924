"""TLS towards PostgreSQL and NATS: what is verified, and that nothing is said in plain text where TLS was asked for."""

import asyncio
import gc
import json
import socket
import ssl
import threading
import warnings
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest
from sqlalchemy import make_url, text
from structlog.testing import capture_logs
from tests.common.line import ProducerSettings
from tests.support.certificates import Authority
from tests.support.listening import free_port, tls_front
from tests.support.parts import settings_of
from tests.support.waiting import eventually

from dossier_common.broker import BrokerClient, Troubles
from dossier_common.database import Database
from dossier_common.schema import Schema
from dossier_common.standing import Standing
from dossier_common.tls import Tls
from dossier_local import broker
from dossier_local.cluster import Cluster


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("ca"))
    for name in ("server", "client"):
        made.certify(name)
    made.certify("elsewhere", "elsewhere.example")
    return made


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    made = Authority(tmp_path_factory.mktemp("stranger"))
    made.certify("server")
    return made


# -- PostgreSQL


def settings_at(cluster: Cluster, port: int, mode: str, ca: Path | None) -> ProducerSettings:
    found = settings_of(cluster, "retention", ProducerSettings)
    common = found.common.model_copy(update={"ca_file": ca})
    url = f"postgresql://retention_app@127.0.0.1:{port}/dossier_retention{mode}"
    return found.model_copy(update={"database_url": url, "common": common})


async def met(cluster: Cluster, port: int, mode: str, ca: Path | None) -> str:
    """What a part says of the database at this port."""
    settings = settings_at(cluster, port, mode, ca)
    database, standing = Database(settings), Standing("retention")
    standing.watch(database, Schema.read("retention", settings.common.installed))
    try:
        with capture_logs() as logs:
            await standing.look()
        if standing.open:
            async with database.session() as session:
                assert (await session.execute(text("SELECT 1"))).scalar_one() == 1
        return f"{logs[0]['status']}: {logs[0]['detail']}"
    finally:
        await database.close()


@pytest.mark.parametrize("mode", ["?sslmode=verify-full", "?sslmode=verify-ca", "?sslmode=require", ""])
async def test_a_database_that_is_what_it_should_be_is_used_by_tls(
    cluster: Cluster, authority: Authority, mode: str
) -> None:
    async with tls_front(cluster.postgres.sockets, authority.tls("server").server) as port:
        assert (await met(cluster, port, mode, authority.ca)).startswith("ready")


@pytest.mark.parametrize(
    ("mode", "status"),
    [("?sslmode=verify-full", "database-untrusted"), ("", "database-untrusted"), ("?sslmode=verify-ca", "ready")],
)
async def test_a_database_of_another_name_is_taken_only_where_no_name_was_asked_for(
    cluster: Cluster, authority: Authority, mode: str, status: str
) -> None:
    async with tls_front(cluster.postgres.sockets, authority.tls("elsewhere").server) as port:
        said = await met(cluster, port, mode, authority.ca)
    assert said.startswith(status)
    assert status == "ready" or "IP address mismatch" in said


@pytest.mark.parametrize(
    ("mode", "status"),
    [
        ("?sslmode=verify-full", "database-untrusted"),
        ("?sslmode=verify-ca", "database-untrusted"),
        ("", "database-untrusted"),
        ("?sslmode=require", "ready"),
    ],
)
async def test_a_database_of_another_ca_is_taken_only_where_nobody_is_verified(
    cluster: Cluster, authority: Authority, stranger: Authority, mode: str, status: str
) -> None:
    async with tls_front(cluster.postgres.sockets, stranger.tls("server").server) as port:
        said = await met(cluster, port, mode, authority.ca)
    assert said.startswith(status)
    assert status == "ready" or "unable to get local issuer certificate" in said


@pytest.mark.parametrize("mode", ["?sslmode=verify-full", "?sslmode=verify-ca", "?sslmode=require", ""])
async def test_a_database_without_tls_is_not_used_where_it_was_asked_for(
    cluster: Cluster, authority: Authority, mode: str
) -> None:
    async with tls_front(cluster.postgres.sockets, None) as port:
        assert (await met(cluster, port, mode, authority.ca)).startswith("database-untrusted: the database is not")


def test_an_address_without_a_mode_is_plain_text_only_without_a_ca(authority: Authority) -> None:
    plain, verified = Tls(), Tls(ca=authority.ca)
    for mode in ("", "?sslmode=prefer"):
        url = make_url(f"postgresql://a@db/b{mode}")
        assert plain.database(url) is False
        context = verified.database(url)
        assert isinstance(context, ssl.SSLContext)
        assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
        assert context is not verified.client  # which httpx tells to speak of HTTP
    assert verified.database(make_url("postgresql://a@db/b?sslmode=disable")) is False
    assert verified.database(make_url("postgresql://a@/b?host=/run/postgresql")) is False


# -- NATS


@asynccontextmanager
async def nats_server(folder: Path, authority: Authority, name: str) -> AsyncIterator[int]:
    """A server that takes only TLS with a certificate of the CA."""
    port, configuration = free_port(), folder / "nats.conf"
    configuration.write_text(
        f'tls {{ cert_file: "{authority.certificate(name)}", key_file: "{authority.key(name)}", '
        f'ca_file: "{authority.ca}", verify: true }}\n'
    )
    command = (str(broker._server()), "--config", str(configuration), "--addr", "127.0.0.1", "--port", str(port))
    with (folder / "log").open("wb") as log:
        process = await asyncio.create_subprocess_exec(*command, stdout=log, stderr=log)

    async def listens() -> bool:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return False
        writer.close()
        return True

    try:
        await eventually(listens, True)  # noqa: FBT003  # what is expected
        yield port
    finally:
        process.terminate()
        await process.wait()


async def connected(port: int, tls: Tls) -> list[str | None]:
    """Connects, or tells what kept the client from it at first."""
    client, troubles = BrokerClient(), Troubles()
    with capture_logs() as logs:
        connecting = asyncio.create_task(
            client.connect(
                f"tls://127.0.0.1:{port}",
                tls=tls.client,
                error_cb=troubles.report,
                max_reconnect_attempts=-1,
                reconnect_time_wait=1,
                user="retention",
                password="not for everybody",
            )
        )

        async def told() -> bool:
            return client.is_connected or bool(logs)

        await eventually(told, True)  # noqa: FBT003  # what is expected
        connecting.cancel()
        await asyncio.gather(connecting, return_exceptions=True)
        await client.close()
    return [line["reason"] for line in logs[:1]]


async def test_nats_is_connected_to_when_its_certificate_has_been_renewed(tmp_path: Path, authority: Authority) -> None:
    own = Authority(tmp_path / "own")
    tls = Tls(ca=own.ca, certificate=authority.certificate("client"), key=authority.key("client"))
    client, troubles = BrokerClient(), Troubles()

    async def connected_now() -> bool:
        return bool(client.is_connected)

    with capture_logs() as logs:
        async with nats_server(tmp_path, authority, "server") as port:
            address = f"tls://127.0.0.1:{port}"
            connecting = asyncio.create_task(
                client.connect(address, tls=tls.client, error_cb=troubles.report, max_reconnect_attempts=-1)
            )

            async def told() -> int:
                return len(logs)

            await eventually(told, 1)
            own.ca.write_bytes(authority.ca.read_bytes())
            tls.renew()
            await eventually(connected_now, True)  # noqa: FBT003  # what is expected
            await connecting
            await client.close()


async def test_nats_is_verified_and_shown_a_certificate(
    tmp_path: Path, authority: Authority, stranger: Authority
) -> None:
    async with nats_server(tmp_path, authority, "server") as port:
        assert await connected(port, authority.tls("client")) == []
        assert await connected(port, Tls(ca=stranger.ca)) == ["unable to get local issuer certificate"]
        assert len(await connected(port, authority.tls())) == 1


async def test_nats_of_another_name_is_not_used(tmp_path: Path, authority: Authority) -> None:
    async with nats_server(tmp_path, authority, "elsewhere") as port:
        (reason,) = await connected(port, authority.tls("client"))
    assert reason is not None
    assert "IP address mismatch" in reason


async def test_no_password_is_sent_to_who_says_that_nats_needs_no_tls(authority: Authority) -> None:
    heard = b""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        writer.write(b"INFO " + json.dumps({"version": "2.14.0", "max_payload": 1048576}).encode() + b"\r\n")
        heard += await reader.read(65536)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        assert len(await connected(server.sockets[0].getsockname()[1], authority.tls("client"))) == 1
    assert heard[:1] == b"\x16"  # the beginning of a handshake
    assert b"not for everybody" not in heard


@contextmanager
def a_server_that_says_no_farewell(authority: Authority) -> Iterator[int]:
    """Does all that NATS does at first, and reads no more after it: its end of the connection never closes."""
    done = threading.Event()

    def serve() -> None:
        plain, _ = listener.accept()
        plain.sendall(b"INFO " + json.dumps({"version": "2.14.0", "max_payload": 1048576}).encode() + b"\r\n")
        context = authority.tls("server").server
        assert context is not None
        with context.wrap_socket(plain, server_side=True) as taken:
            heard = b""
            while b"PING\r\n" not in heard:
                heard += taken.recv(65536)
            taken.sendall(b"PONG\r\n")
            done.wait()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(60)
        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            done.set()
            thread.join()


async def test_no_connection_outlives_its_client_though_the_other_end_says_no_farewell(authority: Authority) -> None:
    with a_server_that_says_no_farewell(authority) as port, warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        client = BrokerClient()
        await client.connect(f"tls://127.0.0.1:{port}", tls=authority.tls("client").client, allow_reconnect=False)
        await client.close()
        del client
        gc.collect()
    assert [str(each.message) for each in warned] == []


async def test_a_trouble_is_said_once_until_the_connection_is_back() -> None:
    troubles = Troubles()
    with capture_logs() as logs:
        for _ in range(3):
            await troubles.report(ConnectionRefusedError())
        await troubles.report(OSError())
        await troubles.forget()
        await troubles.report(OSError())
    assert [line["error"] for line in logs] == ["ConnectionRefusedError", "OSError", "OSError"]
