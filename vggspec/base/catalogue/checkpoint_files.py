"""Mistakes found while the file of a checkpoint of another tool is read (VGG55x)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count, either


class OtherFormat(Diagnostic):
    """``import`` reads files of PyTorch, TorchScript, safetensors, npz, ONNX, Keras, Caffe and
    MatConvNet. Another format is known by its first bytes; the help shows how to convert it where
    it was written.
    """

    code = "VGG550"
    TITLE = "this is {is_a}, which import does not read"
    NOTE = "it reads PyTorch, TorchScript, safetensors, npz, ONNX, Keras, Caffe and MatConvNet"
    HELP = "{way}"
    is_a: str
    way: str


class DamagedCheckpoint(Diagnostic):
    """The file is a checkpoint that is truncated, was changed, or contradicts itself. No part of it
    is used.
    """

    code = "VGG551"
    TITLE = "this checkpoint is damaged: {reason}"
    HELP = "copy or download it again, and compare its size with the source's"
    reason: str


class HoldsCode(Diagnostic):
    """The file is a pickle that refers to classes or functions, and loading those runs code that
    the file names. Only tensors, and tables and lists of tensors, are read.

        torch.save(checkpoint["state_dict"], "tensors.pth")    writes tensors alone
    """

    code = "VGG552"
    HELP = "{way}"
    NOTE = "loading them runs code that the file names; do so only if you trust the file"
    names: tuple[str, ...]
    """Each as it is shown."""

    way: str

    def title(self) -> str:
        shown = ", ".join(self.names[:4])
        more = f" and {len(self.names) - 4} more" if len(self.names) > 4 else ""
        return f"this checkpoint contains more than tensors: {shown}{more}"


class WhichTable(Diagnostic):
    """The file contains several tables of tensors: a teacher and a student, or a generator and a
    discriminator. ``--key`` names the one to take. Where the only choice is between trained weights
    and their moving average (EMA), the trained weights are taken, with a note.
    """

    code = "VGG553"
    tables: tuple[str, ...]
    key: str | None = None

    def title(self) -> str:
        if self.key is not None and len(self.tables) < 2:
            return f"this checkpoint has no table `{self.key}`"
        if self.key is not None:
            return (
                f"this checkpoint has {count(len(self.tables), 'table')}, none of them `{self.key}`"
            )
        return f"this checkpoint contains {count(len(self.tables), 'table')} of tensors"

    def help(self) -> str | None:
        if not self.tables:
            return "leave out `--key`"
        shown = [f"`--key {name}`" for name in self.tables[:12]]
        more = len(self.tables) - 12
        return f"name one by {either([*shown, f'{more} more'] if more > 0 else shown)}"


class NoTensors(Diagnostic):
    """The file contains no table of named floating point tensors."""

    code = "VGG554"
    TITLE = "this checkpoint has no table of floating point tensors: it contains {holds}"
    HELP = "{way}"
    holds: str
    way: str | None = None


class UnusableTensor(Diagnostic):
    """A tensor of the table is not a plain block of numbers: it is sparse, quantised, compressed,
    in another file, or without data or a number type.
    """

    code = "VGG555"
    TITLE = "`{tensor}` is {is_a}"
    HELP = "{way}"
    tensor: str
    is_a: str
    way: str


class OutOfProportion(Diagnostic):
    """The tensors would take far more memory than the file has bytes. A tensor that was expanded
    (``Tensor.expand``) is saved as its few numbers; a compressed archive of zeros is tiny.
    """

    code = "VGG556"
    HELP = "call `.contiguous()` on each tensor, and save them without compression"
    bytes: int
    file_bytes: int

    def title(self) -> str:
        return (
            f"the tensors of this checkpoint would take {self.bytes / 1e6:,.0f} MB,"
            f" and the file has {self.file_bytes / 1e6:,.3f}"
        )
