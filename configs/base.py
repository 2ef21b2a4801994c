"""Every default there is, with units. An experiment is this, changed where it differs."""

from ml_collections import ConfigDict


def get_config():
    """The defaults: HoloGAN at 64 px as released, 32 images a batch, one D and two G updates."""
    return ConfigDict(
        {
            "seed": 0,  # of weights, data order, latents and views
            "data": {
                "dir": "",  # a folder that data_prep (or tfds) wrote
                "prepare": "",  # arguments of `python -m data_prep` that make it where it is missing; "" for none
                "split": "train",  # tfds notation, slices too: train[:90%]
                "flip": False,  # random left-right flips; they make left and right one: docs/conventions.md
                "shuffle_buffer": 50_000,  # encoded images in memory; a data set that fits is shuffled whole
            },
            "model": {
                "name": "hologan",  # a module of holotf.models
                "variant": "official",  # official (the released code) or paper
                "image_size": 64,  # px: 32, 64 or 128
                "z_dim": 128,
                "z_warmup_kimg": 0.0,  # thousand images over which the latents grow from 0 to their size
                "gf": 64,  # width of the generator
                "df": 64,  # width of the discriminator
                "ema_decay": 0.999,  # per generator update
            },
            "views": {  # uniform in (low, high), one per image; low == high is a constant
                "azimuth_deg": (0.0, 360.0),
                "elevation_deg": (15.0, 35.0),
                "scale": (1.0, 1.0),
                "x": (0.0, 0.0),  # translation in units of half the volume
                "y": (0.0, 0.0),
                "z": (0.0, 0.0),
            },
            "loss": {
                "gan": "bce",  # bce, hinge, lsgan or wgan (with gradient penalty)
                "lambda_identity": 1.0,
                "lambda_style": 0.0,  # 0: no style heads
                "lambda_gp": 10.0,  # of wgan's gradient penalty
            },
            "optim": {
                "d_lr": 1e-4,
                "g_lr": 1e-4,
                "beta_1": 0.5,
                "beta_2": 0.999,
                "decay_from": 0.5,  # share of the run after which the rates fall linearly to 0; 1: never
            },
            "train": {
                "batch_size": 32,  # images per update, over all replicas
                "d_steps": 1,  # discriminator updates per iteration
                "g_steps": 2,  # generator updates per iteration
                "kimg": 500.0,  # duration, in thousands of real images shown to the discriminator
                "log_kimg": 1.0,  # between scalars
                "sample_kimg": 20.0,  # between pictures
                "checkpoint_kimg": 20.0,  # between checkpoints
                "keep_checkpoints": 3,
            },
            "generate": {
                "seeds": (0, 1, 2, 3, 4, 5, 6, 7),  # one object each
                "frames": 36,  # of a sweep; of an interpolation from one object to the next
            },
            "device": {
                "strategy": "auto",  # auto (mirrored where there are several GPUs), one, mirrored or multi_worker (TF_CONFIG)
                "precision": "float32",  # or mixed_bfloat16
                "threads": 0,  # of one operation; 0: TensorFlow's choice
                "xla": "auto",  # compile the whole step: auto (on one GPU), on or off; on a CPU it loses oneDNN and is far slower
                "native_kernels": True,  # our own CPU kernels where there is a C++ compiler; False: XLA and oneDNN alone
            },
        }
    )
