"""The settings of a trace: their defaults are those of `spade run`, as its YAML files say."""

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from spade_cli.cli.config.read_yaml import CONFIGS
from spade_cli.cli.config.settings import trace_settings
from spade_cli.run.trace_settings import TraceSettings


def test_defaults_are_those_of_the_yaml_files():
    with initialize_config_dir(str(CONFIGS), version_base="1.3"):
        config = OmegaConf.to_container(compose("run", ["image=a.png"]), resolve=True)
    read, plain = trace_settings(config, dict(augmentation="paper", pruner="forward", schedule="auto")), TraceSettings()
    for name in ("augmentation", "pruner", "schedule"):
        assert getattr(read, name).func is getattr(plain, name), name
    rest = [name for name in TraceSettings.__dataclass_fields__ if name not in ("augmentation", "pruner", "schedule")]
    for name in [*rest[: rest.index("calibration")], "seed"]:
        assert getattr(read, name) == getattr(plain, name), name
    assert read.calibration.rows_per_column == plain.calibration.rows_per_column
    assert read.calibration.batch_size == plain.calibration.batch_size
