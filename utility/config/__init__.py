"""All hyper-parameters: settings, presets, checks, and the config.json of a model directory."""
