"""A local page: drop an image, see its tags and heatmaps. Everything that it shows comes from this
machine, and no image leaves it or stays on disk.

Shapes: M maps, C labels, H x W patches.
"""

import argparse
import contextlib
import io
import json
import secrets
import socket
import tempfile
import threading
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple, NoReturn, TypeVar

import numpy as np
from PIL import Image
from werkzeug.exceptions import (
    BadRequest,
    Forbidden,
    HTTPException,
    LengthRequired,
    NotFound,
    RequestEntityTooLarge,
    TooManyRequests,
    UnsupportedMediaType,
)
from werkzeug.routing import Map, Rule
from werkzeug.serving import WSGIRequestHandler, make_server
from werkzeug.wrappers import Request, Response

from lib.common.cli import fraction, positive_int
from lib.common.console import print_line, print_note
from lib.common.errors import UserError
from lib.common.html import render
from lib.data.dataset import open_image, read_image
from lib.inference.overlays import display_size, overlay_heatmaps
from lib.predictor import Predictor
from lib.scoring.calibration import calibrate
from models.heads import MEANINGS

T = TypeVar("T")
LOCAL = ("127.0.0.1", "localhost")
MAX_BYTES = 20 * 2**20
MAX_PIXELS = 50 * 10**6
KEPT = 16  # pictures whose heatmaps can still be asked for
QUEUE = 16  # requests that wait for the model at once
FORM = "multipart/form-data"
SECONDS = 60  # of silence after which a connection is closed
LONGEST = 180  # seconds that a client may take to send
LINGER = 5  # seconds of silence after the answer
HEADERS = {
    "Content-Security-Policy": "default-src 'none'; img-src 'self' blob: data:; "
    "style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; base-uri 'none'; "
    "form-action 'none'",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
URLS = Map(
    [
        Rule("/", endpoint="page", methods=["GET"]),
        Rule("/predict", endpoint="predict", methods=["POST"]),
        Rule("/api/predict", endpoint="answer", methods=["POST"]),
        Rule("/heatmap/<token>/<int:column>.jpg", endpoint="heatmap", methods=["GET"]),
    ]
)


class PublicRequest(Request):
    """A request whose body has a known and limited size; it stays in memory."""

    max_content_length = MAX_BYTES

    def _get_file_stream(self, *arguments: object, **facts: object) -> io.BytesIO:
        return io.BytesIO()


class LocalRequest(PublicRequest):
    """A request to this machine under one of its own names."""

    trusted_hosts = [*LOCAL]  # or a page elsewhere could use a name of its own for it


class ScoredImage(NamedTuple):
    """An image as it is shown, and its heatmaps (M, C, H, W)."""

    image: Image.Image
    heatmaps: np.ndarray


class App:
    """The page as a WSGI application.

    Errors are one line: 400 for wrong arguments, 403 for other sites, 411 for a body of unknown
    size, 413 for an image of more than 20 MB or 50 million pixels, 415 for other files, 429 if too
    many requests wait, 500 if the model or the disk fails. A `public` page answers under any name
    of this machine.

    One image at a time is decoded and scored, as it may take hundreds of megabytes.
    """

    def __init__(
        self, predictor: Predictor, threshold: float | str | None = None, *, public: bool = False
    ) -> None:
        self.predictor, self.threshold = predictor, threshold
        self.public, self.request = public, PublicRequest if public else LocalRequest
        self.queue = threading.BoundedSemaphore(QUEUE)
        self.cutoffs = predictor.cutoffs(threshold)
        self.tuning = predictor.tuning
        # one thread, since each would keep the memory of the largest image that it has decoded
        self.worker, self.drawing = ThreadPoolExecutor(1), threading.Lock()
        self.recent: OrderedDict[str, ScoredImage] = OrderedDict()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Any:
        request = self.request(environ)
        try:
            own_site = f"http://{request.host}"  # raises where the host is not trusted
            if request.headers.get("Origin", own_site) != own_site:
                raise Forbidden("only the page itself may ask")
            endpoint, values = URLS.bind_to_environ(environ).match()
            response = getattr(self, endpoint)(request, **values)
        except HTTPException as error:
            response = _json({"error": error.description}, error.code)
        except (UserError, OSError) as error:
            response = _json({"error": str(error)}, 500)
        response.headers.update(HEADERS)
        return response(environ, start_response)

    def page(self, request: Request) -> Response:
        values = self.cutoffs.values
        html = render(
            "serve.html",
            predictor=self.predictor,
            words=self.cutoffs.words,
            own=len(set(values.tolist())) > 1,
            start=f"{float(values.mean()):.2f}",
            maps=[(name, MEANINGS[name]) for name in self.predictor.maps],
            max_bytes=MAX_BYTES,
            address=request.host,
            public=self.public,
        )
        return Response(html, mimetype="text/html")

    def predict(self, request: Request) -> Response:
        """Scores of the image in the body, the highest first, and a token for its heatmaps."""
        token = secrets.token_urlsafe(12)

        def score(image: Image.Image) -> np.ndarray:
            scores, heatmaps = self.predictor.score([image], self.predictor.maps)
            self.recent[token] = ScoredImage(display_size(image), heatmaps[0])
            while len(self.recent) > KEPT:
                self.recent.popitem(last=False)
            return scores[0]

        scores = self._in_turn(request, score)
        order = np.argsort(-scores, kind="stable")
        values = {"score": scores, "cutoff": self.cutoffs.values}
        if self.tuning:
            values["probability"] = calibrate(scores, self.tuning.temperature)
        tags = [
            {"label": self.predictor.labels[column], "heatmap": f"/heatmap/{token}/{column}.jpg"}
            | {name: float(value[column]) for name, value in values.items()}
            for column in order
        ]
        return _json({"tags": tags}, 200)

    def answer(self, request: Request) -> Response:
        """What is found in the image in the body, or in the first file of a form: `labels`,
        `scores`, `boxes`, as `Predictor.predict` gives them, and the `size` of the image.

        Arguments are `top` and `threshold`.
        """
        asked = request.args
        try:
            top = positive_int(asked["top"]) if "top" in asked else None
            threshold = fraction(asked["threshold"]) if "threshold" in asked else self.threshold
        except argparse.ArgumentTypeError as error:
            raise BadRequest(f"top or threshold: {error}") from None

        def predict(image: Image.Image) -> dict[str, Any]:
            (found,) = self.predictor.predict([image], top=top, threshold=threshold)
            return {**found, "size": list(image.size)}

        return _json(self._in_turn(request, predict), 200)

    def heatmap(self, request: Request, token: str, column: int) -> Response:
        """The overlay of a label, as infer.py draws it."""
        scored = self.recent.get(token)
        if scored is None or column >= len(self.predictor.labels):
            raise NotFound("no heatmap of this image any more: drop it again")
        buffer = io.BytesIO()
        with self.drawing:
            overlay = overlay_heatmaps(scored.image, scored.heatmaps[:, column])
            overlay.save(buffer, "JPEG", quality=88)
        return Response(buffer.getvalue(), mimetype="image/jpeg")

    def _image(self, content: bytes) -> Image.Image:
        """The RGB image in `content`, read like any file of a data set."""
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder) / "upload"
            file.write_bytes(content)
            try:
                with open_image(file) as image:
                    width, height = image.size
                if width * height > MAX_PIXELS:
                    raise _too_large(f"{MAX_PIXELS // 10**6} million pixels")
                return read_image(file, self.predictor.config.exif)
            except UserError as error:
                if isinstance(error.__cause__, Image.DecompressionBombError):
                    raise _too_large(f"{MAX_PIXELS // 10**6} million pixels") from error
                reason = str(error).removeprefix(f"{file}: ")
                raise UnsupportedMediaType(f"no image that can be read: {reason}") from error

    def _in_turn(self, request: Request, work: Callable[[Image.Image], T]) -> T:
        """`work` on the image that a request sends; a `QUEUE` of others may wait for theirs."""
        if request.content_length is None:
            raise LengthRequired("send the size of the image (Content-Length)")
        if request.content_length > MAX_BYTES:
            raise _too_large(f"{MAX_BYTES // 2**20} MB")
        if not self.queue.acquire(blocking=False):
            raise TooManyRequests("too many images at once: try again in a moment")
        try:
            # other types that a sender names, as curl's urlencoded, are not looked at
            content = _first_file(request) if request.mimetype == FORM else request.get_data()
            return self.worker.submit(lambda: work(self._image(content))).result()
        finally:
            self.queue.release()


class _ShortReads(io.BufferedReader):
    """What a client sends, in parts: werkzeug reads 1000 times 10 MB of what follows a request."""

    def read(self, size: int | None = -1) -> bytes:
        return super().read1(2**16 if size is None or size < 0 else min(size, 2**16))


class _Handler(WSGIRequestHandler):
    """A connection with a client that may be slow, or send more than is read."""

    timeout = SECONDS
    error_content_type = "application/json"
    error_message_format = '{"error": "no request that can be read (code %(code)d)"}'

    def setup(self) -> None:
        super().setup()
        self.rfile = _ShortReads(self.rfile.detach())
        self.deadline = threading.Timer(LONGEST, self._stop_reading)
        self.deadline.daemon = True
        self.deadline.start()

    def finish(self) -> None:
        """Let the client read the answer: it would not if the connection ended while it sends."""
        super().finish()
        left = 2 * MAX_BYTES
        with contextlib.suppress(OSError):
            self.connection.shutdown(socket.SHUT_WR)
            self.connection.settimeout(LINGER)
            while left > 0 and (part := self.connection.recv(2**16)):
                left -= len(part)
        self.deadline.cancel()

    def _stop_reading(self) -> None:
        with contextlib.suppress(OSError):  # the client has closed the connection
            self.connection.shutdown(socket.SHUT_RD)

    def log(self, type: str, message: str, *args: object) -> None:
        """Print nothing for requests and silent connections; tracebacks are printed elsewhere."""


def serve(flags: argparse.Namespace, host: str, port: int) -> NoReturn:
    """Serve the page of an experiment, by the flags of infer.py, at `port` (0: a free one) of the
    address `host` until Ctrl-C."""
    if ":" in host:
        raise UserError(f"--host {host}: IPv6 is not supported: pass an IPv4 address or a name")
    try:
        listening = socket.create_server((host, port))
    except (OSError, OverflowError) as error:
        reason = str(getattr(error, "strerror", None) or error).removeprefix("bind(): ").rstrip(".")
        raise UserError(
            f"--host {host} --port {port}: cannot be used: {reason}; choose another"
        ) from error
    with listening:
        predictor = Predictor(
            flags.exp_dir, device=flags.device, map=flags.map, precision=flags.precision
        )
        public = host not in LOCAL
        app = App(predictor, flags.threshold, public=public)
        port = listening.getsockname()[1]
        server = make_server(
            host, port, app, threaded=True, request_handler=_Handler, fd=listening.fileno()
        )
        if public:
            print_note(f"--host {host}: everyone who reaches this address may send images")
        print_line(f"drop images at http://{host}:{port}/ (Ctrl-C ends it)")
        server.serve_forever()
    raise KeyboardInterrupt  # which the server takes for its end


def _too_large(limit: str) -> RequestEntityTooLarge:
    return RequestEntityTooLarge(f"more than {limit}: make the image smaller first")


def _first_file(request: Request) -> bytes:
    for file in request.files.values():
        return file.read()
    raise BadRequest("the form has no file")


def _json(content: dict[str, Any], code: int | None) -> Response:
    return Response(json.dumps(content), status=code, mimetype="application/json")
