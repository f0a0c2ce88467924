"""How a value is shown to those who may not see it open, by the policy's mask names; pure.

A mask keeps what it names and nothing else: stars do not count the characters behind them, except in names of persons
and in mobile numbers, where everybody knows the length. A value without the shape that its mask expects is hidden in
whole. No mask but `none` gives back the value itself.
"""

import re
from collections.abc import Callable
from functools import lru_cache

from stdnum import numdb

from dossier_common.policy.vocabulary import Mask

HIDDEN = "******"
_OTHERWISE_HIDDEN = "······"

_COMPOUND = (
    "欧阳太史端木上官司马东方独孤南宫万俟闻人夏侯诸葛尉迟公羊赫连澹台皇甫宗政濮阳公冶太叔申屠公孙慕容仲孙钟离长孙宇文司徒鲜于司空闾丘"
    "子车亓官司寇巫马公西颛孙壤驷公良漆雕乐正宰父谷梁拓跋夹谷轩辕令狐段干百里呼延东郭南门羊舌微生左丘东门西门歐陽東方諸葛尉遲赫連長孫"
    "鮮于司馬公孫"
)
COMPOUND_SURNAMES = frozenset(_COMPOUND[at : at + 2] for at in range(0, len(_COMPOUND), 2))
_PERSON_NAME = re.compile(r"[\u3400-\u9fff\U00020000-\U0003ffff]{2,4}")
_ELEVEN_DIGITS = re.compile(r"1[0-9]{10}")
_IDENTIFIER = re.compile(r"[0-9A-Za-z]+")
_ACCOUNT = re.compile(r"[0-9]{12,}")
_EMAIL = re.compile(r"([^@\s]{1,64})@([^@\s]{1,253})")
_PROVINCE_ENDS = ("省", "市", "自治区", "特别行政区")


def _name(value: str) -> str:
    """张三丰 → 张**, 欧阳修文 → 欧阳**; of an organisation or a foreign name the first character."""
    if _PERSON_NAME.fullmatch(value):
        kept = 2 if len(value) > 2 and value[:2] in COMPOUND_SURNAMES else 1
        return value[:kept] + "*" * (len(value) - kept)
    return f"{value[0]}***" if len(value) > 1 else HIDDEN


def _phone(value: str) -> str:
    """138****1234 for a mobile number; of other numbers the last two digits."""
    if _ELEVEN_DIGITS.fullmatch(value):
        return f"{value[:3]}****{value[-4:]}"
    digits = value.isascii() and sum(map(str.isdigit, value)) >= 7 and value[-2:].isdigit()
    return f"****{value[-2:]}" if digits else HIDDEN


def _identifier(value: str) -> str:
    """First two and last two of fifteen or more characters, first and last of eight or more."""
    if _IDENTIFIER.fullmatch(value) is None:
        return HIDDEN
    if len(value) >= 15:
        return f"{value[:2]}******{value[-2:]}"
    return f"{value[0]}******{value[-1]}" if len(value) >= 8 else HIDDEN


@lru_cache(maxsize=1)
def _places() -> tuple[re.Pattern[str], re.Pattern[str]]:
    """Patterns of the provinces and of the cities that there are or have been (GB/T 2260)."""
    table = numdb.get("cn/loc")
    provinces, cities = set[str](), set[str]()
    for _, _, _, properties, children in table.prefixes:
        provinces.add(properties["province"])
        for _, code, _, inner, _ in children:
            if code.endswith("00") and code != "0000":
                cities.update(re.sub(r"\[[^\]]*\]", "", inner["county"]).split(","))
    named = (
        "|".join(sorted((re.escape(place) for place in places), key=len, reverse=True))
        for places in (provinces, {city for city in cities if len(city) > 2 and city not in {"市辖区", "县"}})
    )
    whole, part = (re.compile(pattern) for pattern in named)
    return whole, part


def _address(value: str) -> str:
    """Province and city, where the address begins with ones that exist: 广东省深圳市****."""
    provinces, cities = _places()
    end = 0
    for places in (provinces, cities):
        found = places.match(value, end)
        end = found.end() if found else end
    return f"{value[:end]}****" if end else HIDDEN


def _email(value: str) -> str:
    """First character and the domain: a***@example.com; only the domain when the first is all there is."""
    found = _EMAIL.fullmatch(value)
    if found is None:
        return HIDDEN
    return f"{found[1][0] if len(found[1]) > 1 else ''}***@{found[2]}"


def _account(value: str) -> str:
    """The last four of twelve or more digits, as on a receipt."""
    return f"****{value[-4:]}" if _ACCOUNT.fullmatch(value) else HIDDEN


_MASKS: dict[Mask, Callable[[str], str]] = {
    Mask.NAME: _name,
    Mask.PHONE: _phone,
    Mask.IDENTIFIER: _identifier,
    Mask.ADDRESS: _address,
    Mask.EMAIL: _email,
    Mask.ACCOUNT: _account,
    Mask.HIDDEN: lambda _: HIDDEN,
}


def masked(mask: Mask, value: str) -> str:
    """The value as the mask shows it; an empty value stays empty, there being nothing to hide."""
    if mask is Mask.NONE or not value:
        return value
    shown = _MASKS[mask](value)
    if shown == value:
        shown = HIDDEN if value != HIDDEN else _OTHERWISE_HIDDEN
    return shown
