"""A small Hub on loopback: it speaks what huggingface_hub asks for to create, fill and read a model repository.

The paths and bodies are those of huggingface_hub 2.4 (hf_api.py, _commit_api.py, lfs.py, file_download.py). Large files
go by Git LFS, the way that the client takes with HF_HUB_DISABLE_XET=1; the Xet protocol is not spoken.
"""

from __future__ import annotations

import base64
import hashlib
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import unquote, urlsplit

WRITE_TOKEN = "hf_" + "PlantedTokenThatMayWrite" + "Abcdefgh"
READ_TOKEN = "hf_" + "PlantedTokenThatMayRead" + "Abcdefgh"
Answer = tuple[int, Any]


@dataclass
class Repo:
    """A model repository: its visibility, its files by path, the commits in their order."""

    private: bool
    files: dict[str, bytes] = field(default_factory=dict)
    commits: list[str] = field(default_factory=list)

    @property
    def head(self) -> str:
        return self.commits[-1] if self.commits else "0" * 40


class Hub:
    """The state of the server. Tokens that may write do so below `user` alone.

    upload_mode: what files are asked to come as: "regular", "lfs", or None for what the Hub would say of each name.
    failures: path ending -> status, of requests that fail until they are taken out.
    asked: method and path of every request.
    """

    def __init__(self) -> None:
        self.repos: dict[str, Repo] = {}
        self.blobs: dict[str, bytes] = {}
        self.upload_mode: str | None = None
        self.failures: dict[str, int] = {}
        self.asked: list[str] = []
        self.url = ""

    def add(self, repo_id: str, files: dict[str, bytes], *, private: bool = False) -> None:
        self.repos[repo_id] = Repo(private, dict(files), [hashlib.sha1(repo_id.encode()).hexdigest()])

    def answer(self, method: str, path: str, token: str | None, body: bytes) -> Answer:
        self.asked.append(f"{method} {path}")
        for ending, status in self.failures.items():
            if path.endswith(ending):
                return status, {"error": "so the test wants it"}
        if token not in (None, WRITE_TOKEN, READ_TOKEN):
            return 401, {"error": "Invalid username or password."}
        if path.startswith("/lfs/"):
            return self._store(path.removeprefix("/lfs/"), body)
        if path == "/api/repos/create":
            return self._create(token, json.loads(body))
        if path == "/api/whoami-v2":
            return 200, {"name": "user"}
        if path == "/api/validate-yaml":
            return 200, {"errors": [], "warnings": []}
        for split, action in self._actions().items():
            before, found, after = path.partition(split)
            if found:
                repo_id = before.removeprefix("/api/models").strip("/")
                return action(repo_id, after, token, body)
        if path.startswith("/api/models/"):
            return self._info(path.removeprefix("/api/models/"), "", token, b"")
        return 404, {"error": f"no such place: {path}"}

    def _actions(self) -> dict[str, Callable[[str, str, str | None, bytes], Answer]]:
        return {
            "/auth-check/write": self._check_write,
            "/preupload/main": self._writing(self._preupload),
            ".git/info/lfs/objects/batch": self._writing(self._batch),
            "/commit/main": self._writing(self._commit),
            "/revision/": self._info,
            "/tree/": self._tree,
            "/resolve/": self._resolve,
        }

    def _writing(self, action: Callable[[str, bytes], Answer]) -> Callable[[str, str, str | None, bytes], Answer]:
        def checked(repo_id: str, _rest: str, token: str | None, body: bytes) -> Answer:
            status, error = self._check_write(repo_id, "", token, body)
            return action(repo_id, body) if status == 200 else (status, error)

        return checked

    def _create(self, token: str | None, wanted: dict[str, Any]) -> Answer:
        repo_id = f"{wanted['organization']}/{wanted['name']}"
        if token != WRITE_TOKEN or wanted["organization"] != "user":
            return 403, {"error": "You don't have the rights to create a model under this namespace"}
        if repo_id in self.repos:
            return 409, {"error": "You already created this model repo", "url": f"{self.url}/{repo_id}"}
        self.repos[repo_id] = Repo(private=wanted["visibility"] == "private")
        return 200, {"url": f"{self.url}/{repo_id}", "name": repo_id}

    def _check_write(self, repo_id: str, _rest: str, token: str | None, _body: bytes) -> Answer:
        if repo_id not in self.repos:
            return 404, {"error": "Repository not found"}
        may = token == WRITE_TOKEN and repo_id.startswith("user/")
        return (200, {}) if may else (403, {"error": "Forbidden: you may not write here"})

    def _info(self, repo_id: str, _rest: str, token: str | None, _body: bytes) -> Answer:
        repo = self.repos.get(repo_id)
        if repo is None or (repo.private and token is None):
            return 404, {"error": "Repository not found"}
        return 200, {"_id": "1", "id": repo_id, "modelId": repo_id, "private": repo.private, "sha": repo.head}

    def _preupload(self, _repo_id: str, body: bytes) -> Answer:
        def mode(path: str) -> str:
            return self.upload_mode or ("lfs" if path.endswith(".safetensors") else "regular")

        names = [file["path"] for file in json.loads(body)["files"]]
        return 200, {"files": [{"path": name, "uploadMode": mode(name), "shouldIgnore": False} for name in names]}

    def _batch(self, _repo_id: str, body: bytes) -> Answer:
        objects = [
            {"oid": one["oid"], "size": one["size"], "actions": {"upload": {"href": f"{self.url}/lfs/{one['oid']}"}}}
            for one in json.loads(body)["objects"]
        ]
        return 200, {"transfer": "basic", "objects": objects}

    def _store(self, oid: str, body: bytes) -> Answer:
        if hashlib.sha256(body).hexdigest() != oid:
            return 422, {"error": "these bytes have another hash"}
        self.blobs[oid] = body
        return 200, {}

    def _commit(self, repo_id: str, body: bytes) -> Answer:
        repo = self.repos[repo_id]
        for line in map(json.loads, body.splitlines()):
            value = line["value"]
            if line["key"] == "file":
                repo.files[value["path"]] = base64.b64decode(value["content"])
            elif line["key"] == "lfsFile":
                repo.files[value["path"]] = self.blobs[value["oid"]]
        repo.commits.append(hashlib.sha1(body + str(len(repo.commits)).encode()).hexdigest())
        return 200, {"commitUrl": f"{self.url}/{repo_id}/commit/{repo.head}", "commitOid": repo.head}

    def _tree(self, repo_id: str, _rest: str, _token: str | None, _body: bytes) -> Answer:
        files = self.repos[repo_id].files
        return 200, [
            {"type": "file", "path": name, "size": len(content), "oid": hashlib.sha1(content).hexdigest()}
            for name, content in files.items()
        ]

    def _resolve(self, repo_id: str, rest: str, _token: str | None, _body: bytes) -> Answer:
        content = self.repos[repo_id].files.get(unquote(rest.partition("/")[2]))
        return (200, content) if content is not None else (404, {"error": "Entry not found"})


def _handler(hub: Hub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def _answer(self) -> None:
            body = self._body()
            token = (self.headers.get("Authorization") or "").removeprefix("Bearer ") or None
            path = urlsplit(self.path).path
            status, answer = hub.answer(self.command, path, token, body)
            content = answer if isinstance(answer, bytes) else json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/octet-stream" if answer is content else "application/json")
            self.send_header("Content-Length", str(len(content)))
            if "/resolve/" in path and status == 200:
                self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
                self.send_header("X-Repo-Commit", hub.repos[path.partition("/resolve/")[0].strip("/")].head)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_GET = do_HEAD = do_POST = do_PUT = _answer

        def _body(self) -> bytes:
            """With its length said before, or in chunks, as files come."""
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length") or 0))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return Handler


@contextmanager
def serving() -> Iterator[Hub]:
    """A Hub that answers on a free port of loopback while the block runs."""
    hub = Hub()
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(hub))
    hub.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield hub
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
