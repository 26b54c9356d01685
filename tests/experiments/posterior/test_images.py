"""Representations of the digits, image folders, and CLIP against its own forward pass."""

import json

import numpy as np
import pytest
from PIL import Image
from scipy.ndimage import gaussian_filter
from sklearn.datasets import load_digits
from sklearn.decomposition import PCA
from sklearn.linear_model import LogisticRegression
from sklearn.metrics.pairwise import rbf_kernel
from sklearn.preprocessing import scale

from experiments.posterior.images import clip_embeddings, digit_representations, image_folder

WIDTHS = {
    "pixels": 64,
    "blurred": 64,
    "principal components": 16,
    "random units": 96,
    "gradients": 32,
    "parts": 16,
    "kernel": 64,
    "trained for parity": 32,
    "pixels + noise": 64,
    "noise": 64,
}
FIXED = {"pixels", "blurred", "principal components", "gradients"}


@pytest.fixture(scope="module")
def digits():
    return digit_representations(0)


@pytest.fixture(scope="module")
def raw():
    return load_digits()


# --- the ten representations


def test_ten_representations_of_all_digits(digits, raw):
    found, labels = digits
    assert {name: X.shape for name, X in found.items()} == {n: (1797, d) for n, d in WIDTHS.items()}
    assert all(X.dtype == np.float64 and np.isfinite(X).all() for X in found.values())
    assert list(found) == list(WIDTHS)
    np.testing.assert_array_equal(labels, raw.target)


def test_the_seed_decides_and_leaves_alone_what_is_fixed(digits):
    again, _ = digit_representations(0)
    other, _ = digit_representations(1)
    for name, X in digits[0].items():
        np.testing.assert_array_equal(X, again[name])
        same = np.allclose(X, other[name])
        assert same == (name in FIXED), name


def test_pixels_blur_and_components_equal_the_libraries(digits, raw):
    found, _ = digits
    np.testing.assert_allclose(found["pixels"], scale(raw.data), atol=1e-12)
    blurred = np.stack([gaussian_filter(image / 16, 1) for image in raw.images])
    np.testing.assert_allclose(found["blurred"], blurred.reshape(1797, 64), atol=1e-12)
    theirs = PCA(16, svd_solver="full").fit(raw.data / 16).explained_variance_
    np.testing.assert_allclose(found["principal components"].var(axis=0, ddof=1), theirs)


def test_gradients_equal_a_loop_over_pixels(digits, raw):
    for n in (0, 5, 1796):
        image, wanted = raw.images[n] / 16, np.zeros((2, 2, 8))
        for i in range(8):
            for j in range(8):
                rows, cols = [max(i - 1, 0), min(i + 1, 7)], [max(j - 1, 0), min(j + 1, 7)]
                down = (image[rows[1], j] - image[rows[0], j]) / (rows[1] - rows[0])
                right = (image[i, cols[1]] - image[i, cols[0]]) / (cols[1] - cols[0])
                angle = np.degrees(np.arctan2(down, right)) % 180
                wanted[i // 4, j // 4, min(int(angle // 22.5), 7)] += np.hypot(down, right)
        np.testing.assert_allclose(digits[0]["gradients"][n], wanted.ravel(), atol=1e-12)


def test_random_units_have_the_four_kinds(digits):
    units = digits[0]["random units"]
    fires = (units > 0).mean(axis=0)
    assert units.min() == 0
    assert np.abs(fires[:48] - 0.5).max() < 0.001
    assert np.abs(fires[48:64] - 0.01).max() < 0.001
    assert not units[:, 64:80].any()
    np.testing.assert_array_equal(units[:, 80:], units[:, :16])
    assert len(np.unique(units[:, :64], axis=1).T) == 64


def test_kernel_features_approach_the_kernel(digits):
    kernel, pixels = digits[0]["kernel"][:200], digits[0]["pixels"][:200]
    exact = rbf_kernel(pixels, gamma=1 / 64)
    off = ~np.eye(200, dtype=bool)
    assert np.corrcoef((kernel @ kernel.T)[off], exact[off])[0, 1] > 0.9
    assert (kernel**2).sum(axis=1).max() <= 1 + 1e-9


def test_parts_are_non_negative_and_hold_the_image(digits, raw):
    parts = digits[0]["parts"]
    basis, *_ = np.linalg.lstsq(parts, raw.data / 16, rcond=None)
    left = raw.data / 16 - parts @ basis
    assert parts.min() >= 0 and (left**2).sum() < 0.2 * ((raw.data / 16) ** 2).sum()


def test_the_parity_network_knows_parity_above_all(digits):
    found, labels = digits
    hidden = scale(found["trained for parity"])
    fit = LogisticRegression(max_iter=2000)
    odd = fit.fit(hidden[:1200], labels[:1200] % 2).score(hidden[1200:], labels[1200:] % 2)
    ten = fit.fit(hidden[:1200], labels[:1200]).score(hidden[1200:], labels[1200:])
    assert odd > 0.97 > ten and found["trained for parity"].min() == 0


def test_noise_is_noise_and_buries_the_pixels(digits):
    found, _ = digits
    noise, noisy = found["noise"], found["pixels + noise"] - found["pixels"]
    assert noise.std() == pytest.approx(1, abs=0.01) and noisy.std() == pytest.approx(2, abs=0.02)
    assert abs(np.corrcoef(noise.ravel(), noisy.ravel())[0, 1]) < 0.01
    assert abs(np.corrcoef(found["pixels"].ravel(), noisy.ravel())[0, 1]) < 0.01


# --- folders of images


def picture(path, seed=0, size=(40, 30)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3))
    Image.fromarray(pixels.astype(np.uint8)).save(path)
    return path


@pytest.fixture
def nested(tmp_path):
    root = tmp_path / "set"
    names = ("dog/pug/b.png", "dog/pug/a.JPEG", "dog/husky/a.png", "cat/tabby/a.webp")
    for i, name in enumerate(names):
        picture(root / name, i)
    return root


@pytest.fixture
def flat(tmp_path):
    root = tmp_path / "flat"
    for i, name in enumerate(("n01/a.png", "n02/a.png", "n03/a.png")):
        picture(root / name, i)
    return root


def test_nested_folders_give_both_levels(nested):
    (nested / "README.txt").write_text("about")
    (nested / ".hidden").mkdir()
    (nested / "dog/pug/.DS_Store").write_bytes(b"0")
    frame = image_folder(nested)
    assert list(frame) == ["path", "subclass", "superclass"]
    assert [tuple(row) for row in frame.to_numpy()] == [
        (str(nested / "cat/tabby/a.webp"), "tabby", "cat"),
        (str(nested / "dog/husky/a.png"), "husky", "dog"),
        (str(nested / "dog/pug/a.JPEG"), "pug", "dog"),
        (str(nested / "dog/pug/b.png"), "pug", "dog"),
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("h.json", json.dumps({"n01": "fish", "n03": "bird"})),
        ("h.json", json.dumps({"fish": ["n01"], "bird": ["n03"]})),
        ("h.csv", "subclass,superclass\nn01,fish\nn03,bird\n"),
        ("h.csv", "superclass,note,subclass\nfish,x,n01\nbird,,n03\n"),
    ],
)
def test_a_hierarchy_file_names_the_superclasses(flat, tmp_path, name, text):
    (tmp_path / name).write_text(text)
    frame = image_folder(flat, tmp_path / name)
    assert list(frame["subclass"]) == ["n01", "n03"]
    assert list(frame["superclass"]) == ["fish", "bird"]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("h.json", "{", "hierarchy 'h.json' cannot be read"),
        ("h.json", "[1, 2]", "does not map names to names"),
        ("h.json", "{}", "does not map names to names"),
        ("h.json", '{"n01": 3}', "does not map names to names"),
        ("h.json", '{"fish": ["n01"], "bird": ["n01"]}', "'n01' in 'fish' and in 'bird'; keep one"),
        ("h.json", '{"n01": "fish", "n09": "bird"}', "names 'n09', not a folder"),
        ("h.json", '{"../set/dog": "fish"}', "not a folder"),
        ("h.csv", "a,b\n1,2\n", "does not map names to names"),
        ("h.csv", "subclass,superclass\nn01,\n", "does not map names to names"),
        ("h.csv", "", "cannot be read"),
        ("h.txt", "n01 fish", "is no JSON or CSV file"),
    ],
)
def test_a_wrong_hierarchy_is_told(flat, nested, tmp_path, name, text, message):
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        image_folder(flat, tmp_path / name)


def test_a_folder_that_cannot_be_used_is_told(nested, flat, tmp_path):
    with pytest.raises(ValueError, match="is no folder; pass the folder"):
        image_folder(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="has no images; lay it out as superclass/subclass/image"):
        image_folder(tmp_path / "empty")
    with pytest.raises(ValueError, match="'n01/a.png' where subclass folders are expected"):
        image_folder(flat)
    with pytest.raises(ValueError, match="is no JSON or CSV file"):
        image_folder(flat, tmp_path / "absent.json")
    (nested / "dog/pug/notes.txt").write_text("no image")
    with pytest.raises(ValueError, match="'dog/pug/notes.txt', which is no image; take it out"):
        image_folder(nested)


def test_a_folder_below_a_subclass_is_told(nested):
    (nested / "dog/pug/more.png").mkdir()
    with pytest.raises(ValueError, match="'dog/pug/more.png', which is no image"):
        image_folder(nested)


def test_one_subclass_in_two_superclasses_is_told(nested):
    picture(nested / "cat/pug/a.png")
    with pytest.raises(ValueError, match="has 'pug' in two superclasses"):
        image_folder(nested)


@pytest.mark.parametrize("link", ["dog/pug/out.png", "dog/out", "out"])
def test_no_link_leads_out(nested, tmp_path, link):
    outside = picture(tmp_path / "private/sub/secret.png")
    target = outside if link.endswith(".png") else outside.parents[link.count("/") == 0]
    (nested / link).symlink_to(target)
    with pytest.raises(ValueError, match=f"link '{link}', which leads out of the folder"):
        image_folder(nested)


def test_links_within_the_folder_and_to_it_are_fine(nested, tmp_path):
    (nested / "dog/husky/b.png").symlink_to(nested / "dog/pug/b.png")
    (tmp_path / "alias").symlink_to(nested)
    assert len(image_folder(tmp_path / "alias")) == 5


# --- CLIP


@pytest.fixture
def pictures(tmp_path):
    return [picture(tmp_path / f"{i}.png", i, size=(32, 32)) for i in range(5)]


def test_embeddings_are_what_clip_compares_with_texts(clip, pictures):
    import torch
    from transformers import CLIPModel

    found = clip_embeddings(clip, pictures)
    assert found.shape == (5, 12) and found.dtype == np.float32
    # Squares of the right size need no cutting: the preparation is a subtraction and a division.
    mean, std = [0.48145466, 0.4578275, 0.40821073], [0.26862954, 0.26130258, 0.27577711]
    pixels = np.stack([(np.asarray(Image.open(p)) / 255 - mean) / std for p in pictures])
    model = CLIPModel.from_pretrained(clip, use_safetensors=True).eval()
    with torch.inference_mode():
        tensor = torch.tensor(pixels.transpose(0, 3, 1, 2), dtype=torch.float32)
        theirs = model(input_ids=torch.tensor([[0, 5, 1]]), pixel_values=tensor).image_embeds
    unit = found / np.linalg.norm(found, axis=1, keepdims=True)
    np.testing.assert_allclose(unit, theirs.numpy(), atol=1e-5)
    assert np.abs(np.linalg.norm(found, axis=1) - 1).max() > 1e-3


def test_batches_and_order_do_not_matter(clip, pictures):
    whole = clip_embeddings(clip, pictures)
    np.testing.assert_allclose(clip_embeddings(clip, pictures, batch_size=2), whole, atol=1e-6)
    np.testing.assert_allclose(clip_embeddings(clip, pictures[::-1])[::-1], whole, atol=1e-6)
    assert np.ptp(whole, axis=0).max() > 1e-4


def test_other_sizes_and_modes_are_read(clip, tmp_path):
    picture(tmp_path / "wide.jpg", size=(90, 33))
    Image.new("L", (50, 40), 128).save(tmp_path / "grey.png")
    Image.new("RGBA", (20, 25), (1, 2, 3, 4)).save(tmp_path / "clear.png")
    paths = [str(tmp_path / name) for name in ("wide.jpg", "grey.png", "clear.png")]
    assert np.isfinite(clip_embeddings(str(clip), paths)).all()


def test_it_is_quiet(clip, pictures, capfd):
    clip_embeddings(clip, pictures)
    assert capfd.readouterr() == ("", "")


def test_wrong_paths_are_told(clip, pictures, tmp_path):
    (tmp_path / "broken.png").write_bytes(b"no image")
    half = pictures[0].read_bytes()[:600]
    (tmp_path / "half.png").write_bytes(half)
    Image.new("RGB", (40, 40)).save(tmp_path / "other.png", format="TIFF")
    for name in ("broken.png", "half.png", "absent.png", "other.png"):
        with pytest.raises(ValueError, match=rf"{name}', which cannot be read as an image"):
            clip_embeddings(clip, [*pictures, tmp_path / name])


def copied(clip, folder, *, without=(), **changes):
    folder.mkdir()
    for file in clip.iterdir():
        if file.name not in without:
            (folder / file.name).write_bytes(file.read_bytes())
    config = json.loads((folder / "config.json").read_text()) | changes
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_model_that_is_no_clip_is_told(clip, pictures, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="config.json says 'bert', not 'clip'"):
        clip_embeddings(copied(clip, tmp_path / "bert", model_type="bert"), pictures)
    monkeypatch.setenv("BOOK_OFFLINE", "1")
    with pytest.raises(ValueError, match="could not be loaded .*; pass a folder where"):
        clip_embeddings("nobody/no-such-clip", pictures)


@pytest.mark.parametrize("missing", ["config.json", "preprocessor_config.json"])
def test_a_folder_that_lacks_a_file_is_told(clip, pictures, tmp_path, missing):
    folder = copied(clip, tmp_path / "part")
    (folder / missing).unlink()
    with pytest.raises(ValueError, match="could not be loaded"):
        clip_embeddings(folder, pictures)


def test_pickled_weights_are_refused(clip, pictures, tmp_path):
    import torch
    from safetensors.torch import load_file

    folder = copied(clip, tmp_path / "pickled", without=["model.safetensors"])
    torch.save(load_file(clip / "model.safetensors"), folder / "pytorch_model.bin")
    with pytest.raises(ValueError, match="could not be loaded"):
        clip_embeddings(folder, pictures)


def test_cut_weights_are_told(clip, pictures, tmp_path):
    folder = copied(clip, tmp_path / "cut", without=["model.safetensors"])
    (folder / "model.safetensors").write_bytes((clip / "model.safetensors").read_bytes()[:500])
    with pytest.raises(ValueError, match="name_or_path .* could not be loaded .*; pass a folder"):
        clip_embeddings(folder, pictures)


@pytest.mark.parametrize("fault", ["missing", "infinite"])
def test_incomplete_or_broken_weights_are_told(clip, pictures, tmp_path, fault):
    from safetensors.torch import load_file, save_file

    folder = copied(clip, tmp_path / fault, without=["model.safetensors"])
    weights = load_file(clip / "model.safetensors")
    if fault == "missing":
        del weights["visual_projection.weight"]
    else:
        weights["visual_projection.weight"][0, 0] = float("inf")
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    message = "1 weights are missing" if fault == "missing" else "values that are not finite"
    with pytest.raises(ValueError, match=message):
        clip_embeddings(folder, pictures)
