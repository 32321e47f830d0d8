"""Models that FSDP2 shards over two processes, or DDP copies to them, train as in one process with the same batch."""

import json

import pytest
from two_processes import trained_by_one_and_by_two

pytestmark = pytest.mark.slow

WORKER = """
import json, sys
from pathlib import Path
import numpy as np
import torch
import torch.distributed as dist
from safetensors.torch import save_file
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor
from torch.nn.parallel import DistributedDataParallel
from transformers.models.swin.modeling_swin import SwinLayer, SwinStage
from mammo_hf import (
    BlockwiseMasking, MammoSwinConfig, MammoSwinForImageClassification, MammoSwinForMaskedImageModeling
)

torch.set_num_threads(1)
SIZE = (224, 112)
SHAPE = dict(embed_dim=8, depths=[2, 2, 2], num_heads=[1, 2, 2], image_size=SIZE, drop_path_rate=0.0)
TASKS = dict(pathology=["benign", "malignant"], density=["a", "b", "c"])
draw = torch.Generator().manual_seed(0)
pixels = 1 + 0.1 * torch.randn(4, 1, *SIZE, generator=draw)
masks = torch.from_numpy(np.stack([BlockwiseMasking()(SIZE, seed=0, index=index) for index in range(4)]))
# the same for each, since their loss is divided by the lesions of a process's batch
lesions = torch.randint(0, 3, (14, 7), generator=draw).expand(4, 14, 7)
labels = torch.tensor([[0, 1], [1, 2], [1, 0], [0, 0]])
stages = dict(
    classifier=(
        lambda: MammoSwinForImageClassification(MammoSwinConfig(**SHAPE, tasks=TASKS, lesion_task="pathology")),
        dict(labels=labels, lesion_targets=lesions),
        0.02,
    ),
    masked=(lambda: MammoSwinForMaskedImageModeling(MammoSwinConfig(**SHAPE)), dict(bool_masked_pos=masks), 0.05),
)

def train(out, processes, case):
    rank = 0
    if processes > 1:
        if not dist.is_initialized():
            dist.init_process_group("gloo")
        rank = dist.get_rank()
        assert dist.get_world_size() == processes
    parts = dict(SwinStage=SwinStage, SwinLayer=SwinLayer)
    losses, weights = sharded(processes, rank, parts[case]) if case in parts else copied(processes, rank)
    if rank == 0:
        save_file(weights, out + "/model.safetensors")
        Path(out, "losses.json").write_text(json.dumps(losses))

def sharded(processes, rank, part):
    mine = slice(rank * 4 // processes, (rank + 1) * 4 // processes)
    losses, weights = dict(), dict()
    for stage, (make, targets, rate) in stages.items():
        torch.manual_seed(0)
        model = make().train()
        if processes > 1:
            for module in list(model.modules()):
                if isinstance(module, part):
                    fully_shard(module)
            fully_shard(model)
            assert all([isinstance(parameter, DTensor) for parameter in model.parameters()])
        optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=rate, momentum=0.9)
        losses[stage] = []
        for _ in range(5):
            loss = model(pixels[mine], **{{name: value[mine] for name, value in targets.items()}}).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            total = loss.detach().clone()
            if processes > 1:
                dist.all_reduce(total)
            losses[stage].append(float(total) / processes)
        for name, value in model.state_dict().items():
            whole = value.full_tensor() if isinstance(value, DTensor) else value
            weights[stage + " " + name] = whole.contiguous().clone()
    return losses, weights

# DDP with a lesion head, and half of the batch without lesion annotations, or with none that are known
def copied(processes, rank):
    losses, weights = dict(), dict()
    unknown = dict(lesion_targets=lesions[2:] * 0 - 100)
    for name, without in (("no lesions", dict()), ("unknown lesions", unknown)):
        torch.manual_seed(0)
        model = stages["classifier"][0]().train()
        wrapped = DistributedDataParallel(model) if processes > 1 else model
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
        losses[name] = []
        for _ in range(5):
            total = torch.zeros(())
            for half in [rank] if processes > 1 else [0, 1]:
                mine = slice(2 * half, 2 * half + 2)
                more = without if half else dict(lesion_targets=lesions[mine])
                loss = wrapped(pixels[mine], labels=labels[mine], **more).loss
                (loss * processes / 2).backward()
                total += loss.detach()
            optimizer.step()
            optimizer.zero_grad()
            if processes > 1:
                dist.all_reduce(total)
            losses[name].append(float(total) / 2)
        weights.update((name + " " + key, value.clone()) for key, value in model.state_dict().items())
    return losses, weights
"""


def test_both_stages_train_to_the_same_loss_as_in_one_process(tmp_path):
    for part, outs in trained_by_one_and_by_two(WORKER, tmp_path, "SwinStage", "SwinLayer", "copies").items():
        one, two = (json.loads((out / "losses.json").read_text()) for out in outs)
        assert one.keys() == ({"no lesions", "unknown lesions"} if part == "copies" else {"classifier", "masked"})
        for stage, losses in one.items():
            assert losses == pytest.approx(two[stage], abs=1e-5), (part, stage)
            assert losses[-1] < losses[0] - 0.01, (part, stage)  # it has learned something that could have differed
