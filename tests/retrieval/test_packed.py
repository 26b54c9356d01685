"""Ranges of files hold each document once, at its own line, however the file is cut and packed."""

import json

import pyarrow as pa
import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from helpers.retrieval import corpora, corpus_files, packed

LARGEST = 9
# Ends of lines of both kinds, letters of one to four bytes, a broken one, and long lines.
PIECES = [b"\n", b"\r\n", b"\n\n", b" ", b"a", "é".encode(), "😀".encode(), b"\xff", b"b" * 15]
contents = st.lists(st.sampled_from(PIECES), max_size=30).map(b"".join)


def expected(content):
    """Return the documents and problems of a text by splitting it whole."""
    lines = content.split(b"\n")
    documents, problems = [], []
    for number, line in enumerate(lines[:-1] if not lines[-1] else lines, 1):
        text = line.removeprefix(b"\xef\xbb\xbf" if number == 1 else b"").removesuffix(b"\r")
        if len(line) > LARGEST:
            problems.append(("too large", f"line {number}"))
        elif not text.strip():
            continue
        elif text.decode("utf-8", "replace").encode() != text:
            problems.append(("bad bytes", f"line {number}"))
        else:
            documents.append(text)
    return documents, sorted(problems)


def read(file, starts):
    """Return the documents and problems of a file, read in ranges that begin at these bytes."""
    documents, problems, before = [], [], 0
    for start, stop in zip(starts, [*starts[1:], None], strict=True):
        one, report = corpus_files.Range(str(file), start, stop), corpora.Report(most=99)
        documents += corpora.read_range(one, "text", "line", LARGEST, report)
        assert corpora.lines_before(one) == before
        problems += [(p.kind, p.behind(before).place) for p in report.first]
        before += report.lines
    return documents, sorted(problems)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(corpora, "BUFFER", 3)
        patch.setattr(packed, "_PIECE", 11)
        patch.setattr(packed, "_SIP", 5)
        yield tmp_path_factory.mktemp("ranges")


@given(contents, st.booleans(), st.lists(st.integers(1, 99), max_size=4))
def test_a_line_belongs_to_one_range_wherever_a_file_is_cut(folder, content, mark, places):
    content = b"\xef\xbb\xbf" * mark + content
    (folder / "c.txt").write_bytes(content)
    starts = [0, *sorted({place for place in places if place < len(content)})]
    assert read(folder / "c.txt", starts) == expected(content)


@settings(max_examples=60)
@given(st.lists(st.tuples(contents, st.booleans()), min_size=1, max_size=5))
def test_a_line_belongs_to_one_range_of_an_archive_and_may_cross_frames(folder, frames):
    archive, starts = b"", []
    for content, is_cut in frames:
        if is_cut or not starts:
            starts.append(len(archive))
        archive += zstandard.compress(content)
    (folder / "c.txt.zst").write_bytes(archive)
    assert read(folder / "c.txt.zst", starts) == expected(b"".join(c for c, _ in frames))


def test_frames_of_an_archive_are_found_without_unpacking(tmp_path):
    archive, begins = b"", []
    streamed = zstandard.ZstdCompressor(write_content_size=False, write_checksum=True)
    for i in range(40):
        text = bytes(range(256)) * (i * 37) + b"x" * (i * 9999)
        pieces = streamed.compressobj()
        begins += [len(archive)]
        frame = pieces.compress(text) + pieces.flush() if i % 2 else zstandard.compress(text)
        archive += frame
        if i % 5 == 0:
            begins += [len(archive)]
            archive += b"\x5a\x2a\x4d\x18\x04\x00\x00\x00skip"
    path = tmp_path / "c.jsonl.zst"
    path.write_bytes(archive)
    assert list(packed._frames(path)) == begins
    for size in (1, 100, 5000, len(archive) // 2):
        starts = packed.cuts(str(path), size)
        assert starts[0] == 0 and starts == sorted(set(starts)) and set(starts) <= set(begins)
    assert packed.cuts(str(path), 1) == begins and packed.cuts(str(path), len(archive)) == [0]
    for damaged in (archive[:-7], archive[: begins[9]] + b"no frame", b"", b"\x28"):
        path.write_bytes(damaged)
        found = list(packed._frames(path))
        assert found == [begin for begin in begins if begin < len(damaged)][: len(found)]
        assert len(found) >= 9 * (len(damaged) > 9)


def test_only_what_can_be_read_in_the_middle_is_cut(tmp_path):
    table = pa.table({"text": [str(i) for i in range(100)]})
    parquet.write_table(table, tmp_path / "c.parquet", row_group_size=7)
    for name in ("c.jsonl", "c.txt", "c.json.gz", "c.arrow", "c.txt.zst"):
        (tmp_path / name).write_bytes(b"{}\n" * 100)
    n = {path.name: len(corpus_files.split(str(path), 60, "line")) for path in tmp_path.iterdir()}
    assert n.pop("c.parquet") > 5
    assert n == {"c.jsonl": 5, "c.txt": 5, "c.json.gz": 1, "c.arrow": 1, "c.txt.zst": 1}
    assert len(corpus_files.split(str(tmp_path / "c.txt"), 60, "file")) == 1
    assert len(corpus_files.split(str(tmp_path / "c.jsonl"), 60, "file")) == 5


@pytest.mark.parametrize("size", [25, 333, 10_000])
def test_row_groups_of_parquet_are_read_once_each_with_the_rows_of_the_file(tmp_path, size):
    texts = [None if i % 10 == 3 else f"text {i}" for i in range(100)]
    path = tmp_path / "c.parquet"
    parquet.write_table(pa.table({"text": texts}), path, row_group_size=7)
    documents, report = [], corpora.Report(most=99)
    for one in corpus_files.split(str(path), size, "line"):
        documents += corpora.read_range(one, "text", "line", 1000, report)
    assert documents == [text.encode() for text in texts if text]
    assert [p.place for p in report.first] == [f"row {i + 1}" for i in range(3, 100, 10)]


def test_what_is_strict_tells_the_line_of_the_file(tmp_path):
    path = tmp_path / "c.jsonl"
    path.write_text((json.dumps({"text": "x" * 30}) + "\n") * 50 + "no JSON\n")
    one = corpus_files.split(str(path), 200, "line")[-1]
    assert one.start > 1000
    with pytest.raises(corpora.CorpusError, match="line 51: broken JSON"):
        list(corpora.read_range(one, "text", "line", 1000, corpora.Report(strict=True)))
