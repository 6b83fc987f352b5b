"""The images of a split, decoded, and kept in memory where they are few."""

from vggspec.compiler.ir import Color
from vggspec.data.decode import BadImageError, Pixels, decode, decoded_size
from vggspec.data.mask import Mask
from vggspec.data.masked import Masked
from vggspec.data.split import Split
from vggspec.training.dataset import DataSet

#: Decoded images up to this size are kept: reading them again would take longer than training on
#: them, and a worker longer to hand one over than to cut it.
KEPT_BYTES = 256 << 20


class Images:
    """The images of a split, decoded when they are asked for and perhaps kept from then on.

    ``scale`` is the smallest and the largest size that they will be rescaled to, so that JPEG may
    be decoded at a fraction of its size; None for images as they are. Whether they are kept changes
    no pixel.
    """

    def __init__(
        self, split: Split, color: Color, scale: tuple[int, int] | None, *, are_kept: bool
    ) -> None:
        self.split = split
        self._color = color
        self._at_least = scale[1] if scale else None
        self._kept: dict[int, Pixels] | None = {} if are_kept else None

    def __len__(self) -> int:
        return len(self.split)

    def read(self, index: int) -> Pixels:
        """An image ``(H, W, C)``.

        Raises:
            BadImageError: it cannot be read.
        """
        if self._kept is None:
            return self._decoded(index)
        if index not in self._kept:
            self._kept[index] = self._decoded(index)
        return self._kept[index]

    def _decoded(self, index: int) -> Pixels:
        return decode(self.split.read(index), self._color, self._at_least)


class Pairs:
    """The pictures of a split with their masks, read and kept as ``Images``."""

    def __init__(self, split: Masked, color: Color, *, are_kept: bool) -> None:
        self.split = split
        self._images = Images(split, color, None, are_kept=are_kept)
        self._kept: dict[int, Mask] | None = {} if are_kept else None

    def __len__(self) -> int:
        return len(self.split)

    def read(self, index: int) -> tuple[Pixels, Mask]:
        """A picture ``(H, W, C)`` and the label of each of its pixels ``(H, W)``.

        Raises:
            BadImageError: one of them cannot be read, or they do not belong together.
        """
        image = self._images.read(index)
        if self._kept is None:
            return image, self._mask(index, image)
        if index not in self._kept:
            self._kept[index] = self._mask(index, image)
        return image, self._kept[index]

    def _mask(self, index: int, image: Pixels) -> Mask:
        return self.split.mask(index, (image.shape[0], image.shape[1]))


def fit_in_memory(
    data: DataSet,
    color: Color,
    train_scale: tuple[int, int] | None,
    val_scale: tuple[int, int] | None,
) -> bool:
    """Whether the decoded images of a data set are small enough to be kept."""
    sizes = (
        _decoded_bytes(split, color, scale)
        for split, scale in ((data.train, train_scale), (data.val, val_scale))
    )
    return sum(sizes) <= KEPT_BYTES


def _decoded_bytes(split: Split, color: Color, scale: tuple[int, int] | None) -> int:
    """About how much memory the decoded images of a split take, from the headers of a few."""
    total = number = 0
    for index in range(0, len(split), max(1, len(split) // 64)):
        try:
            height, width = decoded_size(split.read(index), scale[1] if scale else None)
        except BadImageError:
            continue  # decoding will report it
        total += height * width * ((1 if color == "gray" else 3) + isinstance(split, Masked))
        number += 1
    return total * len(split) // max(number, 1)
