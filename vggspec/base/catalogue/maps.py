"""Maps that become finer, or are cut to others (VGG166, VGG212 to VGG217, VGG304 to VGG306)."""

from fractions import Fraction

from vggspec.base.catalogue.shapes import chw
from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class NoReference(Diagnostic):
    """``crop`` and ``resize`` give a map the rows and columns of another one, which they name.

    The name is that of a layer, a bracket or a block use above it, or ``image``.

        crop(pool4)               right
        resize(image, nearest)    right
        crop                      wrong
        crop(5)                   wrong
    """

    code = "VGG166"
    HELP = "name one layer above it, as in `{word}(pool4)`, or `{word}(image)`"
    word: str
    names: tuple[str, ...]
    """What stands in place of one name."""

    def title(self) -> str:
        if len(self.names) == 1:
            return f"`{self.names[0]}` is no name of a layer"
        given = "two names or more" if self.names else "no name"
        return f"`{self.word}` takes the name of one layer, here {given}"


class UpconvPadding(Diagnostic):
    """No padding lets an ``upconv`` multiply the rows and columns by its stride.

    By default an upconv of window k and stride s is padded by (k - s) / 2 on each side, which must
    be whole and not negative. Write another padding, or another window.

        upconv3-8/2             wrong: (3 - 2) / 2 is not whole
        upconv3-8/2(pad 1)      right: 2 H - 1 rows
        upconv4-8/2             right: 2 H rows
    """

    code = "VGG212"
    window: tuple[int, int]
    stride: int

    def title(self) -> str:
        side = next(k for k in self.window if k < self.stride or (k - self.stride) % 2)
        because = "negative" if side < self.stride else "not whole"
        half = f"({side} - {self.stride}) / 2"
        return f"no padding gives {self.stride} times the map: {half} is {because}"

    def help(self) -> str | None:
        even = 2 * self.stride - self.stride % 2
        return f"write `pad`, as in `(pad 0)`, or a window such as {even}"


class UpconvEmpties(Diagnostic):
    """The padding of an ``upconv`` takes away all that it gives.

    A map of H rows becomes (H - 1) stride - 2 pad + window rows.

        input 2x2 RGB
        upconv2-8/2(pad 2)      wrong: 2 - 4 + 2 is 0
        upconv2-8/2             right
    """

    code = "VGG213"
    TITLE = "upconv makes the feature map empty"
    HELP = "write a smaller `pad`, or a larger input"
    shape: tuple[int, ...]

    def label(self) -> str:
        return f"input here is {chw(self.shape)}"


class CropBetween(Diagnostic):
    """The positions of a map that is cut lie between those of the other one.

    ``crop(NAME)`` begins where NAME lies. A conv or a pooling moves the first position of a map by
    ``stride * ((window - 1) / 2 - pad)`` pixels, an upconv back again, so that an even window on
    one of the two paths alone leaves half a position.

        conv3-8 as a  conv2-8(pad 0) crop(a)      wrong: half a pixel apart
        conv3-8 as a  conv3-8(pad 0) crop(a)      is one pixel too small
    """

    code = "VGG214"
    name: str
    apart: tuple[int | Fraction, int | Fraction]
    """Positions, in rows and columns."""

    def title(self) -> str:
        found = next(each for each in self.apart if Fraction(each).denominator != 1)
        return f"`{self.name}` lies {float(found):g} positions apart, which is not whole"

    def help(self) -> str | None:
        return (
            "look for an even window, or other padding, on one path only;\n"
            f"`resize({self.name})` interpolates"
        )


class CropOutside(Diagnostic):
    """``crop(NAME)`` would begin before the map that it cuts, or end after it.

    What lies there was lost by layers without padding on the path to the map. Give them ``pad``, or
    write the crop on the other path, which has more.

        conv3-8 as a  conv3-8(pad 0) as b  crop(a)      wrong: `b` has fewer rows
        from a crop(b)                                  right
    """

    code = "VGG215"
    name: str
    shape: tuple[int, ...]
    """Of the map that is cut."""

    wanted: tuple[int, ...]
    offset: tuple[int, int]

    def title(self) -> str:
        rows, columns = self.wanted[1:]
        return f"the map does not hold the {rows} × {columns} of `{self.name}`"

    def label(self) -> str:
        rows, columns = self.offset
        at = f"{rows} and {columns}" if rows != columns else f"{rows}"
        return f"input here is {chw(self.shape)}, and the crop would begin at {at}"

    def help(self) -> str | None:
        here = "write more `pad` on the path to here"
        if min(self.offset) >= 0:
            here += ", or let its poolings round up (`ceil`)"
        if self.name == "image":
            return here
        return f"{here};\nor write the crop on the path of `{self.name}`"


class CropStride(Diagnostic):
    """A map is cut to the place of another one whose positions lie further apart, or closer.

    ``crop`` takes positions away at the sides. It makes no map finer or coarser: that is done by
    ``upconv``, ``up2`` and poolings, or by ``resize``, which interpolates.

        maxpool maxpool upconv4-21/2 crop(pool1)      right
        maxpool maxpool upconv4-21/2 crop(image)      wrong: 2 pixels apart, not 1
    """

    code = "VGG216"
    name: str
    own: int | Fraction
    other: int | Fraction

    def title(self) -> str:
        own, other = ("pixel" if n == 1 else f"{n} pixels" for n in (self.own, self.other))
        return f"a position every {own} cannot be cut to `{self.name}`, with one every {other}"

    def help(self) -> str | None:
        factor = Fraction(self.own) / Fraction(self.other)
        if factor.denominator == 1:
            return (
                f"write an `upconv` of stride {factor} or `up{factor}` before it,"
                f" or `resize({self.name})`"
            )
        return f"write `resize({self.name})`, or another name"


class NoRowsThere(Diagnostic):
    """``crop`` and ``resize`` work on maps, and one of the two is a vector.

    An FC returns a vector, which has no rows and columns.

        FC-10 as classes
        from pool4 crop(classes)      wrong
    """

    code = "VGG217"
    TITLE = "{word} needs two feature maps"
    HELP = "name a layer before the first FC"
    word: str
    is_named: bool
    """Whether the named tensor is the vector, and not the input."""

    numbers: int

    def label(self) -> str:
        which = "the named one" if self.is_named else "input here"
        return f"{which} is a vector of {count(self.numbers, 'number')}"


class StrideBehindGrowth(Diagnostic):
    """``--stride`` gives scores at more positions than the net does, by poolings that lose their
    stride and layers after them that are dilated. A net with ``upconv``, ``up``, ``resize`` or
    ``crop`` makes its map finer itself: dilated, these layers would not give the same numbers.

        vggspec compile fcn8s --weights W --stride 4                    wrong
        vggspec compile fcn8s --weights W --stride 4 --layer conv4_3    right
    """

    code = "VGG304"
    TITLE = "the net cannot give a position every {stride} pixels: `{layer}` is on the way"
    LABEL = "a layer that makes a map finer, or cuts it"
    stride: int
    layer: str
    own: int | Fraction

    def help(self) -> str | None:
        own = "pixel" if self.own == 1 else f"{self.own} pixels"
        return f"remove `--stride`: the net's own map has a position every {own}"


class AverageIntoMap(Diagnostic):
    """A net is applied densely where each position of its result depends on the window there alone.
    An average over the whole map that goes back into a map depends on the whole image.

        [identity & gap conv1-256 resize(pool5)] conv1-21      as in pyramid pooling

    Compiled with ``--crop`` the net takes images of its own size.
    """

    code = "VGG305"
    TITLE = "`{layer}` cannot be applied densely: it spreads an average over the whole image"
    HELP = "compile with `--crop`"
    layer: str


class FinerThanPixels(Diagnostic):
    """A bundle says how many pixels of the image lie between two positions of its map. A map that
    is finer than the image, or has positions every pixel and a half, cannot be described so.

        conv3-8 up2 conv3-4             wrong: two positions a pixel
        conv3-8/2 up2 conv3-4           right: a position every pixel
        maxpool3/3 up2 conv3-4          wrong: a position every 3/2 pixels

    ``vggspec.torch_module`` gives the net itself.
    """

    code = "VGG306"
    TITLE = "`{output}` has a position every {stride} pixels, which a bundle cannot say"
    HELP = "write fewer `up` or `upconv` before it, or pool more"
    output: str
    stride: int | Fraction
