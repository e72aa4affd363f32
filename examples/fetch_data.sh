#!/bin/sh
# fetch_data.sh FOLDER: the four files of Fashion-MNIST, from Debian's package dataset-fashion-mnist,
# which apt checks against its signed lists. Needs no root and installs nothing. FOLDER appears only
# when it is whole; when it is there already, nothing happens.
set -eu
unset CDPATH # or cd prints
folder=$1
package=dataset-fashion-mnist
files="train-images-idx3-ubyte.gz train-labels-idx1-ubyte.gz t10k-images-idx3-ubyte.gz t10k-labels-idx1-ubyte.gz"

if [ -d "$folder" ]; then exit 0; fi

give_up() {
    echo "$1" >&2
    echo "Put the four files ($files) into a folder and set LENET_DATA to it." >&2
    exit 1
}
command -v apt-get >/dev/null && command -v dpkg >/dev/null ||
    give_up "Fashion-MNIST comes from a Debian package, and this machine has no apt."

parent=$(dirname "$folder")
mkdir -p "$parent"
parent=$(cd "$parent" && pwd) # apt wants absolute paths
folder=$parent/$(basename "$folder")
work=$(mktemp -d "$parent/.fetch.XXXXXX") # beside the goal, so that the last step is a rename
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

cd "$work"
# As root, apt would hand the download to a user that may not write here.
apt() { apt-get -q -o APT::Sandbox::User="$(id -un)" "$@"; }

if ! apt download "$package" >log 2>&1; then
    # No lists, as in a fresh container, or stale ones: make our own; the system's are for root to change.
    echo "Making private package lists; this takes a moment."
    mkdir -p state/lists/partial cache/archives/partial
    private() {
        apt -o Dir::State="$work/state" -o Dir::State::Lists="$work/state/lists" -o Dir::Cache="$work/cache" \
            "$@" >>log 2>&1
    }
    if ! private update || ! private download "$package"; then
        cat log >&2
        give_up "apt cannot download $package."
    fi
fi
dpkg -x "$package"_*.deb unpacked
for file in $files; do
    [ -s "unpacked/usr/share/datasets/fashion-mnist/$file" ] || give_up "$package holds no $file."
done
# -T: were another run faster, its folder is not to get ours inside.
mv -T unpacked/usr/share/datasets/fashion-mnist "$folder" || [ -d "$folder" ]
