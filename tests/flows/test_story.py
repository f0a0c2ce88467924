"""The main job, step by step, on the full stack: what `make demo` tells. The tests follow one another."""

from collections.abc import AsyncIterator
from io import StringIO
from types import SimpleNamespace
from typing import cast

import pytest
from rich.console import Console

from dossier_local import customer_files, story, story_access, story_audit, story_disposal
from dossier_local.client import Answer, connected
from dossier_local.launched import RunningStack
from dossier_local.stack import Stack
from dossier_local.telling import Case, Otherwise, Telling

SEED = 2026
"""Rows of its own, so that it does not matter what other tests have imported into the same stack."""


@pytest.fixture(scope="module")
async def telling(stack: RunningStack) -> AsyncIterator[Telling]:
    async with connected(stack.base_url, stack.demo) as client:
        yield Telling(Console(file=StringIO(), width=160), client, stack.demo, stack.state)


@pytest.fixture(scope="module")
def case() -> Case:
    return story.a_case(customer_files.sheet(seed=SEED))


def told(telling: Telling) -> str:
    assert isinstance(telling.console.file, StringIO)
    return telling.console.file.getvalue()


def refusals(telling: Telling, step: int) -> list[tuple[str, str]]:
    return [(each.who, each.slug) for each in telling.refusals if each.step.startswith(f"{step} ")]


async def test_a_spreadsheet_comes_in_and_each_faulty_row_goes_back_with_its_reason(
    telling: Telling, case: Case
) -> None:
    await story_access.import_customers(telling, case)
    assert "1,000 rows accepted, 40 refused, 0 known before." in told(telling)


@pytest.mark.clause("A8.17")
@pytest.mark.clause("A8.22")
async def test_an_employee_sees_a_customer_masked_and_is_told_what_it_would_take(telling: Telling, case: Case) -> None:
    await story_access.find_customer(telling, case)
    assert "所在部门负责人 Head of the own department → 客户服务部经理 Customer service manager" in told(telling)
    assert case.customer["name"] not in told(telling)
    assert case.customer["identifier"] not in told(telling)


@pytest.mark.clause("A8.18.1")
@pytest.mark.clause("A8.18.2")
@pytest.mark.clause("A8.18.3")
@pytest.mark.invariant(4)
async def test_two_others_decide_and_she_may_approve_neither(telling: Telling, case: Case) -> None:
    await story_access.ask_for_access(telling, case)
    assert refusals(telling, 3) == [
        ("li.na", "insufficient-scope"),
        ("zhao.jun", "same-person"),
        ("li.na", "insufficient-scope"),
        ("zhao.jun", "self-approval"),
    ]


@pytest.mark.clause("A8.23.1")
async def test_she_reads_within_term_and_count_and_signs_for_one_copy(telling: Telling, case: Case) -> None:
    await story_access.read_and_copy(telling, case)
    assert f"CONTROLLED COPY, number {case.copy_number}" in told(telling)
    assert [slug for _, slug in refusals(telling, 4)] == ["grant-exhausted", "grant-required", "grant-exhausted"]


async def test_administrator_and_expired_grant_are_refused_and_found_in_the_log(telling: Telling, case: Case) -> None:
    await story_access.refuse_others(telling, case)
    assert refusals(telling, 5) == [("wei.guo", "insufficient-scope"), ("li.na", "grant-required")]
    assert "gateway.v1.access.refused  read_record  insufficient-scope" in told(telling)


@pytest.mark.invariant(3)
async def test_the_auditor_proves_offline_who_viewed_the_record_and_verifies_the_whole_log(
    telling: Telling, case: Case
) -> None:
    await story_audit.find_and_prove(telling, case)
    assert [(command, said) for _, command, said in telling.verdicts] == [
        ("dossier-verify proof", "verified"),
        ("dossier-verify log", "verified"),
    ]
    assert (telling.state.auditor / "checkpoint").read_text().startswith(telling.client.base_url[7:])
    assert not (telling.state.auditor / "token").exists()


@pytest.mark.invariant(3)
async def test_neither_officer_nor_a_database_role_changes_the_log(telling: Telling, case: Case) -> None:
    await story_audit.change_nothing(telling, case)
    assert refusals(telling, 6) == [
        ("shen.cha", "method-not-allowed"),
        ("shen.cha", "method-not-allowed"),
        ("shen.cha", "not-found"),
        ("wei.guo", "method-not-allowed"),
        ("wei.guo", "insufficient-scope"),
    ]
    assert "permission denied for table leaves" in told(telling)
    assert "table bodies is append-only" in told(telling)


async def test_a_hold_and_then_a_copy_stand_in_the_way_of_disposal(telling: Telling, case: Case) -> None:
    await story_disposal.hold_back(telling, case)
    assert refusals(telling, 7) == [
        ("zhang.li", "held"),
        ("xu.dan", "same-person"),
        ("zhang.li", "outstanding-copies"),
    ]


@pytest.mark.clause("A8.25")
@pytest.mark.invariant(4)
async def test_two_approve_and_two_others_destroy(telling: Telling, case: Case) -> None:
    await story_disposal.destroy(telling, case)
    assert refusals(telling, 7)[3:] == [
        ("zhang.li", "same-person"),
        ("xu.dan", "destruction-under-way"),
        ("wang.qiang", "insufficient-scope"),
    ]


@pytest.mark.invariant(5)
async def test_nothing_reads_the_record_again_and_the_log_has_its_whole_life(telling: Telling, case: Case) -> None:
    await story_disposal.read_no_more(telling, case)
    assert [slug for _, slug in refusals(telling, 7)[6:]] == ["not-found", "not-found"]


@pytest.mark.invariant(3)
async def test_the_verifier_names_the_row_that_a_superuser_edited_and_is_content_when_it_is_put_back(
    telling: Telling, case: Case
) -> None:
    await story_audit.find_tampering(telling, case)
    said = [said for step, _, said in telling.verdicts if step.startswith("8 ")]
    assert [line.split(":")[0] for line in said] == ["WRONG", "verified", "WRONG", "verified"]
    assert f"wrong-body at leaf {case.index}, records 1/" in told(telling)


async def test_the_summary_counts_events_by_type(telling: Telling) -> None:
    await story.summarise(telling, seconds=1)
    summary = told(telling).split("Summary")[1]
    assert "records.v1.record.shredded" in summary
    assert "Verifications, as expected: 6" in summary


@pytest.mark.parametrize(("status", "slug"), [(200, None), (403, "held"), (500, "internal-error")])
def test_what_goes_otherwise_than_told_is_named(
    telling: Telling, status: int, slug: str | None, stack: RunningStack
) -> None:
    body = {"type": f"urn:dossier:problem:{slug}", "title": "t", "detail": "d"} if slug else {}
    other = Telling(Console(file=StringIO()), telling.client, stack.demo, stack.state, step="4 She reads")
    with pytest.raises(
        Otherwise, match=rf"Step 4 She reads: .* li\.na .* grant-exhausted, but GET /x answered {status}"
    ):
        other.judge("li.na", "GET", "/x", Answer("GET /x", status, body, {}), "grant-exhausted")


@pytest.mark.parametrize("otherwise", [False, True])
async def test_the_demo_ends_with_0_only_when_every_step_went_as_told(
    stack: RunningStack, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], *, otherwise: bool
) -> None:
    async def step(telling: Telling, _case: Case) -> None:
        telling.begin(9, "A step", "一步")
        telling.check(that=not otherwise, what="it goes well")

    monkeypatch.setattr(story, "STEPS", (step,))
    running = SimpleNamespace(
        state=stack.state, base_url=stack.base_url, say=lambda _line: None, write_demo=lambda _demo: None, tls=True
    )
    assert await story.run(cast("Stack", running)) == int(otherwise)
    said = "Step 9 A step: it was told that it goes well, and it is not so." if otherwise else "went as told"
    assert said in capsys.readouterr().out
