"""Mistakes about weights written for other tools (VGG557 to VGG559)."""

from vggspec.base.diagnostic import Diagnostic


class NotInCollection(Diagnostic):
    """``vggspec export`` writes weights with the names that a collection gives the layers of its
    own nets. The collection has no net of this form, so it has no names for its layers, and no
    model that could load them.

        vggspec export D D.safetensors --to torchvision     right: its VGG-16
        vggspec export C C.safetensors --to torchvision     wrong: 1 × 1 convs

    The numbers of channels and of classes may be others than in the collection.
    """

    code = "VGG557"
    TITLE = "{collection} has no net like `{net}`: {reason}"
    NOTE = "it has {nets}"
    net: str
    collection: str
    reason: str
    nets: str

    def help(self) -> str | None:
        return (
            "`vggspec compile SPEC --torch` writes the net as PyTorch source, which loads its"
            " weights as they are"
        )


class OtherInputThere(Diagnostic):
    """The net normalises its input in another way than the collection does, whose model would so
    give wrong answers with these weights.

    The order of the channels is changed in the first layer. A mean cannot be: the border of the
    image is padded after it is subtracted.
    """

    code = "VGG558"
    TITLE = "the net's input is {ours}; {collection} gives its nets {theirs}"
    HELP = (
        "`--keep-input` writes the weights as they are; then give the model its input as the net"
        " has it"
    )
    collection: str
    ours: str
    theirs: str
