"""Counts against a plain substring loop, and the reading of corpora, whole and damaged."""

import gzip
import itertools
import json
import pickle
import random
import re
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pytest
import zstandard
from fm_index import MultiFMIndex
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from helpers.data import ROOT
from helpers.retrieval import corpora, corpus_files, counting

COLUMNS = ["n_subject", "n_object", "n_both"]
# Letters of one to four bytes, two of them alike in lower case, a combining mark, both halves of
# a surrogate pair, and what may stand beside a name.
ALPHABET = "aAbé\u0301ΣςİßЖ中😀\ud83d\ude00 _.1"
texts = st.text(ALPHABET, max_size=30)
names = st.text(ALPHABET, min_size=1, max_size=4)
rules = st.fixed_dictionaries(
    {
        "prefix": st.sampled_from([" ", "", "a", "é", "Σ "]),
        "right_boundary": st.booleans(),
        "case_sensitive": st.booleans(),
    }
)


def holds(text, name, prefix=" ", right_boundary=False, case_sensitive=True):
    wanted = prefix + name
    if not case_sensitive:
        text, wanted = counting._fold(text), counting._fold(wanted)
    if right_boundary:
        return re.search(re.escape(wanted) + r"(?!\w)", text) is not None
    return wanted in text


def loop(documents, pairs, **rule):
    table = np.zeros((len(pairs), 3), dtype=int)
    for text in documents:
        for row, (subject, obj) in enumerate(pairs):
            found = holds(text, subject, **rule), holds(text, obj, **rule)
            table[row] += [*found, all(found)]
    return table


def counted(documents, pairs, **rule):
    counts = counting.count_documents(documents, pairs, **rule)
    assert counts.n_documents == len(documents)
    assert list(zip(counts.table["subject"], counts.table["object"], strict=True)) == pairs
    assert (counts.table[COLUMNS].dtypes == "int64").all()
    return counts.table[COLUMNS].to_numpy()


@given(st.data(), rules)
def test_counts_are_those_of_a_substring_loop(data, rule):
    pool = data.draw(st.lists(names, min_size=1, max_size=6))
    # Names that hold others, at both ends and across an inner space.
    pool += [pool[0] + " " + pool[-1], pool[0] + "b", "b" + pool[0]]
    picked = st.sampled_from(pool)
    pairs = data.draw(st.lists(st.tuples(picked, picked), min_size=1, max_size=8))
    pieces = st.one_of(texts, picked, picked.map(lambda name: rule["prefix"] + name))
    documents = data.draw(st.lists(st.lists(pieces, max_size=6).map("".join), max_size=5))
    expected = loop(documents, pairs, **rule)
    assert (counted(documents, pairs, **rule) == expected).all()
    encoded = [text.encode("utf-8", "surrogatepass") for text in documents]
    assert (counted(encoded, pairs, **rule) == expected).all()


@pytest.mark.parametrize("prefix", [" ", ""])
def test_counts_are_those_of_an_fm_index(prefix):
    draw = random.Random(0)
    documents = ["".join(draw.choices("aab é中😀\0  ", k=draw.randint(1, 40))) for _ in range(300)]
    names = ["".join(draw.choices("ab é中\0", k=draw.randint(1, 3))) for _ in range(40)]
    pairs = list(zip(names[::2], names[1::2], strict=True))
    index = MultiFMIndex(documents)
    held = {name: set(index.count(prefix + name)) for name in names}
    expected = [[len(held[s]), len(held[o]), len(held[s] & held[o])] for s, o in pairs]
    assert counted(documents, pairs, prefix=prefix).tolist() == expected
    assert sum(row[2] > 0 for row in expected) > 5


@given(texts, texts)
def test_lower_case_is_taken_character_by_character(a, b):
    assert counting._fold(a + b) == counting._fold(a) + counting._fold(b)


def test_the_published_rule():
    documents = [
        " Indiana and South Africa, careful",
        "India (India) 'India'",
        " car car car",
        " india",
        "\nIndia",
    ]
    pairs = [("India", "Africa"), ("South Africa", "Africa"), ("car", "car"), ("a", "zz")]
    table = counted(documents, pairs)
    assert table.tolist() == [[1, 1, 1], [1, 1, 1], [2, 2, 2], [1, 0, 0]]
    bounded = counted(documents, pairs, right_boundary=True)
    assert bounded.tolist() == [[0, 1, 0], [1, 1, 1], [1, 1, 1], [0, 0, 0]]
    folded = counted(documents, pairs, case_sensitive=False)
    assert folded.tolist()[0] == [2, 1, 1]
    bare = counted(documents, pairs, prefix="")
    assert bare.tolist()[0] == [3, 1, 1]


@pytest.mark.parametrize(
    ("after", "is_word"),
    [("", False), (".", False), ("é", True), ("中", True), ("\u0301", False), ("٣", True)]
    + [("_", True), ("—", False), ("😀", False), ("𝐀", True), ("\ud800", False), ("7", True)],
)
def test_what_bounds_a_name_at_its_right(after, is_word):
    table = counted([" name" + after], [("name", "none")], right_boundary=True)
    assert table[0, 0] == (not is_word) == (re.search(r"name(?!\w)", "name" + after) is not None)


def test_a_name_counts_when_any_of_its_places_is_bounded():
    for text in (" carts car.", " car. carts"):
        assert counted([text], [("car", "x")], right_boundary=True)[0, 0] == 1


def test_surrogates_and_broken_bytes_match_only_themselves():
    pairs = [("\ud83d", "😀")]
    documents = [" \ud83d", " 😀", " \ud83d\ude00", " \ude00", " ?", " \ufffd"]
    assert counted(documents, pairs).tolist() == [[2, 1, 0]]
    assert counted([b" \xff name", b" n\xff"], [("name", "n")]).tolist() == [[1, 2, 1]]
    bounded = counted([b" name\xff", b" name\xc3"], [("name", "n")], right_boundary=True)
    assert bounded.tolist() == [[2, 0, 0]]
    with pytest.raises(ValueError, match="document 2 is not UTF-8"):
        counting.count_documents([b"a", b" \xff"], pairs, case_sensitive=False)


def test_pairs_may_repeat_and_share_names():
    pairs = [("a", "b"), ("b", "a"), ("a", "b"), ("a", "a"), ("A", "b")]
    documents = [" a b", " a", " b", " A b"]
    expected = loop(documents, pairs)
    assert (counted(documents, pairs) == expected).all()
    assert expected[:4].tolist() == [[2, 3, 1], [3, 2, 1], [2, 3, 1], [2, 2, 2]]
    folded = counted(documents, pairs, case_sensitive=False)
    assert folded[0].tolist() == folded[4].tolist() == [3, 3, 2]


def test_documents_are_read_once_and_one_at_a_time():
    seen = []

    def stream():
        for text in (" a", b" b", " a b"):
            seen.append(text)
            yield text

    counts = counting.count_documents(stream(), (("a", "b"),))
    assert counts.n_documents == 3 and len(seen) == 3
    assert counts.table[COLUMNS].to_numpy().tolist() == [[2, 2, 1]]
    nothing = counting.count_documents([], [("a", "b")])
    assert nothing.n_documents == 0 and not nothing.table[COLUMNS].to_numpy().any()


@given(st.data(), rules, st.integers(0, 12), st.integers(0, 12), st.sampled_from([0, 9]))
def test_documents_stay_apart_in_every_way_of_the_search(data, rule, batch, large, times):
    picked = st.sampled_from(["a", "ab", "b a", "é", "1_", "Σ"])
    pairs = data.draw(st.lists(st.tuples(picked, picked), min_size=1, max_size=4))
    pieces = st.one_of(picked, picked.map(lambda name: rule["prefix"] + name), st.just(" "))
    documents = data.draw(st.lists(st.lists(pieces, max_size=3).map("".join), max_size=9))
    # Where names repeat, the documents that follow are searched one by one.
    documents.insert(0, (rule["prefix"] + pairs[0][0]) * times)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(counting, "_BATCH", batch)
        patch.setattr(counting, "_LARGE", large)
        assert (counted(documents, pairs, **rule) == loop(documents, pairs, **rule)).all()


@pytest.mark.parametrize(
    ("text", "large", "n"),
    [(" car" * 5 + " Ho a a", 99, 40), (" car a Ho", 99, 0), (" a" * 6, 12, 0)],
)
def test_documents_in_which_names_repeat_are_searched_one_by_one(text, large, n, monkeypatch):
    monkeypatch.setattr(counting, "_BATCH", 100)
    monkeypatch.setattr(counting, "_LARGE", large)
    names, alone = ("car", "Ho", "a", "none"), []
    index = counting.NameIndex([names[:2], names[2:]])
    firsts = index._scanner.firsts
    index._scanner.firsts = lambda batch: alone.extend(batch) or firsts(batch)
    assert index.tally([text] * 41).names == [41 * (" " + name in text) for name in names]
    assert len(alone) == n


def test_bytes_that_stand_between_documents_may_stand_in_them():
    pairs = [("a", "b")]
    documents = [b" a\xff b", b"\xff", b" a", b"\xff b\xff", b""]
    for rule in ({}, {"right_boundary": True}):
        assert counted(documents, pairs, **rule).tolist() == [[2, 2, 1]]
    broken = [b" a\xc3", b" a\xe4\xb8", b" a\xf0\x9d", b" a\xc3b", b" a\xffb", b" a\x80b"]
    assert counted(broken, pairs, right_boundary=True).tolist() == [[6, 0, 0]]


def test_an_index_can_be_pickled():
    for prefix, texts in {"": ["ä b", "Bc b"], " ": [" ä b", "B c b"]}.items():
        index = counting.NameIndex([("Ä", "b"), ("c", "b")], counting.Rule(prefix, True, False))
        again = pickle.loads(pickle.dumps(index))
        assert again.tally(texts) == index.tally(texts) == (2, [1, 2, 1], [1, 1])


@pytest.mark.parametrize(
    ("documents", "pairs", "error", "words"),
    [
        ("one text", [("a", "b")], ValueError, "documents is one string"),
        ([], [], ValueError, "pairs is empty"),
        ([], [("a", "")], ValueError, "row 0 of pairs .* not empty"),
        ([], [("a", "b"), ("c", None)], ValueError, "row 1 of pairs .*None"),
        ([], ["ab"], ValueError, "row 0 of pairs is 'ab'"),
        ([], [("a", "b", "c")], ValueError, "row 0 of pairs"),
        ([" a", 7], [("a", "b")], TypeError, "document 2 is of type int"),
    ],
)
def test_bad_arguments_are_named(documents, pairs, error, words):
    for case_sensitive in (True, False):
        with pytest.raises(error, match=words):
            counting.count_documents(documents, pairs, case_sensitive=case_sensitive)
    with pytest.raises(ValueError, match="prefix is None"):
        counting.count_documents([" a"], [("a", "b")], prefix=None)


def test_pairs_are_read_from_a_file_as_they_stand(tmp_path):
    file = tmp_path / "facts.csv"
    file.write_text('relation,object,subject\nr,"Paris, Texas",NA\nr,None,1.0\n')
    assert counting.read_pairs(file) == [("NA", "Paris, Texas"), ("1.0", "None")]
    file.write_text("subj,object\na,b\n")
    with pytest.raises(ValueError, match="no column subject, only subj, object"):
        counting.read_pairs(file)
    assert counting.read_pairs(file, ("object", "subj")) == [("b", "a")]


@pytest.mark.parametrize("name", ["facts.tsv", "facts.csv", "facts.TSV"])
def test_pairs_separated_by_tabs_or_by_commas_whatever_the_name(name, tmp_path):
    (tmp_path / name).write_text('\ufeffobject\tsubject\na, b\t"c ""d"""\r\n\n e\tf "g"\n')
    assert counting.read_pairs(tmp_path / name) == [('c "d"', "a, b"), ('f "g"', " e")]
    (tmp_path / name).write_text("subject,object\na\tb,c\n")
    assert counting.read_pairs(tmp_path / name) == [("a\tb", "c")]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (b'a,b\n"two\nlines",b\n\n,c\n', "line 6: a name is empty"),
        (b"a,b\r\nc\r\n", "line 3: a name is empty"),
        (b"a,b\na,b,c\n", "line 3: 3 fields, but the header has 2; put quotes"),
        (b"a,b\na,\xff\n", "line 3: no UTF-8"),
        (b'a,b\n"a" b,c\n', "line 3: .* write a quote within quotes twice"),
        (b'a,b\n"a,c\nd,e\n', "line 3: "),
    ],
)
def test_what_is_wrong_with_pairs_is_told_with_the_line_that_an_editor_shows(
    rows, message, tmp_path
):
    (tmp_path / "facts.csv").write_bytes(b"subject,object\n" + rows)
    with pytest.raises(ValueError, match=f"facts.csv, {message}"):
        counting.read_pairs(tmp_path / "facts.csv")


def test_a_header_may_have_a_line_break_and_what_is_no_table_is_told(tmp_path):
    (tmp_path / "a.csv").write_text('"note\nmore",subject,object\nx,a,b\n')
    assert counting.read_pairs(tmp_path / "a.csv") == [("a", "b")]
    (tmp_path / "corpus.csv").write_text("x" * 140_000)
    with pytest.raises(ValueError, match="line 1: field larger than field limit"):
        counting.read_pairs(tmp_path / "corpus.csv")


def test_documents_of_nothing_are_not_kept_either(monkeypatch):
    monkeypatch.setattr(counting, "_BATCH", 1000)
    index = counting.NameIndex([("a", "b")])
    assert max(len(batch) for batch, _ in index._batches(itertools.repeat(b"", 5000))) <= 1001
    assert index.tally(itertools.repeat(b"", 5000)).n_documents == 5000


DENSE = """
import resource, sys
from helpers.retrieval import counting, name_matching
name_matching.hyperscan = name_matching.hyperscan if sys.argv[1] == "hyperscan" else None
name_matching._PIECE >>= 2
text = b"abcdefgh" * (1 << 19)
rule = counting.Rule("", sys.argv[2] == "boundary", True)
index = counting.NameIndex([(a, b) for a in "abcdefgh" for b in "abcdefgh"], rule)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
before = peak()
print(sum(index.tally([text]).names), peak() - before)
"""


@pytest.mark.parametrize("words", ["hyperscan none", "hyperscan boundary", "automaton none"])
def test_the_matches_of_a_large_document_are_never_all_in_memory(words):
    program = [sys.executable, "-c", DENSE, *words.split()]
    done = subprocess.run(program, cwd=ROOT, capture_output=True, text=True)
    n, megabytes = map(float, done.stdout.split())
    # All of its 4 million matches would take 83 MB and more.
    assert n == (1 if "boundary" in words else 8) and megabytes < 70, done.stderr


DOCUMENTS = ["one", "zwölf 😀", "two\u2028lines\r\nor\nthree", "", "x" * 70_000]


def frames(data, size=1000):
    pack = zstandard.ZstdCompressor().compress
    skippable = b"\x50\x2a\x4d\x18\x03\x00\x00\x00abc"
    pieces = (pack(data[i : i + size]) for i in range(0, len(data), size))
    return skippable + skippable.join(pieces)


PACKERS = {
    "": bytes,
    ".gz": lambda data: gzip.compress(data[:50]) + gzip.compress(data[50:]),
    ".zst": frames,
}


def write_jsonl(folder, ending, records):
    lines = "".join(
        line if isinstance(line, str) else json.dumps(line) + "\n" for line in records
    ).encode()
    path = folder / f"c.jsonl{ending}"
    path.write_bytes(PACKERS[ending](lines))
    return path


def read(source, **options):
    """Return the documents as text and the report of a corpus."""
    report = corpora.Report()
    documents = list(corpora.read_documents(source, report=report, **options))
    return [text.decode("utf-8", "surrogatepass") for text in documents], report


@pytest.mark.parametrize("ending", PACKERS)
def test_json_lines(tmp_path, ending):
    path = write_jsonl(tmp_path, ending, [{"id": 1, "text": text} for text in DOCUMENTS])
    documents, report = read(path)
    assert documents == DOCUMENTS and not report.counts


@pytest.mark.parametrize("ending", PACKERS)
def test_plain_text_by_line_and_by_file(tmp_path, ending):
    path = tmp_path / f"c.txt{ending}"
    text = "\ufeffone \r\n\n zwölf\n \nlast".encode()
    path.write_bytes(PACKERS[ending](text))
    assert read(path) == (["one ", " zwölf", "last"], corpora.Report())
    assert read(path, unit="file")[0] == [text.decode()[1:]]
    with pytest.raises(ValueError, match="unit is 'page'"):
        corpora.read_documents(path, unit="page")


@pytest.mark.parametrize("type_", [pa.string(), pa.large_string(), pa.binary(), pa.string_view()])
def test_arrow_streams_of_each_type_of_text(tmp_path, type_):
    values = [text.encode() if type_ == pa.binary() else text for text in DOCUMENTS]
    table = pa.table({"other": range(5), "words": pa.array(values, type_)})
    with pa.ipc.new_stream(tmp_path / "c.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=2)
    assert read(tmp_path / "c.arrow", column="words") == (DOCUMENTS, corpora.Report())


def test_parquet_of_several_groups_and_dictionaries(tmp_path):
    many = DOCUMENTS * 50
    texts = pa.array(many).dictionary_encode()
    table = pa.table({"text": texts, "other": range(250)})
    parquet.write_table(table, tmp_path / "c.parquet", row_group_size=70)
    assert read(tmp_path / "c.parquet") == (many, corpora.Report())


@pytest.mark.parametrize("where", ["../secret.txt", "/absolute/secret.txt", ".", "", "link/a.txt"])
@pytest.mark.parametrize("file", ["state.json", "dataset_dict.json"])
def test_a_dataset_names_no_file_outside_of_its_folder(where, file, tmp_path):
    folder, where = tmp_path / "data", where.replace("/absolute", str(tmp_path))
    folder.mkdir()
    (folder / "link").symlink_to(tmp_path)
    (tmp_path / "secret.txt").write_text("secret")
    named = {"_data_files": [{"filename": where}], "splits": [where]}
    (folder / file).write_text(json.dumps(named))
    with pytest.raises(ValueError, match=f"{file} names .*not inside of its folder; put the file"):
        corpus_files.list_files(folder)


@pytest.mark.parametrize(
    "text",
    ["{}", "[]", "3", "no JSON", '{"_data_files": 3, "splits": 3}', '{"_data_files": [{}]}']
    + ['{"_data_files": [{"filename": 3}], "splits": [3]}', "[" * 200_000],
    ids=lambda text: text[:20],
)
@pytest.mark.parametrize("file", ["state.json", "dataset_dict.json"])
def test_a_damaged_description_of_a_dataset_is_named(text, file, tmp_path):
    (tmp_path / file).write_text(text)
    with pytest.raises(ValueError, match=f"{file} .*; save the dataset to disk again"):
        corpus_files.list_files(tmp_path)


def test_datasets_on_disk(tmp_path):
    from datasets import Dataset, DatasetDict

    train, test = Dataset.from_dict({"text": DOCUMENTS}), Dataset.from_dict({"text": ["t"]})
    train.select([4, 0, 1]).save_to_disk(tmp_path / "one")
    assert read(tmp_path / "one")[0] == [DOCUMENTS[i] for i in (4, 0, 1)]
    both = DatasetDict({"train": train, "test": test})
    both.save_to_disk(tmp_path / "two", num_shards={"train": 3, "test": 1})
    assert read(tmp_path / "two")[0] == [*DOCUMENTS, "t"]
    assert read(tmp_path / "t*")[0] == [*DOCUMENTS, "t"]


def test_the_bytes_that_are_read_are_told(tmp_path):
    table = pa.table({"text": DOCUMENTS * 200})
    parquet.write_table(table, tmp_path / "c.parquet", row_group_size=100, use_dictionary=False)
    paths = [write_jsonl(tmp_path, end, [{"text": "x" * 10}] * 30_000) for end in PACKERS]
    for path in [*paths, tmp_path / "c.parquet"]:
        steps = []
        assert len(read(path, advance=steps.append)[0]) in (1000, 30_000)
        assert (
            sum(steps) == pytest.approx(path.stat().st_size, rel=0.1, abs=200) and len(steps) >= 2
        )


def test_files_are_found_once_each_and_in_order(tmp_path):
    for name in ("b.txt", "a.txt", "c.jsonl"):
        (tmp_path / name).write_text('{"text": "d"}\n')
    (tmp_path / "again.txt").symlink_to(tmp_path / "a.txt")
    a, b, c = (str(tmp_path / name) for name in ("a.txt", "b.txt", "c.jsonl"))
    assert corpus_files.list_files(tmp_path / "*.txt") == [a, b]
    assert corpus_files.list_files([c, f"{tmp_path}/*", a]) == [c, a, b]
    assert corpus_files.list_files([a, tmp_path / "again.txt"]) == [a]
    for wrong in ("nothing-known://a.jsonl", "lakefs://a/b.jsonl"):
        with pytest.raises(ValueError, match=f"{wrong} cannot be opened .*; pass a file"):
            read(wrong)
    url = f"file://{tmp_path}/*.jsonl"
    assert read(url)[0] == read(f"file://{c}")[0] == ["d"]
    with pytest.raises(FileNotFoundError, match="nothing"):
        corpus_files.list_files(tmp_path / "nothing*")
    with pytest.raises(FileNotFoundError, match="nothing"):
        corpus_files.list_files(f"file://{tmp_path}/nothing.txt")
    with pytest.raises(ValueError, match="no dataset saved to disk"):
        corpus_files.list_files(tmp_path)
    (tmp_path / "d.csv").touch()
    with pytest.raises(ValueError, match=r"d\.csv is of no kind"):
        corpus_files.list_files(tmp_path / "d.csv")


BAD_LINES = {
    2: ('{"text": "cut\n', "broken JSON"),
    4: ({"body": "x"}, "no text"),
    5: ({"text": None}, "no text"),
    6: ({"text": ["x"]}, "not a string"),
    7: ("[1, 2]\n", "no text"),
    9: ("[" * 3000 + "\n", "broken JSON"),
}


def test_bad_json_lines_are_reported_with_file_and_line(tmp_path):
    records = [{"text": str(n)} for n in range(1, 11)]
    for line, (record, _) in BAD_LINES.items():
        records[line - 1] = record
    path = write_jsonl(tmp_path, "", records)
    with open(path, "ab") as file:
        file.write(b'{"text": "\xff"}\n{"text": "\\ud800", "x": NaN}\n')
    documents, report = read(path)
    assert documents == ["1", "3", "8", "10", "\ud800"]
    assert report.counts == {"broken JSON": 2, "no text": 3, "not a string": 1, "bad bytes": 1}
    expected = {(f"line {line}", kind) for line, (_, kind) in BAD_LINES.items()}
    assert {(p.place, p.kind) for p in report.first} == expected | {("line 11", "bad bytes")}
    assert {problem.file for problem in report.first} == {str(path)}
    assert f"{path}, line 6: 'text' is of type list" in str(report)
    with pytest.raises(corpora.CorpusError, match="line 2: broken JSON"):
        list(corpora.read_documents(path, strict=True))
    with pytest.warns(UserWarning, match="left out: 3 x no text"):
        list(corpora.read_documents(path))


def test_bad_bytes_of_plain_text(tmp_path):
    path = tmp_path / "c.txt"
    path.write_bytes(b"one\ntw\xffo\nthree\n")
    documents, report = read(path)
    assert documents == ["one", "three"]
    assert report.first[0][0::2] == ("bad bytes", "line 2")
    assert read(path, unit="file")[1].counts == {"bad bytes": 1}


@pytest.mark.parametrize("ending", [".gz", ".zst"])
def test_an_archive_that_is_cut_or_corrupt_keeps_what_is_before(tmp_path, ending):
    rng = np.random.default_rng(0)
    texts = [rng.bytes(500).hex() for _ in range(200)]
    path = write_jsonl(tmp_path, ending, [{"text": text} for text in texts])
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], whole[: len(whole) // 2] + b"\0" * 20_000, b""):
        path.write_bytes(damaged)
        documents, report = read(path)
        assert report.counts == {"damaged file": 1}
        # Where the zeros begin, text may be garbled: only its end holds an archive's checksum.
        assert documents[:90] == texts[: len(documents)][:90]
        assert report.first[0].place == f"after line {len(documents)}"
        assert (len(documents) > 20) == bool(damaged)
        with pytest.raises(corpora.CorpusError, match="damaged file"):
            list(corpora.read_documents(path, strict=True))


def test_tables_report_rows_that_hold_no_text(tmp_path):
    values = pa.array([b"one", None, b"\xff", b"four"])
    broken = pa.StringArray.from_buffers(4, values.buffers()[1], values.buffers()[2], null_count=0)
    for name, column in {"bytes": values, "text": broken}.items():
        parquet.write_table(pa.table({"text": column}), tmp_path / f"{name}.parquet")
    documents, report = read(tmp_path / "bytes.parquet")
    assert documents == ["one", "four"]
    assert [(p.kind, p.place) for p in report.first] == [
        ("no text", "row 2"),
        ("bad bytes", "row 3"),
    ]
    documents, report = read(tmp_path / "text.parquet")
    assert documents == ["one", "", "four"] and report.first[0].place == "row 3"
    parquet.write_table(pa.table({"text": [1, 2], "b": [3, 4]}), tmp_path / "numbers.parquet")
    assert read(tmp_path / "numbers.parquet")[1].counts == {"not a string": 2}
    assert read(tmp_path / "numbers.parquet", column="words")[1].counts == {"no text": 2}


def test_damaged_tables_are_reported_and_missing_files_are_errors(tmp_path):
    rng = np.random.default_rng(0)
    table = pa.table({"text": [rng.bytes(200).hex() for _ in range(2000)]})
    path = tmp_path / "c.parquet"
    parquet.write_table(table, path, row_group_size=500)
    whole = bytearray(path.read_bytes())
    path.write_bytes(whole[: len(whole) // 2])
    assert read(path)[1].counts == {"damaged file": 1}
    with pa.ipc.new_stream(tmp_path / "c.arrow", table.schema) as stream:
        stream.write_table(table, max_chunksize=100)
    cut = (tmp_path / "c.arrow").read_bytes()
    (tmp_path / "c.arrow").write_bytes(cut[: len(cut) // 2])
    documents, report = read(tmp_path / "c.arrow")
    assert report.counts == {"damaged file": 1} and 500 < len(documents) < 1500
    assert documents == table["text"].to_pylist()[: len(documents)]
    gone = corpora.read_documents(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        next(gone)


def test_reports_add_up_and_keep_the_first_places():
    total = corpora.Report(most=3)
    for file in ("a", "b"):
        part = corpora.Report(most=3)
        for line in (1, 2):
            part.add(corpora.Problem("bad bytes", file, f"line {line}", "why"))
        total.merge(part)
    assert total.counts == {"bad bytes": 4}
    assert [p.file + p.place for p in total.first] == ["aline 1", "aline 2", "bline 1"]
    assert str(total).splitlines()[0] == "left out: 4 x bad bytes" and str(total).endswith("...")
