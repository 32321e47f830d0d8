"""The task ``mammogram-classification`` of ``transformers.pipeline``, from files to scores and explanations."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import Pipeline, PreTrainedConfig, SwinForImageClassification
from transformers.pipelines import PIPELINE_REGISTRY

from ..data.precedence import NO_HEADER, not_counting, precedence
from ..dicom import Laterality, Mammogram, View
from ..encoders.bags import MammoBagForClassification
from ..encoders.classifier import BagClassifier, load_bag_classifier
from ..encoders.views import Drawn, Picture, drawn
from ..errors import UsageError, check_choice, check_json_object
from ..explainers import Explanation
from ..explainers.explain import OPERATING_POINT, OPERATING_POINTS
from ..explainers.targets import calibrated_scores, fixed_target, resolve, task_slices
from ..isolation import isolate_process
from ..models.checkpoint import BAG, NO_CLASSIFIER, PROCESSOR, check_processor, load_model, locate
from ..models.configuration_mammo_swin import MammoSwinConfig
from ..models.modeling_mammo_swin import MammoSwinForImageClassification
from ..models.own_figures import map_tests, own_figures
from ..models.training_statistics import read_statistics
from ..notes import codes
from ..processing.image_processing_mammo import MammoImageProcessor
from ..processing.image_source import is_undecoded
from .exams import ExamView, check_header, into_exam, missing_views, views_of
from .reading import Source, exams_of, files_below, files_to_read
from .scoring import (
    Targets,
    as_reported,
    bag_logits_and_notes,
    explain_bag,
    label_of,
    labels_by_task,
    score_and_explain,
    targets_of_exam,
    units_of_head,
)

TASK = "mammogram-classification"
Result = dict[str, Any]


class MammogramClassificationPipeline(Pipeline):
    """A pipeline that scores each label of each task of a mammogram, calibrated if ``config.calibration`` says how.

    ``pipeline("mammogram-classification", model=...)(image)``: ``image`` is anything that ``MammoImageProcessor``
    takes: a path, bytes, a pydicom ``Dataset``, a PIL image, an array, a value of a column of images in `datasets`,
    decoded or not. The result is a list of ``{"task", "label",
    "score"}``, within a task by falling score, each with ``"notes"`` if there are any on the image: their codes, keys
    of `mammo_hf.notes.NOTES`. Other inputs:

    - a list, a torch ``Dataset`` or an iterator of images or exams: a list of results, or an iterator of them;
    - a folder: a list of the results of its DICOM files and pictures, in the order of their paths, each with its
      ``"file"``;
    - an exam, as ``{"LCC": image, "LMLO": image, "RCC": image, "RMLO": image}``: ``{"views": {...}, "breasts":
      {"left": [...], "right": [...]}, "exam": [...]}``, each a list as for one image. Of a list of images of one view
      the one counts that `mammo_hf.data.precedence.precedence` puts first; the results of the rest are in ``"others"``.
      A head over features scores breasts and exam itself, any other model by a rule that combines the views. The
      scores of an exam that lacks one of the four standard views have the note ``views_missing``;
    - a folder or a list of paths with ``exams=True``: a list of the results of its exams, which the headers tell, each
      with its ``"files"``.

    Args of a call, in addition to transformers' own (``batch_size``, ``num_workers``):
        explainer: Name of an explainer; a label of each task then has an ``"explanation"``: of two labels the positive
            one, of more the predicted one, see `mammo_hf.explainers.targets.default_targets`. The views of an exam are
            explained for the same label.
        target: A label, or several, to explain instead, such as "pathology:malignant".
        operating_point: Rule below whose threshold the map of a positive label is not drawn: "specificity_95",
            "specificity_90", "sensitivity_90", or "none" to draw every map.
        tasks: Names of the tasks to report; all by default.
        top_k: Number of labels to report per task; all by default.
        tta: Whether to use test-time augmentation: scores of the mean logits over five rotated and scaled views.
        aggregate: Rule that combines views, if the model scores images alone: "mean", "max" or "noisy_or".
        exams: Whether the files of one StudyInstanceUID are read as an exam.

    A head over features takes two more arguments when the pipeline is made: ``encoder``, its encoder if that is no
    longer where the head says, and ``trust_encoder_code``, whether code of the encoder's own repository may be run.

    Raises:
        UsageError: An argument that makes no sense, or a model without the processor that it was trained with.
        MammoError: A file that cannot be read. ``mammo-hf predict`` lists those and continues.
    """

    _load_processor = False
    _load_image_processor = True
    _load_feature_extractor = False
    _load_tokenizer = False
    _load_video_processor = False  # unset, transformers would ask whether to run the code in the repository

    def __init__(
        self,
        *args: Any,
        isolate: bool = False,
        encoder: str | os.PathLike[str] | None = None,
        trust_encoder_code: bool = False,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        if isolate:
            isolate_process()
        if not isinstance(self.image_processor, MammoImageProcessor):
            found = type(self.image_processor).__name__
            raise UsageError(
                f"its image processor is a {found}, which does not read mammograms",
                source="the model",
                remedy="give image_processor=MammoImageProcessor(...), as it was in training",
            )
        made_by = " ".join(getattr(self.model.config, "architectures", None) or ())
        if "ForMaskedImageModeling" in made_by and getattr(self.model.config, "tasks", None) is None:
            raise UsageError(
                NO_CLASSIFIER,
                source=self.model.name_or_path or "the model",
                remedy="train one first with finetune",
            )
        if type(self.model) is SwinForImageClassification:
            self.model = _own_classifier(self.model)
        # a model that `load_classifier` gave has them already
        if isinstance(self.model, MammoSwinForImageClassification) and not hasattr(self.model, "training_statistics"):
            commit = getattr(self.model.config, "_commit_hash", None)
            self.model.training_statistics = read_statistics(self.model.name_or_path, commit)
            if os.path.isdir(self.model.name_or_path):
                name = self.model.name_or_path
                self.model.own_figures, self.model.map_tests = own_figures(name), map_tests(name)
        if isinstance(self.model, MammoBagForClassification):
            name, commit = self.model.name_or_path, getattr(self.model.config, "_commit_hash", None)
            folder = locate(name if commit is None or os.path.isdir(name) else f"{name}@{commit}")
            encoded: dict[str, Any] = {"encoder": encoder, "trust_remote_code": trust_encoder_code}
            self.model = load_bag_classifier(folder, head=self.model, **encoded)
            self.model.own_figures, self.model.map_tests = own_figures(folder), map_tests(folder)
            self.model.training_statistics = read_statistics(folder)
        if hasattr(self.model.config, "image_size"):
            check_processor(self.image_processor, self.model.config, self.model.name_or_path or "the model")

    def save_pretrained(self, save_directory: str | os.PathLike[str], **kwargs: Any) -> None:
        """Save the model and its processor, from which ``pipeline("mammogram-classification", ...)`` is made again.

        transformers would also copy the code of the pipeline, without the modules that it needs.

        Args:
            save_directory: Folder to save to.
            kwargs: Arguments of the model's ``save_pretrained``.
        """
        (self.model.head if isinstance(self.model, BagClassifier) else self.model).save_pretrained(
            save_directory, **kwargs
        )
        statistics: Any = getattr(self.model, "training_statistics", None)
        if statistics is not None:
            statistics.save(save_directory)
        self.image_processor.save_pretrained(save_directory)

    def _sanitize_parameters(
        self,
        explainer: str | None = None,
        target: Targets = None,
        tasks: str | Sequence[str] | None = None,
        top_k: int | None = None,
        tta: bool | None = None,
        with_bags: bool | None = None,
        operating_point: str | None = None,
        **kwargs: Any,
    ) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
        if kwargs:
            raise TypeError(f"unknown arguments: {', '.join(sorted(kwargs))}")
        if target is not None and explainer is None and "explainer" not in self._forward_params:
            raise UsageError("needs an explainer", source="target", remedy="give explainer= too")
        if target is not None:
            for one in [target] if isinstance(target, str) else target:
                resolve(one, 1, self.model.config)
        if top_k is not None and top_k < 1:
            raise UsageError(f"is {top_k}", source="top_k", remedy="it must be 1 or more, or None for all")
        if tta and isinstance(getattr(self, "model", None), BagClassifier):
            raise UsageError("is for a Swin, and this is a head over features", source="tta", remedy="leave it out")
        chosen = None if tasks is None else self._checked_tasks([tasks] if isinstance(tasks, str) else list(tasks))
        if operating_point is not None:
            check_choice("operating_point", operating_point, OPERATING_POINTS)
        forward = {"explainer": explainer, "target": target, "tasks": chosen, "tta": tta}
        forward |= {"operating_point": operating_point}
        after = {"tasks": chosen, "top_k": top_k, "with_bags": with_bags}
        given = [{name: value for name, value in part.items() if value is not None} for part in (forward, after)]
        return {}, given[0], given[1]

    def __call__(self, inputs: Any, *, aggregate: str = "mean", exams: bool = False, **kwargs: Any) -> Any:
        """Score the given images; see the class."""
        if _is_exam(inputs):
            return self._read_exam(views_of(inputs), aggregate, **kwargs)
        if exams:
            return [
                {"files": [str(view.image) for view in exam]} | self._read_exam(exam, aggregate, **kwargs)
                for exam in _exams_of(inputs)
            ]
        if isinstance(inputs, (str, os.PathLike)) and os.path.isdir(inputs):
            files = files_below(inputs)
            read = self([os.path.join(inputs, file) for file in files], **kwargs)
            return [[{"file": file, **one} for one in results] for file, results in zip(files, read, strict=True)]
        if isinstance(inputs, Sequence) and not isinstance(inputs, (str, bytes, list)):
            inputs = list(inputs)  # a tuple, or a column of a data set
        if isinstance(inputs, list) and any(map(_is_exam, inputs)):
            return [self(one, aggregate=aggregate, **kwargs) for one in inputs]
        if isinstance(inputs, Iterator):
            return self._read_stream(inputs, aggregate, **kwargs)
        return [] if isinstance(inputs, list) and not inputs else super().__call__(inputs, **kwargs)

    def _read_stream(self, inputs: Iterator[Any], aggregate: str, **kwargs: Any) -> Iterator[Any]:
        """Yield results of images in batches, or of exams one by one, as the first one decides."""
        for first in inputs:
            if _is_exam(first):
                for exam in chain([first], inputs):
                    yield self(exam, aggregate=aggregate, **kwargs)
            else:
                # transformers streams generators, and no other iterators
                yield from super().__call__((one for one in chain([first], inputs)), **kwargs)

    def _read_exam(self, exam: list[ExamView], aggregate: str, **kwargs: Any) -> dict[str, Any]:
        views = self._counted(exam)
        top_k = kwargs.pop("top_k", None)
        asked = {**self._forward_params, **kwargs}
        if asked.get("explainer") is not None and asked.get("target") is None:
            kwargs["target"] = self._target_of(views, aggregate, asked.get("tasks"))
        found = super().__call__(views, with_bags=True, **kwargs)
        each, bags = [results for results, _ in found], [bag for _, bag in found]
        labels = labels_by_task(self.model.config)
        scores = {name: np.zeros((len(views), len(of_task))) for name, of_task in labels.items()}
        for row, results in enumerate(each):
            for one in results:
                scores[one["task"]][row, labels[one["task"]].index(one["label"])] = one["score"]
        wanted = {one["task"] for one in each[0]}
        counted = [row for row, view in enumerate(views) if view.note is None]
        lateralities = [views[row].laterality for row in counted]
        of_views = {name: table[counted] for name, table in scores.items() if name in wanted}
        if isinstance(self.model, BagClassifier):
            of_head = units_of_head(self.model, lateralities, [bags[row] for row in counted])
            units = {unit: {name: scores[name] for name in of_views} for unit, scores in of_head.items()}
        else:
            units = into_exam(lateralities, of_views, aggregate)
        ranked = {unit: self._ranked(of_unit, top_k) for unit, of_unit in units.items()}
        missing = codes(missing_views((views[row].laterality.value, views[row].view.value) for row in counted))
        others: dict[str, list[Any]] = {}
        for view, results in zip(views, each, strict=True):
            if view.note is not None:
                others.setdefault(view.key, []).append(_cut(results, top_k))
        return {
            "views": {views[row].key: _cut(each[row], top_k) for row in counted},
            "exam": _with_notes(ranked.pop("exam"), missing),
            "breasts": ranked,
        } | ({"others": others} if others else {})

    def _target_of(self, views: list[ExamView], aggregate: str, tasks: Sequence[str] | None) -> list[int]:
        """Return the labels that are explained on all views of an exam; views are scored only if it takes that."""
        config = self.model.config
        names = list(task_slices(config)) if tasks is None else [tasks] if isinstance(tasks, str) else list(tasks)
        scores: dict[str, np.ndarray] = {}
        if any(fixed_target(config, name) is None for name in self._checked_tasks(names)):
            read = self._read_exam(views, aggregate, explainer=None)["exam"]
            labels = labels_by_task(config)
            of_label = {(one["task"], one["label"]): one["score"] for one in read}
            scores = {name: np.array([of_label[name, label] for label in labels[name]]) for name in names}
        return targets_of_exam(config, scores, names)

    def _counted(self, views: list[ExamView]) -> list[ExamView]:
        """Return the views with a note on each image that does not count, because another one of its view does."""
        several = {key for key, count in Counter(view.key for view in views).items() if count > 1}
        opened = [
            view._replace(image=self.image_processor.open(view.image)) if view.key in several else view
            for view in views
        ]
        ranked = (
            (index, view.key, precedence(view.image.mammogram) if view.key in several else NO_HEADER)
            for index, view in enumerate(opened)
        )
        notes = not_counting(ranked)
        return [view._replace(note=notes.get(index)) for index, view in enumerate(opened)]

    def preprocess(self, inputs: Any) -> dict[str, Any]:
        """Turn one image into model input and its geometry."""
        named = inputs if isinstance(inputs, ExamView) else None
        source = self.image_processor.open(inputs if named is None else named.image)
        if named is not None:
            check_header(named, source.mammogram)
            source.notes += () if named.note is None else (named.note,)
        if isinstance(self.model, BagClassifier):
            facts = source.laterality, source.projection
            if named is not None:
                facts = named.laterality.value, named.view.value
            views = drawn(Picture.of_image(source, self.image_processor), self.model.views, self.model.encoder.tile)
            return {"views": [views], "facts": [facts], "notes": [views.notes]}
        return dict(self.image_processor(source, return_tensors="pt", return_geometry=True, return_notes=True))

    def _forward(
        self,
        model_inputs: dict[str, Any],
        explainer: str | None = None,
        target: Targets = None,
        tasks: list[str] | None = None,
        tta: bool = False,
        operating_point: str = OPERATING_POINT,
    ) -> dict[str, Any]:
        if isinstance(self.model, BagClassifier):
            wanted: dict[str, Any] = {"target": target, "tasks": tasks, "operating_point": operating_point}
            return self._forward_bags(model_inputs, explainer, **wanted)
        geometry = [one[0] if isinstance(one, list) else one for one in model_inputs["geometry"]]
        logits, explanations, more = score_and_explain(
            self.model,
            self.image_processor,
            model_inputs["pixel_values"],
            explainer=explainer,
            tasks=tasks,
            target=target,
            tta=tta,
            geometry=geometry,
            operating_point=operating_point,
        )
        read = [one[0] if isinstance(one, list) else one for one in model_inputs["notes"]]
        notes = [codes([*one, *own]) for one, own in zip(read, more, strict=True)]
        return {"logits": logits, "explanations": explanations, "notes": notes}

    def _forward_bags(
        self,
        model_inputs: dict[str, Any],
        explainer: str | None,
        **wanted: Any,
    ) -> dict[str, Any]:
        given = {name: [one[0] if isinstance(one, list) else one for one in of] for name, of in model_inputs.items()}
        views = [Drawn(*one) for one in given["views"]]  # transformers makes a plain tuple of it
        model: Any = self.model
        bags = [model.bag(one, *facts)[1] for one, facts in zip(views, given["facts"], strict=True)]
        explained: list[dict[int, Explanation]] = [{} for _ in views]
        each, own = zip(*(bag_logits_and_notes(model, bag) for bag in bags), strict=True)
        logits = torch.from_numpy(np.stack(each))
        notes = [[*read, *codes(more)] for read, more in zip(given["notes"], own, strict=True)]
        if explainer is not None:
            found = [explain_bag(model, one, explainer, **wanted) for one in views]
            explained = [as_reported(*one, model.config) for one in zip(found, logits, strict=True)]
        return {"logits": logits, "explanations": explained, "notes": notes, "bags": bags}

    def postprocess(
        self,
        model_outputs: dict[str, Any],
        tasks: list[str] | None = None,
        top_k: int | None = None,
        with_bags: bool = False,
    ) -> Any:
        """Turn the logits of one image into the list of scores; with its bag, if there is any, if asked for."""
        logits = model_outputs["logits"].double().numpy()
        scores = calibrated_scores(self.model.config, logits)
        explanations = model_outputs["explanations"]
        # of a batch each image's own has been taken out already
        found: dict[int, Explanation] = explanations[0] if isinstance(explanations, list) else explanations
        results = self._ranked(
            {name: table[0] for name, table in scores.items() if tasks is None or name in tasks}, top_k, found
        )
        (named,) = model_outputs["notes"][:1] if _is_nested(model_outputs["notes"]) else [model_outputs["notes"]]
        results = _with_notes(results, named)
        if not with_bags:
            return results
        bags = model_outputs.get("bags")
        return results, bags[0] if isinstance(bags, list) else bags

    def _ranked(
        self, scores: dict[str, np.ndarray], top_k: int | None, explanations: Mapping[int, Explanation] | None = None
    ) -> list[Result]:
        """Return each task's labels by falling score; an explained one is always included."""
        results = []
        slices, explained = task_slices(self.model.config), explanations or {}
        for name, of_task in scores.items():
            for rank, index in enumerate((-of_task).argsort(kind="stable").tolist()):
                at = slices[name].start + index
                if top_k is not None and rank >= top_k and at not in explained:
                    continue
                result = {"task": name, "label": label_of(self.model.config, at), "score": float(of_task[index])}
                results.append(result | ({"explanation": explained[at]} if at in explained else {}))
        return results

    def _checked_tasks(self, tasks: list[str]) -> list[str]:
        known = list(task_slices(self.model.config))
        unknown = [task for task in tasks if task not in known]
        if unknown or not tasks:
            problem = f"{unknown[0]!r} is not a task of this model" if unknown else "names no task"
            raise UsageError(problem, source="tasks", remedy=f"use {', '.join(known)}")
        return tasks


def _with_notes(results: list[Result], notes: Sequence[str]) -> list[Result]:
    return [one | {"notes": list(notes)} for one in results] if notes else results


def _is_exam(inputs: Any) -> bool:
    return isinstance(inputs, Mapping) and not isinstance(inputs, Mammogram) and not is_undecoded(inputs)


def _is_nested(notes: Sequence[Any]) -> bool:
    return bool(notes) and not isinstance(notes[0], str)


def _exams_of(source: Source) -> list[list[ExamView]]:
    """Return the views of the exams in a folder or a list of files, each under the name that its header gives."""
    exams = []
    for files in exams_of(files_to_read(source)):
        names = [
            file if Laterality.UNKNOWN is laterality or View.UNKNOWN is view else f"{laterality.value}{view.value}"
            for file, laterality, view in files
        ]
        exams.append([ExamView(name, *of_file) for name, of_file in zip(names, files, strict=True)])
    return exams


class _Classifier:
    """Loader that ``pipeline`` calls, of a Swin or a head over features, as the configuration says."""

    @classmethod
    def from_pretrained(cls, name: str, **kwargs: Any) -> Any:
        # transformers reads the processor after the model, and does not say which of its files is damaged
        check_json_object(Path(name, kwargs.get("subfolder") or "", PROCESSOR))
        config, _ = PreTrainedConfig.get_config_dict(name, **kwargs)
        kind = MammoBagForClassification if config.get("model_type") == BAG else MammoSwinForImageClassification
        return load_model(kind, name, **kwargs)


def _own_classifier(stock: SwinForImageClassification) -> MammoSwinForImageClassification:
    """Return our classifier with the weights and the configuration of a stock one.

    Raises:
        UsageError: Its scores need the lesion head, which stock Swin does not load.
    """
    config = MammoSwinConfig.from_dict(stock.config.to_dict())
    if config.score_from != "pooled":
        raise UsageError(
            "its scores need the lesion head, which stock Swin does not load",
            source=stock.name_or_path or "the model",
            remedy="load it with MammoSwinForImageClassification.from_pretrained",
        )
    config.lesion_task = None
    own = MammoSwinForImageClassification(config).to(stock.device, stock.dtype)
    own.load_state_dict(stock.state_dict())
    return own.train(stock.training)


def _cut(results: list[Result], top_k: int | None) -> list[Result]:
    """Keep the first labels of each task, and those that are explained."""
    seen: dict[str, int] = {}
    kept = []
    for one in results:
        seen[one["task"]] = seen.get(one["task"], 0) + 1
        if top_k is None or seen[one["task"]] <= top_k or "explanation" in one:
            kept.append(one)
    return kept


PIPELINE_REGISTRY.register_pipeline(
    TASK, pipeline_class=MammogramClassificationPipeline, pt_model=(_Classifier,), type="image"
)
