"""Run every page with the models of the `paper` profile, against a stand-in for the hub.

Under each name of `notebooks/parameters/paper.yml` stands a tiny model of its kind; sizes of data
are those of the smoke profile, for a CPU. Whoever runs the profile on a GPU should meet no error
that can be met here. To every list of models comes a name that the hub does not have, which must
be a row with its reason. Then the pages that take models run without any, and with that name
alone: each must end with a line that says so, or with such a row. `make test-paper` takes about a
quarter of an hour of CPU; words after the command are pages, all without any.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from pathlib import Path
from unittest.mock import patch

import numpy as np
import warm_kernel
from PIL import Image
from stand_in_hub import Hub, kind_of, old, write_clip

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from helpers.book import pipeline, planning  # noqa: E402
from helpers.synthesis import example_models  # noqa: E402

CLIP, NOBODY = "openai/clip-vit-base-patch32", "nobody/nothing"
# Parameters that name models, which are those of the paper profile.
ONE, MANY = ("model", "encoder"), ("models", "encoders", "clip_models")
# Smaller than in the smoke profile, which asks no model that is not stored.
SIZES = {
    "retrieval/real_model": {"n_facts": 80, "n_samples": 2},
    "geometry/noise_injection": {"levels": [0.0, 2.0, 4.0, 8.0, 20.0], "replicates": 2},
}
# What stands on a page that ends well, or in the error that ends it, without models and with one
# that is not there. Without models the smoke profile runs the pages that have None here.
NONE = "models is empty or one string; pass a list of at least one string"
NOWHERE = f"no public model {NOBODY}"
ENDS = {
    "posterior/language_models": (NONE, f"no model could be read: .*{NOWHERE}"),
    "posterior/images": (None, f"no model could be read: .*{NOWHERE}"),
    "geometry/noise_injection": ("name_or_path is ''; pass a folder", NOWHERE),
    "geometry/other_models": (None, f"no model could be read: .*{NOWHERE}"),
    "retrieval/real_model": (NONE, f"no model could be read: .*{NOWHERE}"),
    "modelmap/build_your_own": (None, f"no model could be read: .*{NOWHERE}"),
    "modelmap/place_my_model": (None, NOWHERE),
    "synthesis/your_model": (NONE, NOWHERE),
}


def profile(pictures: Path) -> dict[str, dict]:
    """Return the paper profile with the sizes of the smoke profile, by page."""
    paper, smoke, pages = planning._read_profile("paper"), planning._read_profile("smoke"), {}
    for page in planning._discover():
        values = {**paper.get(page, {}), **smoke.get(page, {}), **SIZES.get(page, {})}
        asked = paper.get(page, {})
        values |= {name: asked[name] for name in (*ONE, *MANY) if name in asked}
        pages[page] = values
    pages["synthesis/your_model"]["examples"] = []
    pages["posterior/images"] |= {"clip_models": [CLIP], "image_folder": str(pictures)}
    return pages


def names_of(values: dict) -> list[str]:
    """Return the models that a page is asked for, those of the hub."""
    named = [each for name in (*ONE, *MANY) for each in np.atleast_1d(values.get(name, []))]
    return [str(each) for each in named if "/" in str(each)]


def write_model(kind: str, folder: Path, seed: int) -> Path:
    """Write a tiny model of a kind of `kind_of`, of its own weights, and return its folder."""
    if kind == "clip":
        folder.mkdir()
        return write_clip(folder)
    saved = example_models.write("masked" if kind == "bin" else kind, folder, seed=seed)
    return old(saved, folder.with_suffix(".bin")) if kind == "bin" else saved


def write_pictures(folder: Path) -> Path:
    """Write pictures of four classes in two larger ones."""
    rng = np.random.default_rng(0)
    for i, leaf in enumerate(("cold/blue", "cold/green", "warm/red", "warm/yellow")):
        (folder / leaf).mkdir(parents=True)
        for k in range(30):
            pixels = rng.integers(0, 120, (32, 32, 3)) + [[[0, 0, 99], [0, 99, 0], [99, 0, 0],
                                                          [99, 99, 0]][i]]  # fmt: skip
            Image.fromarray(pixels.astype(np.uint8)).save(folder / leaf / f"{k}.png")
    return folder


def run(pages: dict[str, dict], words: list[str], build: str) -> dict[str, dict]:
    """Run pages with their parameters, and return their records with what they show as `shown`."""
    file = Path("profile.yml")
    file.write_text(json.dumps(pages))
    place = ROOT / "build" / build
    more = ["--jobs", os.environ.get("JOBS", "2"), "--force"]
    if pipeline.main([*words, "--profile", str(file), "--build", str(place), *more]) > 1:
        raise SystemExit("stopped")
    records = {}
    for page in words:
        records[page] = record = json.loads((place / "records" / f"{page}.json").read_text())
        ended = record["status"] == "ok"
        shown = place / ("executed" if ended else "failed") / f"{page}.ipynb"
        cells = json.loads(shown.read_text())["cells"] if shown.is_file() else []
        outputs = [out for cell in cells for out in cell.get("outputs", [])]
        texts = [t for out in outputs for t in (out.get("text", ""), *out.get("data", {}).values())]
        shown = " ".join("".join(text) for text in texts if isinstance(text, str | list))
        record["shown"] = shown if ended else record["failure"]["error"]
    return records


def main(words: list[str]) -> int:
    """Run the pages named, or all; return 1 where one does not end as it should."""
    every = words or planning._discover()
    taking = [page for page in every if page in ENDS]
    faults, home = [], os.getcwd()
    # Results of own runs are written where they are called.
    with tempfile.TemporaryDirectory() as place, Hub() as hub:
        os.chdir(place)
        folder = Path(place)
        pages = profile(write_pictures(folder / "pictures"))
        names = {name for values in pages.values() for name in names_of(values)}
        for seed, name in enumerate(sorted(names)):
            hub.add(name, write_model(kind_of(name), folder / f"model{seed}", seed))
        there = {"HF_ENDPOINT": hub.address, "HF_HOME": str(folder / "home"), "BOOK_OFFLINE": ""}
        there |= {"HF_HUB_OFFLINE": "", "BOOK_DATA_CACHE": str(folder / "cache")}
        there["PYTHONPATH"] = str(ROOT)
        with patch.dict(os.environ, there):
            kernels = warm_kernel.Nursery(folder, pipeline._PAPERMILL)
            os.environ.update(kernels.environment)
            try:
                with patch.object(pipeline, "_PAPERMILL", kernels.papermill):
                    faults += run_all(pages, every, taking)
            finally:
                kernels.end()
                os.chdir(home)
    print("\n".join(faults) or f"all {len(every)} pages ended as they should")
    return bool(faults)


def run_all(pages: dict[str, dict], every: list[str], taking: list[str]) -> list[str]:
    """Return what went otherwise than it should, a line each."""
    faults, whole = [], {page: dict(values) for page, values in pages.items()}
    for values in whole.values():
        values |= {name: [*values[name], NOBODY] for name in MANY if name in values}
    for page, record in run(whole, every, "paper").items():
        lists = any(name in whole[page] for name in MANY)
        if record["status"] != "ok":
            faults.append(f"{page}: {record['failure']}")
        elif lists and NOWHERE not in record["shown"]:
            faults.append(f"{page}: no row for {NOBODY}")
    for number, models in enumerate(([], [NOBODY])):
        few = {page: dict(pages[page]) for page in taking if ENDS[page][number] is not None}
        for values in few.values():
            values |= {name: models for name in MANY if name in values}
            values |= {name: "".join(models) for name in ONE if name in values}
        for page, record in run(few, list(few), f"paper-{number}").items():
            wanted = ENDS[page][number]
            if not re.search(wanted, record["shown"], re.S):
                shown = record.get("failure", "a whole page")
                faults.append(f"{page}, models {models}: not {wanted!r} but {shown}")
    return faults


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
