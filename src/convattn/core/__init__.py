"""Ground floor: errors, names, checks, seeds, atomic files, configuration, environment."""
