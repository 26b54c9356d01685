"""A stand-in for the Hugging Face hub: what its index, its files and its refusals look like."""

import collections
import contextlib
import hashlib
import json
import math
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import unquote, urlsplit

from safetensors import safe_open


class Hub:
    """An http server in a thread, which knows folders by the names of models.

    `revisions` maps a model to revision -> folder; `gated` names models whose files are refused;
    `claims` a model to what its index says beside the truth; `cuts` a file to how many bytes an
    answer has before the connection breaks, `times` how often, and `holds` after how many bytes
    it stays silent instead; `asked` has every request, and `sent` the bytes of a file that left.
    """

    def __init__(self):
        self.revisions, self.gated, self.claims, self.asked = {}, set(), {}, []
        self.cuts, self.times, self.status = {}, {}, None
        self.holds, self.sent, self.closed = {}, collections.Counter(), threading.Event()
        handler = type("Handler", (_Handler,), {"hub": self})
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
        self.server.daemon_threads = True
        self.address = f"http://127.0.0.1:{self.server.server_port}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.closed.set()
        self.server.shutdown()
        self.server.server_close()

    def add(self, name, folder, revision="main"):
        self.revisions.setdefault(name, {})[revision] = Path(folder)

    def commit(self, name, revision="main"):
        """Return the 40 hexadecimal digits of a revision: a sum over its files."""
        folder = self.revisions[name][revision]
        files = [(p.name, digest(p)) for p in sorted(folder.iterdir())]
        return hashlib.sha1(json.dumps([name, files]).encode()).hexdigest()

    def folder(self, name, revision):
        every = self.revisions[name]
        return every.get(revision) or next(
            (f for r, f in every.items() if self.commit(name, r) == revision), None
        )

    def fetched(self, ending):
        """Return the files of an ending that were asked for, not only for their size."""
        return [path for kind, path, _ in self.asked if kind == "GET" and path.endswith(ending)]


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    hub: Hub

    def log_message(self, *_):
        pass

    def do_HEAD(self):
        self.answer()

    def do_POST(self):
        self.answer()

    def do_GET(self):
        self.answer()

    def answer(self):
        path = unquote(urlsplit(self.path).path)
        self.hub.asked.append((self.command, path, self.headers.get("Range")))
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            if path == "/":
                self.say(200, b"")
            elif self.hub.status:
                self.fail(self.hub.status, None)
            elif path.startswith("/api/models/"):
                self.index(path.removeprefix("/api/models/").split("/"))
            elif "/resolve/" in path:
                self.file(*path.strip("/").split("/resolve/"))
            else:
                self.fail(404, "RepoNotFound")

    def index(self, parts):
        name = "/".join(parts[:2])
        # The hub tells nobody which private models there are: it asks who wants to know.
        if name not in self.hub.revisions:
            return self.fail(401, "RepoNotFound")
        what, revision = (parts + ["revision", "main"])[2:4] if len(parts) < 4 else parts[2:4]
        folder = self.hub.folder(name, revision)
        if folder is None:
            return self.fail(404, "RevisionNotFound")
        main = next(r for r, f in self.hub.revisions[name].items() if f == folder)
        files = [entry(path) for path in sorted(folder.iterdir())]
        if what == "tree":
            return self.say(200, json.dumps(files).encode())
        siblings = [
            {"rfilename": f["path"], "size": f["size"], "blobId": f["oid"], "lfs": f.get("lfs")}
            for f in files
        ]
        info = {"id": name, "sha": self.hub.commit(name, main), "private": False}
        counts = [parameters(path) for path in folder.glob("*.safetensors")]
        if counts:
            info["safetensors"] = {"parameters": {"F32": sum(counts)}, "total": sum(counts)}
        info |= {"siblings": siblings, "gated": "auto" if name in self.hub.gated else False}
        return self.say(200, json.dumps(info | self.hub.claims.get(name, {})).encode())

    def file(self, name, rest):
        revision, _, file = rest.partition("/")
        if name not in self.hub.revisions:
            return self.fail(401, "RepoNotFound")
        if name in self.hub.gated:
            return self.fail(401, "GatedRepo")
        folder = self.hub.folder(name, revision)
        if folder is None:
            return self.fail(404, "RevisionNotFound")
        main = next(r for r, f in self.hub.revisions[name].items() if f == folder)
        headers = {"X-Repo-Commit": self.hub.commit(name, main)}
        path = folder / file
        if not path.is_file():
            return self.fail(404, "EntryNotFound", headers)
        content = path.read_bytes()
        headers |= {"ETag": f'"{digest(path)}"', "X-Linked-Size": str(len(content))}
        headers |= {"X-Linked-Etag": headers["ETag"], "Accept-Ranges": "bytes"}
        start = int((self.headers.get("Range") or "bytes=0-").removeprefix("bytes=").split("-")[0])
        if start:
            headers["Content-Range"] = f"bytes {start}-{len(content) - 1}/{len(content)}"
        if self.command == "GET" and (hold := self.hub.holds.pop(file, None)):
            self.hub.sent[file] += hold
            return self.say(200, content, headers, hold, hold=True)
        self.hub.sent[file] += (self.command == "GET") * (len(content) - start)
        cut = self.hub.cuts.get(file)
        if cut and self.command == "GET" and self.hub.times.get(file, 0):
            self.hub.times[file] -= 1
            return self.say(206 if start else 200, content[start:], headers, cut)
        return self.say(206 if start else 200, content[start:], headers)

    def fail(self, status, code, headers=None):
        named = {"X-Error-Code": code} if code else {}
        self.say(status, b"", {**(headers or {}), **named})

    def say(self, status, body, headers=None, cut=None, hold=False):
        self.send_response(status)
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body[:cut])
        if hold:
            self.hub.closed.wait()
        if cut:
            self.close_connection = True


def parameters(path):
    with safe_open(path, "np") as file:
        return sum(math.prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118


def entry(path):
    """Return a line of the tree: large files are kept beside the history, by their SHA-256."""
    size = path.stat().st_size
    line = {"type": "file", "path": path.name, "size": size, "oid": digest(path)[:40]}
    if path.suffix in (".safetensors", ".bin"):
        line["lfs"] = {"oid": digest(path), "size": size, "pointerSize": 130}
        line["lfs"]["sha256"] = digest(path)
    return line


def kind_of(name):
    """Return the kind of tiny model that stands under a name: of `example_models`, bin or clip."""
    kinds = {"bert-small": "bin", "mpnet": "encoder", "bert": "masked", "clip": "clip"}
    return next((kind for part, kind in kinds.items() if part in name), "causal")


def old(folder, out):
    """Write a masked BERT as prajjwal1/bert-small has it: no type, no class, a pickled file."""
    import torch
    from transformers import AutoModelForMaskedLM

    out.mkdir()
    weights = AutoModelForMaskedLM.from_pretrained(folder, use_safetensors=True).state_dict()
    torch.save(weights, out / "pytorch_model.bin")
    config = json.loads((folder / "config.json").read_text())
    for key in ("model_type", "architectures", "dtype", "transformers_version"):
        config.pop(key, None)
    (out / "config.json").write_text(json.dumps(config))
    vocabulary = json.loads((folder / "tokenizer.json").read_text())["model"]["vocab"]
    words = sorted(vocabulary, key=vocabulary.get)
    (out / "vocab.txt").write_text("\n".join(words) + "\n")
    return out


def write_clip(folder):
    """Write a tiny CLIP of random weights, as transformers saves one."""
    import torch
    from transformers import CLIPConfig, CLIPModel
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    small = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1}
    small |= {"num_attention_heads": 2}
    tokens = {"vocab_size": 50, "bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 1}
    config = CLIPConfig(
        text_config={**small, **tokens, "max_position_embeddings": 8},
        vision_config={**small, "image_size": 32, "patch_size": 8},
        projection_dim=12,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        CLIPModel(config).save_pretrained(folder)
    size = {"size": {"shortest_edge": 32}, "crop_size": {"height": 32, "width": 32}}
    CLIPImageProcessorPil(**size).save_pretrained(folder)
    return folder
