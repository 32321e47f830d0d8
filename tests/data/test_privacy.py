from __future__ import annotations

import multiprocessing
import stat

import pytest

from mammo_hf.data.privacy import SALT_VARIABLE, is_salted_hash, private_salt, salt_file, salted_hash
from mammo_hf.errors import UsageError


@pytest.fixture
def config(monkeypatch, tmp_path):
    monkeypatch.delenv(SALT_VARIABLE)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path


def test_hash_is_the_published_one_so_that_others_find_the_same_patients():
    # computed with: printf P_00001 | openssl dgst -sha256 -hmac cbis-ddsm
    assert salted_hash("P_00001", "cbis-ddsm") == "cda01affe81e28e2"


def test_hash_depends_on_value_and_salt():
    hashes = {salted_hash(value, salt) for value in ("P_1", "P_2") for salt in ("a", "b")}
    assert len(hashes) == 4
    assert all(is_salted_hash(value) for value in hashes)


@pytest.mark.parametrize("value", ["P_00001", "", None, 7, "0123456789ABCDEF", "0123456789abcdef0"])
def test_identifiers_are_no_hashes(value):
    assert not is_salted_hash(value)


def test_salt_from_the_environment(monkeypatch):
    monkeypatch.setenv(SALT_VARIABLE, "mine")
    assert private_salt() == "mine"
    monkeypatch.setenv(SALT_VARIABLE, " ")
    with pytest.raises(UsageError, match=SALT_VARIABLE):
        private_salt()


def test_salt_is_generated_once_and_only_its_owner_reads_it(config):
    salt = private_salt()
    assert private_salt() == salt
    assert len(salt) == 64
    assert salt_file().is_relative_to(config)
    assert stat.S_IMODE(salt_file().stat().st_mode) == 0o600
    assert [path.name for path in salt_file().parent.iterdir()] == ["salt"]


def test_processes_that_start_together_agree_on_the_salt(config):
    with multiprocessing.get_context("fork").Pool(4) as pool:
        salts = pool.starmap(private_salt, [()] * 8)
    assert len(set(salts)) == 1


def test_salt_that_cannot_be_kept_names_the_variable(config):
    (config / "mammo_hf").write_text("a file where the folder should be")
    with pytest.raises(UsageError, match=SALT_VARIABLE):
        private_salt()


def test_empty_salt_file_is_refused(config):
    salt_file().parent.mkdir()
    salt_file().write_text("\n")
    with pytest.raises(UsageError, match="is empty"):
        private_salt()
