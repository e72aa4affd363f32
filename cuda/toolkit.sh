#!/bin/sh
# Usage: toolkit.sh PYTHON FOLDER
#
# Makes FOLDER/toolkit what CUDA_HOME may be, on a machine without a GPU and without CUDA: NVIDIA's wheels, the names that
# a linker looks for, and a libcuda to link with. The real one comes with the driver.
set -eu

python=$1
mkdir -p "$2"
folder=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)

if ! cmp -s "$here/requirements.txt" "$folder/venv/requirements.txt"; then
    "$python" -m venv "$folder/venv"
    "$folder/venv/bin/pip" install --quiet --requirement "$here/requirements.txt"
    cp "$here/requirements.txt" "$folder/venv/requirements.txt"
fi
toolkit=$(echo "$folder"/venv/lib/python3*/site-packages/nvidia/cu13)
test -x "$toolkit/bin/nvcc" || { echo "$toolkit has no nvcc" >&2; exit 1; }
ln -sfn "$toolkit" "$folder/toolkit"

for library in "$toolkit"/lib/lib*.so.*; do
    ln -sf "$(basename "$library")" "${library%%.so.*}.so"
done
ln -sfn lib "$toolkit/lib64"

# Every function of the driver says CUDA_ERROR_NO_DEVICE: enough to link with, and what a test puts in the driver's place.
mkdir -p "$toolkit/lib/stubs"
cc -E -P "$toolkit/include/cuda.h" | tr '\n' ' ' | tr ';' '\n' |
    sed -n 's/^ *CUresult  *\(cu[A-Za-z0-9_]*\) *(.*/int \1(void) { return 100; }/p' | sort -u >"$folder/libcuda.c"
cc -shared -fPIC -Wl,-soname,libcuda.so.1 -o "$toolkit/lib/stubs/libcuda.so" "$folder/libcuda.c"
ln -sf libcuda.so "$toolkit/lib/stubs/libcuda.so.1"

# candle's bindings name the runtime compiler to the linker; the plugin calls nothing of it, and it is large.
cc -shared -x c /dev/null -o "$toolkit/lib/stubs/libnvrtc.so"
