"""The reader's entities, facts, corpus and texts, good and bad."""

import pytest

from helpers.synthesis import signal_inputs


def write(folder, name, text):
    path = folder / name
    path.write_text(text)
    return str(path)


def test_without_files_the_book_asks_its_own():
    found = signal_inputs.read_inputs(n_per_label=10, n_facts=5)
    assert found.own == set() and found.entities.groupby("label").size().eq(10).all()
    assert len(found.facts) == 5 and set(found.missing) == {"corpus", "my texts"}
    assert all(row.choices[0] == row.object for row in found.facts.itertuples())


def test_own_entities_are_drawn_evenly(tmp_path):
    rows = [f"thing {i},{'big' if i < 40 else 'small'}" for i in range(55)] + ["a,rare", "NA,rare"]
    path = write(tmp_path, "e.csv", "name,kind\n" + "\n".join(rows))
    table = signal_inputs.read_entities(path, n_per_label=20)
    assert table.groupby("label").size().to_dict() == {"big": 20, "small": 15}
    assert list(table) == ["text", "label", "group"] and table.text.is_unique
    assert table.group.equals(table.text)


BAD_ENTITIES = {
    "one column": ("text\na\nb\n", "one column"),
    "few rows": ("text,label\na,x\nb,y\n", "fewer than 2 labels"),
    "empty": ("", "could not be read"),
}


@pytest.mark.parametrize("case", BAD_ENTITIES)
def test_bad_entities_leave_out_their_signal_only(case, tmp_path):
    text, words = BAD_ENTITIES[case]
    found = signal_inputs.read_inputs(entities_file=write(tmp_path, "e.csv", text), n_facts=5)
    assert words in found.missing["categories"] and "facts" not in found.missing


def test_own_facts_have_prompts_or_known_relations(tmp_path):
    rows = "".join(f"s{i},o{i % 3},The o of s{i} is \n" for i in range(6))
    table = signal_inputs._read_facts(
        write(tmp_path, "f.csv", "subject,object,prompt\n" + rows), 4, 3
    )
    assert len(table) == 4 and table.prompt.str.endswith("is").all()
    assert table.choices.map(len).eq(3).all()
    text = "subject,object,relation\nFrance,Paris,capital\nSpain,Madrid,capital\n"
    table = signal_inputs._read_facts(write(tmp_path, "g.csv", text))
    assert "The capital of France is" in set(table.prompt)
    gaps = f"{text},Rome,capital\nItaly,Rome,\n"
    again = signal_inputs._read_facts(write(tmp_path, "h.csv", gaps))
    assert again.equals(table)


BAD_FACTS = {
    "no object": ("subject\na\n", "no column 'object'"),
    "no question": ("subject,object\na,b\nc,d\n", "add `prompt`"),
    "one object": ("subject,object,prompt\na,b,q\nc,b,q\n", "two different objects"),
}


@pytest.mark.parametrize("case", BAD_FACTS)
def test_bad_facts_leave_out_what_needs_them(case, tmp_path):
    text, words = BAD_FACTS[case]
    found = signal_inputs.read_inputs(facts_file=write(tmp_path, "f.csv", text), n_per_label=10)
    assert words in found.missing["facts"] and words in found.missing["corpus"]
    assert "categories" not in found.missing


def test_own_corpus_is_counted(tmp_path, monkeypatch):
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "cache"))
    text = "subject,object,prompt\nAnna,Rome,Anna lives in\nBert,Oslo,Bert lives in\n"
    facts = write(tmp_path, "f.csv", text)
    lines = ["So Anna is in Rome now", "See Anna and Bert", "Here: Oslo, Bert", "Nobody"]
    corpus = write(tmp_path, "c.txt", "\n".join(lines))
    found = signal_inputs.read_inputs(facts_file=facts, corpus=corpus, n_per_label=10)
    rows = found.facts.set_index("subject")
    assert rows.n_documents.eq(4).all() and found.own == {"facts", "corpus"}
    assert rows.loc["Anna", ["n_subject", "n_object", "n_both"]].tolist() == [2, 1, 1]
    assert rows.loc["Bert", ["n_subject", "n_object", "n_both"]].tolist() == [2, 1, 1]


def test_a_corpus_that_is_not_there_is_said(tmp_path):
    found = signal_inputs.read_inputs(corpus=str(tmp_path / "none*.txt"), n_facts=5, n_per_label=10)
    assert "none" in found.missing["corpus"] and "facts" not in found.missing


def test_the_stand_in_is_not_counted_for_own_facts(tmp_path):
    facts = write(tmp_path, "f.csv", "subject,object,prompt\na,b,q\nc,d,q\n")
    found = signal_inputs.read_inputs(facts_file=facts, corpus="factbook", n_per_label=10)
    assert "the book's own facts only" in found.missing["corpus"]


def test_own_texts(tmp_path):
    path = write(tmp_path, "t.txt", "one\n\ntwo\nthree\n")
    assert signal_inputs.read_inputs(texts_file=path, n_facts=5, most_texts=2).texts == [
        "one",
        "two",
    ]
    found = signal_inputs.read_inputs(texts_file=str(tmp_path / "none.txt"), n_facts=5)
    assert found.missing["my texts"] and found.texts == []
