"""HoloGAN on cars: eleven meshes of Sweet Home 3D, recoloured and stretched, drawn from every side.

Command: python main.py --config configs/hologan_cars.py   (needs EGL and the meshes: docs/data.md)
Not run. Every value is ours, taken from hologan_chairs.
"""

from ml_collections import ConfigDict

from configs import hologan_chairs


def get_config() -> ConfigDict:
    """As the chairs, on cars seen from a little above."""
    config = hologan_chairs.get_config()
    config.data.dir = "data/cars64"
    config.data.prepare = "meshes --preset cars --size 64 --count 22500 --test 2500 --elevation 5,30"
    config.views.elevation_deg = (5.0, 30.0)
    config.evaluate.turntables = "meshes --preset cars --size 64 --turntable 24 --count 1056 --seed 1 --elevation 5,30"
    return config
