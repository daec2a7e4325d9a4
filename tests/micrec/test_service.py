"""The HTTP service: its answers are the retriever's, and a new bundle takes over between two requests."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import pytest

pytest.importorskip("fastapi", reason='pip install "micrec[serve]"')

from fastapi.testclient import TestClient

from micrec.errors import MicrecError
from micrec.retrieval import Retriever
from micrec.serving.app import create_app
from micrec.serving.live_bundle import LiveBundle
from tests.micrec.serving import fitted_on, small_dataset

RUN = [sys.executable, "-m", "micrec"]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return small_dataset(tmp_path_factory.mktemp("data") / "random")


@pytest.fixture(scope="module")
def fitted(dataset):
    return fitted_on(dataset)


@pytest.fixture
def folder(fitted, dataset, tmp_path):
    Retriever.build(fitted, dataset, k=5).save(tmp_path / "bundle")
    return tmp_path / "bundle"


@pytest.fixture
def client(folder):
    with TestClient(create_app(folder, watch_s=0)) as client:
        yield client


def take_out(folder, item) -> None:
    with Retriever.changing(folder) as retriever:
        retriever.remove_items([item])


def damage(folder) -> None:
    for file in folder.glob("*.safetensors"):
        file.write_bytes(file.read_bytes()[:-9])


# -- answers -----------------------------------------------------------------------------------------------------


def test_lists_are_those_of_the_retriever(client, folder, dataset):
    retriever, user = Retriever.load(folder), dataset.users.ids[3]
    answer = client.post("/recommend", json={"user": user, "k": 4}).json()
    expected = retriever.recommend(user, 4)
    assert [one["item_id"] for one in answer["items"]] == expected.item_ids
    assert [one["score"] for one in answer["items"]] == pytest.approx(expected.scores)
    history = retriever.clicked_by(user)
    request = {"fields": {"country": "c1"}, "history": history, "hide_seen": True, "k": 5}
    answer = client.post("/recommend", json=request).json()
    expected = retriever.recommend_unseen({"country": "c1"}, history, 5, hide_seen=True)
    assert [one["item_id"] for one in answer["items"]] == expected.item_ids
    if expected.titles is not None:
        assert [one["title"] for one in answer["items"]] == expected.titles


def test_a_batch_has_an_answer_in_each_place(client, dataset):
    user = dataset.users.ids[0]
    requests = [{"user": user, "k": 2}, {"user": "nobody"}, {"k": 1}]
    answers = client.post("/recommend/batch", json={"requests": requests}).json()["answers"]
    assert [sorted(answer) for answer in answers] == [["items"], ["error"], ["items"]]
    assert [len(answers[0]["items"]), len(answers[2]["items"])] == [2, 1]
    assert "nobody" in answers[1]["error"]


@pytest.mark.parametrize(
    ("request_body", "told"),
    [
        ({"user": "nobody"}, "user nobody: none of the"),
        ({"k": 0}, "k: "),
        ({"k": 10_001}, "k: "),
        ({"kk": 3}, "kk: unknown key"),
        ({"history": ["no such item"]}, "no such item"),
        ({"fields": {"no_field": 1}}, "no_field"),
        ({"user": 1, "history": [2]}, "leave one out"),
        ([1], "dictionary"),
    ],
)
def test_what_cannot_be_answered_is_told(client, request_body, told):
    answer = client.post("/recommend", json=request_body)
    assert answer.status_code == 422
    assert told in answer.json()["error"]


def test_a_form_is_told_to_be_json(client):
    answer = client.post("/recommend", data={"user": "u1"})
    assert answer.status_code == 415
    assert "application/json" in answer.json()["error"]


def test_health_and_metrics_count_what_was_asked(client, folder, dataset):
    retriever = Retriever.load(folder)
    for _ in range(3):
        client.post("/recommend", json={"user": dataset.users.ids[0]})
    client.post("/recommend", json={"user": "nobody"})
    client.get("/no/such/route")
    health = client.get("/health").json()
    assert (health["items"], health["users"]) == (retriever.bundle.index.ntotal, len(dataset.users))
    assert (health["model"], health["index"], health["last_error"]) == ("ican", "flat", None)
    text = client.get("/metrics").text
    assert 'micrec_requests_total{route="/recommend",status="200"} 3.0' in text
    assert 'micrec_requests_total{route="/recommend",status="422"} 1.0' in text
    assert 'micrec_requests_total{route="other",status="404"} 1.0' in text
    assert 'micrec_request_seconds_count{route="/recommend"} 4.0' in text
    assert f"micrec_items {float(retriever.bundle.index.ntotal)}" in text


# -- new bundles -------------------------------------------------------------------------------------------------


def test_a_reload_serves_what_the_folder_holds(client, folder):
    before = client.post("/recommend", json={"k": 1}).json()["items"][0]["item_id"]
    take_out(folder, before)
    assert client.post("/recommend", json={"k": 1}).json()["items"][0]["item_id"] == before
    assert client.post("/reload").json()["items"] == client.get("/health").json()["items"]
    assert client.post("/recommend", json={"k": 1}).json()["items"][0]["item_id"] != before


def test_a_damaged_bundle_is_not_taken(client, folder):
    before = client.post("/recommend", json={"k": 3}).json()
    damage(folder)
    answer = client.post("/reload")
    assert answer.status_code == 422
    assert str(folder) in answer.json()["error"]
    assert client.get("/health").json()["last_error"] == answer.json()["error"]
    assert client.post("/recommend", json={"k": 3}).json() == before
    assert 'micrec_reloads_total{result="refused"} 1.0' in client.get("/metrics").text


def test_a_folder_is_read_again_only_when_it_has_changed(folder, fitted, dataset):
    live = LiveBundle(folder)
    first = live.retriever
    assert not live.reload_if_changed()
    assert live.retriever is first
    take_out(folder, first.recommend_unseen({}, [], 1).item_ids[0])
    assert live.reload_if_changed()
    assert live.retriever.bundle.index.ntotal == first.bundle.index.ntotal - 1
    second = live.retriever
    damage(folder)
    with pytest.raises(MicrecError):
        live.reload_if_changed()
    assert live.last_error
    assert not live.reload_if_changed()  # one state of the folder is tried once
    assert live.retriever is second
    Retriever.build(fitted, dataset, k=5).save(folder, overwrite=True)
    assert live.reload_if_changed()
    assert live.last_error is None
    assert live.retriever.bundle.index.ntotal == first.bundle.index.ntotal


def test_no_bundle_no_service(tmp_path):
    with pytest.raises(MicrecError, match=r"no such folder|holds no"):
        create_app(tmp_path / "nothing")


# -- the process -------------------------------------------------------------------------------------------------


def ask(address: str, body: dict[str, object]) -> dict:
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/recommend", json.dumps(body).encode(), headers)
    with urllib.request.urlopen(request, timeout=60) as answer:
        return json.loads(answer.read())


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_no_request_is_dropped_while_bundles_change_and_the_process_ends_on_request(folder, dataset):
    """Threads ask without a pause while the bundle is replaced six times, three of them told by SIGHUP."""
    command = [*RUN, "serve", str(folder), "--port", "0", "--watch", "0.05"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    guard = threading.Timer(120, process.kill)
    guard.start()
    try:
        found = re.search(r" on (http://\S+)", process.stderr.readline())
        address, stop, faults, answered = found[1], threading.Event(), [], []

        def asking(user) -> None:
            while not stop.is_set():
                try:
                    answered.append(len(ask(address, {"user": user, "k": 5})["items"]))
                except Exception as fault:
                    faults.append(fault)
                    return

        threads = [threading.Thread(target=asking, args=(dataset.users.ids[user],)) for user in range(3)]
        for thread in threads:
            thread.start()
        for change in range(6):
            take_out(folder, Retriever.load(folder).recommend_unseen({}, [], 1).item_ids[0])
            if change % 2:
                process.send_signal(signal.SIGHUP)
        left = Retriever.load(folder).bundle.index.ntotal
        until = time.monotonic() + 60
        while time.monotonic() < until:
            with urllib.request.urlopen(f"{address}/health", timeout=60) as health:
                if json.loads(health.read())["items"] == left:
                    break
            time.sleep(0.05)
        else:
            pytest.fail("the last bundle never came")
        stop.set()
        for thread in threads:
            thread.join()
        assert not faults
        assert set(answered) == {5}
    finally:
        process.send_signal(signal.SIGTERM)
        rest = process.communicate(timeout=60)[1]
        guard.cancel()
    assert process.returncode in (0, -signal.SIGTERM), rest
    assert "Traceback" not in rest


def test_a_taken_port_is_told(folder):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        run = subprocess.run([*RUN, "serve", str(folder), "--port", port], capture_output=True, text=True, check=False)
    assert run.returncode == 2
    assert f"--port {port}" in run.stderr
    assert "Traceback" not in run.stderr


def test_a_missing_package_is_named(folder, monkeypatch):
    from micrec.serving import server

    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.delitem(sys.modules, "micrec.serving.app", raising=False)
    with pytest.raises(MicrecError, match=r'pip install "micrec\[serve\]"'):
        server.serve(folder, host="127.0.0.1", port=0, watch_s=0, most=1)
