"""Data sets to train on: the handwritten digits inside scikit-learn, and CIFAR-10 from a local folder.

Everything that is drawn (the split, the order of an epoch) comes from raw words of a seeded PCG64, whose stream numpy
guarantees, so that the same seed gives the same batches with every version and on every machine.

References
----------
E. Alpaydin, C. Kaynak, "Optical recognition of handwritten digits", UCI Machine Learning Repository, 1998 (digits);
A. Krizhevsky, "Learning multiple layers of features from tiny images", University of Toronto, 2009 (CIFAR-10).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from math import prod
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from hwsim.errors import HwsimError

__all__ = ["Dataset", "cifar10", "digits"]

Images = NDArray[np.float32]
Labels = NDArray[np.int32]

#: Digits: one image of so many is for the test, and the seed of the split.
DIGITS_TEST_EVERY, DIGITS_SEED = 5, 2026

#: CIFAR-10: one byte of label, then 1,024 bytes of red, of green, of blue, each row by row.
RECORD_BYTES = 1 + 3 * 32 * 32
CIFAR10_TRAIN = tuple(f"data_batch_{i}.bin" for i in range(1, 6))
CIFAR10_TEST = "test_batch.bin"

#: Mean and standard deviation per channel (red, green, blue) of the 50,000 training images, pixels from 0 to 1; the
#: numbers that are usual for CIFAR-10.
CIFAR10_MEAN = (0.4914, 0.4822, 0.4465)
CIFAR10_DEVIATION = (0.2470, 0.2435, 0.2616)


@dataclass(frozen=True, eq=False)
class Dataset:
    """Samples and class indices, for training and for the test.

    Attributes
    ----------
    name : str
        Its name.
    train_x, test_x : ndarray of shape (samples, height, width, channels) or (samples, features), dtype float32
        Samples.
    train_y, test_y : ndarray of shape (samples,), dtype int32
        Class indices from 0.
    """

    name: str
    train_x: Images
    train_y: Labels
    test_x: Images
    test_y: Labels

    def __post_init__(self) -> None:
        for part, x, y in (("training", self.train_x, self.train_y), ("test", self.test_x, self.test_y)):
            if len(x) != len(y) or not len(x):
                raise HwsimError(
                    f"{self.name}: the {part} samples and their labels must be as many, and one or more; they are "
                    f"{len(x)} and {len(y)}"
                )

    def shaped(self, sample: Sequence[int]) -> Dataset:
        """Return the same data with samples of another shape, in row-major order.

        Parameters
        ----------
        sample : tuple of int
            Shape of one sample, as a network reads it: ``graph.tensors["input"].shape[1:]``.

        Raises
        ------
        HwsimError
            If a sample has not that many elements.
        """
        sample, own = tuple(sample), self.train_x.shape[1:]
        if prod(sample) != prod(own):
            raise HwsimError(
                f"{self.name}: one sample is {own}; a network that reads {sample} cannot be trained on it; "
                "choose another of both"
            )
        return replace(self, train_x=self.train_x.reshape(-1, *sample), test_x=self.test_x.reshape(-1, *sample))

    def batches(self, batch: int, seed: int, epoch: int) -> Iterator[tuple[Images, Labels]]:
        """Batches of one epoch of training, in an order of its own.

        Every sample comes at most once; those that do not fill a last batch are left out, other ones in each epoch.

        Parameters
        ----------
        batch : int
            Samples per batch, from 1 to the number of training samples.
        seed, epoch : int
            Each pair gives its own order, 0 or more.

        Returns
        -------
        iterator of (x, y)
            Samples and their class indices.

        Raises
        ------
        HwsimError
            If the batch is out of range.
        """
        samples = len(self.train_x)
        if not 1 <= batch <= samples:
            raise HwsimError(f"{self.name}: batch must be from 1 to the {samples:,} training samples; it is {batch}")
        order = _permutation(samples, np.random.SeedSequence([seed, epoch]))
        starts = range(0, samples - batch + 1, batch)
        return ((self.train_x[o], self.train_y[o]) for o in (order[start : start + batch] for start in starts))


def digits() -> Dataset:
    """8×8 images of handwritten digits: 1,437 for training, 360 for the test.

    Pixels are sixteenths from 0 to 1, which fp32, bf16, fp16 and fp8 e4m3 hold exactly. The split is fixed:
    in a fixed permutation of scikit-learn's order, every fifth image of each class is for the test.

    Returns
    -------
    Dataset
        Images of shape (8, 8, 1), ten classes.

    Raises
    ------
    HwsimError
        If scikit-learn is not installed.

    Examples
    --------
    >>> data = digits()
    >>> data.train_x.shape, data.test_x.shape
    ((1437, 8, 8, 1), (360, 8, 8, 1))
    """
    try:
        datasets = import_module("sklearn.datasets")
    except ImportError as error:
        raise HwsimError(
            "digits: the images come with scikit-learn, which is not installed; run: pip install scikit-learn"
        ) from error
    found = datasets.load_digits()
    x = (found.images[..., np.newaxis] / 16).astype(np.float32)
    y = found.target.astype(np.int32)
    order = _permutation(len(x), np.random.SeedSequence(DIGITS_SEED))
    by_class = order[np.argsort(y[order], kind="stable")]
    tested = np.zeros(len(x), bool)
    tested[by_class[::DIGITS_TEST_EVERY]] = True
    train, test = order[~tested[order]], order[tested[order]]
    return Dataset("digits", x[train], y[train], x[test], y[test])


def cifar10(folder: str | Path) -> Dataset:
    """32×32 colour images of ten classes, in the binary format in which they are published.

    Pixels are divided by 255, then normalised per channel with the mean and deviation of the training images.

    Parameters
    ----------
    folder : str or Path
        Folder with ``data_batch_1.bin`` … ``data_batch_5.bin`` and ``test_batch.bin``, or the one above its
        ``cifar-10-batches-bin``. The published files hold 10,000 images each; fewer will do.

    Returns
    -------
    Dataset
        Images of shape (32, 32, 3), channels red, green, blue; float32, 12 KiB an image.

    Raises
    ------
    HwsimError
        If a file is missing, is not a whole number of records, or has a label above 9.
    """
    folder = Path(folder)
    if not (folder / CIFAR10_TEST).is_file() and (folder / "cifar-10-batches-bin").is_dir():
        folder /= "cifar-10-batches-bin"
    missing = [name for name in (*CIFAR10_TRAIN, CIFAR10_TEST) if not (folder / name).is_file()]
    if missing:
        raise HwsimError(
            f"cifar10: {folder} must hold data_batch_1.bin to data_batch_5.bin and test_batch.bin of the "
            f"binary version (cifar-10-binary.tar.gz, unpacked); {', '.join(missing)} not found"
        )
    train = np.concatenate([_records(folder / name) for name in CIFAR10_TRAIN])
    test = _records(folder / CIFAR10_TEST)
    return Dataset("cifar10", _pixels(train), _labels(train), _pixels(test), _labels(test))


def _records(path: Path) -> NDArray[np.uint8]:
    """Records of one file, one a row."""
    size = path.stat().st_size
    if size == 0 or size % RECORD_BYTES:
        raise HwsimError(
            f"{path.name}: a file of CIFAR-10 is records of {RECORD_BYTES:,} bytes, 10,000 of them as published "
            f"(30,730,000 bytes); this one has {size:,} bytes; copy it again"
        )
    records = np.fromfile(path, np.uint8).reshape(-1, RECORD_BYTES)
    if records[:, 0].max() > 9:
        wrong = int(np.argmax(records[:, 0] > 9))
        raise HwsimError(f"{path.name}: a label is a byte from 0 to 9; record {wrong} has {records[wrong, 0]}")
    return records


def _labels(records: NDArray[np.uint8]) -> Labels:
    return records[:, 0].astype(np.int32)


def _pixels(records: NDArray[np.uint8]) -> Images:
    """Images in NHWC, each byte looked up in its channel's table of 256 normalised values."""
    planes = records[:, 1:].reshape(-1, 3, 32, 32)
    images = np.empty((len(records), 32, 32, 3), np.float32)
    for channel, (mean, deviation) in enumerate(zip(CIFAR10_MEAN, CIFAR10_DEVIATION, strict=True)):
        table = ((np.arange(256) / 255 - mean) / deviation).astype(np.float32)
        images[..., channel] = table[planes[:, channel]]
    return images


def _permutation(count: int, seed: np.random.SeedSequence) -> NDArray[np.int64]:
    """Order of `count` random words."""
    return np.argsort(np.random.PCG64(seed).random_raw(count), kind="stable")
