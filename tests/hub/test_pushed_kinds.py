"""Prepared images and exports are pushed too, with their card and terms, and without an identifier; sets are read."""

import json
import re
import subprocess
import sys

import datasets
import numpy as np
import pytest
from cbis_miniature import write_dicom
from datasets.table import embed_table_storage
from huggingface_hub import constants
from loopback_hub import Repository
from PIL import Image
from transformers import pipeline

import mammo_hf
from mammo_hf.cli import main
from mammo_hf.data.terms import PHANTOMS, Terms, read_terms, write_terms
from mammo_hf.errors import UsageError
from mammo_hf.hub.privacy_check import IdentifierError
from mammo_hf.hub.push import push
from mammo_hf.phantom.writing import write_phantom
from mammo_hf.studies.cells import Arm
from mammo_hf.studies.label_efficiency import Study, StudySettings

SET = "lab/prepared"


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    root = tmp_path_factory.mktemp("films of erika") / "cbis"
    write_phantom(root, patients=4, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.fixture
def cache(monkeypatch, tmp_path):
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_a_prepared_set_is_pushed_and_read_from_the_hub(hub, films, cache, tmp_path, form):
    prepared = mammo_hf.prepare(films, tmp_path / "prepared", image_size=(64, 32), format=form)
    pushed = push(tmp_path / "prepared", SET)
    files = hub.files(f"datasets/{SET}")
    assert not [name for name in files if "rejected" in name or name.startswith("shards")]
    assert not [name for name, content in files.items() if b"erika" in content or str(tmp_path).encode() in content]
    assert f"hub:{SET}" in files["README.md"].decode()
    again = mammo_hf.load(f"hub:{SET}@{pushed.commit}")
    assert again.column("image_id") == prepared.column("image_id")
    assert again.terms == (PHANTOMS,)
    # stock types: `datasets` alone reads the rows, as a stream
    place = sorted(str(path) for path in (cache / "datasets--lab--prepared").glob(f"snapshots/*/data/*.{form}"))
    rows = datasets.load_dataset(form, data_files=place, split="train", streaming=True)
    row = next(iter(rows))
    assert np.frombuffer(row["pixels"], np.uint16).reshape(row["size"]).shape == (64, 32)


@pytest.mark.slow
def test_a_training_from_the_hub_knows_its_data_set_and_commit(hub, films, cache, tmp_path):
    mammo_hf.prepare(films, tmp_path / "prepared", image_size=(112, 112))
    pushed = push(tmp_path / "prepared", SET)
    options = {"max_steps": 1, "num_workers": 0, "report_to": "none", "tasks": ["pathology"]}
    trained = mammo_hf.finetune(f"hub:{SET}", tmp_path / "cls", model="nano", **options)
    about = json.loads((trained.output_dir / "metrics.json").read_text())["classifier"]["collection"]
    assert (about["repository"], about["revision"]) == (SET, pushed.commit)
    push(tmp_path / "cls", "lab/cls")
    assert ".eval_results/prepared.yaml" in hub.files("lab/cls")


STREAM = """
import json, mammo_hf, datasets
rows = datasets.load_dataset("lab/films", split="train", streaming=True)
film = next(iter(rows))["film"]
row = next(iter(datasets.load_dataset("lab/prepared", split="images", streaming=True)))
print(json.dumps([film.intensity().tolist(), film["path"], len(row["pixels"]), row["size"]]))
"""


@pytest.mark.slow
def test_a_set_with_the_feature_and_a_prepared_one_are_streamed_from_the_hub(hub, films, tmp_path):
    write_dicom(tmp_path / "a.dcm", np.arange(32 * 16, dtype=np.uint16).reshape(32, 16), "eva")
    rows = datasets.Dataset.from_dict({"film": [str(tmp_path / "a.dcm")]})
    rows = rows.cast_column("film", mammo_hf.MammogramImage()).with_format("arrow")
    rows.map(embed_table_storage, batched=True).to_parquet(tmp_path / "rows.parquet")
    hub.repositories["datasets/lab/films"] = repository = Repository()
    repository.commit("main", {"data/train-00000-of-00001.parquet": (tmp_path / "rows.parquet").read_bytes()})
    mammo_hf.prepare(films, tmp_path / "prepared", image_size=(64, 32), format="parquet")
    push(tmp_path / "prepared", SET)
    command = [sys.executable, "-W", "ignore", "-c", STREAM]
    environment = hub.environment(tmp_path / "cache")
    done = subprocess.run(command, env=environment, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    intensity, path, size, sides = json.loads(done.stdout.splitlines()[-1])
    np.testing.assert_array_equal(np.float32(intensity), mammo_hf.read_mammogram(tmp_path / "a.dcm").intensity())
    assert (path, size, sides) == ("a.dcm", 64 * 32 * 2, [64, 32])


@pytest.mark.parametrize("images", ["agreement of the hospital", ""])
def test_images_are_passed_on_only_under_an_open_licence_or_with_a_permission(hub, films, tmp_path, images):
    mammo_hf.prepare(films, tmp_path / "prepared", image_size=(64, 32))
    weights_alone = Terms("ours", images, weights="allowed", clause="weights may be published")
    write_terms(tmp_path / "prepared", [weights_alone])
    with pytest.raises(UsageError, match="passing on its images: ask"):
        push(tmp_path / "prepared", SET)
    assert not hub.repositories
    push(tmp_path / "prepared", SET, permission="the board, May 2026")
    assert "the board, May 2026" in hub.files(f"datasets/{SET}")["README.md"].decode()


def test_rows_with_an_identifier_are_not_pushed(hub, films, tmp_path):
    collection = mammo_hf.load(films)
    named = collection.dataset.add_column("site", ["Erika^Muster"] * len(collection))
    collection.dataset = named
    mammo_hf.prepare(collection, tmp_path / "prepared", image_size=(64, 32))
    with pytest.raises(IdentifierError, match="person's name"):
        push(tmp_path / "prepared", SET)
    assert not hub.repositories


@pytest.mark.slow
def test_an_export_is_pushed_with_a_card_whose_code_gives_our_scores(
    hub, checkpoint, cache, tmp_path, monkeypatch, capsys
):
    pytest.importorskip("onnxruntime")
    out = tmp_path / "onnx"
    assert main(["export", "onnx", str(checkpoint), "--output_dir", str(out)]) == 0
    assert b'File "' not in (out / "model.onnx").read_bytes()  # the exporter's lines of code have paths
    push(out, "lab/onnx")
    files = hub.files("lab/onnx")
    assert {"model.onnx", "tasks.json", "terms.json", "preprocessor_config.json", "README.md"} <= set(files)
    card = files["README.md"].decode()
    assert "phantoms" in card
    assert 'snapshot_download("lab/onnx")' in card
    code = card.split("```python\n")[1].split("```")[0]
    image = np.zeros((160, 100), np.uint16)
    image[10:150, :70] = np.random.default_rng(0).integers(20000, 60000, (140, 70))
    monkeypatch.chdir(tmp_path)
    Image.fromarray(image).save("mammogram.png")
    capsys.readouterr()
    exec(code, {})
    found = [float(number) for number in re.findall(r": (\d\.\d+(?:e-\d+)?)", capsys.readouterr().out)]
    ours = pipeline("mammogram-classification", model=str(checkpoint))("mammogram.png")
    np.testing.assert_allclose(sorted(found), sorted(row["score"] for row in ours), atol=1e-4)


REASONS = {
    "nowhere": (r"there is no such data set, or it is private; check the name; if it is private: hf auth login"),
    "private": (r"there is no such data set, or it is private; check the name; if it is private: hf auth login"),
    "gated": (r"its terms have to be accepted first; accept them at http\S+/datasets/lab/set, then hf auth login"),
    "branch": (r"lab/set has no revision 'v9'; check the revision after the @"),
    "offline": (r"HF_HUB_OFFLINE is set, and the data set is not in the cache; unset it, or check the name"),
    "broken": (r"it cannot be reached, and the data set is not in the cache; check the name and the connection"),
}


@pytest.mark.parametrize("reason", REASONS)
@pytest.mark.parametrize("token", [True, False])
def test_why_a_data_set_does_not_come_is_one_right_sentence(hub, cache, monkeypatch, reason, token):
    if not token or reason in ("private", "gated"):
        monkeypatch.delenv("HF_TOKEN")
        monkeypatch.setattr(constants, "HF_TOKEN_PATH", str(cache / "none"))
    if reason != "nowhere":
        hub.repositories["datasets/lab/set"] = repository = Repository(reason == "private", reason == "gated")
        repository.commit("main", {"README.md": b"# set"})
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", reason == "offline")
    if reason == "broken":
        hub.fail(".", 0)
    with pytest.raises(UsageError) as caught:
        mammo_hf.load("hub:lab/set" + ("@v9" if reason == "branch" else ""))
    assert re.search(REASONS[reason] + "$", str(caught.value)), str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["hub:set", "hub:", "hub:a/b/c", "hub:lab/../x"])
def test_a_name_that_is_none_of_a_data_set(hub, name):
    with pytest.raises(UsageError, match="OWNER/NAME"):
        mammo_hf.load(name)
    assert not hub.asked


CLOSED = Terms("closed", "an agreement", weights="not allowed", clause="5. no weights")


@pytest.mark.slow
def test_what_a_grandparent_forbids_stops_all_that_comes_from_it(hub, films, tmp_path):
    images = mammo_hf.load(films)
    images.terms = (CLOSED,)
    mammo_hf.prepare(images, tmp_path / "prepared", image_size=(112, 112))
    options = {"model": "nano", "max_steps": 1, "num_workers": 0, "report_to": "none"}
    mammo_hf.pretrain(tmp_path / "prepared", tmp_path / "mim", **options)
    options |= {"image_size": [112, 112], "tasks": ["pathology"]}
    for start, out in (("mim", "cls"), ("cls", "last")):
        mammo_hf.finetune(films, tmp_path / out, **options | {"model": tmp_path / start})
    assert main(["export", "onnx", str(tmp_path / "last"), "--output_dir", str(tmp_path / "onnx")]) == 0
    for folder in ("prepared", "mim", "cls", "last", "onnx"):
        with pytest.raises(UsageError, match=r"closed: .*--permission"):
            push(tmp_path / folder, "lab/x", private=True)
    assert not hub.asked
    study = ["label-efficiency", "--dataset", str(films), "--output_dir", str(tmp_path / "study"), "--seeds", "1"]
    study += ["--init", str(tmp_path / "cls"), "--percentages", "100", "--image_size", "112", "112", "--model", "nano"]
    assert main(study) == 0
    settings = StudySettings(str(films), "pathology", tmp_path / "study", (112, 112), model="nano")
    Study(settings).features(Arm(str(tmp_path / "cls"), "head"), 0)
    for folder in ("study", "study/features/cls", "last/plots/report"):
        assert CLOSED in (read_terms(tmp_path / folder) or ()), folder
