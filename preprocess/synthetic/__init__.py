"""Small made-up raw datasets in real layouts, for the demo, for tests, and for a first try of a pipeline.

python -m preprocess.synthetic LAYOUT OUT [--images 96] [--seed 0]

The same seed gives the same files. A small U-Net learns each of them in minutes.
"""

from preprocess.synthetic.airbus import write_airbus
from preprocess.synthetic.clouds import write_clouds
from preprocess.synthetic.coco import write_coco
from preprocess.synthetic.colors import write_colors
from preprocess.synthetic.config import SyntheticConfig
from preprocess.synthetic.ct import write_ct
from preprocess.synthetic.nuclei import make_scene, write_folder, write_nuclei

WRITERS = {
    "nuclei": write_nuclei,
    "airbus": write_airbus,
    "clouds": write_clouds,
    "ct": write_ct,
    "folder": write_folder,
    "colors": write_colors,
    "coco": write_coco,
}
"""By layout; "colors" is the layout folder with --folder.colors class_dict.csv."""

__all__ = [
    "WRITERS",
    "SyntheticConfig",
    "make_scene",
    "write_airbus",
    "write_clouds",
    "write_coco",
    "write_colors",
    "write_ct",
    "write_folder",
    "write_nuclei",
]
