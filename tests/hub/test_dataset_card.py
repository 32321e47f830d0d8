import re

import datasets
import pytest
from huggingface_hub import DatasetCard

from mammo_hf.cli import main
from mammo_hf.hub.privacy_check import refuse_identifiers
from mammo_hf.phantom.writing import write_phantom

PATTERN = re.compile(
    r"# mammo\\_hf phantoms, prepared\n+16 mammograms, .*16 bits per pixel.* 0 files or rows were left out\."
    r"\n+## Intended use and limits\n.*only as the licence of their source allows.*"
    r"\n## Data and split\n+\| split \| images \| patients \| pathology \| density \|.*\n"
    r"\| train \| \d+ \| \d \| benign: not shown, malignant: not shown \| .*\n\| test \| \d+ \| \d \| .*"
    r"\n## Preprocessing\n+1\. Stored values .*64 x 32 pixels.*stored as these intensities.*"
    r"\n## Columns\n+`pixels`.*\n## How to load\n.*FOLDER.*",
    re.DOTALL,
)


@pytest.fixture(scope="module")
def collection(tmp_path_factory):
    root = tmp_path_factory.mktemp("films of erika") / "cbis"
    write_phantom(root, patients=4, seed=0, size=(224, 112), num_workers=1, progress=False)
    return root


@pytest.mark.parametrize("form", ["arrow", "parquet"])
def test_what_was_prepared_says_what_it_is(collection, tmp_path, form, hub):
    out = tmp_path / "prepared"
    assert (
        main(["prepare", str(collection), "--output_dir", str(out), "--image_size", "64", "32", "--format", form]) == 0
    )
    text = (out / "README.md").read_text()
    assert PATTERN.fullmatch(text.split("\n---\n", 1)[1].strip())
    card = DatasetCard.load(out / "README.md")
    card.validate()
    assert (card.data.license, card.data.size_categories) == ("unknown", "n<1K")
    refuse_identifiers({"README.md": text.encode()}, paths=[str(collection), str(tmp_path)], names=["erika"])
    loading = re.search(r"rows = (datasets\..*)", text)[1].replace("FOLDER", str(out))
    assert len(eval(loading, {"datasets": datasets})) == 16
