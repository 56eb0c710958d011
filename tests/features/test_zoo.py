"""Known networks: their descriptions, and their files from a server."""

from __future__ import annotations

import http.server
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from onnx import helper

from commands import run
from networks import constant, dots, gray, write
from vladkit.errors import (
    ModelError,
    ParameterError,
    StorageError,
)
from vladkit.features import make_extractor
from vladkit.features.onnx import load as onnx_model
from vladkit.features.onnx import zoo as model_files
from vladkit.features.onnx.spec import KnownFile, Network, known_networks


class Server(http.server.BaseHTTPRequestHandler):
    data = b""
    claimed = None

    def do_GET(self):
        if self.path == "/none.onnx":
            self.send_error(404)
            return
        self.send_response(200)
        if self.claimed is not None:
            self.send_header("Content-Length", str(self.claimed))
        self.end_headers()
        self.wfile.write(self.data)

    def log_message(self, *_):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """(address, the server's class, the model) of a known model that a local server gives."""
    model = dots(tmp_path / "src" / "small.onnx")
    data = model.read_bytes()
    network = Network.parse(model.with_suffix(".toml").read_text(), "small")
    handler = type("Handler", (Server,), {"data": data, "claimed": len(data)})
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        address = f"http://127.0.0.1:{server.server_port}/small.onnx"
        sha256 = model_files.sha256_of(model)
        known = KnownFile("small", "Small", "p", "l", network, sha256, len(data), address)
        for module in (model_files, onnx_model):
            monkeypatch.setattr(module, "known_networks", lambda: iter([known]))
        yield address, handler, model
        server.shutdown()
        thread.join()


class TestFetch:
    def test_kept_and_used_by_name(self, served, tmp_path):
        steps = []
        path = model_files.fetch("small", progress=lambda *step: steps.append(step))
        assert path.read_bytes() == served[1].data
        assert steps[-1] == ("fetch", len(served[1].data), len(served[1].data))
        extractor = make_extractor("onnx:small")
        assert extractor.n_dimensions == 3
        served[1].data = b""
        assert model_files.fetch("small") == path  # not asked for again

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            (lambda data: data[:-1] + b"x", "gives another file: its sha256"),
            (lambda data: data + b"x", "gives more than"),
            (lambda data: data[:-9], "try again|broke off"),
            (lambda data: b"", "0 bytes came|broke off"),
        ],
        ids=["sha256", "longer", "cut", "empty"],
    )
    @pytest.mark.parametrize("claimed", [True, False])
    def test_what_is_not_the_file_is_not_kept(self, served, change, message, claimed):
        served[1].data = change(served[1].data)
        # a server that says nothing, or what it should have: what is beyond that is not read
        served[1].claimed = max(served[1].claimed, len(served[1].data)) if claimed else None
        with pytest.raises(ModelError, match=message):
            model_files.fetch("small")
        assert list(model_files.models_folder().iterdir()) == []

    def test_addresses(self, served):
        address = served[0].rpartition("/")[0]
        with pytest.raises(ModelError, match="404"):
            model_files.fetch("small", url=f"{address}/none.onnx")
        with pytest.raises(ModelError, match="refused"):
            model_files.fetch("small", url="http://127.0.0.1:1/small.onnx")
        with pytest.raises(ParameterError, match="begins with https"):
            model_files.fetch("small", url="file:///etc/passwd")
        with pytest.raises(ParameterError, match="no known model is called 'large': use small"):
            model_files.fetch("large")
        assert not list(model_files.models_folder().glob("*"))

    def test_no_room(self, served):
        resource = pytest.importorskip("resource")
        signal = pytest.importorskip("signal")
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
            with pytest.raises(StorageError, match=r"cannot write .*small\.onnx"):
                model_files.fetch("small")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        assert list(model_files.models_folder().iterdir()) == []

    def test_folder_that_cannot_be_made(self, served, tmp_path, monkeypatch):
        (tmp_path / "file").write_text("")
        monkeypatch.setenv("VLADKIT_MODELS", str(tmp_path / "file" / "models"))
        with pytest.raises(StorageError, match="cannot make"):
            model_files.fetch("small")


class TestKnown:
    def test_every_description_is_sound(self):
        known = list(known_networks())
        assert {"xfeat-640", "xfeat-vga", "aliked-n16rot", "dinov2-small"} <= {
            k.name for k in known
        }
        of_one_vector = {"boq-dinov2", "boq-resnet50", "clip", "cosplace", "eigenplaces", "megaloc"}
        of_one_vector |= {"mixvpr", "salad"}
        assert {k.name for k in known if k.network.output.kind == "vector"} == of_one_vector
        assert {k.name for k in known if not k.sha256} == {"xfeat", "superpoint"} | of_one_vector
        for each in known:
            assert each.licence
            assert each.page.startswith("https://")
            assert len(each.sha256) in (0, 64)
            assert not each.url or (each.sha256 and each.n_bytes)
            assert Network.from_dict(each.network.as_dict(), "again") == each.network

    def test_by_command(self, tmp_path):
        model = dots(tmp_path / "d.onnx")
        done = run("models", "add", model)
        kept = done.stdout.strip()
        assert Path(kept).read_bytes() == model.read_bytes()
        done = run("models", "--json")
        listed = json.loads(done.stdout)
        assert listed["folder"] == str(tmp_path / "kept")
        assert listed["others"] == [kept]
        assert "aliked-n16rot" in [each["name"] for each in listed["models"]]
        done = run("models")
        assert "BSD-3-Clause; https://github.com/colmap" in done.stdout
        assert f"also here: {kept}" in done.stdout
        done = run("models", "fetch", "xfeat-640", code=1)
        assert "no address is known that gives xfeat-640" in done.stderr
        run("models", "fetch", "surf", code=2)

    def test_by_names_of_inputs_and_outputs(self, tmp_path):
        """A model that nobody has seen, of a kind that is known."""
        nodes = [
            helper.make_node(
                "AveragePool", ["image"], ["mean"], kernel_shape=[32, 32], strides=[32, 32]
            ),
            constant("keypoints", np.array([[[3, 4], [9, 5]]], np.float32)),
            constant("scores", np.array([[0.4, 0.6]], np.float32)),
            constant("descriptors", np.eye(2, 256, dtype=np.float32)[None]),
        ]
        outputs = ["keypoints", "scores", "descriptors"]
        model = write(tmp_path / "any.onnx", nodes, outputs, shape=(1, 1, "h", "w"))
        blank = gray(np.zeros((64, 64), np.uint8))
        found = make_extractor(f"onnx:{model}", enlarge_to=0).extract(blank)
        assert found.xy_l2.tolist() == [[9, 5], [3, 4]]


class TestNoHome:
    """A user of a container, whom /etc/passwd does not know."""

    @pytest.fixture(autouse=True)
    def home(self, monkeypatch):
        def no_home():
            raise RuntimeError("Could not determine home directory.")

        for name in ("VLADKIT_MODELS", "XDG_CACHE_HOME", "LOCALAPPDATA"):
            monkeypatch.delenv(name, raising=False)
        monkeypatch.setattr(Path, "home", no_home)

    def test_a_folder_for_models_is_asked_for(self, tmp_path):
        done = run("models", code=1)
        assert "this user has no home: set VLADKIT_MODELS=FOLDER" in done.stderr
        with pytest.raises(StorageError, match="set VLADKIT_MODELS"):
            make_extractor("onnx:aliked-n16rot")

    def test_a_missing_network_is_what_is_wrong(self, tmp_path):
        with pytest.raises(ModelError, match="set VLADKIT_MODEL=FILE"):
            model_files.find_model(str(tmp_path / "m.onnx"), "0" * 64, 1)

    def test_the_folder_that_is_named_is_used(self, tmp_path, monkeypatch):
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
        monkeypatch.setenv("LOCALAPPDATA", str(tmp_path))
        if sys.platform != "darwin":
            assert model_files.models_folder() == tmp_path / "vladkit" / "models"
        monkeypatch.setenv("VLADKIT_MODELS", str(tmp_path / "m"))
        assert model_files.models_folder() == tmp_path / "m"
