"""npm's packages: of one version whose bytes are known, or not at all."""

import io
import tarfile

import pytest

from holotf import npm
from holotf.errors import UserError

CONTENT = b"export const answer = 42;"


@pytest.fixture
def cache(tmp_path):
    """A folder with the archive of `answers@1.2.3`."""
    with tarfile.open(tmp_path / "answers-1.2.3.tgz", "w:gz") as archive:
        told = tarfile.TarInfo("package/dist/answer.js")
        told.size = len(CONTENT)
        archive.addfile(told, io.BytesIO(CONTENT))
    return tmp_path


@pytest.fixture
def package(cache):
    return npm.Package("answers", "1.2.3", npm.digest(cache / "answers-1.2.3.tgz"))


def test_files_are_copied_under_their_new_names(package, cache, monkeypatch):
    monkeypatch.setenv("PATH", "")  # no npm: what lies there is enough
    package.copy({"dist/answer.js": "answer.mjs"}, cache, cache)
    assert (cache / "answer.mjs").read_bytes() == CONTENT


def test_other_bytes_are_refused(package, cache):
    with open(cache / "answers-1.2.3.tgz", "ab") as archive:
        archive.write(b"x")
    with pytest.raises(UserError, match=r"answers-1.2.3.tgz is not answers@1.2.3: sha512-.*, expected sha512-.*: remove it"):
        package.copy({"dist/answer.js": "answer.mjs"}, cache, cache)
    assert not (cache / "answer.mjs").exists()


def test_a_file_that_is_not_there_is_named(package, cache):
    with pytest.raises(UserError, match=r"package/dist/question.js"):
        package.copy({"dist/question.js": "question.js"}, cache, cache)


@pytest.mark.parametrize(
    ("script", "said"),
    [
        (None, "there is no npm to fetch it: install Node.js, or fetch it elsewhere"),
        (
            "echo 'npm error 404 Not Found' >&2; exit 1",
            r"npm cannot fetch answers@1.2.3 \(npm error 404 Not Found\): try again",
        ),
        ("exit 0", r"npm cannot fetch answers@1.2.3 \(it does not say why\): try again, or"),
    ],
)
def test_what_cannot_be_fetched_is_one_line(package, tmp_path, monkeypatch, script, said):
    (tmp_path / "bin").mkdir()
    if script:
        (tmp_path / "bin" / "npm").write_text(f"#!/bin/sh\n{script}\n")
        (tmp_path / "bin" / "npm").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    with pytest.raises(UserError, match=said) as refused:
        package.copy({}, tmp_path, tmp_path / "cache")
    assert f"(npm pack answers@1.2.3) and put answers-1.2.3.tgz into {tmp_path / 'cache'}" in str(refused.value)
    assert not list((tmp_path / "cache").iterdir())
