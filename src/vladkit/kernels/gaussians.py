"""Compiled code of a mixture's posteriors: distances, and weighted moments.

Vector code as in `vladkit.kernels.compiled`, for the reasons given there: the distances of some
descriptors to a vector of Gaussians stay in registers over all dimensions, and so do a centroid's
sums over all its descriptors. All is in this file: Numba would not notice a change elsewhere.

``((x - m) / s)^2`` is taken as it stands, two multiply-adds for each dimension, and not expanded to
``x^2 / s^2 - 2 x m / s^2 + m^2 / s^2``, which is two as well, in two matrix products: where the
means lie 100 s apart that loses four of the seven digits of float32.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic

from vladkit.core.arrays import FloatArray
from vladkit.kernels.cached import compiled

__all__ = ["least_distances", "pack_gaussians", "padded", "posterior_moments"]

# "contract": a product and a sum may become one instruction; nothing is reordered
_OPTIONS: Final[dict[str, Any]] = {"fastmath": {"contract"}, "error_model": "numpy"}

_SUMMED: Final = 256
"""Rows that are summed together, centroid by centroid."""

_, _, _features = cpu_target.target_context.codegen().magic_tuple()
_IS_WIDE: Final = "+avx512f" in _features.split(",")

_PANEL: Final = 64
"""Bytes of a vector of distances, 16 float32."""

_ROWS: Final = (4, 8) if _IS_WIDE else (2, 3)
"""Descriptors at once, against two vectors of Gaussians and against one: as many as there are
registers for. (AVX2, float32, 2,000 x 128, k = 64: 2 and 3 rows as fast as the product of the
expanded form, 1.0 to 1.1 ms of one core; 4 and 8 rows 1.9, 8 and 8 2.3.)"""

_SUM: Final = 64 if _IS_WIDE else 32
"""Bytes of a vector of sums: one register."""

_SUMS: Final = 6 if _IS_WIDE else 3
"""Such vectors at once, of values and as many of their squares."""

_INDEX = ir.IntType(64)


class _Program:
    """LLVM idioms for vectors of `size` bytes of one float type."""

    def __init__(self, context: Any, builder: Any, dtype: Any, size: int) -> None:
        self.builder = builder
        self.bytes = dtype.bitwidth // 8
        self.width = size // self.bytes
        self.vector = ir.VectorType(context.get_data_type(dtype), self.width)
        self.narrow = self.vector

    def at(self, base: Any, *offsets: Any) -> Any:
        total = offsets[0]
        for offset in offsets[1:]:
            total = self.builder.add(total, offset)
        return self.builder.gep(base, [total])

    def load(self, address: Any, vector: Any = None) -> Any:
        vector = vector or self.vector
        loaded = self.builder.load(self.builder.bitcast(address, vector.as_pointer()))
        loaded.align = 4
        return loaded

    def store(self, value: Any, address: Any) -> None:
        at = self.builder.bitcast(address, self.vector.as_pointer())
        self.builder.store(value, at).align = self.bytes

    def splat(self, value: Any) -> Any:
        lane = ir.IntType(32)
        empty = ir.Constant(self.vector, ir.Undefined)
        first = self.builder.insert_element(empty, value, ir.Constant(lane, 0))
        chosen = ir.Constant(ir.VectorType(lane, self.width), [0] * self.width)
        return self.builder.shuffle_vector(first, empty, chosen)

    def multiply_add(self, a: Any, b: Any, c: Any) -> Any:
        kind = ir.FunctionType(self.vector, [self.vector] * 3)
        name = f"llvm.fmuladd.v{self.width}f{8 * self.bytes}"
        function = cgutils.get_or_insert_function(self.builder.module, kind, name)
        return self.builder.call(function, [a, b, c])


def _index(value: int) -> Any:
    return ir.Constant(_INDEX, value)


def _addresses(context: Any, builder: Any, signature: Any, arguments: Any, *which: int) -> Any:
    return [
        context.make_array(signature.args[i])(context, builder, arguments[i]).data for i in which
    ]


def pack_gaussians(
    mean_kf: FloatArray, scale_kf: FloatArray, log_k: FloatArray, dtype: np.dtype[Any]
) -> tuple[FloatArray, FloatArray, FloatArray]:
    """Lay out Gaussians in p vectors of w: ``1 / s`` and ``-m / s`` (p, f, w), and -2 log (p, w).

    Spare places of the last vector are infinitely far from everything.
    """
    k, f = mean_kf.shape
    w = _PANEL // dtype.itemsize
    p = -(-k // w)
    pair = np.zeros((2, p * w, f))
    pair[0, :k], pair[1, :k] = scale_kf, -mean_kf * scale_kf
    start = np.full(p * w, np.inf)
    start[:k] = -2 * log_k
    packed = np.ascontiguousarray(pair.reshape(2, p, w, f).swapaxes(2, 3), dtype)
    return packed[0], packed[1], start.reshape(p, w).astype(dtype)


def padded(value_nf: FloatArray, dtype: np.dtype[Any], less_f: FloatArray | None = None) -> Any:
    """A copy, less a row, with zeros behind each row up to a whole vector of sums."""
    n, f = value_nf.shape
    w = _SUM // 4  # of float32; float64's fit in there
    out = np.empty((n, -(-f // w) * w), dtype)
    out[:, f:] = 0
    np.subtract(value_nf, 0 if less_f is None else less_f, out=out[:, :f], casting="same_kind")
    return out


def _distance_tile(rows: int, vectors: int) -> Any:
    """An intrinsic that writes the distances of `rows` descriptors to `vectors` vectors of
    Gaussians: ``tile(local, row, last, f, scale, shift, start, p, n, out)`` from vector p of n
    on. local and out are (N, stride), descriptors past `last` repeat it.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typing_context: Any, local: Any, stride: Any, row: Any, last: Any, f: Any, scale: Any,
        shift: Any, start: Any, p: Any, n: Any, out: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(local, stride, row, last, f, scale, shift, start, p, n, out)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            program = _Program(context, builder, local.dtype, _PANEL)
            address = _addresses(context, builder, signature, arguments, 0, 5, 6, 7, 10)
            _generate_distances(program, rows, vectors, address, arguments)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _generate_distances(
    program: _Program, rows: int, vectors: int, address: list[Any], arguments: Any
) -> None:
    builder, at = program.builder, program.at
    local_at, scale_at, shift_at, start_at, out_at = address
    _, stride, row, last, f, _, _, _, p, n, _ = arguments
    width = _index(program.width)
    row_at, out_row = [], []
    for r in range(rows):
        mine = builder.add(row, _index(r))
        mine = builder.select(builder.icmp_signed("<", mine, last), mine, last)
        row_at.append(at(local_at, builder.mul(mine, stride)))
        out_row.append(at(out_at, builder.mul(builder.add(builder.mul(mine, n), p), width)))
    first = [builder.mul(builder.add(p, _index(v)), width) for v in range(vectors)]
    start = [program.load(at(start_at, x)) for x in first]
    begin = [builder.mul(x, f) for x in first]

    before = builder.block
    loop = builder.append_basic_block("dimension")
    after = builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    j = builder.phi(_INDEX)
    distance = [[builder.phi(program.vector) for _ in range(vectors)] for _ in range(rows)]
    offset = builder.mul(j, width)
    scale = [program.load(at(scale_at, x, offset)) for x in begin]
    shift = [program.load(at(shift_at, x, offset)) for x in begin]
    total = []
    for r in range(rows):
        value = program.splat(builder.load(at(row_at[r], j)))
        part = [program.multiply_add(value, a, b) for a, b in zip(scale, shift, strict=True)]
        near = zip(part, distance[r], strict=True)
        total.append([program.multiply_add(d, d, so_far) for d, so_far in near])
    following = builder.add(j, _index(1))
    j.add_incoming(_index(0), before)
    j.add_incoming(following, loop)
    for r in range(rows):
        for v in range(vectors):
            distance[r][v].add_incoming(start[v], before)
            distance[r][v].add_incoming(total[r][v], loop)
    builder.cbranch(builder.icmp_signed("<", following, f), loop, after)
    builder.position_at_end(after)
    for r in range(rows):
        for v in range(vectors):
            program.store(total[r][v], at(out_row[r], _index(v * program.width)))


_distance_by_2, _distance_by_1 = _distance_tile(_ROWS[0], 2), _distance_tile(_ROWS[1], 1)


@compiled(error_model="numpy")
def least_distances(local_Nf, scale, shift, start, score_Nk):  # type: ignore[no-untyped-def]
    """Write minus half of each distance above a row's least: scores whose greatest is 0.

    Reads local_Nf, of which the first f columns count, scale, shift (p, f, w) and start (p, w);
    writes score_Nk (N, p w). All C-contiguous and of one dtype. A row at no finite distance has
    NaN.
    """
    n, stride = local_Nf.shape
    n_vectors, f, _ = scale.shape
    half = local_Nf.dtype.type(-0.5)
    block = 64  # rows that stay in L1 while all vectors pass
    for begin in range(0, n, block):
        end = min(begin + block, n)
        for p in range(0, n_vectors, 2):
            if n_vectors - p > 1:
                for i in range(begin, end, _ROWS[0]):
                    _distance_by_2(
                        local_Nf, stride, i, end - 1, f, scale, shift, start, p, n_vectors, score_Nk
                    )
            else:
                for i in range(begin, end, _ROWS[1]):
                    _distance_by_1(
                        local_Nf, stride, i, end - 1, f, scale, shift, start, p, n_vectors, score_Nk
                    )
        for i in range(begin, end):
            least = score_Nk[i, 0]
            for c in range(1, score_Nk.shape[1]):
                least = min(least, score_Nk[i, c])
            for c in range(score_Nk.shape[1]):
                score_Nk[i, c] = half * (score_Nk[i, c] - least)


def _sum_tile(vectors: int) -> Any:
    """An intrinsic that sums `vectors` vectors of rows, each row by its weight, in registers.

    ``tile(local, f, member, weight, n, scale, shift, c, j, first, second)``: rows ``member[i]``
    of local (N, f), for i below n, from column j on; sums of ``x * scale + shift``, times
    ``weight[i]``, go to (c, j) of first (k, f), those of its square to second. All but local and
    member have the dtype of the sums.
    """

    @intrinsic  # type: ignore[untyped-decorator]
    def tile(
        typing_context: Any, local: Any, f: Any, member: Any, weight: Any, n: Any, scale: Any,
        shift: Any, c: Any, j: Any, first: Any, second: Any,
    ) -> Any:  # fmt: skip
        signature = types.void(local, f, member, weight, n, scale, shift, c, j, first, second)

        def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
            program = _Program(context, builder, first.dtype, _SUM)
            program.narrow = ir.VectorType(context.get_data_type(local.dtype), program.width)
            address = _addresses(context, builder, signature, arguments, 0, 2, 3, 5, 6, 9, 10)
            _generate_sums(program, vectors, address, arguments)
            return context.get_dummy_value()

        return signature, generate

    return tile


def _generate_sums(program: _Program, vectors: int, address: list[Any], arguments: Any) -> None:
    builder, at = program.builder, program.at
    local_at, member_at, weight_at, scale_at, shift_at, first_at, second_at = address
    _, f, _, _, n, _, _, c, j, _, _ = arguments
    step = [_index(v * program.width) for v in range(vectors)]
    place = builder.add(builder.mul(c, f), j)
    scale = [program.load(at(scale_at, place, s)) for s in step]
    shift = [program.load(at(shift_at, place, s)) for s in step]
    out = [at(base, place, s) for base in (first_at, second_at) for s in step]

    before = builder.block
    loop = builder.append_basic_block("member")
    after = builder.append_basic_block("done")
    builder.branch(loop)
    builder.position_at_end(loop)
    i = builder.phi(_INDEX)
    so_far = [builder.phi(program.vector) for _ in out]
    row_at = at(local_at, builder.mul(builder.load(at(member_at, i)), f), j)
    weight = program.splat(builder.load(at(weight_at, i)))
    value = [program.load(at(row_at, s), program.narrow) for s in step]
    if program.narrow != program.vector:
        value = [builder.fpext(x, program.vector) for x in value]
    value = [program.multiply_add(*term) for term in zip(value, scale, shift, strict=True)]
    part = [builder.fmul(weight, y) for y in value]
    total = [builder.fadd(s, x) for s, x in zip(so_far[:vectors], part, strict=True)]
    squares = zip(part, value, so_far[vectors:], strict=True)
    total += [program.multiply_add(*term) for term in squares]
    following = builder.add(i, _index(1))
    i.add_incoming(_index(0), before)
    i.add_incoming(following, loop)
    for s, t in zip(so_far, total, strict=True):
        s.add_incoming(ir.Constant(program.vector, [0.0] * program.width), before)
        s.add_incoming(t, loop)
    builder.cbranch(builder.icmp_signed("<", following, n), loop, after)
    builder.position_at_end(after)
    for t, o in zip(total, out, strict=True):
        program.store(t, o)


_by_many, _by_1 = _sum_tile(_SUMS), _sum_tile(1)


@compiled(**_OPTIONS)
def posterior_moments(  # type: ignore[no-untyped-def]
    shifted_Nf, start_T, weight_Nk, scale_kf, shift_kf, least, out_tkm, mass_tk
):
    """Write ``sum_l w_lk y_l``, then ``sum_l w_lk (y_l^2 - 1)``, of ``y_l = x_l * scale_k +
    shift_k``, and ``sum_l w_lk``; a row of weights is first made to sum to 1.

    Rows, scale and shift are `padded`; weights below `least` are left out. Sums are in the dtype of
    scale and shift.
    """
    t, k, m = out_tkm.shape
    f, stride = m // 2, shifted_Nf.shape[1]
    lanes = _SUM // scale_kf.itemsize
    many = lanes * _SUMS
    # rows of a piece that each centroid gets, and their weights
    member_kr = np.empty((k, _SUMMED), np.int64)
    weight_kr = np.empty((k, _SUMMED), scale_kf.dtype)
    n_members_k = np.empty(k, np.int64)
    first_kf = np.empty((k, stride), scale_kf.dtype)
    second_kf = np.empty((k, stride), scale_kf.dtype)
    wide_km, wide_k = np.empty((k, m), np.float64), np.empty(k, np.float64)
    for image in range(t):
        wide_km[:] = 0
        wide_k[:] = 0
        end = start_T[image + 1]
        for begin in range(start_T[image], end, _SUMMED):
            n_members_k[:] = 0
            for i in range(begin, min(begin + _SUMMED, end)):
                total = weight_Nk.dtype.type(0)
                for c in range(k):
                    total += weight_Nk[i, c]
                for c in range(k):
                    weight = weight_Nk[i, c] / total
                    place = n_members_k[c]
                    member_kr[c, place] = i
                    weight_kr[c, place] = weight
                    wide_k[c] += weight
                    n_members_k[c] = place + (not weight < least)  # NaN is kept
            for c in range(k):
                n, j = n_members_k[c], 0
                if n == 0:
                    continue
                member, weights = member_kr[c], weight_kr[c]
                while j < stride:
                    if stride - j >= many:
                        _by_many(
                            shifted_Nf, stride, member, weights, n, scale_kf, shift_kf, c, j,
                            first_kf, second_kf,
                        )  # fmt: skip
                        j += many
                    else:
                        _by_1(
                            shifted_Nf, stride, member, weights, n, scale_kf, shift_kf, c, j,
                            first_kf, second_kf,
                        )  # fmt: skip
                        j += lanes
                for j in range(f):
                    wide_km[c, j] += first_kf[c, j]
                    wide_km[c, f + j] += second_kf[c, j]
        for c in range(k):
            mass_tk[image, c] = wide_k[c]
            for j in range(f):
                out_tkm[image, c, j] = wide_km[c, j]
                out_tkm[image, c, f + j] = wide_km[c, f + j] - wide_k[c]
