"""Shards behind URLs have the images of the same shards in a folder, and hide what is secret."""

import importlib.util
import os
import pickle
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import numpy as np
import pytest

from tests.data.file_server import Served, serving
from tests.data.test_shards import NETWORK, write_few, write_shards
from tests.refusals import refused, told
from vggspec.base.diagnostic import MissingLibraryError, VggspecError
from vggspec.data import remote
from vggspec.data.classed import open_classed
from vggspec.data.labelled import Labelled, open_labelled
from vggspec.data.remote import RemotePath, find_remote, redacted, stripped
from vggspec.studies.features.task import stamp
from vggspec.training.dataset import DataSet, open_data

needs_http = pytest.mark.skipif(
    importlib.util.find_spec("aiohttp") is None, reason="aiohttp, of vggspec[remote], is missing"
)


@pytest.fixture
def shards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(remote, "FIRST_WAIT_S", 0.01)
    root = write_shards(tmp_path / "data")
    (root / "classes.txt").write_text("blue\ngreen\nred\n")
    return root


@pytest.fixture
def stored(shards: Path, tmp_path: Path) -> Iterator[str]:
    """A URL of the same shards, in memory."""
    memory, name = fsspec.filesystem("memory"), f"/{tmp_path.name}"
    memory.put(f"{shards}/", f"{name}/", recursive=True)
    yield f"memory:/{name}"
    memory.rm(name, recursive=True)


@pytest.fixture
def served(shards: Path) -> Iterator[Served]:
    with serving(shards) as server:
        yield server


def contents(found: Labelled | DataSet, split: str = "val") -> list[tuple[bytes, int]]:
    images = getattr(found, "images", None) or getattr(found, split)
    return [(images.read(i), int(images.labels[i])) for i in range(len(images))]


def test_images_are_those_of_the_same_shards_in_a_folder(shards: Path, stored: str) -> None:
    here, there = open_data(shards, NETWORK), open_data(Path(stored), NETWORK)
    for split in ("train", "val"):
        assert contents(there, split) == contents(here, split)
    assert there.classes == here.classes == ("blue", "green", "red")
    assert there.fingerprint == here.fingerprint  # a run that began here can be resumed there
    assert str(there.root.resolve()) == stored
    assert there.val.name(0) == f"{stored}/val/000000.tar: some/0000.png"
    val = open_labelled(Path(stored))
    assert contents(val) == contents(here)
    assert contents(pickle.loads(pickle.dumps(val))) == contents(here)
    assert [one.split for one in open_classed(Path(stored))] == ["train", "val"]


def test_a_folder_without_splits_is_taken_whole(stored: str, shards: Path) -> None:
    (whole,) = open_classed(Path(f"{stored}/train"))
    assert len(whole.images) == 30
    assert whole.split == "all"
    assert contents(open_labelled(Path(f"{stored}/val"))) == contents(open_labelled(shards))


def test_an_index_is_cached_until_the_shard_changes(
    stored: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = open_labelled(Path(stored))
    with monkeypatch.context() as patch:
        patch.setattr("vggspec.data.shards._samples", None)
        again = open_labelled(Path(stored))
    assert again.stamp == before.stamp
    memory, path = fsspec.filesystem("memory"), f"{stored}/val/000000.tar"
    memory.pipe(path, memory.cat(path))
    after = open_labelled(Path(stored))
    assert after.stamp != before.stamp
    assert stamp(after.images) != stamp(before.images)


def test_a_shard_that_is_added_is_found(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = open_labelled(Path(stored))
    memory = fsspec.filesystem("memory")
    memory.pipe(f"{stored}/val/000009.tar", memory.cat(f"{stored}/val/000000.tar"))
    assert len(open_labelled(Path(stored)).images) == len(before.images)
    monkeypatch.setattr(remote, "KEPT_S", 1e-3)
    assert len(open_labelled(Path(stored)).images) > len(before.images)


@needs_http
@pytest.mark.parametrize(
    "form",
    [
        "{url}",
        "{url}/*/*.tar",
        "{url}/{{train,val}}/{{000000..000001}}.tar?X-Signature=secret",
    ],
)
def test_a_web_server_is_read_by_ranges(form: str, served: Served, shards: Path) -> None:
    url = form.format(url=served.url.replace("//", "//me:secret@"))
    here, there = open_labelled(shards), open_labelled(Path(url))
    asked = len(served.asked)
    assert contents(there) == contents(here)[: len(there.images)]
    assert there.classes == here.classes
    ranges = [asked for _, asked in served.asked[asked:]]
    assert len(ranges) == len(there.images)
    assert None not in ranges
    assert "secret" not in f"{there.folder}{there.images.name(0)}"
    assert str(there.folder).startswith(served.url)


@needs_http
def test_without_ranges_whole_copies_are_offered(served: Served, shards: Path) -> None:
    served.has_ranges = False
    pattern = "{train,val}/{000000..000001}.tar"
    with refused(r"VGG564(.|\n)*serves no parts(.|\n)*filecache::"):
        open_labelled(Path(f"{served.url}/{pattern}"))
    there = open_labelled(Path(f"filecache::{served.url}/{pattern}"))
    assert contents(there) == contents(open_labelled(shards))


@needs_http
def test_requests_are_repeated_and_then_said(served: Served, shards: Path) -> None:
    found = open_labelled(Path(f"{served.url.replace('//', '//me:secret@')}"))
    served.failures = remote.TRIES - 1
    assert found.images.read(0) == open_labelled(shards).images.read(0)
    served.failures = remote.TRIES
    with refused(rf"VGG563(.|\n)*after {remote.TRIES} attempts(.|\n)*503") as caught:
        found.images.read(0)
    assert "secret" not in told(caught.value)
    assert f"{served.url}/val/000000.tar" in told(caught.value)
    assert caught.value.__cause__ is None  # whose message has the whole URL


def test_what_is_not_there_is_said(stored: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with refused(r"VGG565(.|\n)*there are no shards at this URL"):
        open_labelled(Path(f"{stored}-of-others"))
    with refused(r"VGG563(.|\n)*it does not exist"):
        open_labelled(Path(f"{stored}/val/{{000000..000009}}.tar"))
    with refused(r"VGG563(.|\n)*protocol not known"):
        open_labelled(Path("zeppelin://host/data"))
    with refused("VGG565"):
        find_remote(Path("memory://a/{0..999999}.tar"))
    monkeypatch.setitem(sys.modules, "s3fs", None)
    with pytest.raises(MissingLibraryError, match=r"s3://b/d/\*.tar needs s3fs: pip install s3fs"):
        open_labelled(Path("s3://b/d"))
    monkeypatch.setitem(sys.modules, "fsspec", None)
    remote._LISTED.clear()
    with pytest.raises(MissingLibraryError):
        open_labelled(Path("memory://elsewhere"))


def test_a_damaged_shard_behind_a_url_is_refused_like_one_here(tmp_path: Path, stored: str) -> None:
    write_few(tmp_path / "bad", [("9.png", b"x")])
    fsspec.filesystem("memory").put(str(tmp_path / "bad/train/0.tar"), f"{stored}/train/9.tar")
    with pytest.raises(VggspecError) as caught:
        open_data(Path(stored), NETWORK)
    assert f"{stored}/train/9.tar" in told(caught.value)
    assert "no class" in told(caught.value)


def test_paths_of_this_machine_are_no_urls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("s3:/bucket").mkdir(parents=True)
    for path in ("s3:/bucket", "C:/data", "data", "/data:/x"):
        assert find_remote(Path(path)) is None


@pytest.mark.parametrize(
    ("url", "safe"),
    [
        ("https://me:secret@host:80/a?sig=secret#x", "https://host:80/a"),
        ("filecache::https://me:secret@host/a.tar", "filecache::https://host/a.tar"),
        ("s3://bucket/a b", "s3://bucket/a b"),
    ],
)
def test_secrets_are_stripped(url: str, safe: str) -> None:
    assert stripped(url) == safe
    assert "secret" not in redacted(f"503, message='no', url='{url}' (again)")


def test_a_url_stays_a_url_where_a_path_is_expected() -> None:
    path = RemotePath("s3://bucket/train") / "0.tar"
    assert str(path) == os.fspath(path) == "s3://bucket/train/0.tar"
    assert path.name == "0.tar"
    assert pickle.loads(pickle.dumps(path)) == path.resolve() == path
    assert np.array([str(path.parent)]).tolist() == ["s3://bucket/train"]
