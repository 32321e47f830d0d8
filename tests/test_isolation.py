"""Native decoders in reader processes: what hangs, crashes or eats memory ends its reader, and the run goes on."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from mammo_hf import isolation
from mammo_hf.errors import DataError
from mammo_hf.isolation import isolated, isolating


@pytest.fixture(autouse=True)
def decoders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> object:
    """Return a module of fake decoders, which a reader process imports as it does real ones."""
    (tmp_path / "fake_decoders.py").write_text(
        "import ctypes, os, sys, time\n"
        "def double(content): return content[:1] * 2, bytes(content), os.getpid()\n"
        "def sleep(): time.sleep(1000)\n"
        "def spin():\n    while True: pass\n"
        "def crash(): ctypes.string_at(0)\n"
        "def leave(): os._exit(0)\n"
        "def eat(): return bytearray(20 << 30)\n"
        "def nest(): return nest()\n"
        "def fail(): raise ValueError('quotes a PATIENT')\n"
        "def chatter(): os.write(1, b'noise' * 100); print('noise', flush=True)\n"
        "def heavy(): import mammo_hf.dicom.pixels; return 'torch' in sys.modules, 'transformers' in sys.modules\n"
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    sys.modules.pop("fake_decoders", None)
    monkeypatch.setattr(isolation, "SECONDS", 1.0)
    import fake_decoders

    return fake_decoders


def test_outside_of_the_block_a_function_is_called_here(decoders):
    assert isolated(decoders.double, b"ab")[2] == os.getpid()


def test_arguments_and_results_cross_whole_and_a_reader_is_kept(decoders):
    content = np.random.default_rng(0).bytes(1 << 20)
    with isolating():
        first, whole, pid = isolated(decoders.double, content)
        assert (bytes(first), whole) == (content[:1] * 2, content)
        assert pid != os.getpid()
        isolated(decoders.chatter)
        assert isolated(decoders.double, b"ab")[2] == pid
        assert isolated(decoders.heavy) == (False, False)
    assert not isolation._idle


@pytest.mark.parametrize(
    ("kind", "problem"),
    [
        *(("sleep", "more than 1 s"), ("spin", "more than 1 s"), ("crash", "SIGSEGV"), ("leave", "status 0")),
        *(("eat", "MemoryError"), ("nest", "RecursionError"), ("fail", "ValueError")),
    ],
)
def test_what_a_decoder_does_becomes_an_error_and_the_next_file_is_read(decoders, kind, problem):
    started = time.monotonic()
    with isolating():
        with pytest.raises(DataError, match=problem) as caught:
            isolated(getattr(decoders, kind))
        assert "PATIENT" not in str(caught.value)
        assert caught.value.code == ("damaged" if kind == "fail" else "hostile")
        assert isolated(decoders.double, b"ab")[0] == b"aa"
    assert time.monotonic() - started < 60


def test_a_frame_and_a_picture_decoded_in_a_reader_are_those_decoded_here(tmp_path):
    imagecodecs = pytest.importorskip("imagecodecs")
    from PIL import Image
    from pydicom.encaps import encapsulate
    from pydicom.uid import JPEG2000Lossless

    from mammo_hf.dicom import mammogram_dataset, read_mammogram
    from mammo_hf.processing.image_source import open_image

    pixels = np.random.default_rng(0).integers(0, 4096, (70, 50)).astype(np.uint16)
    dataset = mammogram_dataset(pixels, bits_stored=12, TransferSyntaxUID=JPEG2000Lossless)
    dataset["PixelData"].is_undefined_length = True
    dataset.PixelData = encapsulate([imagecodecs.jpeg2k_encode(pixels, level=0, codecformat="j2k")])
    dataset.save_as(tmp_path / "a.dcm", enforce_file_format=True)
    Image.fromarray(pixels).save(tmp_path / "a.png")
    with isolating():
        assert np.array_equal(read_mammogram(tmp_path / "a.dcm").pixels[0], pixels)
        assert np.array_equal(
            open_image(tmp_path / "a.png").view(slice(None)), pixels.astype(np.float32) / np.float32(65535)
        )


def test_a_fork_leaves_the_readers_to_its_parent(decoders):
    with isolating():
        pid = isolated(decoders.double, b"ab")[2]
        child = os.fork()
        if not child:
            other = isolated(decoders.double, b"ab")[2]
            for reader in isolation._idle:
                reader.end()
            os._exit(int(other == pid))
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert isolated(decoders.double, b"ab")[2] == pid
