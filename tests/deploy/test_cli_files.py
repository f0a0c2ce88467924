"""The files of a deployment: its secrets, its certificates, and what refuses to make them."""

import json
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path

import bcrypt
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError
from tests.support.command import dossier

from dossier_audit.log.notes import NoteKey
from dossier_cli import accounts, certificates
from dossier_cli.errors import Refused
from dossier_common.keys import SigningKey
from dossier_common.tls import Tls
from dossier_common.topology import PARTS

ISSUER = "https://dossier.example:8443"
NOW = datetime(2026, 11, 22, 9, tzinfo=UTC)
SERVERS = [name for name, uses in certificates.USES.items() if certificates.SERVER in uses]
CLIENTS = [name for name, uses in certificates.USES.items() if certificates.CLIENT in uses]


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# -- secrets -----------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the command has filled."""
    folder = tmp_path_factory.mktemp("deployment") / "secrets"
    dossier("secrets", str(folder), "--issuer", ISSUER).success()
    return folder


def test_secrets_are_all_there_and_only_their_folder_is_closed(made: Path) -> None:
    passwords = {f"postgres-{part}-{role}" for part in PARTS for role in ("migrator", "app")}
    passwords |= {"postgres-superuser", "records-keyring-passphrase", *(f"nats-{user}" for user in accounts.USERS)}
    keys = {*(f"{part}-signing-key.pem" for part in PARTS), "gateway-token-key.pem", "audit-log-key.pem"}
    public = {"producer-keys.json", "audit-log.vkey", "accounts.conf"}
    assert set(contents(made)) == passwords | keys | public
    assert made.stat().st_mode & 0o777 == 0o700
    assert {path.stat().st_mode & 0o777 for path in made.iterdir()} == {0o444}
    assert len({(made / name).read_bytes() for name in passwords | keys}) == len(passwords | keys)
    assert all(len((made / name).read_text()) == 43 for name in passwords)


def test_a_second_run_changes_nothing(made: Path) -> None:
    before = contents(made)
    assert dossier("secrets", str(made), "--issuer", ISSUER).success() == "everything is there\n"
    assert dossier("secrets", str(made)).success() == "everything is there\n"
    assert contents(made) == before


def test_what_is_missing_is_made_and_nothing_else_is_touched(tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "postgres-superuser").write_text("chosen by hand")
    made = json.loads(dossier("secrets", str(folder), "--json").success())["made"]
    assert "postgres-superuser" not in made
    assert "audit-log.vkey" not in made, "it has the issuer in it"
    before = contents(folder)
    (folder / "producer-keys.json").unlink()
    assert (
        dossier("secrets", str(folder), DOSSIER_ISSUER=ISSUER).success() == "made: producer-keys.json, audit-log.vkey\n"
    )
    assert {name: content for name, content in contents(folder).items() if name in before} == before


def test_public_files_are_those_of_the_secrets(made: Path) -> None:
    keys = json.loads((made / "producer-keys.json").read_text())
    for part in PARTS:
        assert keys[part] == [SigningKey.read(made / f"{part}-signing-key.pem").public_jwk()]
    vkey = NoteKey.read((made / "audit-log.vkey").read_text())
    assert vkey.name == "dossier.example:8443/v1/audit/log"
    assert vkey.public == SigningKey.read(made / "audit-log-key.pem").public_bytes()
    written = (made / "accounts.conf").read_text()
    users = {user["user"]: user for user in json.loads(written.partition(":")[2])["users"]}
    assert set(users) == set(accounts.USERS)
    for name, user in users.items():
        assert bcrypt.checkpw((made / f"nats-{name}").read_bytes(), user["password"].encode())
        assert user["permissions"]["publish"]["allow"] == list(accounts.publishes(name))


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("producer-keys.json", "[", "is no JSON object"),
        ("producer-keys.json", '{"records": []}', "has not the key of gateway-signing-key.pem"),
        ("accounts.conf", "authorization: {}", "is not what `dossier secrets` writes"),
        ("nats-records", "another", "has another password of records than nats-records"),
        ("audit-log.vkey", "log.example+00000000+AAAA", "is not of audit-log-key.pem and this issuer"),
        ("records-signing-key.pem", "-----BEGIN", "records-signing-key.pem: not an unencrypted key in PEM"),
    ],
)
def test_what_does_not_fit_together_is_said_and_left(
    made: Path, tmp_path: Path, name: str, content: str, expected: str
) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    for path in made.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    (folder / name).write_text(content)
    before = contents(folder)
    assert expected in dossier("secrets", str(folder), "--issuer", ISSUER).refusal()
    assert contents(folder) == before


def test_permissions_of_another_version_are_said(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    for path in made.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    accounts_file = folder / "accounts.conf"
    accounts_file.write_text(accounts_file.read_text().replace("records.v1.>", "records.v0.>"))
    assert "gives other permissions than this version needs" in dossier("secrets", str(folder)).refusal()
    accounts_file.unlink()
    assert dossier("secrets", str(folder)).success() == "made: accounts.conf\n"


def test_a_folder_that_others_may_enter_is_refused_unless_it_is_empty(tmp_path: Path) -> None:
    folder = tmp_path / "open"
    folder.mkdir(mode=0o755)
    (folder / "other").write_text("")
    assert "may be entered by others, and is not empty" in dossier("secrets", str(folder)).refusal()
    assert set(contents(folder)) == {"other"}
    (folder / "other").unlink()
    dossier("certificates", str(folder)).success()
    assert folder.stat().st_mode & 0o777 == 0o700


def test_a_place_that_cannot_be_written_is_said_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for command in ("secrets", "certificates"):
        assert "file cannot be used" in dossier(command, str(tmp_path / "file")).refusal()
    assert dossier("secrets", str(tmp_path / "new"), "--issuer", "dossier.example").status == 2
    assert not (tmp_path / "new").exists()


def test_a_secret_that_is_a_folder_is_said(made: Path, tmp_path: Path) -> None:
    folder = tmp_path / "secrets"
    folder.mkdir(mode=0o700)
    (folder / "records-signing-key.pem").mkdir()
    assert "records-signing-key.pem cannot be read: Is a directory" in dossier("secrets", str(folder)).refusal()
    assert (
        "nats-gateway cannot be read" in dossier("nats-accounts", str(folder / "none"), str(tmp_path / "x")).refusal()
    )
    assert "x cannot be written" in dossier("nats-accounts", str(made), str(tmp_path / "none" / "x")).refusal()


# -- certificates ------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def issued(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that the command has filled."""
    folder = tmp_path_factory.mktemp("deployment") / "certificates"
    arguments = (
        "--host",
        "dossier.example",
        "--host",
        "192.0.2.7",
        "--san",
        "prod-{name}",
        "--san",
        "prod-{name}.ns.svc",
    )
    dossier("certificates", str(folder), *arguments).success()
    return folder


def leaf(folder: Path, name: str) -> x509.Certificate:
    return x509.load_pem_x509_certificate((folder / f"{name}.pem").read_bytes())


def names(certificate: x509.Certificate) -> set[str]:
    found = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    return {str(each.value) for each in found}


def tls(folder: Path, name: str | None = None) -> Tls:
    """As a process of this name has it; without one, a client that has the CA alone."""
    ca = folder / "ca.pem"
    if name is None:
        return Tls(ca=ca)
    return Tls(ca=ca, certificate=folder / f"{name}.pem", key=folder / f"{name}-key.pem", client_ca=ca)


def shaken(server: ssl.SSLContext | None, client: ssl.SSLContext, name: str) -> None:
    """One handshake in memory, to the end on both sides. Raises ssl.SSLError of either."""
    assert server is not None
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    sides = [
        client.wrap_bio(to_client, to_server, server_hostname=name),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    for _ in range(10):
        for side in list(sides):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            sides.remove(side)
        if not sides:
            return
    pytest.fail("the handshake comes to no end")


def test_each_server_is_known_by_each_of_its_names_and_shaken_hands_with(issued: Path) -> None:
    ca = leaf(issued, "ca")
    for name in SERVERS:
        own = names(leaf(issued, name))
        expected = {name, "localhost", "127.0.0.1", f"prod-{name}", f"prod-{name}.ns.svc"}
        assert expected <= own
        assert (f"{name}-worker" in own) == (f"prod-{name}-worker.ns.svc" in own) == (name in PARTS)
        assert ("dossier.example" in own) == ("192.0.2.7" in own) == (name == "gateway")
        for called in own:
            shaken(tls(issued, name).server, tls(issued, "operator").client, called)
            if called not in {"127.0.0.1", "192.0.2.7", "localhost"} and "." in called:
                verifier = PolicyBuilder().store(Store([ca])).build_server_verifier(x509.DNSName(called))
                verifier.verify(leaf(issued, name), [])
        with pytest.raises(ssl.SSLCertVerificationError, match="not valid for"):
            shaken(tls(issued, name).server, tls(issued, "operator").client, "elsewhere")


def test_who_shows_no_certificate_or_one_for_servers_alone_is_refused(issued: Path, tmp_path: Path) -> None:
    server = tls(issued, "records").server
    for client in CLIENTS:
        shaken(server, tls(issued, client).client, "records")
    with pytest.raises(ssl.SSLError, match="PEER_DID_NOT_RETURN_A_CERTIFICATE"):
        shaken(server, tls(issued).client, "records")
    for only_server in set(SERVERS) - set(CLIENTS):
        with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
            shaken(server, tls(issued, only_server).client, "records")
    dossier("certificates", str(tmp_path / "other")).success()
    stranger = Tls(
        ca=issued / "ca.pem", certificate=tmp_path / "other/operator.pem", key=tmp_path / "other/operator-key.pem"
    )
    with pytest.raises(ssl.SSLError, match="CERTIFICATE_VERIFY_FAILED"):
        shaken(server, stranger.client, "records")
    with pytest.raises(ssl.SSLCertVerificationError):
        shaken(server, tls(tmp_path / "other", "operator").client, "records")


def test_a_client_is_no_server(issued: Path) -> None:
    verifier = PolicyBuilder().store(Store([leaf(issued, "ca")])).build_server_verifier(x509.DNSName("operator"))
    with pytest.raises(VerificationError):
        verifier.verify(leaf(issued, "operator"), [])
    with pytest.raises(ssl.SSLCertVerificationError, match="purpose"):
        shaken(tls(issued, "operator").server, tls(issued, "records").client, "operator")


def test_keys_are_of_their_certificates_and_the_key_of_the_ca_is_for_its_owner(issued: Path) -> None:
    for name in ("ca", *certificates.USES):
        key = load_pem_private_key((issued / f"{name}-key.pem").read_bytes(), None)
        assert key.public_key() == leaf(issued, name).public_key()
    modes = {path.name: path.stat().st_mode & 0o777 for path in issued.iterdir()}
    assert modes.pop("ca-key.pem") == 0o400
    assert set(modes.values()) == {0o444}
    assert issued.stat().st_mode & 0o777 == 0o700


def test_certificates_are_made_again_when_they_end_soon_for_the_same_keys(tmp_path: Path) -> None:
    certificates.make(tmp_path / "c", ["a.example"], ["x-{name}"], NOW)
    before = contents(tmp_path / "c")
    almost = NOW + timedelta(days=certificates.DAYS - certificates.RENEW_DAYS)
    assert certificates.make(tmp_path / "c", [], [], almost) == certificates.Done((), (), ())
    done = certificates.make(tmp_path / "c", [], [], almost + timedelta(seconds=1))
    assert (done.made, done.renewed) == ((), tuple(certificates.USES))
    after = contents(tmp_path / "c")
    kept = {name for name in before if before[name] == after[name]}
    assert kept == {"ca.pem", *(name for name in before if name.endswith("-key.pem"))}
    assert names(leaf(tmp_path / "c", "gateway")) >= {"a.example", "x-gateway"}, "names that were given once stay"


def test_a_new_name_makes_a_certificate_again_and_what_is_gone_comes_back(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    dossier("certificates", str(folder)).success()
    assert dossier("certificates", str(folder)).success() == "everything is there\n"
    assert dossier("certificates", str(folder), "--host", "b.example").success() == "renewed: gateway\n"
    (folder / "nats-key.pem").unlink()
    (folder / "audit.pem").unlink()
    said = json.loads(dossier("certificates", str(folder), "--json").success())
    assert said == {"made": ["audit"], "renewed": ["nats"], "left": []}
    shaken(tls(folder, "nats").server, tls(folder, "audit").client, "nats")


def test_a_certificate_of_another_ca_is_left_as_it_is(tmp_path: Path, issued: Path) -> None:
    folder = tmp_path / "c"
    dossier("certificates", str(folder)).success()
    (folder / "gateway.pem").chmod(0o600)
    (folder / "gateway.pem").write_bytes((issued / "gateway.pem").read_bytes())
    said = dossier("certificates", str(folder), "--host", "c.example").success()
    assert said == "of another CA, left as they are: gateway\neverything is there\n"
    assert leaf(folder, "gateway") == leaf(issued, "gateway")


def test_the_key_of_the_ca_may_be_elsewhere_until_it_is_needed(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    dossier("certificates", str(folder)).success()
    away = folder / "ca-key.pem"
    kept = away.rename(tmp_path / "ca-key.pem")
    assert dossier("certificates", str(folder)).success() == "everything is there\n"
    before = contents(folder)
    assert (
        "ca-key.pem is not there: put it back" in dossier("certificates", str(folder), "--host", "d.example").refusal()
    )
    assert contents(folder) == before
    kept.rename(away)
    dossier("certificates", str(folder), "--host", "d.example").success()


@pytest.mark.parametrize(
    ("name", "content", "expected"),
    [
        ("ca.pem", "rubbish", "ca.pem: no certificate in PEM"),
        ("ca.pem", None, "ca-key.pem is there and"),
        ("ca-key.pem", "rubbish", "ca-key.pem: no unencrypted key in PEM"),
        ("ca-key.pem", "another", "is not the key of"),
        ("records.pem", "rubbish", "records.pem: no certificate in PEM"),
    ],
)
def test_files_that_are_no_certificates_are_said(
    tmp_path: Path, issued: Path, name: str, content: str | None, expected: str
) -> None:
    folder = tmp_path / "c"
    dossier("certificates", str(folder)).success()
    (folder / name).unlink()
    if content is not None:
        (folder / name).write_text((issued / name).read_text() if content == "another" else content)
    before = contents(folder)
    assert expected in dossier("certificates", str(folder)).refusal()
    assert contents(folder) == before


def test_a_ca_that_ends_is_said_and_kept(tmp_path: Path) -> None:
    folder = tmp_path / "c"
    certificates.make(folder, [], [], NOW)
    late = NOW + timedelta(days=certificates.CA_DAYS - 100)
    certificates.make(folder, [], [], late)
    assert leaf(folder, "nats").not_valid_after_utc == leaf(folder, "ca").not_valid_after_utc
    with pytest.raises(Refused, match="ends on 2036"):
        certificates.make(folder, [], [], late + timedelta(days=50))


@pytest.mark.parametrize("host", ["two words", "", "a/b", "名字"])
def test_a_name_that_is_none_is_refused(tmp_path: Path, host: str) -> None:
    assert "names of hosts are ASCII" in dossier("certificates", str(tmp_path / "c"), "--host", host).refusal()
