"""Bad input: one line with the fix, exit code 2, no traceback. In processes, as a user meets it."""

import pytest
from conftest import SMALL, run

CASES = {
    "unknown key": (["--config.model.nme=x"], "--config.model.nme=x: the config has no 'nme'"),
    "unknown section": (["--config.modl.name=x"], "--config.modl.name=x: the config has no 'modl'"),
    "wrong type": (["--config.train.kimg=soon"], "--config.train.kimg=soon: could not convert string to float"),
    "no such config": (["--config=configs/none.py"], "configs/none.py"),
    "unknown variant": (["--config=configs/hologan_celeba.py:256"], "configs/hologan_celeba.py:256: use :64 or :128"),
    "unknown mode": (["--mode=fly"], "--mode=fly: value should be one of <train|evaluate|generate|export>"),
    "stray argument": (["tarin"], "unknown argument 'tarin'"),
    "unknown model": (["--config.model.name=cyclegan"], "model.name='cyclegan': use one of dcgan, hologan, vae"),
    "impossible size": (["--config.model.image_size=48"], "model.image_size=48: use 32, 64 or 128"),
    "unknown strategy": (["--config.device.strategy=tpu"], "device.strategy='tpu': use auto, one, mirrored or multi_worker"),
    "unknown precision": (["--config.device.precision=float16"], "device.precision='float16': use float32 or mixed_bfloat16"),
    "empty batch": (["--config.train.batch_size=0"], "train.batch_size=0"),
    "no data": (["--config.data.dir=/none"], "data.dir='/none' does not exist; make it with: python -m data_prep folder"),
    "nothing trained": (["--mode=generate"], "train first, or name the run, or its saved_model, with --workdir"),
    "nothing to export": (["--mode=export"], "train first, or name the run, or its saved_model, with --workdir"),
}


@pytest.mark.parametrize("case", CASES)
def test_errors(case, squares, tmp_path):
    arguments, expected = CASES[case]
    if not arguments[0].startswith("--config="):
        arguments = ["--config=configs/base.py", *SMALL, f"--config.data.dir={squares}", *arguments]
    done = run(*arguments, f"--workdir={tmp_path}")
    assert done.returncode == 2, done.stderr
    last = done.stderr.splitlines()[-1]
    assert last.startswith("error: ")
    assert expected in last
    assert "Traceback" not in done.stderr
    assert not list(tmp_path.iterdir())
