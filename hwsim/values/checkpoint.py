"""Checkpoints of training: one `.npz` file without pickled objects, written whole or not at all, checked when read.

`save` and `load` know the file, `check_agreement` what must be the same to continue. Normative:
docs/contracts/training.md, section 7.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError

__all__ = ["FORMAT", "Checkpoint", "check_agreement", "load", "save"]

#: First entry of a checkpoint; the number grows when an entry changes its meaning.
FORMAT = "hwsim.checkpoint/1"

_TEXTS = ("config", "command", "progress")


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """Everything that training needs to continue.

    Attributes
    ----------
    config : dict
        What must agree, of JSON's types.
    command : dict
        What may change: where the data are, the epochs asked for.
    progress : dict
        How far training is, and the scaling's numbers.
    arrays : dict of str to ndarray
        Stored bits as ``tensor/<name>``, registers, and what is kept per step; no object arrays.
    """

    config: dict[str, Any]
    command: dict[str, Any]
    progress: dict[str, Any]
    arrays: dict[str, NDArray[Any]]


def save(path: Path, checkpoint: Checkpoint) -> None:
    """Write a checkpoint; at every moment the file is the one before or the whole new one.

    Parameters
    ----------
    path : Path
        File in an existing folder.
    checkpoint : Checkpoint
        What it holds.
    """
    texts = {name: np.array(json.dumps(getattr(checkpoint, name))) for name in _TEXTS}
    entries: dict[str, NDArray[Any]] = {"format": np.array(FORMAT), **texts, **checkpoint.arrays}
    partial = path.with_name(f"{path.name}.partial")
    try:
        with partial.open("wb") as stream:
            np.savez(stream, allow_pickle=False, sha256=np.array(_digest(entries)), **entries)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    _synchronise(path.parent)


def load(path: Path) -> Checkpoint:
    """Read a checkpoint.

    Raises
    ------
    HwsimError
        If there is none, it is truncated, damaged, something else, or of a newer format; the message is one sentence.
    """
    if not path.is_file():
        raise HwsimError(f"there is no checkpoint '{path}'; train with --out first, or name another folder")
    entries = _entries(path)
    kind, _, version = str(entries.get("format", "")).rpartition("/")
    name, _, ours = FORMAT.rpartition("/")
    if kind != name or not version.isdecimal():
        raise HwsimError(f"'{path}' is not a checkpoint of hwsim")
    if int(version) > int(ours):
        raise HwsimError(f"'{path}' has checkpoint format {version}, this hwsim reads {ours}; use a newer hwsim")
    if str(entries.pop("sha256", "")) != _digest(entries):
        raise HwsimError(f"'{path}' is damaged: its contents differ from their SHA-256; use another copy")
    del entries["format"]
    texts = {name: json.loads(str(entries.pop(name))) for name in _TEXTS}
    return Checkpoint(**texts, arrays=entries)


def check_agreement(saved: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse to continue what was begun with other options.

    Parameters
    ----------
    saved, own : mapping
        Configurations of the checkpoint and of this run.

    Raises
    ------
    HwsimError
        If they differ; the message names the first difference.

    Examples
    --------
    >>> check_agreement({"batch": 32}, {"batch": 64})
    Traceback (most recent call last):
    hwsim.errors.HwsimError: the checkpoint has batch 32, this run 64; give what it was begun with, or begin anew
    """
    before, now = dict(_leaves("", saved)), dict(_leaves("", own))
    for name in before | now:
        if before.get(name) != now.get(name):
            there, here = (_written(found.get(name)) for found in (before, now))
            raise HwsimError(
                f"the checkpoint has {name} {there}, this run {here}; give what it was begun with, or begin anew"
            )


def _entries(path: Path) -> dict[str, NDArray[Any]]:
    """Arrays of an `.npz` file by name."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {name: file[name] for name in file.files}
    except OSError as error:
        if error.errno is not None:
            raise HwsimError(f"cannot read '{path}': {error.strerror}") from None
        raise _damaged(path) from None
    except Exception:  # what a damaged archive raises depends on where it is damaged: a dozen types
        raise _damaged(path) from None


def _damaged(path: Path) -> HwsimError:
    return HwsimError(f"'{path}' is truncated, damaged, or not a checkpoint of hwsim; use another copy")


def _digest(entries: Mapping[str, NDArray[Any]]) -> str:
    """SHA-256 over names, dtypes, shapes and bytes, in the order of the names."""
    total = sha256()
    for name in sorted(entries):
        array = np.ascontiguousarray(entries[name])
        total.update(f"{name}\0{array.dtype.str}\0{entries[name].shape}\0".encode())
        total.update(array.tobytes())
    return total.hexdigest()


def _synchronise(folder: Path) -> None:
    """Let the new name reach the disk too, where a folder can be opened."""
    if hasattr(os, "O_DIRECTORY"):
        handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def _leaves(prefix: str, tree: Any) -> Iterator[tuple[str, Any]]:
    """Names with dots, and values, of nested mappings."""
    if not isinstance(tree, Mapping):
        yield prefix, tree
        return
    for name, branch in tree.items():
        yield from _leaves(f"{prefix}.{name}" if prefix else name, branch)


def _written(value: Any) -> str:
    text = str(value)
    return f"{text[:12]}…" if len(text) == 64 else text  # a digest
