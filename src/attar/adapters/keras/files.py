"""Keras models from files and back to files; nothing in a file is executed (safe_mode always)."""

from __future__ import annotations

import json
import logging
import zipfile
from pathlib import Path
from typing import Any

import keras

from attar.errors import FormatError, ModelError

SUFFIXES = (".keras", ".h5", ".hdf5")
HDF5_MAGIC = b"\x89HDF\r\n\x1a\n"
REGISTER = "Register the class with keras.saving.register_keras_serializable() and give it get_config(), or pass into="

log = logging.getLogger("attar")


LOAD_ERRORS = (
    TypeError, ValueError, KeyError, AttributeError, OSError, RuntimeError, NotImplementedError, zipfile.BadZipFile,
)  # fmt: skip
"""What Keras, h5py and zipfile raise on a file that is not what it should be."""


def read_file(path: Path) -> tuple[Any, dict[str, Any] | None]:
    """The model of a .keras or whole-model HDF5 file and its compile config; raises FormatError, ModelError."""
    if not path.is_file():
        raise FormatError(f"{path.name}: a Keras model is one file. Received no such file. Check the path.")
    if path.suffix == ".keras":
        compiled = _config_of_keras(path)
        return _load(path), compiled
    _check_hdf5(path)
    try:  # the training config of HDF5 files is in an older form, which only Keras' own loader reads
        model = keras.saving.load_model(path, compile=True, safe_mode=True)
    except LOAD_ERRORS as error:
        model = _load(path)
        log.warning("%s: the compile state is left out: %s", path.name, (str(error).splitlines() or [""])[0])
        return model, None
    return model, model.get_compile_config() if model.compiled else None


def _load(path: Path) -> Any:
    """The uncompiled model."""
    try:
        return keras.saving.load_model(path, compile=False, safe_mode=True)
    except LOAD_ERRORS as error:
        raise _load_error(path.name, error) from error


def _load_error(place: str, error: Exception) -> Exception:
    """What a failed load means to the user: code in the file, an unknown class, or a broken file."""
    text = str(error)
    short = text.strip().splitlines()[0][:200] if text.strip() else type(error).__name__
    if "ambda" in text and ("safe_mode" in text or "unsafe" in text or "arbitrary code" in text):
        return ModelError(
            f"{place}: a model must not carry Python code. Received a Lambda layer ({short}). "
            "Replace it by a layer class of yours that is registered, or pass the model object."
        )
    unknown = ("Could not locate", "Unknown layer", "could not be found", "cannot be imported", "register_keras_serial")
    if any(words in text for words in unknown) or isinstance(error, NotImplementedError):
        return ModelError(
            f"{place}: every class must be known. Received an unknown one ({short}). {REGISTER} the object."
        )
    return FormatError(f"{place}: the file must be a whole Keras model. Received a broken one ({short}). Save it anew.")


def _config_of_keras(path: Path) -> dict[str, Any] | None:
    """The compile config of a .keras archive, after checking that it is one."""
    try:
        with zipfile.ZipFile(path) as archive:
            config = json.loads(archive.read("config.json"))
    except (zipfile.BadZipFile, KeyError, ValueError, NotImplementedError, RuntimeError) as error:
        raise FormatError(
            f"{path.name}: a .keras file is a zip archive with config.json. Received something else ({error}). "
            "Save the model with model.save('name.keras')."
        ) from error
    if not isinstance(config, dict):
        raise FormatError(
            f"{path.name}: config.json must be an object. Received {type(config).__name__}. Save it anew."
        )
    compiled = config.get("compile_config")
    return compiled if isinstance(compiled, dict) else None


def _check_hdf5(path: Path) -> None:
    """Refuse what is not HDF5, and a file of weights alone."""
    import h5py

    with path.open("rb") as file:
        magic = file.read(8)
    if magic != HDF5_MAGIC:
        raise FormatError(
            f"{path.name}: an HDF5 file starts with its signature. Received {magic!r}. Save the model anew."
        )
    try:
        with h5py.File(path, "r") as file:
            whole = "model_config" in file.attrs
    except (OSError, KeyError, RuntimeError) as error:
        raise FormatError(
            f"{path.name}: the HDF5 file must be readable. Received {error}. Save the model anew."
        ) from error
    if not whole:
        raise ModelError(
            f"{path.name}: a model is needed. Received a file of weights only. "
            "Load it into the model and pass that, or save the whole model as .keras."
        )


def compile_as(model: Any, config: dict[str, Any] | None) -> None:
    """Compile a copy as its original was, with a fresh optimizer; uncompiled, with a warning, where it cannot be."""
    if not config:
        return
    try:
        known = keras.saving.deserialize_keras_object(config)
        model.compile(**{key: value for key, value in known.items() if key in _COMPILE})
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        log.warning("the compile state is left out: %s", (str(error).splitlines() or [""])[0])


_COMPILE = (
    "optimizer", "loss", "loss_weights", "metrics", "weighted_metrics", "run_eagerly", "steps_per_execution",
    "jit_compile", "auto_scale_loss",
)  # fmt: skip


def write_file(model: Any, path: Path) -> None:
    """A .keras or HDF5 file without optimizer state, written beside the target and renamed."""
    if path.suffix not in SUFFIXES:
        raise ModelError(
            f"{path.name}: a Keras model ends in {', '.join(SUFFIXES)}. Received {path.suffix!r}. Rename it."
        )
    part = path.with_name(f".{path.stem}.part{path.suffix}")
    try:
        if path.suffix == ".keras":
            keras.saving.save_model(model, part)
        else:
            _write_hdf5(model, part)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _write_hdf5(model: Any, path: Path) -> None:
    """Keras' older writer, which takes the optimizer out of the model's own compile config."""
    own = getattr(model, "_compile_config", None) if model.compiled else None
    before = dict(own.config) if own is not None else {}
    chatter = logging.getLogger("absl")
    chatter.addFilter(_is_news)
    try:
        keras.saving.save_model(model, path, include_optimizer=own is not None)
    finally:
        chatter.removeFilter(_is_news)
        if own is not None:
            own.config.clear()
            own.config.update(before)


def _is_news(record: logging.LogRecord) -> bool:
    """Not Keras' advice against HDF5, which is what the user asked for."""
    return "as an HDF5 file" not in record.getMessage()
