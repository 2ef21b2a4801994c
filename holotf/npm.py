"""Files of npm's packages, of one version each, whose bytes are known."""

import base64
import hashlib
import os
import shutil
import subprocess
import tarfile
from collections.abc import Mapping
from pathlib import Path

from holotf import files
from holotf.errors import UserError, brief

LIMIT_S = 600  # for npm to fetch a package


class Package:
    """A package of one version.

    Args:
      name: as npm has it.
      version: of it.
      integrity: of its archive: "sha512-" and the digest in base64, as npm and its lock files write it.
    """

    def __init__(self, name: str, version: str, integrity: str):
        self.name, self.version, self._integrity = name, version, integrity

    def __str__(self):
        return f"{self.name}@{self.version}"

    def copy(self, wanted: Mapping[str, str], folder: str, cache: str) -> None:
        """Copies files of the package.

        Args:
          wanted: {file in the package: name in `folder`}.
          folder: that they go to.
          cache: folder of archives, NAME-VERSION.tgz; one that it lacks is fetched by the npm client and kept there.

        Raises:
          UserError: the archive cannot be had, is another, or lacks a file.
        """
        archive = Path(cache, f"{self.name}-{self.version}.tgz")
        if not archive.exists():
            self._fetch(archive)
        if (found := digest(archive)) != self._integrity:
            raise UserError(f"{archive} is not {self}: {found}, expected {self._integrity}: remove it")
        try:
            with tarfile.open(archive) as opened:
                for inner, name in wanted.items():
                    with opened.extractfile(f"package/{inner}") as source, open(os.path.join(folder, name), "wb") as target:
                        shutil.copyfileobj(source, target)
        except KeyError as error:
            raise UserError(f"{archive}: {brief(error)}") from error

    def _fetch(self, archive):
        archive.parent.mkdir(parents=True, exist_ok=True)
        instead = f"or fetch it elsewhere (npm pack {self}) and put {archive.name} into {archive.parent}"
        with files.temporary(archive) as scratch:
            os.mkdir(scratch)
            command = ["npm", "pack", str(self), "--silent", "--fetch-retries=1", f"--pack-destination={scratch}"]
            try:
                done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT_S, check=False)
            except FileNotFoundError:
                lacks = f"{archive.parent} lacks {archive.name}, and there is no npm to fetch it"
                raise UserError(f"{lacks}: install Node.js, {instead}") from None
            except subprocess.TimeoutExpired:
                raise UserError(f"npm did not fetch {self} in {LIMIT_S} s: try again, {instead}") from None
            fetched = Path(scratch, archive.name)
            if done.returncode or not fetched.exists():
                said = (done.stderr.strip().splitlines() or ["it does not say why"])[0]
                raise UserError(f"npm cannot fetch {self} ({said}): try again, {instead}")
            os.replace(fetched, archive)


def digest(path: str | os.PathLike) -> str:
    """Of a file, as npm writes it: "sha512-" and base64."""
    with open(path, "rb") as file:
        return "sha512-" + base64.b64encode(hashlib.file_digest(file, "sha512").digest()).decode()
