"""The Estimator around the network: model_fn, optimizer, log, settings, prediction."""
