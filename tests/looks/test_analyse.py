"""The verb: every look that fits is taken, of the others it is said why not, and what they show lies in the run's folder."""

import json

import pytest
from conftest import small_config
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from threadpoolctl import threadpool_limits

from holotf import analyse, looks, models, run_folder
from holotf.checkpoints import Checkpoints
from holotf.errors import UserError
from holotf.evaluators import attributes, inversion
from holotf.evaluators.subject import Subject
from holotf.export import export

# Keras saves its variables through NumPy in a way that NumPy 2 deprecates.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy:DeprecationWarning:keras.*")


def test_looks_are_those_with_a_look():
    assert {"arithmetic", "duplicates", "embedding", "guided", "memorisation", "volume", "walks"} <= set(looks.names())
    assert not {"made", "plots"} & set(looks.names()), "no looks of their own"


@pytest.mark.slow
def test_a_run_is_looked_into(furniture, extractor, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(attributes, "EPOCHS", 1)
    changes = {"evaluate.extractor": extractor, "evaluate.cache": str(tmp_path / "cache"), "analyse.images": 40}
    changes |= {"model.name": "dcgan", "analyse.looks": ("arithmetic", "embedding", "memorisation", "walks")}
    config = small_config(furniture, **changes, **{"analyse.attributes": ("back", "legs")})
    model = models.initial(config)
    model.iteration.assign(3)
    Checkpoints(model, str(tmp_path / "run")).save()
    with threadpool_limits(1):
        assert analyse.run(config, str(tmp_path / "run")) == 0
    told = json.loads((tmp_path / "run" / "analysis" / "figures.json").read_text())
    assert {name.partition("/")[0] for name in told["figures"]} >= {"embedding", "memorisation", "walks"}
    assert told["command"]
    for begin in ("arithmetic: ", "memorisation: no sign of copies"):
        assert any(note.startswith(begin) for note in told["notes"])
    shown = {path.stem for path in (tmp_path / "run" / "analysis").glob("*.png")}
    assert shown >= {"embedding_levels", "memorisation", "memorisation_distances", "walks"}
    assert str(tmp_path / "run" / "analysis" / "walks.png") in capsys.readouterr().out
    log = EventAccumulator(str(tmp_path / "run" / "events"), size_guidance={"tensors": 0}).Reload()
    assert {f"analysis/{name}" for name in shown} <= set(log.Tags()["tensors"])
    (point,) = log.Tensors("analysis/walks/linear_largest_step")
    assert point.step == told["images"] == 3 * 8
    assert (tmp_path / "run" / "events" / "projector_config.pbtxt").exists()


def test_what_does_not_fit_is_said(squares, extractor):
    config = small_config(squares, **{"model.name": "dcgan", "evaluate.extractor": extractor})
    config.analyse.looks = ("memorisation", "volume", "walks")
    model = models.initial(config)
    figures, notes, alarms = analyse.analyse(model, config)
    assert notes == [
        f"no memorisation: it compares with images held out, and {squares} has no unseen split 'test': prepare it with --test",
        "no volume: it takes a model that is Volumetric, and dcgan is not",
    ]
    assert set(figures) == {"walks/linear_largest_step", "walks/spherical_largest_step"}
    assert analyse.analyse(model, config) == (figures, notes, alarms), "the same seed, the same figures"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "folder", "lacks"),
    [
        ("hologan", "furniture", set()),
        ("conditional_hologan", "furniture", set()),
        ("projection_gan", "scenes", {"arithmetic", "embedding", "guided", "volume"}),  # no single label is right for a scene
    ],
)
def test_every_look_fits_what_turns_and_what_is_told_labels(name, folder, lacks, extractor, request, monkeypatch):
    monkeypatch.setattr(attributes, "EPOCHS", 1)
    changes = {"model.name": name, "evaluate.extractor": extractor, "analyse.images": 40}
    config = small_config(request.getfixturevalue(folder), **changes, **({"model.classes": ()} if name != "hologan" else {}))
    shown = {}
    with threadpool_limits(1):
        figures, notes, _ = analyse.analyse(models.initial(config), config, shown.update)
    taken = {figure.partition("/")[0] for figure in figures}
    taken |= {note.partition(":")[0] for note in notes if "fewer than two values are read" in note}  # it has learnt nothing
    assert taken == set(looks.names()) - lacks
    assert {note.partition(":")[0] for note in notes if note.startswith("no ")} == {f"no {look}" for look in lacks}
    assert all(picture.dtype == "uint8" and picture.ndim >= 3 for picture in shown.values())
    seldom = {"arithmetic", "duplicates"}  # which have something to show only where they find something
    assert {picture.partition("_")[0] for picture in shown} - seldom == taken - seldom


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "endpoints", "blind"),
    [
        ({"model.name": "dcgan"}, (), True),
        ({"model.name": "vae"}, (), False),
        ({}, (), False),
        ({}, ("volume", "render"), True),
    ],
    ids=["dcgan", "vae", "hologan", "hologan_without_encode"],
)
def test_an_export_is_looked_into_as_far_as_it_goes(squares, tmp_path, changes, endpoints, blind):
    """What it draws is the model's; what needs a network that is not in it is not asked, where it would be an untrained one's."""
    config = small_config(squares, **changes, **{"analyse.images": 20, "analyse.looks": ("guided", "walks"), "evaluate.photos": 2})
    model = models.initial(config)
    model.iteration.assign(3)
    for variable in model.served_variables():
        variable.assign(variable * 1.5 if "float" in variable.dtype else variable)
    folder = export(model, str(tmp_path / "saved_model"), endpoints=endpoints)
    assert analyse.run(config, folder) == 0
    told = json.loads((tmp_path / "saved_model" / "analysis" / "figures.json").read_text())
    figures = analyse.analyse(model, config)[0]
    assert told["figures"] == {name: value for name, value in figures.items() if not (blind and name.startswith("guided"))}
    assert told["images"] == 24
    reason = f"this {config.model.name} is an export, which has not all of its {model.EYES}: give the folder of the run"
    assert told["notes"] == ([f"no guided: {reason}"] if blind else [])
    if not changes:
        asked = inversion.Judge(Subject(run_folder.restore(config, folder), config)).unfit()
        assert asked == (f"no inversion: {reason}" if blind else None)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("changes", "endpoints"),
    [({}, ("latents", "volume")), ({"views.azimuth_parts": 4}, ("generate",))],
    ids=["no renderer", "no shares of the azimuths"],
)
def test_an_export_without_what_draws_is_none_to_judge(squares, tmp_path, changes, endpoints):
    config = small_config(squares, **changes)
    folder = export(models.initial(config), str(tmp_path / "saved_model"), endpoints=endpoints)
    said = f"saved_model has the endpoints {', '.join(endpoints)} alone, and not all weights: give the run's folder"
    with pytest.raises(UserError, match=said):
        run_folder.restore(config, folder)


@pytest.mark.slow
def test_what_an_export_lacks_is_not_exported_again(squares, tmp_path):
    """It would be what an untrained network has."""
    config = small_config(squares)
    folder = export(models.initial(config), str(tmp_path / "saved_model"), endpoints=("generate", "volume", "render"))
    model = run_folder.restore(config, folder)
    with pytest.raises(
        UserError, match=r"is an export of some endpoints, without the weights of others: give the folder of the run"
    ):
        export(model, str(tmp_path / "again"), folder)
    assert not (tmp_path / "again").exists()
    export(model, str(tmp_path / "again"), folder, endpoints=("generate",))


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("looks", ("eyes",), r"analyse.looks=\('eyes',\): use names among arithmetic, duplicates, embedding, .*, or \(\) for all"),
        ("looks", "walks", r"analyse.looks='walks': use names among"),
        ("attributes", (1,), r"analyse.attributes=\(1,\): use names, or \(\) for all"),
        ("images", 3, r"analyse.images=3: use 16 or more"),
        ("reader", "oracle", r"analyse.reader='oracle': use classifier or neighbours"),
    ],
)
def test_bad_settings_are_named(key, value, message):
    config = small_config()
    with config.analyse.ignore_type():
        config.analyse[key] = value
    with pytest.raises(UserError, match=message):
        analyse.check(config)
