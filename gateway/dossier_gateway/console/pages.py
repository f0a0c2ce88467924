"""Server-side pages: no script, nothing from elsewhere, in the language that the browser asks for."""

from functools import cache
from importlib import resources
from typing import Any
from urllib.parse import urlsplit

from fastapi import Request, Response
from jinja2 import Environment, PackageLoader, StrictUndefined

from dossier_common.app import router as make_router
from dossier_gateway.console.words import WORDS

router = make_router(tags=["pages"])
STYLE = "/console/style.css"
SIGN_OUT = "/oauth/sign-out"
_environment = Environment(
    loader=PackageLoader("dossier_gateway.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)


def language(request: Request) -> str:
    """`zh` or `en`: what the request asks for (`ui_locales`, OpenID Connect), else what the browser names first."""
    asked = request.query_params.get("ui_locales", "").split()
    for each in (*asked, *request.headers.get("accept-language", "").split(",")):
        tag = each.strip()[:2].lower()
        if tag in WORDS:
            return tag
    return "zh"


def render(request: Request, template: str, *, status: int = 200, **values: Any) -> Response:
    """A page. Its forms go to this site, and to the origin of `redirect`, where one is given and was checked."""
    chosen = language(request)
    known = {"refusal": None, "faults": (), "username": "", "application": None, "redirect": None, "action": SIGN_OUT}
    content = _environment.get_template(template).render(
        **known | values, words=WORDS[chosen], language=chosen, style=STYLE
    )
    origin = _origin(values.get("redirect"))
    headers = {
        "Content-Language": "zh-CN" if chosen == "zh" else "en",
        "Content-Security-Policy": "default-src 'none'; style-src 'self'; base-uri 'none'; frame-ancestors 'none'; "
        f"form-action 'self'{origin}",
        "Cache-Control": "no-store",
        "Vary": "Accept-Language",
    }
    return Response(content, status, headers, media_type="text/html; charset=utf-8")


def _origin(redirect: str | None) -> str:
    """Browsers hold the redirect after a form against the page's policy too."""
    if redirect is None:
        return ""
    parts = urlsplit(redirect)
    return f" {parts.scheme}://{parts.netloc}"


@cache
def _style() -> bytes:
    return resources.files("dossier_gateway.console").joinpath("style.css").read_bytes()


@router.get(STYLE, include_in_schema=False)
async def show_style() -> Response:
    """The style of all pages."""
    return Response(_style(), headers={"Cache-Control": "public, max-age=3600"}, media_type="text/css")
