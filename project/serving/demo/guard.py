"""What stands before the demo's page: only the page itself, at this machine's own addresses, may ask anything.

A web page of somebody else, open in the same browser, can send requests to this machine too. A browser says from where
they come (Origin, Sec-Fetch-Site), and under which name it found the machine (Host), which a stranger's name server can
point here. Whatever does not fit is refused before Gradio sees it, and Gradio's other doors, such as its uploads, are
closed.
"""

import ipaddress
import json
import logging
import re
import socket
from collections.abc import Awaitable, Callable, Sequence
from typing import Any
from urllib.parse import urlsplit

log = logging.getLogger("project")

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
Application = Callable[[Message, Receive, Send], Awaitable[None]]

MAX_BODY = 14_000_000
"""The maximum number of bytes of a request: a picture file of 10 MB as text, and a little more."""
MAX_HASH_LENGTH = 64
"""The maximum number of characters of the name that the page gives its session."""
CALL = "/gradio_api/run/predict"
"""Where the page sends its drawings."""
READ = re.compile(r"/|/(favicon\.ico|manifest\.json|theme\.css|gradio_api/startup-events)|/(assets|static)/.+")
"""What the page loads."""


class Guard:
    """A web application (ASGI) that passes on the page's own requests to another one.

    Args:
        app: The application behind it.
        host: The address that the server listens on.
        num_inputs: How many values each of the page's calls has, by its number.
    """

    def __init__(self, app: Application, host: str, num_inputs: Sequence[int]) -> None:
        self.app, self.num_inputs = app, num_inputs
        self.is_local = host == "localhost" or (_is_address(host) and ipaddress.ip_address(host).is_loopback)
        self.names = {"localhost", host.lower()} | (set() if self.is_local else {socket.gethostname().lower()})

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            await self._answer(scope, receive, send)
        # nothing else, such as a web socket, is answered: the server then closes the connection

    async def _answer(self, scope: Message, receive: Receive, send: Send) -> None:
        refusal, begun = self._refusal(scope), False
        body = b"" if refusal else await _read_body(scope, receive)
        if not refusal and body is None:
            refusal = (413, f"a request may have {MAX_BODY:,} bytes")
        if not refusal and scope["method"] == "POST":
            body = self._checked(body or b"")
            refusal = None if body else (400, "this is not what the page sends")
        if refusal:
            await _refuse(send, *refusal)
            return

        async def read() -> Message:
            nonlocal body
            if body is None:
                return await receive()  # that the browser has gone
            whole, body = body, None
            return {"type": "http.request", "body": whole, "more_body": False}

        async def passed(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        headers = [(name, value) for name, value in scope["headers"] if name != b"content-length"]
        headers += [(b"content-length", str(len(body or b"")).encode())]
        try:
            await self.app({**scope, "headers": headers}, read, passed)
        except Exception as error:  # whatever somebody sent, the page goes on
            log.warning("a request failed: %s", type(error).__name__)
            if not begun:
                await _refuse(send, 400, "this cannot be answered")

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Why a request is refused for what its head says: the status, and the reason in words; None if it is not."""
        headers: dict[bytes, bytes] = dict(scope["headers"])
        hosts = [value.decode("latin-1") for name, value in scope["headers"] if name == b"host"]
        if len(hosts) != 1 or not self._is_own(hosts[0]):
            return 403, "this machine is not known by that name; open the address that the demo printed"
        is_read = scope["method"] in ("GET", "HEAD")
        origin = headers.get(b"origin")
        if origin is not None and origin.decode("latin-1") not in (f"http://{hosts[0]}", f"https://{hosts[0]}"):
            return 403, "this request comes from another page"
        # a link on another page may lead here, but nothing else of it
        opened = is_read and scope["path"] == "/" and headers.get(b"sec-fetch-mode") == b"navigate"
        if headers.get(b"sec-fetch-site", b"none") not in (b"none", b"same-origin") and not opened:
            return 403, "this request comes from another page"
        if not (READ.fullmatch(scope["path"]) if is_read else scope["method"] == "POST" and scope["path"] == CALL):
            return 404, "the page does not ask for this"
        return None

    def _is_own(self, host: str) -> bool:
        """Whether a browser that was told this host was told this machine: no name server can point a number here."""
        try:
            name = urlsplit(f"//{host}").hostname or ""
        except ValueError:
            return False
        if not _is_address(name):
            return name in self.names
        return not self.is_local or ipaddress.ip_address(name).is_loopback

    def _checked(self, body: bytes) -> bytes | None:
        """The values of a call that the page makes, without what else a body may hold; None if it is no such call."""
        try:
            content = json.loads(body)
            data, number, session = content["data"], content["fn_index"], content.get("session_hash")
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            return None
        if type(number) is not int or not 0 <= number < len(self.num_inputs):
            return None
        if not isinstance(data, list) or len(data) != self.num_inputs[number]:
            return None
        if not isinstance(session, str) or len(session) > MAX_HASH_LENGTH:
            return None
        if not all(value is None or isinstance(value, str | bool) for value in data):
            return None
        return json.dumps({"data": data, "fn_index": number, "session_hash": session}).encode()


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


async def _read_body(scope: Message, receive: Receive) -> bytes | None:
    """A request's body; None if it is too large, or if the connection ends before it does."""
    announced = dict(scope["headers"]).get(b"content-length", b"0")
    if not announced.isdigit() or int(announced) > MAX_BODY:
        return None
    body = bytearray()
    while True:
        message = await receive()
        body += message.get("body", b"")
        if message["type"] != "http.request" or len(body) > MAX_BODY:
            return None
        if not message.get("more_body", False):
            return bytes(body)


async def _refuse(send: Send, status: int, reason: str) -> None:
    """Answer with one line, and close the connection: what else comes on it is not read."""
    headers = [(b"content-type", b"text/plain; charset=utf-8"), (b"connection", b"close")]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": f"{reason}\n".encode()})
