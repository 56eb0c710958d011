"""Sessions of ONNX Runtime: one for each model and device in a process, used by all its threads."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Sequence
from contextlib import nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from vladkit.errors import MissingDependencyError, ModelError, ParameterError

__all__ = [
    "DEVICES",
    "Session",
    "available_devices",
    "check_device",
    "first_line",
    "onnxruntime_module",
    "runtime_version",
    "session_of",
]

DEVICES: Final = {
    "cuda": "CUDAExecutionProvider",
    "directml": "DmlExecutionProvider",
    "coreml": "CoreMLExecutionProvider",
    "openvino": "OpenVINOExecutionProvider",
    "cpu": "CPUExecutionProvider",
}
"""Execution providers of ONNX Runtime by the name of a device, in the order of "auto"."""

_OPTIONS: Final = {"cuda": {"use_tf32": "0"}}
"""Options of providers: float32 with 10 bits (TF32) would be other numbers than the CPU's."""

_PACKAGES: Final[dict[str, str]] = {
    "cuda": "onnxruntime-gpu (pip install onnxruntime-gpu)",
    "directml": "onnxruntime-directml on Windows (pip install onnxruntime-directml)",
    "coreml": "onnxruntime on macOS",
    "openvino": "onnxruntime-openvino (pip install onnxruntime-openvino)",
}


@dataclass(frozen=True, slots=True, eq=False)
class Session:
    """A model that is loaded on a device."""

    model: Any
    device: str
    lock: Any = field(default_factory=nullcontext)

    def inputs(self) -> list[Any]:
        """Inputs of the model: name, type and shape."""
        return list(self.model.get_inputs())

    def outputs(self) -> list[Any]:
        """Outputs of the model: name, type and shape."""
        return list(self.model.get_outputs())

    def run(self, names: Sequence[str], feed: dict[str, Any]) -> list[Any]:
        """Values of outputs; DirectML takes one run at a time."""
        with self.lock:
            return list(self.model.run(list(names), feed))


class _Sessions:
    """Sessions by process (a forked one makes its own), sha256 of the model and device."""

    lock: Final = threading.Lock()
    by_model: Final[dict[tuple[int, str, str], Session]] = {}


def session_of(sha256: str, find: Callable[[], Path], device: str = "cpu") -> Session:
    """Session of the model with that sha256; `find` gives its path if there is none yet.

    `device` is one of `DEVICES`, or "auto": the first of them that is there and takes the model.

    Raises
    ------
    ParameterError
        If there is no such device here.
    ModelError
        If the file is not a model that can be loaded, or the device does not start.
    MissingDependencyError
        If ONNX Runtime is not installed.
    """
    key = os.getpid(), sha256, device
    with _Sessions.lock:
        if key not in _Sessions.by_model:
            check_device(device)
            file = find()
            if device == "auto":
                _Sessions.by_model[key] = _first(file)
            else:
                _Sessions.by_model[key] = _started(file, device)
        return _Sessions.by_model[key]


def _first(file: Path) -> Session:
    """Session on the first device that starts; the CPU always does."""
    for device in available_devices():
        try:
            return _started(file, device)
        except ModelError:
            if device == "cpu":  # no device takes such a file
                raise
    raise AssertionError("the CPU is in every ONNX Runtime")


def _started(file: Path, device: str) -> Session:
    """Session on a device; ModelError if that does not start, or for a file that is no model."""
    runtime = onnxruntime_module()
    options = runtime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    # Warnings are about how a graph was exported, errors of a device are raised besides.
    options.log_severity_level = 3 if device == "cpu" else 4
    if device == "directml":
        options.enable_mem_pattern = False  # as its documentation asks
    provider, cpu = DEVICES[device], DEVICES["cpu"]
    chosen: list[Any] = [(provider, _OPTIONS.get(device, {}))]
    try:  # what a device has no code for runs on the CPU; all of it only where that was asked for
        providers = chosen + [cpu] * (device != "cpu")
        model = runtime.InferenceSession(str(file), options, providers=providers, enable_fallback=0)
    except Exception as error:  # ONNX Runtime's own have no other common base
        if device != "cpu":
            raise _not_started(file, device, str(error)) from error
        raise ModelError(
            f"{file} is no model that ONNX Runtime {runtime.__version__} can load: "
            f"{first_line(error)}"
        ) from error
    if provider not in model.get_providers():
        raise _not_started(file, device, "are its libraries installed?")
    return Session(model, device, threading.Lock() if device == "directml" else nullcontext())


def _not_started(file: Path, device: str, reason: str) -> ModelError:
    last = reason.strip().splitlines()[-1:]  # what comes before it are names of functions
    return ModelError(
        f"device {device!r} does not start, or does not take {file}: use cpu or auto "
        f"({''.join(last).strip()[:300]})"
    )


def available_devices() -> list[str]:
    """Devices that the ONNX Runtime that is installed has code for, in the order of "auto"."""
    there = set(onnxruntime_module().get_available_providers())
    return [device for device, provider in DEVICES.items() if provider in there]


def check_device(device: str) -> None:
    """Raise ParameterError unless networks can run on a device here."""
    if device != "auto" and device not in DEVICES:
        raise ParameterError(f"device={device!r}: use auto, {', '.join(sorted(DEVICES))}")
    if device in ("auto", "cpu"):
        return
    here = available_devices()
    if device not in here:
        raise ParameterError(
            f"device={device!r} is not available, here are {', '.join(here)}: {device} comes with "
            f"{_PACKAGES[device]}"
        )


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

    for name in (
        "onnxruntime",
        *(f"onnxruntime-{kind}" for kind in ("gpu", "directml", "openvino")),
    ):
        with suppress(PackageNotFoundError):
            return version(name)
    return ""


def first_line(error: Exception) -> str:
    """First line of an error of ONNX Runtime; the rest is a trace of its own."""
    return str(error).strip().partition("\n")[0]
