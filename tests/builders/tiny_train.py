"""train_ssd.py with one more preset: `tiny`, SSD around a backbone of a few channels.

python -m tests.builders.tiny_train --preset=tiny --data_dir=... --model_dir=...
"""

import train_ssd
from tests.builders.tiny_ssd import tiny_config
from utility.config import presets
from utility.run import command


def main() -> None:
    """Add the preset and train."""
    presets.PRESETS["tiny"] = tiny_config().replace({"preset": "tiny"})
    train_ssd.main()


if __name__ == "__main__":
    command.run(main, train_ssd.define_flags)
