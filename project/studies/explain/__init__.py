"""Why a run is no better: changes are tried in short trials, and what each is worth is reported."""
