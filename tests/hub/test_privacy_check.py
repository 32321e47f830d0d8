"""Nothing that names a person, a place or this machine is in any byte that a push sends."""

import datetime
import io
import json
import string
import struct
import time
import zlib

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hub_fixtures import change_json
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, PngImagePlugin
from safetensors.torch import load_file, save_file

from mammo_hf.errors import DataError
from mammo_hf.hub.privacy_check import IdentifierError, names_of_this_machine, refuse_identifiers
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


@pytest.mark.parametrize(
    "where", [pytest.param(one, marks=[pytest.mark.slow] * ("json" in one and "escaped" not in one)) for one in PLACES]
)
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
    for secret in (
        "Erika",
        "ERIKA",
        "MUSTERFRAU",
        "emuster",
        "mammo-pc",
        "1957-03-12",
        "19570312",
        "1.2.840.113619",
        str(tmp_path),
    ):
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


def test_a_path_in_emphasis_is_found_and_a_pattern_of_names_is_none():
    for text in ("of **/srv/films/1.dcm**", "_/srv/films/1.dcm_", "| a |*/srv/films/1.dcm*|"):
        with pytest.raises(IdentifierError, match="a path"):
            refuse_identifiers({"README.md": text.encode()})
    refuse_identifiers({"README.md": b"all of `**/train/*.dcm`"})


def test_words_about_images_are_no_count_of_them():
    with pytest.raises(IdentifierError, match="a date"):
        refuse_identifiers({"README.md": b"the images 19570312 and later"})


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


# Both sides of the gate, generated, inside every kind of text that a push could take.

MONTHS = ["January", "Mar", "MAY", "März", "décembre", "agosto", "dezembro", "Mai", "maart", "Sept"]


def digits(least, most=None):
    return st.text("123456789", min_size=least, max_size=most or least)


@st.composite
def dates(draw):
    year, month, day = draw(st.integers(1900, 2099)), draw(st.integers(1, 12)), draw(st.integers(1, 31))
    time = draw(st.sampled_from(["", "10", "1030", "103059", "103059.123456", "103059+0100", "103059.1-0500"]))
    clock = draw(st.sampled_from(["", "T10:30", "T10:30:59Z", " 10:30:59.25", "T10:30:59+01:00"]))
    name, part = draw(st.sampled_from(MONTHS)), draw(st.sampled_from("-/._ \u2011\u2013\u2044"))
    return draw(
        st.sampled_from(
            [
                f"{year}{month:02}{day:02}{time}",
                f"{year}{month:02}{day:02}.0",
                f"{year}-{month:02}-{day:02}{clock}",
                part.join([f"{year}", f"{month:02}", f"{day:02}"]),
                part.join([f"{day:02}", f"{month:02}", f"{year}"]),
                f"{day}/{month}/{year}",
                part.join([f"{month:02}", f"{day:02}", f"{year}"]),
                f"{day}. {month}. {year}",
                f"{year}年{month}月{day}日",
                f"{day} {name} {year}",
                f"{day}-{name}-{year}",
                f"{day}/{name}/{year}",
                f"{name} {day}, {year}",
            ]
        )
    )


token = st.text(string.ascii_letters + string.digits, min_size=36, max_size=40)
upper = st.text(string.ascii_uppercase + string.digits, min_size=16, max_size=16)
roots = ["1.2.840.10008", "1.2.826.0.1", "1.3.6.1.4.1", "1.3.12.2.1107", "1.2.276.0", "2.16.840.1.113662"]
uids = st.builds("{}.{}".format, st.sampled_from(roots), digits(3, 9))
keys = st.text("0123456789abcdef", min_size=15, max_size=15).map("a".__add__)
REFUSED = {
    "a date": dates(),
    "a DICOM UID": st.one_of(
        uids,
        digits(20, 38).map("2.25.{}".format),
        st.lists(digits(1, 5), min_size=6, max_size=9).map(".".join),
        uids.map("12.{}".format),
    ),
    "a path": st.sampled_from(
        [
            r"C:\films\1.dcm",
            "d:/films/1.dcm",
            r"\\pacs\films$\1.dcm",
            "//pacs/films/1.dcm",
            "~/films/1.dcm",
            "/srv/films/1",
            "%2Fsrv%2Ffilms%2F1",
        ]
    ),
    "a password": st.builds(
        "{}://erika:{}@pacs.example/x".format, st.sampled_from(["https", "postgres"]), digits(3, 9)
    ),
    "a token": st.one_of(
        token.map("hf_{}".format),
        token.map("ghp_{}".format),
        token.map("github_pat_{}".format),
        upper.map("AKIA{}".format),
    ),
    "a key": st.one_of(keys, keys.map(str.upper), keys.map(str.title)),
    "a person": st.sampled_from(["MUSTERFRAU^ERIKA", "DOE^^^DR", "DOE^ JANE", "山田^太郎"]),
}
number = st.integers(0, 10**8)
eight = st.integers(1900, 2099).map("{}0817".format)
PASSED = st.one_of(
    st.builds("torch {}.{}.{}+cpu".format, number, number, number),
    st.builds("mammo-hf 0.1.0.dev{}".format, eight),
    st.builds("numpy=={}.8.{}".format, st.integers(1900, 2099), st.integers(1, 31)),
    st.builds("version {}.12.{}".format, st.integers(1900, 2099), st.integers(1, 31)),
    st.builds("doi 10.1148/radiol.{}".format, eight),
    st.builds("https://doi.org/10.1016/j.media.{}.{}".format, eight, digits(6)),
    st.builds("arXiv:{}.{}".format, digits(4), digits(5)),
    st.builds("https://arxiv.org/abs/{}.{}v2".format, digits(4), digits(5)),
    st.floats(allow_nan=False, allow_infinity=False).map(str),
    st.builds("0.{}{}".format, eight, digits(4)),
    st.builds("commit {}".format, st.text("0123456789abcdef", min_size=40, max_size=40)),
    st.builds("v{}.12.{}".format, st.integers(1900, 2099), st.integers(1, 31)),
    st.builds("https://github.com/lab/mammo/tree/v1.2.{}/src/a".format, st.integers(0, 99)),
    st.builds("PMID: {}".format, eight),
    st.builds("seeds: {0}, {0}".format, eight),
)
COUNTS = st.sampled_from(["seed", "data_seed", "images", "train_patients", "num_examples", "count", "n_bytes"])


def png(text):
    notes, file = PngImagePlugin.PngInfo(), io.BytesIO()
    notes.add_itxt("Comment", text, zip=True)
    Image.new("L", (2, 2)).save(file, "png", pnginfo=notes)
    return file.getvalue()


PLACED = {
    "README.md": lambda key, text: f"# A card\n\n- {key}: {text}\n",
    "table.md": lambda key, text: f"| kind | {key} |\n|---|---:|\n| a | {text} |\n",
    "metrics.json": lambda key, text: json.dumps({"a": [{key: text}]}),
    "run.yaml": lambda key, text: f"a:\n  {key}: {text}\n",
    "table.csv": lambda key, text: f'kind,{key}\n"a, b","{text}"\n',
    "roc.png": lambda key, text: png(f"{key}={text}"),
}


def placed(where, key, text):
    content = PLACED[where](key, text)
    return {where: content if isinstance(content, bytes) else content.encode()}


@pytest.mark.parametrize("where", PLACED)
@given(data=st.data())
def test_every_kind_of_identifier_is_refused_wherever_it_is_written(where, data):
    kind = data.draw(st.sampled_from(list(REFUSED)))
    text = data.draw(REFUSED[kind])
    before, after = data.draw(st.sampled_from([("", ""), ("seen on ", "."), ("IMG_", ""), ("(", ")")]))
    text = text if kind in ("a path", "a password", "a person") else before + text + after
    with pytest.raises(IdentifierError, match=kind.removeprefix("a ")):
        refuse_identifiers(placed(where, "comment", text))


@pytest.mark.parametrize("where", PLACED)
@given(data=st.data())
def test_numbers_that_name_nobody_pass_wherever_they_are_written(where, data):
    refuse_identifiers(placed(where, "comment", data.draw(PASSED)))
    key, count = data.draw(COUNTS), data.draw(eight)
    refuse_identifiers(placed(where, key, count))
    refuse_identifiers({"metrics.json": json.dumps({key: [int(count), int(count)]}).encode()})


def png_with(kind, content):
    """Returns a picture with a chunk of its own before its pixels."""
    raw = png("nothing")
    chunk = struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    return raw[:33] + chunk + raw[33:]


HIDDEN = "MUSTERFRAU^ERIKA"
IN_PICTURES = {
    "after its end": png("nothing") + HIDDEN.encode(),
    "a chunk in UTF-16": png_with(b"prVt", HIDDEN.encode("utf-16-le")),
    "a translated key": png_with(b"iTXt", b"Comment\0\0\0en\0" + HIDDEN.encode() + b"\0nothing"),
    "a profile": png_with(b"iCCP", b"a\0\0" + zlib.compress(HIDDEN.encode())),
}
IN_TEXTS = {
    "a key that is listed twice": ("metrics.json", f'{{"note": "{HIDDEN}", "note": "none"}}'),
    "a key of more": ("metrics.json", f'{{"a": {{"{HIDDEN}": {{"b": 1}}}}}}'),
    "a key of nothing": ("metrics.json", f'{{"a": [{{"{HIDDEN}": []}}]}}'),
    "escaped for Markdown": ("README.md", HIDDEN.replace("^", "\\^")),
    "escaped for HTML": ("README.md", HIDDEN.replace("^", "&#94;")),
    "escaped for YAML": ("run.yaml", f'a: "{HIDDEN.replace("^", chr(92) + "x5e")}"'),
    "a name of a file": (f"card/{HIDDEN}.md", "nothing"),
}


@pytest.mark.parametrize("where", [*IN_PICTURES, *IN_TEXTS])
def test_what_hides_in_a_file_is_found(where):
    name, content = ("roc.png", IN_PICTURES[where]) if where in IN_PICTURES else IN_TEXTS[where]
    with pytest.raises(IdentifierError, match="person") as caught:
        refuse_identifiers({name: content.encode() if isinstance(content, str) else content})
    assert HIDDEN not in str(caught.value)


def test_a_name_with_an_underscore_is_found_where_a_card_escapes_it():
    for text, machine in (
        ("made by e\\_muster", {"names": ["e_muster"]}),
        ("of /my\\_films", {"paths": ["/my_films"]}),
    ):
        with pytest.raises(IdentifierError, match="this machine"):
            refuse_identifiers({"README.md": text.encode()}, **machine)


COLUMNS = {
    "texts": pa.array([HIDDEN, "a"]),
    "long texts": pa.array([HIDDEN, "a"], pa.large_string()),
    "words": pa.array([HIDDEN, "a"]).dictionary_encode(),
    "lists": pa.array([[HIDDEN], ["a"]]),
    "records": pa.array([{"a": HIDDEN}, {"a": "b"}]),
    "maps": pa.array([[(HIDDEN, 1)]], pa.map_(pa.string(), pa.int32())),
    "bytes": pa.array([HIDDEN.encode(), b"\xff"]),
    "dates": pa.array([datetime.date(1957, 3, 12), None]),
    "times": pa.array([datetime.datetime(1957, 3, 12, 10), None]),
    "integers": pa.array([19570312, 3]),
    "floats": pa.array([19570312.0, None]),
    HIDDEN: pa.array([1]),
}


@pytest.mark.parametrize("column", COLUMNS)
def test_columns_of_any_type_are_searched(column, tmp_path):
    pq.write_table(
        pa.table({column: COLUMNS[column], "patient": ["0" * 16] * len(COLUMNS[column])}), tmp_path / "a.parquet"
    )
    with pytest.raises(IdentifierError, match=r"person|date"):
        refuse_identifiers({"data/a.parquet": tmp_path / "a.parquet"})


def test_what_arrow_says_of_a_column_is_searched(tmp_path):
    for schema in (
        pa.schema([pa.field("a", pa.int64(), metadata={"of": HIDDEN})]),
        pa.schema([("a", pa.int64())], {HIDDEN: ""}),
    ):
        pq.write_table(pa.table([[1]], schema=schema), tmp_path / "a.parquet")
        with pytest.raises(IdentifierError, match="person"):
            refuse_identifiers({"data/a.parquet": tmp_path / "a.parquet"})


def test_a_file_that_changes_after_it_was_searched_is_not_pushed(hub, checkpoint, monkeypatch):
    from mammo_hf.hub import push as module

    opened = module._open_repository

    def change(*args, **kwargs):
        save_file(load_file(checkpoint / "model.safetensors"), checkpoint / "model.safetensors", {"from": "MUSTER^E"})
        return opened(*args, **kwargs)

    monkeypatch.setattr(module, "_open_repository", change)
    with pytest.raises(DataError, match=r"model.safetensors was changed while it was checked"):
        push(checkpoint, "lab/mammo")
    assert hub.count("PUT /lfs") == 0
    assert len(hub.repositories["lab/mammo"].commits) == 1


@pytest.mark.parametrize("part", ["a", "_", "a/", "\\", "seed ", "^"])
def test_a_long_line_costs_no_more_than_its_length(part):
    begun = time.process_time()
    refuse_identifiers({"README.md": part.encode() * 20_000})
    assert time.process_time() - begun < 8


@pytest.mark.parametrize(
    "date", ["1957-03-12", "19570312", "1957/03/12", "12.03.1957", "12 March 1957", "March 12, 1957", "Mar 1957"]
)
def test_dates_in_their_forms(date):
    with pytest.raises(IdentifierError, match="contains a date"):
        refuse_identifiers({"README.md": f"seen on {date}.".encode()})
