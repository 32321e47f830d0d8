"""Nothing that names a person, a place or this machine is in any byte that a push sends."""

import json

import pytest
from hub_fixtures import change_json
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file

from mammo_hf.hub.identifiers import IdentifierError, names_of_this_machine, refuse_identifiers
from mammo_hf.hub.push import push

PLANTED = {
    "a DICOM UID": "1.2.840.113619.2.55.3.604688119",
    "a person's name as DICOM writes it": "MUSTERFRAU^ERIKA",
    "a date": "1957-03-12",
    "an e-mail address": "erika@praxis.example",
    "a path": "/srv/archive/muster/1.dcm",
    "an address of storage": "s3://praxis/films",
    "the key of a patient or an image": "0123456789abcdef",
}


def write(folder, where, planted):
    """Puts a text into one of the places from which a push could take it."""
    if where == "README.md":
        text = (folder / where).read_text().partition("\nsee ")[0]
        (folder / where).write_text(f"{text}\nsee {planted}\n")
    elif where == "a picture":
        notes = PngImagePlugin.PngInfo()
        notes.add_text("Comment", planted)
        Image.new("L", (4, 4)).save(folder / "card" / "roc.png", pnginfo=notes)
    elif where == "the weights":
        save_file(load_file(folder / "model.safetensors"), folder / "model.safetensors", metadata={"from": planted})
    elif where == "metrics.json, escaped":
        spelled = "".join(f"\\u{ord(c):04x}" for c in planted)
        (folder / "metrics.json").write_text(f'{{"note": "{spelled}"}}')
    else:
        change_json(folder / where, note={"of": [planted]})


PLACES = {
    "README.md": "README.md",
    "a picture": "card/roc.png",
    "the weights": "model.safetensors",
    "metrics.json, escaped": "metrics.json",
    "metrics.json": "metrics.json",
    "config.json": "config.json",
    "preprocessor_config.json": "preprocessor_config.json",
}


@pytest.mark.parametrize("where", PLACES)
def test_a_planted_identifier_stops_the_push_and_is_not_told(hub, checkpoint, where):
    for kind, planted in PLANTED.items():
        write(checkpoint, where, planted)
        with pytest.raises(IdentifierError) as caught:
            push(checkpoint, "lab/mammo")
        text = str(caught.value)
        assert text.startswith(f"{PLACES[where]}: contains {kind}"), text
        assert planted not in text
        assert "nothing was sent" in text
    assert hub.asked == []


def test_no_pushed_byte_holds_what_training_knew(hub, checkpoint, monkeypatch, tmp_path):
    """Everything that was received is looked through, requests as well as files."""
    monkeypatch.setattr("socket.gethostname", lambda: "mammo-pc-7.praxis.example")
    monkeypatch.setattr("getpass.getuser", lambda: "emuster")
    dataset = tmp_path / "films of Erika"
    change_json(checkpoint / "config.json", _name_or_path=str(checkpoint), _commit_hash="19570312")
    (checkpoint / "split.json").write_text(json.dumps({"patients": ["MUSTERFRAU^ERIKA"], "root": str(dataset)}))
    (checkpoint / "plots" / "report").mkdir()
    (checkpoint / "plots" / "report" / "report.html").write_text("1957-03-12 1.2.840.113619.2.55.3.604688119")
    push(checkpoint, "lab/mammo", private_paths=[dataset])
    sent = b"".join(hub.received) + b"".join(hub.objects.values()) + "".join(hub.asked).encode()
    assert len(hub.files("lab/mammo")["model.safetensors"]) < len(sent)
    for secret in ("Erika", "ERIKA", "MUSTERFRAU", "emuster", "mammo-pc", "1957", "1.2.840.113619", str(tmp_path)):
        assert secret.encode() not in sent, secret


@pytest.mark.parametrize(
    ("machine", "text"),
    [
        ({"paths": ["/data/films"]}, "read from /data/films"),
        ({"paths": ["/data/films"]}, "read from /data/films/"),
        ({"paths": ["/data"]}, "root=/data"),
        ({"names": ["emuster"]}, "made by EMuster"),
        ({"names": ["emuster"]}, "out_emuster_2"),
    ],
)
def test_this_machine_is_found_by_its_paths_and_names(machine, text):
    with pytest.raises(IdentifierError, match="this machine"):
        refuse_identifiers({"README.md": text.encode()}, **machine)


def test_a_path_in_the_weights_bytes(tmp_path):
    import torch

    place = b"/data/films"
    save_file({"a": torch.tensor(list(place.ljust(16)), dtype=torch.uint8)}, tmp_path / "model.safetensors")
    files = {"model.safetensors": tmp_path / "model.safetensors"}
    refuse_identifiers(files)
    with pytest.raises(IdentifierError, match="path or name of this machine"):
        refuse_identifiers(files, paths=[place.decode()])


@pytest.mark.parametrize(
    "text",
    [
        "0.19570312 and 12.19570312e-3, 0.95703120190312",  # digits of numbers
        "torch 2.13.0+cpu, mammo-hf 0.1.0.dev20260101, versions 1.2.3.4",
        "![ROC](card/roc.png) https://arxiv.org/abs/2103.14030 and/or 896 x 448, 1/2 of it",
        "N / (K N_c), w^2, 2012 to 2019, 1234567890123456 and 0.1234567890abcdef, may 1 of 2",
    ],
)
def test_ordinary_text_is_let_through(text):
    refuse_identifiers({"README.md": text.encode()})


def test_a_user_who_is_called_as_a_word_of_every_card_is_not_named_by_it():
    refuse_identifiers({"metrics.json": b'{"classifier": {}}'}, names=["classifier"])
    refuse_identifiers({"README.md": b"## Calibration"}, names=["calibration"])
    with pytest.raises(IdentifierError):
        refuse_identifiers({"metrics.json": b'{"classifier": "eva"}'}, names=["eva"])


def test_the_repositorys_own_name_is_allowed(hub, checkpoint, monkeypatch):
    monkeypatch.setattr("getpass.getuser", lambda: "labuser")
    push(checkpoint, "labuser/mammo")
    assert b"labuser/mammo" in hub.files("labuser/mammo")["README.md"]


def test_machines_that_are_called_like_all_others_name_nobody(monkeypatch):
    monkeypatch.setattr("socket.gethostname", lambda: "localhost")
    monkeypatch.setattr("getpass.getuser", lambda: "root")
    assert names_of_this_machine() == []


def test_addresses_are_no_paths_of_this_machine():
    refuse_identifiers({"README.md": b"https://huggingface.co/data"}, paths=["/data"])


@pytest.mark.parametrize(
    "date", ["1957-03-12", "19570312", "1957/03/12", "12.03.1957", "12 March 1957", "March 12, 1957", "Mar 1957"]
)
def test_dates_in_their_forms(date):
    with pytest.raises(IdentifierError, match="contains a date"):
        refuse_identifiers({"README.md": f"seen on {date}.".encode()})
