"""Draw a phantom collection: mammograms with known findings, as DICOM in the layout of CBIS-DDSM.

mammo-hf phantom data/phantom --patients 100 --seed 0
"""

from __future__ import annotations

import argparse

from ..phantom.writing import write_phantom
from ..processing.geometry import parse_size


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf phantom", description=(__doc__ or "").split("\n")[0])
    p.add_argument("out", help="folder to write; it must not exist or be empty")
    p.add_argument("--patients", type=int, default=50, help="four views each (default %(default)s)")
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--size", type=int, nargs="+", default=[1024, 512], help="height and width in pixels")
    p.add_argument("--test_fraction", type=float, default=0.25, help="share of the patients in the test split")
    p.add_argument("--mass_share", type=float, default=0.65, help="share of masses; the rest are calcifications")
    p.add_argument("--lesion_scale", type=float, default=1.0, help="enlarges the lesions")
    p.add_argument("--lesion_contrast", type=float, default=1.0, help="raises the lesions' contrast")
    p.add_argument("--lesion_halo", type=float, default=0.0, help="darkens the fat around the lesions")
    p.add_argument("--num_proc", type=int, default=None, help="processes (default: one a core)")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf phantom``."""
    args = parser().parse_args(arguments)
    summary = write_phantom(
        args.out,
        patients=args.patients,
        seed=args.seed,
        size=parse_size(args.size),
        test_fraction=args.test_fraction,
        mass_share=args.mass_share,
        lesion_scale=args.lesion_scale,
        lesion_contrast=args.lesion_contrast,
        lesion_halo=args.lesion_halo,
        num_proc=args.num_proc,
    )
    print(
        f"{summary.images} images of {summary.patients} patients, {summary.labelled_images} labelled, in {summary.out}"
    )
