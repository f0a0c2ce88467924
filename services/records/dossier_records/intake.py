"""From a row of a spreadsheet to values that can be stored, or to the faults that refuse it; pure."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

from dossier_common.policy import Column, Form, Policy, UnknownNameError
from dossier_records import validators
from dossier_records.faults import Fault, FaultCode, refuses
from dossier_records.spreadsheets import Row

CUSTOMER_TYPE, IMPORTANCE, OPENED_ON, ENDED_ON = "customer_type", "importance", "opened_on", "relationship_ended_on"
IDENTIFIER = "identifier"
MAX_COLUMN_LENGTH = 64


@dataclass(frozen=True, slots=True)
class Candidate:
    """A row in normal form: the columns that describe the record, and its fields, both without the empty ones."""

    number: int
    columns: Mapping[str, str]
    fields: Mapping[str, str]
    faults: tuple[Fault, ...]

    @property
    def refused(self) -> bool:
        """Whether at least one fault is an error."""
        return refuses(self.faults)


class Intake:
    """Judges the rows of one file in their order.

    An identifier that an earlier accepted row has is a duplicate; one of a refused row is free, so that a corrected
    line may stand below the wrong one.
    """

    def __init__(self, policy: Policy, today: date, *, customer_class: str = "general") -> None:
        self._policy = policy
        self._today = today
        self._customer_class = customer_class
        self._definitions = {field.id: field for field in policy.fields}
        self._columns: dict[str, Column] = {column.id: column for column in policy.columns}
        self._wordings = {
            name: validators.one_of(
                {
                    spelling.casefold(): item.id
                    for item in accepted
                    for spelling in (item.id, item.title.zh, item.title.en, *item.values)
                }
            )
            for name, accepted in ((CUSTOMER_TYPE, policy.customer_types), (IMPORTANCE, policy.importances))
        }
        self._types = {item.id for item in policy.customer_types}
        self._importances = {item.id for item in policy.importances}
        self._seen: set[str] = set()

    def judge(self, row: Row) -> Candidate:
        """The row in normal form with all that is wrong with it, at most one fault a field."""
        columns = {name: self._normal_column(name, row.values[name]) for name in self._columns if row.values.get(name)}
        fields = {
            name: normal
            for name, value in row.values.items()
            if name in self._definitions and (normal := validators.normalise(self._definitions[name], value))
        }
        found = [*row.faults, *self._column_faults(columns)]
        found += validators.faults(fields, self._form(columns.get(CUSTOMER_TYPE, "")), self._definitions, self._today)
        identifier = fields.get(IDENTIFIER)
        if identifier in self._seen:
            found.append(Fault(IDENTIFIER, FaultCode.DUPLICATE))
        if identifier and not refuses(found):
            self._seen.add(identifier)
        return Candidate(row.number, columns, fields, tuple(found))

    def _form(self, customer_type: str) -> Form | None:
        try:
            return self._policy.form_for(customer_type, self._customer_class)
        except UnknownNameError:
            return None  # the customer type is then a fault of its own

    def _normal_column(self, name: str, value: str) -> str:
        if len(value) > validators.MAX_NORMALISED:
            return value
        return self._wordings.get(name, validators.normal_date)(value)

    def _column_fault(self, name: str, value: str) -> FaultCode | None:
        text = validators.text_fault(value, MAX_COLUMN_LENGTH)
        if text is not None:
            return text
        if name == CUSTOMER_TYPE:
            known = value in self._types and self._form(value) is not None
            return None if known else FaultCode.CUSTOMER_TYPE_UNKNOWN
        if name == IMPORTANCE:
            return None if value in self._importances else FaultCode.IMPORTANCE_UNKNOWN
        return validators.date_fault(value)

    def _column_faults(self, columns: Mapping[str, str]) -> list[Fault]:
        found = [Fault(name, code) for name, value in columns.items() if (code := self._column_fault(name, value))]
        found += [
            Fault(name, FaultCode.REQUIRED)
            for name, column in self._columns.items()
            if column.required and not columns.get(name)
        ]
        opened, ended = (validators.as_date(columns.get(name, "")) for name in (OPENED_ON, ENDED_ON))
        if opened is not None and opened > self._today:
            found.append(Fault(OPENED_ON, FaultCode.DATE_IN_FUTURE))
        elif opened is not None and ended is not None and ended < opened:
            found.append(Fault(ENDED_ON, FaultCode.ENDED_BEFORE_OPENING))
        return found
