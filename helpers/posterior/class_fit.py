"""Three more peers of the average log posterior: how well simple class models fit the embeddings.

For all three more is better. They are computed on the entities that they were fitted to, so that
many dimensions flatter them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize
from scipy.special import log_softmax, softmax

from helpers.posterior.transferability import checked

# The least shrinkage of SFDA, and the factor in front of the largest eigenvalue (authors' code).
LEAST_SHRINKAGE, EIGENVALUE_FACTOR = 1e-10, 5.0


def sfda(X: ArrayLike, labels: ArrayLike) -> float:
    """Return SFDA: the mean probability of the own cluster under a discriminant, 0 to 1.

    `X` (N, d) real, `labels` (N,) of clusters of two entities at least. A linear discriminant is
    fitted twice. In between every entity moves towards the mean of the other clusters' means, the
    further the less sure the first one was of it. Its within-cluster covariance is shrunk towards a
    multiple of the identity by exp(-5 s), s its largest eigenvalue, so that the scale of `X`
    matters. Raises `ValueError` for bad input.

    Source: Shao et al., ECCV 2022, in their released code, which takes the softmax twice before
    moving, and the mean probability where the paper takes its logarithm. All eigenvectors of the
    Fisher problem are kept there, and cancel to the inverse of the shrunk covariance, which is used
    here. Their power iteration of three rounds is replaced by the exact largest eigenvalue.

    >>> import numpy as np
    >>> from helpers.posterior.class_fit import sfda
    >>> labels = np.repeat(["film", "song"], 50)
    >>> noise = np.random.default_rng(0).standard_normal((100, 3))
    >>> signal = noise + 4 * (labels == "film")[:, None]
    >>> [round(sfda(X, labels), 2) for X in (noise, signal)]
    [0.51, 0.99]
    """
    X, clusters = checked(X, labels)
    codes, k = clusters.codes, len(clusters.names)
    X -= X.mean(axis=0)
    within = _within(X, codes, k)
    shrinkage = np.exp(-EIGENVALUE_FACTOR * np.linalg.eigvalsh(within)[-1])
    shrinkage = max(float(shrinkage), LEAST_SHRINKAGE)
    first = _discriminant(X, codes, k, within, shrinkage)
    own = softmax(first, axis=1)[np.arange(len(X)), codes][:, None]
    means = _means(X, codes, k)
    others = (means.sum(axis=0) - means) / (k - 1)
    mixed = own * X + (1 - own) * others[codes]
    second = _discriminant(mixed, codes, k, _within(mixed, codes, k), shrinkage)
    return float(second[np.arange(len(X)), codes].mean())


def nleep(X: ArrayLike, labels: ArrayLike) -> float:
    """Return N-LEEP: the mean log probability of the own cluster, given a mixture's component.

    `X` (N, d) real, `labels` (N,) of clusters of two entities at least. The embeddings are reduced
    to the principal components that hold 0.8 of the variance, and a mixture of Gaussians with full
    covariances is fitted, five for each cluster. Each component predicts the clusters of its
    entities. In nats, at most 0; a mixture that knows nothing of the clusters gives minus their
    entropy.

    Source: Li et al., CVPR 2021, of LEEP (Nguyen et al., ICML 2020). Released code of others (of
    SFDA, and what the encoders' table of this book was made with) leaves out the logarithm.

    >>> import numpy as np
    >>> from helpers.posterior.class_fit import nleep
    >>> labels = np.repeat(["film", "song"], 50)
    >>> noise = np.random.default_rng(0).standard_normal((100, 3))
    >>> signal = noise + 4 * (labels == "film")[:, None]
    >>> [round(nleep(X, labels), 1) for X in (noise, signal)]
    [-0.6, -0.0]
    """
    from sklearn.decomposition import PCA
    from sklearn.mixture import GaussianMixture

    X, clusters = checked(X, labels)
    n_components = 5 * len(clusters.names)
    X /= X.std(axis=0).max()
    Z = PCA(0.8, svd_solver="full").fit_transform(X)
    mixture = GaussianMixture(n_components, max_iter=1000, random_state=0).fit(Z)
    joint = mixture.predict_proba(Z)
    table = np.stack([joint[clusters.codes == c].sum(axis=0) for c in range(len(clusters.names))])
    of_component = table / np.maximum(table.sum(axis=0), np.finfo(float).tiny)
    own = (joint * of_component[clusters.codes]).sum(axis=1)
    return float(np.log(np.maximum(own, np.finfo(float).tiny)).mean())


def pactran(X: ArrayLike, labels: ArrayLike) -> float:
    """Return PACTran with Gaussian weights: minus a PAC-Bayes bound on the log loss, in nats.

    `X` (N, d) real, `labels` (N,) of clusters of two entities at least. The bound is the penalised
    log loss of the best softmax regression, plus a term for how flat the loss is there: 10 K / (2
    N) times the log of the mean curvature times N, where the squared weights are divided by 2 N.
    The scale of `X` matters, its offset does not. Raises `ValueError` for bad input, and where the
    regression does not converge.

    Source: Ding et al., ECCV 2022, in their released code (`lda_factor` 1, `s2_factor` 10; they
    report 0.1, 1 and 10, each with a prior of 10 and 100 times as much). There less is better. The
    fit is theirs, from zero and to convergence, not from a random start.

    >>> import numpy as np
    >>> from helpers.posterior.class_fit import pactran
    >>> labels = np.repeat(["film", "song"], 50)
    >>> noise = np.random.default_rng(0).standard_normal((100, 3))
    >>> signal = noise + 4 * (labels == "film")[:, None]
    >>> [round(pactran(X, labels), 2) for X in (noise, signal)]
    [-1.43, -0.49]
    """
    X, clusters = checked(X, labels)
    X -= X.mean(axis=0)
    (n, d), k = X.shape, len(clusters.names)
    rows, own = np.arange(n), clusters.codes
    design = np.column_stack([X, np.ones(n)])

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        theta = flat.reshape(d + 1, k)
        logs = log_softmax(design @ theta, axis=1)
        slope = np.exp(logs)
        slope[rows, own] -= 1
        gradient = design.T @ slope / n
        gradient[:d] += theta[:d] / n
        value = -logs[rows, own].mean() + (theta[:d] ** 2).sum() / (2 * n)
        return value, gradient.ravel()

    options = {"maxiter": 20_000, "maxfun": 40_000, "ftol": 1e-13, "gtol": 1e-7}
    fit = minimize(loss, np.zeros((d + 1) * k), jac=True, method="L-BFGS-B", options=options)
    if not fit.success:
        raise ValueError("the regression of labels on X does not converge; scale X down")
    p = softmax(design @ fit.x.reshape(d + 1, k), axis=1)
    # As in the authors' code the curvature is summed over entities, the intercept's too.
    curvature = (design**2).T @ (p - p**2)
    total = curvature.sum() + d * k / n
    flatness = 10.0 * k / (2 * n) * np.log(total * n / (d * k))
    return -float(fit.fun + flatness)


def _means(X: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    return np.stack([X[codes == c].mean(axis=0) for c in range(k)])


def _within(X: np.ndarray, codes: np.ndarray, k: int) -> np.ndarray:
    """Return the covariance within clusters, divisor N."""
    rest = X - _means(X, codes, k)[codes]
    return rest.T @ rest / len(X)


def _discriminant(
    X: np.ndarray, codes: np.ndarray, k: int, within: np.ndarray, shrinkage: float
) -> np.ndarray:
    """Return the probabilities (N, k) of a linear discriminant with a shrunk covariance."""
    d = len(within)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / d * np.eye(d)
    # A dimension without any variance, or clusters that are points, would make it singular.
    shrunk += LEAST_SHRINKAGE * X.var(axis=0).mean() * np.eye(d)
    means = _means(X, codes, k)
    coefficients = cho_solve(cho_factor(shrunk), means.T)
    offset = np.log(np.bincount(codes) / len(X)) - (means.T * coefficients).sum(axis=0) / 2
    return softmax(X @ coefficients + offset, axis=1)
