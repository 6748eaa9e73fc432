"""Runs when Python starts in the environment of `make test-vllm`, which copies it there.

The torchvision that a package index holds is built for CUDA, and with a CPU build of torch its
native part cannot load. It then fails on import, for want of two operators that nothing here calls.
Declared, they are enough.
"""

import contextlib

with contextlib.suppress(ImportError):  # while the environment is being made
    import torch

    LIBRARY = torch.library.Library("torchvision", "DEF")
    for name in ("nms", "qnms"):
        LIBRARY.define(f"{name}(Tensor dets, Tensor scores, float iou_threshold) -> Tensor")
