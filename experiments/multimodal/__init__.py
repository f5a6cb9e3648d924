"""Several modalities, some missing: thesis chapters 3 and 4 with learned sharing."""
