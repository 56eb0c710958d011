"""Sessions of ONNX Runtime: one for each model in a process, used by all its threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from vladkit.errors import MissingDependencyError, ModelError

__all__ = ["first_line", "onnxruntime_module", "runtime_version", "session_of"]


class _Sessions:
    """Sessions by process (a forked one makes its own) and sha256 of the model."""

    lock: Final = threading.Lock()
    by_model: Final[dict[tuple[int, str], Any]] = {}


def session_of(sha256: str, find: Callable[[], Path]) -> Any:
    """Session of the model with that sha256; `find` gives its path if there is none yet.

    Raises
    ------
    ModelError
        If the file is not a model that can be loaded.
    MissingDependencyError
        If ONNX Runtime is not installed.
    """
    key = os.getpid(), sha256
    with _Sessions.lock:
        if key not in _Sessions.by_model:
            file = find()
            runtime = onnxruntime_module()
            options = runtime.SessionOptions()
            options.intra_op_num_threads = options.inter_op_num_threads = 1
            options.log_severity_level = 3  # its warnings are about how a graph was exported
            try:
                _Sessions.by_model[key] = runtime.InferenceSession(
                    str(file), options, providers=["CPUExecutionProvider"]
                )
            except Exception as error:  # ONNX Runtime's own have no other common base
                raise ModelError(
                    f"{file} is no model that ONNX Runtime {runtime.__version__} can load: "
                    f"{first_line(error)}"
                ) from error
        return _Sessions.by_model[key]


def onnxruntime_module() -> Any:
    """Import ``onnxruntime``; MissingDependencyError if it is not installed."""
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(
            "networks need ONNX Runtime: pip install 'vladkit[onnx]'"
        ) from error
    return onnxruntime


def runtime_version() -> str:
    """Version of ONNX Runtime, without importing it; "" where it is not installed."""
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("onnxruntime")
    except PackageNotFoundError:  # pragma: no cover - its name differs for other hardware
        return ""


def first_line(error: Exception) -> str:
    """First line of an error of ONNX Runtime; the rest is a trace of its own."""
    return str(error).strip().partition("\n")[0]
