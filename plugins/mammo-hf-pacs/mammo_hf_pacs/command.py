"""Score exams of a PACS as they come, and send the results back as DICOM objects."""

from __future__ import annotations

import logging
import os
import signal
import threading
import warnings
from pathlib import Path
from typing import Any

from mammo_hf.cli.running import Parser, quiet
from mammo_hf.errors import UsageError

OUTPUTS = ("sr", "seg", "capture")


def parser() -> Parser:
    """Return the parser of the command's arguments."""
    example = "mammo-hf node out/cls --url http://127.0.0.1:8042/dicom-web --port 11112"
    p = Parser("mammo-hf node", f"{__doc__} Research use only.", example)
    p.add_argument("model", metavar="MODEL", help="classifier: a folder, or a name on the Hub[@REVISION]")
    p.add_argument("--state", metavar="FOLDER", default="mammo-hf-node", help="queue and audit (default: %(default)s)")
    p.add_argument("--write", metavar="NAME", nargs="+", choices=OUTPUTS, default=list(OUTPUTS), help="objects to send")
    pacs = p.add_argument_group("the PACS")
    pacs.add_argument("--url", help="its DICOMweb service: exams are retrieved from there, results sent there")
    pacs.add_argument("--pacs", metavar="TITLE@HOST:PORT", help="its DICOM address, if results go there by C-STORE")
    pacs.add_argument(
        "--poll", metavar="SECONDS", type=float, default=0.0, help="look for new studies (default: never)"
    )
    pacs.add_argument("--token", metavar="FILE", help="file with a bearer token, read at each request")
    pacs.add_argument("--user", metavar="NAME", help="name for basic authentication")
    pacs.add_argument("--password", metavar="FILE", help="file with its password")
    here = p.add_argument_group("this node")
    here.add_argument("--host", default="127.0.0.1", help="address to listen at (default: %(default)s, this machine)")
    here.add_argument("--port", type=int, default=11112, help="port to listen at (default: %(default)s)")
    here.add_argument("--title", default="MAMMOHF", help="AE title (default: %(default)s)")
    here.add_argument(
        "--allow_title", metavar="TITLE", nargs="+", default=[], help="AE titles that may send (default: all)"
    )
    here.add_argument(
        "--allow_host", metavar="HOST", nargs="+", default=[], help="addresses that may send (default: all)"
    )
    here.add_argument("--ca", metavar="FILE", help="certificates of authorities for TLS")
    here.add_argument("--certificate", metavar="FILE", help="own certificate: DICOM is then spoken over TLS alone")
    here.add_argument("--key", metavar="FILE", help="its key")
    here.add_argument("--quiet", type=float, default=60.0, help="seconds after which an exam is whole (default: 60)")
    here.add_argument(
        "--quota", metavar="MB", type=float, default=20000.0, help="most that is kept (default: %(default)g)"
    )
    what = p.add_argument_group("instead of running")
    what.add_argument("--once", action="store_true", help="score one study of the PACS, and end")
    what.add_argument("--study", metavar="UID", help="StudyInstanceUID for --once")
    what.add_argument("--check", action="store_true", help="ping the PACS and this node, and score a phantom")
    what.add_argument("--pause", action="store_true", help="let the running node take exams in, but score none")
    what.add_argument("--resume", action="store_true", help="let it score again")
    return p


def main(arguments: list[str]) -> None:
    """Run ``mammo-hf node``."""
    args = parser().parse_args(arguments)
    from .queue import Queue

    os.umask(0o077)  # images and objects are for this user alone
    queue = Queue(Path(args.state), int(args.quota * 1e6))
    if args.pause or args.resume:
        queue.pause(args.pause)
        print(f"{'paused' if args.pause else 'resumed'}: {args.state}, {queue.open_exams()} exams open")
        return
    quiet()
    warnings.simplefilter("ignore")  # those of pydicom and highdicom quote headers
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", handlers=[own_lines()])
    if not args.check:
        queue.hold()
    node = _node(args, queue)
    if args.check:
        from .check import check

        check(node, args)
    elif args.once:
        _once(node, args)
    else:
        _serve(node, args)


def own_lines() -> logging.Handler:
    """Return a handler of what mammo_hf logs, and of nothing else: others quote headers and identifiers."""
    handler = logging.StreamHandler()
    handler.addFilter(lambda record: record.name.startswith("mammo_hf"))
    return handler


def secrets_of(args: Any) -> Any:
    """Return what the PACS is told of us."""
    from .exchange import Secrets

    paths = {
        name: Path(value)
        for name in ("token", "password", "ca", "certificate", "key")
        if (value := getattr(args, name))
    }
    return Secrets(user=args.user, **paths)


def _node(args: Any, queue: Any) -> Any:
    """Load the model, and return the node."""
    import importlib

    from mammo_hf.inference.outputs import facts_of_model
    from mammo_hf.inference.scoring import load_classifier
    from mammo_hf.models.checkpoint import locate

    from .exchange import Dicomweb, Dimse
    from .node import Node, Scorer

    secrets = secrets_of(args)
    web = Dicomweb(args.url, secrets) if args.url else None
    peer: Any = web
    if args.pacs:
        title, _, address = args.pacs.partition("@")
        host, _, port = address.rpartition(":")
        if not (title and host and port.isdecimal()):
            raise UsageError(f"is {args.pacs}", source="--pacs", remedy="give TITLE@HOST:PORT")
        peer = Dimse(title, host, int(port), args.title, secrets)
    if peer is None:
        raise UsageError("no PACS is named", source="--url", remedy="give --url, --pacs, or both")
    folder = locate(args.model)
    model, processor = load_classifier(folder)
    outputs = {name: importlib.import_module(f"mammo_hf_pacs.{name}") for name in args.write}
    scorer = Scorer(model, processor, facts_of_model(folder, model.config), outputs)
    return Node(queue, scorer, peer, web, quiet=args.quiet, quiet_of_four=min(5.0, args.quiet), poll=args.poll)


def _once(node: Any, args: Any) -> None:
    if not args.study:
        raise UsageError("is needed by --once", source="--study", remedy="give a StudyInstanceUID")
    count = node.once(args.study)
    nothing = "nothing to do: this model has scored these images before"
    print(f"done: {count} objects are in the study" if count else nothing)
    print(f"next: {args.state}/audit.jsonl holds the result")


def _serve(node: Any, args: Any) -> None:
    """Listen and work until a signal comes."""
    from .receiver import Receiver

    stopped = threading.Event()
    for name in (signal.SIGTERM, signal.SIGINT):
        signal.signal(name, lambda *_: stopped.set())
    node.queue.sweep()
    where = args.host, args.port, args.title
    receiver = Receiver(node.queue, *where, args.allow_title, args.allow_host, secrets_of(args))
    print(f"listening as {args.title} at {args.host}:{receiver.port}; {node.queue.open_exams()} exams open", flush=True)
    try:
        node.run(stopped.is_set)
    finally:
        receiver.close()
        node.queue.close()
