"""Copy a checkpoint and unpickle the copy: ``python -m benchmarks.peers.copy_and_load FROM TO``."""

import shutil
import sys

import torch


def main(source: str, target: str) -> None:
    shutil.copyfile(source, target)
    torch.load(target, weights_only=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
