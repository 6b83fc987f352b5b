"""Mistakes about merging a net (VGG160 to VGG169)."""

from vggspec.base.diagnostic import Diagnostic


class NothingToMerge(Diagnostic):
    """``vggspec merge`` finds nothing in the net that can be folded into a conv.

    A batch normalisation that alone reads a conv is folded, and a sum whose branches are each a
    conv, a batch normalisation, both or nothing:

        conv3-64 BN                              becomes conv3-64
        [conv3-64 BN + conv1-64 BN + BN]         becomes conv3-64
        [conv3-64 conv3-64 + shortcut]           stays: a branch has two convs
    """

    code = "VGG160"
    TITLE = "nothing in net `{net}` can be merged"
    net: str
    left: tuple[str, ...] = ()
    """Sums and batch normalisations that stay, each with the reason."""

    def help(self) -> str | None:
        return "use the net as it is: its spec and its weights are what merging would give"

    def note(self) -> str | None:
        if not self.left:
            return "it has neither batch normalisations nor sums"
        more = len(self.left) - 3
        return "; ".join(self.left[:3]) + (f"; and {more} more" if more > 0 else "")


class NotWritable(Diagnostic):
    """The merged net cannot be written as a spec that computes the same.

    The text of a merged net is read again and compared with its graph before anything is written.
    Brackets in brackets whose layers have names that depend on those of others may fail this:

        [[conv3-64 + conv1-64] ReLU [conv3-64 + BN] ReLU + identity]     may fail
    """

    code = "VGG161"
    TITLE = "the merged form of net `{net}` cannot be written as a spec"
    HELP = "write brackets that stand in brackets as blocks, or give them names with `as`"
    net: str
