"""A Hub in memory that speaks enough of its HTTP API on loopback to push datasets and models and to load them."""

import base64
import hashlib
import json
import os
import re
import threading
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit


TOKEN, READ_TOKEN = "hf_writes", "hf_reads"
DATE = "2024-01-01T00:00:00.000Z"


class Hub(ThreadingHTTPServer):
    """
    `repos` maps the name of a dataset or model to its files, `private` holds the private ones, `requests` what was
    asked for. `failures` are pairs: the next request that matches the pattern ("PUT /lfs/") of the first of them is
    refused with the status beside it, or, if that is a function, answered with nothing after calling it.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"
        self.repos, self.private, self.blobs, self.requests = {}, set(), {}, []
        self.failures = []

    def environment(self, home, token=TOKEN):
        """Variables of a process that knows this Hub and nothing else."""
        kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
        for name in ("HF_HUB_OFFLINE", "HF_DATASETS_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_TOKEN"):
            kept.pop(name, None)
        known = {"HF_ENDPOINT": self.url, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1", "NO_PROXY": "*"}
        return {**kept, **known, "HF_HUB_DISABLE_TELEMETRY": "1", **({"HF_TOKEN": token} if token else {})}


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    timeout = 30  # seconds that a client may be silent

    def log_message(self, *args):
        pass

    def answer(self, content=b"", status=200, **headers):
        if not isinstance(content, bytes):
            content, headers["Content-Type"] = json.dumps(content).encode(), "application/json"
        self.send_response(status)
        for name, value in {"Content-Length": len(content), **headers}.items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)

    def refuse(self, status, code=None, message=""):
        headers = {"X_Error_Code": code} if code else {}
        self.answer({"error": message or code}, status, **headers, X_Error_Message=message or code)

    def handle_any(self):
        self.body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = unquote(urlsplit(self.path).path)
        self.server.requests.append(f"{self.command} {path}")
        if self.server.failures and re.match(self.server.failures[0][0], f"{self.command} {path}"):
            _, status = self.server.failures.pop(0)
            if callable(status):
                self.close_connection = True
                return status()
            return self.refuse(status, message="Not now")
        matches = ((re.fullmatch(pattern, f"{self.command} {path}"), method) for pattern, method in ROUTES)
        match, method = next((found for found in matches if found[0]), (None, None))
        if match is None:
            return self.refuse(404, "EntryNotFound")
        token = (self.headers.get("Authorization") or "").removeprefix("Bearer ")
        writes = self.command == "POST" and method not in (Handler.paths_info, Handler.validate)
        if method is Handler.whoami and token not in (TOKEN, READ_TOKEN):
            return self.refuse(401, message="Invalid credentials in Authorization header")
        if writes and token != TOKEN:
            return self.refuse(403, message="You don't have the rights")
        repo = match.groupdict().get("repo")
        if repo is not None and repo not in self.server.repos:
            return self.refuse(404, "RepoNotFound")
        method(self, **match.groupdict())

    do_GET = do_HEAD = do_POST = do_PUT = handle_any

    def commit_of(self, repo):
        return hashlib.sha1(repr(sorted(self.server.repos[repo].items())).encode()).hexdigest()

    def entry(self, path, content):
        oid, sha = hashlib.sha1(content).hexdigest(), hashlib.sha256(content).hexdigest()
        lfs = {"lfs": {"oid": sha, "size": len(content), "pointerSize": 130}} if path.endswith(".parquet") else {}
        return {"type": "file", "path": path, "size": len(content), "oid": oid, **lfs}

    def entries(self, repo, folder, recursive):
        files = {p: c for p, c in self.server.repos[repo].items() if p.startswith(f"{folder}/" if folder else "")}
        start = len(folder) + 1 if folder else 0
        folders = {p[: p.index("/", start)] for p in files if "/" in p[start:]}
        listed = [{"type": "directory", "path": p, "size": 0, "oid": "0" * 40} for p in sorted(folders)]
        return listed + [self.entry(p, c) for p, c in sorted(files.items()) if recursive or "/" not in p[start:]]

    def whoami(self):
        role = "read" if READ_TOKEN in self.headers["Authorization"] else "write"
        self.answer({"type": "user", "name": "me", "orgs": [], "auth": {"accessToken": {"role": role}}})

    def validate(self):
        content = json.loads(self.body)["content"]
        good = content.startswith("---\n") and "\nlicense: no-licence\n" not in content
        self.answer(
            {"errors": [], "warnings": []} if good else b'"license" must be one of [...]', 200 if good else 400
        )

    def create(self):
        wanted = json.loads(self.body)
        repo = f"{wanted['organization'] or 'me'}/{wanted['name']}"
        if repo in self.server.repos:
            return self.refuse(409, message="You already created this repo")
        if wanted.get("visibility") == "private":
            self.server.private.add(repo)
        self.server.repos[repo] = {".gitattributes": b""}
        kind = "datasets/" if wanted.get("type") == "dataset" else ""
        self.answer({"url": f"{self.server.url}/{kind}{repo}", "name": repo})

    def info(self, repo, revision=None):
        files = [{"rfilename": path} for path in sorted(self.server.repos[repo])]
        known = {"id": repo, "sha": self.commit_of(repo), "private": repo in self.server.private, "tags": []}
        self.answer({**known, "siblings": files, "downloads": 0, "likes": 0, "lastModified": DATE, "gated": False})

    def preupload(self, repo, revision):
        paths = [file["path"] for file in json.loads(self.body)["files"]]
        modes = {path: "lfs" if path.endswith(".parquet") else "regular" for path in paths}
        self.answer({"files": [{"path": p, "uploadMode": m, "shouldIgnore": False} for p, m in modes.items()]})

    def lfs_batch(self, repo):
        objects = []
        for wanted in json.loads(self.body)["objects"]:
            action = {"upload": {"href": f"{self.server.url}/lfs/{wanted['oid']}"}}
            objects.append({**wanted, **({} if wanted["oid"] in self.server.blobs else {"actions": action})})
        self.answer({"transfer": "basic", "objects": objects})

    def lfs_put(self, oid):
        assert hashlib.sha256(self.body).hexdigest() == oid
        self.server.blobs[oid] = self.body
        self.answer()

    def commit(self, repo, revision):
        files = dict(self.server.repos[repo])
        for line in self.body.splitlines():
            operation = json.loads(line)
            value = operation["value"]
            if operation["key"] == "file":
                files[value["path"]] = base64.b64decode(value["content"])
            elif operation["key"] == "lfsFile":
                files[value["path"]] = self.server.blobs[value["oid"]]
            elif operation["key"] == "deletedFile":
                del files[value["path"]]
        self.server.repos[repo] = files
        commit = self.commit_of(repo)
        self.answer({"commitUrl": f"{self.server.url}/datasets/{repo}/commit/{commit}", "commitOid": commit})

    def tree(self, repo, revision, folder=None):
        found = self.entries(repo, folder or "", "recursive=true" in self.path.lower())
        self.answer(found) if found or not folder else self.refuse(404, "EntryNotFound")

    def paths_info(self, repo, revision):
        files = self.server.repos[repo]
        if self.headers["Content-Type"].startswith("application/json"):
            paths = json.loads(self.body)["paths"]
        else:
            paths = [unquote(pair.split("=", 1)[1]) for pair in self.body.decode().split("&") if pair[:6] == "paths="]
        folders = [path for path in paths if any(file.startswith(f"{path}/") for file in files)]
        listed = [{"type": "directory", "path": path, "size": 0, "oid": "0" * 40} for path in folders]
        self.answer(listed + [self.entry(path, files[path]) for path in paths if path in files])

    def resolve(self, repo, revision, path):
        content = self.server.repos[repo].get(path)
        if content is None:
            return self.refuse(404, "EntryNotFound")
        etag, status = f'"{hashlib.sha1(content).hexdigest()}"', 200
        headers = {"ETag": etag, "X_Repo_Commit": self.commit_of(repo), "Accept_Ranges": "bytes"}
        if match := re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or ""):
            first, last = int(match[1]), min(int(match[2] or len(content)), len(content) - 1)
            headers["Content_Range"] = f"bytes {first}-{last}/{len(content)}"
            content, status = content[first : last + 1], 206
        self.answer(content, status, **headers)


KIND = "(?:datasets|models)"
REPO, REVISION = r"(?P<repo>[^/]+/[^/]+)", r"(?P<revision>[^/]+)"
ROUTES = [
    (r"GET /api/whoami-v2", Handler.whoami),
    (r"POST /api/validate-yaml", Handler.validate),
    (r"POST /api/repos/create", Handler.create),
    (rf"GET /api/{KIND}/{REPO}", Handler.info),
    (rf"GET /api/{KIND}/{REPO}/revision/{REVISION}", Handler.info),
    (rf"POST /api/{KIND}/{REPO}/preupload/{REVISION}", Handler.preupload),
    (rf"POST /(?:datasets/)?{REPO}\.git/info/lfs/objects/batch", Handler.lfs_batch),
    (r"PUT /lfs/(?P<oid>\w+)", Handler.lfs_put),
    (rf"POST /api/{KIND}/{REPO}/commit/{REVISION}", Handler.commit),
    (rf"GET /api/{KIND}/{REPO}/tree/{REVISION}(?:/(?P<folder>.*))?", Handler.tree),
    (rf"POST /api/{KIND}/{REPO}/paths-info/{REVISION}", Handler.paths_info),
    (rf"(?:GET|HEAD) /(?:datasets/)?{REPO}/resolve/{REVISION}/(?P<path>.+)", Handler.resolve),
]


@contextmanager
def running_hub():
    """A [`Hub`] that listens until the block ends."""
    with Hub() as hub:
        thread = threading.Thread(target=hub.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
        thread.start()
        try:
            yield hub
        finally:
            hub.shutdown()
            thread.join(timeout=10)
