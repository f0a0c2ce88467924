import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dossier_common.policy.vocabulary import Mask
from dossier_records.masks import COMPOUND_SURNAMES, masked

HIDING = [mask for mask in Mask if mask is not Mask.NONE]
HAN = st.characters(min_codepoint=0x4E00, max_codepoint=0x9FFF)
DIGITS = st.characters(min_codepoint=0x30, max_codepoint=0x39)


@pytest.mark.parametrize(
    ("mask", "value", "shown"),
    [
        (Mask.NONE, "居民身份证", "居民身份证"),
        (Mask.NAME, "张三丰", "张**"),
        (Mask.NAME, "张三", "张*"),
        (Mask.NAME, "欧阳修文", "欧阳**"),
        (Mask.NAME, "司马光", "司马*"),
        (Mask.NAME, "欧阳", "欧*"),
        (Mask.NAME, "阿卜杜拉·买买提", "阿***"),
        (Mask.NAME, "北京璟泽信息技术有限公司", "北***"),
        (Mask.NAME, "John Smith", "J***"),
        (Mask.NAME, "张", "******"),
        (Mask.PHONE, "13812341234", "138****1234"),
        (Mask.PHONE, "01062345678", "****78"),
        (Mask.PHONE, "+442071234567", "****67"),
        (Mask.PHONE, "95588", "******"),
        (Mask.IDENTIFIER, "11010519491231002X", "11******2X"),
        (Mask.IDENTIFIER, "91350100M000100Y43", "91******43"),
        (Mask.IDENTIFIER, "E12345678", "E******8"),
        (Mask.IDENTIFIER, "A1234", "******"),
        (Mask.ADDRESS, "广东省深圳市南山区学府路1号", "广东省深圳市****"),
        (Mask.ADDRESS, "北京市海淀区中关村大街1号", "北京市****"),
        (Mask.ADDRESS, "新疆维吾尔自治区乌鲁木齐市天山区东风街2号", "新疆维吾尔自治区乌鲁木齐市****"),
        (Mask.ADDRESS, "云南省大理白族自治州大理市古城", "云南省大理白族自治州****"),
        (Mask.ADDRESS, "广东省中山路88号超市二楼", "广东省****"),
        (Mask.ADDRESS, "深圳市南山区学府路1号", "深圳市****"),
        (Mask.ADDRESS, "幸福小区3栋", "******"),
        (Mask.EMAIL, "alice@example.com", "a***@example.com"),
        (Mask.EMAIL, "a@example.com", "***@example.com"),
        (Mask.EMAIL, "nobody", "******"),
        (Mask.ACCOUNT, "6222021234567890123", "****0123"),
        (Mask.ACCOUNT, "12345678", "******"),
        (Mask.HIDDEN, "1949-12-31", "******"),
        (Mask.HIDDEN, "", ""),
    ],
)
def test_a_mask_shows_what_it_says(mask: Mask, value: str, shown: str) -> None:
    assert masked(mask, value) == shown


def test_every_mask_of_the_policy_is_known() -> None:
    assert all(isinstance(masked(mask, "value"), str) for mask in Mask)
    assert {len(surname) for surname in COMPOUND_SURNAMES} == {2}


@settings(deadline=None)
@given(st.sampled_from(HIDING), st.text(min_size=1))
@example(Mask.HIDDEN, "******")
@example(Mask.NAME, "J***")
@example(Mask.PHONE, "138****1234")
@example(Mask.EMAIL, "***@example.com")
@example(Mask.IDENTIFIER, "11******2X")
@example(Mask.ADDRESS, "北京市****")
def test_a_mask_never_gives_back_the_value(mask: Mask, value: str) -> None:
    assert masked(mask, value) != value


@settings(deadline=None)
@given(st.text(HAN, min_size=2, max_size=12))
def test_a_name_keeps_its_surname_and_nothing_else(value: str) -> None:
    kept = masked(Mask.NAME, value).rstrip("*")
    assert len(kept) <= (2 if value[:2] in COMPOUND_SURNAMES and 2 < len(value) <= 4 else 1)
    assert value.startswith(kept)


@settings(deadline=None)
@given(st.text(DIGITS, min_size=1, max_size=20))
def test_numbers_keep_at_most_what_is_named(value: str) -> None:
    def revealed(mask: Mask) -> int:
        return len(re.sub(r"\*", "", masked(mask, value)))

    assert revealed(Mask.PHONE) <= (7 if len(value) == 11 else 2)
    assert revealed(Mask.IDENTIFIER) <= (4 if len(value) >= 15 else 2)
    assert revealed(Mask.ACCOUNT) <= 4
    assert revealed(Mask.HIDDEN) == 0


@settings(deadline=None)
@given(st.text(HAN, max_size=20))
def test_an_address_never_shows_what_follows_the_city(tail: str) -> None:
    district = "南山区学府路88号" + tail
    assert masked(Mask.ADDRESS, "广东省深圳市" + district) == "广东省深圳市****"


@settings(deadline=None)
@given(st.from_regex(r"[a-z0-9._-]{2,30}", fullmatch=True))
def test_an_email_keeps_one_character_before_its_domain(local: str) -> None:
    assert masked(Mask.EMAIL, f"{local}@example.com") == f"{local[0]}***@example.com"


LONG = {
    Mask.NAME: st.text(HAN, min_size=5, max_size=40),
    Mask.IDENTIFIER: st.text(DIGITS, min_size=15, max_size=40),
    Mask.ACCOUNT: st.text(DIGITS, min_size=12, max_size=40),
    Mask.HIDDEN: st.text(HAN, min_size=1, max_size=40),
}


@pytest.mark.parametrize("mask", LONG)
@settings(deadline=None)
@given(data=st.data())
def test_the_stars_do_not_tell_the_length(mask: Mask, data: st.DataObject) -> None:
    one, other = data.draw(LONG[mask]), data.draw(LONG[mask])
    assert masked(mask, one).count("*") == masked(mask, other).count("*")
