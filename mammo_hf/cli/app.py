"""A page in the browser: drop an exam, see scores and where the model looked.

mammo-hf app out/cls
mammo-hf app lab/mammo-swin --space space
"""

from __future__ import annotations

import argparse

from ..app.page import build_page, gradio, launch_options, write_space
from ..errors import UsageError, check_number
from ..inference.loading import load_classifier
from .running import quiet


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    p = argparse.ArgumentParser(prog="mammo-hf app", description=(__doc__ or "").split("\n")[0])
    p.add_argument("model", help="folder of a classifier, or a name on the Hub, NAME[@REVISION]")
    p.add_argument("--host", default="127.0.0.1", help="whom the page answers to (default: this machine alone)")
    p.add_argument("--port", type=int, default=7860, help="(default %(default)s)")
    p.add_argument("--space", metavar="DIR", help="writes a Hugging Face Space there instead")
    return p


def main(arguments: list[str]) -> None:
    """Runs ``mammo-hf app``."""
    args = parser().parse_args(arguments)
    check_number("--port", args.port, 0 < args.port < 65536, "1 to 65535")
    if args.space is not None:
        print(f"written: {write_space(args.model, args.space)}: app.py, requirements.txt, README.md")
        return
    gradio()  # before the seconds of loading
    quiet()
    model, processor = load_classifier(args.model)
    page = build_page(model, processor, name=args.model.rstrip("/").split("/")[-1])
    try:
        page.launch(server_name=args.host, server_port=args.port, prevent_thread_lock=True, **launch_options())
    except OSError as error:
        raise UsageError(f"is taken ({error})", source=f"--port {args.port}", remedy="choose another") from error
    print(f"http://{args.host}:{args.port} (Ctrl-C ends it)", flush=True)
    page.block_thread()
