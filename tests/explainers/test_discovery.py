import sys

import pytest
import torch

from mammo_hf import MammoImageProcessor
from mammo_hf.cli import main
from mammo_hf.errors import UsageError
from mammo_hf.explainers import explain, explainers, find_explainer, is_supervised
from mammo_hf.inference.explain import by_each
from mammo_hf.inference.scoring import score_and_explain
from mammo_hf.plugins import PluginError
from mammo_hf.testing import tiny_classifier

OURS = (
    *("attention", "attention_rollout", "grad_cam", "grad_cam_attention", "hires_cam", "layer_cam", "legrad"),
    *("lesion_head", "occlusion", "bag_attention"),
)
GOOD = "REQUIRES = ()\ndef available(): return True\ndef explain_map(model, pixel_values, target): return 1\n"


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    """Installs a distribution with one module, as pip would leave it."""
    monkeypatch.syspath_prepend(str(tmp_path))

    def install(name, code, package=None):
        package = package or f"a-{name}"
        module = f"plugin_{package}".replace("-", "_")
        (tmp_path / f"{module}.py").write_text(code)
        info = tmp_path / f"{module}-1.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n")
        (info / "entry_points.txt").write_text(f"[mammo_hf.explainers]\n{name} = {module}\n")
        return module

    yield install
    for name in [name for name in sys.modules if name.startswith("plugin_")]:
        del sys.modules[name]


RAISES = "def explain_map(model, pixel_values, target): raise KeyError('of its own')\n"


def test_an_explainer_that_raises_is_named_and_the_scores_and_the_others_go_on(plugin, tmp_path, caplog):
    plugin("raises", "REQUIRES = ()\ndef available(): return True\n" + RAISES)
    model, pixels = tiny_classifier().eval(), torch.zeros(1, 1, 112, 56)
    with caplog.at_level("INFO"), pytest.raises(PluginError, match=r"^raises: this explainer failed with KeyError"):
        explain(model, pixels, explainer="raises")
    assert "in explain_map" in caplog.text  # the traceback
    logits, explained, _ = score_and_explain(model, MammoImageProcessor(size=(112, 56)), pixels, explainer="raises")
    torch.testing.assert_close(logits, model(pixels).logits.detach())
    assert explained == [{}]
    assert "passed over: raises: " in caplog.text
    found = by_each(["raises", "grad_cam"], lambda name: explain(model, pixels, explainer=name))
    assert list(found) == ["grad_cam"]


def test_ours_are_there():
    found = explainers()
    for name in OURS:
        assert found[name].reason is None
        assert found[name].object.__name__ == name


def test_the_supervised_one_is_named_as_such_and_no_other():
    found = explainers()
    assert [name for name in OURS if is_supervised(found[name].object)] == ["lesion_head"]
    assert found["lesion_head"].about == (
        "Return the lesion head's probability of a lesion of the target's label, if the checkpoint has such a head."
    )


def test_the_command_lists_names_states_and_what_they_are(plugin, capsys):
    plugin("raising", "raise RuntimeError('broken on import')")
    assert main(["explainers"]) == 0
    lines = {line.split()[0]: line for line in capsys.readouterr().out.splitlines()}
    assert set(OURS) < set(lines)
    assert "RuntimeError: broken on import" in lines["raising"]
    assert "ready, supervised" in lines["lesion_head"]
    assert "Grad-CAM (Selvaraju et al. 2017" in lines["grad_cam"]


def test_a_plugin_is_found(plugin):
    plugin("good", GOOD)
    assert find_explainer("good").explain_map(None, None, None) == 1
    assert explainers()["good"].reason is None


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("raising", "raise RuntimeError('broken on import')", "RuntimeError: broken on import"),
        ("leaving", "raise SystemExit(3)", "SystemExit"),
        ("importing", "import a_package_that_is_not_there", "a_package_that_is_not_there"),
        ("empty", "REQUIRES = ()", "has no available, explain_map"),
        ("lacking", GOOD.replace("()\n", "('captum',)\n", 1).replace("True", "False"), "needs captum"),
        ("asking", GOOD.replace("return True", "return 1 / 0"), "ZeroDivisionError"),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason(plugin, name, code, reason):
    plugin(name, code)
    found = explainers()
    assert found[name].object is None
    assert reason in found[name].reason
    assert found["grad_cam"].object is not None
    with pytest.raises(UsageError, match=reason):
        find_explainer(name)


def test_only_the_plugin_that_is_asked_for_is_imported(plugin):
    plugin("good", GOOD)
    other = plugin("other", GOOD)
    find_explainer("good")
    assert other not in sys.modules


def test_a_plugin_cannot_take_the_place_of_ours(plugin):
    plugin("grad_cam", GOOD, package="a-a-a")
    assert find_explainer("grad_cam").__module__ == "mammo_hf.explainers.cam"
    found = explainers()
    assert found["grad_cam"].reason is None
    assert found["grad_cam (a-a-a)"].reason == "the name grad_cam is taken"
    with pytest.raises(UsageError):
        find_explainer("grad_cam (a-a-a)")


def test_of_two_plugins_with_one_name_the_second_is_listed_as_such(plugin):
    plugin("twice", GOOD, package="lab-b")
    plugin("twice", GOOD, package="lab-a")
    assert find_explainer("twice").__name__ == "plugin_lab_a"
    assert explainers()["twice (lab-b)"].object is None


def test_an_unknown_name_gets_the_nearest_and_the_list():
    with pytest.raises(UsageError, match=r"did you mean grad_cam\?.*attention, .*bag_attention, grad_cam"):
        find_explainer("gradcam")
    with pytest.raises(UsageError, match="there are: attention"):
        find_explainer("zzz")
