"""What localisation returns: the boxes on each image, and the errors on a data set."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from vggspec.base.catalogue.localising import ImageLeftOut
from vggspec.base.diagnostic import VggspecError, report
from vggspec.base.recipe import TestProtocol
from vggspec.base.short_repr import short_repr
from vggspec.data.read import read_image
from vggspec.runtime.protocol import Size
from vggspec.studies.localisation.draw import Drawn, draw
from vggspec.studies.localisation.errors import LocalisationTally, Verdict
from vggspec.studies.localisation.localiser import ClassBox, Method

if TYPE_CHECKING:
    from PIL import Image


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class LocalisedImage:
    """The boxes on an image."""

    file: str
    size: Size
    """Rows and columns of the upright image; zeros if it cannot be read."""

    labels: tuple[str, ...]
    """The names of the nets' classes."""

    likeliest: tuple[ClassBox, ...] = ()
    """The boxes of the classifier's likeliest classes, best first."""

    asked: tuple[ClassBox, ...] = ()
    """The boxes of the classes that were requested: on a data set, of those on the image."""

    unread: str | None = None
    """Why the image was left out, if it was."""

    verdict: Verdict | None = None
    """Which boxes are right, on a data set."""

    @property
    def boxes(self) -> tuple[ClassBox, ...]:
        """The boxes of the requested classes, or of the likeliest if none was requested."""
        return self.asked or self.likeliest

    @property
    def error(self) -> VggspecError | None:
        """The reason why the image was left out, as an error."""
        if self.unread is None:
            return None
        return VggspecError(report(ImageLeftOut(why=self.unread), path=self.file))

    def picture(self) -> "Image.Image":
        """The image with its boxes. Reads the file again, in colour.

        Raises:
            VggspecError: the file cannot be read.
        """
        boxes = [
            Drawn(box=each.box, text=self._caption(each))
            for each in self.boxes
            if each.box is not None
        ]
        return draw(read_image(self.file), boxes)

    def as_data(self) -> dict[str, Any]:
        """The boxes for JSON; on a data set, with whether they are right."""
        rows, columns = self.size
        found: dict[str, Any] = {"file": self.file, "width": columns, "height": rows}
        if self.verdict is None:
            return found | {"boxes": [self._as_data(each) for each in self.boxes]}
        right = [is_right for _, is_right in self.verdict.given]
        return found | {
            "likeliest": self._judged(self.likeliest, self.verdict.likeliest),
            "class_given": self._judged(self.asked, right),
        }

    def _judged(self, boxes: Sequence[ClassBox], right: Sequence[bool]) -> list[dict[str, Any]]:
        judged = zip(boxes, right, strict=True)
        return [self._as_data(each) | {"is_right": is_right} for each, is_right in judged]

    def _caption(self, box: ClassBox) -> str:
        label = "" if box.label is None else self.labels[box.label]
        return label if box.posterior is None else f"{label}  {box.posterior:.1%}"

    def _as_data(self, box: ClassBox) -> dict[str, Any]:
        return {
            "label": None if box.label is None else self.labels[box.label],
            "index": box.label,
            "posterior": box.posterior,
            "score": box.score,
            "windows": box.windows,
            "box": None if box.box is None else box.box.tolist(),
        }


@short_repr
@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Localisation:
    """The boxes on images, and on a data set the errors."""

    nets: tuple[str, ...]
    """The paths of the nets of boxes."""

    classifiers: tuple[str, ...]
    method: Method
    protocol: TestProtocol
    """The protocol that the nets followed."""

    labels: tuple[str, ...]
    """The names of the nets' classes."""

    images: tuple[LocalisedImage, ...]
    """In the order of the data, those left out among them."""

    tally: LocalisationTally | None = None
    """The errors; None without a data set."""

    @property
    def top(self) -> int:
        """How many of the likeliest classes have a box on each image."""
        return min(self.method.top, len(self.labels)) if self.classifiers else 0

    @property
    def way(self) -> str:
        """How the nets were applied, such as ``central`` or ``dense, crops 5×5``."""
        return way_of(self.protocol, has_classifier=bool(self.classifiers))

    def as_data(self) -> Any:
        """The result for JSON: a list of images, or on a data set the errors and the images."""
        images = [each.as_data() for each in self.images if each.unread is None]
        if self.tally is None:
            return images
        tally, has_classifier = self.tally, bool(self.classifiers)
        errors = {"class_given_error": tally.given.error}
        if has_classifier:
            errors = {
                "top1_error": tally.top1.error,
                "top5_error": tally.top5.error,
                **errors,
            }
        return {
            "nets": list(self.nets),
            "classifiers": list(self.classifiers),
            "protocol": asdict(self.protocol),
            "match": self.method.match if has_classifier else None,
            "images": tally.images,
            **errors,
            "classes": [
                {
                    "label": self.labels[i],
                    "index": i,
                    "images": each.answers,
                    "errors": each.wrong,
                }
                for i, each in sorted(tally.by_class.items())
            ],
            "left_out": [
                {"file": each.file, "why": each.unread}
                for each in self.images
                if each.unread is not None
            ],
            "results": images,
        }


def way_of(protocol: TestProtocol, *, has_classifier: bool) -> str:
    """How a protocol applies nets of boxes, in words."""
    if not has_classifier:
        return "central"
    if protocol.crops is None:
        return "dense"
    crops = f"crops {protocol.crops}×{protocol.crops}"
    return f"dense, {crops}" if protocol.dense else crops
