"""The glass box: models trained here on known corpora."""
