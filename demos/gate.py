"""What reaches Gradio: a list of the addresses that the page needs, and no request that names a foreign file.

Gradio 6.31 has some sixty routes, and two things in them that a page for patients' data should not offer:
`file=https://...` and any file object whose path is an address make the server fetch that address, and
`queue/join` takes any number of bytes. `Gate` stands in front: what is not on the list is refused, so a
route that a later release adds stays shut until somebody has looked at it.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator, MutableMapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from .guard import LIMITS, MIB, Limits, is_loopback
from .room import NoRoom, Room

API = "/gradio_api"
FILES = f"{API}/file="
# What the page and a client need; a trailing * stands for anything.
_ROOT = (
    "/",
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/robots.txt",
    "/manifest.json",
    "/assets/*",
    "/static/*",
)
_ASK = ("info", "app_id", "theme.css", "startup-events", "queue/data", "queue/status", "heartbeat/*")
_READ = (*_ROOT, *(f"{API}/{name}" for name in (*_ASK, "upload_progress", "file=*", "call/*")))
# run/: events without a queue, as Gradio refuses there those that have one (`queue_settings`).
_WRITE = tuple(f"{API}/{name}" for name in ("queue/join", "run/*", "call/*", "upload", "cancel", "reset"))
_SCHEME = re.compile(r"\s*[a-z][a-z0-9+.-]+:|\s*[/\\]{2}", re.IGNORECASE)  # C:\ is a drive, not an address
_HEADERS = (
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
    # A second line of defence, and no more: a script that slipped through would run, since Gradio needs
    # 'unsafe-inline' and 'unsafe-eval'. It could fetch nothing from elsewhere and send no form there, but it
    # could still lead the browser away, with what it has read in the address.
    (
        b"content-security-policy",
        b"default-src 'self' data: blob: 'unsafe-inline' 'unsafe-eval'; form-action 'self'; "
        b"base-uri 'self'; frame-ancestors 'self'",  # Gradio's own page has a <base>
    ),
)


class Refused(Exception):
    """A request that is not answered; its text is for the one who sent it."""

    def __init__(self, sentence: str, status: int = 403):
        super().__init__(sentence)
        self.status = status


class Gate:
    """ASGI middleware. local: the page serves this machine only, so it answers to no other name (a web page
    elsewhere could have its own name lead here), and to no page of another origin."""

    def __init__(self, app: Any, limits: Limits = LIMITS, local: bool = True):
        self.app, self.limits, self.local = app, limits, local
        self.room = Room(limits)

    async def __call__(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        try:
            receive = await self._checked(scope, receive)
            if _is_upload_request(scope):
                await self._upload(scope, receive, send)
            else:
                await self._pass(scope, receive, send)
        except Refused as refusal:
            if scope["type"] == "http":
                await _say(send, refusal)

    async def _pass(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> int:
        """Let the application answer. -> the status of its answer, 0 if it gave none"""
        status = 0

        async def guarded(message: MutableMapping[str, Any]) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self.app(scope, receive, guarded)
        return status

    async def _upload(self, scope: MutableMapping[str, Any], receive: Any, send: Any) -> None:
        """Let a file in if there is room for it. What was broken off still counts: a part of it is there."""
        address, size = (scope.get("client") or ("",))[0], int(_headers(scope)["content-length"])
        try:
            with self.room.taking(address, size) as not_taken:
                if await self._pass(scope, receive, send) >= 400:
                    not_taken()
        except NoRoom as error:
            raise Refused(str(error), 507) from error

    async def _checked(self, scope: MutableMapping[str, Any], receive: Any) -> Any:
        """What the application receives; Refused if it should not."""
        if scope["type"] != "http":
            raise Refused("This page uses no such connection.")
        headers = _headers(scope)
        if self.local:
            check_names(headers)
        method, path = scope["method"], scope["path"]
        check_address(method, path)
        if method != "POST":
            return receive
        upload = _is_upload_request(scope)
        check_length(headers, self.limits.file + MIB if upload else self.limits.body)
        if upload:
            return receive
        body = await _whole(receive, self.limits.body)
        check_body(body, headers.get("host", ""))
        return _again(body, receive)


# ----------------------------------------------------------------------------------------------------- checks


def check_names(headers: MutableMapping[str, str]) -> None:
    """Asked by the name of this machine, and by no page of another origin."""
    if not is_loopback(_host(f"//{headers.get('host', '')}")):
        raise Refused(
            "This page answers on this machine only: open it as 127.0.0.1, or start it with --host."
        )
    if "origin" in headers and not is_loopback(_host(headers["origin"])):
        raise Refused("This page takes no requests from other pages.")


def check_address(method: str, path: str) -> None:
    """On the list, and no file of another server."""
    known = _WRITE if method == "POST" else _READ if method in ("GET", "HEAD", "OPTIONS") else ()
    plain = path.rstrip("/") or "/"
    if not any(path.startswith(k[:-1]) if k.endswith("*") else plain == k for k in known):
        raise Refused("This page has no such address.", 404 if method in ("GET", "HEAD") else 403)
    if path.startswith(FILES) and _SCHEME.match(path.removeprefix(FILES)):
        raise Refused("Files of other servers are not fetched.")


def check_length(headers: MutableMapping[str, str], most: int) -> None:
    """The size is told before the body comes, and fits."""
    length = headers.get("content-length", "")
    if not length.isdigit():
        raise Refused("The request does not say how long it is.", 411)
    if int(length) > most:
        raise Refused(f"That is too much at once: at most {most / MIB:,.0f} MiB are taken.", 413)


def check_body(body: bytes, host: str) -> None:
    """JSON in which every file is one that was uploaded here. host: how the page itself was asked for."""
    if not body.strip():
        return
    try:
        said = json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Refused("The request is not JSON.", 400) from error
    for item in _objects(said):
        path, url = item.get("path"), item.get("url")
        # With or without "meta", by which Gradio knows a file: its own check skips an object that has none.
        if isinstance(path, str) and (_SCHEME.match(path) or not _is_upload(path)):
            raise Refused("Only files that were uploaded here are read. Addresses are not fetched.")
        if isinstance(url, str) and url and not _is_own(url, host):
            raise Refused("Addresses are not fetched. Upload the file instead.")


def _objects(said: Any) -> Iterator[dict[str, Any]]:
    """Every object in a JSON document, however deep."""
    left = [said]
    while left:
        item = left.pop()
        if isinstance(item, dict):
            yield item
            left.extend(item.values())
        elif isinstance(item, list):
            left.extend(item)


def _is_upload(path: str) -> bool:
    """Whether a path lies in Gradio's folder; where that is not known, Gradio itself decides."""
    folder = os.environ.get("GRADIO_TEMP_DIR")
    return not folder or Path(os.path.realpath(path)).is_relative_to(os.path.realpath(folder))


def _is_own(url: str, host: str) -> bool:
    """Whether an address is that of a file on this page, as Gradio writes it beside the path."""
    parts = urlsplit(url)
    return (
        parts.path.startswith(FILES)
        and parts.netloc in ("", host)
        and not _SCHEME.match(parts.path.removeprefix(FILES))
    )


def _headers(scope: MutableMapping[str, Any]) -> dict[str, str]:
    return {key.decode("latin-1").lower(): value.decode("latin-1") for key, value in scope["headers"]}


def _is_upload_request(scope: MutableMapping[str, Any]) -> bool:
    return scope["method"] == "POST" and scope["path"].rstrip("/").endswith("/upload")


def _host(address: str) -> str:
    try:
        return (urlsplit(address).hostname or "").lower()
    except ValueError:
        return ""


# ------------------------------------------------------------------------------------------------------- ASGI


async def _whole(receive: Any, most: int) -> bytes:
    """The body, at most so long."""
    body, more = b"", True
    while more:
        message = await receive()
        if message["type"] != "http.request":
            raise Refused("The connection was closed.", 400)
        body, more = body + message.get("body", b""), message.get("more_body", False)
        if len(body) > most:
            raise Refused(f"That is too much at once: at most {most / MIB:,.0f} MiB are taken.", 413)
    return body


def _again(body: bytes, receive: Any) -> Any:
    """`receive` that gives a body which was read already, then waits as the real one does."""
    given = False

    async def replay() -> dict[str, Any]:
        nonlocal given
        if given:
            return await receive()
        given = True
        return {"type": "http.request", "body": body, "more_body": False}

    return replay


async def _say(send: Any, refusal: Refused) -> None:
    content = json.dumps({"detail": str(refusal), "error": str(refusal)}).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": refusal.status, "headers": [*headers, *_HEADERS]})
    await send({"type": "http.response.body", "body": content})
