"""Pairs for reconstruction, held to plain loops over the same vectors and features."""

from __future__ import annotations

import itertools
import json
import os
import shutil
import unicodedata
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from commands import run
from photos import cropped, darker, photo, smaller
from vladkit import Collection
from vladkit.collection import pairs as pairing
from vladkit.collection import searching
from vladkit.collection.pair_list import chosen
from vladkit.errors import FileFormatError, NothingToIndexError, ParameterError, StorageError
from vladkit.geometry.verification import rescore, verify_all
from vladkit.store.naming import natural
from vladkit.store.store import Store

SCENES = ["astronaut", "brick", "chelsea", "coffee", "motorcycle_left", "rocket"]
VIEWS = {"1": lambda image: image, "2": cropped, "10": smaller, "11": darker}


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """scenes.vlad of four views of six things, in a folder for each thing."""
    home = tmp_path_factory.mktemp("pairing")
    for scene, (number, view) in itertools.product(SCENES, VIEWS.items()):
        (home / "scenes" / scene).mkdir(parents=True, exist_ok=True)
        small = cv2.resize(photo(scene), (420, 320), interpolation=cv2.INTER_AREA)
        cv2.imwrite(str(home / "scenes" / scene / f"{number}.png"), view(small))
    recipe = {"n_clusters": 16, "keep_features": 300}
    with Collection.create(home / "scenes.vlad", n_words=0, **recipe) as collection:
        collection.add([home / "scenes"])
    with Collection.create(home / "words.vlad", **recipe) as collection:
        collection.add([home / "scenes"])
    return home


@pytest.fixture
def scenes(home):
    with Collection.open(home / "scenes.vlad", read_only=True) as collection:
        yield collection


@pytest.fixture
def own(home, tmp_path):
    return Path(shutil.copy(home / "scenes.vlad", tmp_path / "own.vlad"))


def similarities(collection):
    """(names in natural order, image ids, similarity_nn) by a plain product."""
    rows = sorted(collection.images(), key=lambda row: natural(row.path))
    ids = [row.image_id for row in rows]
    vectors = collection.index.store.vectors(ids)
    vector_nD = np.stack([vectors[i] for i in ids]).astype(np.float32)
    return [row.path for row in rows], ids, (vector_nD @ vector_nD.T).round(6)


@pytest.fixture(scope="module")
def verified(home):
    """Inliers of every pair of rows, the first one asking."""
    with Collection.open(home / "scenes.vlad", read_only=True) as scenes:
        _, ids, _ = similarities(scenes)
        kept = scenes.index.searcher.features(ids)
        metric = scenes.extractor.metric
    features = [kept[i] for i in ids]
    return {
        (i, i + 1 + j): found.n_inliers
        for i, each in enumerate(features)
        for j, found in enumerate(verify_all(each, features[i + 1 :], metric))
    }


def best_of(score_nn, n):
    """The n best others of each row, by sorting; ties by row."""
    return [
        sorted((j for j in range(len(row)) if j != i), key=lambda j: (-row[j], j))[:n]
        for i, row in enumerate(score_nn.tolist())
    ]


def as_set(chosen):
    return {tuple(sorted((i, j))) for i, others in enumerate(chosen) for j in others}


def rows_of(found):
    return {tuple(row) for row in found.row_p2.tolist()}


class TestSimilar:
    @pytest.mark.parametrize("top", [1, 3, 7, 23, 100])
    def test_what_a_plain_loop_finds(self, scenes, top):
        names, _, similarity_nn = similarities(scenes)
        found = scenes.pairs(top)
        assert list(found.names) == names
        assert rows_of(found) == as_set(best_of(similarity_nn, top))
        assert len(rows_of(found)) == len(found)  # each once
        assert (found.row_p2[:, 0] < found.row_p2[:, 1]).all()  # never itself
        assert found.row_p2.tolist() == sorted(found.row_p2.tolist())
        wanted_p = similarity_nn[tuple(found.row_p2.T)]
        np.testing.assert_allclose(found.similarity_p, wanted_p, atol=2e-6)
        assert set(found.inliers_p.tolist()) == {-1}
        assert found.root == str(next(scenes.images()).file)[: len(found.root)]

    def test_views_of_a_thing_find_each_other(self, scenes):
        found = scenes.pairs(1)
        assert len(found) >= len(SCENES) * len(VIEWS) / 2  # every view is in one
        for pair in found:
            assert os.path.dirname(pair.first) == os.path.dirname(pair.second)

    def test_scores_are_never_held_for_all_at_once(self, scenes, monkeypatch):
        wanted = rows_of(scenes.pairs(3))
        sizes = []
        scores = scenes.index.searcher.scores

        def watched(*query):
            found = scores(*query)
            sizes.append(found[1].size)
            return found

        monkeypatch.setattr(pairing, "_VALUES", 5 * scenes.n_dimensions)
        monkeypatch.setattr(scenes.index.searcher, "scores", watched)
        assert rows_of(scenes.pairs(3)) == wanted
        assert max(sizes) == 5 * 24
        assert len(sizes) == 5

    def test_least_similarity(self, scenes):
        names, _, similarity_nn = similarities(scenes)
        limit = float(np.median(similarity_nn))
        similar = {
            pair for pair in as_set(best_of(similarity_nn, 9)) if similarity_nn[pair] >= limit
        }
        found = scenes.pairs(9, min_score=limit)
        assert rows_of(found) == similar
        assert len(similar) < len(rows_of(scenes.pairs(9)))
        assert len(scenes.pairs(9, min_score=1.0)) == 0
        assert scenes.pairs(9, min_score=1.0).n_components == len(names)

    def test_with_an_approximate_index(self, own):
        with Collection.open(own) as collection:
            exact = rows_of(collection.pairs(2))
            collection.build_ann()
            assert collection.index.searcher.ann() is not None
            assert rows_of(collection.pairs(2)) == exact

    def test_quarter_turns(self, tmp_path):
        (tmp_path / "p").mkdir()
        for name in SCENES:
            small = cv2.resize(photo(name), (420, 320), interpolation=cv2.INTER_AREA)
            cv2.imwrite(str(tmp_path / "p" / f"{name}.png"), small)
            cv2.imwrite(str(tmp_path / "p" / f"{name}-turned.png"), cv2.rotate(small, 0))
        recipe = {"n_clusters": 16, "orientation": 0.6, "n_words": 0}
        with Collection.create(tmp_path / "c", **recipe) as collection:
            collection.add([tmp_path / "p"])
            plain, turned = collection.pairs(1), collection.pairs(1, rotated=True)
        assert {(f"{name}-turned.png", f"{name}.png") for name in SCENES} == {
            (pair.first, pair.second) for pair in turned
        }
        assert rows_of(plain) != rows_of(turned)

    @pytest.mark.parametrize(
        "wrong",
        [{"top": -1}, {"top": 0}, {"top": 0, "sequential": 2, "rerank": 3}, {"rerank": -1},
         {"sequential": -1}, {"min_score": 1.5}, {"min_score": float("nan")}, {"n_jobs": 0},
         {"root": "/nowhere"}],
    )  # fmt: skip
    def test_refused(self, scenes, wrong):
        with pytest.raises(ParameterError):
            scenes.pairs(**wrong)

    def test_an_empty_collection_and_one_image(self, own, tmp_path):
        with (
            Collection.create(tmp_path / "empty") as empty,
            pytest.raises(NothingToIndexError, match="holds no images"),
        ):
            empty.pairs(3)
        with Collection.open(own) as collection:
            collection.remove([row.path for row in collection.images()][1:])
            found = collection.pairs(3, sequential=2, rerank=2, connected=True)
            assert (len(found), len(found.names), found.n_components) == (0, 1, 1)
            collection.remove([row.path for row in collection.images()])
            assert len(collection.pairs(3, sequential=2, connected=True)) == 0

    def test_a_vector_that_is_gone(self, own):
        with Store.open(own) as store, store.writing():
            store.connection.execute("UPDATE picture SET block_id = NULL WHERE picture_id = 3")
        with (
            Collection.open(own) as collection,
            pytest.raises(FileFormatError, match="lacks vectors of 1 images: run vladkit check"),
        ):
            collection.pairs(3)


class TestSequential:
    def test_those_that_follow_in_the_folder_by_number(self, scenes):
        found = scenes.pairs(0, sequential=2)
        wanted = {("1", "2"), ("1", "10"), ("2", "10"), ("2", "11"), ("10", "11")}
        assert {(pair.first, pair.second) for pair in found} == {
            (f"{scene}/{a}.png", f"{scene}/{b}.png") for scene in SCENES for a, b in wanted
        }
        _, _, similarity_nn = similarities(scenes)
        wanted_p = similarity_nn[tuple(found.row_p2.T)]
        np.testing.assert_allclose(found.similarity_p, wanted_p, atol=2e-6)

    def test_in_small_batches_and_joined_with_the_similar(self, scenes, monkeypatch):
        wanted = rows_of(scenes.pairs(0, sequential=3))
        monkeypatch.setattr(pairing, "_VALUES", 2 * scenes.n_dimensions)
        assert rows_of(scenes.pairs(0, sequential=3)) == wanted
        assert rows_of(scenes.pairs(2, sequential=3)) == wanted | rows_of(scenes.pairs(2))

    def test_a_folder_and_one_within_it_are_two(self, tmp_path):
        (tmp_path / "p" / "b").mkdir(parents=True)
        for name in ("1", "b/1", "b/2", "c"):
            cv2.imwrite(str(tmp_path / "p" / f"{name}.png"), photo("coffee")[:: len(name)])
        with Collection.create(tmp_path / "c", n_clusters=4, enlarge_to=0) as collection:
            collection.add([tmp_path / "p"])
            found = collection.pairs(0, sequential=1)
        assert [(p.first, p.second) for p in found] == [
            ("1.png", "c.png"),
            ("b/1.png", "b/2.png"),
        ]


class TestWords:
    """With match codes the first ones by vectors are ordered by both."""

    def order(self, collection):
        names, ids, similarity_nn = similarities(collection)
        found, codes = collection.index.store.codes(ids)
        place = [found.index(i) for i in ids]
        agreement_nn = collection.index.describer.asmk._similarity(
            codes, codes, rotated=True, weight=0.8
        )[np.ix_(place, place)]
        score_nn = similarity_nn * (agreement_nn + 0.002) / 1.002
        np.fill_diagonal(score_nn, -1)
        return names, similarity_nn, score_nn

    def test_what_a_plain_loop_finds(self, home):
        with Collection.open(home / "words.vlad", read_only=True) as collection:
            names, similarity_nn, score_nn = self.order(collection)
            found = {(p.first, p.second): p.similarity for p in collection.pairs(2)}
        wanted = {}
        for a, score_n in enumerate(score_nn):
            for b in np.argsort(-score_n, kind="stable")[:2].tolist():
                first, second = sorted((a, b))
                wanted[names[first], names[second]] = similarity_nn[a, b]
        assert found == pytest.approx(wanted, abs=2e-6)

    def test_of_one_query_among_some(self, home):
        with Collection.open(home / "words.vlad", read_only=True) as collection:
            names, _, score_nn = self.order(collection)
            allowed = [n for n in names if not n.startswith("brick/1")]
            found = collection.pairs(1, queries=["brick/1.png"], database=allowed)
        row = score_nn[names.index("brick/1.png")].copy()
        row[[i for i, n in enumerate(names) if n not in allowed]] = -1
        assert [(p.first, p.second) for p in found] == [("brick/1.png", names[row.argmax()])]

    def test_one_group_in_the_end(self, home):
        with Collection.open(home / "words.vlad", read_only=True) as collection:
            assert collection.pairs(1).n_components > 1
            assert collection.pairs(1, connected=True, rerank=3).n_components == 1


class TestRerank:
    @pytest.mark.parametrize("n_jobs", [1, 3])
    @pytest.mark.parametrize(("top", "rerank"), [(2, 6), (4, 3), (3, 30)])
    def test_the_order_that_matching_gives(self, scenes, verified, top, rerank, n_jobs):
        _, _, similarity_nn = similarities(scenes)
        inliers = {}
        chosen = []
        for i, near in enumerate(best_of(similarity_nn, max(top, rerank))):
            for j in near[:rerank]:
                inliers[tuple(sorted((i, j)))] = verified[tuple(sorted((i, j)))]
            score = {
                j: rescore(similarity_nn[i, [j]], np.array([inliers[tuple(sorted((i, j)))]]))[0]
                for j in near[:rerank]
            }
            order = sorted(near[:rerank], key=lambda j: -score[j]) + near[rerank:]
            chosen.append(order[:top])
        got = scenes.pairs(top, rerank=rerank, n_jobs=n_jobs)
        assert rows_of(got) == as_set(chosen)
        for pair, n in zip(map(tuple, got.row_p2.tolist()), got.inliers_p.tolist(), strict=True):
            assert n == inliers.get(pair, -1)

    def test_each_pair_is_matched_once(self, scenes, monkeypatch):
        asked, steps = [], []

        def counted(query, others, metric, **options):
            asked.extend((id(query), id(other)) for other in others)
            return verify_all(query, others, metric, **options)

        features = scenes.index.searcher.features([row.image_id for row in scenes.images()])
        monkeypatch.setattr(
            scenes.index.searcher, "features", lambda ids: {i: features[i] for i in ids}
        )
        monkeypatch.setattr(searching, "verify_all", counted)
        scenes.pairs(3, rerank=5, n_jobs=1, progress=lambda *step: steps.append(step))
        pairs = {frozenset(pair) for pair in asked}
        assert len(asked) == len(pairs) == len(scenes.pairs(5))
        assert steps[-1] == ("match", len(asked), len(asked))
        done = [n for name, n, _ in steps if name == "match"]
        assert done == sorted(done)
        assert ("pairs", 24, 24) in steps

    def test_it_needs_features(self, photos, tmp_path):
        with Collection.create(
            tmp_path / "c", n_clusters=8, keep_features=0, enlarge_to=0
        ) as collection:
            collection.add([photos])
            assert len(collection.pairs(2))
            for option in ({"rerank": 3}, {"rotated": True}):
                with pytest.raises(ParameterError, match="keeps no features"):
                    collection.pairs(2, **option)


class TestConnected:
    def components(self, found):
        label = list(range(len(found.names)))
        for a, b in found.row_p2.tolist():
            label = [label[a] if x == label[b] else x for x in label]
        return label

    @pytest.mark.parametrize("top", [1, 3])
    def test_the_best_pairs_between_groups(self, scenes, top):
        _, _, similarity_nn = similarities(scenes)
        apart = scenes.pairs(top, min_score=0.3)
        assert apart.n_components == len(set(self.components(apart))) > 2
        joined = scenes.pairs(top, min_score=0.3, connected=True)
        assert joined.n_components == len(set(self.components(joined))) == 1
        added = rows_of(joined) - rows_of(apart)
        assert rows_of(apart) < rows_of(joined)
        # the best pair that leaves a group is in for every group but one
        label = self.components(apart)
        best = {}
        for a, b in itertools.permutations(range(len(label)), 2):
            if label[a] != label[b]:
                best.setdefault(label[a], []).append((-similarity_nn[a, b], tuple(sorted((a, b)))))
        firsts = [sorted(pairs)[0][1] for pairs in best.values()]
        assert sum(pair not in added for pair in firsts) <= 1
        assert len(added) <= top * (len(best) - 1) * 2

    def test_steps(self, scenes):
        steps = []
        option = {"connected": True, "sequential": 1, "progress": lambda *step: steps.append(step)}
        scenes.pairs(1, rerank=2, **option)
        names = [name for name, _, _ in steps]
        assert list(dict.fromkeys(names)) == ["pairs", "match", "join"]
        assert all(0 < done <= total for _, done, total in steps)
        assert steps.count(("pairs", 24, 24)) == 1

    def test_nothing_is_added_to_one_group(self, scenes):
        wanted = scenes.pairs(12)
        assert wanted.n_components == 1
        assert rows_of(scenes.pairs(12, connected=True)) == rows_of(wanted)

    def test_sequences_are_joined_too(self, scenes):
        assert scenes.pairs(0, sequential=1).n_components == len(SCENES)
        assert scenes.pairs(0, sequential=1, connected=True).n_components == 1
        matched = scenes.pairs(1, rerank=2, min_score=0.3, connected=True)
        assert matched.n_components == 1
        assert (matched.inliers_p >= 0).all()

    def test_names_that_a_list_cannot_hold_join_no_others(self, home, tmp_path):
        """The rest of a list is one group without them."""
        for i, scene in enumerate(SCENES):
            shutil.copytree(home / "scenes" / scene, tmp_path / "p" / scene)
            (tmp_path / "p" / scene / "1.png").rename(tmp_path / "p" / scene / f"{i} a.png")
        with Collection.create(tmp_path / "c", n_words=0, n_clusters=8, enlarge_to=0) as collection:
            collection.add([tmp_path / "p"])
            assert collection.pairs(1).n_components > 1
            found = collection.pairs(1, connected=True)
        assert found.n_components == 1
        group = {name: {name} for name in found.names if " " not in name}
        for line in found.lines():
            a, b = line.split()
            together = group[a] | group[b]
            group |= dict.fromkeys(together, together)
        assert len(group) == 24 - len(SCENES)
        assert group[a] == set(group)

    def test_what_was_matched_before_is_not_matched_again(self, scenes, monkeypatch):
        asked = []

        def counted(query, others, metric, **options):
            asked.append(len(others))
            return verify_all(query, others, metric, **options)

        monkeypatch.setattr(searching, "verify_all", counted)
        found = scenes.pairs(1, rerank=23, connected=True)
        assert len(found) > len(scenes.pairs(1, rerank=23))
        assert sum(asked) == 2 * 24 * 23 // 2  # all with all, in each of the two calls


class TestNames:
    @pytest.fixture
    def sources(self, home, tmp_path):
        """Two folders with images of the same names, and a file of one of them again."""
        for scene, folder in (("brick", "a"), ("coffee", "deep/b")):
            shutil.copytree(home / "scenes" / scene, tmp_path / folder)
        with Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0) as collection:
            collection.add([tmp_path / "a"])
            collection.add([tmp_path / "deep" / "b"])
            yield collection, tmp_path

    def test_equal_names_of_two_sources_differ_by_their_folders(self, sources):
        collection, tmp_path = sources
        found = collection.pairs(7)
        assert found.root == str(tmp_path)
        views = ["1.png", "2.png", "10.png", "11.png"]
        assert list(found.names) == [f"{folder}/{v}" for folder in ("a", "deep/b") for v in views]
        assert len(found) == 8 * 7 // 2

    def test_a_file_that_is_indexed_twice_is_one(self, home, tmp_path):
        """A copy was indexed, too; then the first folder went, and is looked for at the copy."""
        shutil.copytree(home / "scenes" / "brick", tmp_path / "1" / "p")
        with Collection.create(tmp_path / "1" / "c", n_clusters=8, enlarge_to=0) as collection:
            collection.add([tmp_path / "1" / "p"])
        shutil.copytree(tmp_path / "1", tmp_path / "2")
        with Collection.open(tmp_path / "2" / "c") as collection:
            collection.add([tmp_path / "2" / "p"])
            assert len(collection.pairs(7).names) == 8
            shutil.rmtree(tmp_path / "1")
            found = collection.pairs(1)
            assert found.root == str(tmp_path / "2" / "p")
            assert list(found.names) == ["1.png", "2.png", "10.png", "11.png"]
            # copies do not take the places of others
            assert np.bincount(found.row_p2.ravel(), minlength=4).min() == 1
            assert len(collection.pairs(3)) == 6

    def test_root(self, sources):
        collection, tmp_path = sources
        found = collection.pairs(2, root=tmp_path.parent)
        assert found.names[0] == f"{tmp_path.name}/a/1.png"
        with pytest.raises(ParameterError, match=r"1\.png is not below .*a: give a root"):
            collection.pairs(2, root=tmp_path / "a")

    def test_one_folder_keeps_its_own_names_even_if_all_is_in_a_subfolder(self, home, tmp_path):
        shutil.copytree(home / "scenes" / "brick", tmp_path / "images" / "sub")
        with Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0) as collection:
            collection.add([tmp_path / "images"])
            found = collection.pairs(1)
        assert found.root == str(tmp_path / "images")
        assert found.names[0] == "sub/1.png"

    def test_natural(self):
        names = [
            "b.png",
            "img10.png",
            "img9.png",
            "img009.png",
            "10",
            "9",
            "a/2",
            "a/11",
            "a",
            "٣x",
        ]
        wanted = ["9", "10", "a", "a/2", "a/11", "b.png", "img009.png", "img9.png", "img10.png"]
        assert sorted(names, key=natural) == [*wanted, "٣x"]

    @pytest.fixture
    def named(self, home, tmp_path):
        """Makes pairs of all of some scenes' images, by name."""

        def make(*names):
            (tmp_path / "p").mkdir()
            for scene, name in zip(SCENES, names, strict=False):
                shutil.copy(home / "scenes" / scene / "1.png", tmp_path / "p" / name)
            with Collection.create(tmp_path / "c", n_clusters=8, enlarge_to=0) as collection:
                collection.add([tmp_path / "p"])
                return collection.pairs(len(names))

        return make

    BREAK = ("a b.png", "a\tb.png", "a\u00a0b.png", "#1.png")

    @pytest.mark.parametrize("name", BREAK)
    def test_pairs_of_names_that_break_a_list_are_left_out(self, named, tmp_path, name):
        found = named("x.png", "y.png", name)
        assert found.unlisted() == [name]
        assert list(found.lines()) == ["x.png y.png\n"]
        with pytest.warns(UserWarning, match="pairs of 1 images are left out") as warned:
            found.write(tmp_path / "pairs.txt")
        assert repr(name) in str(warned[0].message)
        assert (tmp_path / "pairs.txt").read_text() == "x.png y.png\n"
        assert len(found) == 3  # JSON has all
        assert {name, "x.png"} in [{pair.first, pair.second} for pair in found]
        done = run("pairs", tmp_path / "c", "-o", tmp_path / "pairs.txt")
        assert "pairs of 1 image are left out, as hloc and COLMAP would misread" in done.stderr
        assert (tmp_path / "pairs.txt").read_text() == "x.png y.png\n"
        assert run("pairs", tmp_path / "c").stdout == "x.png y.png\n"

    def test_a_list_that_would_be_empty_is_refused(self, named, tmp_path):
        found = named("x.png", *self.BREAK)
        (tmp_path / "pairs.txt").write_text("before")
        with pytest.raises(ParameterError, match=r"white space or a # .* each pair has one"):
            found.write(tmp_path / "pairs.txt")
        run("pairs", tmp_path / "c", "-o", tmp_path / "pairs.txt", code=2)
        assert (tmp_path / "pairs.txt").read_text() == "before"

    def test_a_name_in_no_pair_is_in_nobodys_way(self, named, tmp_path):
        found = named("x.png", "y.png", "a b.png")
        rows = [found.names.index(name) for name in ("x.png", "y.png")]
        alone = replace(found, row_p2=np.array([sorted(rows)]))
        assert alone.unlisted() == []
        alone.write(tmp_path / "pairs.txt")
        assert (tmp_path / "pairs.txt").read_text() == "x.png y.png\n"

    @pytest.mark.skipif(os.name == "nt", reason="names are bytes on POSIX")
    def test_names_are_written_as_their_bytes(self, named, tmp_path):
        found = replace(named("x.png", "y.png"), names=("x.png", os.fsdecode(b"\xe9.png")))
        found.write(tmp_path / "pairs.txt")
        assert (tmp_path / "pairs.txt").read_bytes() == b"x.png \xe9.png\n"


class TestQueries:
    """hloc's query and database: prefixes, lists."""

    @pytest.mark.parametrize("top", [1, 3, 100])
    @pytest.mark.parametrize(
        ("queries", "database"),
        [("coffee/", None), ("coffee/", "b"), ("c", "c"), (None, "rocket/"), ("b", "brick/1")],
    )
    def test_what_a_plain_loop_finds(self, scenes, top, queries, database):
        names, _, similarity_nn = similarities(scenes)
        asks = [i for i, name in enumerate(names) if name.startswith(queries or "")]
        answers = [j for j, name in enumerate(names) if name.startswith(database or "")]
        wanted = set()
        for i in asks:
            order = sorted((-similarity_nn[i, j], j) for j in answers if j != i)[:top]
            for _, j in order:
                turned = j in asks and (i not in asks or j < i)
                wanted.add((names[j], names[i]) if turned else (names[i], names[j]))
        found = scenes.pairs(top, queries=queries, database=database)
        assert [(p.first, p.second) for p in found] == sorted(
            wanted, key=lambda pair: tuple(map(natural, pair))
        )
        for pair, similarity in zip(found.row_p2, found.similarity_p, strict=True):
            assert abs(similarity_nn[tuple(pair)] - similarity) < 2e-6

    def test_a_query_is_the_first_of_its_line(self, scenes):
        found = scenes.pairs(5, queries="rocket/", database="astronaut/", rerank=3, sequential=2)
        assert len(found) == 16
        for pair in found:
            assert (pair.first[:6], pair.second[:9]) == ("rocket", "astronaut")
        backwards = scenes.pairs(5, queries="astronaut/", database="rocket/", rerank=3)
        matched = {(p.second, p.first): p.inliers for p in backwards if p.inliers is not None}
        both = [p for p in found if p.inliers is not None and (p.first, p.second) in matched]
        assert both
        assert all(p.inliers == matched[p.first, p.second] for p in both)

    def test_sequences_of_queries(self, scenes):
        names = ["brick/2.png"]
        found = scenes.pairs(0, sequential=1, queries=names)
        assert {(p.first, p.second) for p in found} == {
            ("brick/2.png", "brick/1.png"),
            ("brick/2.png", "brick/10.png"),
        }
        found = scenes.pairs(0, sequential=1, queries=names, database=["brick/10.png"])
        assert [p.second for p in found] == ["brick/10.png"]

    def test_lists(self, scenes, home, tmp_path):
        wanted = [(p.first, p.second) for p in scenes.pairs(2, queries="c", database="b")]
        names = [name for name in scenes.pairs(1).names if name.startswith("c")]
        lists = {
            "plain": "\n".join(names),
            "windows": "\ufeff" + "\r\n".join([*names, ""]),
            "hloc": "# cameras\n\n" + "\n".join(f"{n} PINHOLE 9 9 1 1 4 4" for n in names),
        }
        for name, text in lists.items():
            (tmp_path / name).write_text(text, newline="")
            found = scenes.pairs(2, queries=tmp_path / name, database="b")
            assert [(p.first, p.second) for p in found] == wanted
            options = "--queries", tmp_path / name, "--database", "b", "--top", 2
            done = run("pairs", home / "scenes.vlad", *options)
            assert done.stdout.splitlines() == [" ".join(pair) for pair in wanted]
            assert "--connected" not in done.stderr
        found = scenes.pairs(2, queries=iter(names), database="b")
        assert [(p.first, p.second) for p in found] == wanted

    def test_a_list_may_hold_names_with_blanks(self):
        names = ["a b.png", "a.png", "b.png"]
        assert chosen(names, names[:1], "queries").tolist() == [True, False, False]

    @pytest.mark.parametrize("space", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\u2029", "\r"])
    @pytest.mark.parametrize("end", ["\n", "\r\n"])
    def test_lines_end_at_line_feeds_alone(self, tmp_path, space, end):
        names = [f"a{space}b.png", "a", "b.png", f"{space}c.png"]
        (tmp_path / "list").write_bytes(end.join([names[0], names[3]]).encode())
        is_chosen_n = chosen(names, tmp_path / "list", "queries")
        assert is_chosen_n.tolist() == [True, False, False, True]

    @pytest.mark.parametrize("forms", [("NFC", "NFD"), ("NFD", "NFC")])
    def test_letters_may_be_spelled_otherwise(self, tmp_path, forms):
        here, there = (unicodedata.normalize(form, "caf\u00e9/") for form in forms)
        names = [f"{here}1.png", f"{here}2.png", "cafe/1.png"]
        (tmp_path / "list").write_text(f"{there}2.png\n", encoding="utf-8")
        for some in (tmp_path / "list", [f"{there}2.png"]):
            assert chosen(names, some, "queries").tolist() == [False, True, False]
        assert chosen(names, there, "queries").tolist() == [True, True, False]
        both = [f"{here}1.png", f"{there}1.png"]  # two files, on Linux
        for some in ([both[1]], both[1]):
            assert chosen(both, some, "queries").tolist() == [False, True]

    @pytest.mark.parametrize(
        ("options", "reason"),
        [
            ({"queries": "query/"}, "queries: no name of the 24 images begins with 'query/'"),
            ({"database": ["coffee/1.png", "x"]}, "database: 1 of 2 names .* such as 'x'"),
            ({"queries": []}, "queries: 0 of 0 names"),
            ({"queries": ""}, "queries='': give the beginning of some names"),
            ({"queries": "c", "connected": True}, "connected joins all images"),
        ],
    )
    def test_refused(self, scenes, options, reason):
        with pytest.raises(ParameterError, match=reason):
            scenes.pairs(2, **options)

    def test_a_list_that_cannot_be_read(self, scenes, tmp_path):
        with pytest.raises(StorageError, match="cannot read"):
            scenes.pairs(2, queries=tmp_path)

    def test_with_an_approximate_index(self, own):
        with Collection.open(own) as collection:
            exact = rows_of(collection.pairs(2, queries="c", database="b"))
            collection.build_ann()
            assert rows_of(collection.pairs(2, queries="c", database="b")) == exact


class TestCommand:
    def test_file_and_words(self, home, scenes, tmp_path):
        done = run("pairs", home / "scenes.vlad", "--top", 2, "-o", tmp_path / "pairs.txt")
        lines = (tmp_path / "pairs.txt").read_text().splitlines()
        found = scenes.pairs(2)
        assert lines == [f"{pair.first} {pair.second}" for pair in found]
        assert done.stdout == ""
        assert f"{len(found)} of 276 pairs of 24 images" in done.stderr
        assert str(home / "scenes") in done.stderr
        assert f"leave {found.n_components} groups unconnected; --connected" in done.stderr
        shown = run("pairs", home / "scenes.vlad", "--top", 2)
        assert shown.stdout.splitlines() == lines

    def test_json(self, home, scenes):
        options = "--top 1 --rerank 1 --sequential 3 --connected --fundamental --json"
        done = run("pairs", home / "scenes.vlad", *options.split())
        got = json.loads(done.stdout)
        wanted = scenes.pairs(1, rerank=1, sequential=3, connected=True, model="fundamental")
        assert got["root"] == wanted.root
        assert (got["images"], got["groups"]) == (24, 1)
        assert got["pairs"] == [
            {
                "first": pair.first,
                "second": pair.second,
                "similarity": pair.similarity,
                "inliers": pair.inliers,
            }
            for pair in wanted
        ]
        assert {type(pair["inliers"]) for pair in got["pairs"]} == {int, type(None)}

    def test_wrong_use(self, home, tmp_path):
        done = run(
            "pairs", home / "scenes.vlad", "--root", tmp_path, "-o", tmp_path / "p.txt", code=2
        )
        assert f"is not below {tmp_path}" in done.stderr
        assert not (tmp_path / "p.txt").exists()

    def test_an_output_replaces_nothing_that_is_read(self, home, own, tmp_path):
        names = tmp_path / "names.txt"
        names.write_text("brick/1.png\n")
        (tmp_path / "model").mkdir()
        for name in ("cameras.bin", "images.bin"):
            (tmp_path / "model" / name).write_bytes(b"of COLMAP")
        shutil.copy(names, tmp_path / "db.db")
        given = {
            names: ("--queries", names),
            tmp_path / "model" / "cameras.bin": ("--database", tmp_path / "model"),
            tmp_path / "db.db": ("--gps", 1, "--positions", tmp_path / "db.db"),
            own: (),
        }
        for target, options in given.items():
            before = target.read_bytes()
            done = run("pairs", own, *options, "-o", target, code=2)
            assert f"{target} is read here: give another file to write to" in done.stderr
            assert target.read_bytes() == before

    def test_an_output_replaces_no_image(self, home, tmp_path):
        shutil.copytree(home / "scenes" / "brick", tmp_path / "photos" / "brick")
        shutil.copytree(home / "scenes" / "coffee", tmp_path / "photos" / "coffee")
        file = tmp_path / "c.vlad"
        with Collection.create(file, n_words=0, n_clusters=8, enlarge_to=0) as collection:
            collection.add([tmp_path / "photos"])
        target, query = tmp_path / "photos/brick/1.png", tmp_path / "photos/coffee/1.png"
        (tmp_path / "link.png").symlink_to(target)
        before = target.read_bytes()
        for output in (target, tmp_path / "link.png"):
            for words in (
                ("pairs", file, "-o", output),
                ("report", file, "--queries", 1, "-o", output),
                ("search", file, query, "--html", output),
            ):
                done = run(*words, code=2)
                assert f"{output} is an image of {file}: give another file" in done.stderr
                assert target.read_bytes() == before
        run("pairs", file, "-o", tmp_path / "1.png", cwd=tmp_path)

    def test_one_image_that_asks_for_itself(self, home):
        options = "--queries brick/2 --database brick/2 --min-score 0.5"
        done = run("pairs", home / "scenes.vlad", *options.split(), code=1)
        assert "24 images" in done.stderr
        assert "make no pair: nothing is written" in done.stderr

    def test_what_is_nearest_has_the_same_names(self, home):
        options = ("--root", home, "--queries", "scenes/brick", "--min-score", 1)
        done = run("pairs", home / "scenes.vlad", *options, code=1)
        assert "no pair has a similarity of 1.0 or more" in done.stderr
