"""Where blocks go in a network: slots of our own models, surgery on anybody's."""
