"""What a stranger's page, a tool or a broken client can send to the demo, over real HTTP, and what it gets."""

import base64
import http.client
import importlib.util
import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import threading
import time
import zlib
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import numpy as np
import pytest
from finished import finish, small_flags
from PIL import Image
from test_app import demo_process  # type: ignore[import-not-found]

from project.serving.demo.app import MAX_BYTES
from project.serving.demo.guard import CALL, MAX_BODY, Guard
from project.serving.demo.page import png_url

for package in ("gradio", "captum"):
    if importlib.util.find_spec(package) is None and os.environ.get("CI") != "true":
        pytest.skip(f"{package} is not installed (pip install -e '.[demo]')", allow_module_level=True)


class Reply(NamedTuple):
    status: int
    headers: dict[str, str]
    text: str


class Client(NamedTuple):
    """Real requests to a served demo."""

    port: int

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> Reply:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        with closing(http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)) as connection:
            with suppress(BrokenPipeError, ConnectionResetError):  # refused before everything was sent
                connection.request(method, path, body, named)
            with connection.getresponse() as reply:
                found = {name.lower(): value for name, value in reply.getheaders()}
                return Reply(reply.status, found, reply.read().decode(errors="replace"))

    def draw(self, message: Any, number: int = 0, method: Any = "integrated gradients", **headers: str) -> Reply:
        data = [message, False, method] if number == 0 else []
        body = json.dumps({"data": data, "fn_index": number, "session_hash": "s"})
        return self.ask("POST", CALL, body, Content_Type="application/json", **headers)


def picture(file: bytes, kind: str = "file", truth: str = "") -> str:
    url = "data:image/png;base64," + base64.b64encode(file).decode()
    return json.dumps({"picture": url, "kind": kind, "paper": "black", "truth": truth})


def drawn() -> str:
    pixels = np.zeros((280, 280), np.uint8)
    pixels[40:240, 120:160] = 255
    return json.dumps({"picture": png_url(pixels), "kind": "drawn", "paper": "black", "truth": ""})


@pytest.fixture(scope="module")
def client(idx_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    """The demo in a process of its own, which prints no traceback whatever it is sent."""
    folder = tmp_path_factory.mktemp("guarded")
    run = finish(*small_flags(idx_folder, folder / "runs"), "--trainer.max_epochs=1")
    with demo_process(folder, run) as (server, address):
        yield Client(urlsplit(address).port or 0)
        server.kill()
        assert server.stderr is not None
        said = server.stderr.read()
    assert "Traceback" not in said, said
    assert "Exception" not in said, said


def test_the_page_and_its_answers_pass(client: Client) -> None:
    assert "<html" in client.ask("GET", "/").text
    own = {"Origin": f"http://{client.host}", "Sec_Fetch_Site": "same-origin"}
    assert "mlp-bar" in client.draw(drawn(), **own).text
    assert client.ask("GET", "/", Host=f"localhost:{client.port}").status == 200
    # a link elsewhere may open the page
    assert client.ask("GET", "/", Sec_Fetch_Site="cross-site", Sec_Fetch_Mode="navigate").status == 200


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example:7860", "8.8.8.8", "", "a@b", "[::"])
@pytest.mark.parametrize("path", ["/", "/theme.css", "/config"])
def test_another_name_for_this_machine_is_refused(client: Client, host: str, path: str) -> None:
    reply = client.ask("GET", path, Host=host)
    assert reply.status in (400, 403)
    assert "access-control-allow-origin" not in reply.headers
    assert "fashion" not in reply.text


@pytest.mark.parametrize("origin", ["http://evil.example", "null", "http://localhost:1", "file://", "https://[", ""])
def test_another_page_is_refused(client: Client, origin: str) -> None:
    for reply in (
        client.draw(drawn(), Origin=origin),
        client.ask("GET", "/", Origin=origin),
        client.ask("OPTIONS", CALL, Origin=origin, Access_Control_Request_Method="POST"),
        client.ask("POST", "/gradio_api/upload", b"x", Origin=origin),
    ):
        assert reply.status == 403
        assert "access-control-allow-origin" not in reply.headers


def test_a_request_that_a_browser_calls_foreign_is_refused(client: Client) -> None:
    for site in ("cross-site", "same-site"):
        assert client.draw(drawn(), Sec_Fetch_Site=site).status == 403
        assert client.ask("GET", "/theme.css", Sec_Fetch_Site=site, Sec_Fetch_Mode="no-cors").status == 403
        assert client.ask("GET", "/assets/x.js", Sec_Fetch_Site=site, Sec_Fetch_Mode="navigate").status == 403


ROUTES = """
import gradio, json
def flat(routes):
    for route in routes:
        inner = getattr(route, "original_router", None) or getattr(route, "app", None)
        if type(route).__name__ == "APIRoute":
            yield route
        elif hasattr(inner, "routes"):
            yield from flat(inner.routes)
app = gradio.routes.App.create_app(gradio.Blocks())
print(json.dumps([(method, route.path) for route in flat(app.routes) for method in route.methods]))
"""
"""Prints all that Gradio answers."""


def test_every_door_that_the_page_does_not_use_is_closed(client: Client) -> None:
    """All routes that Gradio has: a new release's new ones too."""
    listed = subprocess.run([sys.executable, "-c", ROUTES], capture_output=True, text=True, check=True, timeout=120)
    routes = json.loads(listed.stdout.splitlines()[-1])
    assert len(routes) > 60
    used = {"/", "/theme.css", "/favicon.ico", "/manifest.json", "/gradio_api/startup-events", CALL}
    passed = set()
    for method, path in routes:
        path = path.replace(":path}", "}").replace("{", "").replace("}", "")
        if client.ask(method, path, b"{}" if method == "POST" else None).status != 404:
            passed.add(path)
    assert passed <= used
    for path in ("/gradio_api/upload", "/gradio_api/queue/join", "/gradio_api/call/respond", "/gradio_api/run/respond"):
        assert client.ask("POST", path, b"{}").status == 404
    for path in ("/gradio_api/info", "/config", "/gradio_api/file=/etc/passwd", "/docs", "/monitoring"):
        assert client.ask("GET", path).status == 404
    for path in ("/static/../../../etc/passwd", "/static/%2e%2e/%2e%2e/%2e%2e/etc/passwd", "/assets//etc/passwd"):
        assert "root:" not in client.ask("GET", path).text
    for method in ("PUT", "DELETE", "PATCH", "TRACE"):
        assert client.ask(method, "/").status == 404


GARBAGE = {
    "nothing": b"",
    "text": b"hello",
    "null": b"null",
    "list": b"[]",
    "bytes": bytes(range(256)),
    "deep": b"[" * 200_000,
    "huge number": b'{"data": [null, false, "x"], "session_hash": "s", "fn_index": 1' + b"0" * 5000 + b"}",
    "no data": b'{"fn_index": 0, "session_hash": "s"}',
    "another call": b'{"data": [], "fn_index": 7, "session_hash": "s"}',
    "a call before the first": b'{"data": [], "fn_index": -1, "session_hash": "s"}',
    "a call that is true": b'{"data": [], "fn_index": true, "session_hash": "s"}',
    "too few": b'{"data": [], "fn_index": 0, "session_hash": "s"}',
    "too many": b'{"data": [1, 2, 3, 4], "fn_index": 0, "session_hash": "s"}',
    "mappings": b'{"data": [{"path": "/etc/passwd"}, {}, {}], "fn_index": 0, "session_hash": "s"}',
    "a long session": json.dumps({"data": [], "fn_index": 1, "session_hash": "s" * 1000}).encode(),
    "no session": b'{"data": [], "fn_index": 1}',
}


@pytest.mark.parametrize("name", GARBAGE)
def test_garbage_is_refused_without_a_traceback(client: Client, name: str) -> None:
    reply = client.ask("POST", CALL, GARBAGE[name], Content_Type="application/json")
    assert reply.status == 400
    assert len(reply.text.splitlines()) == 1


@pytest.mark.parametrize(
    "sent",
    [
        *("", "x", True, "{}", "[" * 200_000, json.dumps({"picture": 1, "kind": {}, "paper": [], "truth": None})),
        *(picture(b"no picture"), picture(b"\x89PNG\r\n\x1a\n"), picture(b"", kind="too large")),
    ],
    ids=["nothing", "a letter", "true", "a mapping", "deep", "wrong types", "no picture", "a beginning", "too large"],
)
def test_a_drawing_that_is_none_is_answered_in_words(client: Client, sent: Any) -> None:
    reply = client.draw(sent)
    assert reply.status == 200
    assert "mlp-page" in reply.text
    assert "mlp-bar" not in reply.text


def test_odd_texts_and_methods_are_answered(client: Client) -> None:
    file = io.BytesIO()
    Image.new("L", (9, 8), 200).save(file, "PNG")
    assert "mlp-bar" in client.draw(picture(file.getvalue(), "example", "\ud800<b>" + "x" * 10_000)).text
    for method in (None, "", "os.system", False):
        assert "mlp-bar" not in client.draw(drawn(), method=method).text
    assert "example" in client.draw(None, number=1).text


@pytest.mark.parametrize("chunked", [False, True])
def test_fifty_megabytes_are_not_taken(client: Client, chunked: bool) -> None:
    body: Any = iter([b"x" * 1_000_000] * 50) if chunked else b"x" * 50_000_000
    with suppress(ConnectionError):  # closed while it was being sent
        assert client.ask("POST", CALL, body, Content_Type="application/json").status == 413
    assert client.draw(drawn()).status == 200


def test_a_large_file_is_refused_in_words(client: Client) -> None:
    reply = client.draw(picture(bytes(MAX_BYTES + 1)))
    assert "larger than 10 MB" in reply.text
    assert len(picture(bytes(MAX_BYTES))) < MAX_BODY


def bomb(width: int, height: int) -> bytes:
    """A PNG file of a few bytes that says, truly, that it unpacks to very many."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    packed = zlib.compressobj()
    rows = b"".join(packed.compress(bytes(min(width, 100_000) + 1)) for _ in range(min(height, 2000))) + packed.flush()
    head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")


@pytest.mark.parametrize("size", [(20_001, 1000), (100_000, 100_000), (2**31 - 1, 1)])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(client: Client, size: tuple[int, int]) -> None:
    start = time.perf_counter()
    assert "20,000,000 pixels" in client.draw(picture(bomb(*size))).text
    assert time.perf_counter() - start < 5


def test_a_slow_picture_does_not_block_the_others(client: Client) -> None:
    file = io.BytesIO()
    Image.new("RGBA", (5000, 4000), (9, 9, 9, 128)).save(file, "PNG", compress_level=1)
    done: list[float] = []

    def ask() -> None:
        assert "mlp-bar" in client.draw(picture(file.getvalue())).text
        done.append(time.perf_counter())

    other = threading.Thread(target=ask)
    other.start()
    time.sleep(0.1)
    answered = []
    for _ in range(3):
        assert "mlp-bar" in client.draw(drawn()).text
        answered.append(time.perf_counter())
    other.join()
    assert done, "the slow picture got no answer"
    assert answered[0] < done[0]


def test_nothing_that_was_sent_is_kept(client: Client) -> None:
    folder = Path(os.environ.get("GRADIO_TEMP_DIR") or Path(tempfile.gettempdir()) / "gradio")
    before = set(folder.rglob("*"))
    client.draw(drawn())
    client.draw(None, number=1)
    client.ask("POST", "/gradio_api/upload", b"x" * 1000, Content_Type="multipart/form-data; boundary=b")
    assert set(folder.rglob("*")) == before


@pytest.mark.parametrize(
    ("listening", "host", "known"),
    [
        ("0.0.0.0", "192.168.1.7:7860", True),  # noqa: S104 - nothing listens
        ("0.0.0.0", "evil.example", False),  # noqa: S104
        ("0.0.0.0", "localhost", True),  # noqa: S104
        ("::1", "[::1]:7860", True),
        ("127.0.0.1", "192.168.1.7", False),
        ("localhost", "127.0.0.1:9", True),
        ("lab.example", "LAB.example:80", True),
    ],
)
def test_which_names_are_this_machines(listening: str, host: str, known: bool) -> None:
    async def nothing(*_: Any) -> None: ...

    assert Guard(nothing, listening, [])._is_own(host) is known
