"""Films, images, names and invented clusters of the pages on ALP, and the alternatives."""
