"""Durations as the calendar counts them."""

from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dossier_common.policy import Period

periods = st.builds(
    Period,
    years=st.integers(0, 200),
    months=st.integers(0, 11),
    days=st.integers(0, 5000),
    seconds=st.integers(0, 86_399),
)


@given(periods)
def test_what_is_written_is_read_again(period: Period) -> None:
    assert Period.parse(str(period)) == period


@given(st.dates(date(1950, 1, 1), date(2100, 12, 31)), st.integers(0, 100), st.integers(0, 24))
def test_months_end_on_the_same_day_or_the_last_of_the_month(start: date, years: int, months: int) -> None:
    end = Period(years=years, months=months).after(start)
    assert (end.year * 12 + end.month) - (start.year * 12 + start.month) == years * 12 + months
    assert end.day == start.day or (end.day < start.day and (end + timedelta(days=1)).day == 1)


@given(
    st.dates(date(1950, 1, 1), date(2100, 12, 31)),
    st.dates(date(1950, 1, 1), date(2100, 12, 31)),
    st.builds(Period, years=st.integers(0, 50), months=st.integers(0, 11), days=st.integers(0, 400)),
)
def test_a_later_start_never_ends_earlier(one: date, other: date, period: Period) -> None:
    first, second = sorted((one, other))
    assert period.after(first) <= period.after(second)


def test_months_are_clipped_and_days_are_counted_after_them() -> None:
    assert Period.parse("P1M").after(date(2023, 1, 31)) == date(2023, 2, 28)
    assert Period.parse("P5Y").after(date(2020, 2, 29)) == date(2025, 2, 28)
    assert Period.parse("P1M1D").after(date(2024, 1, 31)) == date(2024, 3, 1)
    assert Period.parse("PT36H").after(datetime(2024, 2, 28, 18, tzinfo=UTC)) == datetime(2024, 3, 1, 6, tzinfo=UTC)


def test_months_are_not_days() -> None:
    assert Period.parse("P1M") != Period.parse("P30D")
    assert Period.parse("P1W") == Period.parse("P7D")


def test_hours_cannot_be_added_to_a_date() -> None:
    with pytest.raises(ValueError, match="hours"):
        Period.parse("PT1H").after(date(2024, 1, 1))


def test_the_calendar_ends() -> None:
    with pytest.raises(ValueError, match=r"calendar|year"):
        Period.parse("P9000Y").after(date(2024, 1, 1))
    with pytest.raises(ValueError, match="calendar"):
        Period.parse("P999999D").after(date(9000, 1, 1))


@pytest.mark.parametrize(
    "text", ["", "P", "PT", "P1DT", "-P1D", "+P1D", "P1.5D", "P0,5Y", "3D", "p3d", "P3D ", "P1H", "P1M1Y", "P9999999D"]
)
def test_what_is_no_whole_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="ISO 8601"):
        Period.parse(text)
