"""Open a page in the browser: drop an exam, see scores and where the model looked."""

from __future__ import annotations

from ..errors import UsageError, check_number
from .running import Parser, processor_settings, quiet


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    p = Parser("mammo-hf app", __doc__ or "", "mammo-hf app out/cls")
    p.add_argument("model", metavar="MODEL", help="classifier: a folder, or a name on the Hub[@REVISION]")
    page = p.add_argument_group("page")
    page.add_argument("--host", default="127.0.0.1", help="address to listen on (default: this machine only)")
    page.add_argument("--port", type=int, default=7860, help="(default: %(default)s)")
    page.add_argument("--space", metavar="FOLDER", help="write a Hugging Face Space to this folder instead")
    p.add_encoder_options()
    p.add_processor_options(overrides=False)
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf app``."""
    args = parser().parse_args(arguments)
    check_number("--port", args.port, 0 < args.port < 65536, "1 to 65535")
    from ..app.page import check_gradio, serve, write_space  # imports torch, which --help should not
    from ..inference.scoring import load_classifier

    if args.space is not None:
        print(f"written: {write_space(args.model, args.space)}: app.py, requirements.txt, README.md")
        return
    check_gradio()  # before the seconds of loading
    quiet()
    model, processor = load_classifier(args.model, encoder=args.encoder, trust_remote_code=args.trust_remote_code)
    processor = processor.with_settings(processor_settings(vars(args)))
    try:
        serve(model, processor, name=args.model.rstrip("/").split("/")[-1], host=args.host, port=args.port)
    except OSError as error:
        raise UsageError(f"is in use ({error})", source=f"--port {args.port}", remedy="choose another") from error
