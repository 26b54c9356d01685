import gc
import json
import os
import shutil
import sys
from pathlib import Path

# Building the grammars of internet addresses takes a second; notebooks hold none to check.
sys.modules["rfc3987_syntax"] = None
# One thread a process: several processes are at work, and threads that wait for each other spin.
for name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(name, "1")

import hypothesis  # noqa: E402
import nbformat  # noqa: E402
import pytest  # noqa: E402
import warm_kernel  # noqa: E402
import yaml  # noqa: E402

from helpers import data  # noqa: E402
from helpers.book import environment, pipeline, planning  # noqa: E402

ROOT = data.ROOT
# The same examples in every run; HYPOTHESIS_PROFILE=explore draws new ones.
hypothesis.settings.register_profile("fixed", derandomize=True, deadline=None)
hypothesis.settings.register_profile("explore", max_examples=1000, deadline=None)
hypothesis.settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


@pytest.fixture
def clean_data(monkeypatch, tmp_path):
    """An empty cache, no mirror, and no memory of servers that did not answer."""
    for name in ("BOOK_DATA_MIRROR", "BOOK_OFFLINE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BOOK_DATA_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("BOOK_DATA_TIMEOUT", "5")
    data._unreachable.clear()
    yield tmp_path / "cache"
    data._unreachable.clear()


@pytest.fixture
def write_notebook(monkeypatch, tmp_path):
    """Write small notebooks into a folder that the planner takes for notebooks/."""
    folder = tmp_path / "notebooks"
    (folder / "parameters").mkdir(parents=True)
    monkeypatch.setattr(planning, "_NOTEBOOKS", folder)
    monkeypatch.setattr(planning, "_PROFILES", folder / "parameters")

    def write(name: str, *code: str, parameters: str = "n: int = 1  # a number") -> Path:
        nb = nbformat.v4.new_notebook()
        nb.metadata["kernelspec"] = {
            "name": "python3",
            "display_name": "Python 3",
            "language": "python",
        }
        nb.cells.append(nbformat.v4.new_markdown_cell("# A page"))
        nb.cells.append(nbformat.v4.new_code_cell(parameters, metadata={"tags": ["parameters"]}))
        nb.cells += [nbformat.v4.new_code_cell(text) for text in code]
        path = folder / f"{name}.ipynb"
        path.parent.mkdir(parents=True, exist_ok=True)
        nbformat.write(nb, path)
        return path

    return write


@pytest.fixture(scope="module")
def clip(tmp_path_factory):
    """A tiny CLIP of random weights, saved as transformers saves one."""
    from stand_in_hub import write_clip

    return write_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="session")
def bert(tmp_path_factory) -> Path:
    """The folder of a tiny BERT of random weights, with the tokenizer of MiniLM."""
    import torch
    import transformers

    from helpers import model_sources, models

    folder = tmp_path_factory.mktemp("bert")
    tokenizer = transformers.AutoTokenizer.from_pretrained(
        model_sources.local_source(models.MINILM)
    )
    sizes = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
    sizes |= {"num_attention_heads": 2, "vocab_size": len(tokenizer), "initializer_range": 0.3}
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.BertModel(transformers.BertConfig(**sizes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium, the one that every test of pages shares."""
    from playwright.sync_api import sync_playwright

    path = environment.get_chromium()
    flags = ["--no-sandbox", "--disable-background-networking", "--disable-component-update"]
    with sync_playwright() as driver:
        # Scroll bars are shown, as readers have them: what scrolls must show that it does.
        browser = driver.chromium.launch(
            executable_path=path, args=flags, ignore_default_args=["--hide-scrollbars"]
        )
        yield browser
        browser.close()


def _run(
    nursery: warm_kernel.Nursery, words: list[str], environment: dict[str, str]
) -> dict[str, dict]:
    build = ROOT / words[words.index("--build") + 1]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "_PAPERMILL", nursery.papermill)
        for name, value in (environment | nursery.environment).items():
            patch.setenv(name, value)
        assert pipeline.main([*words, "--jobs", "2"]) == 0
    records = sorted((build / "records").rglob("*.json"))
    return {r["notebook"]: r for r in (json.loads(p.read_text()) for p in records)}


@pytest.fixture(scope="session")
def kernels(tmp_path_factory):
    """Where kernels and papermill start with their libraries imported."""
    nursery = warm_kernel.Nursery(tmp_path_factory.mktemp("kernels"), pipeline._PAPERMILL)
    yield nursery
    nursery.end()


@pytest.fixture(scope="session")
def cache(tmp_path_factory) -> str:
    """A cache folder that is empty before the first run of the book."""
    return str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="session")
def smoke(kernels, cache):
    """The whole book in the smoke profile, with no data but what pip installed: its records."""
    away = {"BOOK_OFFLINE": "1", "BOOK_DATA_MIRROR": "", "BOOK_DATA_CACHE": cache}
    return _run(kernels, ["--profile", "smoke", "--build", "build/smoke", "--book"], away)


@pytest.fixture(scope="session")
def site(smoke) -> Path:
    """The html of the smoke run."""
    return ROOT / "build" / "smoke" / "html"


@pytest.fixture(scope="session")
def smoke_as_is(smoke, kernels, cache, tmp_path_factory):
    """The same with whatever registry files this machine can have.

    Pages that ask for none are those of the first run, and what was computed there is in the cache.
    Stored rows of models, which that run has measured again without any file, are not once more.
    """
    first, second = (ROOT / "build" / name for name in ("smoke", "smoke-as-is"))
    for name in (name for name, record in smoke.items() if not record["data"]):
        for file in (f"records/{name}.json", f"executed/{name}.ipynb"):
            (second / file).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(first / file, second / file)
    # Without a mirror the registry files may lie in the user's own cache.
    there = {"BOOK_DATA_CACHE": cache} if os.environ.get("BOOK_DATA_MIRROR") else {}
    sizes = planning._read_profile("smoke")
    sizes["geometry/noise_injection"]["live_levels"] = []
    sizes["geometry/other_models"] |= {"live_models": [], "live_glass": []}
    sizes["geometry/shaping"]["live_pushes"] = []
    profile = tmp_path_factory.mktemp("profile") / "smoke.yml"
    profile.write_text(yaml.safe_dump(sizes))
    return _run(kernels, ["--profile", str(profile), "--build", "build/smoke-as-is"], there)


# Files that load or train models, or run the book: `make check` leaves them out.
MODELS = set(
    """adapters book/pipeline decoders devices each_model encoders encoding examples
    experiments/byte_gpt experiments/geometry/glass_box_geometry
    experiments/geometry/noise_sweep experiments/geometry/push_first
    experiments/modelmap/lineage_benchmark
    experiments/modelmap/merges
    experiments/modelmap/smollm2_divergence experiments/modelmap/smollm2_family
    experiments/posterior/images experiments/posterior/movielens
    experiments/retrieval/factbook_answers experiments/retrieval/small_world
    experiments/synthesis/glass_box_report experiments/synthesis/glass_box_training
    experiments/tiny_gpt experiments/tuning faults fine_tuning hub injection likelihood
    model_edits modelmap/divergence modelmap/held_out_texts modelmap/logit_lens
    modelmap/scoring models onnx_bert results retrieval/closed_book synthesis/fact_tests
    synthesis/masked_likelihood synthesis/model_kinds synthesis/signal_prose
    synthesis/signals synthesis/your_model""".split()
)
# Files whose results hang on how a processor adds up: `make test-dispatch` runs them.
NUMERIC = set(
    """experiments/modelmap/distance_tables experiments/modelmap/text_choice_tables
    experiments/modelmap/text_choice_checks
    experiments/retrieval/audit_tables geometry/penalties geometry/quantization
    geometry/spread likelihood modelmap/baselines
    modelmap/divergence modelmap/lineage modelmap/logit_lens
    modelmap/model_map modelmap/placement modelmap/release posterior/alp
    posterior/transferability posterior/trees retrieval/binned_fits stats
    synthesis/agreement ties""".split()
)


def _name(path: Path) -> str:
    """Return the name of a file of tests as above: its folders, and what it tests."""
    inside = path.relative_to(ROOT / "tests")
    return str(inside.with_name(inside.stem.removeprefix("test_")))


def pytest_collection_modifyitems(items):
    """Mark the tests that take models, and those of the site and of pages in a browser."""
    for item in items:
        name = _name(item.path)
        if name in MODELS:
            item.add_marker("models")
        if name == "site" or "browser" in item.fixturenames:
            item.add_marker("site")


def pytest_collection_finish():
    """Let later collections of garbage be rare, and leave alone what was imported."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 100)
