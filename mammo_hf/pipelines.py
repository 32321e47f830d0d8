"""The task ``mammogram-classification`` of ``transformers.pipeline``: from a file to scores and explanations."""

from __future__ import annotations

from typing import Any

import torch
from transformers import Pipeline
from transformers.pipelines import PIPELINE_REGISTRY

from .evaluation import calibrated
from .explainers import explain
from .explainers.targets import task_slices
from .modeling_mammo_swin import MammoSwinForImageClassification, score_logits

TASK = "mammogram-classification"


class MammogramClassificationPipeline(Pipeline):
    """Scores each label of each task of a mammogram; the scores are calibrated where ``config.calibration`` says how.

    ``pipeline("mammogram-classification", model=...)(image, explainer="grad_cam", top_k=None)``: ``image`` is whatever
    ``MammoImageProcessor`` takes. Each image gives a list of ``{"task", "label", "score"}``, within a task by falling
    score, and with an explainer ``"explanation"`` at each task's first label.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False

    def _sanitize_parameters(
        self, explainer: str | None = None, top_k: int | None = None, **kwargs: Any
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise TypeError(f"unknown arguments: {', '.join(sorted(kwargs))}")
        forward = {} if explainer is None else {"explainer": explainer}
        return {}, forward, {} if top_k is None else {"top_k": top_k}

    def preprocess(self, inputs: Any) -> dict[str, Any]:
        """One image to model input and its geometry."""
        return dict(self.image_processor(inputs, return_tensors="pt", return_geometry=True))

    def _forward(self, model_inputs: dict[str, Any], explainer: str | None = None) -> dict[str, Any]:
        pixels, geometry = model_inputs["pixel_values"], model_inputs["geometry"]
        if explainer is None:
            return {"logits": self._score_logits(pixels), "explanations": {}}
        images = self.image_processor.denormalize(pixels.float().cpu().numpy())
        explanations: dict[str, Any] = {}
        logits = None
        for name, part in task_slices(self.model.config).items():
            # the first task's explanation brings the scores of all along, from its own pass
            targets = None if logits is None else [int(index) + part.start for index in logits[:, part].argmax(-1)]
            explanations[name] = explain(self.model, pixels, targets, explainer, images=images, geometry=geometry)
            if logits is None:
                logits = torch.tensor(explanations[name].logits)
        if getattr(self.model.config, "score_from", "pooled") != "pooled":
            # explained is the pooled score, the lesion head's comes from a pass of its own
            logits = self._score_logits(pixels)
        return {"logits": logits, "explanations": explanations}

    def _score_logits(self, pixels: torch.Tensor) -> torch.Tensor:
        output = self.model(pixel_values=pixels)
        return score_logits(self.model.config, output.logits, output.lesion_scores)

    def postprocess(self, model_outputs: dict[str, Any], top_k: int | None = None) -> list[dict[str, Any]]:
        """Logits of one image to the list of scores."""
        results = []
        logits = model_outputs["logits"].double().numpy()
        calibrations = getattr(self.model.config, "calibration", None) or {}
        for name, part in task_slices(self.model.config).items():
            scores = calibrated(logits[:, part], calibrations.get(name))[0]
            ranked = (-scores).argsort(kind="stable")[:top_k]
            for place, index in enumerate(ranked.tolist()):
                label = self.model.config.id2label[part.start + index].split(":", 1)[-1]
                result = {"task": name, "label": label, "score": float(scores[index])}
                if place == 0 and model_outputs["explanations"]:
                    result["explanation"] = model_outputs["explanations"][name]
                results.append(result)
        return results


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=MammogramClassificationPipeline, pt_model=(MammoSwinForImageClassification,), type="image"
)
