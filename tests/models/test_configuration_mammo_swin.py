import pytest
from transformers import AutoConfig, SwinConfig

from mammo_hf.errors import DataError, UsageError
from mammo_hf.models.configuration_mammo_swin import SIZES, MammoSwinConfig

TASKS = [{"name": "pathology", "labels": ["malignant", "benign"]}, {"name": "density", "labels": ["d", "a", "c"]}]


def test_order_of_tasks_and_labels_survives_json(tmp_path):
    MammoSwinConfig(tasks=TASKS, lesion_task="pathology").save_pretrained(tmp_path)
    config = MammoSwinConfig.from_pretrained(tmp_path)
    assert config.tasks == TASKS
    assert config.id2label == {
        0: "pathology:malignant", 1: "pathology:benign", 2: "density:d", 3: "density:a", 4: "density:c"
    }  # fmt: skip
    assert config.task_slices == {"pathology": slice(0, 2), "density": slice(2, 5)}


def test_a_dict_of_tasks_becomes_a_list():
    assert MammoSwinConfig(tasks={"z": ["q", "p"], "a": ["1", "0"]}).tasks == [
        {"name": "z", "labels": ["q", "p"]},
        {"name": "a", "labels": ["1", "0"]},
    ]


def test_id2label_that_contradicts_the_tasks_raises(tmp_path):
    config = MammoSwinConfig(tasks=TASKS)
    config.save_pretrained(tmp_path)
    text = (tmp_path / "config.json").read_text().replace("pathology:malignant", "pathology:x")
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(DataError, match="contradicts"):
        MammoSwinConfig.from_pretrained(tmp_path)


def test_stock_auto_config_reads_it_as_swin(tmp_path):
    MammoSwinConfig(tasks=TASKS, image_size=(448, 224)).save_pretrained(tmp_path)
    config = AutoConfig.from_pretrained(tmp_path)
    assert type(config) is SwinConfig
    assert list(config.image_size) == [448, 224]
    assert config.num_labels == 5


@pytest.mark.parametrize(
    "wrong",
    [
        {"tasks": []},
        {"tasks": [{"name": "a", "labels": ["x"]}]},
        {"tasks": [{"name": "a", "labels": ["x", "x"]}]},
        {"tasks": TASKS + TASKS[:1]},
        {"tasks": TASKS, "class_weights": {"pathology": [1.0]}},
        {"tasks": TASKS, "class_weights": {"nothing": [1.0, 1.0]}},
        {"tasks": TASKS, "lesion_task": "nothing"},
    ],
)
def test_wrong_tasks_are_refused(wrong):
    with pytest.raises(UsageError):
        MammoSwinConfig(**wrong)


@pytest.mark.parametrize("size", ["tiny", "small", "base", "large"])
def test_default_sizes_fit_every_stage_without_padding(size):
    config = MammoSwinConfig(**SIZES[size])
    for height, width in [(896, 448), (448, 224), (224, 224)]:
        config.check_image_size(height, width)
        assert all(side % 7 == 0 for grid in config.stage_grids(height, width) for side in grid)


def test_a_size_that_fits_no_window_names_the_nearest():
    four = MammoSwinConfig(image_size=(448, 224))
    with pytest.raises(UsageError, match="224 x 224"):
        four.check_image_size(224, 112)
    with pytest.raises(UsageError, match="448 x 224"):
        four.check_image_size(450, 224)
    three = MammoSwinConfig(**SIZES["nano"])
    three.check_image_size(224, 112)
    assert three.encoder_stride == 16
    assert three.stage_grids(224, 112) == [(56, 28), (28, 14), (14, 7)]


TWO_TASKS = [{"name": "pathology", "labels": ["benign", "malignant"]}, {"name": "density", "labels": ["a", "b", "c"]}]


def test_calibration_and_operating_points_come_back(tmp_path):
    calibration = {"pathology": {"method": "platt", "slope": 1.5, "intercept": -0.25, "n_images": 40, "n_patients": 30}}
    points = {"pathology": {"image": {"sensitivity_90": {"threshold": 0.25}}}}
    config = MammoSwinConfig(**SIZES["nano"], tasks=TWO_TASKS, calibration=calibration, operating_points=points)
    config.save_pretrained(tmp_path)
    again = MammoSwinConfig.from_pretrained(tmp_path)
    assert (again.calibration, again.operating_points) == (calibration, points)


@pytest.mark.parametrize(
    "calibration",
    [
        {"tissue": {"method": "temperature", "temperature": 1.0}},
        {"density": {"method": "platt", "slope": 1.0, "intercept": 0.0}},
        {"density": {"method": "temperature", "temperature": 0.0}},
        {"density": {"method": "temperature"}},
        {"density": {"method": "isotonic"}},
        {"pathology": {"method": "platt", "slope": float("nan"), "intercept": 0.0}},
        {"pathology": 1.5},
    ],
)
def test_a_calibration_that_is_none_is_refused(calibration):
    with pytest.raises(UsageError, match="calibration"):
        MammoSwinConfig(**SIZES["nano"], tasks=TWO_TASKS, calibration=calibration)


@pytest.mark.parametrize(
    "field", [{"depths": [2, 1 << 30]}, {"embed_dim": 1 << 40}, {"image_size": 1 << 20}, {"mlp_ratio": 1e9}]
)
def test_sizes_that_no_encoder_has_are_refused_before_anything_is_built(field):
    with pytest.raises(UsageError, match="is above"):
        MammoSwinConfig(**field)
