"""Mistakes found when bundles are measured by ``bench`` (VGG575 to VGG579)."""

from vggspec.base.diagnostic import Diagnostic


class ShapeNotTaken(Diagnostic):
    """``bench`` measures a bundle at the sizes that its net takes: its window, compiled with
    ``--crop``; the window and larger images, compiled densely, as far as the branches of the net
    meet. A size is written ROWSxCOLUMNS.
    """

    code = "VGG575"
    size: tuple[int, int]
    least: tuple[int, int]
    is_dynamic: bool
    multiples: str | None
    """The larger sizes that it takes, where it does not take all."""

    def title(self) -> str:
        return f"the net takes no images of {self.size[0]} × {self.size[1]} pixels"

    def help(self) -> str | None:
        least = f"{self.least[0]}x{self.least[1]}"
        if not self.is_dynamic:
            return f"use `--shape {least}`, its only size"
        more = f", {self.multiples}" if self.multiples else ""
        return f"it takes {least} and larger images{more}"


class NotMeasurable(Diagnostic):
    """``bench`` reads the number of multiplications of a net from the spec in its manifest, and
    gives it images of one shape after another. A bundle that compares pictures, and one whose graph
    contains the whole test protocol, takes something else.
    """

    code = "VGG576"
    TITLE = "`bench` measures nets that take images, and this bundle takes {takes}"
    HELP = "compile the spec without `--protocol` and `--distance`"
    takes: str


class NoLayerTimes(Diagnostic):
    """Times of single layers come from the profiler of the engine that runs the bundle: ONNX
    Runtime's and OpenVINO's on a CPU. On a GPU ONNX Runtime measures how long it takes to start a
    kernel, not how long the kernel runs, and the engines of TensorRT are run without a profiler.
    """

    code = "VGG577"
    TITLE = "times of single layers cannot be measured on the device `{device}`"
    HELP = "leave `--layers` out, or measure on `--device cpu,openvino`"
    device: str


class LostMeasurement(Diagnostic):
    """Each bundle that ``bench`` measures is loaded by a process of its own, all of them at once.
    One of them ended without an error: most often the system ended it because memory ran out.
    """

    code = "VGG578"
    TITLE = "the process that measures it {how}"
    HELP = "measure fewer bundles at once, or smaller shapes and batches"
    how: str


class NoPicturesToBench(Diagnostic):
    """``--data`` names a folder of pictures on which answers are compared; images in its
    subfolders count. It contains none.
    """

    code = "VGG579"
    TITLE = "the folder contains no images"
    HELP = "give a folder with pictures, or omit `--data`: synthetic ones are then used"
