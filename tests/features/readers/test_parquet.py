"""Tables of Parquet, an image or a descriptor a row."""

from __future__ import annotations

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
