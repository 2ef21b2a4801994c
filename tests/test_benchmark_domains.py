"""The table of what adapts: which checkpoint counts, and what of the gap between the bounds is closed."""

import json

import pytest

from benchmarks import domains


def line(images, information, accuracy):
    found = {"domain/information": information, "accuracy/top1": accuracy, "domain/a_distance": 1.5}
    return {"images": images, **found, "domain/source_accuracy": 0.9}


def test_the_checkpoint_is_chosen_without_labels():
    lines = [line(32, 1.0, 0.5), line(64, 1.2, 0.9), line(96, 2.0, 0.7), line(128, 1.9, 0.6)]
    found = {name: chosen["accuracy/top1"] for name, chosen in domains.choices(lines).items()}
    assert found == {"chosen": 0.7, "last": 0.6, "labels": 0.9}


def test_the_gap_is_that_between_the_medians_of_the_bounds():
    found = {}
    for method, accuracies in {"source": (0.4, 0.5, 0.6), "dann": (0.8, 0.7, 0.6), "target": (0.95, 0.9, 0.8)}.items():
        for seed, accuracy in enumerate(accuracies):
            result = {"choices": domains.choices([line(32, 1.0, accuracy)]), "train_s": 10.0 * seed}
            found.setdefault(method, {})[f"{method}-{seed}"] = result
    source, dann, target = domains.rows(found)
    assert [dann[name] for name in ("worst", "median", "best", "of the gap")] == ["60.0", "70.0", "80.0", "50"]
    assert (dann["A-distance"], dann["source"], dann["runs"], dann["train s"]) == ("1.50", "0.90", 3, "10")
    assert (source["of the gap"], target["of the gap"]) == ("0", "100")
    (alone,) = domains.rows({"dann": found["dann"]})
    assert alone["of the gap"] == "", "without bounds there is none"


@pytest.mark.slow
def test_the_table_is_made_once_and_goes_on_where_it_was_broken_off(benchmarked, colours, tmp_path):
    target = tmp_path / "other"
    target.symlink_to(colours)
    command = [
        "domains", f"--source={colours}", f"--target={target}", "--share=0.0001", "--seeds=1", "--only", "source", "dann",
        f"--out={tmp_path / 'out'}",
    ]  # fmt: skip
    assert benchmarked(*command).count("Trained on") == 2
    told = json.loads((tmp_path / "out" / "domains-data-other.json").read_text())
    assert {row["method"]: row["runs"] for row in told["rows"]} == {"source": 1, "dann": 1}
    assert "Trained on" not in benchmarked(*command), "what is finished is not done again"
