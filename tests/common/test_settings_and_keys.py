"""Settings that are wrong end the process with one line; keys are Ed25519 and nothing else."""

import json
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1
from cryptography.hazmat.primitives.asymmetric.ec import generate_private_key as generate_ec
from cryptography.hazmat.primitives.asymmetric.ed448 import Ed448PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from joserfc.jwk import ECKey, OctKey, OKPKey
from pydantic_settings import SettingsConfigDict
from tests.support.certificates import Authority

from dossier_common.ids import new_id
from dossier_common.keys import SigningKey, VerifyingKeys
from dossier_common.settings import PartSettings, load


class Settings(PartSettings):
    model_config = SettingsConfigDict(env_prefix="DOSSIER_SAMPLE_", frozen=True)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    content_of = {"key": SigningKey.generate().pem(), "password": b"secret\n", "json": b"{}", "peers.json": b"{}"}
    for name, content in content_of.items():
        (tmp_path / name).write_bytes(content)
    for name, value in {
        "DOSSIER_SAMPLE_DATABASE_URL": "postgresql://sample_app@/dossier_sample?host=/run",
        "DOSSIER_SAMPLE_DATABASE_PASSWORD_FILE": tmp_path / "password",
        "DOSSIER_SAMPLE_SIGNING_KEY_FILE": tmp_path / "key",
        "DOSSIER_ISSUER": "https://dossier.example",
        "DOSSIER_PEERS_FILE": tmp_path / "peers.json",
        "DOSSIER_PRODUCER_KEYS_FILE": tmp_path / "json",
        "DOSSIER_POLICY": tmp_path / "pack.yaml",
        "DOSSIER_API_DIR": tmp_path,
    }.items():
        monkeypatch.setenv(name, str(value))
    return monkeypatch


def line_of(ended: pytest.ExceptionInfo[SystemExit]) -> str:
    text = str(ended.value.code)
    assert "\n" not in text
    assert "secret" not in text
    return text


def told() -> str:
    """What is said of settings that are not valid."""
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    return line_of(ended).partition("settings are not valid: ")[2]


def test_settings_come_from_the_environment(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "peers").write_text('{"records": "http://127.0.0.1:4101/"}')
    environment.setenv("DOSSIER_PEERS_FILE", str(tmp_path / "peers"))
    settings = load(Settings)
    assert settings.database_password == "secret"
    assert settings.common.issuer == "https://dossier.example"
    assert settings.common.peers == {"records": "http://127.0.0.1:4101"}


@pytest.mark.parametrize(
    "name", ["DOSSIER_SAMPLE_DATABASE_URL", "DOSSIER_SAMPLE_SIGNING_KEY_FILE", "DOSSIER_ISSUER", "DOSSIER_POLICY"]
)
def test_missing_setting_is_named(environment: pytest.MonkeyPatch, name: str) -> None:
    environment.delenv(name)
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    assert f"{name}: Field required" in line_of(ended)


def test_wrong_settings_are_all_named(environment: pytest.MonkeyPatch) -> None:
    environment.setenv("DOSSIER_SAMPLE_DATABASE_POOL", "0")
    environment.setenv("DOSSIER_SAMPLE_LISTEN_PORT", "secret")
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    line = line_of(ended)
    assert "DOSSIER_SAMPLE_DATABASE_POOL: " in line
    assert "DOSSIER_SAMPLE_LISTEN_PORT: " in line


FILES = {
    "password": "DOSSIER_SAMPLE_DATABASE_PASSWORD_FILE",
    "key": "DOSSIER_SAMPLE_SIGNING_KEY_FILE",
    "json": "DOSSIER_PRODUCER_KEYS_FILE",
    "peers.json": "DOSSIER_PEERS_FILE",
}


@pytest.mark.parametrize("name", FILES)
def test_file_that_is_not_there_is_named(environment: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / name).unlink()
    assert told() == f"{FILES[name]}: cannot read {tmp_path / name}: No such file or directory"


@pytest.mark.parametrize(
    ("name", "content"),
    [(name, content) for name in FILES for content in (b"{", b"\xff", b"[]", b"") if name != "password" or not content],
)
def test_file_that_holds_something_else_is_named(
    environment: pytest.MonkeyPatch, tmp_path: Path, name: str, content: bytes
) -> None:
    (tmp_path / name).write_bytes(content)
    assert told().startswith(f"{FILES[name]}: ")
    assert name in told()


@pytest.mark.parametrize(
    ("name", "value", "expected"),
    [
        ("DATABASE_URL", "mysql://sample_app@db/x", "not an address as postgresql://"),
        ("DATABASE_URL", "postgresql+psycopg://sample_app@db/x", "not an address as postgresql://"),
        ("DATABASE_URL", "db.example", "not a postgresql:// address"),
        ("DATABASE_URL", "postgresql://sample_app@db:port/x", "not a postgresql:// address"),
        ("DATABASE_URL", "postgresql://db/x", "not an address as postgresql://"),
        ("DATABASE_URL", "postgresql://sample_app:secret@db/x", "the password stands in the file"),
        ("DATABASE_URL", "postgresql://sample_app@db/x?sslrootcert=/ca", "sslrootcert is not known here"),
        ("DATABASE_URL", "postgresql://sample_app@db/x?sslmode=allow", "sslmode is one of"),
        ("DATABASE_URL", "postgresql://sample_app@db/x?sslmode=verify-ca", "sslmode=verify-ca needs DOSSIER_CA_FILE"),
        ("NATS_URL", "http://nats:4222", "not an address that begins with nats:// or tls://"),
        ("NATS_URL", "tls://", "not an address that begins with nats:// or tls://"),
    ],
)
def test_wrong_address_is_named(environment: pytest.MonkeyPatch, name: str, value: str, expected: str) -> None:
    environment.setenv(f"DOSSIER_SAMPLE_{name}", value)
    assert told().startswith(f"DOSSIER_SAMPLE_{name}: {expected}")


def test_wrong_addresses_of_others_are_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "peers.json").write_text('{"records": "records:8000"}')
    assert told() == "DOSSIER_PEERS_FILE: not an address that begins with http:// or https://"
    environment.setenv("DOSSIER_ISSUER", "dossier.example")
    assert told() == "DOSSIER_ISSUER: not an address that begins with http:// or https://"


def test_key_whose_public_half_the_others_do_not_have_is_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "json").write_text(json.dumps({"sample": [SigningKey.generate().public_jwk()]}))
    assert told() == (
        f"DOSSIER_SAMPLE_SIGNING_KEY_FILE: {tmp_path / 'key'} has no public key in DOSSIER_PRODUCER_KEYS_FILE"
    )
    (tmp_path / "json").write_text('{"sample": [{"kty": "OKP"}]}')
    assert told() == (f"DOSSIER_PRODUCER_KEYS_FILE: {tmp_path / 'json'}: the keys of sample are not Ed25519 JWKs")


def test_certificates_that_cannot_be_used_are_named(environment: pytest.MonkeyPatch, tmp_path: Path) -> None:
    authority = Authority(tmp_path / "ca")
    for name in ("one", "other"):
        authority.certify(name)
    certificate, key = authority.certificate("one"), authority.key("one")
    environment.setenv("DOSSIER_SAMPLE_TLS_CERTIFICATE_FILE", str(certificate))
    named = "DOSSIER_SAMPLE_TLS_CERTIFICATE_FILE: "
    assert told() == f"{named}TLS_CERTIFICATE_FILE and TLS_KEY_FILE are set both or neither"
    environment.setenv("DOSSIER_SAMPLE_TLS_KEY_FILE", str(authority.key("other")))
    assert told() == f"{named}{authority.key('other')}: not the key of the certificate in {certificate}"
    environment.setenv("DOSSIER_SAMPLE_TLS_KEY_FILE", str(key))
    environment.setenv("DOSSIER_CA_FILE", str(key))
    assert told() == f"{named}{key}: no certificates in PEM"
    environment.setenv("DOSSIER_CA_FILE", str(tmp_path / "none"))
    assert told() == f"{named}cannot read {tmp_path / 'none'}: No such file or directory"
    environment.setenv("DOSSIER_CA_FILE", str(authority.ca))
    assert load(Settings).tls.server is not None
    key.write_bytes(
        load_pem_private_key(key.read_bytes(), None).private_bytes(
            Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x")
        )
    )
    assert told() == f"{named}{certificate}, {key}: not a certificate and its unencrypted key in PEM"


def test_settings_are_frozen(environment: pytest.MonkeyPatch) -> None:
    settings = load(Settings)
    with pytest.raises(ValueError, match="frozen"):
        settings.max_body = 1  # type: ignore[misc]  # which is what is shown


# -- keys


def pem(key: Ed448PrivateKey | X25519PrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def test_key_is_read_as_it_was_written(tmp_path: Path) -> None:
    key = SigningKey.generate()
    (tmp_path / "key").write_bytes(key.pem())
    read = SigningKey.read(tmp_path / "key")
    assert read.kid == key.kid
    assert VerifyingKeys([key.public_jwk()]).holds(read.sign(b"text"), b"text")
    assert "d" not in key.public_jwk()


def test_other_kinds_of_keys_are_refused(tmp_path: Path) -> None:
    private = load_pem_private_key(SigningKey.generate().pem(), password=None)
    sealed = private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(b"x"))
    public = private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    curve = generate_ec(SECP256R1()).private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    for content in (b"", b"nonsense", sealed, public, curve, pem(Ed448PrivateKey.generate())):
        (tmp_path / "key").write_bytes(content)
        with pytest.raises(ValueError, match=r"^key: not an"):
            SigningKey.read(tmp_path / "key")


def test_other_kinds_of_public_keys_are_refused() -> None:
    x25519 = OKPKey.import_key(pem(X25519PrivateKey.generate())).as_dict(private=False)
    for jwk in (x25519, ECKey.generate_key("P-256").as_dict(private=False), OctKey.generate_key(256).as_dict(), {}):
        with pytest.raises(ValueError, match="not an Ed25519 key"):
            VerifyingKeys([dict(jwk)])


def test_any_of_the_keys_holds_while_they_rotate() -> None:
    old, new, strange = SigningKey.generate(), SigningKey.generate(), SigningKey.generate()
    keys = VerifyingKeys([old.public_jwk(), new.public_jwk()])
    assert keys.holds(old.sign(b"x"), b"x")
    assert keys.holds(new.sign(b"x"), b"x")
    assert not keys.holds(strange.sign(b"x"), b"x")
    assert not keys.holds(new.sign(b"x"), b"y")
    for signature in (b"", b"x", bytes(64), bytes(65)):
        assert not keys.holds(signature, b"x")
    assert not VerifyingKeys([]).holds(old.sign(b"x"), b"x")


def test_derived_secrets_differ_by_purpose_and_key() -> None:
    one, two = SigningKey.generate(), SigningKey.generate()
    assert one.derive("a") == one.derive("a")
    assert len({one.derive("a"), one.derive("b"), two.derive("a")}) == 3


def test_ids_sort_by_their_making() -> None:
    ids = [new_id() for _ in range(5000)]
    assert ids == sorted(ids)
    assert {each.version for each in ids} == {7}
