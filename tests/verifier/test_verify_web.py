"""Reading over HTTP: patience, fallbacks, the token's way, and what is no answer."""

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.verifier.conftest import Ran, Run
from tests.verifier.server import Answer, Server, serving
from tests.verifier.writer import Log, put

TOKEN = "a-token"
Verify = Callable[..., Ran]


@pytest.fixture
def server(folder: Path) -> Iterator[Server]:
    with serving(folder, TOKEN) as server:
        yield server


@pytest.fixture
def token(tmp_path: Path) -> Path:
    put(tmp_path / "token", TOKEN.encode() + b"\n")
    return tmp_path / "token"


def test_a_log_behind_a_url_is_verified_by_its_token(server: Server, token: Path, verified: Verify) -> None:
    ran = verified(server.url, "--token-file", token, "--bodies")
    assert (ran.code, ran.told["logs"][0]["size"]) == (0, 868)
    assert server.tokens == {f"Bearer {TOKEN}"}


def test_every_resource_is_fetched_once(server: Server, token: Path, verified: Verify) -> None:
    verified(server.url, "--token-file", token)
    assert set(server.asked.values()) == {1}
    assert len(server.asked) == 1 + 1 + 4 + 4 + 1


def test_compressed_answers_are_read(server: Server, token: Path, verified: Verify) -> None:
    server.compress = True
    assert verified(server.url, "--token-file", token, "--bodies").code == 0


def test_a_token_comes_from_a_command_and_is_asked_for_again_when_it_expired(
    server: Server, tmp_path: Path, verified: Verify
) -> None:
    put(tmp_path / "count", b"")
    script = (
        f"p = {str(tmp_path / 'count')!r}; n = len(open(p).read()); open(p, 'a').write('x'); "
        f"print({TOKEN!r} if n else 'expired')"
    )
    put(tmp_path / "ask.py", script.encode())
    ran = verified(server.url, "--token-command", f"{sys.executable} {tmp_path / 'ask.py'}")
    assert ran.code == 0
    assert (tmp_path / "count").read_text() == "xx"


@pytest.mark.parametrize("given", [[], ["--token-command", "false"], ["--token-command", "no-such-command"]])
def test_without_a_token_nothing_is_known(given: list[str], server: Server, verified: Verify) -> None:
    assert verified(server.url, *given).code == (2 if given else 3)


def test_the_token_is_never_shown(server: Server, tmp_path: Path, verified: Verify) -> None:
    put(tmp_path / "wrong", b"secret-and-wrong")
    ran = verified(server.url, "--token-file", tmp_path / "wrong")
    assert ran.code == 3
    assert "secret" not in ran.out + ran.err
    put(tmp_path / "wrong", b"secret and\nno token")
    ran = verified(server.url, "--token-file", tmp_path / "wrong")
    assert ran.code == 2
    assert "secret" not in ran.out + ran.err


@pytest.mark.parametrize("status", [429, 503])
@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "nonsense"])
def test_a_busy_server_is_asked_again(status: int, after: str, server: Server, token: Path, verified: Verify) -> None:
    def busy_at_first(path: str, count: int) -> Answer | None:
        return (status, {"retry-after": after}, b"") if count == 1 and "tile" in path else None

    server.trick = busy_at_first
    assert verified(server.url, "--token-file", token).code == 0
    assert {count for path, count in server.asked.items() if "tile" in path} == {2}


@pytest.mark.parametrize("status", [301, 302, 307, 400, 403, 410, 500])
def test_what_is_no_answer_says_nothing_of_the_log(status: int, server: Server, token: Path, verified: Verify) -> None:
    server.trick = lambda path, _: (status, {"location": "/elsewhere"}, b"") if path.endswith("entries/001") else None
    ran = verified(server.url, "--token-file", token)
    assert (ran.code, ran.told["verdict"], ran.told["findings"]) == (3, "unreadable", [])
    assert str(status) in ran.told["error"]
    assert "/elsewhere" not in server.asked


def test_a_server_that_stays_busy_says_nothing_of_the_log(server: Server, token: Path, verified: Verify) -> None:
    server.trick = lambda path, _: (503, {"retry-after": "0"}, b"") if path.endswith("tile/0/001") else None
    assert verified(server.url, "--token-file", token).code == 3


def test_a_line_that_breaks_is_tried_again(server: Server, token: Path, verified: Verify) -> None:
    cut = (200, {"content-length": "999", "connection": "close"}, b"x")
    server.trick = lambda path, count: cut if count == 1 and path.endswith("tile/0/001") else None
    assert verified(server.url, "--token-file", token).code == 0
    assert server.asked["/v1/audit/log/tile/0/001"] == 2


def test_nobody_listening_says_nothing_of_the_log(folder: Path, verified: Verify) -> None:
    with serving(folder) as server:
        url = server.url
    assert verified(url).code == 3


def test_a_partial_tile_that_is_gone_is_read_from_the_full_one(
    log: Log, folder: Path, tmp_path: Path, verified: Verify
) -> None:
    grown = Log(log.key)
    grown.entries, grown.heads, grown.bodies = list(log.entries), dict(log.heads), list(log.bodies)
    grown.fill(1024 + 5).write(tmp_path / "grown", bodies=True)
    put(tmp_path / "grown/checkpoint", (folder / "checkpoint").read_bytes())
    put(tmp_path / "grown/tile/1/000.p/3", (folder / "tile/1/000.p/3").read_bytes())
    with serving(tmp_path / "grown") as server:
        ran = verified(server.url, "--bodies")
        assert (ran.code, ran.told["logs"][0]["size"]) == (0, 868), ran.out
        assert server.asked["/v1/audit/log/tile/0/003"] == 1
        assert verified(tmp_path / "grown", "--bodies").code == 0


def test_a_bundle_that_is_gone_is_a_finding(server: Server, token: Path, verified: Verify) -> None:
    server.trick = lambda path, _: (404, {}, b"") if path.endswith("entries/001") else None
    ran = verified(server.url, "--token-file", token)
    assert (ran.code, ran.first["kind"], ran.first["index"]) == (1, "missing-bundle", 256)


def test_an_answer_without_end_is_cut(server: Server, token: Path, verified: Verify) -> None:
    server.compress = True
    server.trick = lambda path, _: (200, {}, bytes(1 << 26)) if path.endswith("tile/0/001") else None
    ran = verified(server.url, "--token-file", token)
    assert (ran.code, ran.first["kind"]) == (1, "altered-tile")
    assert "8193 bytes" in ran.first["message"]


def test_a_url_without_a_log_says_nothing(server: Server, token: Path, verified: Verify) -> None:
    assert verified(server.url + "x", "--token-file", token).code == 3


@pytest.mark.parametrize(
    "url",
    [
        "http://log.example/v1/audit/log",
        "http://10.0.0.1/v1/audit/log",
        "http://127.0.0.1.example/log",
        "http://user:secret@127.0.0.1/log",
        "https://host.example/log?x=1",
        "https:///log",
        "http://[::1/log",
        "https://host.example:99999999/log",
    ],
)
def test_an_address_that_would_bare_the_token_is_refused(url: str, verified: Verify) -> None:
    assert verified(url).code == 2


def test_plain_http_to_another_host_is_for_those_who_insist(verified: Verify) -> None:
    ran = verified("http://no-such-host.invalid/v1/audit/log", "--insecure-http")
    assert ran.code == 3


def test_a_mirror_is_a_log_offline_and_is_continued(
    log: Log, folder: Path, server: Server, token: Path, tmp_path: Path, run: Run, verified: Verify
) -> None:
    mirror = tmp_path / "mirror"
    ran = run("download", server.url, mirror, "--token-file", token, "--bodies", "--json")
    assert (ran.code, ran.told["logs"]) == (0, [{"origin": log.origin, "size": 868}])
    assert verified(mirror, "--bodies").code == 0
    server.asked.clear()
    grown = Log(log.key)
    grown.entries, grown.heads, grown.bodies = list(log.entries), dict(log.heads), list(log.bodies)
    grown.fill(1300).write(folder, bodies=True)
    assert run("download", server.url, mirror, "--token-file", token).code == 0
    assert not [path for path in server.asked if path.endswith(("entries/000", "tile/0/002"))]
    assert verified(mirror, "--checkpoint", mirror / "kept/868").told["logs"][0]["size"] == 1300


def test_a_mirror_takes_no_smaller_and_no_other_log(
    log: Log, folder: Path, server: Server, token: Path, tmp_path: Path, run: Run
) -> None:
    mirror = tmp_path / "mirror"
    assert run("download", server.url, mirror, "--token-file", token).code == 0
    kept = (mirror / "checkpoint").read_bytes()
    for checkpoint, kind in ((log.checkpoint(600), "rolled-back"), (log.checkpoint(868, bytes(32)), "forked")):
        put(folder / "checkpoint", checkpoint)
        ran = run("download", server.url, mirror, "--token-file", token, "--json")
        assert (ran.code, ran.kinds) == (1, [kind])
        assert (mirror / "checkpoint").read_bytes() == kept


def test_a_size_that_nobody_could_serve_ends_a_download(
    log: Log, folder: Path, server: Server, token: Path, tmp_path: Path, run: Run
) -> None:
    put(folder / "checkpoint", log.checkpoint(1 << 61, bytes(32)))
    ran = run("download", server.url, tmp_path / "mirror", "--token-file", token, "--json")
    assert (ran.code, ran.kinds) == (1, ["missing-tile"])


def test_a_download_that_broke_off_is_continued(
    server: Server, token: Path, tmp_path: Path, run: Run, verified: Verify
) -> None:
    server.trick = lambda path, _: (500, {}, b"") if path.endswith("entries/002") else None
    assert run("download", server.url, tmp_path / "mirror", "--token-file", token).code == 3
    assert not (tmp_path / "mirror/checkpoint").exists()
    first = dict(server.asked)
    server.trick = lambda _path, _count: None
    assert run("download", server.url, tmp_path / "mirror", "--token-file", token).code == 0
    assert first["/v1/audit/log/tile/entries/000"] == server.asked["/v1/audit/log/tile/entries/000"] == 1
    assert verified(tmp_path / "mirror").code == 0


def test_what_was_read_is_saved_and_can_be_compared_with(
    log: Log, folder: Path, server: Server, token: Path, tmp_path: Path, verified: Verify
) -> None:
    saved = tmp_path / "saved"
    assert verified(server.url, "--token-file", token, "--save", saved, "--bodies").code == 0
    assert verified(saved, "--bodies").code == 0
    forged = Log(log.key)
    forged.entries = list(log.entries)
    forged.entries[400] = forged.entries[400].replace(b"viewed", b"copied")
    forged.rechain()
    forged.write(folder)
    before = {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()}
    ran = verified(server.url, "--token-file", token, "--save", saved, "--against", saved)
    assert ran.code == 1
    assert {"changed-resource", "forked"} <= set(ran.kinds)
    forked = next(one for one in ran.told["findings"] if one["kind"] == "forked")
    assert forked["index"] == 400
    assert {path: path.read_bytes() for path in saved.rglob("*") if path.is_file()} == before
