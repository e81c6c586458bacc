"""Digits: scikit-learn's 1797 handwritten digits of 8 x 8 pixels, which need no download."""

from pathlib import Path

import torch

from vsc.data.split import Source, Split


def load(root: Path) -> Source:
    """
    Load 1437 training and 360 test images (1, 8, 8), values 0 to 16, with labels.

    scikit-learn ships them as one set. The split here is ours: 80/20, stratified by class, the same one every time and
    whatever the user's seed, so that results on the test part can be compared. Source: E. Alpaydin and C. Kaynak,
    "Optical Recognition of Handwritten Digits" (test set), UCI Machine Learning Repository.
    """
    from sklearn.datasets import load_digits
    from sklearn.model_selection import train_test_split

    pixels, labels = load_digits(return_X_y=True)
    whole = Split(torch.from_numpy(pixels).to(torch.uint8), torch.from_numpy(labels).long())
    train, test = train_test_split(range(len(whole)), test_size=0.2, stratify=labels, random_state=0)
    return Source(
        train=whole.take(torch.tensor(sorted(train))),
        test=whole.take(torch.tensor(sorted(test))),
        shape=(1, 8, 8),
        classes=tuple(str(digit) for digit in range(10)),
        high=16.0,
    )
