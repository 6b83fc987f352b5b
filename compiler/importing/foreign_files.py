"""Other file formats: recognised by their first bytes, with advice on converting them.

Sources: the magic numbers that each format documents; for those that have none (Darknet, Caffe,
TensorFlow's protocol buffers) how their first fields are written.
"""

import codecs
import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import PurePath

SAMPLE_BYTES = 4096
"""Bytes of the beginning and of the end that are inspected."""


@dataclass(frozen=True, slots=True)
class Sample:
    """The inspected parts of a file."""

    name: str
    """In lower case, without folders."""

    size: int
    head: bytes
    tail: bytes

    @property
    def suffix(self) -> str:
        return PurePath(self.name).suffix

    @property
    def text(self) -> str | None:
        """The beginning as text, without leading blanks; None of bytes that are no text."""
        encoding = "utf-16" if self.head[:2] in (b"\xff\xfe", b"\xfe\xff") else "utf-8-sig"
        try:
            text = codecs.getincrementaldecoder(encoding)().decode(self.head)
        except UnicodeDecodeError:
            return None
        return None if re.search(r"[\0-\x08\x0e-\x1a\x1c-\x1f]", text) else text.lstrip()


@dataclass(frozen=True, slots=True)
class Format:
    """A format that is not read."""

    is_a: str
    matches: Callable[[Sample], object]
    way: str


_SAVE = "np.savez('weights.npz', **{name: array})"
_DOWNLOAD = "download the file itself, and compare its size with the source's"
_NAME = "name the file of tensors"
_SOURCE = "import the checkpoint that it was converted from"
_UNPACK = "unpack it, and import the file inside"
_ARRAYS = f"where it was written, save its arrays by their names: {_SAVE}"
_TRUSTED = (
    "where you trust it: pickle.load(open(PATH, 'rb'), encoding='latin1') returns its content"
)
_OBJECT = "where you trust it: np.load(PATH, allow_pickle=True, encoding='latin1').item() gives it"
_STATE = "where it was written, save its tensors: torch.save(model.state_dict(), 'w.pth')"
_TENSORFLOW = (
    "in TensorFlow: r = tf.train.load_checkpoint(PATH); np.savez('weights.npz', **{name:"
    " r.get_tensor(name) for name in r.get_variable_to_shape_map()})"
)
_FLAX = (
    "in Flax: np.savez('weights.npz', **flax.traverse_util.flatten_dict("
    "flax.serialization.msgpack_restore(open(PATH, 'rb').read()), sep='.'))"
)
_MXNET = (
    "in MXNet: np.savez('weights.npz', **{name.split(':')[1]: array.asnumpy() for name, array in"
    " mx.nd.load(PATH).items()})"
)
_PARTS = (
    "join the parts: safetensors.torch.save_file({name: tensor of every part}, 'whole.safetensors')"
)


def _begins(*magics: bytes, at: int = 0) -> Callable[[Sample], bool]:
    return lambda file: any(file.head.startswith(magic, at) for magic in magics)


def _matches(pattern: bytes) -> Callable[[Sample], object]:
    found = re.compile(pattern, re.DOTALL)
    return lambda file: found.match(file.head)


def _says(pattern: str) -> Callable[[Sample], object]:
    found = re.compile(pattern, re.IGNORECASE)
    return lambda file: file.text is not None and found.match(file.text)


def _is_tensorflow(file: Sample) -> bool:
    table = file.tail.endswith(b"\x57\xfb\x80\x8b\x24\x75\x47\xdb")  # the index is a LevelDB table
    return table or re.search(r"\.(data-\d+-of-\d+|ckpt\.index)$", file.name) is not None


def _is_index(file: Sample) -> bool:
    return file.text is not None and file.text.startswith("{") and '"weight_map"' in file.text


#: In this order: formats with a magic number before those that are guessed.
FORMATS = (
    Format(
        "a pointer of Git LFS",
        _says("version https://git-lfs"),
        "run `git lfs pull` in its repository",
    ),
    Format("a web page", _says(r"<(!doctype|html|head|body|!--|meta)\b"), _DOWNLOAD),
    Format("an XML page", _says(r"<(\?xml|error)\b"), _DOWNLOAD),
    Format("the list of the parts of a checkpoint", _is_index, _PARTS),
    Format(
        "a pickled object in a NumPy file",
        _matches(rb"\x93NUMPY.{2,6}\{.{0,200}\|O"),
        f"{_OBJECT}; {_SAVE} saves its arrays",
    ),
    Format("one array without a name", _begins(b"\x93NUMPY"), f"save all in one file: {_SAVE}"),
    Format("a GGUF file", _begins(b"GGUF", b"ggml", b"lmgg", b"tjgg"), _SOURCE),
    Format("a TensorFlow Lite model", _begins(b"TFL3", at=4), _SOURCE),
    Format("an ExecuTorch program", _begins(b"ET12", b"ET13", at=4), _SOURCE),
    Format("a TensorRT engine", _begins(b"ftrt", b"ptrt"), _SOURCE),
    Format("an MXNet file", _begins(b"\x12\x01\0\0\0\0\0\0"), _MXNET),
    Format(
        "a Torch7 file",
        lambda file: b"\x03\0\0\0V 1" in file.head[:64],
        f"torchfile.load(PATH) gives its arrays; {_SAVE} saves them",
    ),
    Format("a gzip archive", _begins(b"\x1f\x8b"), f"{_UNPACK}: `gunzip` or `tar xf`"),
    Format("a bzip2 archive", _begins(b"BZh"), f"{_UNPACK}: `bunzip2` or `tar xf`"),
    Format("an xz archive", _begins(b"\xfd7zXZ\0"), f"{_UNPACK}: `unxz` or `tar xf`"),
    Format("a zstd archive", _begins(b"\x28\xb5\x2f\xfd"), f"{_UNPACK}: `unzstd`"),
    Format("an lz4 archive", _begins(b"\x04\x22\x4d\x18"), f"{_UNPACK}: `unlz4`"),
    Format("a 7z archive", _begins(b"7z\xbc\xaf\x27\x1c"), _UNPACK),
    Format("a RAR archive", _begins(b"Rar!"), _UNPACK),
    Format(
        "a tar archive",
        _begins(b"ustar", at=257),
        f"{_UNPACK}: `tar xf`; of a checkpoint of PyTorch 0.1: {_STATE}",
    ),
    Format("a TensorFlow checkpoint", _is_tensorflow, _TENSORFLOW),
    Format("a TensorFlow SavedModel", _begins(b"\x08\x01\x12"), _TENSORFLOW),
    Format(
        "a frozen TensorFlow graph",  # nodes that begin with their names
        _matches(rb"\n.{1,2}\n[\x01-\x7f][\x20-\x7e]+\x12"),
        _SOURCE,
    ),
    Format(
        "a Darknet file",  # version 0.1 or 0.2, its revision
        _matches(rb"\0{4}[\1\2]\0{3}[\0-\x0a]\0{3}"),
        f"it has no names: where it was written, save its arrays in their order: {_SAVE}",
    ),
    Format(
        "a msgpack file, as Flax writes them",  # a table whose first key is a text
        _matches(rb"(?:[\x81-\x8f]|\xde..|\xdf.{4})(?:[\xa1-\xbf]|\xd9.)[\x20-\x7e]"),
        _FLAX,
    ),
    Format(
        "a Python pickle that PyTorch did not write",
        _matches(rb"\x80[\2-\5]|\([dl]p\d|c(?:copy_reg|__builtin__|numpy)"),
        f"{_TRUSTED}; {_SAVE} saves its arrays",
    ),
    Format("a picture", _begins(b"\x89PNG", b"\xff\xd8\xff", b"GIF8"), _NAME),
    Format("a PDF document", _begins(b"%PDF"), _NAME),
    Format("a program or a library", _begins(b"\x7fELF", b"MZ"), _NAME),
    Format("a SQLite database", _begins(b"SQLite format 3\0"), _NAME),
    Format("a JSON file", _says(r"[{\[]\s*[\"\[{\]}\d-]"), _NAME),
    Format(
        "a text",
        lambda file: file.text is not None,
        "name the checkpoint after the spec: `vggspec import SPEC CHECKPOINT`",
    ),
    Format(
        "a file of zeros, as an interrupted download leaves it",
        lambda file: not any(file.head) and not any(file.tail),
        _DOWNLOAD,
    ),
)

PICKLE = next(known for known in FORMATS if "pickle that" in known.is_a)
PART = Format("one of several parts of a checkpoint", bool, _PARTS)
_EMPTY = Format("an empty file", bool, _DOWNLOAD)
_UNKNOWN = Format("a file of no known format", bool, _ARRAYS)

_SCRIPT = Format(
    "a TorchScript archive",
    bool,
    "in PyTorch: torch.save(torch.jit.load(PATH).state_dict(), 'w.pth')",
)
_EXPORTED = Format(
    "an exported PyTorch program",
    bool,
    "in PyTorch: torch.save(torch.export.load(PATH).state_dict, 'w.pth')",
)

#: Zip archives by the name of a member.
_ARCHIVES = (
    (r"(^|/)(constants\.pkl|code/.*)$", _SCRIPT),
    (r"(^|/)(archive_format|serialized_exported_program\.json|models/[^/]+\.json)$", _EXPORTED),
    (r"\.mlmodel$", Format("a Core ML model", bool, _SOURCE)),
    (r"(^|/)saved_model\.pb$|\.index$", Format("a TensorFlow model, zipped", bool, _TENSORFLOW)),
    (
        r"\.(pth?|safetensors|npz|bin|ckpt|h5|caffemodel|onnx|weights|mat)$",
        Format("a zip archive around a checkpoint", bool, f"{_UNPACK}: `unzip`"),
    ),
)
_ARCHIVE = Format("a zip archive without a checkpoint", bool, _NAME)


def recognise(file: Sample) -> Format:
    """The format of a file that is not supported."""
    if not file.size:
        return _EMPTY
    return next((known for known in FORMATS if known.matches(file)), _UNKNOWN)


def recognise_archive(members: Iterable[str]) -> Format:
    """The format of a zip archive that is not supported."""
    names = list(members)
    for pattern, known in _ARCHIVES:
        if any(re.search(pattern, name) for name in names):
            return known
    return _ARCHIVE


def is_program(known: Format) -> bool:
    """Whether it is a PyTorch file that contains code in addition to ``data.pkl``."""
    return known in (_SCRIPT, _EXPORTED)


def is_part(name: str) -> bool:
    """Whether a file's name says that it is one of several."""
    found = re.search(r"-\d+-of-(\d+)\.", name)
    return found is not None and int(found[1]) > 1
