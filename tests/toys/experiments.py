"""Experiments of the toys."""

from configs import base

CLASSIFIER = {"name": "two_layers", "image_size": 32, "width": 8, "classes": 3}


def get_config(name):
    """two_layers, labelled_gan or two_domains, for half a thousand images."""
    if name == "labelled_gan":
        config = base.experiment(base.GAN, {"model": {"name": name, "image_size": 32, "z_dim": 8, "classes": 3}})
    else:
        config = base.experiment({"model": CLASSIFIER | {"name": name}, "optim": {"lr": 1e-2}})
    if name == "two_domains":
        one = {key: value for key, value in config.data.items() if key != "sources"}
        with config.data.unlocked():
            config.data.sources = {"source": one | {"dir": "data/squares"}, "target": one | {"dir": "data/others"}}
    config.data.dir = "data/squares"
    config.train.batch_size = 8
    config.train.kimg, config.train.log_kimg, config.train.checkpoint_kimg = 0.512, 0.064, 0.128
    config.generate.seeds, config.generate.frames = (0, 1), 4
    config.evaluate.images = 64
    return config
