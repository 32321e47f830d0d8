"""Draw a phantom collection: mammograms with known lesions, as DICOM in the layout of CBIS-DDSM."""

from __future__ import annotations

from .running import Parser, print_next


def parser() -> Parser:
    """Return the command's arguments."""
    p = Parser("mammo-hf phantom", __doc__ or "", "mammo-hf phantom --output_dir data/phantom --patients 100")
    p.add_argument("--output_dir", required=True, help="folder to write: new, empty, or with an earlier phantom")
    p.add_argument("--patients", type=int, default=50, help="number of patients, four views each (default %(default)s)")
    p.add_argument("--seed", type=int, default=0, help="random seed (default %(default)s)")
    p.add_argument("--image_size", type=int, nargs="+", default=[1024, 512], help="height and width in pixels")
    p.add_argument("--test_fraction", type=float, default=0.25, help="fraction of the patients in the test split")
    p.add_argument("--num_workers", type=int, help="number of processes that draw (default: one per core)")
    lesions = p.add_argument_group("lesions")
    lesions.add_argument(
        "--mass_fraction", type=float, default=0.65, help="fraction of masses; the others are calcifications"
    )
    lesions.add_argument("--lesion_scale", type=float, default=1.0, help="factor of the lesions' size")
    lesions.add_argument("--lesion_contrast", type=float, default=1.0, help="factor of the lesions' contrast")
    lesions.add_argument("--lesion_halo", type=float, default=0.0, help="darkness of the fat around the lesions")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf phantom``."""
    options = vars(parser().parse_args(arguments))
    from ..phantom import write_phantom
    from ..processing.geometry import parse_size

    out, size = options.pop("output_dir"), parse_size(options.pop("image_size"))
    patients = sum(map(len, write_phantom(out, size=size, **options).values()))
    print(f"{4 * patients} images of {patients} patients, {2 * patients} labelled, in {out}")
    print_next("pretrain", "--dataset", out, "--output_dir", "out/mim")
