from transformers import TrainerControl, TrainerState, TrainingArguments

from mammo_hf.hub.privacy_check import names_of_this_machine, paths_of_this_machine, refuse_identifiers
from mammo_hf.training.callbacks import ModelCardCallback


def test_the_facts_are_of_the_run_and_of_no_place(tmp_path):
    batch = {"per_device_train_batch_size": 4, "gradient_accumulation_steps": 3}
    args = TrainingArguments(str(tmp_path), use_cpu=True, report_to="none", run_name=str(tmp_path), **batch)
    card = ModelCardCallback()
    card.on_train_end(args, TrainerState(global_step=7, epoch=1.756), TrainerControl())
    facts = card.facts
    assert (facts["updates"], facts["epochs"], facts["images_an_update"]) == (7, 1.76, 12)
    assert (facts["device"], facts["precision"], facts["chosen_by"]) == ("cpu", "float32", None)
    content = {"README.md": str(facts).encode()}
    refuse_identifiers(content, paths=paths_of_this_machine([tmp_path]), names=names_of_this_machine())
