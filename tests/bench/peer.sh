#!/bin/sh
# semollm beside transformers and PEFT on this machine's CPU; see peer.py. Wants a Python with torch, transformers,
# peft and safetensors in $PYTHON; other arguments are peer.py's.
set -e
cd "$(dirname "$0")/../.."
BUILD=${BUILD:-build}
make BUILD="$BUILD" "$BUILD/tests/model/peer_bench"
exec "${PYTHON:-python3}" tests/bench/peer.py "$BUILD/tests/model/peer_bench" "$@"
