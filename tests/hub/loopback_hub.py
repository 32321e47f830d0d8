"""A Hub on this machine: what the real ``huggingface_hub`` client asks of it, and faults where a test wants them.

It speaks creation of repositories and branches, preupload, LFS batch and upload, commits, trees, revisions, resolve
with etag, commit and Range, ``validate-yaml`` and ``whoami``. Xet is switched off in the client. Nothing is written to
disk.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import pathlib
import re
import socket
import threading
import urllib.parse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import yaml

TOKEN = "hf_loopback"
OWNER = "lab"
REGULAR_UP_TO = 100_000  # bytes: above, and weights and pictures in any case, go by LFS


@dataclass
class Repository:
    """Branches, and the files of every commit."""

    private: bool = False
    gated: bool = False
    branches: dict[str, str] = field(default_factory=dict)
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)
    parents: dict[str, str | None] = field(default_factory=dict)

    def commit(self, branch: str, files: dict[str, bytes]) -> str:
        names = json.dumps([len(self.commits), sorted(files)]).encode()
        oid = hashlib.sha1(names + b"".join(files[name] for name in sorted(files))).hexdigest()
        self.commits[oid], self.parents[oid] = files, self.branches.get(branch)
        self.branches[branch] = oid
        return oid

    def resolve(self, revision: str) -> str | None:
        return self.branches.get(revision, revision if revision in self.commits else None)


@dataclass
class Fault:
    """What goes wrong with requests whose line matches: the first ``after`` pass, the next ``times`` do not.

    ``status`` is answered; 0: the connection is cut, before anything is read of the body, or in the middle of an answer
    with content.
    """

    line: str
    status: int
    after: int = 0
    times: int = 1_000_000
    seen: int = 0


class LoopbackHub:
    """The server's state, and what it was asked."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.objects: dict[str, bytes] = {}
        self.asked: list[str] = []  # "METHOD path" of every request
        self.ranges: list[str] = []  # the Range of every request that had one
        self.received: list[bytes] = []  # every body, and the decoded content of every commit
        self.faults: list[Fault] = []
        self._lock = threading.Lock()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"hub": self}))
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()

    def fail(self, line: str, status: int, **when: int) -> None:
        """From now on answers requests whose "METHOD path" matches a pattern with a status; 0 cuts the connection."""
        self.faults.append(Fault(line, status, **when))

    def count(self, line: str) -> int:
        """How many requests matched."""
        return sum(re.search(line, asked) is not None for asked in self.asked)

    def fault_of(self, line: str) -> Fault | None:
        with self._lock:
            self.asked.append(line)
            for fault in self.faults:
                if re.search(fault.line, line):
                    fault.seen += 1
                    if fault.after < fault.seen <= fault.after + fault.times:
                        return fault
        return None

    def files(self, name: str, revision: str = "main") -> dict[str, bytes]:
        """What a repository holds."""
        repository = self.repositories[name]
        return repository.commits[str(repository.resolve(revision))]

    def environment(self, cache: os.PathLike[str] | str, token: str | None = TOKEN) -> dict[str, str]:
        """For a process of its own whose client talks to this Hub."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith(("HF_", "HUGGING"))}
        kept |= {"HF_ENDPOINT": self.url, "HF_HOME": str(cache), "HF_HUB_DISABLE_XET": "1"}
        kept |= {"HF_HUB_DISABLE_TELEMETRY": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
        return kept | ({} if token is None else {"HF_TOKEN": token})

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@contextmanager
def loopback_hub() -> Iterator[LoopbackHub]:
    """A running Hub."""
    hub = LoopbackHub()
    try:
        yield hub
    finally:
        hub.close()


class _Handler(BaseHTTPRequestHandler):
    hub: LoopbackHub
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True  # else each answer waits 40 ms for the client's acknowledgement
    wbufsize = -1

    def log_message(self, *_: Any) -> None:
        return

    def do_GET(self) -> None:
        self._answer()

    do_HEAD = do_POST = do_PUT = do_GET  # noqa: N815 (the names that http.server calls)

    def _answer(self) -> None:
        path = urllib.parse.urlsplit(self.path).path
        fault = self.hub.fault_of(f"{self.command} {path}")
        self.cut = fault is not None and fault.status == 0
        if self.cut and self.command in ("POST", "PUT", "HEAD"):
            self._cut()
            return
        body = self._body()
        if fault is not None and fault.status:
            self._error(fault.status)
            return
        # a data set's addresses are those of a model with another beginning
        self.kind = "datasets/" if re.match(r"(/api)?/datasets/", path) else ""
        path = re.sub(r"^/api/datasets/", "/api/models/", path).removeprefix("/datasets")
        for pattern, name in _ROUTES:
            found = re.fullmatch(pattern, path)
            if found and (self.command in name.split("_")[0].split("+")):
                getattr(self, "_" + name.split("_", 1)[1])(
                    body, *(urllib.parse.unquote(part) for part in found.groups() if part is not None)
                )
                return
        self._error(404)

    def _body(self) -> bytes:
        if self.headers.get("Transfer-Encoding") == "chunked":
            content = b""
            while length := int(self.rfile.readline(), 16):
                content += self.rfile.read(length)
                self.rfile.readline()
            self.rfile.readline()
        else:
            content = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.hub.received.append(content)
        return content

    def _cut(self) -> None:
        self.close_connection = True
        self.connection.shutdown(socket.SHUT_RDWR)

    def _send(self, status: int, content: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        headers.setdefault("Content_Type", "application/json")
        headers.setdefault("Content_Length", str(len(content)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command == "HEAD":
            return
        if self.cut:
            self.wfile.write(content[: len(content) // 2])
            self.wfile.flush()
            self._cut()
            return
        self.wfile.write(content)

    def _json(self, content: Any, status: int = 200) -> None:
        self._send(status, json.dumps(content).encode())

    def _error(self, status: int, code: str = "", **headers: str) -> None:
        if code:
            headers["X_Error_Code"] = code
        self._send(status, json.dumps({"error": f"said {status}"}).encode(), **headers)

    def _may_write(self) -> bool:
        if self.headers.get("Authorization") == f"Bearer {TOKEN}":
            return True
        self._error(401)
        return False

    def _repository(self, name: str) -> Repository | None:
        repository = self.hub.repositories.get(self.kind + name)
        if repository is not None and repository.gated and self.headers.get("Authorization") != f"Bearer {TOKEN}":
            self._error(403 if "Authorization" in self.headers else 401, "GatedRepo")
            return None
        secret = repository is not None and repository.private
        if repository is None or (secret and self.headers.get("Authorization") != f"Bearer {TOKEN}"):
            self._error(401 if "Authorization" not in self.headers else 404, "RepoNotFound")
            return None
        return repository

    def _at(self, name: str, revision: str) -> tuple[Repository, str] | None:
        repository = self._repository(name)
        if repository is None:
            return None
        oid = repository.resolve(revision)
        if oid is None:
            self._error(404, "RevisionNotFound")
            return None
        return repository, oid

    def _whoami(self, _: bytes) -> None:
        if self._may_write():
            self._json({"type": "user", "name": OWNER, "orgs": [], "auth": {"accessToken": {"role": "write"}}})

    def _validate(self, body: bytes) -> None:
        content = json.loads(body)["content"]
        found = re.match(r"---\n(.*?)\n---\n", content, re.DOTALL)
        try:
            metadata = yaml.load(found.group(1), getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if found else None
        except yaml.YAMLError as error:
            metadata = {"error": str(error)}
        wrong = [] if found else ["no front matter"]
        if isinstance(metadata, dict):
            wrong += [key for key in ("error",) if key in metadata]
            wrong += ["license"] * (not re.fullmatch(r"[a-z0-9.-]+", str(metadata.get("license"))))
            wrong += ["model-index"] * any("name" not in one for one in metadata.get("model-index") or ())
        self._json({"errors": [{"message": one} for one in wrong], "warnings": []}, 400 if wrong else 200)

    def _create(self, body: bytes) -> None:
        if not self._may_write():
            return
        asked = json.loads(body)
        name = f"{asked.get('organization') or OWNER}/{asked['name']}"
        at = f"datasets/{name}" if asked.get("type") == "dataset" else name
        if at in self.hub.repositories:
            self._json({"error": "You already created this repo", "url": f"{self.hub.url}/{at}"}, 409)
            return
        private = asked.get("visibility") == "private" or asked.get("private") is True
        repository = self.hub.repositories[at] = Repository(private)
        repository.commit("main", {".gitattributes": b"*.safetensors filter=lfs\n"})
        self._json({"url": f"{self.hub.url}/{at}", "name": name, "id": name})

    def _branch(self, body: bytes, name: str, branch: str) -> None:
        repository = self._repository(name) if self._may_write() else None
        if repository is None:
            return
        if branch in repository.branches:
            self._error(409)
            return
        start = (json.loads(body) if body else {}).get("startingPoint") or "main"
        repository.branches[branch] = str(repository.resolve(start))
        self._json({})

    def _info(self, _: bytes, name: str, revision: str = "main") -> None:
        found = self._at(name, revision)
        if found is None:
            return
        repository, oid = found
        siblings = [{"rfilename": path} for path in sorted(repository.commits[oid])]
        self._json({"id": name, "modelId": name, "sha": oid, "private": repository.private, "siblings": siblings})

    def _tree(self, _: bytes, name: str, revision: str, below: str | None = None) -> None:
        found = self._at(name, revision)
        if found is None:
            return
        repository, oid = found
        start = f"{below}/" if below else ""
        rows = self._rows(repository.commits[oid])
        whole = (
            urllib.parse.parse_qs(urllib.parse.urlsplit(self.path).query).get("recursive", [""])[0].lower() == "true"
        )
        inside = [row for path, row in sorted(rows.items()) if path.startswith(start)]
        self._json([row for row in inside if whole or "/" not in row["path"].removeprefix(start)])

    def _rows(self, files: dict[str, bytes]) -> dict[str, dict[str, Any]]:
        """Files, and the folders that they are in, by path."""
        rows = {path: self._row(path, content) for path, content in files.items()}
        for path in files:
            for folder in map(str, pathlib.PurePosixPath(path).parents):
                rows[folder] = {"type": "directory", "path": folder, "size": 0, "oid": _git_oid(folder.encode())}
        rows.pop(".", None)
        return rows

    def _paths(self, body: bytes, name: str, revision: str) -> None:
        found = self._at(name, revision)
        if found is None:
            return
        asked = json.loads(body)["paths"] if body[:1] == b"{" else urllib.parse.parse_qs(body.decode())["paths"]
        rows = self._rows(found[0].commits[found[1]])
        self._json([rows[path] for path in asked if path in rows])

    def _row(self, path: str, content: bytes) -> dict[str, Any]:
        row: dict[str, Any] = {"type": "file", "path": path, "size": len(content), "oid": _git_oid(content)}
        if _by_lfs(path, len(content)):
            row["lfs"] = {"oid": hashlib.sha256(content).hexdigest(), "size": len(content), "pointerSize": 130}
        return row

    def _preupload(self, body: bytes, name: str, revision: str) -> None:
        found = self._at(name, revision) if self._may_write() else None
        if found is None:
            return
        files = found[0].commits[found[1]]
        answer = []
        for one in json.loads(body)["files"]:
            mode = "lfs" if _by_lfs(one["path"], one["size"]) else "regular"
            there = files.get(one["path"])
            oid = None
            if there is not None:
                oid = hashlib.sha256(there).hexdigest() if mode == "lfs" else _git_oid(there)
            answer.append({"path": one["path"], "uploadMode": mode, "shouldIgnore": False, "oid": oid})
        self._json({"files": answer})

    def _batch(self, body: bytes, name: str) -> None:
        if not self._may_write() or self._repository(name) is None:
            return
        objects = []
        for one in json.loads(body)["objects"]:
            entry = {"oid": one["oid"], "size": one["size"]}
            if one["oid"] not in self.hub.objects:
                entry["actions"] = {"upload": {"href": f"{self.hub.url}/lfs/{one['oid']}", "header": {}}}
            objects.append(entry)
        self._json({"transfer": "basic", "objects": objects})

    def _object(self, body: bytes, oid: str) -> None:
        if hashlib.sha256(body).hexdigest() != oid:
            self._error(400)
            return
        self.hub.objects[oid] = body
        self._send(200)

    def _commit(self, body: bytes, name: str, revision: str) -> None:
        found = self._at(name, revision) if self._may_write() else None
        if found is None:
            return
        repository, oid = found
        files = dict(repository.commits[oid])
        for line in filter(None, body.splitlines()):
            entry = json.loads(line)
            value = entry["value"]
            if entry["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
                self.hub.received.append(files[value["path"]])
            elif entry["key"] == "lfsFile":
                files[value["path"]] = self.hub.objects[value["oid"]]
            elif entry["key"] == "deletedFile":
                del files[value["path"]]
        new = repository.commit(revision, files)
        self._json({"success": True, "commitOid": new, "commitUrl": f"{self.hub.url}/{self.kind}{name}/commit/{new}"})

    def _resolve(self, _: bytes, name: str, revision: str, path: str) -> None:
        found = self._at(name, revision)
        if found is None:
            return
        repository, oid = found
        content = repository.commits[oid].get(path)
        if content is None:
            self._error(404, "EntryNotFound", X_Repo_Commit=oid)
            return
        etag = hashlib.sha256(content).hexdigest() if _by_lfs(path, len(content)) else _git_oid(content)
        headers = {"ETag": f'"{etag}"', "X_Repo_Commit": oid, "Accept_Ranges": "bytes"}
        headers["Content_Type"] = "application/octet-stream"
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        if wanted is None:
            self._send(200, content, **headers)
            return
        self.hub.ranges.append(self.headers["Range"])
        first, last = int(wanted[1]), int(wanted[2] or len(content) - 1)
        headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
        self._send(206, content[first : last + 1], **headers)


def _by_lfs(path: str, size: int) -> bool:
    return path.endswith((".safetensors", ".png")) or size > REGULAR_UP_TO


def _git_oid(content: bytes) -> str:
    return hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()


_NAME, _REVISION = r"([^/]+/[^/]+)", r"([^/]+)"
_ROUTES = (
    (r"/api/whoami-v2", "GET_whoami"),
    (r"/api/validate-yaml", "POST_validate"),
    (r"/api/repos/create", "POST_create"),
    (rf"/api/models/{_NAME}", "GET_info"),
    (rf"/api/models/{_NAME}/revision/{_REVISION}", "GET_info"),
    (rf"/api/models/{_NAME}/tree/{_REVISION}(?:/(.+))?", "GET_tree"),
    (rf"/api/models/{_NAME}/paths-info/{_REVISION}", "POST_paths"),
    (rf"/api/models/{_NAME}/branch/{_REVISION}", "POST_branch"),
    (rf"/api/models/{_NAME}/preupload/{_REVISION}", "POST_preupload"),
    (rf"/api/models/{_NAME}/commit/{_REVISION}", "POST_commit"),
    (rf"/{_NAME}\.git/info/lfs/objects/batch", "POST_batch"),
    (r"/lfs/([0-9a-f]{64})", "PUT_object"),
    (rf"/{_NAME}/resolve/{_REVISION}/(.+)", "GET+HEAD_resolve"),
)
