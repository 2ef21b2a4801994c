"""Classes of objects among Debian's sweethome3d-furniture: which meshes they are, and which were left out and why."""

from dataclasses import dataclass

PRESET_STRETCH = 1.15  # of the presets' data sets: --stretch where it is not given


@dataclass(frozen=True)
class Preset:
    """A class of objects from the Debian library, looked at one by one from azimuth 0, 45, 90 and 180.

    Attributes:
      candidates: regular expression over "name | category"; each match is in `meshes` or in `left_out`.
      meshes: those that are used; all of them face +z as the catalogue stands them, so no yaw is corrected.
      left_out: name -> why.
    """

    candidates: str
    meshes: tuple[str, ...]
    left_out: dict[str, str]


PRESETS = {
    "chairs": Preset(
        candidates=r"chair|stool|class seat",
        meshes=(
            "blendswap-cc-0/antiqueChair",
            "blendswap-cc-0/armchair",
            "blendswap-cc-0/armchair2",
            "blendswap-cc-0/chair",
            "blendswap-cc-0/chair2",
            "blendswap-cc-0/chairWithCushion",
            "blendswap-cc-0/designChair",
            "blendswap-cc-0/modernArmchair",
            "blendswap-cc-0/oakChair",
            "blendswap-cc-0/osakaChair",
            "blendswap-cc-0/plasticChair",
            "blendswap-cc-0/sillaBlanca",
            "blendswap-cc-0/thonet",
            "blendswap-cc-0/winchesterArmchair",
            "blendswap-cc-by/armChair2",
            "blendswap-cc-by/armchair1",
            "blendswap-cc-by/cafe_set_mota_chair",
            "blendswap-cc-by/cafe_set_tonon_chair",
            "blendswap-cc-by/chair3",
            "blendswap-cc-by/chair4",
            "blendswap-cc-by/chairWithCushion",
            "blendswap-cc-by/childChair",
            "blendswap-cc-by/ella_chair_f",
            "blendswap-cc-by/foldingChair",
            "blendswap-cc-by/fotel",
            "blendswap-cc-by/kitchenChair",
            "blendswap-cc-by/leaf_chair",
            "blendswap-cc-by/plaidChair",
            "katorlegaz/cafe-chair",
            "katorlegaz/dining-chair",
            "katorlegaz/mid-century-chair",
            "katorlegaz/office-chair",
            "scopia/armchair",
            "scopia/armchair1",
            "scopia/armchair2",
            "scopia/armchair3",
            "scopia/bar_chair",
            "scopia/chair",
            "scopia/chair3",
            "scopia/chair4",
            "scopia/children_chair",
            "scopia/kids_desk_chair",
            "scopia/modern_armchair",
            "scopia/office_chair",
            "scopia/plastic_chair",
            "scopia/rattanArmchair",
            "scopia/silla_teca",
            "scopia/tubular_chair",
            "scopia/white_kitchen_chair",
        ),
        left_out={
            "blendswap-cc-0/deckChair": "a lounger",
            "blendswap-cc-0/foldingChair": "a folding stool: no back, front and behind look alike",
            "blendswap-cc-0/relaxChair": "a chaise longue, tipped back",
            "blendswap-cc-0/silla2": "a stool on one post",
            "blendswap-cc-0/stool": "a bar stool",
            "blendswap-cc-0/stool2": "a stool: no back, the same from four sides",
            "blendswap-cc-by/chair_deck": "a sun lounger",
            "blendswap-cc-by/classSeat": "a desk on one arm",
            "blendswap-cc-by/green_stool": "a stool: no back, the same from every side",
            "blendswap-cc-by/wheelchair": "a wheelchair: its wheels hide the seat from the side",
            "katorlegaz/bar-stool": "a bar stool",
            "katorlegaz/chair-ottoman": "two objects: an armchair and its footstool",
            "scopia/baby_high_chair": "a high chair: its tray hides the seat",
            "scopia/beach_chair": "a sun lounger",
            "scopia/ext_chair": "a module of a sofa",
            "scopia/kitchen_stool": "a bar stool",
            "scopia/ryokanChair": "no legs",
        },
    ),
    "cars": Preset(
        candidates=r"\| vehicles|car model",
        meshes=(
            "blendswap-cc-by/fordFocus",
            "katorlegaz/VW-new-beetle",
            "katorlegaz/concept-sedan-01v1",
            "katorlegaz/concept-sedan-01v2",
            "scopia/chevrolet",
            "scopia/peugeot-308",
            "scopia/renault-scenic",
            "scopia/seat_leon",
            "scopia/smart-car",
            "scopia/suv",
            "scopia/van",
        ),
        left_out={
            "blendswap-cc-0/forkLift": "a fork lift, and it faces -x",
            "blendswap-cc-0/peterbilt": "a lorry of 116,501 faces",
            "blendswap-cc-by/bike": "a bicycle",
            "blendswap-cc-by/carrito-de-madera": "a wooden toy",
            "blendswap-cc-by/dafTruck": "a lorry",
            "katorlegaz/concept-sedan-02": "124,188 faces",
            "katorlegaz/concept-sedan-02-sport": "120,284 faces",
            "katorlegaz/scooter": "a scooter",
            "scopia/bicycle": "a bicycle",
            "scopia/bus": "a bus",
            "scopia/cityBus": "a bus",
            "scopia/scooter": "a scooter",
            "scopia/scooter2": "a scooter",
            "scopia/skateboard": "a skateboard",
            "scopia/stroller": "a pushchair",
            "scopia/tricycle": "a child's tricycle",
            "scopia/truck": "a lorry",
            "scopia/yamaha-yzr-r6": "a motorcycle",
        },
    ),
}
