"""docs/images/architecture.svg says what the networks are, and is what its script draws."""

import importlib.util
from xml.etree import ElementTree

import pytest
from conftest import ROOT

from holotf.models.hologan import Discriminator, Generator


@pytest.fixture(scope="module")
def drawing():
    spec = importlib.util.spec_from_file_location("make_architecture", ROOT / "docs" / "make_architecture.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_file_is_what_the_script_draws(drawing):
    drawn = drawing.picture()
    ElementTree.fromstring(drawn)
    assert drawing.PICTURE.read_text(encoding="utf-8") == drawn, "run: python docs/make_architecture.py"


def test_generator_is_drawn_as_built(drawing):
    generator = Generator(64, drawing.Z_DIM, drawing.GF, "official")
    assert tuple(generator.constant.shape) == (1, *[drawing.VOLUMES[0][0]] * 3, drawing.VOLUMES[0][1])
    assert [layer.filters for layer in generator.up_3d] == [channels for _, channels in drawing.VOLUMES[1:]]
    assert generator.renderer.projection.mix.filters == drawing.MAPS[0][1]
    assert [layer.filters for layer in generator.up_2d] == [channels for _, channels in drawing.MAPS[1:]]
    assert generator.renderer.convolutions == []  # "official: at 128 px only"
    assert len(generator.norm_3d) + len(generator.norm_2d) == drawing.picture().count(">AdaIN<")


def test_discriminator_is_drawn_as_built(drawing):
    discriminator = Discriminator(64, drawing.Z_DIM, drawing.DF, style=True)
    drawn = drawing.picture()
    widths = [discriminator.first.filters, *(layer.filters for layer in discriminator.convs)]
    assert widths == [channels for _, channels in drawing.LEVELS]
    assert len(discriminator.norms) == drawn.count(">IN<")
    assert len(discriminator.convs) == drawn.count(">SN conv<")
    assert len(discriminator.styles) == drawn.count(">style head: mean, std<")
