"""Card of a model, made from the files of its folder; a section without facts says "not measured"."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from huggingface_hub import EvalResult, EvalResultEntry, ModelCard, ModelCardData, eval_result_entries_to_yaml

from ..data.terms import Terms, read_terms
from ..encoders.configuration_mammo_bag import public_record
from ..errors import DataError, MammoError, UsageError, check_hub_name, install
from ..evaluation.classifier import FACTS, published, shown_count, without_few
from ..evaluation.report import METRIC_NAMES, PRIVATE_COLLECTION, metrics_table
from ..evaluation.report.facts import sentences
from ..evaluation.scored import HEAD
from ..evaluation.study_tables import explanation_table, markdown_table, remarks
from ..files import write_whole
from ..models.checkpoint import (
    BAG,
    CARD,
    METRICS,
    PICTURES,
    PROCESSOR,
    Checkpoint,
    read_checkpoint,
    read_json,
    write_metrics,
)

REPOSITORY = "your-name/your-model"  # name of the repository in a card, until a push fills it in
DATASET = "your-name/your-data"  # the same, in a data set's card
# where the encoder of a head over features is, until a push has it too
ENCODER_ELSEWHERE, ENCODER_HERE = "which is not part of it", "which is in the folder `encoder`"

# Only curves: nothing that shows an image of a patient is pushed.
DRAWN = {
    "roc.png": "ROC curve on the test images",
    "classifier_loss.png": "loss of the classifier's training",
    "classifier_metrics.png": "metrics on validation images, epoch by epoch",
    "mim_loss.png": "loss of the masked image modelling",
    "label_efficiency.png": "AUC by the percentage of the labels",
    "explanations.png": "explainers next to their baselines",
}
_COLUMNS = {
    ("by image", ""): "by image",
    ("by breast", "mean"): "by breast",
    ("by breast", HEAD): "by breast",
    ("by exam", HEAD): "by exam",
    ("by patient", "mean"): "by patient",
}


def write_card(
    folder: str | os.PathLike[str],
    *,
    plots: str | os.PathLike[str] | None = None,
    license: str | None = None,
    base_model: str | None = None,
    results_dataset: str | None = None,
    label_efficiency: str | os.PathLike[str] | None = None,
    explanations: str | os.PathLike[str] | None = None,
) -> Path:
    """Write ``README.md`` into a checkpoint's folder, and the card's pictures next to it.

    What is given here is recorded in the folder's ``metrics.json``; what is not given is as recorded before.

    Args:
        folder: Folder that training wrote: configuration, weights, ``metrics.json``.
        plots: Folder of the curves to show; ``None``: the pictures of an earlier card stay.
        license: Licence of the model, an identifier of the Hub.
        base_model: Repository of the model that training started from, with an optional ``@revision``.
        results_dataset: Data set on the Hub, OWNER/NAME, that the results are of; a data set that was loaded from the
            Hub need not be named.
        label_efficiency: ``summary.json`` of a label-efficiency study.
        explanations: ``metrics.json`` of a study of explanations.

    Returns:
        Path of the card.

    Raises:
        UsageError: There is no model in the folder, a study's file has no figures, ``plots`` is not a folder, or
            ``results_dataset`` not a name on the Hub.
        DataError: One of the files is damaged.
    """
    checkpoint = read_checkpoint(folder)
    if plots is not None and not Path(plots).is_dir():
        raise UsageError("is not a folder", source=plots, remedy="give the folder of the plots")
    check_hub_name("results_dataset", results_dataset)
    about = {"license": license, "base_model": base_model, "results_dataset": results_dataset}
    given = {key: value for key, value in about.items() if value}
    found = {"card": {**(checkpoint.metrics.get("card") or {}), **given}} if given else {}
    if label_efficiency is not None:
        found["label_efficiency"] = _study(label_efficiency, "rows", "label-efficiency")
    if explanations is not None:
        found["explanations"] = _study(explanations, "explanations", "evaluate-explanations")
    for key, part in found.items():
        write_metrics(checkpoint.folder, key, part)
    checkpoint.metrics.update(found)
    if plots is not None:
        _take_pictures(Path(plots), checkpoint.folder / PICTURES)
    path = checkpoint.folder / CARD
    try:
        text = str(model_card(checkpoint))
    except MammoError:
        raise
    except Exception as error:  # from any value in the records of a damaged or foreign folder
        problem = f"its {METRICS} or {PROCESSOR} holds what no card can be made of ({type(error).__name__})"
        raise DataError(problem, source=checkpoint.folder, remedy="copy the whole folder again") from error
    write_whole(path, text)
    return path


def _study(path: str | os.PathLike[str], part: str, command: str) -> Any:
    found = read_json(Path(path)).get(part)
    if not found:
        raise UsageError(f"has no {part!r}", source=path, remedy=f"give the file that mammo-hf {command} wrote")
    return found


def model_card(checkpoint: Checkpoint) -> ModelCard:
    """Return the card of a checkpoint.

    Raises:
        UsageError: The folder holds no weights.
    """
    metadata = card_data(checkpoint).to_yaml()
    content = templates().get_template("model_card.md.j2").render(**_facts(checkpoint), repository=REPOSITORY)
    return ModelCard(f"---\n{metadata}\n---\n\n{content.strip()}\n")


def export_card(exported: Mapping[str, Any], processor: Mapping[str, Any], terms: Sequence[Terms]) -> str:
    """Return the card of an exported classifier: what it scores, preprocessing, terms, and how to load it.

    Args:
        exported: Content of ``tasks.json`` as ``tasks``, that of ``int8.json`` as ``int8`` or ``None``, and
            ``openvino``, whether it is in OpenVINO's format and not in ONNX.
        processor: Content of ``preprocessor_config.json``.
        terms: Terms of all that it was trained on.
    """
    tags = ["mammography", "medical-imaging", "openvino" if exported["openvino"] else "onnx", "mammo_hf"]
    metadata = ModelCardData(license="unknown", library_name="mammo_hf", tags=tags).to_yaml()
    facts = {"terms": terms, "steps": sentences("preprocessing", processor), "repository": REPOSITORY, **exported}
    content = templates().get_template("export_card.md.j2").render(facts)
    return f"---\n{metadata}\n---\n\n{content.strip()}\n"


def templates() -> jinja2.Environment:
    """Return the templates of the cards, in which every name goes through the filter ``name``."""
    found = jinja2.Environment(
        loader=jinja2.PackageLoader("mammo_hf.hub", ""),
        autoescape=False,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    found.filters |= {"name": escaped, "figure": _figure, "count": shown_count, "without_few": without_few}
    found.globals["install"] = install
    found.globals["say"] = lambda macro, facts: " ".join(sentences(macro, facts))
    return found


def escaped(text: object) -> str:
    """Escape a name for Markdown, so that it is neither mark-up nor a table cell of its own."""
    return "".join(f"\\{c}" if c in r"\`*_{}[]<>|#~" else c for c in plain(text))


def _facts(checkpoint: Checkpoint) -> dict[str, Any]:
    figures, metrics = checkpoint.figures, checkpoint.metrics
    test = {name: part for name, part in (figures.get("test") or {}).items() if isinstance(part, Mapping)}
    efficiency = metrics.get("label_efficiency") or []
    explanations, record = metrics.get("explanations"), checkpoint.config.get("encoder_record") or {}
    return {
        "stage": checkpoint.stage,
        "bag": checkpoint.config.get("model_type") == BAG,
        "encoder_elsewhere": ENCODER_ELSEWHERE,
        "record": {"name": "not known", "revision": None, "licence": None} | public_record(record),
        "config": checkpoint.config,
        "tasks": checkpoint.config.get("tasks") or [],
        "parameters": checkpoint.parameters(),
        "collection": figures.get("collection") or {},
        "terms": read_terms(checkpoint.folder) or (),
        "figures": figures,
        "baselines": figures.get("baselines") or {},
        "levels": {task["name"]: task.get("level", "image") for task in checkpoint.config.get("tasks") or []},
        "run": figures.get("run") or {},
        "base_model": (metrics.get("card") or {}).get("base_model"),
        "processor": checkpoint.processor,
        "steps": sentences("preprocessing", checkpoint.processor),
        "results": {name: _results(part) for name, part in test.items()},
        "subgroups": {name: _subgroups(part) for name, part in test.items()},
        "within": {name: _within(part) for name, part in test.items()},
        "calibrations": {name: _calibration(part) for name, part in test.items()},
        "efficiency": markdown_table(efficiency) if efficiency else "",
        "efficiency_remarks": remarks(efficiency, []) if efficiency else [],
        "explanations": explanations,
        "explanation_table": explanation_table(explanations) if explanations else "",
        "pictures": _pictures(checkpoint.folder),
    }


def _results(figures: Mapping[str, Any]) -> dict[str, Any]:
    table = metrics_table(figures)
    # a head's own score of a unit takes the place of the mean of its images
    shown = {_COLUMNS[column]: column for column in _COLUMNS if column in table["columns"]}
    places = [table["columns"].index(column) for column in shown.values()]
    return {
        "columns": list(shown),
        "rows": [(name, [cells[place] for place in places]) for name, cells in table["rows"]],
        "n_images": figures["n_images"],
        "n_patients": figures["n_patients"],
        "counts": figures["class_counts"],
    }


def _subgroups(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for fact, of_fact in published({"subgroups": figures.get("subgroups") or {}})["subgroups"].items():
        for value, cell in of_fact["cells"].items():
            shown = (cell.get("auroc"), cell.get("auroc_interval"))
            rows.append({"of": FACTS[fact], "value": value, "auroc": shown, **_counted(cell)})
    return rows


def _within(figures: Mapping[str, Any]) -> list[dict[str, Any]]:
    rows = []
    for kind, part in (figures.get("within") or {}).items():
        if part["auroc"] is None:
            continue
        row = {"kind": kind, "n_pairs": part["n_pairs"], "auroc": (part["auroc"], part.get("auroc_interval"))}
        for worst, cell in list((part.get("by_stratum") or {}).items())[:1]:
            row |= {"worst": worst, "worst_auroc": (cell["auroc"], cell["auroc_interval"])}
        rows.append(row)
    return rows


def _counted(cell: Mapping[str, Any]) -> dict[str, int | None]:
    return {"n_images": cell["n_images"], "n_patients": cell["n_patients"]}


def _calibration(figures: Mapping[str, Any]) -> dict[str, Any]:
    before = figures.get("uncalibrated") or {}
    return {
        "fit": figures.get("calibration"),
        "reason": figures.get("calibration_reason"),
        "values": [
            (METRIC_NAMES[metric], before.get(metric), (figures.get(metric), figures.get(f"{metric}_interval")))
            for metric in ("brier", "ece")
        ],
    }


def _figure(value: float | Sequence[Any] | None) -> str:
    """Format a number, or a pair of a number and its interval."""
    number, interval = value if isinstance(value, (tuple, list)) else (value, None)
    if number is None:
        return "not defined"
    return f"{number:.3f}" + ("" if interval is None else f" ({interval[0]:.3f} to {interval[1]:.3f})")


def _take_pictures(plots: Path, target: Path) -> None:
    found = [plots / name for name in DRAWN if (plots / name).is_file()]
    if found:
        target.mkdir(exist_ok=True)
    for picture in found:
        shutil.copyfile(picture, target / picture.name)


def _pictures(folder: Path) -> dict[str, str]:
    return {f"{PICTURES}/{name}": text for name, text in DRAWN.items() if (folder / PICTURES / name).is_file()}


# Metadata of a card, which the Hub indexes, filters by and shows next to the text.

# Our metrics under the names of the Hub's own.
_HUB_METRICS = {"auroc": "roc_auc", "brier": "brier_score"}
_INDEXED = ("auroc", "auprc", "sensitivity_at_90_specificity", "brier", "ece", "balanced_accuracy")
_UNITS = ("breast", "exam", "patient")


def card_data(checkpoint: Checkpoint) -> ModelCardData:
    """Return the metadata of a checkpoint's card.

    The licence is "unknown" until one is given, and a data set is named only if it is public.

    There is no ``pipeline_tag``, and the library is ours: for transformers' tasks with images the Hub suggests their
    pipelines, which open a picture with 8 bits per channel, so that one of 16 bits is white, and put one softmax over
    the labels of all tasks. Without a tag it suggests nothing, and the code in the card counts.
    """
    about = checkpoint.metrics.get("card") or {}
    name = (checkpoint.figures.get("collection") or {}).get("name")
    dataset, _ = _results_dataset(checkpoint)
    results, record = eval_results(checkpoint), checkpoint.config.get("encoder_record") or {}
    base = about.get("base_model") or (record.get("name") if record.get("kind") == "hub" else None)
    return ModelCardData(
        license=about.get("license") or "unknown",
        library_name="mammo_hf",
        tags=["mammography", "medical-imaging", str(checkpoint.config.get("model_type")), "mammo_hf"],
        base_model=(base or "").partition("@")[0] or None,  # the Hub takes no revision there
        datasets=[dataset or _identifier(str(name))] if dataset or name else None,
        metrics=sorted({result.metric_type for result in results}) or None,
        model_name=REPOSITORY if results else None,
        eval_results=results or None,
    )


def eval_results(checkpoint: Checkpoint) -> list[EvalResult]:
    """Return the test split's figures by image, by breast and by patient, each with its interval as text."""
    name = (checkpoint.figures.get("collection") or {}).get("name")
    dataset, revision = _results_dataset(checkpoint)
    return [
        EvalResult(
            task_type="image-classification",
            task_name=plain(task),
            dataset_type=dataset or _identifier(name or "private"),
            dataset_name=plain(name or dataset or PRIVATE_COLLECTION),
            dataset_config=plain(task),  # without it the Hub's index would put all tasks under one
            dataset_split="test",
            dataset_revision=revision,
            metric_type=_HUB_METRICS.get(metric, metric),
            metric_name=f"{METRIC_NAMES[metric]} of {plain(task)} by {unit}, {_interval(part, metric)}",
            metric_value=_value(part, metric),
        )
        for task, unit, metric, part in _indexed(checkpoint)
    ]


def eval_result_files(checkpoint: Checkpoint, dataset: str | None = None) -> dict[str, bytes]:
    """Return ``.eval_results/NAME.yaml``, from which the Hub lists results at the model and at the data set.

    It has the figures of `eval_results`, each with a ``task_id`` of its own, as ``pathology_roc_auc_by_image``.

    Args:
        checkpoint: Checkpoint with its figures.
        dataset: Data set on the Hub that they are of; ``None``: the one that was recorded or loaded from the Hub.

    Returns:
        Content by name; empty if no data set is known, without which the Hub takes no entry, or without a test split.

    Raises:
        UsageError: ``dataset`` is not a name on the Hub.
    """
    check_hub_name("results_dataset", dataset)
    name, revision = (dataset, None) if dataset else _results_dataset(checkpoint)
    if name is None:
        return {}
    entries = [
        EvalResultEntry(
            dataset_id=name,
            task_id=f"{_identifier(task)}_{_HUB_METRICS.get(metric, metric)}_by_{unit}",
            value=_value(part, metric),
            dataset_revision=revision,
            notes=f"{METRIC_NAMES[metric]} of {plain(task)} by {unit}, test split, {_interval(part, metric)}",
        )
        for task, unit, metric, part in _indexed(checkpoint)
    ]
    text = yaml.safe_dump(eval_result_entries_to_yaml(entries), sort_keys=False, allow_unicode=True, width=1000)
    return {f".eval_results/{name.rpartition('/')[2]}.yaml": text.encode()} if entries else {}


def _results_dataset(checkpoint: Checkpoint) -> tuple[str | None, str | None]:
    """Return the data set on the Hub that results are of, and its commit: the one named, or the one loaded from it."""
    named = (checkpoint.metrics.get("card") or {}).get("results_dataset")
    collection = checkpoint.figures.get("collection") or {}
    loaded = collection.get("repository"), collection.get("revision")
    return (named, None) if named and named != loaded[0] else loaded


def _indexed(checkpoint: Checkpoint) -> Iterator[tuple[str, str, str, Mapping[str, Any]]]:
    """Yield task, unit, metric and the figures of the unit, of each figure that the Hub gets."""
    for task, figures in _of_test(checkpoint).items():
        parts = {"image": figures}
        units = {unit: figures["units"][unit] for unit in _UNITS if unit in figures.get("units", {})}
        parts |= {unit: of_unit.get(HEAD, of_unit["mean"]) for unit, of_unit in units.items()}
        for unit, part in parts.items():
            yield from ((task, unit, metric, part) for metric in _INDEXED if part.get(metric) is not None)


def _value(part: Mapping[str, Any], metric: str) -> float:
    return round(float(part[metric]), 4)


def _of_test(checkpoint: Checkpoint) -> dict[str, Mapping[str, Any]]:
    found = checkpoint.figures.get("test") or {}
    return {task: figures for task, figures in found.items() if isinstance(figures, Mapping)}


def _interval(part: Mapping[str, Any], metric: str) -> str:
    interval = part.get(f"{metric}_interval")
    if interval is None:
        return "no interval"
    return f"95 % interval by patient {interval[0]:.3f} to {interval[1]:.3f}"


def plain(text: object) -> str:
    """Return a name on one line, without control characters."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def _identifier(name: str) -> str:
    """Return a name as an identifier of the Hub: letters, digits, ``-``, ``_`` and ``.``."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or "collection"
