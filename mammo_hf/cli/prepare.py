"""Read a collection once: every image at the model's size, 16 bits, in a folder that training takes as --dataset."""

from __future__ import annotations

from .running import Parser


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    example = "mammo-hf prepare data/cbis --output_dir data/cbis-896 --image_size 896 448 --num_workers 8"
    p = Parser("mammo-hf prepare", __doc__ or "", example)
    p.add_argument("source", metavar="SOURCE", help="folder of the collection, recognised by its files, or NAME:FOLDER")
    p.add_argument(
        "--output_dir", required=True, help="folder, or fsspec URL such as s3://bucket/folder; run again, it resumes"
    )
    images = p.add_argument_group("images")
    images.add_argument(
        "--image_size",
        type=int,
        nargs="+",
        metavar="PIXELS",
        help="height and width in pixels (default: the processor's, or else 896 448)",
    )
    images.add_argument("--processor", help="folder with a preprocessor_config.json: how images are read and cropped")
    images.add_argument("--dicom_path", help="text file of DICOM paths, one per line: more unlabelled images")
    images.add_argument("--lesion_task", help="task that gives the lesions their label (default: the first)")
    images.add_argument(
        "--max_rejected_fraction",
        type=float,
        default=0.5,
        help="fraction of unreadable files, 0 to 1, above which the run ends in an error (default %(default)s)",
    )
    files = p.add_argument_group("files")
    files.add_argument(
        "--format", choices=("arrow", "parquet"), help="arrow: memory-mapped; parquet: compressed, streams"
    )
    files.add_argument("--shard_size", type=int, default=128, help="images per file (default %(default)s)")
    work = p.add_argument_group("processes")
    work.add_argument(
        "--num_workers", type=int, default=0, help="processes in addition to the main one (default %(default)s: none)"
    )
    work.add_argument("--ray", action="store_true", help="use a Ray cluster, or a local Ray of --num_workers CPUs")
    work.add_argument("--ray_address", help="address of the cluster, such as auto or ray://head:10001")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf prepare``."""
    args = parser().parse_args(arguments)
    # imported here, so that --help is quick
    from ..data.loading import load
    from ..hub.prepare import prepare
    from ..processing.geometry import parse_size

    prepared = prepare(
        load(args.source, **({} if args.dicom_path is None else {"dicom_path": args.dicom_path})),
        args.output_dir,
        image_size=parse_size(args.image_size) if args.image_size else None,
        processor=args.processor,
        lesion_task=args.lesion_task,
        num_workers=args.num_workers,
        format=args.format,
        shard_size=args.shard_size,
        max_rejected_fraction=args.max_rejected_fraction,
        ray=args.ray,
        ray_address=args.ray_address,
    )
    print(prepared)
    print(f"next: mammo-hf pretrain --dataset {args.output_dir} --output_dir OUT")
