"""Films and images of the pages on ALP."""
