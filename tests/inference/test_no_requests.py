"""With local models and images nothing here asks another machine for anything, whatever the Hub's switches say."""

import socket

import huggingface_hub
import pytest

import mammo_hf
from mammo_hf.phantom.writing import write_phantom


@pytest.fixture(autouse=True)
def refused(monkeypatch):
    """Every way out, refused; what is on this machine alone (between processes) stays open."""

    def refuse(*address, **options):
        raise AssertionError(f"a request was made: {address}")

    connect = socket.socket.connect
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket, "create_connection", refuse)
    monkeypatch.setattr(
        socket.socket,
        "connect",
        lambda self, address: connect(self, address) if self.family == socket.AF_UNIX else refuse(address),
    )


def test_predict_makes_no_request(checkpoint, archive, tmp_path):
    result = mammo_hf.predict(checkpoint, archive, tmp_path / "scores.csv", batch_size=4, num_workers=0)
    assert result.images == 9


def test_prepare_makes_no_request(tmp_path):
    write_phantom(tmp_path / "cbis", patients=1, seed=0, size=(224, 112), num_workers=1, progress=False)
    assert len(mammo_hf.prepare(tmp_path / "cbis", tmp_path / "prepared", image_size=(64, 32), num_workers=0)) == 4


def test_a_request_would_be_seen():
    with pytest.raises(AssertionError, match="a request was made"):
        huggingface_hub.HfApi().model_info("lab/mammo")
