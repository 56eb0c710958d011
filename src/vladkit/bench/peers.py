"""Programs to compare with: those of the article as published, and faiss.

The listings of the article have lost lines, which are put back here, and its last program fails
if the first or last cluster is empty, which is fixed and marked. Labels are from scikit-learn, as
in the article. Sums have the dtype of the descriptors, with which ``np.add.at`` is fast.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from vladkit.core.arrays import FloatArray, Int64Array

__all__ = [
    "article_add_at",
    "article_cumsum",
    "article_loop",
    "article_mask",
    "faiss_add_at",
    "faiss_index",
    "fitted_kmeans",
]


def fitted_kmeans(local_tlf: FloatArray, centroid_kf: FloatArray) -> Any:
    """scikit-learn's MiniBatchKMeans with the given centroids."""
    from sklearn.cluster import MiniBatchKMeans

    k, f = centroid_kf.shape
    kmeans = MiniBatchKMeans(k, init=centroid_kf, n_init=1, max_iter=1, random_state=0)
    kmeans.fit(local_tlf.reshape(-1, f)[: max(1000, k)])
    kmeans.cluster_centers_ = centroid_kf.copy()
    return kmeans


def article_loop(kmeans: Any, local_tlf: FloatArray) -> FloatArray:
    """The article's ``looping``: labels of an image, then one sum for each cluster."""
    t, _, f = local_tlf.shape
    center_kf = kmeans.cluster_centers_
    vlad_tkf = np.zeros((t, len(center_kf), f), local_tlf.dtype)
    for local_lf, vlad_kf in zip(local_tlf, vlad_tkf, strict=True):
        label_l = kmeans.predict(local_lf)
        for i in range(len(center_kf)):
            vlad_kf[i] = np.sum(local_lf[label_l == i] - center_kf[i], axis=0)
    return vlad_tkf


def article_mask(kmeans: Any, local_tlf: FloatArray) -> FloatArray:
    """The article's ``naivec``: all differences, times a mask."""
    t, l, f = local_tlf.shape
    center_kf = kmeans.cluster_centers_
    label_tl = kmeans.predict(local_tlf.reshape(-1, f)).reshape(t, l)
    mask_tlk = label_tl[..., np.newaxis] == np.arange(len(center_kf))
    delta_tlkf = local_tlf[..., np.newaxis, :] - center_kf
    vlad_tkf: FloatArray = (delta_tlkf * mask_tlk[..., np.newaxis]).sum(axis=1)
    return vlad_tkf


def article_add_at(kmeans: Any, local_tlf: FloatArray) -> FloatArray:
    """The article's ``truvec``: ``np.add.at`` of descriptors, minus counts times centroids."""
    label_N = kmeans.predict(local_tlf.reshape(-1, local_tlf.shape[2]))
    return _add_at(local_tlf, label_N, kmeans.cluster_centers_)


def _add_at(local_tlf: FloatArray, label_N: Int64Array, center_kf: FloatArray) -> FloatArray:
    t, l, f = local_tlf.shape
    k = len(center_kf)
    bucket_N = (label_N.reshape(t, l) + np.arange(t)[:, np.newaxis] * k).ravel()
    vlad_tkf = np.zeros((t, k, f), local_tlf.dtype)
    np.add.at(vlad_tkf.reshape(t * k, f), bucket_N, local_tlf.reshape(t * l, f))
    count_tk = np.bincount(bucket_N, minlength=t * k).reshape(t, k)
    vlad_tkf -= count_tk[..., np.newaxis].astype(local_tlf.dtype) * center_kf
    return vlad_tkf


def article_cumsum(kmeans: Any, local_tlf: FloatArray) -> FloatArray:
    """The article's ``optvec``: sort, cumulative sum, differences where the label changes."""
    t, l, f = local_tlf.shape
    center_kf = kmeans.cluster_centers_
    k = len(center_kf)
    label_tl = kmeans.predict(local_tlf.reshape(-1, f)).reshape(t, l)
    n_buckets = t * k
    label_N = (label_tl + np.arange(t)[:, np.newaxis] * k).ravel()
    local_fN = local_tlf.reshape(-1, f).T
    order_N = np.argsort(label_N)
    local_fN = local_fN[:, order_N]
    label_N = label_N[order_N]
    switch_N = np.diff(label_N, prepend=0)
    last = np.flatnonzero(switch_N)
    last = np.repeat(last, switch_N[last])
    last = np.append(last, np.full(n_buckets - len(last), len(label_N)))  # fixed: empty at the end
    last -= 1
    np.cumsum(local_fN, axis=1, out=local_fN)
    prefix_fb = local_fN[:, last]
    prefix_fb[:, last < 0] = 0  # fixed: empty at the start
    clustered_fb = np.diff(prefix_fb, axis=1, prepend=np.zeros_like(local_fN[:, 0:1]))
    count_b = np.diff(last, prepend=-1)
    vlad_tkf: FloatArray = clustered_fb.T.reshape(t, k, f)
    vlad_tkf -= count_b.reshape(t, k, 1).astype(local_tlf.dtype) * center_kf
    return vlad_tkf


def faiss_index(centroid_kf: FloatArray) -> Any:
    """Exact faiss index of the centroids; faiss computes in float32."""
    import faiss

    index = faiss.IndexFlatL2(centroid_kf.shape[1])
    index.add(centroid_kf.astype(np.float32, copy=False))
    return index


def faiss_add_at(index: Any, centroid_kf: FloatArray, local_tlf: FloatArray) -> FloatArray:
    """Labels from faiss, then sums as in `article_add_at`."""
    local_Nf = local_tlf.reshape(-1, local_tlf.shape[2])
    _, label_N1 = index.search(local_Nf.astype(np.float32, copy=False), 1)
    return _add_at(local_tlf, label_N1[:, 0], centroid_kf)
