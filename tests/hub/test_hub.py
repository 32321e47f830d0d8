import json
import re

import pytest
import yaml
from hub_fixtures import change_json
from huggingface_hub import ModelCard, parse_eval_result_entries
from made_checkpoint import LEFT_BEHIND

from mammo_hf.data.terms import PHANTOMS, Terms, write_terms
from mammo_hf.errors import MammoError, UsageError
from mammo_hf.hub.model_card import write_card
from mammo_hf.hub.push import HubError, push

NAME = "lab/mammo"


def state(folder):
    return {path: path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def test_one_commit_holds_what_it_takes_and_nothing_else(hub, checkpoint):
    pushed = push(checkpoint, NAME)
    files, repository = hub.files(NAME), hub.repositories[NAME]
    assert len(repository.commits) == 2  # the Hub's own first one, and ours
    assert pushed.commit == repository.branches["main"]
    wanted = {"config.json", "model.safetensors", "preprocessor_config.json", "metrics.json", "README.md"}
    wanted.add("terms.json")
    assert wanted | {"card/roc.png", "image_processing_mammo.py"} <= set(files)
    assert not {name for name in files if name.split("/")[0] in ("plots", "prepared", *LEFT_BEHIND)}
    others = {name for name in files if not name.endswith(".py")} - wanted
    assert others == {"card/roc.png", ".gitattributes"}
    assert files["model.safetensors"] == (checkpoint / "model.safetensors").read_bytes()
    assert f'from_pretrained("{NAME}")' in files["README.md"].decode()
    assert "your-name" not in files["README.md"].decode()


CLOSED = Terms("closed", "an agreement", weights="not allowed", clause="5. no weights", citation="A. B. 2020")


@pytest.mark.parametrize("private", [None, True])
@pytest.mark.parametrize("terms", [[CLOSED], [PHANTOMS, Terms("asked", "")], None])
def test_terms_that_do_not_allow_it_stop_a_push_before_the_first_request(hub, checkpoint, terms, private):
    (checkpoint / "terms.json").unlink()
    if terms is not None:
        write_terms(checkpoint, terms)
    with pytest.raises(UsageError) as caught:
        push(checkpoint, NAME, private=private)
    assert f'mammo-hf push {checkpoint} {NAME} --permission "' in str(caught.value)
    assert not hub.repositories
    push(checkpoint, NAME, private=private, permission="the institute, May 2026, *for this model*")
    card = hub.files(NAME)["README.md"].decode()
    assert r"the institute, May 2026, \*for this model\*" in card
    assert ("terms.json" in hub.files(NAME)) == (terms is not None)


def results_of(hub):
    found = {name: content for name, content in hub.files(NAME).items() if name.startswith(".eval_results/")}
    return {name: parse_eval_result_entries(yaml.safe_load(content)) for name, content in found.items()}


def test_results_are_listed_at_the_data_set_that_is_named_and_are_those_of_the_card(hub, checkpoint):
    push(checkpoint, NAME)
    assert results_of(hub) == {}  # an entry needs the id of a data set
    push(checkpoint, NAME, results_dataset="lab/cbis")
    ((name, entries),) = results_of(hub).items()
    assert name == ".eval_results/cbis.yaml"
    assert {entry.dataset_id for entry in entries} == {"lab/cbis"}
    by_task = {entry.task_id: entry for entry in entries}
    assert len(by_task) == len(entries)
    figures = json.loads((checkpoint / "metrics.json").read_text())["classifier"]["test"]["pathology"]
    area, (low, high) = by_task["pathology_roc_auc_by_image"], figures["auroc_interval"]
    assert area.value == round(figures["auroc"], 4)
    assert f"test split, 95 % interval by patient {low:.3f} to {high:.3f}" in area.notes
    index = ModelCard(hub.files(NAME)["README.md"].decode()).data.eval_results
    assert sorted(entry.value for entry in entries) == sorted(result.metric_value for result in index)


def test_results_of_a_data_set_that_was_loaded_from_the_hub_have_its_commit(hub, checkpoint):
    metrics = json.loads((checkpoint / "metrics.json").read_text())["classifier"]
    metrics["collection"] |= {"repository": "lab/set", "revision": "a" * 40}
    change_json(checkpoint / "metrics.json", classifier=metrics)
    write_card(checkpoint)
    push(checkpoint, NAME)
    assert {(one.dataset_id, one.dataset_revision) for one in results_of(hub)[".eval_results/set.yaml"]} == {
        ("lab/set", "a" * 40)
    }
    card = ModelCard(hub.files(NAME)["README.md"].decode()).data
    assert card.datasets == ["lab/set"]
    assert {(one.dataset_type, one.dataset_revision) for one in card.eval_results} == {("lab/set", "a" * 40)}
    write_card(checkpoint, results_dataset="other/set")
    push(checkpoint, NAME)
    assert {one.dataset_id for one in results_of(hub)[".eval_results/set.yaml"]} == {"other/set"}
    with pytest.raises(UsageError, match="OWNER/NAME"):
        push(checkpoint, NAME, results_dataset="cbis")


def test_the_card_shows_terms_and_citations(checkpoint):
    write_terms(checkpoint, [CLOSED])
    card = write_card(checkpoint).read_text()
    assert 'not allowed ("5. no weights")' in card
    assert "Cite A. B. 2020." in card


def test_a_second_push_sends_only_what_has_changed(hub, checkpoint):
    first = push(checkpoint, NAME)
    uploads = hub.count("PUT /lfs")
    assert push(checkpoint, NAME).commit == first.commit
    change_json(checkpoint / "metrics.json", more=1)
    assert push(checkpoint, NAME).commit != first.commit
    assert hub.count("PUT /lfs") == uploads
    assert json.loads(hub.files(NAME)["metrics.json"])["more"] == 1


def test_weights_of_an_earlier_push_do_not_outlive_it(hub, checkpoint):
    push(checkpoint, NAME)
    whole = checkpoint / "model.safetensors"
    shard = whole.rename(checkpoint / "model-00001-of-00001.safetensors")
    (checkpoint / "model.safetensors.index.json").write_text(json.dumps({"weight_map": {"a": shard.name}}))
    push(checkpoint, NAME)
    assert "model.safetensors" not in hub.files(NAME)
    assert {shard.name, "model.safetensors.index.json"} <= set(hub.files(NAME))


def test_a_branch_is_made_and_main_stays(hub, checkpoint):
    push(checkpoint, NAME)
    change_json(checkpoint / "metrics.json", more=1)
    push(checkpoint, NAME, revision="second")
    assert "more" in json.loads(hub.files(NAME, "second")["metrics.json"])
    assert "more" not in json.loads(hub.files(NAME)["metrics.json"])


def test_what_must_be_private_is_not_pushed_to_a_public_repository(hub, checkpoint):
    push(checkpoint, "lab/hidden", private=True)
    assert hub.repositories["lab/hidden"].private
    push(checkpoint, NAME)
    change_json(checkpoint / "metrics.json", more=1)
    with pytest.raises(UsageError, match="exists already, and is public"):
        push(checkpoint, NAME, private=True)
    assert len(hub.repositories[NAME].commits) == 2


def test_a_name_alone_is_the_owners(hub, checkpoint):
    assert push(checkpoint, "mammo").repository == NAME
    assert f'model="{NAME}"' in hub.files(NAME)["README.md"].decode()


def test_the_configuration_does_not_tell_where_it_was_loaded_from(hub, checkpoint):
    change_json(checkpoint / "config.json", _name_or_path=str(checkpoint), custom_pipelines={"a": 1})
    push(checkpoint, NAME)
    config = json.loads(hub.files(NAME)["config.json"])
    assert not {"_name_or_path", "custom_pipelines"} & set(config)
    assert config["tasks"][1]["labels"] == ["a", "b", "c"]


@pytest.mark.parametrize("name", ["a b", "lab/x/y", "-x", "lab/..", "lab/x" * 30, "lab/é", ""])
def test_a_name_that_the_hub_does_not_take(hub, checkpoint, name):
    with pytest.raises(UsageError, match="is not a valid name of a repository"):
        push(checkpoint, name)
    assert hub.asked == []


STEPS = {
    "create": "POST /api/repos/create",
    "list": "GET /api/models/",
    "preupload": "POST .*/preupload/",
    "batch": "POST .*/objects/batch",
    "upload": "PUT /lfs/",
    "commit": "POST .*/commit/",
}
SAID = {
    401: "does not know you",
    403: "no write access",
    404: "no such repository",
    409: "changed by somebody else",
    429: "fewer requests",
    500: "internal error",
    0: "connection to the Hub broke",
}


# every answer at two steps, the commonest at each; a 409 at the creation means that the repository is there
FAULTS = [(step, status) for step in STEPS for status in SAID if status in (0, 500) or step in ("preupload", "commit")]


@pytest.mark.parametrize(("step", "status"), [*FAULTS, ("create", 401), ("create", 403), ("list", 404)])
def test_every_fault_is_one_line_and_the_same_call_completes(hub, checkpoint, step, status):
    before = state(checkpoint)
    hub.fail(STEPS[step], status)
    with pytest.raises(HubError) as caught:
        push(checkpoint, NAME)
    text = str(caught.value)
    assert SAID[status] in text, text
    assert "\n" not in text
    assert f"{checkpoint} is complete" in text
    assert hub.url not in text
    assert state(checkpoint) == before
    assert all("config.json" not in files for one in hub.repositories.values() for files in one.commits.values())
    hub.faults.clear()
    push(checkpoint, NAME)
    assert "config.json" in hub.files(NAME)


def test_a_broken_connection_is_gone_on_from_where_it_broke(hub, checkpoint):
    hub.fail("PUT /lfs/", 0, after=1)  # of the weights and the picture one arrives
    with pytest.raises(MammoError, match="connection"):
        push(checkpoint, NAME)
    assert len(hub.objects) == 1
    hub.faults.clear()
    sent = hub.count("PUT /lfs/")
    push(checkpoint, NAME)
    assert hub.count("PUT /lfs/") == sent + 1


def test_a_connection_that_breaks_once_needs_nobody(hub, checkpoint):
    hub.fail("PUT /lfs/", 0, times=1)
    push(checkpoint, NAME)
    assert "model.safetensors" in hub.files(NAME)


def test_without_a_token_nothing_is_sent(hub, checkpoint, monkeypatch, tmp_path):
    monkeypatch.delenv("HF_TOKEN")
    monkeypatch.setattr("huggingface_hub.constants.HF_TOKEN_PATH", str(tmp_path / "none"))
    with pytest.raises(HubError, match=re.escape("log in (hf auth login)")):
        push(checkpoint, NAME)
    assert hub.repositories == {}


def test_offline_is_said(hub, checkpoint, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(HubError, match="HF_HUB_OFFLINE is set"):
        push(checkpoint, NAME)


def test_metadata_that_the_hub_refuses(hub, checkpoint):
    card = (checkpoint / "README.md").read_text()
    (checkpoint / "README.md").write_text(card.replace("license: unknown", "license: our own!"))
    with pytest.raises(MammoError, match=r"head of README\.md"):
        push(checkpoint, NAME)
    assert len(hub.repositories[NAME].commits) == 1


def test_a_folder_without_weights(hub, checkpoint):
    (checkpoint / "model.safetensors").unlink()
    with pytest.raises(UsageError, match=r"there is no model\.safetensors here"):
        push(checkpoint, NAME)
    assert hub.asked == []


def test_a_picture_that_the_card_does_not_show_stays(hub, checkpoint):
    (checkpoint / "card" / "film.png").write_bytes((checkpoint / "card" / "roc.png").read_bytes())
    push(checkpoint, NAME)
    assert {name for name in hub.files(NAME) if name.startswith("card/")} == {"card/roc.png"}


@pytest.mark.parametrize(
    ("error", "says"),
    [(ConnectionResetError("104"), "connection"), (RuntimeError("Data processing error: x\ny"), "upload failed (Data")],
)
def test_the_chunked_storages_errors_are_one_line_too(hub, checkpoint, monkeypatch, error, says):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("huggingface_hub.HfApi.create_commit", fail)
    with pytest.raises(HubError, match=re.escape(says)):
        push(checkpoint, NAME)
