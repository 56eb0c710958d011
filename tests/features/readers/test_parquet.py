"""Tables of Parquet, an image or a descriptor a row."""

from __future__ import annotations

from contextlib import suppress

import numpy as np
import pytest

import sources
from sources import assert_all_read, same_geometry
from vladkit.errors import (
    FileFormatError,
    ImageError,
)
from vladkit.features.readers import open_reader

pa = pytest.importorskip("pyarrow", reason="the test extra has it")


class TestParquet:
    def test_a_image_a_row(self, images, tmp_path):
        sources.write_parquet(tmp_path / "a.parquet", images)
        with open_reader(f"parquet:{tmp_path / 'a.parquet'}") as reader:
            assert reader.info().image_sizes
            assert_all_read(reader, images)
            for name, features in images.items():
                same_geometry(reader.read(name), features)

    @pytest.mark.parametrize("row_group_size", [100, 700, 10_000])
    def test_a_descriptor_a_row(self, images, tmp_path, row_group_size):
        sources.write_parquet(
            tmp_path / "a.parquet", images, by_row=True, row_group_size=row_group_size
        )
        with open_reader(f"parquet:{tmp_path / 'a.parquet'}") as reader:
            assert_all_read(reader, images)
            held = reader.info()
            assert held.places
            assert not held.image_sizes
            for name, features in images.items():
                np.testing.assert_array_equal(reader.read(name).xy_l2, features.xy_l2)

    NUMBERS = ("float16", "float32", "float64", "uint8", "int8", "int64", "uint64")

    @pytest.mark.parametrize("value", NUMBERS)
    @pytest.mark.parametrize("outer", ["list", "large_list", "fixed_size_list"])
    @pytest.mark.parametrize("inner", ["list", "large_list", "fixed_size_list"])
    def test_lists_and_numbers_of_any_type(self, tmp_path, value, outer, inner):
        def lists(kind, inside, n):
            sized = {"list": pa.list_, "large_list": pa.large_list}
            return sized[kind](inside) if kind in sized else pa.list_(inside, n)

        number = pa.type_for_alias(value)
        per_image = lists(outer, lists(inner, number, 2), 3)
        table = {"a": [[1, 2], [3, 4], [5, 6]], "b": [[7, 8], [9, 9], [0, 1]]}
        columns = {"name": list(table), "descriptors": pa.array(list(table.values()), per_image)}
        columns["scores"] = pa.array([[3, 2, 1], None], lists(outer, number, 3))
        flat = pa.array(table["a"] + table["b"], lists(inner, number, 2))
        rows = {"name": list("aaabbb"), "descriptor": flat, "score": pa.array([3, 2, 1, 0, 0, 0])}
        for each in (columns, rows):
            with open_reader(self.written(tmp_path, each)) as reader:
                for name, wanted in table.items():
                    read = reader.read(name)
                    assert read.descriptor_lf.dtype == value
                    assert read.descriptor_lf.tolist() == wanted
                assert reader.read("a").score_l.tolist() == [3, 2, 1]
                assert reader.read("b").score_l.tolist() == [0, 0, 0]

    @pytest.mark.parametrize("names", ["dictionary", "large_string", "string_view"])
    def test_names_of_any_text_type(self, tmp_path, names):
        plain = pa.array(["a", "b"])
        text = plain.dictionary_encode() if names == "dictionary" else plain.cast(names)
        columns = {"name": text, "descriptors": [[[1.0]], [[2.0]]]}
        with open_reader(self.written(tmp_path, columns)) as reader:
            assert reader.read("b").descriptor_lf.tolist() == [[2]]

    def written(self, tmp_path, columns):
        import pyarrow.parquet as pq

        table = columns if isinstance(columns, pa.Table) else pa.table(columns)
        pq.write_table(table, tmp_path / "a.parquet")
        return f"parquet:{tmp_path / 'a.parquet'}"

    OTHERS = (
        ["x", "y"],
        [b"x", b"y"],
        [True, False],
        [1.0, 2.0],
        [None, None],
        [[1.0], [2.0]],
        [["x"], ["y"]],
        [[True], [False]],
        [[None], [1.0]],
        [[["x", "y"]], [["x", "y"]]],
        [[[None, 1.0]], [[1.0, 2.0]]],
        [[None, [1.0, 2.0]], [[1.0, 2.0]]],
        [[[1.0], [1.0, 2.0]], [[1.0, 2.0]]],
        [[[[1.0, 2.0]]], [[[1.0, 2.0]]]],
        [{"x": 1.0}, {"x": 2.0}],
        [[{"x": 1.0}], [{"x": 2.0}]],
        [float("nan"), float("inf")],
        [-1, 0],
        [2**70 // 1.0, 1e300],
    )

    @pytest.mark.parametrize("other", OTHERS, ids=map(str, OTHERS))
    @pytest.mark.parametrize("by_row", [False, True])
    def test_columns_of_other_types_are_named(self, tmp_path, other, by_row):
        """Any column of any type is read, or an error of ours."""
        good = {"descriptors": [[[1.0, 2.0]]] * 2, "keypoints": [[[5.0, 6.0]]] * 2}
        good |= {"scores": [[1.0]] * 2, "sizes": [[1.0]] * 2, "angles": [[1.0]] * 2}
        if by_row:
            good = {"descriptor": [[1.0, 2.0]] * 2, "score": [1.0] * 2, "size": [1.0] * 2}
            good |= {"x": [5.0] * 2, "y": [6.0] * 2, "angle": [1.0] * 2}
        good |= {"width": [20] * 2, "height": [30] * 2}
        for column in good:
            source = self.written(tmp_path, {"name": ["a", "b"]} | good | {column: other})
            with open_reader(source) as reader:
                for name in "ab":
                    reader.status(name)
                    try:
                        f = reader.read(name)
                    except ImageError:
                        continue
                    for array in (f.descriptor_lf, f.xy_l2, f.size_l, f.angle_l, f.score_l):
                        assert np.isfinite(array.astype(np.float32)).all()
                    assert 0 < f.width < 2**31
                with suppress(FileFormatError):
                    assert reader.info().dimensions in (1, 2)

    def test_columns_that_occur_twice_and_names_that_are_no_text(self, tmp_path):
        arrays = [pa.array(["a"]), pa.array([[[1.0]]]), pa.array([[[1.0]]])]
        twice = pa.table(arrays, names=["name", "descriptors", "descriptors"])
        with pytest.raises(FileFormatError, match="several columns descriptors"):
            open_reader(self.written(tmp_path, twice))
        bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers())
        with pytest.raises(FileFormatError, match="utf-8"):
            open_reader(self.written(tmp_path, {"name": bad, "descriptors": [[[1.0]]]}))
        source = self.written(tmp_path, {"name": ["a"], "descriptors": [[[1.0]]], "scores": ["x"]})
        with (
            open_reader(source) as reader,
            pytest.raises(ImageError, match="scores: got string, wanted lists of numbers"),
        ):
            reader.read("a")

    def test_bad_tables(self, tmp_path):
        import pyarrow.parquet as pq

        path = tmp_path / "a.parquet"

        def write(**columns):
            pq.write_table(pa.table(columns), path)
            return f"parquet:{path}"

        with pytest.raises(FileFormatError, match="has columns a: wanted name and"):
            open_reader(write(a=[1]))
        with pytest.raises(FileFormatError, match="occurs twice"):
            open_reader(write(name=["a", "a"], descriptors=[[[1.0]], [[1.0]]]))
        with pytest.raises(FileFormatError, match="do not follow each other"):
            open_reader(write(name=["a", "b", "a"], descriptor=[[1.0], [1.0], [1.0]]))
        with pytest.raises(FileFormatError, match="a name is None"):
            open_reader(write(name=["a", None], descriptors=[[[1.0]], [[1.0]]]))
        bad = write(
            name=list("abcd"),
            descriptors=[[[1.0, 2.0], [3.0, 4.0]], [[1.0], [1.0, 2.0]], [], [[1.0, float("nan")]]],
        )
        with open_reader(bad) as reader:
            assert reader.read("a").descriptor_lf.tolist() == [[1, 2], [3, 4]]
            for name, reason in {"b": "differ", "c": "no features", "d": "NaN"}.items():
                with pytest.raises(ImageError, match=reason):
                    reader.read(name)
                reader.status(name)
        path.write_bytes(path.read_bytes()[:-10])
        with pytest.raises(FileFormatError, match="not Parquet, or damaged"):
            open_reader(f"parquet:{path}")
