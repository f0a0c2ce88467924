"""How the story is told: who asked for what, what was answered, why it was refused; and whether that was expected."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from dossier_local.client import Answer, Client
from dossier_local.customer_files import Sheet
from dossier_local.customers import Row
from dossier_local.elsewhere import Elsewhere
from dossier_local.state import State


class Otherwise(Exception):
    """The story went otherwise than told; names the step, what was expected and what came."""


@dataclass(frozen=True, slots=True)
class Refused:
    """A refusal that the story expects, for its summary."""

    step: str
    who: str
    asked: str
    status: int
    slug: str


@dataclass
class Case:
    """What the story is about, and what one step leaves to the next: ids of the record, its grant and its copy.

    `viewed` is the event of the first reading, `index` its place in the audit log.
    """

    sheet: Sheet
    customer: Row
    unseen: Row
    purpose: str = "complaint_handling"
    record: str = ""
    grant: str = ""
    copy: str = ""
    copy_number: str = ""
    certificate: str = ""
    viewed: str = ""
    index: int = 0


@dataclass
class Telling:
    """Tells each act as it happens. What turns out otherwise raises Otherwise."""

    console: Console
    client: Client
    demo: Mapping[str, Any]
    state: State
    elsewhere: Elsewhere | None = None
    """Where the story is told, if it is not on a stack of this machine's launcher."""
    step: str = ""
    refusals: list[Refused] = field(default_factory=list)
    verdicts: list[tuple[str, str, str]] = field(default_factory=list)
    """Step, command and last line of each run of the verifier."""

    def begin(self, number: int, english: str, chinese: str) -> None:
        """A new step of the story."""
        self.step = f"{number} {english}"
        self.console.print(f"\n[bold]{number}  {escape(english)} · {escape(chinese)}[/bold]", soft_wrap=True)

    def say(self, who: str, saying: str) -> None:
        """What somebody does."""
        self.console.print(f"  [cyan]{escape(who)}[/cyan] {escape(saying)}", soft_wrap=True)

    def note(self, text: str) -> None:
        """A line of what follows from an answer."""
        self.console.print(f"     {escape(text)}", soft_wrap=True)

    def table(self, table: Table) -> None:
        """A table of what was found."""
        self.console.print(Padding(table, (0, 0, 0, 5)))

    async def ask(
        self,
        who: str,
        saying: str,
        method: str,
        path: str,
        *,
        expecting: int | str = 200,
        body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        **query: Any,
    ) -> Any:
        """Somebody asks, and gets an answer with this status, or a refusal by this problem. The answer's body."""
        self.say(self.person(who), saying)
        call = self.client.as_(who).call(method, path, body=body, content=content, headers=headers, **query)
        answer = await call
        self.judge(who, method, path, answer, expecting)
        return answer.body

    def judge(self, who: str, method: str, path: str, answer: Answer, expecting: int | str) -> None:
        """Prints an answer. Raises Otherwise when another was expected."""
        as_told = answer.slug == expecting if isinstance(expecting, str) else answer.status == expecting
        if not as_told:
            raise Otherwise(f"Step {self.step}: {self.person(who)} was to get {expecting}, but {answer}.")
        short = _short(path)
        if answer.slug is None:
            self.console.print(
                f"     [dim]{method} {escape(short)}[/dim] → [green]{answer.status}[/green]", soft_wrap=True
            )
            return
        self.refusals.append(Refused(self.step, who, f"{method} {short}", answer.status, answer.slug))
        title, detail = answer.body.get("title", ""), answer.body.get("detail", "")
        self.console.print(
            f"     [dim]{method} {escape(short)}[/dim] → [yellow]{answer.status} {answer.slug}[/yellow]: "
            f"{escape(title)}{escape('. ' + detail if detail else '')}",
            soft_wrap=True,
        )

    def check(self, *, that: bool, what: str) -> None:
        """Something that has to be so. Raises Otherwise."""
        if not that:
            raise Otherwise(f"Step {self.step}: it was told that {what}, and it is not so.")

    def person(self, username: str) -> str:
        """Name, account and first role."""
        account = self.demo["accounts"][username]
        return f"{account['display_name']} {username} ({account['roles'][0]['title']['zh']})"

    def id_of(self, username: str, what: str = "account") -> str:
        """An id of a demo account: `account`, `person`, `unit`."""
        found: str = self.demo["accounts"][username][what]
        return found

    def names(self) -> dict[str, str]:
        """Account and person ids with the names of who has them."""
        return {
            each[what]: f"{each['display_name']} {each['username']}"
            for each in self.demo["accounts"].values()
            for what in ("account", "person")
        }

    def stages(self, stages: Sequence[Mapping[str, Any]]) -> str:
        """The stages of a flow in one line."""
        return " → ".join(f"{each['title']['zh']} {each['title']['en']}" for each in stages)


def _short(path: str) -> str:
    """A path with its ids cut short."""
    return "/".join(f"{part[:4]}…{part[-4:]}" if len(part) == 36 else part for part in path.split("/"))
