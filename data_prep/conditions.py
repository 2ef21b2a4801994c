"""Label lists: what a generator that is told labels is to be asked for, list by list, in a file beside the shards."""

import json

CONDITIONS_FILE = "conditions.json"  # which holotf.conditions reads


def conditions_text(lists: dict[str, list[list[str]]]) -> str:
    """The text of conditions.json: {list: conditions}, a condition being the names of what an image of it shows."""
    parts = [f'"{name}": [\n  ' + ",\n  ".join(map(json.dumps, conditions)) + "\n ]" for name, conditions in lists.items()]
    return "{\n " + ",\n ".join(parts) + "\n}\n"
