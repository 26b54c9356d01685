"""Representations of images: ten of scikit-learn's digits, and a reader's own images by CLIP."""

from __future__ import annotations

import json
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from helpers import devices, models, validation

if TYPE_CHECKING:
    from transformers import BaseImageProcessor, CLIPModel

EXTENSIONS = (".jpg", ".jpeg", ".png", ".webp", ".bmp")
_FORMATS = ("JPEG", "PNG", "WEBP", "BMP")
# How many units of "random units" fire on half of the images, on one in a hundred, and never; the
# copies repeat the first of them.
LIVELY, RARE, DEAD, COPIES = 48, 16, 16, 16


def digit_representations(seed: int = 0) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Return ten representations of scikit-learn's 1,797 digits by name, and their classes.

    Each is (1797, d), float64, in the order of `sklearn.datasets.load_digits`; the classes are
    (1797,), integers 0 to 9. No representation has seen the classes, but "trained for parity"
    was trained to tell odd digits from even ones on these same images.

    pixels: 64, standardised. blurred: pixels under a Gaussian filter of one pixel. principal
    components: 16 of the pixels. random units: 96, max(0, w'x - b) with random w of the
    standardised pixels; 48 fire on half of the images, 16 on one in a hundred, 16 never, and 16
    repeat the first ones. gradients: how much of 8 directions there is in each quarter of the
    image, 32. parts: 16 of a non-negative factorisation. kernel: 64 Nystroem features of a
    Gaussian kernel. trained for parity: the 32 units of the last hidden layer of a small network.
    pixels + noise: twice as much noise as signal. noise: 64 dimensions. The same seed gives the
    same numbers; pixels, blurred, principal components and gradients do not depend on it.

    Source: the choice is this book's; the gradients follow Dalal and Triggs (2005), with one
    block a quarter and no normalisation.
    """
    from scipy.ndimage import gaussian_filter
    from sklearn.datasets import load_digits
    from sklearn.decomposition import NMF, PCA
    from sklearn.exceptions import ConvergenceWarning
    from sklearn.kernel_approximation import Nystroem
    from sklearn.neural_network import MLPClassifier
    from sklearn.preprocessing import scale

    digits, rng = load_digits(), np.random.default_rng(seed)
    ink, classes = digits.data / 16, digits.target
    images, pixels = ink.reshape(-1, 8, 8), scale(ink)
    with warnings.catch_warnings():
        # Both stop at a set number of steps, and need not arrive anywhere to be representations.
        warnings.simplefilter("ignore", ConvergenceWarning)
        parts = NMF(16, init="nndsvda", random_state=seed).fit_transform(ink)
        network = MLPClassifier((64, 32), max_iter=60, random_state=seed).fit(ink, classes % 2)
    hidden = ink
    for weights, bias in zip(network.coefs_[:-1], network.intercepts_[:-1], strict=True):
        hidden = np.maximum(hidden @ weights + bias, 0)
    found = {
        "pixels": pixels,
        "blurred": gaussian_filter(images, (0, 1, 1)).reshape(pixels.shape),
        "principal components": PCA(16, svd_solver="full").fit_transform(ink),
        "random units": _random_units(pixels, rng),
        "gradients": _gradients(images),
        "parts": parts,
        "kernel": Nystroem(gamma=1 / 64, n_components=64, random_state=seed).fit_transform(pixels),
        "trained for parity": hidden,
        "pixels + noise": pixels + 2 * rng.standard_normal(pixels.shape),
        "noise": rng.standard_normal(pixels.shape),
    }
    return found, classes


def _random_units(pixels: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Return rectified random projections whose thresholds set how often each unit fires."""
    shares = np.repeat([0.5, 0.01, 0.0], [LIVELY, RARE, DEAD])
    values = pixels @ rng.standard_normal((pixels.shape[1], len(shares)))
    limits = [np.quantile(column, 1 - s) for column, s in zip(values.T, shares, strict=True)]
    units = np.maximum(values - limits, 0)
    return np.column_stack([units, units[:, :COPIES]])


def _gradients(images: np.ndarray) -> np.ndarray:
    """Return the summed length of the gradients by quarter of the image and by direction."""
    down, right = np.gradient(images, axis=(1, 2))
    length, angle = np.hypot(down, right), np.mod(np.arctan2(down, right), np.pi)
    direction = np.minimum((angle / np.pi * 8).astype(int), 7)
    one_hot = length[..., None] * (direction[..., None] == np.arange(8))
    n, side = len(images), images.shape[1] // 2
    return one_hot.reshape(n, 2, side, 2, side, 8).sum(axis=(2, 4)).reshape(n, -1)


def image_folder(root: str | Path, hierarchy: str | Path | None = None) -> pd.DataFrame:
    """Return the images of a folder with subclasses and superclasses, one row per image.

    The columns `path`, `subclass` and `superclass` hold text; rows are sorted. Without `hierarchy`
    the folder is laid out as `root/superclass/subclass/image`, and with it as
    `root/subclass/image`. `hierarchy` is a JSON file, which maps either each subclass to its
    superclass or each superclass to a list of subclasses, or a CSV file with the columns
    `subclass` and `superclass`; folders that it does not name are left out, as BREEDS leaves out
    most of ImageNet. Names that begin with a dot are passed over. Images are not opened here.

    Raises `ValueError` for a folder that is not there or empty, a link that leaves the folder, a
    file in a subclass that is no jpg, jpeg, png, webp or bmp (in any case), an image beside the
    subclasses, a subclass in two superclasses, or a hierarchy that cannot be read or names a
    folder that is not there. Source: for the hierarchies, Santurkar et al. (2021), BREEDS.
    """
    given = Path(root).expanduser()
    if not given.is_dir():
        raise ValueError(f"root {str(root)!r} is no folder; pass the folder that holds the classes")
    top, rows = given.resolve(), []
    if hierarchy is None:
        leaves = [(sub, sup.name) for sup in _folders(top, top) for sub in _folders(sup, top)]
    else:
        above, at_hand = _hierarchy(Path(hierarchy).expanduser()), _folders(top, top)
        if absent := sorted(set(above) - {sub.name for sub in at_hand}):
            raise ValueError(
                f"hierarchy names {validation.name_some(absent)}, not a folder in {str(root)!r}; "
                "correct these names, or take them out of the file"
            )
        leaves = [(sub, above[sub.name]) for sub in at_hand if sub.name in above]
    for sub, superclass in leaves:
        for entry in _entries(sub, top):
            if not entry.is_file() or entry.suffix.lower() not in EXTENSIONS:
                raise ValueError(
                    f"root has {str(entry.relative_to(top))!r}, which is no image; take it out, or "
                    f"save it as one of {', '.join(EXTENSIONS)}"
                )
            rows.append((str(entry), sub.name, superclass))
    twice = [name for name, n in Counter(sub.name for sub, _ in leaves).items() if n > 1]
    if twice:
        raise ValueError(
            f"root has {validation.name_some(twice)} in two superclasses; rename one of the folders"
        )
    if not rows:
        layout = "superclass/subclass/image" if hierarchy is None else "subclass/image"
        raise ValueError(f"root {str(root)!r} has no images; lay it out as {layout}")
    return pd.DataFrame(rows, columns=["path", "subclass", "superclass"])


def _entries(folder: Path, top: Path) -> list[Path]:
    """Return what a folder holds, sorted, hidden names left out; no link may leave `top`."""
    found = []
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            if entry.name.startswith("."):
                continue
            path = Path(entry.path)
            if entry.is_symlink() and not path.resolve().is_relative_to(top):
                raise ValueError(
                    f"root has the link {str(path.relative_to(top))!r}, which leads out of the "
                    "folder; put the images themselves there"
                )
            found.append(path)
    return found


def _folders(folder: Path, top: Path) -> list[Path]:
    """Return the folders in a folder, and refuse images that lie beside them."""
    entries = _entries(folder, top)
    if loose := [e for e in entries if e.suffix.lower() in EXTENSIONS and not e.is_dir()]:
        raise ValueError(
            f"root has the image {str(loose[0].relative_to(top))!r} where subclass folders are "
            "expected; use superclass/subclass/image, or pass a hierarchy for subclass/image"
        )
    return [entry for entry in entries if entry.is_dir()]


def _hierarchy(path: Path) -> dict[str, str]:
    """Read which superclass each subclass belongs to."""
    if not path.is_file() or path.suffix.lower() not in (".json", ".csv"):
        raise ValueError(f"hierarchy {str(path)!r} is no JSON or CSV file; correct the path")
    try:
        pairs = _pairs(path)
    except (ValueError, UnicodeDecodeError) as error:
        raise ValueError(
            f"hierarchy {path.name!r} cannot be read ({models.first_line(error)}); repair it"
        ) from error
    wrong = not pairs or not all(isinstance(v, str) and v.strip() for pair in pairs for v in pair)
    if wrong:
        raise ValueError(
            f"hierarchy {path.name!r} does not map names to names; give JSON as "
            '{"subclass": "superclass"} or {"superclass": ["subclass"]}, '
            "or CSV with the columns subclass and superclass"
        )
    above: dict[str, str] = {}
    for subclass, superclass in pairs:
        if above.setdefault(subclass, superclass) != superclass:
            raise ValueError(
                f"hierarchy {path.name!r} puts {subclass!r} in {above[subclass]!r} and in "
                f"{superclass!r}; keep one"
            )
    return above


def _pairs(path: Path) -> list[tuple[Any, Any]]:
    if path.suffix.lower() == ".csv":
        table = pd.read_csv(path, dtype=str, keep_default_na=False, index_col=False)
        if not {"subclass", "superclass"} <= set(table):
            return []
        return list(zip(table["subclass"], table["superclass"], strict=True))
    content, pairs = json.loads(path.read_text(encoding="utf-8")), []
    for key, value in content.items() if isinstance(content, dict) else []:
        pairs += [(v, key) for v in value] if isinstance(value, list) else [(key, value)]
    return pairs


def clip_embeddings(
    name_or_path: str | Path,
    paths: Sequence[str | Path],
    batch_size: int = 32,
    *,
    allow_bin: bool = False,
    how: devices.How = devices.DEFAULT,
) -> np.ndarray:
    """Return the projected image embeddings of a CLIP model, shape (N, d), float32.

    `name_or_path` is a folder with config.json, preprocessor_config.json and model.safetensors, or
    a name on the Hugging Face hub; a folder never touches the network, and a name does not under
    `BOOK_OFFLINE=1`. `paths` are JPEG, PNG, WebP or BMP files, turned to RGB and cut by the
    model's own image processor, `batch_size` at a time. The vectors are those that CLIP compares
    with texts, before they are scaled to unit length. `how` says where the model is read, and in
    which numbers. Weights are read from safetensors only, unless `allow_bin` lets `models.source`
    convert them, and no code of the model's author is run.

    Raises `ValueError` for no paths, an image that cannot be read, a model that cannot be loaded
    or is no CLIP model, weights that are missing, or embeddings that are not finite. Source:
    Radford et al. (2021).
    """
    import torch

    processor, model = how.load(_load_clip, name_or_path, allow_bin=allow_bin)
    out = np.empty((len(paths), model.config.projection_dim), dtype=np.float32)
    with torch.inference_mode():
        for first in range(0, len(paths), batch_size):
            images = [_read_image(path) for path in paths[first : first + batch_size]]
            pixels = processor(images=images, return_tensors="pt")["pixel_values"]
            pixels = pixels.to(model.device, model.dtype)
            seen = model.vision_model(pixel_values=pixels).pooler_output
            vectors = model.visual_projection(seen)
            out[first : first + len(images)] = vectors.float().cpu().numpy()
    if not np.isfinite(out).all():
        raise ValueError(f"name_or_path {str(name_or_path)!r} gives values that are not finite")
    return out


def _load_clip(
    name_or_path: str | Path, *, allow_bin: bool, dtype: str
) -> tuple[BaseImageProcessor, CLIPModel]:
    import torch
    from transformers import AutoConfig, AutoImageProcessor, CLIPModel

    cure = (
        "pass a folder with a CLIP model's config.json, preprocessor_config.json and "
        "model.safetensors, or the name of one on the hub that can be reached"
    )
    with models.loading(name_or_path, cure):
        place = str(models.source(name_or_path, allow_bin=allow_bin, dtype=dtype))
        options: dict[str, Any] = {"trust_remote_code": False, "local_files_only": True}
        kind = AutoConfig.from_pretrained(place, **options).model_type
        if kind != "clip":
            raise ValueError(f"its config.json says {kind!r}, not 'clip'")
        processor = AutoImageProcessor.from_pretrained(place, **options)
        model, report = CLIPModel.from_pretrained(
            place,
            use_safetensors=True,
            output_loading_info=True,
            dtype=getattr(torch, dtype),
            **options,
        )
        models.check_weights(report)
    return processor, model.eval()


def _read_image(path: str | Path) -> Any:
    from PIL import Image

    try:
        with Image.open(path, formats=_FORMATS) as image:
            return image.convert("RGB")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise ValueError(
            f"paths has {str(path)!r}, which cannot be read as an image ({error}); "
            "take it out, or save it again"
        ) from error
