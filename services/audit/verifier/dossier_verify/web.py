"""A log read over HTTP: bounded answers, patience with a busy server, and a token that goes to one origin only."""

import asyncio
import ipaddress
import re
import shlex
import ssl
import subprocess
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path
from typing import Final

import httpx

from dossier_verify.errors import BadInput, Missing, Unreadable

IN_FLIGHT: Final = 16
_ATTEMPTS: Final = 7
_LONGEST_WAIT: Final = 60.0
_BUSY: Final = {429, 502, 503, 504}
_LARGEST_LISTING: Final = 1 << 22
_LOG = re.compile(r"(.*)/(?:log|logs/([1-9][0-9]{0,8}))")


@dataclass(slots=True)
class Token:
    """A bearer token from a file or a command, which are asked again when it has expired. It is never printed."""

    file: Path | None = None
    command: str = ""
    _value: str = field(default="", repr=False)

    def header(self) -> dict[str, str]:
        """The header that bears it; empty when there is neither file nor command. Raises BadInput."""
        if not self._value:
            self._value = self._read()
        return {"authorization": f"Bearer {self._value}"} if self._value else {}

    def renewed(self, refused: dict[str, str]) -> bool:
        """Whether there is another token than the refused one, after asking anew."""
        if self.header() == refused:
            self._value = self._read()
        return self.header() != refused

    def _read(self) -> str:
        try:
            if self.file is not None:
                text = self.file.read_text()
            elif self.command:
                words = shlex.split(self.command)
                asked = subprocess.run(words, capture_output=True, timeout=120, check=True)  # noqa: S603  the auditor's own command
                text = asked.stdout.decode()
            else:
                return ""
        except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
            raise BadInput(f"no token from {self.file or 'the token command'}: {type(error).__name__}") from error
        if not re.fullmatch(r"[!-~]+", text.strip()):
            raise BadInput(f"what {self.file or 'the token command'} gives is no token")
        return text.strip()


class Web:
    """A log below a URL."""

    def __init__(self, client: httpx.AsyncClient, url: str, token: Token) -> None:
        self.name = url
        self._client, self._token = client, token
        match = _LOG.fullmatch(url)
        self._above, self._here = (match[1], int(match[2] or 1)) if match else ("", 1)

    async def get(self, path: str, limit: int) -> bytes:
        """The body of a 200. Asks again when told to wait, when the line breaks, and with a new token on 401."""
        return await self._get(f"{self.name}/{path}", limit)

    async def listing(self) -> bytes:
        """`<above>/logs` where the log's own address ends in `/log` or `/logs/<g>`."""
        if not self._above:
            raise Missing("a log of this address has no listing")
        return await self._get(f"{self._above}/logs", _LARGEST_LISTING)

    def generation(self, number: int) -> "Web":
        """At its fixed place below the same origin: an address that a listing gives is not followed."""
        place = "log" if number == 1 else f"logs/{number}"
        return Web(self._client, f"{self._above}/{place}", self._token)

    def here(self) -> int:
        """By the address."""
        return self._here

    async def _get(self, url: str, limit: int) -> bytes:
        reason, renewed = "", False
        for attempt in range(_ATTEMPTS):
            header = self._token.header()
            try:
                async with self._client.stream("GET", url, headers=header) as response:
                    status = response.status_code
                    if status == httpx.codes.OK:
                        return await _bounded(response, limit)
                    reason, wait = f"the server answers {status}", _wait(response.headers.get("retry-after"), attempt)
            except httpx.InvalidURL as error:
                raise BadInput(f"{url} is no address") from error
            except httpx.HTTPError as error:
                status, reason, wait = 0, f"{type(error).__name__}: {error}".rstrip(": "), _wait(None, attempt)
            if status == httpx.codes.NOT_FOUND:
                raise Missing(url)
            if status == httpx.codes.UNAUTHORIZED and not renewed and self._token.renewed(header):
                renewed = True
            elif status in _BUSY or (not status and attempt < _ATTEMPTS - 3):
                await asyncio.sleep(wait if attempt < _ATTEMPTS - 1 else 0)
            else:
                break
        if 300 <= status < 400:
            reason += ", a redirect, and none is followed"
        raise Unreadable(f"{url}: {reason}")


async def _bounded(response: httpx.Response, limit: int) -> bytes:
    data = bytearray()
    async for chunk in response.aiter_bytes():
        data += chunk
        if len(data) > limit:
            break
    return bytes(data[: limit + 1])


def _wait(told: str | None, attempt: int) -> float:
    """Seconds to wait: what Retry-After says (seconds or a date), within a minute; else longer each time."""
    seconds = 0.1 * (1 << attempt)
    if told is not None:
        try:
            if re.fullmatch("[0-9]{1,9}", told):
                seconds = float(told)
            else:
                seconds = (parsedate_to_datetime(told) - datetime.now(UTC)).total_seconds()
        except (ValueError, TypeError):
            return seconds
    return min(max(seconds, 0.0), _LONGEST_WAIT)


@asynccontextmanager
async def opened(url: str, token: Token, *, insecure: bool, ca_file: Path | None) -> AsyncIterator[Web]:
    """The log at this URL. Raises BadInput for an address that would bare the token, or that is none."""
    try:
        parsed = httpx.URL(url)
        context = ssl.create_default_context(cafile=str(ca_file)) if ca_file else True
    except (httpx.InvalidURL, ValueError) as error:
        raise BadInput(f"{url} is no address") from error
    except OSError as error:
        raise BadInput(f"{ca_file}: no certificates can be read from it") from error
    if not parsed.host or (parsed.port or 1) > 65535 or parsed.userinfo or parsed.query or parsed.fragment:
        raise BadInput(f"{url} is no address of a log: https://<host>/<path>, and nothing else")
    local = _loopback(parsed.host)
    if parsed.scheme != "https" and not local and not insecure:
        raise BadInput(f"{url}: without https the token can be read on the way (--insecure-http to do it nevertheless)")
    async with httpx.AsyncClient(
        follow_redirects=False,
        trust_env=not local,
        verify=context,
        timeout=httpx.Timeout(60, connect=15),
        limits=httpx.Limits(max_connections=IN_FLIGHT, max_keepalive_connections=IN_FLIGHT),
        headers={"accept-encoding": "gzip, identity", "user-agent": "dossier-verify"},
    ) as client:
        yield Web(client, url.rstrip("/"), token)


def _loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
