"""How long people wait for the demo's answer while many of them draw at once: python -m benchmarks.demo RUN

The demo runs in a process of its own. Each person draws without a pause, as the page does it: the drawing so far is
sent, and 60 ms after its answer the next one. Server and people share this machine's cores. Takes half a minute.
"""

import argparse
import asyncio
import base64
import io
import json
import random
import re
import statistics
import subprocess
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

from PIL import Image, ImageDraw

ROOT = Path(__file__).parent.parent
PAUSE_S = 0.06
"""The pause between two drawings while the pen moves: PAUSE_MS in the page's canvas.js."""
SIDE = 280
"""The canvas' side in pixels."""


def drawings(generator: random.Random, num_points: int = 30) -> list[str]:
    """A stroke that grows, point by point, as the page sends it."""
    canvas = Image.new("RGBA", (SIDE, SIDE), "black")
    pen, points, sent = ImageDraw.Draw(canvas), [(SIDE // 2, SIDE // 2)], []
    for _ in range(num_points):
        x, y = points[-1]
        points.append((x + generator.randint(-40, 40), y + generator.randint(-40, 40)))
        pen.line(points, "white", SIDE // 13, "curve")
        file = io.BytesIO()
        canvas.save(file, "PNG")
        picture = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
        sent.append(json.dumps({"picture": picture, "kind": "drawn", "truth": "", "paper": "black"}))
    return sent


async def ask(host: str, port: int, request: bytes, until: bytes = b"") -> bytes:
    """One HTTP request on a connection of its own: the answer's body, or what comes before some bytes in it."""
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    received = b""
    while until not in received if until else True:
        part = await reader.read(1 << 16)
        if not part:
            break
        received += part
    writer.close()
    if not received.startswith(b"HTTP/1.1 200"):
        raise RuntimeError(received[:300].decode(errors="replace"))
    return received


async def answer(host: str, port: int, session: str, drawing: str) -> float:
    """Seconds from sending a drawing until its answer is there."""
    start = time.perf_counter()
    common = f"Host: {host}:{port}\r\nOrigin: http://{host}:{port}\r\nConnection: close\r\n"
    body = json.dumps({"data": [drawing, True, "integrated gradients"], "fn_index": 0, "session_hash": session})
    head = f"POST /gradio_api/run/predict HTTP/1.1\r\n{common}Content-Type: application/json\r\n"
    received = await ask(host, port, f"{head}Content-Length: {len(body)}\r\n\r\n{body}".encode())
    assert b"mlp-page" in received, received[-500:]
    return time.perf_counter() - start


async def person(host: str, port: int, number: int, end: float) -> list[float]:
    """One person's waits, from now until the end."""
    generator = random.Random(number)  # noqa: S311 - strokes, no secrets
    waits: list[float] = []
    await asyncio.sleep(generator.random())
    sent = drawings(generator)
    while time.perf_counter() < end:
        waits.append(await answer(host, port, f"person{number}", sent[len(waits) % len(sent)]))
        await asyncio.sleep(PAUSE_S)
    return waits


async def crowd(address: str, people: int, seconds: float) -> list[float]:
    """Everybody's waits, without those of the first seconds."""
    host, port = urlsplit(address).hostname or "", urlsplit(address).port or 0
    end = time.perf_counter() + seconds
    waits = await asyncio.gather(*(person(host, port, number, end) for number in range(people)))
    return [wait for own in waits for wait in own[1:]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("run", type=Path)
    parser.add_argument("--people", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=20.0)
    arguments = parser.parse_args()
    command = [sys.executable, str(ROOT / "scripts" / "demo.py"), str(arguments.run), "--port=0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as server:
        try:
            assert server.stdout is not None
            found = re.search(r"http://\S+", server.stdout.readline())
            assert found, "the demo does not start"
            waits = asyncio.run(crowd(found[0], arguments.people, arguments.seconds))
        finally:
            server.kill()
    median, most = statistics.median(waits), statistics.quantiles(waits, n=10)[8]
    print(f"{arguments.people} people, {len(waits)} answers in {arguments.seconds:g} s")
    print(f"median wait {median:.2f} s, nine tenths within {most:.2f} s, the longest {max(waits):.2f} s")


if __name__ == "__main__":
    main()
