"""Settings that are wrong end the process with one line; keys are Ed25519 and nothing else."""

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

from dossier_common.ids import new_id
from dossier_common.keys import SigningKey, VerifyingKeys
from dossier_common.settings import PartSettings, load


class Settings(PartSettings):
    model_config = SettingsConfigDict(env_prefix="DOSSIER_SAMPLE_", frozen=True)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    for name, content in {"key": SigningKey.generate().pem(), "password": b"secret\n", "json": b"{}"}.items():
        (tmp_path / name).write_bytes(content)
    for name, value in {
        "DOSSIER_SAMPLE_DATABASE_URL": "postgresql://sample_app@/dossier_sample?host=/run",
        "DOSSIER_SAMPLE_DATABASE_PASSWORD_FILE": tmp_path / "password",
        "DOSSIER_SAMPLE_SIGNING_KEY_FILE": tmp_path / "key",
        "DOSSIER_ISSUER": "https://dossier.example",
        "DOSSIER_PEERS_FILE": tmp_path / "json",
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


@pytest.mark.parametrize("name", ["password", "key", "json"])
def test_file_that_is_not_there_is_named(environment: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    (tmp_path / name).unlink()
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    assert line_of(ended).endswith(f"{tmp_path / name}: No such file or directory")


@pytest.mark.parametrize("content", [b"{", b"\xff", b"[]", b""])
def test_file_that_is_no_json_is_named(environment: pytest.MonkeyPatch, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "json").write_bytes(content)
    with pytest.raises(SystemExit) as ended:
        load(Settings)
    assert line_of(ended).startswith("json: not ")


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
