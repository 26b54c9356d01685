import hashlib
import http.server
import subprocess
import sys
import threading

import pandas as pd
import pytest

from helpers import data

BODY = b"counts of names in documents\n" * 4000


class Handler(http.server.BaseHTTPRequestHandler):
    hits: list[str] = []

    def do_GET(self):
        Handler.hits.append(self.path)
        if self.path == "/gone":
            self.send_error(404)
            return
        body = BODY[:-1] + b"!" if self.path == "/altered" else BODY
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body[: len(body) // 2] if self.path == "/truncated" else body)

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def server():
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=httpd.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()


@pytest.fixture
def table(server):
    Handler.hits.clear()
    row = {"bytes": len(BODY), "sha256": hashlib.sha256(BODY).hexdigest(), "licence": "test"}
    keys = ("good", "altered", "truncated", "gone")
    frame = pd.DataFrame([{"key": f"part/{k}.txt", "url": f"{server}/{k}", **row} for k in keys])
    return frame.set_index("key")


def files(folder):
    return sorted(p.name for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock")


def test_download_is_verified_cached_and_not_repeated(clean_data, table):
    path = data.fetch("part/good.txt", table=table)
    assert path == clean_data / "part" / "good.txt" and path.read_bytes() == BODY
    assert data.fetch("part/good.txt", table=table) == path
    assert Handler.hits == ["/good"]


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("altered", "another sha256"),
        ("truncated", "broke off|no connection"),
        ("gone", "the server answered 404"),
    ],
)
def test_a_bad_download_names_everything_and_leaves_nothing(clean_data, table, key, reason):
    with pytest.raises(data.DataError, match=reason) as caught:
        data.fetch(f"part/{key}.txt", table=table)
    text = str(caught.value)
    for word in (f"part/{key}.txt", f"/{key}", f"{len(BODY):,} bytes", "BOOK_DATA_MIRROR"):
        assert word in text
    assert str(clean_data / "part" / f"{key}.txt") in text
    assert files(clean_data) == []


def test_no_network_is_one_clear_error_and_asked_once(clean_data, table, monkeypatch):
    table = table.assign(url="http://127.0.0.1:9/nobody")
    with pytest.raises(data.DataError, match="no connection to 127.0.0.1:9"):
        data.fetch("part/good.txt", table=table)
    monkeypatch.setattr("pooch.retrieve", lambda *a, **k: pytest.fail("the server was asked again"))
    with pytest.raises(data.DataError, match="no connection"):
        data.fetch("part/good.txt", table=table)
    assert files(clean_data) == []


def test_offline_asks_nobody(clean_data, table, monkeypatch):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    with pytest.raises(data.DataError, match="BOOK_OFFLINE"):
        data.fetch("part/good.txt", table=table)
    assert Handler.hits == []


@pytest.mark.parametrize("damage", [BODY[:100], BODY[:-1] + b"?"], ids=["truncated", "altered"])
def test_a_damaged_cache_is_fetched_anew(clean_data, table, damage):
    path = clean_data / "part" / "good.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    assert data.fetch("part/good.txt", table=table).read_bytes() == BODY


def test_the_mirror_comes_before_the_network(clean_data, table, tmp_path, monkeypatch):
    mirror = tmp_path / "mirror"
    (mirror / "part").mkdir(parents=True)
    (mirror / "part" / "good.txt").write_bytes(BODY)
    monkeypatch.setenv("BOOK_DATA_MIRROR", str(mirror))
    assert data.fetch("part/good.txt", table=table) == mirror / "part" / "good.txt"
    assert Handler.hits == []


@pytest.mark.parametrize(
    ("damage", "reason"), [(BODY[:100], "100 bytes, not"), (BODY[:-1] + b"?", "sha256 is")]
)
def test_a_wrong_file_in_the_mirror_is_an_error(
    clean_data, table, tmp_path, monkeypatch, damage, reason
):
    path = tmp_path / "mirror" / "part" / "good.txt"
    path.parent.mkdir(parents=True)
    path.write_bytes(damage)
    monkeypatch.setenv("BOOK_DATA_MIRROR", str(tmp_path / "mirror"))
    with pytest.raises(data.DataError, match=reason):
        data.fetch("part/good.txt", table=table)


def test_a_file_changed_after_it_was_verified_is_read_again(clean_data, table, monkeypatch):
    path = data.fetch("part/good.txt", table=table)
    path.write_bytes(BODY[:-1] + b"?")
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    with pytest.raises(data.DataError):
        data.fetch("part/good.txt", table=table)


def test_two_processes_fetch_one_key_at_once(clean_data, table, tmp_path):
    registry = tmp_path / "registry.tsv"
    table.to_csv(registry, sep="\t")
    code = (
        "import sys; from pathlib import Path; from helpers import data; "
        "print(data.fetch('part/good.txt', table=data.registry(Path(sys.argv[1]))))"
    )
    words = [sys.executable, "-c", code, str(registry)]
    both = [subprocess.Popen(words, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    paths = {process.communicate()[0].strip() for process in both}
    assert [process.returncode for process in both] == [0, 0]
    assert paths == {str(clean_data / "part" / "good.txt")}
    assert Handler.hits == ["/good"] and files(clean_data) == ["good.txt"]


def test_progress_is_shown(clean_data, table, capfd):
    data.fetch("part/good.txt", table=table, progress=True)
    assert "100%" in capfd.readouterr().err


def test_a_cache_that_cannot_be_written(clean_data, table, monkeypatch, tmp_path):
    blocked = tmp_path / "a file, not a folder"
    blocked.write_text("")
    monkeypatch.setenv("BOOK_DATA_CACHE", str(blocked))
    with pytest.raises(data.DataError, match="cannot be written"):
        data.fetch("part/good.txt", table=table)


def test_an_unknown_key_and_an_unknown_prefix_are_refused():
    with pytest.raises(data.DataError, match="is no key"):
        data.fetch("no/such.csv")
    with pytest.raises(data.DataError, match="no key .* begins with"):
        data.keys("no/such/")


def test_nothing_is_available_without_a_source(clean_data, monkeypatch):
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    assert not data.available("manifolds/linreg_data_export.csv")


def test_the_registry_is_complete():
    table = data.registry()
    assert table.index.is_unique
    # No key leaves its folder.
    assert table.index.str.fullmatch(r"[\w.-]+(/[\w.-]+)*").all()
    assert not table.index.str.contains("..", regex=False).any()
    assert table.sha256.str.fullmatch("[0-9a-f]{64}").all()
    assert table.url.str.startswith("https://").all() and (table.bytes > 0).all()
    assert table.licence.notna().all()


def test_what_was_made_is_kept_until_what_it_is_made_of_changes(clean_data, tmp_path):
    made, source = [], tmp_path / "source.py"
    source.write_text("one")

    def make():
        made.append(len(made))
        return {"texts": ["a\u2028b", "é"], "n": len(made)}

    def kept(*more):
        return data.kept("name", [source, *more], make)

    assert kept() == kept() == {"texts": ["a\u2028b", "é"], "n": 1}
    assert kept("seed")["n"] == 2
    source.write_text("two")
    assert kept()["n"] == 3 and kept("seed")["n"] == 4
    for path in (clean_data / "made").iterdir():
        content = path.read_bytes()
        path.write_bytes(content[:-3] + b"9" + content[-2:])
    assert kept()["n"] == 5 == kept()["n"]
    assert not list(path.parent.glob(".*.part"))


def test_where_nothing_can_be_kept_it_is_made_each_time(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "file"))
    made = []
    for n in (1, 2):
        assert data.kept("name", [], lambda: made.append(1) or len(made)) == n
