"""Every hyper-parameter: settings, presets, checks, and the config.json of a model directory."""
