"""The demo: a web page on which one draws a picture and watches trained networks answer.

    python scripts/demo.py runs/mnist/NAME

Gradio serves the page from this machine and to this machine. Nothing is fetched from anywhere else, by the page or by
the server: fonts are the system's, and Gradio's statistics and search for updates are off.
"""

import base64
import io
import json
import os
import random
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal

import torch
from torch import Tensor

from project.data.sources.picture_files import read_image
from project.errors import InputError, RunError
from project.runs.tables import layer_sizes
from project.serving.demo.attribution import AttributionName, layer_outputs, pixel_attribution
from project.serving.demo.gallery import gallery, load_test, picture_at
from project.serving.demo.guard import Guard
from project.serving.demo.page import CANVAS, CANVAS_SCRIPT, CSS, Answer, answer_page, empty_page, error_page, png_url
from project.serving.evaluation import scored_metrics
from project.serving.packages import require
from project.serving.predict import Polarity
from project.serving.predict.image_files import fit_image, is_prepared
from project.serving.restore import RestoredRun, answers, restore
from project.task import decide

if TYPE_CHECKING:
    from gradio import Blocks


CANVAS_SIDE = 280
"""The canvas' longer side in pixels."""
MAX_BYTES, MAX_PIXELS = 10_000_000, 20_000_000
"""The largest picture that the page takes: the size of its file, and its pixels."""
MAX_TRUTH_LENGTH = 200
"""The maximum number of characters of an example's name."""
SLOTS = 4
"""How many pictures are answered at the same time: a slow one leaves the others room, and more would only wait."""
METHODS: dict[str, AttributionName] = {
    "integrated gradients": "integrated_gradients",
    "gradient × input": "gradient_times_input",
}


@dataclass(frozen=True)
class Contender:
    """One of the networks that answer.

    Args:
        run: The run; its network is in evaluation mode, on the CPU.
        name: The names of the data set and of the run, from the names of its folders.
    """

    run: RestoredRun
    name: str

    @cached_property
    def description(self) -> str:
        """One line: the layers' sizes and, if it is known for these weights, the score on the test set."""
        line = layer_sizes(self.run.module)
        metrics = scored_metrics(self.run)
        if isinstance(accuracy := metrics.get("test/accuracy"), float):
            return f"{line}, test accuracy {100 * accuracy:.1f} %"
        rmse = metrics.get("test/rmse")
        return f"{line}, root mean squared test error {rmse:.3g}" if isinstance(rmse, float) else line

    def answer(self, drawing: "Drawing", prepare: bool, method: AttributionName) -> Answer:
        """What this network answers to a picture.

        Args:
            drawing: The picture, of any size.
            prepare: Whether its ink is prepared as MNIST's was. Examples, pictures of the network's size and those for
                networks that take colours stay as they are.
            method: How the share of each pixel is computed.
        """
        module, spec = self.run.module, self.run.module.spec
        polarity = drawing.polarity(self.run.polarity)
        given = drawing.image if spec.channels == 1 else drawing.colours
        prepared = prepare and drawing.kind != "example" and is_prepared(given, spec.shape, "auto")
        image, inverted = fit_image(given, spec.height, spec.width, polarity, prepared)
        unlike = self.run.unlike(image[None])
        with torch.no_grad():
            *hidden, logits = layer_outputs(module, image[None])
        is_class = module.task != "regression"
        decision = int(decide(logits, module.task)) if is_class else 0
        return Answer(
            name=self.name,
            description=self.description,
            class_names=spec.class_names,
            image=image,
            inverted=inverted,
            prepared=prepared,
            answer=answers(logits, spec)[0],
            unit="degrees" if self.run.datamodule.settings.target == "rotation" else "",
            decision=decision,
            hidden=[layer[0] for layer in hidden],
            attribution=pixel_attribution(module, image[None], decision, method)[0],
            unlike=None if unlike is None else bool(unlike[0]),
        )

    def example(self, generator: random.Random) -> tuple[Tensor, str]:
        """A picture of the test set, uint8 (height, width) or (height, width, 3), and what it shows.

        Raises:
            InputError: If the data are no longer where they were.
        """
        return picture_at(self.run, generator.randrange(len(load_test(self.run).indices)))


@dataclass(frozen=True)
class Drawing:
    """What the page sends.

    Args:
        image: Gray levels, uint8 (height, width).
        kind: Whether it was drawn by hand, is a file, or is an example of the test set.
        paper: The colour of the background that it was drawn on.
        truth: What an example shows; otherwise empty.
        file: The picture's file, from which its colours are read if a network takes them.
    """

    image: Tensor
    kind: Literal["drawn", "file", "example"]
    paper: Literal["black", "white"]
    truth: str
    file: bytes = b""

    @cached_property
    def colours(self) -> Tensor:
        """Red, green and blue, uint8 (height, width, 3)."""
        return read_image(io.BytesIO(self.file), 3, MAX_PIXELS)

    @classmethod
    def from_page(cls, message: str) -> "Drawing":
        """Read what the page sends: JSON with picture (a data URL), kind, paper (black or white) and truth.

        Raises:
            InputError: If it is no picture.
        """
        try:
            content = json.loads(message)
            kind, paper, truth = content["kind"], content["paper"], str(content["truth"])
            data = base64.b64decode(content["picture"].partition(",")[2], validate=True)
            truth = truth[:MAX_TRUTH_LENGTH].encode(errors="replace").decode()  # halves of characters leave no server
        except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
            raise InputError("the page sent no picture", "load the page again") from None
        if kind == "too large" or len(data) > MAX_BYTES:
            raise InputError(f"the picture's file is larger than {MAX_BYTES / 1e6:.0f} MB", "make it smaller first")
        return cls(
            read_image(io.BytesIO(data), max_pixels=MAX_PIXELS),
            kind if kind in ("drawn", "example") else "file",
            "white" if paper == "white" else "black",
            truth,
            data,
        )

    def polarity(self, usual: Polarity) -> Polarity:
        """Whether the drawing must be inverted for a network.

        Args:
            usual: What happens to other pictures from outside the network's own data.
        """
        if self.kind == "example" or usual == "as_is":
            return "as_is"
        if self.kind == "drawn":
            return "invert" if self.paper == "white" else "as_is"
        return usual


def load_contenders(paths: Sequence[Path], data_root: Path | None = None) -> list[Contender]:
    """Restore the runs to be shown.

    Args:
        paths: Run folders, or checkpoints inside run folders.
        data_root: Where their data are now, if they have moved.

    Raises:
        InputError: If a path is no run, is given twice, or takes pictures that no page can show.
    """
    contenders: list[Contender] = []
    for path in paths:
        run = restore(path, data_root)
        run.module.cpu().eval().requires_grad_(False)
        folder = run.folder.resolve()
        name = f"{folder.parent.name}/{folder.name}"
        if run.checkpoint.name != "best.ckpt":
            name += f" ({run.checkpoint.stem})"
        if any(other.run.checkpoint.resolve() == run.checkpoint.resolve() for other in contenders):
            raise InputError(f"{path} is given twice", "name each run once")
        if (channels := run.module.spec.channels) not in (1, 3):
            raise InputError(
                f"{path} takes pictures of {channels} channels, but the page shows gray and colours",
                "use scripts/evaluate.py, or load_run(RUN).predict with an array",
            )
        contenders.append(Contender(run, name))
    return contenders


def import_gradio() -> ModuleType:
    """Gradio, with its statistics and its search for updates switched off.

    Raises:
        InputError: If Gradio or captum, which computes the pixels' shares, is not installed.
    """
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"  # read while it is imported
    os.environ["HF_HUB_OFFLINE"] = "1"
    require("captum.attr", "demo")
    return require("gradio", "demo")


def build_page(contenders: Sequence[Contender]) -> "Blocks":
    """The page as a Gradio app, not served yet.

    Args:
        contenders: The networks that answer, at least one.
    """
    gradio = import_gradio()
    slots = threading.BoundedSemaphore(SLOTS)
    generator = random.Random()  # noqa: S311 - chooses pictures, no secrets
    first = contenders[0].run
    names = [contender.name for contender in contenders]
    spec = first.module.spec
    scale = CANVAS_SIDE / max(spec.height, spec.width)
    canvas_size = {"width": round(spec.width * scale), "height": round(spec.height * scale)}

    shown_pictures = gallery(first, names[0] if len(names) > 1 else "")
    empty = empty_page(names, spec.class_names, bool(shown_pictures))

    def respond(message: str | None, prepare: bool, method: str) -> str:
        if not message:
            return empty
        start = time.perf_counter()
        try:
            if method not in METHODS:
                raise InputError("the page sent no method", "load the page again")
            with slots:
                drawing = Drawing.from_page(message)
                found = [contender.answer(drawing, prepare, METHODS[method]) for contender in contenders]
        except InputError as error:
            return error_page(error.cause, error.remedy)
        return answer_page(found, drawing.truth, time.perf_counter() - start)

    def choose_example() -> str:
        try:
            image, truth = contenders[0].example(generator)
        except InputError as error:
            raise gradio.Error(f"{error.cause}. {error.remedy}", print_exception=False) from None
        return json.dumps({"picture": png_url(image.numpy()), "kind": "example", "truth": truth})

    with gradio.Blocks(title="Draw, and watch the network answer", analytics_enabled=False) as page:
        gradio.HTML(
            "<h1>Draw, and watch the network answer</h1><p>Everything on this page is computed on this machine, "
            "again after every stroke.</p>",
            elem_classes="mlp-head",
        )
        with gradio.Row(elem_classes="mlp-main"):
            with gradio.Column(min_width=0, elem_classes="mlp-left"):
                canvas = gradio.HTML(
                    "", html_template=CANVAS, js_on_load=CANVAS_SCRIPT, gallery=shown_pictures, **canvas_size
                )
            with gradio.Column(min_width=0, elem_classes="mlp-answers"):
                shown = gradio.HTML(empty, elem_id="answer")
            with gradio.Column(min_width=0, elem_classes="mlp-options"):
                choose = gradio.Button("Show me another picture of the test set", size="sm", elem_id="example")
                prepare = gradio.Checkbox(
                    first.preparation == "auto",
                    label="Prepare the ink",
                    info="As was done to MNIST's digits: uneven light removed, strokes of the usual width, centred.",
                    elem_id="prepare",
                )
                method = gradio.Radio(list(METHODS), value="integrated gradients", label="Which pixels matter, by")
        gradio.on(
            [canvas.input, prepare.change, method.change],
            respond,
            [canvas, prepare, method],
            shown,
            show_progress="hidden",
            trigger_mode="always_last",
            queue=False,
            preprocess=False,
            api_visibility="private",
        )
        choose.click(choose_example, None, canvas, show_progress="hidden", queue=False, api_visibility="private")
    return page  # type: ignore[no-any-return]


@contextmanager
def serving(contenders: Sequence[Contender], host: str = "127.0.0.1", port: int = 7860) -> Iterator[str]:
    """Serve the page from a thread of its own as long as the context lasts; yields the page's address.

    Args:
        contenders: The networks that answer, at least one.
        host: The address to listen on; only this machine reaches 127.0.0.1.
        port: The port to listen on; 0 takes any free one.

    Raises:
        InputError: If a package is missing, or if nothing can listen at the address.
        RunError: If Gradio cannot start.
    """
    gradio = import_gradio()
    port = _free_port(host, port)
    # Gradio asks itself whether it serves, which must not go through a proxy
    for variable in ("no_proxy", "NO_PROXY"):
        os.environ[variable] = ",".join(filter(None, (os.environ.get(variable), "127.0.0.1,localhost", host)))
    settings: dict[str, Any] = dict.fromkeys(("share", "run_history", "enable_monitoring", "mcp_server"), False)
    settings |= {"css": CSS, "footer_links": [], "quiet": True, "ssr_mode": False}  # ssr_mode would look for Node
    settings["theme"] = gradio.themes.Default(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"])
    page = build_page(contenders)
    app = gradio.routes.App(default_response_class=gradio.routes.ORJSONResponse)
    unguarded, num_inputs = app.build_middleware_stack, [len(call.inputs) for call in page.fns.values()]
    app.build_middleware_stack = lambda: Guard(unguarded(), host, num_inputs)  # outermost: before Gradio's CORS
    try:
        try:
            page.launch(server_name=host, server_port=port, prevent_thread_lock=True, _app=app, **settings)
        except (OSError, ValueError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise RunError(f"the page cannot be served: {lines[0]}", "try another --host or --port") from None
        yield f"http://{'127.0.0.1' if host in ('', '0.0.0.0', '::') else host}:{port}"  # noqa: S104 - compared alone
    finally:
        page.close(verbose=False)


def wait() -> None:
    """Wait until a signal ends the program; the page's thread does the work."""
    threading.Event().wait()


def _free_port(host: str, port: int) -> int:
    """The port, or any free one for 0, after a check that the program can listen there."""
    try:
        with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as trial:
            # as servers do: a port that was free a second ago counts as free
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind((host, port))
            return int(trial.getsockname()[1])
    except socket.gaierror:
        raise InputError(f"{host} is no address of this machine", "leave --host out, for 127.0.0.1") from None
    except OverflowError:
        raise InputError(f"port {port} is not between 0 and 65535", "type for example --port 7860") from None
    except OSError as error:
        raise InputError(
            f"nothing can listen on {host}, port {port}: {(error.strerror or str(error)).lower()}",
            "type --port 0 for any free port",
        ) from None
