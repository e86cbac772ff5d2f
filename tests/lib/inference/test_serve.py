"""The local page: what it answers, and what it refuses."""

import dataclasses
import io
import socket
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from PIL import Image
from werkzeug.test import Client

from lib.data.dataset import read_image
from lib.inference import serve
from lib.inference.overlays import GAP
from lib.predictor import Predictor
from tests.helpers.commands import error_where, run_here
from tests.helpers.refusals import refused
from tests.lib.scoring.test_tuning import write_tuning

EXPERIMENT = "experiments/mlic_colors/exp1"
HOST = {"Host": "127.0.0.1:7860"}


def make_client(threshold=None, public=False, **options):
    predictor = Predictor(EXPERIMENT, device="cpu", **options)
    return Client(serve.App(predictor, threshold, public=public))


@pytest.fixture
def client(colors):
    return make_client()


def picture(size=(30, 20), mode="RGB", form="PNG"):
    buffer = io.BytesIO()
    Image.new("RGB", (1, 1), (200, 30, 90)).convert(mode).resize(size).save(buffer, form)
    return buffer.getvalue()


def post(client, content, **headers):
    length = {"CONTENT_LENGTH": str(len(content))}  # the client leaves 0 out
    return client.post("/predict", data=content, headers=HOST | headers, environ_overrides=length)


def test_a_picture_gets_its_tags_and_heatmaps(client):
    answer = post(client, picture())
    assert answer.status_code == 200
    tags = answer.json["tags"]
    predictor = Predictor(EXPERIMENT, device="cpu")
    scores, _ = predictor([Image.open(io.BytesIO(picture()))])
    found = {tag["label"]: tag["score"] for tag in tags}
    assert found == pytest.approx(dict(zip(predictor.labels, scores[0].tolist(), strict=True)))
    assert [tag["score"] for tag in tags] == sorted(found.values(), reverse=True)
    assert {tag["cutoff"] for tag in tags} == {0.5} and "probability" not in tags[0]
    for tag in tags:
        image = client.get(tag["heatmap"], headers=HOST)
        assert image.status_code == 200 and image.mimetype == "image/jpeg"
        assert Image.open(io.BytesIO(image.data)).size == (256, 171)
    for path in ("/heatmap/other/0.jpg", tags[0]["heatmap"].replace(".jpg", "9.jpg")):
        assert client.get(path, headers=HOST).status_code == 404


def test_both_maps_lie_side_by_side(colors):
    client = make_client(map="both")
    page = client.get("/", headers=HOST).text
    assert "Heatmaps, left, show evidence." in page and "Heatmaps, right, show attention." in page
    tag = post(client, picture()).json["tags"][0]
    image = client.get(tag["heatmap"], headers=HOST)
    assert Image.open(io.BytesIO(image.data)).size == (2 * 256 + GAP, 171)


def test_programs_get_json(client, colors):
    """Of raw bytes and of a form, as the library gives it, with boxes in pixels."""
    content = picture((60, 40))
    predictor = Predictor(EXPERIMENT, device="cpu")
    (expected,) = predictor.predict([Image.open(io.BytesIO(content))], top=2, threshold=0.01)
    path = "/api/predict?top=2&threshold=0.01"
    raw = client.post(path, data=content, headers=HOST)
    form = client.post(path, data={"image": (io.BytesIO(content), "a.png")}, headers=HOST)
    kind = {"Content-Type": "application/x-www-form-urlencoded"}  # as curl --data-binary says
    curl = client.post(path, data=content, headers=HOST | kind)
    assert raw.status_code == form.status_code == curl.status_code == 200
    assert raw.json == form.json == curl.json == expected | {"size": [60, 40]}
    assert len(raw.json["labels"]) == 2
    refused = ("threshold=much", "threshold=7", "top=0", "top=abc", "top=-1")
    for arguments, code in (*((one, 400) for one in refused), ("", 415)):
        answer = client.post(f"/api/predict?{arguments}", data=b"no picture", headers=HOST)
        assert answer.status_code == code and list(answer.json) == ["error"]
    answer = client.post("/api/predict", data={"image": "no file"}, headers=HOST)
    assert answer.status_code == 415
    empty = client.post(
        "/api/predict", data={"image": "x"}, headers=HOST, content_type="multipart/form-data"
    )
    assert empty.status_code == 400 and empty.json == {"error": "the form has no file"}


def test_many_requests_at_once(colors):
    """Of eight clients none is lost; beyond the queue they are told to come again."""
    app, content = make_client().application, picture()

    def ask(_):
        return Client(app).post("/api/predict", data=content, headers=HOST)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(200)))
    assert {answer.status_code for answer in answers} == {200}
    assert all(answer.json == answers[0].json for answer in answers)
    gate = threading.Event()
    app.worker.submit(gate.wait)
    with ThreadPoolExecutor(serve.QUEUE) as pool:
        waiting = [pool.submit(ask, None) for _ in range(serve.QUEUE)]
        deadline = time.monotonic() + 30
        while app.queue._value and time.monotonic() < deadline:
            time.sleep(0.01)
        assert ask(None).status_code == 429
        gate.set()
        assert {one.result().status_code for one in waiting} == {200}


def test_images_are_decoded_one_at_a_time(colors, monkeypatch):
    """One of 200 KB may take 600 MB."""
    app, decoding, most = make_client().application, [], []

    def read(path, exif):
        decoding.append(path)
        most.append(len(decoding))
        time.sleep(0.01)
        decoding.remove(path)
        return read_image(path, exif)

    monkeypatch.setattr(serve, "read_image", read)
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: post(Client(app), picture()), range(16)))
    assert {answer.status_code for answer in answers} == {200} and most == [1] * 16


def test_what_follows_a_request_is_read_in_small_parts():
    """werkzeug reads it a thousand times, to let the client see the answer."""
    one, two = socket.socketpair()
    with one, two:
        one.sendall(b"line\n" + b"x" * 100_000)
        reader = serve._ShortReads(two.makefile("rb").detach())
        assert reader.readline() == b"line\n"
        for size in (10_000_000, 10_000_000, -1):
            assert 0 < len(reader.read(size)) <= 2**16


def test_a_client_that_sends_for_ever_is_cut_off(colors, monkeypatch):
    monkeypatch.setattr(serve, "LONGEST", 0.5)
    app = make_client().application
    server = serve.make_server("127.0.0.1", 0, app, request_handler=serve._Handler)
    thread = threading.Thread(target=server.handle_request)
    thread.start()
    with server.socket, socket.create_connection(server.server_address, timeout=30) as connection:
        connection.sendall(
            b"POST /predict HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99999\r\n\r\n"
        )
        for _ in range(300):
            try:
                connection.sendall(b"x")
            except OSError:
                break
            time.sleep(0.01)
        connection.settimeout(5)
        answer = connection.makefile("rb").read()
    thread.join()
    assert answer.split()[1] == b"400" and app.queue._value == serve.QUEUE


def test_a_model_that_has_overflowed_is_no_answer_without_labels(client):
    predictor = client.application.predictor
    with torch.inference_mode():
        predictor.model.head.patch_classifier[-1].bias.fill_(float("nan"))
    for path in ("/predict", "/api/predict"):
        answer = client.post(path, data=picture(), headers=HOST)
        assert answer.status_code == 500 and "finite" in answer.json["error"]
    for ask in (predictor, predictor.predict):
        with refused(None, "finite"):
            ask([np.zeros((9, 9, 3), np.uint8)])


def test_a_full_folder_of_temporary_files(client, monkeypatch, tmp_path):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    answer = post(client, picture())
    assert answer.status_code == 500 and list(answer.json) == ["error"]


def test_tuned_thresholds_and_probabilities_are_shown(colors):
    write_tuning(colors, {"red": 0.0, "green": 1.0, "blue": 0.25})
    client = make_client()
    page = client.get("/", headers=HOST).text
    assert "tuned thresholds (recall@0.9)" in page and 'id="own" checked' in page
    tags = post(client, picture()).json["tags"]
    cutoffs = {tag["label"]: tag["cutoff"] for tag in tags}
    assert cutoffs == {"red": 0.0, "green": 1.0, "blue": 0.25}
    assert all(0 < tag["probability"] < 1 for tag in tags)
    fixed = make_client(0.75).get("/", headers=HOST).text
    assert 'id="own"' not in fixed and 'value="0.75"' in fixed


def test_the_page_asks_nothing_of_elsewhere(client):
    answer = client.get("/", headers=HOST)
    assert answer.status_code == 200 and EXPERIMENT in answer.text
    assert "http:" not in answer.text and "https:" not in answer.text and "//" not in answer.text
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    ("content", "code"),
    [
        (b"", 415),
        (b"no picture at all", 415),
        (picture()[:60], 415),
        (picture((9000, 6000)), 413),
        (picture((20000, 20000), "1"), 413),
        (b"x" * (serve.MAX_BYTES + 1), 413),
    ],
    ids=["empty", "text", "truncated", "pixels", "bomb", "bytes"],
)
def test_what_is_no_picture_or_too_large_is_refused(client, content, code):
    answer = post(client, content)
    assert answer.status_code == code
    line = answer.json["error"]
    assert line and "\n" not in line and "/tmp" not in line
    assert not client.application.recent


def test_other_machines_and_sites_are_refused(client):
    """Other machines are let in where they are asked for."""
    elsewhere = {"Host": "elsewhere.example"}
    assert client.get("/", headers=elsewhere).status_code == 400
    assert make_client(public=True).get("/", headers=elsewhere).status_code == 200
    assert post(client, picture(), Origin="http://elsewhere.example").status_code == 403
    assert post(client, picture(), Origin="http://127.0.0.1:7860").status_code == 200
    assert client.get("/predict", headers=HOST).status_code == 405
    assert client.get("/etc/passwd", headers=HOST).status_code == 404


def test_old_pictures_are_forgotten(client, monkeypatch):
    monkeypatch.setattr(serve, "KEPT", 2)
    first = post(client, picture()).json["tags"][0]["heatmap"]
    for _ in range(2):
        post(client, picture())
    assert client.get(first, headers=HOST).status_code == 404
    assert len(client.application.recent) == 2


def test_it_listens_on_this_machine_alone(colors, monkeypatch, capsys):
    """From the command line to an answer over the socket, and its end by Ctrl-C."""
    found = {}

    def stop_soon(server):
        found["address"] = server.socket.getsockname()
        start = time.monotonic()
        for request in (
            b"GET / HTTP/1.1\r\n",
            b"POST /predict HTTP/1.1\r\nContent-Length: 4\r\n",
            b"POST /predict HTTP/1.1\r\nContent-Length: 99999999\r\n",
            b"POST /nowhere HTTP/1.1\r\nContent-Length: 4\r\n",
            b"POST /predict HTTP/1.1\r\nTransfer-Encoding: chunked\r\n",
            b"POST /predict HTTP/1.1\r\nContent-Length: 1000\r\n",  # breaks off
            b"POST / predict HTTP/1.1\r\n",
        ):
            thread = threading.Thread(target=server.handle_request)
            thread.start()
            with socket.create_connection(found["address"], timeout=30) as connection:
                connection.sendall(request + b"Host: localhost\r\nConnection: close\r\n\r\n")
                connection.sendall(b"0\r\n\r\n"[:4] if b"99999999" not in request else b"0" * 9)
                connection.shutdown(socket.SHUT_WR)
                found.setdefault("answers", []).append(connection.makefile("rb").read().decode())
            thread.join()
        found["seconds"] = time.monotonic() - start

    monkeypatch.setattr("werkzeug.serving.BaseWSGIServer.serve_forever", stop_soon)
    command = ("infer.py", "--exp-dir", EXPERIMENT, "--serve", "--port")
    result = run_here(monkeypatch, capsys, *command, "0")
    assert result.code == 130 and found["address"][0] == "127.0.0.1"
    assert f"http://127.0.0.1:{found['address'][1]}/" in result.out
    codes = [answer.split()[1] for answer in found["answers"]]
    assert codes == ["200", "415", "413", "404", "411", "400", "400"]
    assert all('{"error": ' in answer for answer in found["answers"][1:])
    assert "Traceback" not in result.err
    assert "Drop an image here" in found["answers"][0]
    assert found["seconds"] < serve.SECONDS  # waits for nothing that does not come
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        result = run_here(monkeypatch, capsys, *command, port)
        assert error_where(result) == f"--host 127.0.0.1 --port {port}"
    for flags, where in (
        (("99999",), "--host 127.0.0.1 --port 99999"),
        (("0", "--images", "data"), "--images"),
        (("0", "--skip-done"), "--skip-done"),
        (("0", "--threshold", "tuned"), "--threshold tuned"),
    ):
        assert error_where(run_here(monkeypatch, capsys, *command, *flags)) == where
    result = run_here(monkeypatch, capsys, *command, "0", "--host", "::1")
    assert error_where(result) == "--host ::1"
    plain = ("infer.py", "--exp-dir", EXPERIMENT, "--port", "0")
    assert error_where(run_here(monkeypatch, capsys, *plain)) == "--port"


@pytest.mark.parametrize(("exif", "size"), [("upright", (171, 256)), ("stored", (256, 171))])
def test_a_turned_photograph_is_read_as_in_training(client, exif, size):
    predictor = client.application.predictor
    predictor.config = dataclasses.replace(predictor.config, exif=exif)
    pixels = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    note, buffer = Image.Exif(), io.BytesIO()
    note[0x0112] = 6
    pixels.save(buffer, "PNG", exif=note)
    tags = post(client, buffer.getvalue()).json["tags"]
    if exif == "upright":
        pixels = pixels.transpose(Image.Transpose.ROTATE_270)
    scores = predictor([np.asarray(pixels)])[0][0].tolist()
    expected = dict(zip(predictor.labels, scores, strict=True))
    assert {tag["label"]: tag["score"] for tag in tags} == pytest.approx(expected)
    image = client.get(tags[0]["heatmap"], headers=HOST)
    assert Image.open(io.BytesIO(image.data)).size == size
