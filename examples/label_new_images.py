"""A head on the built-in data: fit it to a few labelled digits, keep it in a file, and label other digits.

python examples/label_new_images.py
"""

import tempfile
from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

import nctransfer as nct


def main() -> None:
    """Fit, save, load, predict, print."""
    features = nct.extract(model="tf_efficientnet_lite0", data="digits", max_per_class=25)

    found = nct.fit(features)
    promise = found.head.promise
    low, high = promise.interval
    print(f"{found.head.classifier}: {promise.accuracy:.1%} expected on other digits ({low:.1%} to {high:.1%})")
    print(f"hardest class: {found.classes[0].name}")

    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "digits.head"
        found.head.save(file)
        head = nct.load_head(file)

    pictures, labels = load_digits(return_X_y=True)
    images = [np.uint8(picture.reshape(8, 8) * 255 / 16) for picture in pictures[-50:]]
    rows = head.predict(images, max_error=0.2)
    answered = [(row.label, str(label)) for row, label in zip(rows, labels[-50:], strict=True) if not row.abstained]
    print(f"{len(answered)} of {len(rows)} images answered, {sum(a == b for a, b in answered)} of them right")

    audit = nct.audit(features)
    print(f"{len(audit.flags)} images to look at: {dict(audit.counts)}")


if __name__ == "__main__":
    main()
