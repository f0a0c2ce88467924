"""ISO 8601 durations that keep calendar months apart from days."""

import calendar
import re
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from typing import Any, Self, overload

import isodate
from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, core_schema

_SHAPE = re.compile(r"P(?=.)([0-9]{1,6}[YMWD])*(T([0-9]{1,6}[HMS])+)?", re.ASCII)
_HINT = "not an ISO 8601 duration of whole parts, such as P5Y, P3D or PT2H"


@dataclass(frozen=True, slots=True)
class Period:
    """A length of time as the calendar counts it: ``P5Y`` ends on the same day of the fifth year after.

    Years and months are never turned into days. Not ordered, since P1M is neither more nor less than P30D:
    compare the instants that two periods lead to.
    """

    years: int = 0
    months: int = 0
    days: int = 0
    seconds: int = 0

    def __post_init__(self) -> None:
        if min(self.years, self.months, self.days, self.seconds) < 0:
            raise ValueError("a period is not negative")

    @classmethod
    def parse(cls, text: str) -> Self:
        """The period that an ISO 8601 duration says; a week is seven days.

        Raises ValueError for anything else: a sign, fractions, a date.
        """
        if not _SHAPE.fullmatch(text):
            raise ValueError(_HINT)
        try:
            parsed = isodate.parse_duration(text, as_timedelta_if_possible=False)
        except isodate.ISO8601Error as error:
            raise ValueError(_HINT) from error
        rest: timedelta = parsed.tdelta
        return cls(years=int(parsed.years), months=int(parsed.months), days=rest.days, seconds=rest.seconds)

    @property
    def is_zero(self) -> bool:
        """Whether nothing passes."""
        return not (self.years or self.months or self.days or self.seconds)

    @overload
    def after(self, start: datetime) -> datetime: ...
    @overload
    def after(self, start: date) -> date: ...
    def after(self, start: date) -> date:
        """The moment one period later; a day that the month lacks becomes the month's last.

        Raises ValueError where hours are added to a date, or where the calendar ends (year 9999).
        """
        if self.seconds and not isinstance(start, datetime):
            raise ValueError("hours cannot be added to a date")
        try:
            years, month = divmod(start.month - 1 + self.months, 12)
            year, month = start.year + self.years + years, month + 1
            day = min(start.day, calendar.monthrange(year, month)[1])
            return start.replace(year=year, month=month, day=day) + timedelta(days=self.days, seconds=self.seconds)
        except (OverflowError, calendar.IllegalMonthError) as error:
            raise ValueError("the period ends after the calendar does") from error

    def __str__(self) -> str:
        date_part = "".join(
            f"{number}{unit}" for number, unit in ((self.years, "Y"), (self.months, "M"), (self.days, "D")) if number
        )
        minutes, seconds = divmod(self.seconds, 60)
        hours, minutes = divmod(minutes, 60)
        time_part = "".join(
            f"{number}{unit}" for number, unit in ((hours, "H"), (minutes, "M"), (seconds, "S")) if number
        )
        if time_part:
            return f"P{date_part}T{time_part}"
        return f"P{date_part}" if date_part else "P0D"

    @classmethod
    def _validated(cls, value: Any) -> Self:
        if isinstance(value, cls):
            return value
        if isinstance(value, str):
            return cls.parse(value)
        raise ValueError(_HINT)

    @classmethod
    def __get_pydantic_core_schema__(cls, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_plain_validator_function(
            cls._validated, serialization=core_schema.plain_serializer_function_ser_schema(str, when_used="json")
        )

    @classmethod
    def __get_pydantic_json_schema__(cls, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {"type": "string", "format": "duration", "pattern": f"^{_SHAPE.pattern}$"}
