"""Are the data what was published, the same on every machine, and are wrong files refused?"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path

import numpy as np
import pytest

import hwsim.values.data
from hwsim.errors import HwsimError
from hwsim.values import Dataset, cifar10, digits

RECORD = 3073


def test_digits_are_those_of_scikit_learn() -> None:
    data = digits()
    assert (data.train_x.shape, data.test_x.shape) == ((1437, 8, 8, 1), (360, 8, 8, 1))
    assert (data.train_x.dtype, data.train_y.dtype) == (np.float32, np.int32)
    x, y = np.concatenate([data.train_x, data.test_x]), np.concatenate([data.train_y, data.test_y])
    source = importlib.import_module("sklearn.datasets").load_digits()
    ours = sorted(zip((16 * x).reshape(-1, 64).tolist(), y.tolist(), strict=True))
    assert ours == sorted(zip(source.data.tolist(), source.target.tolist(), strict=True))
    assert (x.min(), x.max()) == (0, 1)


def test_the_split_is_fixed() -> None:
    """Golden: from this function, scikit-learn 1.9. Another hash makes stored accuracies incomparable."""
    data = digits()
    assert data.test_y[:12].tolist() == [4, 6, 0, 7, 2, 0, 3, 1, 5, 9, 4, 2]
    hashes = [sha256((16 * x).astype(np.uint8).tobytes()).hexdigest()[:16] for x in (data.train_x, data.test_x)]
    assert hashes == ["7fbfcbca3a5a72da", "bcedf409310dcc5d"]


def test_both_parts_hold_all_classes_evenly() -> None:
    data = digits()
    tested, trained = np.bincount(data.test_y), np.bincount(data.train_y)
    assert (abs(tested - (tested + trained) / 5) < 1).all()
    # Both are in the order of the permutation, not of the classes.
    assert (np.diff(data.test_y) < 0).sum() > 100


def test_digits_without_scikit_learn(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr(hwsim.values.data, "import_module", missing)
    message = "digits: the images come with scikit-learn, which is not installed; run: pip install scikit-learn"
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        digits()


def few(samples: int = 10) -> Dataset:
    x = np.arange(samples * 4, dtype=np.float32).reshape(samples, 2, 2, 1)
    return Dataset("few", x, np.arange(samples, dtype=np.int32), x[:2], np.arange(2, dtype=np.int32))


def test_batches_hold_each_sample_once_and_leave_out_the_rest() -> None:
    data = few()
    batches = list(data.batches(3, seed=1, epoch=0))
    assert [x.shape for x, _ in batches] == [(3, 2, 2, 1)] * 3
    seen = np.concatenate([y for _, y in batches])
    assert len(set(seen.tolist())) == 9
    for x, y in batches:
        np.testing.assert_array_equal(x, data.train_x[y])


def test_each_seed_and_epoch_has_its_own_order() -> None:
    def order(seed: int, epoch: int) -> tuple[int, ...]:
        return tuple(int(i) for _, y in few().batches(10, seed, epoch) for i in y)

    assert order(1, 0) == order(1, 0)
    orders = {order(seed, epoch) for seed in range(3) for epoch in range(3)}
    assert len(orders) == 9
    assert order(0, 0) == (3, 2, 1, 8, 6, 0, 7, 4, 5, 9)


@pytest.mark.parametrize("batch", [0, 11])
def test_batch_out_of_range_is_refused(batch: int) -> None:
    with pytest.raises(HwsimError, match=f"^few: batch must be from 1 to the 10 training samples; it is {batch}$"):
        few().batches(batch, seed=0, epoch=0)


def test_samples_of_another_shape() -> None:
    data = few().shaped((4,))
    assert (data.train_x.shape, data.test_x.shape) == ((10, 4), (2, 4))
    assert data.train_x[1].tolist() == [4, 5, 6, 7]
    message = "few: one sample is (2, 2, 1); a network that reads (5,) cannot be trained on it; choose another of both"
    with pytest.raises(HwsimError, match=f"^{re.escape(message)}$"):
        few().shaped((5,))


def write_cifar10(folder: Path, records: int = 3) -> None:
    """Write the six files with a few random images each; the first of data_batch_2 is label 7 and two pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{i}.bin" for i in range(1, 6)), "test_batch.bin"):
        data = rng.integers(0, 256, (records, RECORD), np.uint8)
        data[:, 0] %= 10
        if name == "data_batch_2.bin":
            data[0] = 0
            data[0, 0] = 7
            data[0, 1 + 33] = 255  # red at row 1, column 1
            data[0, 1 + 2048 + 5] = 51  # blue at row 0, column 5
        data.tofile(folder / name)


def test_cifar10(tmp_path: Path) -> None:
    write_cifar10(tmp_path)
    data = cifar10(tmp_path)
    assert (data.name, data.train_x.shape, data.test_x.shape) == ("cifar10", (15, 32, 32, 3), (3, 32, 32, 3))
    assert (data.train_x.dtype, data.train_y.dtype) == (np.float32, np.int32)
    assert data.train_y[3] == 7
    black = np.array([-0.4914 / 0.2470, -0.4822 / 0.2435, -0.4465 / 0.2616], np.float32)
    image = data.train_x[3]
    np.testing.assert_array_equal(image[0, 0], black)
    np.testing.assert_allclose(image[1, 1], [(1 - 0.4914) / 0.2470, *black[1:]], rtol=1e-6)
    np.testing.assert_allclose(image[0, 5], [*black[:2], (0.2 - 0.4465) / 0.2616], rtol=1e-6)
    assert (image != black).sum() == 2


def test_cifar10_in_the_folder_above(tmp_path: Path) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-bin")
    assert cifar10(str(tmp_path)).train_x.shape == (15, 32, 32, 3)


def remove(folder: Path) -> None:
    (folder / "data_batch_4.bin").unlink()
    (folder / "test_batch.bin").unlink()


def resize(size: int) -> Callable[[Path], None]:
    def cut(folder: Path) -> None:
        content = (folder / "data_batch_3.bin").read_bytes()
        (folder / "data_batch_3.bin").write_bytes(content[:size])

    return cut


def mislabel(folder: Path) -> None:
    content = bytearray((folder / "test_batch.bin").read_bytes())
    content[RECORD] = 10
    (folder / "test_batch.bin").write_bytes(content)


SIZE = (
    "data_batch_3.bin: a file of CIFAR-10 is records of 3,073 bytes, 10,000 of them as published (30,730,000 bytes); "
    "this one has {} bytes; copy it again"
)
REFUSALS: dict[str, tuple[Callable[[Path], None], str]] = {
    "missing": (
        remove,
        "cifar10: {folder} must hold data_batch_1.bin to data_batch_5.bin and test_batch.bin of the binary version "
        "(cifar-10-binary.tar.gz, unpacked); data_batch_4.bin, test_batch.bin not found",
    ),
    "truncated": (resize(3 * RECORD - 1), SIZE.format("9,218")),
    "empty": (resize(0), SIZE.format("0")),
    "label": (mislabel, "test_batch.bin: a label is a byte from 0 to 9; record 1 has 10"),
}


@pytest.mark.parametrize("case", REFUSALS)
def test_cifar10_refusal(case: str, tmp_path: Path) -> None:
    break_it, message = REFUSALS[case]
    write_cifar10(tmp_path)
    break_it(tmp_path)
    with pytest.raises(HwsimError, match=f"^{re.escape(message.format(folder=tmp_path))}$"):
        cifar10(tmp_path)


def test_no_folder_at_all(tmp_path: Path) -> None:
    with pytest.raises(HwsimError, match=r"nowhere must hold .*; data_batch_1\.bin, .*, test_batch\.bin not found$"):
        cifar10(tmp_path / "nowhere")
