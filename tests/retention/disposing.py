"""Who takes part in a disposal, and what each of them does."""

from datetime import timedelta
from uuid import UUID

from tests.retention.bench import POLICY, Bench, Person

from dossier_common.contracts.records import (
    CopyIssued,
)
from dossier_common.ids import new_id

READER = ("retention:read",)


class Office:
    """Who takes part in a disposal."""

    def __init__(self, bench: Bench) -> None:
        self.reader = Person(READER, (("inspector", bench.company),))
        self.proposer = Person((*READER, "disposals:propose"), (("information_officer", bench.unit),))
        self.approvers = [new_id(), new_id()]
        self.executor = Person((*READER, "disposals:execute"), (("records_clerk", bench.unit),))
        self.witness = Person((*READER, "disposals:witness"), (("inspector", bench.company),))


async def propose(bench: Bench, office: Office, record: UUID) -> UUID:
    answer = await bench.post("/v1/disposals", office.proposer, {"record": str(record), "reason": "past its term"})
    assert answer.status_code == 201, answer.text
    return UUID(answer.json()["id"])


async def approved(bench: Bench, office: Office, record: UUID, term: timedelta = timedelta(days=30)) -> UUID:
    disposal = await propose(bench, office, record)
    await bench.approve(disposal, record, [office.proposer.person, *office.approvers], term=term)
    return disposal


async def execute(bench: Bench, disposal: UUID, who: Person, method: str = "crypto_shred") -> tuple[int, str]:
    answer = await bench.post(f"/v1/disposals/{disposal}/execution", who, {"method": method, "note": "both discs too"})
    return answer.status_code, answer.json().get("type", "").rsplit(":", 1)[-1] or answer.json()["state"]


async def witness(bench: Bench, disposal: UUID, who: Person) -> tuple[int, str]:
    answer = await bench.post(f"/v1/disposals/{disposal}/witness-statement", who, {"statement": "seen with own eyes"})
    return answer.status_code, answer.json().get("type", "").rsplit(":", 1)[-1] or answer.json()["state"]


async def state(bench: Bench, office: Office, disposal: UUID) -> str:
    return str((await bench.get(f"/v1/disposals/{disposal}", office.reader)).json()["state"])


def copy_of(record: UUID, number: str = "C-1") -> CopyIssued:
    return CopyIssued(
        copy_id=new_id(), number=number, record=record, grant=new_id(), action="print", use=1, fields=(), policy=POLICY
    )
