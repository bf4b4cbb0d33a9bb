from pathlib import Path

import yaml

from training.teachers.pretrain import __main__ as command


def test_the_command_reads_config_and_overrides(values, tmp_path, capsys, monkeypatch):
    path = tmp_path / "c.yaml"
    path.write_text(yaml.safe_dump(values))
    monkeypatch.setattr(command, "pretrain", lambda config: Path(config.out) / f"teacher-{config.seed}")
    assert command.main(["--config", str(path), "seed=3"]) == 0
    assert f"wrote {values['out']}/teacher-3" in capsys.readouterr().out
    assert command.main(["--config", str(path), "steps"]) == 1
    assert "name=value" in capsys.readouterr().err
