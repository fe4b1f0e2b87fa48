"""Is a checkpoint whole, or refused in one sentence?"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from hwsim.errors import HwsimError
from hwsim.values import checkpoint
from hwsim.values.checkpoint import FORMAT, Checkpoint, check_agreement, load, save

DTYPES = st.sampled_from([np.uint8, np.uint16, np.int8, np.int32, np.float32, np.float64, np.uint32, np.bool_])
ARRAYS = DTYPES.flatmap(lambda dtype: hnp.arrays(dtype, hnp.array_shapes(min_dims=0, max_dims=3, max_side=3)))
NAMES = st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1, max_size=5).map("tensor/{}".format)


def example() -> Checkpoint:
    arrays = {
        "tensor/fc.weight": np.arange(6, dtype=np.uint16).reshape(2, 3),
        "tensor/grad(fc).m": np.array([np.nan, -0.0, 1e-45], np.float32),
        "loss": np.array([2.5, 1 / 3]),
        "lfsr_state": np.array([7], np.uint32),
    }
    return Checkpoint({"model": "tiny", "batch": 2}, {"data": "digits"}, {"records": [{"loss": 1 / 3}]}, arrays)


def same(a: Checkpoint, b: Checkpoint) -> bool:
    texts = (a.config, a.command, a.progress) == (b.config, b.command, b.progress)
    return texts and a.arrays.keys() == b.arrays.keys() and all(identical(a.arrays[n], b.arrays[n]) for n in a.arrays)


def identical(a: Any, b: Any) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and a.tobytes() == b.tobytes()


def refusal(path: Path) -> str:
    with pytest.raises(HwsimError) as raised:
        load(path)
    assert "\n" not in str(raised.value)
    return str(raised.value)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    save(tmp_path / "checkpoint.npz", example())
    return tmp_path / "checkpoint.npz"


@given(st.dictionaries(NAMES, ARRAYS, max_size=4))
@settings(max_examples=50, deadline=None)
def test_what_is_loaded_is_what_was_saved(tmp_path_factory: pytest.TempPathFactory, arrays: dict[str, Any]) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.npz"
    written = Checkpoint({"a": 1}, {}, {"b": [0.1]}, arrays)
    save(path, written)
    assert same(load(path), written)


def test_the_same_state_gives_the_same_file(path: Path) -> None:
    first = path.read_bytes()
    save(path, example())
    assert path.read_bytes() == first


def test_numpy_alone_can_read_it(path: Path) -> None:
    with np.load(path, allow_pickle=False) as file:
        assert str(file["format"]) == FORMAT
        assert json.loads(str(file["config"])) == {"model": "tiny", "batch": 2}
        np.testing.assert_array_equal(file["tensor/fc.weight"], [[0, 1, 2], [3, 4, 5]])


def test_every_truncation_is_refused(path: Path) -> None:
    whole = path.read_bytes()
    for length in [*range(0, len(whole) - 1, 37), len(whole) - 1]:
        path.write_bytes(whole[:length])
        assert refusal(path) == f"'{path}' is truncated, damaged, or not a checkpoint of hwsim; use another copy"


@given(st.data())
@settings(max_examples=300, deadline=None)
def test_a_changed_byte_is_refused_or_changes_nothing(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    path = tmp_path_factory.mktemp("checkpoint") / "checkpoint.npz"
    save(path, example())
    content = bytearray(path.read_bytes())
    content[data.draw(st.integers(0, len(content) - 1))] ^= data.draw(st.integers(1, 255))
    path.write_bytes(content)
    try:
        found = load(path)
    except HwsimError:
        return
    assert same(found, example())  # a byte that means nothing, such as a time in the archive


def rewrite(path: Path, **changes: Any) -> None:
    with np.load(path) as file:
        entries = {name: file[name] for name in file.files}
    entries |= {name.replace("__", "/"): np.array(value) for name, value in changes.items()}
    np.savez(path, **entries)


def test_contents_must_fit_their_hash(path: Path) -> None:
    rewrite(path, loss=[2.5, 0.3])
    assert refusal(path) == f"'{path}' is damaged: its contents differ from their SHA-256; use another copy"


def test_a_newer_format_is_refused_as_such(path: Path) -> None:
    rewrite(path, format="hwsim.checkpoint/2")
    assert refusal(path) == f"'{path}' has checkpoint format 2, this hwsim reads 1; use a newer hwsim"


def write_foreign(path: Path) -> None:
    np.savez(path, weights=np.zeros(3))


def write_array(path: Path) -> None:
    with path.open("wb") as stream:
        np.save(stream, np.zeros(3))


def write_other_kind(path: Path) -> None:
    rewrite(path, format="hwsim.weights/1")


@pytest.mark.parametrize("write", [write_foreign, write_array, write_other_kind])
def test_other_arrays_are_refused(path: Path, write: Any) -> None:
    write(path)
    assert refusal(path).startswith(f"'{path}' is ")
    assert "not a checkpoint of hwsim" in refusal(path)


def test_pickled_objects_are_not_loaded(path: Path) -> None:
    np.savez(path, allow_pickle=True, format=np.array([{"a": 1}], object))
    assert "truncated, damaged, or not a checkpoint" in refusal(path)


@pytest.mark.parametrize("content", [b"", b"text\n", b"PK\x05\x06" + bytes(18)])
def test_other_files_are_refused(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert "not a checkpoint of hwsim" in refusal(path)


def test_no_file_at_all(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.npz"
    assert refusal(path) == f"there is no checkpoint '{path}'; train with --out first, or name another folder"


def test_what_was_there_stays_until_all_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint.os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(path, Checkpoint({}, {}, {}, {}))
    assert same(load(path), example())
    assert [p.name for p in path.parent.iterdir()] == ["checkpoint.npz"]


def test_agreement() -> None:
    nested = {"hardware": {"array": {"rows": 8, "cols": 8}}, "data": {"sha256": "a" * 64}}
    check_agreement(nested, json.loads(json.dumps(nested)))
    cases = [
        ({"hardware": {"array": {"rows": 8, "cols": 16}}}, "hardware.array.cols 8, this run 16"),
        ({"data": {"sha256": "b" * 64}}, "data.sha256 aaaaaaaaaaaa…, this run bbbbbbbbbbbb…"),
        ({"extra": 1}, "extra None, this run 1"),
    ]
    for change, difference in cases:
        message = f"the checkpoint has {difference}; give what it was begun with, or begin anew"
        with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
            check_agreement(nested, nested | change)
