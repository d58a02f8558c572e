"""A page that is really served answers to nobody but its own visitors, and fetches nothing from anywhere."""

import asyncio
import json
import os
import socket
from pathlib import Path

import pytest
from mmmed_demo import gate, guard
from mmmed_demo.room import HOUR, Room

FILE = {"meta": {"_type": "gradio.FileData"}}
LOCAL = ("127.0.0.1", "localhost", "::1")
FOREIGN = [
    {"path": "http://93.184.215.14/x.png", **FILE},
    {"path": "HTTP://example.invalid/x", **FILE},
    {"path": None, "url": "http://example.invalid/x", **FILE},
    {"url": "https://example.invalid/a.png"},
    [[{"deep": {"path": "https://example.invalid/x", **FILE}}]],
]


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A tiny page with a file and a text, served on loopback, and every address that anything asked for."""
    gr = pytest.importorskip("gradio")
    httpx = pytest.importorskip("httpx")
    patch, asked = pytest.MonkeyPatch(), []
    folder = tmp_path_factory.mktemp("page")
    settings = dict(os.environ)
    guard.prepare_environment(folder, settings)
    for name, value in settings.items():
        patch.setenv(name, value)
    look_up, connect = socket.getaddrinfo, socket.socket.connect

    def only_here(act, host, *words, **more):
        """Every address is written down, and none outside is really asked."""
        asked.append(host)
        if host not in LOCAL:
            raise socket.gaierror("not asked")
        return act(*words, **more)

    patch.setattr(socket, "getaddrinfo", lambda host, *a, **k: only_here(look_up, host, host, *a, **k))
    patch.setattr(socket.socket, "connect", lambda s, to: only_here(connect, to[0], s, to))
    with gr.Blocks(analytics_enabled=False) as blocks:
        file, button, said = gr.File(), gr.Button(), gr.Textbox()
        button.click(lambda path: f"got {path and Path(path).name}", file, said)
        button.click(lambda: "quick", None, said, queue=False)
    blocks.queue(**guard.queue_settings())
    launched = guard.launch_settings(limits=guard.Limits(file=2**20, body=2**16))
    _, url, _ = blocks.launch(server_name="127.0.0.1", prevent_thread_lock=True, quiet=True, **launched)
    with httpx.Client(base_url=url, timeout=20) as client:
        yield client, asked
    blocks.close(verbose=False)
    patch.undo()


def join(client, value, **headers):
    """Send one value to the page's first event; -> the status, and what the page says to it."""
    body = {"data": [value], "fn_index": 0, "session_hash": "here"}
    answer = client.post("/gradio_api/queue/join", json=body, headers=headers)
    if answer.status_code != 200:
        return answer.status_code, answer.text
    with client.stream("GET", "/gradio_api/queue/data", params={"session_hash": "here"}) as stream:
        return 200, next(line for line in stream.iter_lines() if "process_completed" in line)


def test_what_the_page_needs_is_there(page):
    client, _ = page
    policy = client.get("/").headers["content-security-policy"]
    assert all(
        words in policy for words in ("form-action 'self'", "base-uri 'self'", "frame-ancestors 'self'")
    )
    for path in ("/", "/config", "/theme.css", "/gradio_api/info", "/gradio_api/startup-events"):
        assert client.get(path).status_code == 200, path
    said = client.get("/")
    assert said.headers["x-content-type-options"] == "nosniff"
    assert "default-src 'self'" in said.headers["content-security-policy"]


def test_a_file_that_was_uploaded_comes_back_and_is_read(page):
    client, _ = page
    (path,) = client.post("/gradio_api/upload", files={"files": ("a.txt", b"hello")}).json()
    url = f"{client.base_url}gradio_api/file={path}"
    assert client.get(f"/gradio_api/file={path}").content == b"hello"
    status, said = join(client, {"path": path, "url": url, **FILE})
    assert (status, "got a.txt" in said) == (200, True)


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "pyproject.toml",
        str(Path(__file__)),
        "http://127.0.0.1:1/x",
        "https://example.invalid/x",
        "HTTPS://example.invalid/x",
        "//example.invalid/x",
        "ftp://example.invalid/x",
        "file:///etc/passwd",
    ],
)
def test_no_file_of_the_server_or_of_another_server_is_given_out(page, path):
    client, _ = page
    assert client.get(f"/gradio_api/file={path}").status_code == 403


@pytest.mark.parametrize(
    "value",
    [
        {"path": "/etc/passwd", **FILE},
        {"path": "/etc/passwd"},
        {"path": str(Path(__file__)), **FILE},
        {"path": "http://127.0.0.1:1/x", **FILE},
        {"path": "HTTP://example.invalid/x"},
        {"path": None, "url": "http://example.invalid/x", **FILE},
        {"url": "https://example.invalid/a.png"},
        {"url": "data:text/html,x"},
        [[{"deep": {"path": "https://example.invalid/x", **FILE}}]],
    ],
)
def test_a_request_that_names_a_foreign_file_is_refused(page, value):
    client, _ = page
    status, said = join(client, value)
    assert status == 403
    assert "uploaded" in json.loads(said)["detail"] or "not fetched" in json.loads(said)["detail"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/proxy=https://example.invalid/"),
        ("GET", "/gradio_api/custom_component/x/client/component/index.js"),
        ("GET", "/gradio_api/deep_link?session_hash=here"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/gradio_api/run-history/records"),
        ("GET", "/monitoring"),
        ("GET", "/monitoring/summary"),
        ("GET", "/docs"),
        ("GET", "/openapi.json"),
        ("GET", "/static/%2e%2e/%2e%2e/routes.py"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/gradio_api/process_recording"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/api/lambda"),
        ("POST", "/login"),
        ("DELETE", "/"),
    ],
)
def test_addresses_that_the_page_does_not_need_are_shut(page, method, path):
    client, _ = page
    assert client.request(method, path, json={} if method == "POST" else None).status_code in (403, 404)


def test_an_event_with_a_queue_cannot_go_round_it_and_one_without_works(page):
    client, _ = page
    assert client.post("/gradio_api/run/predict", json={"data": [None], "fn_index": 0}).status_code == 404
    said = client.post("/gradio_api/run/predict", json={"data": [], "fn_index": 1})
    assert said.json()["data"] == ["quick"]


def test_what_is_too_large_or_no_json_is_refused(page):
    client, _ = page
    post = client.post
    assert post("/gradio_api/upload", files={"files": ("a", bytes(2**20 + 1))}).status_code == 413
    assert post("/gradio_api/upload", files={"files": ("a", bytes(3 * 2**20))}).status_code == 413
    assert post("/gradio_api/queue/join", content=bytes(2**16 + 1)).status_code == 413
    assert post("/gradio_api/queue/join", content=b"no json").status_code == 400
    assert post("/gradio_api/queue/join", content=b"[" * 30_000).status_code == 400
    assert post("/gradio_api/queue/join", content=iter([b"{}"])).status_code == 411


def test_other_pages_and_other_names_get_no_answer(page):
    client, _ = page
    assert client.get("/", headers={"host": "rebound.example"}).status_code == 403
    assert join(client, None, origin="https://elsewhere.example")[0] == 403
    assert join(client, None, origin="null")[0] == 403
    assert join(client, None, origin=str(client.base_url).rstrip("/"))[0] == 200


def tempt(page):
    """Send every foreign address in every way; -> who was asked meanwhile."""
    client, asked = page
    before = len(asked)
    for value in FOREIGN:
        join(client, value)
    client.get("/gradio_api/file=https://example.invalid/x")
    client.get("/gradio_api/proxy=https://example.invalid/")
    return set(asked[before:]) - set(LOCAL)


def test_nobody_outside_is_asked_for_anything(page):
    assert tempt(page) == set()


def test_without_the_gate_somebody_would_be(page, monkeypatch):
    """Else the test above would say nothing."""
    monkeypatch.setattr(gate, "check_body", lambda *_: None)
    assert tempt(page)


@pytest.mark.parametrize(
    "path", ["http://a.example/x", " HTTPS://a.example/x", "//a.example/x", "\\\\a.example\\x"]
)
def test_addresses_are_refused_where_the_folder_of_uploads_is_not_known(path, monkeypatch):
    monkeypatch.delenv("GRADIO_TEMP_DIR", raising=False)
    gate.check_body(json.dumps({"data": [{"path": "/tmp/gradio/a.png"}]}).encode(), "127.0.0.1")
    with pytest.raises(gate.Refused, match="Addresses are not fetched"):
        gate.check_body(json.dumps({"data": [{"path": path}]}).encode(), "127.0.0.1")


def test_words_that_look_like_an_address_are_only_words():
    note = {"data": ["see http://a.example/x", ["https://a.example"]], "session_hash": "here"}
    gate.check_body(json.dumps(note).encode(), "127.0.0.1")


def test_a_page_for_a_ward_answers_to_its_own_name():
    """local=False, as for --host 0.0.0.0: the name it is asked by is not the gate's business."""

    assert status_of(gate.Gate(answering(200), local=False), host="ward.example:7860") == 200
    assert status_of(gate.Gate(answering(200), local=True), host="ward.example:7860") == 403


@pytest.mark.parametrize("host", ["127.0.0.1:7860", "127.0.0.2:7860", "localhost:7860", "[::1]:7860"])
def test_every_address_that_only_this_machine_has_is_answered(host):
    assert status_of(gate.Gate(answering(200)), host=host) == 200
    assert status_of(gate.Gate(answering(200)), host=host, origin=f"http://{host}") == 200


def test_a_name_that_begins_like_this_machine_is_another_one():
    assert status_of(gate.Gate(answering(200)), host="127.0.0.1.rebound.example") == 403


# ------------------------------------------------------------------------------------------- room on the disk


@pytest.fixture
def disk(tmp_path, monkeypatch):
    """An empty folder that uploads come to."""
    monkeypatch.setenv("GRADIO_TEMP_DIR", str(tmp_path))
    return tmp_path


SMALL = guard.Limits(file=1000, held=2500, each=2000)


def hand_in(shut, size=900, who="10.0.0.1"):
    return status_of(
        shut, "POST", f"{gate.API}/upload", who, **{"host": "127.0.0.1", "content-length": str(size)}
    )


def test_one_visitor_cannot_shut_everybody_out(disk):
    shut = gate.Gate(answering(200), SMALL)
    assert [hand_in(shut) for _ in range(3)] == [200, 200, 507]
    assert hand_in(shut, who="10.0.0.2") == 200


def test_an_hour_later_there_is_room_again(disk):
    now = [0.0]
    shut = gate.Gate(answering(200), SMALL)
    shut.room = Room(SMALL, clock=lambda: now[0])
    assert [hand_in(shut) for _ in range(3)] == [200, 200, 507]
    now[0] = HOUR + 1.0
    assert hand_in(shut) == 200
    assert len(shut.room._taken["10.0.0.1"]) == 1, "what is gone is forgotten"


def test_uploads_on_their_way_count_as_if_they_were_there(disk):
    later = ["10.0.0.2", "10.0.0.3"]
    got = []

    async def slow(scope, receive, send):
        if later:  # while one is coming, the next begins
            words = {"host": "127.0.0.1", "content-length": "900"}
            got.append(await asked_of(shut, "POST", f"{gate.API}/upload", later.pop(0), **words))
        await answering(200)(scope, receive, send)

    shut = gate.Gate(slow, SMALL)
    assert hand_in(shut) == 200
    assert got == [507, 200], "three of 900 bytes are more than 2,500; the innermost is told first"
    assert hand_in(shut, who="10.0.0.4") == 200, "none is on its way now, and nothing was written"


def test_what_lies_there_already_counts(disk):
    (disk / "old").write_bytes(bytes(2000))
    assert hand_in(gate.Gate(answering(200), SMALL)) == 507


def test_what_the_page_did_not_take_is_not_held_against_the_visitor(disk):
    shut = gate.Gate(answering(413), SMALL)
    assert [hand_in(shut) for _ in range(4)] == [413] * 4


def test_what_was_broken_off_counts_and_is_no_longer_on_its_way(disk):
    async def broken(scope, receive, send):
        raise RuntimeError

    shut = gate.Gate(broken, SMALL)
    for _ in range(2):
        with pytest.raises(RuntimeError):
            hand_in(shut)
    assert hand_in(shut) == 507
    assert shut.room._coming == 0


def answering(status):
    """An application that always answers the same."""

    async def app(scope, receive, send):
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b""})

    return app


async def asked_of(shut, method="GET", path="/", who="10.0.0.1", **headers):
    sent, told = [], [(key.encode(), value.encode()) for key, value in headers.items()]
    scope = {"type": "http", "method": method, "path": path, "headers": told, "client": (who, 1)}

    async def send(message):
        sent.append(message)

    await shut(scope, None, send)
    return sent[0]["status"]


def status_of(*words, **headers):
    """What the gate answers to one request."""
    return asyncio.run(asked_of(*words, **headers))
