"""Every default there is, with units. An experiment is this, changed where it differs.

What every model has stands in COMMON; GAN adds what every GAN has, CONDITIONAL what those have that are told labels, ADAPTING what
those have that learn from two domains, CLASSES or POSES of what is learnt there, and HOLOGAN, DCGAN, VAE and the other names of
models what each of them has. A model of
your own brings a section of its own:
`experiment(GAN, {"model": {"name": "mine", ...}})`.
"""

import copy

from ml_collections import ConfigDict

from holotf.errors import require

COMMON = {
    "seed": 0,  # of weights, data order, latents and views
    "data": {
        "dir": "",  # a folder that data_prep (or tfds) wrote
        "prepare": "",  # arguments of `python -m data_prep` that make it where it is missing; "" for none
        "split": "train",  # tfds notation, slices too: train[:90%]
        "flip": False,  # random left-right flips; they make left and right one: docs/conventions.md
        "shuffle_buffer": 50_000,  # encoded images in memory; a data set that fits is shuffled whole
        "sources": {},  # several data sets side by side: {name: the five keys above}, for a model that wants them
    },
    "optim": {
        "optimizer": "adam",  # or sgd
        "beta_1": 0.5,  # of adam
        "beta_2": 0.999,  # of adam
        "momentum": 0.9,  # of sgd
        "decay": "linear",  # linear or step
        "decay_from": 0.5,  # share of the run after which the rates fall linearly to 0, or step, each time; 1: never
        "decay_epochs": 0.0,  # the same in passes through the data: 1 steps after each epoch; 0: decay_from says it
        "decay_factor": 0.1,  # of a step
    },
    "train": {
        "batch_size": 32,  # images per update, over all replicas
        "kimg": 500.0,  # duration, in thousands of real images shown
        "log_kimg": 1.0,  # between scalars
        "sample_kimg": 20.0,  # between pictures
        "checkpoint_kimg": 20.0,  # between checkpoints
        "keep_checkpoints": 3,
        "resume_from": "",  # an older checkpoint to go on from, such as ckpt-400, where the latest is damaged; "" for the latest
    },
    "generate": {
        "seeds": (0, 1, 2, 3, 4, 5, 6, 7),  # one object each
        "frames": 36,  # of a sweep; of an interpolation from one object to the next
        "image": "",  # file of a photograph whose object is to be found and turned, instead of all else; "" for none
        "labels": "",  # what is to be shown, by a model that is told labels: "red cube, blue sphere; green cube"; "" for each alone
    },
    "evaluate": {
        "kimg": 0.0,  # between evaluations in training, the last at its end; 0: none
        "best": "kid/mean",  # metric whose best checkpoint is kept in WORKDIR/best
        "extractor": "efficientnet_lite0",  # of features for KID and FID; inception:FILE, or a .keras or SavedModel path
        "split": "test",  # of real images to compare with; where there is none, those of training, and a note says so
        "images": 5000,  # made ones, and real ones as far as there are so many
        "identities": 48,  # objects whose sweeps are judged
        "views": 24,  # of a sweep
        "photos": 0,  # unseen images to find again in the generator, some ten seconds each; 0: none
        "turntables": "",  # arguments of `python -m data_prep` that draw real objects turning, to compare with; "" for none
        "classifier": "",  # of what conditional models draw: a .keras or SavedModel path; "" for one trained on the data
        "probe": "",  # a data folder on whose labels the model's features are probed, minutes to an hour; "" for none
        "probe_label": "label",  # the ClassLabel of that folder which is to be told
        "probe_images": 50_000,  # of each of its splits, at most
        "cache": "runs/cache",  # features of real images, pose regressors, turntables
    },
    "analyse": {  # --mode analyse; docs/analysis.md
        "looks": (),  # names of those to take, such as ("walks", "volume"); () for all that fit
        "images": 1000,  # made ones that are looked at, and real ones beside them as far as there are so many
        "attributes": (),  # ClassLabels of the data; () for all that take two values or more
        "reader": "classifier",  # of made images' attributes: classifier, trained on the data, or neighbours among them
    },
    "export": {
        "format": "saved_model",  # or web: a page for any static host, which runs the model in the browser; docs/serving.md
        "dir": "",  # of exports by version, DIR/NAME/1, DIR/NAME/2, as TensorFlow Serving reads them; "" for WORKDIR/saved_model
        "name": "",  # the model's in DIR; "" for model.name
        "endpoints": (),  # names of those to export, such as ("generate", "latents"), with the weights they use; () for all
        "weights": "float16",  # as the page's files hold them: float16 or float32
        "runtime": "runs/cache/npm",  # folder of the npm packages that the page needs; npm fetches what it lacks
    },
    "serve": {  # --mode serve; docs/serving.md
        "name": "",  # of the model in addresses; "" for the folder's in DIR/NAME/1, else model.name
        "host": "127.0.0.1",  # address to listen at; 0.0.0.0: whoever reaches the machine may ask
        "port": 8501,  # TensorFlow Serving's; 0 for a free one
        "cors": "",  # origin whose pages may ask, such as http://localhost:8000, or * for any; "" for none but its own
        "batch": 32,  # rows worked on at once: of several requests together, and the most that one may have
        "wait_ms": 1.0,  # for which a request waits for others to be worked on with
        "queue": 64,  # requests in hand; any more are answered 503
        "body_mib": 8.0,  # of a request, at most
        "timeout_s": 30.0,  # for a request; then it is answered 504
        "volumes_mib": 256.0,  # of objects kept, so that turning one costs less; 0: none
        "log_requests": False,  # a line each
    },
    "device": {
        "strategy": "auto",  # auto (mirrored where there are several GPUs), one, mirrored or multi_worker (TF_CONFIG)
        "precision": "float32",  # or mixed_bfloat16
        "threads": 0,  # of one operation; 0: TensorFlow's choice
        "xla": "auto",  # compile the whole step: auto (on one GPU), on or off; on a CPU it loses oneDNN and is far slower
        "native_kernels": True,  # our own CPU kernels where there is a C++ compiler; False: XLA and oneDNN alone
    },
}

GAN = {
    "model": {
        "ema_decay": 0.999,  # of the averaged generator, per generator update; 0: no average
    },
    "loss": {
        "gan": "bce",  # bce, hinge, lsgan or wgan (with gradient penalty)
        "lambda_gp": 10.0,  # of the gradient penalty
        "gradient_penalty": False,  # with the other losses, too
        "lambda_r1": 0.0,  # of half the squared gradient norm at real images; 0: off
        "label_real": 1.0,  # what D is to say of real images, bce and lsgan only; below 1: a soft label
    },
    "optim": {
        "d_lr": 1e-4,
        "g_lr": 1e-4,
    },
    "train": {
        "d_steps": ((0.0, 1),),  # discriminator updates for a turn of the generator, as pairs (from kimg, number)
        "g_steps": 1,  # generator updates in its turn
        "penalty_every": 1,  # iterations from one gradient penalty to the next, each weighed by that number
        "flip_labels_kimg": 0.0,  # thousand images for which D is told that real is made and made is real; 0: off
        "instance_noise": 0.0,  # standard deviation of noise on D's images, in units of [-1, 1]; 0: off
        "instance_noise_kimg": 0.0,  # thousand images over which that noise falls linearly to 0
        "diff_augment": (),  # of all images that D sees: some of color, translation, cutout; (): none
    },
}

CONDITIONAL = {
    "model": {
        "labels": "labels",  # the feature of the data that says what an image shows: a class, or a list of classes
        "most_labels": 3,  # of an image
        "classes": (),  # their names, in the order of the labels; (): as data.dir names them
    },
    "loss": {
        "lambda_labels": 0.0,  # of D's reading of labels, learnt off real images, that made ones are to pass; 0: no such head
    },
    "train": {
        "mismatched_labels": False,  # whether D is to refuse real images, too, beside labels of others
    },
    "evaluate": {
        "best": "labels/test/top_k",
    },
}

HOLOGAN = {
    "model": {
        "name": "hologan",
        "variant": "compositing",  # ours; or official (the released code's networks) or paper (the paper's)
        "renderer": "compositing",  # a module of holotf.renderers; the published networks have projection
        "image_size": 64,  # px: 32, 64 or 128
        "z_dim": 128,
        "gf": 64,  # width of the generator
        "df": 64,  # width of the discriminator
        "upsampling": "nearest",  # of variant compositing: nearest (and a convolution) or transposed (convolutions)
        "rgb_skip": True,  # of variant compositing: adds colours read off the composited volume
        "adain_map": "linear",  # of variant compositing: linear or relu
        "adain_stddev": 0.1,  # of variant compositing: of the first weights of AdaIN's map
        "instance_norm": False,  # in the discriminator, as published; it hides contrast
    },
    "views": {  # uniform in (low, high), one per image; low == high is a constant
        "azimuth_deg": (0.0, 360.0),
        "azimuth_parts": 0,  # equal parts of the azimuths' range whose shares are learnt; 0: uniform
        "elevation_deg": (15.0, 35.0),
        "scale": (1.0, 1.0),
        "x": (0.0, 0.0),  # translation in units of half the volume
        "y": (0.0, 0.0),
        "z": (0.0, 0.0),
    },
    "loss": {
        "lambda_identity": 1.0,  # of the discriminator's reading of the latent
        "lambda_style": 0.0,  # 0: no style heads
        "lambda_azimuth": 1.0,  # of the head that reads the azimuth off made images; 0: no such head
        "lambda_elevation": 0.0,  # of the head that reads the elevation off them; 0: no such head
        "lambda_opacity": 0.0,  # of the share of light that objects keep from the ground, with renderer compositing; 0: off
    },
}

PUBLISHED = {  # what makes of HOLOGAN the released code's networks and schedule
    "model": {"variant": "official", "renderer": "projection", "instance_norm": True},
    "loss": {"lambda_azimuth": 0.0, "lambda_elevation": 0.0, "lambda_opacity": 0.0},
    "train": {"g_steps": 2},
}

DCGAN = {
    "model": {
        "name": "dcgan",
        "image_size": 64,  # px: 32, 64 or 128
        "z_dim": 100,
        "gf": 64,  # width of the generator; 128 in the paper
        "df": 64,  # width of the discriminator
        "d_norm": "batch",  # of the discriminator: batch, spectral or none; a gradient penalty needs one of the latter
    },
}

PROJECTION_GAN = {
    "model": {
        "name": "projection_gan",
        "image_size": 64,  # px: 32, 64 or 128
        "z_dim": 128,
        "gf": 64,  # width of the generator
        "df": 64,  # width of the discriminator
        "d_norm": "spectral",  # of the discriminator: spectral or none
        "projection": True,  # the discriminator's inner product of features and labels
        "conditional_norm": True,  # batch norm in the generator whose scale and shift are the labels' own
        "label_maps": True,  # labels joined to the input and the middle of both networks; with lambda_labels of G alone
        "upsampling": "nearest",  # nearest or bicubic
    },
    "loss": {
        "gan": "hinge",
    },
    "optim": {
        "d_lr": 2e-4,
        "g_lr": 2e-4,
        "beta_1": 0.0,
        "beta_2": 0.9,
    },
}

CONDITIONAL_HOLOGAN = {
    "model": {
        "name": "conditional_hologan",
        "label_dim": 32,  # length of a label's embedding, which joins z
        "labels": "kind",
        "most_labels": 1,
    },
    "evaluate": {
        "best": "labels/single/top_k",
    },
}

VAE = {
    "model": {
        "name": "vae",
        "image_size": 64,  # px: 32, 64 or 128
        "z_dim": 100,
        "gf": 64,  # width of the decoder
        "df": 64,  # width of the encoder
        "beta": 1.0,  # weight of the KL term
        "beta_warmup_kimg": 0.0,  # thousand images over which that weight grows from 0
        "likelihood_std": 0.2,  # of pixels, in units of images in [-1, 1]
    },
    "optim": {
        "lr": 1e-4,
    },
}

CLASSIFIER = {
    "model": {
        "name": "classifier",
        "network": "improved",  # or baseline, or ganin
        "image_size": 32,  # px: 16 or more
        "classes": (),  # their names, in the order of the labels; (): as the labels of data.dir name them
        "dropout": 0.1,  # share of the inputs of the first and the last dense layer
        "spatial_dropout": 0.05,  # share of the channels after the second block
    },
    "optim": {
        "lr": 1e-3,
        "beta_1": 0.9,
    },
    "train": {
        "augmentation": "none",  # none, shift, small or significant
    },
    "evaluate": {
        "best": "accuracy/top1",
    },
}

_SOURCE = {key: value for key, value in COMMON["data"].items() if key != "sources"}

ADAPTING = {
    "data": {
        "sources": {
            "source": dict(_SOURCE),
            "target": dict(_SOURCE),
        },  # labels are learnt in the source; in the target they only judge
    },
    "model": {
        "network": "ganin",  # ganin, or baseline, or improved
        "image_size": 32,  # px: 16 or more; of pixelda 32, 64 or 128
    },
    "optim": {
        "lr": 1e-4,  # of the network
        "beta_1": 0.9,
    },
    "train": {
        "domains": "both",  # both: adapts; source or target: its labels alone, the bounds of what adapting can do
    },
}

CLASSES = {
    "model": {
        "classes": (),  # their names, in the order of the labels; (): as the labels of the source name them
    },
    "evaluate": {
        "best": "domain/information",  # which asks for no label of the target
        "tsne": 250,  # images of each domain in the t-SNE pictures, 20 or more; 0: no such pictures
    },
}

POSES = {
    "evaluate": {
        "best": "pose_estimate/certainty",  # which asks for no label of the target
        "pose_labels": (10, 50),  # labelled images to which the azimuth's zero and sense are fitted, each 2 or more
        "pose_draws": 100,  # of so many images each, over which the error is a mean
    },
    "export": {  # predict gives azimuth_sense x what is read + azimuth_offset_deg
        "azimuth_offset_deg": 0.0,  # degrees
        "azimuth_sense": 1,  # or -1
    },
}

DANN = {
    "model": {
        "name": "dann",
    },
    "loss": {
        "lambda_domain": 1.0,  # of the domain loss in the features' gradient
        "schedule": "ramp",  # of that weight: ramp (from 0 to lambda_domain over the run) or constant
    },
    "optim": {
        "d_lr": 1e-4,  # of the domain classifier
    },
    "train": {
        "updates": "joint",  # or alternating: the domain classifier first
    },
}

PIXELDA = {
    "model": {
        "name": "pixelda",
        "z_dim": 10,  # length of the noise
        "gf": 64,  # width of the generator
        "blocks": 6,  # residual ones of the generator
        "df": 64,  # width of the discriminator
        "d_norm": "batch",  # of the discriminator: batch, spectral or none
        "d_noise": 0.2,  # standard deviation of noise on the discriminator's images, in units of [-1, 1]; 0: off
    },
    "loss": {
        "gan": "bce",  # bce, hinge or lsgan
        "lambda_adversarial": 1.0,  # of the discriminator's word in the generator's loss
        "lambda_task": 0.9,  # of the classifier's on adapted images in it
        "lambda_content": 0.0,  # of the masked pairwise squared error in it; 0: off
    },
    "optim": {
        "d_lr": 2e-4,
        "g_lr": 2e-4,
        "beta_1": 0.5,
    },
}

SECTIONS = {
    "hologan": (GAN, HOLOGAN),
    "published": (GAN, HOLOGAN, PUBLISHED),
    "dcgan": (GAN, DCGAN),
    "projection_gan": (GAN, CONDITIONAL, PROJECTION_GAN),
    "conditional_hologan": (GAN, HOLOGAN, CONDITIONAL, CONDITIONAL_HOLOGAN),
    "vae": (VAE,),
    "classifier": (CLASSIFIER,),
    "dann": (ADAPTING, CLASSES, DANN),
    "pixelda": (ADAPTING, CLASSES, PIXELDA),
    "pose_dann": (ADAPTING, DANN, POSES, {"model": {"name": "pose_dann"}}),
    "pose_pixelda": (ADAPTING, PIXELDA, POSES, {"model": {"name": "pose_pixelda"}}),
}


def get_config(model: str = "hologan") -> ConfigDict:
    """The defaults of a model: a key of SECTIONS, hologan (64 px, ours) if not given."""
    require(model in SECTIONS, "configs/base.py", model, f"one of {', '.join(SECTIONS)}")
    return experiment(*SECTIONS[model])


def experiment(*sections: dict) -> ConfigDict:
    """COMMON and further sections, a later one before an earlier one: a `ConfigDict`."""
    merged = copy.deepcopy(COMMON)
    for section in sections:
        for name, values in copy.deepcopy(section).items():
            merged[name] = merged.get(name, {}) | values if isinstance(values, dict) else values
    return ConfigDict(merged)
