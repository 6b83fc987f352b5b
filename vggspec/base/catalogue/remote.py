"""Shards in object storage and on web servers (VGG563 to VGG565)."""

from vggspec.base.diagnostic import Diagnostic
from vggspec.base.wording import count


class Unreachable(Diagnostic):
    """Shards behind a URL are read through fsspec. A request that fails is repeated four times
    with growing pauses; then the command ends, because images that a network withholds are not
    bad images, and a result without them would be another one. Credentials come from where the
    store's own library looks for them, such as `~/.aws`, and never appear in messages.
    """

    code = "VGG563"
    reason: str
    tries: int

    def title(self) -> str:
        times = f" after {count(self.tries, 'attempt')}" if self.tries > 1 else ""
        return f"this URL cannot be read{times}: {self.reason}"

    HELP = "check the URL, the network and the credentials; `--resume` continues"


class NoRanges(Diagnostic):
    """An image is read from the middle of a shard, by a request for a range of bytes. This server
    sends whole files only, or does not say how long they are. `filecache::` before the URL keeps
    whole copies of the shards in a temporary folder:

        vggspec eval D --data https://host/ILSVRC                 refused
        vggspec eval D --data filecache::https://host/ILSVRC      right
    """

    code = "VGG564"
    TITLE = "the server of this URL serves no parts of files"
    HELP = "write `filecache::` before the URL to keep copies here, or download the shards"


class NoSuchShards(Diagnostic):
    """A URL after ``--data`` is that of a folder, with the shards of each split in a folder of its
    own, or it ends in `.tar` and stands for shards, with `{000..099}`, `{train,val}` or `*`. Web
    servers that do not list their files need the second form:

        s3://bucket/ILSVRC
        https://host/ILSVRC/{train,val}/{000000..000063}.tar
    """

    code = "VGG565"
    TITLE = "there are no shards at this URL"

    def help(self) -> str | None:
        return "name a folder with `train/*.tar` and `val/*.tar`, or shards as `{000..099}.tar`"
