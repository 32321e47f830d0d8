"""A data set, a model and a Trainer of stage 1 that take no file: for tests, and for the processes that they start."""

import torch
from torch.utils.data import Dataset
from transformers import TrainingArguments

from mammo_hf import BlockwiseMasking, MammoSwinConfig, MammoSwinForMaskedImageModeling
from mammo_hf.data.torch_datasets import MaskedCollator
from mammo_hf.training.mim import MimTrainer


class Made(Dataset):
    """Images whose content, and so their part in the loss, differs in size."""

    def __init__(self, count=8, broken=None):
        self.count, self.broken = count, broken

    def __len__(self):
        return self.count

    def __getitem__(self, index):
        generator = torch.Generator().manual_seed(index)
        pixels = torch.randn(1, 112, 56, generator=generator)
        if index == self.broken:
            pixels[0, 0] = float("nan")
        content = torch.ones(112, 56, dtype=torch.bool)
        content[: 10 * index] = False
        mask = torch.from_numpy(BlockwiseMasking(8, 0.5)((112, 56), seed=index))
        return {"pixel_values": pixels, "bool_masked_pos": mask, "content_mask": content}


def network(**changes):
    torch.manual_seed(0)
    tiny = {"embed_dim": 8, "depths": [2, 2], "num_heads": [1, 2], "image_size": (112, 56), "drop_path_rate": 0.0}
    return MammoSwinForMaskedImageModeling(MammoSwinConfig(**tiny | changes))


def trainer(out, model, images=None, average=None, **arguments):
    defaults = {
        "use_cpu": True,
        "max_steps": 3,
        "learning_rate": 1e-3,
        "save_strategy": "no",
        "report_to": "none",
        "remove_unused_columns": False,
        "logging_steps": 1,
        "disable_tqdm": True,
        "train_sampling_strategy": "sequential",
        "label_names": ["bool_masked_pos"],
        "prediction_loss_only": True,
    }
    args = TrainingArguments(str(out), **defaults | arguments)
    return MimTrainer(
        model,
        args,
        train_dataset=images or Made(),
        eval_dataset=Made(4),
        data_collator=MaskedCollator(model.config),
        average=average,
    )
