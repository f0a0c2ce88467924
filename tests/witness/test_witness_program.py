"""The command: keys, configuration, serving, being killed, and two of them on one state file."""

import random
import stat
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime
from pathlib import Path
from threading import Event

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    KeySerializationEncryption,
    NoEncryption,
    PrivateFormat,
)
from tests.witness.logbook import ORIGIN, WITNESS, Log, LogKey, cosigned_at, leaf
from tests.witness.programs import Running, command, configure, free_port, keygen, running

from dossier_witness.config import Config, ConfigUnusable, read_cosigner

# -- keygen, run, show ------------------------------------------------------------------------------------------------


def test_a_new_witness_serves_is_shown_and_ends_with_status_0_when_asked(tmp_path: Path) -> None:
    log = Log(LogKey())
    config = configure(tmp_path, log.key.vkey)
    vkey = keygen(config)
    assert vkey.startswith(f"{WITNESS}+")
    assert command("show", "--config", str(config)).stdout == f"{vkey}\n\n# {ORIGIN}: nothing cosigned yet\n"
    with running(config) as witness:
        answer = witness.post(log.request(0, 7))
        assert answer.status_code == 200, answer.text
        assert cosigned_at(vkey, log.checkpoint(7), answer.text)
        shown = witness.shown()
        assert shown == log.checkpoint(7) + answer.text
        assert witness.post(log.forked(2).request(7, 7)).status_code == 422
        assert shown in command("show", "--config", str(config)).stdout, "while it runs"
    assert witness.process.returncode == 0
    said = command("show", "--config", str(config)).stdout
    assert shown in said
    assert f"# FORK of {ORIGIN} at size 7" in said
    assert log.forked(2).checkpoint(7) in said
    assert [line["event"] for line in witness.said()][:2] == ["the witness starts", "cosigned"]
    assert witness.said()[2]["level"] == "critical"
    assert all(datetime.fromisoformat(str(line["time"])).tzinfo for line in witness.said())


def test_key_and_state_are_for_the_owner_alone_and_made_once(tmp_path: Path) -> None:
    config = configure(tmp_path, LogKey().vkey)
    keygen(config)
    assert {path.name for path in tmp_path.iterdir()} == {"witness.toml", "key.pem", "state.sqlite"}
    for name in ("key.pem", "state.sqlite"):
        assert stat.S_IMODE((tmp_path / name).stat().st_mode) == 0o600
    before = (tmp_path / "key.pem").read_bytes()
    again = command("keygen", "--config", str(config))
    assert (again.returncode, again.stdout) == (1, "")
    assert "exists already" in again.stderr
    (tmp_path / "key.pem").rename(tmp_path / "old.pem")
    assert command("keygen", "--config", str(config)).returncode == 1, "the memory of the other key is there"
    assert (tmp_path / "old.pem").read_bytes() == before
    assert not (tmp_path / "key.pem").exists()


def test_it_does_not_start_without_its_memory_or_with_that_of_another(tmp_path: Path) -> None:
    config = configure(tmp_path, LogKey().vkey)
    keygen(config)
    (tmp_path / "state.sqlite").rename(tmp_path / "kept")
    for words in ("run", "show"):
        done = command(words, "--config", str(config))
        assert (done.returncode, done.stdout) == (1, "")
        assert "would cosign a fork" in done.stderr
    (tmp_path / "key.pem").unlink()
    keygen(config)
    (tmp_path / "kept").rename(tmp_path / "state.sqlite")
    done = command("run", "--config", str(config))
    assert done.returncode == 1
    assert "the memory of another witness" in done.stderr


def test_the_version_is_said() -> None:
    done = command("--version")
    assert (done.returncode, done.stdout.split()[0]) == (0, "dossier-witness")


# -- configuration ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("name =", "nom =", "nom is not a setting"),
        (f'"{WITNESS}"', '""', "name has to be given"),
        (f'"{WITNESS}"', "7", "name has to be given, as a text"),
        (f'"{WITNESS}"', '"two words"', "without spaces"),
        ("127.0.0.1:", "127.0.0.1", "listen has to be"),
        ("127.0.0.1:", "127.0.0.1:0", "listen has to be"),
        ("[[logs]]", "[logs]", "entry for each key"),
        ("vkey =", "key =", "key is not a setting"),
        ("+", "-", "vkey is not of the form"),
        ("name", "name name", "is not TOML"),
    ],
)
def test_a_wrong_configuration_is_refused_in_a_sentence(tmp_path: Path, old: str, new: str, message: str) -> None:
    config = configure(tmp_path, LogKey().vkey, port=10000)
    config.write_text(config.read_text().replace(old, new).replace("1:010000", "1:0"))
    with pytest.raises(ConfigUnusable, match=message):
        Config.read(config)


def test_a_configuration_without_logs_or_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigUnusable, match="entry for each key"):
        Config.read(configure(tmp_path))
    with pytest.raises(ConfigUnusable, match="cannot be read"):
        Config.read(tmp_path / "none.toml")
    done = command("run", "--config", str(tmp_path / "none.toml"))
    assert (done.returncode, done.stdout) == (1, "")


def test_keys_of_one_origin_are_gathered_and_a_key_may_have_another_name(tmp_path: Path) -> None:
    first, second = LogKey(), LogKey("key.example/2027")
    config = configure(tmp_path, first.vkey, second.vkey)
    config.write_text(f'{config.read_text()}origin = "{ORIGIN}"\n')
    assert [each.name for each in Config.read(config).logs[ORIGIN]] == [ORIGIN, "key.example/2027"]
    with pytest.raises(ConfigUnusable, match="one name and key id"):
        Config.read(configure(tmp_path, first.vkey, first.vkey))


def test_it_listens_on_ipv6_too(tmp_path: Path) -> None:
    config = configure(tmp_path, LogKey().vkey)
    config.write_text(config.read_text().replace("127.0.0.1", "[::1]"))
    assert Config.read(config).host == "::1"


def pem(key: Ed25519PrivateKey | X25519PrivateKey, encryption: KeySerializationEncryption) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "not an unencrypted private key"),
        (pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")), "not an unencrypted private key"),
        (pem(X25519PrivateKey.generate(), NoEncryption()), "not an Ed25519 key"),
    ],
)
def test_what_is_not_its_key_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    config = Config.read(configure(tmp_path, LogKey().vkey))
    config.key_file.write_bytes(content)
    config.key_file.chmod(0o600)
    with pytest.raises(ConfigUnusable, match=message):
        read_cosigner(config)


def test_a_key_that_others_may_read_is_refused(tmp_path: Path) -> None:
    config = configure(tmp_path, LogKey().vkey)
    keygen(config)
    for mode in (0o640, 0o604, 0o660):
        (tmp_path / "key.pem").chmod(mode)
        with pytest.raises(ConfigUnusable, match="its owner alone"):
            read_cosigner(Config.read(config))
    (tmp_path / "key.pem").unlink()
    with pytest.raises(ConfigUnusable, match="cannot be read"):
        read_cosigner(Config.read(config))


# -- killed, and twice ------------------------------------------------------------------------------------------------


def test_what_was_answered_before_a_kill_is_held_after_it_and_no_fork_gets_in(tmp_path: Path) -> None:
    key = LogKey()
    log = Log(key, tuple(map(leaf, range(2000))))
    config = configure(tmp_path, key.vkey)
    vkey = keygen(config)
    answered = 0
    for _ in range(4):
        with running(config) as witness:
            held = witness.post(log.request(0, 0))
            size = int(held.text) if held.status_code == 409 else 0
            assert size >= answered, "an answer was forgotten"
            if size:
                assert witness.post(log.forked(size - 1).request(size, size + 1)).status_code == 422
            enough = Event()

            def submit(witness: Running, old: int, enough: Event) -> int:
                """The last size that was answered before the witness was gone."""
                while True:
                    try:
                        answer = witness.post(log.request(old, old + 1))
                    except httpx.TransportError:
                        return old
                    assert answer.status_code == 200
                    assert cosigned_at(vkey, log.checkpoint(old + 1), answer.text)
                    old += 1
                    enough.set()

            with ThreadPoolExecutor(1) as thread:
                last = thread.submit(submit, witness, size, enough)
                assert enough.wait(20)
                assert not Event().wait(random.uniform(0, 0.1)), "some time, so that the kill falls anywhere"
                witness.kill()
                answered = last.result(30)
    assert answered > 0


def test_two_of_them_on_one_state_file_do_not_diverge(tmp_path: Path) -> None:
    key = LogKey()
    log, held = Log(key, tuple(map(leaf, range(60)))), 0
    configs = [configure(tmp_path, key.vkey, port=free_port(), file=f"{name}.toml") for name in ("one", "two")]
    keygen(configs[0])
    with running(configs[0]) as one, running(configs[1]) as two, ThreadPoolExecutor(4) as threads:
        for size in range(1, 25):
            branches = [log, log.forked(held)]
            jobs = [(witness, branch) for witness in (one, two) for branch in branches]
            asked = [threads.submit(witness.post, branch.request(held, size)) for witness, branch in jobs]
            statuses = [each.result().status_code for each in asked]
            assert sorted(statuses) == [200, 409, 409, 409]
            log, held = jobs[statuses.index(200)][1], size
            assert one.shown() == two.shown()
            assert one.shown().startswith(log.checkpoint(size))


def test_garbage_over_a_socket_does_not_end_it(tmp_path: Path) -> None:
    log = Log(LogKey())
    config = configure(tmp_path, log.key.vkey)
    keygen(config)
    with running(config) as witness:
        assert witness.post(b"x" * (2 << 20)).status_code == 413
        assert witness.post(b"\xff" * 1000).status_code == 400
        assert witness.http.get(f"/%00%ff?{'q' * 5000}").status_code == 404
        assert witness.post(log.request(0, 7)).status_code == 200
