import hashlib
import os
import socket
import threading
from contextlib import closing
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from vsc.data import load
from vsc.data.download import fetch
from vsc.data.idx import _FASHION, _MNIST
from vsc.errors import RunError

CONTENT = bytes(range(256)) * 2000
MD5 = hashlib.md5(CONTENT, usedforsecurity=False).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """The first part of the path says how the mirror behaves."""

    def do_GET(self):
        self.server.seen.append(self.path)
        behaviour = self.path.split("/")[1]
        if behaviour == "absent":
            return self.send_error(404)
        body = CONTENT[:-1] + b"?" if behaviour == "wrong" else CONTENT
        self.send_response(200)
        if behaviour != "unsized":
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        return self.wfile.write(body[: len(body) // 2] if behaviour in ("cut", "unsized") else body)

    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.seen = []
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def mirror(server):
    return lambda behaviour: f"http://127.0.0.1:{server.server_port}/{behaviour}"


def dead_mirror():
    """An address at which nothing listens."""
    with closing(socket.socket()) as probe:
        probe.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{probe.getsockname()[1]}/gone"


def test_good_mirror(mirror, tmp_path):
    path = fetch("data.gz", MD5, [mirror("good")], tmp_path / "a" / "b")
    assert path == tmp_path / "a" / "b" / "data.gz"
    assert path.read_bytes() == CONTENT
    assert os.listdir(path.parent) == ["data.gz"]


def test_sha256_and_a_name_with_blanks(mirror, server, tmp_path):
    sha = hashlib.sha256(CONTENT).hexdigest()
    path = fetch("UCI HAR+x.zip", f"sha256:{sha}", [mirror("wrong"), mirror("good")], tmp_path)
    assert path == tmp_path / "UCI HAR+x.zip"
    assert path.read_bytes() == CONTENT
    assert server.seen == ["/wrong/UCI%20HAR+x.zip", "/good/UCI%20HAR+x.zip"]
    with pytest.raises(RunError, match="wrong checksum"):
        fetch("other", f"sha256:{sha[::-1]}", [mirror("good")], tmp_path)


@pytest.mark.parametrize("first", ["wrong", "absent", "cut", "unsized", "dead"])
def test_second_mirror_after_a_bad_first(mirror, server, tmp_path, first):
    bad = dead_mirror() if first == "dead" else mirror(first)
    path = fetch("data.gz", MD5, [bad, mirror("good")], tmp_path)
    assert path.read_bytes() == CONTENT
    assert os.listdir(tmp_path) == ["data.gz"]
    assert server.seen[-1] == "/good/data.gz"


@pytest.mark.parametrize(
    ("behaviour", "reason"),
    [
        ("wrong", "wrong checksum"),
        ("absent", "HTTP 404"),
        ("cut", "connection cut"),
        ("dead", "no connection"),
    ],
)
def test_no_good_mirror(mirror, tmp_path, behaviour, reason):
    bad = dead_mirror() if behaviour == "dead" else mirror(behaviour)
    with pytest.raises(RunError, match=reason) as caught:
        fetch("data.gz", MD5, [bad, bad + "/"], tmp_path / "here")
    message = str(caught.value)
    assert message.count(reason) == 2
    assert "\n" not in message
    assert f"put it into {tmp_path / 'here'} by hand" in message
    assert os.listdir(tmp_path / "here") == []


def test_a_whole_file_is_left_alone(server, mirror, tmp_path):
    (tmp_path / "data.gz").write_bytes(CONTENT)
    fetch("data.gz", MD5, [mirror("good")], tmp_path)
    assert server.seen == []


def test_a_half_file_is_replaced(mirror, tmp_path):
    (tmp_path / "data.gz").write_bytes(CONTENT[:1000])
    assert fetch("data.gz", MD5, [mirror("good")], tmp_path).read_bytes() == CONTENT


def test_folder_that_cannot_be_made(mirror, tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(RunError, match="cannot make the folder"):
        fetch("data.gz", MD5, [mirror("good")], tmp_path / "file")


def test_load_reports_a_download_that_failed(monkeypatch, mirror, tmp_path):
    from vsc.data import idx

    monkeypatch.setattr(idx, "_MNIST", _MNIST._replace(mirrors=(mirror("wrong"),)))
    with pytest.raises(RunError, match="by hand") as caught:
        load("mnist", root=tmp_path)
    assert str(tmp_path / "MNIST" / "raw") in str(caught.value)


@pytest.mark.parametrize("files", [_MNIST, _FASHION])
def test_every_file_has_several_mirrors_and_a_checksum(files):
    assert len(files.mirrors) >= 2
    assert len(files.md5) == 4
    assert all(len(md5) == 32 for md5 in files.md5.values())
    assert not set(_MNIST.md5.values()) & set(_FASHION.md5.values())
