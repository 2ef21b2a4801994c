"""HoloGAN (Nguyen-Phuoc et al., ICCV 2019, arXiv 1904.01326): a generator whose objects can be turned."""

import functools
import math
from collections.abc import Callable, Sequence

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from holotf import losses, renderers, views
from holotf.errors import UserError, require
from holotf.layers.adain import AdaIN
from holotf.layers.convolution import Conv2D, ConvTranspose, UpConv
from holotf.layers.initialisers import normal
from holotf.layers.normalise import InstanceNorm, leaky_relu
from holotf.layers.spectral import SpectralConv2D
from holotf.models.base import Perceptive, Volumetric, make_weights, to_float, to_uint8
from holotf.models.gan import GAN
from holotf.renderers import compositing
from holotf.servable import endpoint

SIZES = (32, 64, 128)
VARIANTS = ("compositing", "paper", "official")
UPSAMPLING = ("nearest", "transposed")
ADAIN_MAPS = ("linear", "relu")


class Generator(keras.Model):
    """From a latent and a view to an image, by way of a volume that is turned.

    Constant 4^3 x 8 gf -> AdaIN -> twice: enlarge, AdaIN -> 16^3 volume -> renderer, which turns it and makes an image of features
    -> as often as the size wants: enlarge, AdaIN -> convolution -> tanh. z enters by AdaIN only, the view by the renderer only.
    Source: HoloGAN, figure 2 and the supplement's tables.

    Args:
      image_size: 32, 64 or 128.
      z_dim: length of the latent.
      gf: width; the released code's gf_dim, 64.
      variant: "paper" or "official" (the released code), see docs/deviations.md, whose networks the next four arguments do not
        change; or "compositing", ours, which goes with that renderer.
      renderer: a module of `holotf.renderers`.
      upsampling: "nearest" (x 2, then a 3^n convolution) or "transposed" (a transposed convolution, 3^3 or 4^2).
      rgb_skip: adds to the image, before tanh, a linear map of what the renderer composited, enlarged bilinearly.
      adain_map: "linear", or "relu" as in the released code.
      adain_stddev: of the first weights of AdaIN's map.
      azimuth_parts: number of weights that `views.learnt` takes; they are the generator's, which does not use them itself.
    """

    def __init__(
        self,
        image_size: int,
        z_dim: int,
        gf: int,
        variant: str,
        renderer: str = "projection",
        upsampling: str = "nearest",
        rgb_skip: bool = True,
        adain_map: str = "linear",
        adain_stddev: float = 0.1,
        azimuth_parts: int = 0,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        large, ours, released = image_size == 128, variant == "compositing", variant == "official"
        if not ours:
            upsampling, rgb_skip, adain_map, adain_stddev = "transposed", False, "relu" if released else "linear", 0.02
        self.slope = 0.0 if released and not large else 0.2
        wide = 2 if released and large else 1  # the released code's 128 px network: twice as wide in 3D, half at the projection
        up = UpConv if upsampling == "nearest" else ConvTranspose

        def adain():
            return AdaIN(adain_map == "relu", self.slope, stddev=adain_stddev)

        self.constant = self.add_weight(name="constant", shape=(1, 4, 4, 4, 8 * gf), initializer=normal(), autocast=False)
        self.norm_3d = [adain() for _ in range(3)]
        self.up_3d = [up(wide * filters, 3) for filters in (2 * gf, gf)]
        self.volume_shape = (16, 16, 16, wide * gf)
        convolutions = [] if ours or (released and not large) else [gf, gf]
        self.renderer = renderers.build(renderer, 4 * gf if ours else 16 * gf // wide, self.slope, convolutions)
        widths = (4 * gf, gf, gf // 2)[: SIZES.index(image_size) + 1]
        self.up_2d = [up(filters, 3 if upsampling == "nearest" else 4) for filters in widths]
        self.norm_2d = [adain() for _ in widths]
        self.to_rgb = Conv2D(3, 3 if ours else 4, dtype="float32")
        self.skip = Conv2D(3, 1, dtype="float32") if rgb_skip else None
        self.azimuth_weights = None
        if azimuth_parts:
            self.azimuth_weights = self.add_weight(
                name="azimuth_weights", shape=(azimuth_parts,), initializer="zeros", autocast=False
            )
        make_weights(self, [1, z_dim], [1, len(views.COLUMNS)])

    def call(self, z: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
        """Images of the objects `z` from `views`. What comes before the rotation is done once for each object.

        Args:
          z: [N, Z] float32 in [-1, 1].
          views: [B, 6] float32 (azimuth_deg, elevation_deg, scale, x, y, z): B / N of each object, one object after the other.

        Returns:
          [B, H, W, 3] float32 in [-1, 1].
        """
        return self.rendered(self.volume(z), z, views)

    def rendered(self, volume: tf.Tensor, z: tf.Tensor, views: tf.Tensor) -> tf.Tensor:
        """Images of volumes [N, 16, 16, 16, gf] in the compute dtype, the 2D layers styled by `z`; as `call` otherwise."""
        volume, z = self._spread(views, volume, z)
        rendered = self.renderer(volume, views)
        x = rendered["features"]  # [B,16,16,C]
        for up, norm in zip(self.up_2d, self.norm_2d, strict=True):
            x = norm(up(x), z)
        x = self.to_rgb(x)
        if self.skip is not None:
            x += tf.image.resize(self.skip(rendered["composited"]), x.shape[1:3], "bilinear")
        return tf.tanh(x)

    def volume(self, z: tf.Tensor) -> tf.Tensor:
        """The objects, before any turn: [N, Z] -> [N, 16, 16, 16, gf] in the compute dtype."""
        x = tf.cast(tf.repeat(self.constant, tf.shape(z)[0], axis=0), self.compute_dtype)  # [N,4,4,4,8gf]
        x = self.norm_3d[0](x, z)
        for up, norm in zip(self.up_3d, self.norm_3d[1:], strict=True):
            x = norm(up(x), z)
        return x

    def look(self, volume: tf.Tensor, views: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Depth and opacity, [B, 16, 16] each, as the compositing renderer's `look` gives them; arguments as of `rendered`."""
        return self.renderer.look(*self._spread(views, volume), views)

    @staticmethod
    def _spread(views, *of_objects):
        """What there is one of for each object, as often as it has views."""
        count = of_objects[0].shape[0]
        if count is not None and count == views.shape[0]:
            return of_objects
        objects, images = tf.shape(of_objects[0])[0], tf.shape(views)[0]
        shared = tf.debugging.assert_equal(images % objects, 0, "views: give each object the same number of them")
        with tf.control_dependencies([shared]):
            return tuple(tf.repeat(t, images // objects, axis=0) for t in of_objects)


class Discriminator(keras.Model):
    """Real or made, which latent, from which side, and whether the statistics of each level are those of real images.

    5x5 convolutions of stride 2; spectral and instance normalisation on all but the first; leaky ReLU 0.2. Source: HoloGAN,
    section 3.3 (identity, style) and the released code.

    Args:
      image_size: 32, 64 or 128.
      z_dim: length of the latent.
      df: width of the first convolution; 64 in the released code.
      style: whether there are style heads.
      instance_norm: False leaves it out. It hides contrast from the discriminator.
      azimuth, elevation: whether there are heads that read them.
    """

    def __init__(
        self,
        image_size: int,
        z_dim: int,
        df: int,
        style: bool,
        instance_norm: bool = True,
        azimuth: bool = False,
        elevation: bool = False,
        **kwargs,
    ):
        super().__init__(autocast=False, **kwargs)
        levels = 4 if image_size == 128 else 3
        self.first = Conv2D(df, 5, 2, kernel_initializer=normal())
        self.convs = [SpectralConv2D(df * 2 ** (i + 1), 5, 2) for i in range(levels)]
        self.norms = [InstanceNorm(negative_slope=0.2) for _ in range(levels if instance_norm else 0)]
        self.real = keras.layers.Dense(1, kernel_initializer=normal(), dtype="float32")
        self.code = keras.layers.Dense(128, kernel_initializer=normal())
        self.latent = keras.layers.Dense(z_dim, kernel_initializer=normal(), dtype="float32")
        heads = levels if style else 0
        self.styles = [keras.layers.Dense(1, kernel_initializer=normal(), dtype="float32") for _ in range(heads)]
        self.azimuth = keras.layers.Dense(2, kernel_initializer=normal(), dtype="float32") if azimuth else None
        self.elevation = keras.layers.Dense(1, kernel_initializer=normal(), dtype="float32") if elevation else None
        make_weights(self, [1, image_size, image_size, 3])

    def call(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """[B, H, W, 3] float32 in [-1, 1] -> dict of float32.

        logits [B], z_hat [B, Z], and features [B, h, w, C] of the last convolution; where there are such heads, style [B, levels],
        azimuth [B, 2], its cosine and sine, and elevation [B], its place in the range from -1 to 1.
        """
        x = self.level(images, 0)
        style = []
        for level, conv in enumerate(self.convs):
            x = conv(x)
            if self.styles:
                mean, variance = tf.nn.moments(tf.cast(x, tf.float32), axes=[1, 2])  # [B,C], before instance norm
                statistics = tf.concat([mean, tf.sqrt(variance + 1e-8)], axis=-1)  # [B,2C]
                style.append(self.styles[level](statistics))
            x = self._activated(x, level)
        features = x
        x = tf.reshape(x, [-1, math.prod(x.shape[1:])])  # [B,H,W,C] -> [B,H*W*C]
        z_hat = tf.tanh(self.latent(leaky_relu(self.code(x), 0.2)))
        out = {"logits": self.real(x)[:, 0], "z_hat": z_hat, "features": features}
        if style:
            out["style"] = tf.concat(style, axis=-1)
        if self.azimuth is not None:
            out["azimuth"] = self.azimuth(x)
        if self.elevation is not None:
            out["elevation"] = self.elevation(x)[:, 0]
        return out

    def level(self, x: tf.Tensor, level: int) -> tf.Tensor:
        """One convolution, its norm and leaky ReLU: images, or what the level before gave -> [B, h, w, c]."""
        return self._activated(self.convs[level - 1](x), level - 1) if level else leaky_relu(self.first(x), 0.2)

    def _activated(self, x, level):
        return self.norms[level](x) if self.norms else leaky_relu(x, 0.2)


class HoloGAN(Perceptive, Volumetric, GAN):
    """HoloGAN's losses and inputs on the shared step.

    Args:
      config: the whole experiment (configs/base.py).

    Raises:
      UserError: a size, variant or view range that the networks cannot have.
    """

    def __init__(self, config: ConfigDict):
        m, loss = config.model, config.loss
        require(m.image_size in SIZES, "model.image_size", m.image_size, "32, 64 or 128")
        require(m.variant in VARIANTS, "model.variant", m.variant, "compositing, paper or official")
        require(m.upsampling in UPSAMPLING, "model.upsampling", m.upsampling, "nearest or transposed")
        require(m.adain_map in ADAIN_MAPS, "model.adain_map", m.adain_map, "linear or relu")
        require(0 < m.adain_stddev < 10, "model.adain_stddev", m.adain_stddev, "a positive number, such as 0.1")
        for name in ("gf", "df", "z_dim"):
            require(m[name] >= 2, f"model.{name}", m[name], "2 or more")
        for name in ("lambda_identity", "lambda_style", "lambda_azimuth", "lambda_elevation", "lambda_opacity"):
            require(0 <= loss[name] < math.inf, f"loss.{name}", loss[name], "0 (off) or a positive number")
        views.check(config.views)
        if loss.lambda_elevation > 0 and len(set(config.views.elevation_deg)) == 1:
            raise UserError(
                f"loss.lambda_elevation={loss.lambda_elevation:g} with a constant views.elevation_deg: use 0, or a range"
            )
        if m.variant == "compositing" and m.rgb_skip and m.renderer != "compositing":
            raise UserError(f"model.rgb_skip=True with model.renderer={m.renderer!r}: it adds what renderer compositing composites")
        if loss.lambda_opacity > 0 and m.renderer != "compositing":
            raise UserError(
                f"loss.lambda_opacity={loss.lambda_opacity:g} with model.renderer={m.renderer!r}: use 0, as it knows no opacity"
            )
        super().__init__(config, self.make_generator, self.make_discriminator)

    def make_generator(self, told: int = 0) -> keras.Model:
        """A generator as the config says; `told`: length of what stands in its latents beside z."""
        m, parts = self.config.model, self.config.views.azimuth_parts
        ours = (m.renderer, m.upsampling, m.rgb_skip, m.adain_map, m.adain_stddev, parts)
        return Generator(m.image_size, m.z_dim + told, m.gf, m.variant, *ours)

    def make_discriminator(self) -> keras.Model:
        """A discriminator as the config says."""
        m, loss = self.config.model, self.config.loss
        heads = (loss.lambda_azimuth > 0, loss.lambda_elevation > 0)
        return Discriminator(m.image_size, m.z_dim, m.df, loss.lambda_style > 0, m.instance_norm, *heads)

    def draw(self, n: int, seed: tf.Tensor | Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
        """Latents z ~ U(-1, 1) [n, Z] and views [n, 6], one per image: uniform in the config's ranges, azimuths as learnt."""
        return self._drawn(n, seed, self.ema_generator)

    def draw_to_train(self, n: int, seed: tf.Tensor | Sequence[int]) -> tuple[tf.Tensor, tf.Tensor]:
        """As `draw`, azimuths as the generator in training has learnt them so far."""
        return self._drawn(n, seed, self.generator)

    def _drawn(self, n, seed, generator):
        z_seed, view_seed = tf.unstack(tf.random.split(seed, 2))
        z = tf.random.stateless_uniform([n, self.config.model.z_dim], z_seed, -1.0, 1.0)
        asked = views.draw(self.config.views, n, view_seed)
        if generator.azimuth_weights is not None:
            asked = views.learnt(self.config.views, generator.azimuth_weights.value, asked)
        return z, asked

    def images_to_train(self, *inputs: tf.Tensor) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """And, where it costs something, the `opacity` of the objects, [N]."""
        if self.config.loss.lambda_opacity == 0:
            return super().images_to_train(*inputs)
        z, asked = inputs
        volume = self.generator.volume(z)
        absorbed = self.generator.renderer.absorption(volume)
        return self.generator.rendered(volume, z, asked), {"opacity": losses.opacity(absorbed)}

    def discriminator_terms(
        self, real: dict[str, tf.Tensor], fake: dict[str, tf.Tensor], inputs: tuple[tf.Tensor, ...]
    ) -> dict[str, tf.Tensor]:
        """What both players want, and style: the statistics of real images are to be told from made ones', level by level."""
        terms = self._shared_terms(fake, inputs)
        if "style" in fake:
            terms["loss/d_style"] = self.config.loss.lambda_style * sum(
                losses.bce_discriminator(r, f) for r, f in zip(*(tf.unstack(t["style"], axis=1) for t in (real, fake)), strict=True)
            )
        return terms

    def generator_terms(self, fake: dict[str, tf.Tensor], inputs: tuple[tf.Tensor, ...]) -> dict[str, tf.Tensor]:
        """What both players want; style: the statistics of made images are to pass for those of real ones (equation 4); opacity."""
        terms = self._shared_terms(fake, inputs)
        if "style" in fake:
            levels = tf.unstack(fake["style"], axis=1)
            terms["loss/g_style"] = self.config.loss.lambda_style * sum(losses.bce_generator(f) for f in levels)
        if "opacity" in fake:
            terms["loss/opacity"] = self.config.loss.lambda_opacity * tf.reduce_mean(fake["opacity"])
        return terms

    def _shared_terms(self, fake, inputs):
        """Made images are to tell the latent, the azimuth and the elevation that they were made from."""
        weights, terms, (z, asked) = self.config.loss, {}, inputs
        if weights.lambda_identity > 0:
            terms["loss/identity"] = weights.lambda_identity * losses.identity(z, fake["z_hat"])
        if "azimuth" in fake:
            terms["loss/azimuth"] = weights.lambda_azimuth * losses.azimuth(tf.stop_gradient(asked[:, 0]), fake["azimuth"])
        if "elevation" in fake:
            read = losses.elevation(asked[:, 1], fake["elevation"], *self.config.views.elevation_deg)
            terms["loss/elevation"] = weights.lambda_elevation * read
        return terms

    def stages(self) -> Sequence[Callable[[tf.Tensor], tf.Tensor]]:
        """The discriminator's."""
        return [functools.partial(self.discriminator.level, level=i) for i in range(1 + len(self.discriminator.convs))]

    def readings(self, images: tf.Tensor) -> dict[str, tf.Tensor]:
        """`latent` [B, Z] as the discriminator reads it, and the `volume` [B, 16, 16, 16, gf] made of that."""
        z = self.encode(images)
        return {"latent": z, "volume": self.volume(z)}

    def encode(self, images: tf.Tensor) -> tf.Tensor:
        """The latents that the discriminator reads: uint8 [B, H, W, 3] -> [B, Z] float32 in [-1, 1]."""
        return self.discriminator(to_float(images))["z_hat"]

    def volume(self, z: tf.Tensor) -> tf.Tensor:
        """The averaged generator's: [N, Z] -> [N, 16, 16, 16, gf] float32."""
        return tf.cast(self.ema_generator.volume(z), tf.float32)

    def rendered(self, volume: tf.Tensor, z: tf.Tensor, asked: tf.Tensor) -> tf.Tensor:
        """What the averaged generator makes of volumes [N, 16, 16, 16, gf], seen as `asked` [B, 6]: uint8 [B, H, W, 3]."""
        return to_uint8(self.ema_generator.rendered(tf.cast(volume, self.ema_generator.compute_dtype), z, asked))

    @property
    def has_density(self) -> bool:
        """Whether the renderer composites."""
        return isinstance(self.ema_generator.renderer, compositing.Renderer)

    def absorption(self, volume: tf.Tensor) -> tf.Tensor:
        """The compositing renderer's: [N, 16, 16, 16, gf] -> [N, 16, 16, 16] float32."""
        return self.ema_generator.renderer.absorption(volume)

    def look(self, volume: tf.Tensor, asked: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Depth and opacity, [B, 16, 16] each, of volumes [N, 16, 16, 16, gf] in views [B, 6], B / N of each."""
        return self.ema_generator.look(tf.cast(volume, self.ema_generator.compute_dtype), asked)

    def served_variables(self) -> Sequence[keras.Variable]:
        """Those of the averaged generator and of the discriminator, which reads latents."""
        return (*self.ema_generator.variables, *self.discriminator.variables)

    def endpoints(self) -> dict:
        """`generate`, in two halves `volume` and `render`, `latents`, `sample`, `encode`; with a density, `depth` and `density`.

        Angles are degrees, the camera's; images uint8 [B, H, W, 3]. What `volume` gives is the same for every view of an object.
        """
        size, z_dim, volume_shape = self.config.model.image_size, self.latents([0]).shape[1], self.ema_generator.volume_shape

        def joined(azimuth_deg, elevation_deg, scale, translation):
            others = (("elevation_deg", elevation_deg), ("scale", scale), ("translation", translation))
            same = [
                tf.debugging.assert_equal(
                    tf.shape(rows)[0], tf.shape(azimuth_deg)[0], f"{name}: give as many rows as of azimuth_deg"
                )
                for name, rows in others
            ]
            with tf.control_dependencies(same):
                return tf.concat([tf.stack([azimuth_deg, elevation_deg, scale], axis=1), translation], axis=1)

        def generate(z, azimuth_deg, elevation_deg, scale, translation):
            return {"images": self.images(z, joined(azimuth_deg, elevation_deg, scale, translation))}

        def volume(z):
            return {"volume": self.volume(z)}

        def render(volume, z, azimuth_deg, elevation_deg, scale, translation):
            objects = tf.shape(volume)[0]
            same = tf.debugging.assert_equal(tf.shape(z)[0], objects, "z: give as many rows as of volume")
            with tf.control_dependencies([same]):
                asked = joined(azimuth_deg, elevation_deg, scale, translation)
            return {"images": self.rendered(volume, z, asked)}

        def depth(volume, azimuth_deg, elevation_deg, scale, translation):
            asked = joined(azimuth_deg, elevation_deg, scale, translation)
            return dict(zip(("depth", "opacity"), self.look(volume, asked), strict=True))

        def density(volume):
            return {"density": self.absorption(volume)}

        def encode(images):
            return {"z": self.encode(images)}

        z, column = ([None, z_dim], tf.float32), ([None], tf.float32)
        view = {"azimuth_deg": column, "elevation_deg": column, "scale": column, "translation": ([None, 3], tf.float32)}
        made = ([None, *volume_shape], tf.float32)
        found = super().endpoints() | {
            "generate": endpoint(generate, views.ACCEPTED, z=z, **view),
            "volume": endpoint(volume, z=z),
            "render": endpoint(render, views.ACCEPTED, volume=made, z=z, **view),
            "encode": endpoint(encode, images=([None, size, size, 3], tf.uint8)),
        }
        if self.has_density:
            found["depth"] = endpoint(depth, views.ACCEPTED, volume=made, **view)
            found["density"] = endpoint(density, volume=made)
        return found


def build(config: ConfigDict) -> HoloGAN:
    """The model of an experiment. Raises `UserError` where the config asks for what cannot be."""
    return HoloGAN(config)
