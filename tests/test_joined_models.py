"""Models in pieces: joined whole, verified and quiet about nothing; small stand-ins for the big."""

import hashlib
import zipfile

import pytest
from packaging.requirements import Requirement

from helpers import joined_models, model_sources, models
from helpers.commands import models_more
from helpers.joined_models import _Pieces


def digest(content):
    return hashlib.sha256(content).hexdigest()


def wheels(folder, parts):
    """Write a wheel per part, and return the pairs that name them."""
    folder.mkdir(exist_ok=True)
    pairs = []
    for number, part in enumerate(parts):
        with zipfile.ZipFile(folder / f"pack_{number}-1.0-py3-none-any.whl", "w") as wheel:
            wheel.writestr(f"pack_{number}/piece", part)
            wheel.writestr(f"pack_{number}/__init__.py", "raise SystemExit('was run')")
        pairs.append((f"pack_{number}-", f"pack_{number}/piece"))
    return tuple(pairs)


@pytest.fixture
def plain(tmp_path):
    content = bytes(range(256)) * 40
    pairs = wheels(tmp_path / "wheels", [content[:5000], content[5000:9000], content[9000:]])
    return _Pieces(pairs, len(content), digest(content)), content


def archived(folder, **changes):
    """Return a zip of a folder in two wheels, and what is in it."""
    inside = {"config.json": b"{}", "vocab.txt": b"the\nsea\n", "../evil": b"out"}
    path = folder / "whole.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in inside.items():
            archive.writestr(f"model/{name}", content)
    content = path.read_bytes()
    pairs = wheels(folder / "wheels", [content[:100], content[100:]])
    sums = {name: digest(inside[name]) for name in ("config.json", "vocab.txt")} | changes
    return _Pieces(pairs, len(content), digest(content), "model/", sums), inside


def test_pieces_become_the_file_and_none_of_their_code_runs(plain, tmp_path):
    pieces, content = plain
    target = tmp_path / "models" / "whole.gguf"
    assert joined_models.join(pieces, tmp_path / "wheels", target) == target
    assert target.read_bytes() == content
    assert [p.name for p in target.parent.iterdir()] == ["whole.gguf"]
    # What is there is left alone, and asks for no wheels.
    assert joined_models.join(pieces, tmp_path / "nowhere", target).read_bytes() == content


def test_of_an_archive_only_the_named_files_are_taken(tmp_path):
    pieces, inside = archived(tmp_path)
    target = joined_models.join(pieces, tmp_path / "wheels", tmp_path / "models" / "folder")
    assert {p.name: p.read_bytes() for p in target.iterdir()} == {
        name: inside[name] for name in ("config.json", "vocab.txt")
    }
    assert not (tmp_path / "models" / "evil").exists()


@pytest.mark.parametrize("fault", ["swapped", "cut", "longer", "absent", "no piece", "no zip"])
def test_other_bytes_are_refused_and_nothing_is_left(plain, tmp_path, fault):
    pieces, _ = plain
    folder, target = tmp_path / "wheels", tmp_path / "models" / "whole.gguf"
    first, second, third = sorted(folder.iterdir())
    if fault == "swapped":
        pieces = pieces._replace(pieces=(pieces.pieces[1], pieces.pieces[0], pieces.pieces[2]))
    elif fault == "cut":
        pieces = pieces._replace(pieces=pieces.pieces[:2])
    elif fault == "longer":
        pieces = pieces._replace(pieces=(*pieces.pieces, pieces.pieces[0]))
    elif fault == "absent":
        third.unlink()
    elif fault == "no piece":
        pieces = pieces._replace(pieces=((pieces.pieces[0][0], "pack_0/other"),))
    else:
        second.write_bytes(b"no zip at all")
    reason = {"longer": "more than", "absent": "has 0 wheels", "no piece": "damaged"}
    reason |= {"no zip": "damaged", "swapped": "sha256", "cut": "sha256"}
    with pytest.raises(ValueError, match=reason[fault]):
        joined_models.join(pieces, folder, target)
    assert not list(target.parent.iterdir())
    assert first.exists()


def test_a_member_with_another_sum_is_refused(tmp_path):
    pieces, _ = archived(tmp_path, **{"vocab.txt": digest(b"other")})
    with pytest.raises(ValueError, match=r"vocab\.txt has sha256"):
        joined_models.join(pieces, tmp_path / "wheels", tmp_path / "models" / "folder")
    assert not list((tmp_path / "models").iterdir())


def test_a_stop_in_the_middle_leaves_nothing(plain, tmp_path, monkeypatch):
    pieces, _ = plain
    real = joined_models._blocks

    def stopped(*given):
        yield next(real(*given))
        raise KeyboardInterrupt

    monkeypatch.setattr(joined_models, "_blocks", stopped)
    with pytest.raises(KeyboardInterrupt):
        joined_models.join(pieces, tmp_path / "wheels", tmp_path / "models" / "whole.gguf")
    assert not list((tmp_path / "models").iterdir())


def test_the_command_joins_what_is_absent_and_the_name_then_stands_for_it(
    tmp_path, monkeypatch, capsys, plain
):
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "cache"))
    folder, inside = archived(tmp_path / "wheels")
    monkeypatch.setattr(
        joined_models,
        "SETS",
        {
            models.MPNET: folder._replace(
                pieces=tuple((f"wheels/{start}", name) for start, name in folder.pieces)
            ),
            models.GEMMA: plain[0],
        },
    )
    with pytest.raises(ValueError, match="make models-more"):
        model_sources.local_source(models.GEMMA)
    words = ["--wheels", str(tmp_path / "wheels")]
    assert models_more.main(words) == 0
    assert model_sources.local_source(models.GEMMA).read_bytes() == plain[1]
    assert (model_sources.local_source(models.MPNET) / "config.json").read_bytes() == b"{}"
    assert models_more.main(["--wheels", str(tmp_path / "nowhere")]) == 0
    capsys.readouterr()
    model_sources.joined_place(models.GEMMA).unlink()
    assert models_more.main(["--wheels", str(tmp_path / "nowhere")]) == 2
    assert "has 0 wheels" in capsys.readouterr().err


def test_the_wheels_that_are_fetched_are_those_that_hold_the_pieces():
    text = joined_models._WHEELS.read_text().split("\n")
    asked = [Requirement(line) for line in text if line and not line.startswith("#")]
    names = {requirement.name.replace("-", "_") + "-" for requirement in asked}
    assert names == {start for each in joined_models.SETS.values() for start, _ in each.pieces}
    assert all(str(requirement.specifier).startswith("==") for requirement in asked)
