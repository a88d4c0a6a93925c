"""Whose conversations and votes are whose: a login's name, or else the browser's own cookie.

The cookie is a random token that scripts cannot read. The database knows its hash only, so that who reads the file
cannot act as the browser.
"""

from __future__ import annotations

import hashlib
import secrets
from http.cookies import SimpleCookie

import gradio as gr
from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "workbench-browser"
TOKEN_BYTES = 32
COOKIE_DAYS = 400  # the longest browsers keep one (RFC 6265bis, section 5.5)


def owner_of(request: gr.Request) -> str:
    """Who sent an event of a page: `login:<name>`, `browser:<hash>`, or, from a browser that keeps no cookies,
    `tab:<session>`, which ends with the tab."""
    if request.username:
        return f"login:{request.username}"
    token = dict(request.cookies).get(COOKIE)
    if token:
        return f"browser:{hashlib.sha256(str(token).encode()).hexdigest()}"
    return f"tab:{request.session_hash}"


class BrowserCookie:
    """ASGI middleware that gives a browser its cookie along with the first page it gets."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or COOKIE in SimpleCookie(Headers(scope=scope).get("cookie", "")):
            await self.app(scope, receive, send)
            return

        async def send_with_cookie(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                if headers.get("content-type", "").startswith("text/html"):
                    headers.append("set-cookie", _new_cookie(is_secure=scope["scheme"] == "https"))
            await send(message)

        await self.app(scope, receive, send_with_cookie)


def _new_cookie(*, is_secure: bool) -> str:
    # Lax, not Strict: with Strict a link from elsewhere would arrive without the cookie and be given a new one.
    secure = "; Secure" if is_secure else ""
    token = secrets.token_urlsafe(TOKEN_BYTES)
    return f"{COOKIE}={token}; HttpOnly; SameSite=Lax; Path=/; Max-Age={COOKIE_DAYS * 86400}{secure}"
