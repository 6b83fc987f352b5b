"""Classify pictures by the paper's whole test protocol, without vggspec.

    python protocol.py BUNDLE 256,384,512 IMAGE...

BUNDLE was written by `vggspec compile --protocol`; 256,384,512 are the scales, the smallest sides
in pixels to which a picture is rescaled. It needs onnxruntime, numpy and Pillow.
"""

import sys
from pathlib import Path

import numpy as np
import onnxruntime as ort
from PIL import Image, ImageOps

bundle, scales = Path(sys.argv[1]), np.array(sys.argv[2].split(","), np.int64)
session = ort.InferenceSession(bundle / "1/model.onnx", providers=["CPUExecutionProvider"])
is_gray = session.get_inputs()[0].shape[2] == 1
labels = bundle / "labels.txt"  # a class per line; exists if the classes have labels
names = labels.read_text("utf-8").splitlines() if labels.exists() else None
for path in sys.argv[3:]:
    image = ImageOps.exif_transpose(Image.open(path)).convert("L" if is_gray else "RGB")
    picture = np.atleast_3d(np.asarray(image))
    (posteriors,) = session.run(["posteriors"], {"picture": picture, "scales": scales})
    print(path)
    for index in np.argsort(-posteriors, kind="stable")[:5]:
        print(f"  {posteriors[index]:.6f}  {names[index] if names else f'class {index}'}")
