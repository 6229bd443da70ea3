#!/bin/sh
# Installs what `tools/bench peers` compares with: Debian packages (as root), and onnxruntime-node
# without its install script, which would fetch CUDA libraries that are not used here.
set -e
cd "$(dirname "$0")"
apt-get update -q
apt-get install -y -q gcc libopenblas-dev libopenblas0-openmp libdnnl-dev python3-torch \
    python3-torchvision
command -v npm >/dev/null || apt-get install -y -q npm
npm install --ignore-scripts --no-package-lock --no-audit --no-fund
