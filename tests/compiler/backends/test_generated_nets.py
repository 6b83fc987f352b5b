"""PyTorch and ONNX Runtime agree on every net that can be written, at several sizes."""

from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.nets import images, net, random_weights, run_onnx, run_torch
from tests.refusals import told
from tests.strategies import net_texts
from vggspec.base.diagnostic import VggspecError
from vggspec.bundle.options import CompileOptions
from vggspec.compiler.backends.onnx.model import emit, prepare
from vggspec.compiler.input_contract import known_mean, settled
from vggspec.compiler.sizes import sizes as fitting


@given(
    text=net_texts(),
    more=st.tuples(st.integers(0, 9), st.integers(0, 17)),
    average=st.sampled_from(["scores", "posteriors"]),
    keep_map=st.booleans(),
)
@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_generated_nets_agree(
    text: str, more: tuple[int, int], average: str, keep_map: bool, tmp_path: Path
) -> None:
    written = net(text)
    weights = random_weights(written, tmp_path / "w.safetensors")
    lowered, _ = settled(written, weights)
    image = lowered.network.input
    if not any(layer.op.keyword == "soft-max" for layer in lowered.network.layers):
        average = "scores"
    for options in (
        CompileOptions(form="crop", average=average),
        CompileOptions(form="dense", average=average, keep_map=keep_map),
    ):
        try:
            prepared = prepare(lowered.network, options)
        except VggspecError as error:  # an FC with an activation after `gap` has no map
            if not (options.keep_map and "VGG243" in told(error)):
                raise
            continue
        model = emit(
            prepared,
            weights,
            mean=known_mean(image),
            is_dynamic=options.is_dense,
            weights_as="embedded",
        )
        onnx.checker.check_model(model, full_check=True)
        of = ort.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        sizes = [(image.height, image.width)]
        if options.is_dense:
            sizes += [(image.height + more[0], image.width + more[1]), fitting(prepared).least]
        for height, width in sizes:
            x = images(2, image.channels, height, width)
            expected = run_torch(lowered, weights, options, x)
            found = run_onnx(of, x)
            assert found.keys() == expected.keys()
            for name, value in expected.items():
                np.testing.assert_allclose(
                    found[name], value, rtol=1e-4, atol=1e-5 * max(1.0, np.abs(value).max())
                )
