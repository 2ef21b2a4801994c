"""Speed tables, each printing its machine and its peers: `python -m benchmarks.step`, or `make bench` for all of them."""

from holotf import console

console.import_tensorflow()
