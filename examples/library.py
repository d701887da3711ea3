"""The library on the built-in data: which digits does a frozen backbone confuse, and how many labels does it need?

python examples/library.py
"""

import nctransfer as nct


def main() -> None:
    """Extract, measure, print."""
    features = nct.extract(model="tf_efficientnet_lite0", data="digits", max_per_class=25)

    report = nct.collapse(features)
    closest = report.pairs[0]
    print(f"CDNV {report.cdnv:.3f}, nearest class centre {report.ncc_accuracy:.1%}")
    print(f"closest classes: {closest.class_a} and {closest.class_b}, CDNV {closest.cdnv:.3f}")

    result = nct.fewshot(features, ways=5, shots=(1, 2, 5), episodes=1000)
    print(result.to_frame().pivot(index="shots", columns="classifier", values="accuracy").round(3))


if __name__ == "__main__":
    main()
