"""Root with the checkout in a closed home: PostgreSQL's programs run from a copy."""

import os
import subprocess

import pytest

from dossier_local import postgres as postgres_module
from dossier_local.cluster import temporary_state
from dossier_local.postgres import Postgres


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs PostgreSQL as another user")
@pytest.mark.parametrize("program", ["initdb", "postgres"])
def test_programs_that_their_user_cannot_reach_run_from_a_copy(monkeypatch: pytest.MonkeyPatch, program: str) -> None:
    with temporary_state() as state:
        postgres = Postgres(state)
        original = postgres._programs
        monkeypatch.setattr(postgres_module, "_may_enter", lambda folder, _user: folder != original / "bin")
        postgres._make_folders()
        copy = postgres._reachable_programs()
        assert not copy.is_relative_to(original)
        user = postgres._user
        assert user is not None
        command = [str(copy / "bin" / program), "--version"]
        done = subprocess.run(
            command, user=user.uid, group=user.gid, extra_groups=[], capture_output=True, text=True, check=True
        )
        assert program in done.stdout
