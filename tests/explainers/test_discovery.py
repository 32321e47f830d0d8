import pytest

from mammo_hf.errors import UsageError
from mammo_hf.explainers import explainers, find_explainer


def plugin(tmp_path, monkeypatch, name, code):
    (tmp_path / f"plugin_{name}.py").write_text(code)
    info = tmp_path / f"plugin_{name}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: plugin-{name}\nVersion: 1\n")
    (info / "entry_points.txt").write_text(f"[mammo_hf.explainers]\n{name} = plugin_{name}\n")
    monkeypatch.syspath_prepend(str(tmp_path))


def test_ours_are_there():
    assert {"attention", "grad_cam", "grad_cam_attention"} <= {n for n, f in explainers().items() if f.module}


def test_a_plugin_is_found(tmp_path, monkeypatch):
    code = "REQUIRES = ()\ndef available(): return True\ndef explain_map(model, pixel_values, target): return 1\n"
    plugin(tmp_path, monkeypatch, "good", code)
    assert find_explainer("good").explain_map(None, None, None) == 1


@pytest.mark.parametrize(
    ("name", "code", "reason"),
    [
        ("raising", "raise RuntimeError('broken on import')", "broken on import"),
        ("empty", "REQUIRES = ()", "explain_map"),
        ("lacking", "REQUIRES = ('captum',)\ndef available(): return False\ndef explain_map(*a): pass\n", "captum"),
    ],
)
def test_a_broken_plugin_is_listed_with_its_reason(tmp_path, monkeypatch, name, code, reason):
    plugin(tmp_path, monkeypatch, name, code)
    found = explainers()
    assert reason in found[name].reason
    assert found["grad_cam"].module is not None
    with pytest.raises(UsageError, match=reason):
        find_explainer(name)


def test_a_plugin_cannot_take_the_place_of_ours(tmp_path, monkeypatch):
    plugin(tmp_path, monkeypatch, "grad_cam", "REQUIRES = ()\ndef available(): return True\ndef explain_map(): pass\n")
    assert find_explainer("grad_cam").__name__ == "mammo_hf.explainers.grad_cam"


def test_an_unknown_name_gets_the_nearest():
    with pytest.raises(UsageError, match="did you mean grad_cam"):
        find_explainer("gradcam")
